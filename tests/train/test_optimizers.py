"""Whole steps of every optimizer against PyTorch's, with regularisation where each applies it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hubel.train.settings import settings
from hubel.train.step import step_graph
from tests.train import toy

X, Y = toy.images(16)
RATE = 0.05
SLOTS = {
    ("sgd", 0.9): 1,
    ("sgd", 0.0): 0,
    ("rmsprop", 0.9): 2,
    ("rmsprop", 0.0): 1,
    ("adam", 0.9): 2,
    ("adamw", 0.9): 2,
    ("muon", 0.9): 1,
}


@pytest.mark.parametrize(("optimizer", "momentum"), SLOTS)
def test_an_optimizer_keeps_only_what_it_needs(optimizer: str, momentum: float) -> None:
    graph = toy.model("fc3").network.graph
    whole = step_graph(graph, settings(optimizer=optimizer, momentum=momentum))
    slots = [value.name for value in whole.with_role("slot")]
    assert len(slots) == 2 * SLOTS[optimizer, momentum]
    assert all(name.startswith(("fc1.weight.", "fc1.bias.")) for name in slots)


@pytest.mark.requires_torch
@pytest.mark.parametrize(
    "choices",
    [
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "sgd", "weight_decay": 0.1},
        {"optimizer": "sgd", "nesterov": True, "weight_decay": 0.1},
        {"optimizer": "rmsprop", "momentum": 0.0},
        {"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.1},
        {"optimizer": "adam"},
        {"optimizer": "adam", "weight_decay": 0.1},
        {"optimizer": "adamw", "weight_decay": 0.1},
    ],
    ids=lambda choices: " ".join(map(str, choices.values())),
)
def test_four_steps_are_pytorchs(choices: dict[str, Any]) -> None:
    import torch

    model = toy.model("fc5 tanh fc3")
    start = model.parameters
    chosen = {"lr": RATE, "schedule": "constant", "preprocess": None, "shuffle": False}
    x = X.astype(np.float32) / 255
    model.fit(x, Y, epochs=2, batch_size=8, **chosen, **choices)

    torch.set_num_threads(1)
    values = {
        name: torch.tensor(a.astype(np.float64), requires_grad=True) for name, a in start.items()
    }
    optimizer = _of_torch(torch, values, choices)
    for half in (slice(0, 8), slice(8, 16)) * 2:
        flat = torch.tensor(x[half].reshape(8, -1), dtype=torch.float64)
        hidden = torch.tanh(flat @ values["fc1.weight"] + values["fc1.bias"])
        scores = hidden @ values["fc2.weight"] + values["fc2.bias"]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(scores, torch.tensor(Y[half])).backward()
        optimizer.step()
    for name, array in model.parameters.items():
        assert array == pytest.approx(values[name].detach().numpy(), rel=1e-6, abs=1e-7), name


def _of_torch(torch: Any, values: dict[str, Any], choices: dict[str, Any]) -> Any:
    decay = choices.get("weight_decay", 0.0)
    groups = [
        {"params": [v for n, v in values.items() if n.endswith("weight")], "weight_decay": decay},
        {"params": [v for n, v in values.items() if n.endswith("bias")], "weight_decay": 0.0},
    ]
    momentum = choices.get("momentum", 0.9)
    name = choices["optimizer"]
    if name == "sgd":
        nesterov = choices.get("nesterov", False)
        return torch.optim.SGD(groups, lr=RATE, momentum=momentum, nesterov=nesterov)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=RATE, momentum=momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](groups, lr=RATE)


def test_l1_draws_weights_but_not_biases_to_zero() -> None:
    model = toy.model("fc3")
    before = model.parameters
    model.set_parameters({"fc1.bias": [5.0, 5.0, 5.0]})
    x = np.zeros((3, 6, 6, 1), np.float32)
    model.fit(
        x,
        [0, 1, 2],
        epochs=1,
        optimizer="sgd",
        momentum=0.0,
        lr=0.1,
        l1=0.01,
        preprocess=None,
        schedule="constant",
    )
    after = model.parameters
    assert after["fc1.bias"] == pytest.approx([5.0, 5.0, 5.0])
    assert after["fc1.weight"] == pytest.approx(
        before["fc1.weight"] - 0.1 * 0.01 * np.sign(before["fc1.weight"])
    )
