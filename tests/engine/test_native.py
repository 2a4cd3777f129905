"""The compiled engine against the reference and PyTorch: every instruction set, every case.

Tolerances are those of tests.engine.cases: what rounding to float32 does to each output, found by
running the reference with random rounding errors of eps·√length on what is added up and eps on what
is made, times eight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from hubel.engine.native import NativeSession, instruction_sets
from hubel.engine.reference import ReferenceSession
from hubel.engine.session import Array, Session
from hubel.graph.modes import (
    Update,
    for_inference,
    with_gradients,
    with_loss,
    with_settled,
    with_updates,
)
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy, Penalty
from hubel.graph.ops.update import Adam, Clip, Muon, RMSProp, Sgd
from hubel.program.make import make
from hubel.program.program import Precision
from tests.engine.cases import (
    BATCHES,
    CASES,
    Case,
    built,
    feeds,
    gradient_graph,
    random_cases,
    start_values,
    write_all,
)
from tests.engine.shipped import SHIPPED
from tests.engine.tolerances import tolerances
from tests.engine.torch_net import TorchNet
from tests.graph.known_nets import KNOWN_NETS

EPS = float(np.finfo(np.float32).eps)
SETS = instruction_sets()


def session(
    monkeypatch: pytest.MonkeyPatch,
    isa: str = SETS[0],
    threads: int = 2,
    precision: Precision = "float32",
) -> NativeSession:
    monkeypatch.setenv("HUBEL_ISA", isa)
    started = NativeSession(threads, precision)
    assert (started.isa, started.threads) == (isa, threads)
    return started


def outcome(
    on: Session, graph: Graph, values: dict[str, Array], fed: dict[str, Any], kept: tuple[str, ...]
) -> dict[str, Array]:
    write_all(on, values)
    return {**on.run(graph, fed), **{name: on.read(name) for name in kept}}


def assert_close(
    ours: Mapping[str, Array], exact: Mapping[str, Array], allowed: Mapping[str, float]
) -> None:
    assert ours.keys() == exact.keys()
    for name, array in exact.items():
        assert ours[name].shape == array.shape, name
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=allowed[name], err_msg=name)


def agree(
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    graph: Graph,
    sets: tuple[str, ...] = SETS,
) -> None:
    """Scores, loss, gradients and statistics on the given instruction sets, as the reference's."""
    statistics = tuple(value.name for value in graph.with_role("statistic"))
    values, fed = start_values(case), feeds(case)
    exact = outcome(ReferenceSession(), graph, values, fed, statistics)
    allowed = tolerances(graph, values, fed, EPS, statistics, "float32")
    for isa in sets:
        found = outcome(session(monkeypatch, isa), graph, values, fed, statistics)
        assert_close(found, exact, allowed)


@pytest.mark.parametrize("case", [*CASES, *random_cases(7, 40)], ids=str)
def test_scores_loss_gradients_and_statistics(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    graph, _ = gradient_graph(case)
    agree(monkeypatch, case, graph)


@pytest.mark.parametrize("batch", BATCHES)
def test_batches_of_every_size(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    text = "conv3-10p1 bn relu pool2 conv3-7 relu [conv1-7 | ] {avgpool2 | pool2} drop0.3 fc"
    case = Case(text, (8, 8, 3), batch)
    graph, _ = gradient_graph(case)
    agree(monkeypatch, case, graph)


# Deep and large enough that Winograd's algorithm is taken; edges of tiles, panels and vectors.
TRANSFORMED = (
    Case("conv3-40p1 relu conv3-65p2 fc", (11, 9, 33), 16),
    Case("conv3-64 bn relu [conv3-64p1 | ] relu fc", (10, 13, 32), 16),
    Case("conv3-48p1 bn relu pool2~ conv3-64p1 bn conv3-64p1 relu fc", (13, 12, 40), 32),
    Case("conv3-64p2x0b0 prelu conv3-48p1x2 fc", (13, 12, 64), 6),
    Case("conv3-96p1 relu pool2 conv3-64p1 gelu fc", (16, 14, 64), 4),
    Case("conv3-64p1 relu pool2same conv3-65p1b0 pool2~ fc", (17, 15, 40), 16),
    Case("conv3-64same conv3-33same [conv3-33same | conv3-33same] fc", (12, 8, 48), 8),
)


@pytest.mark.slow
@pytest.mark.parametrize("case", TRANSFORMED, ids=str)
def test_winograd(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    graph, _ = gradient_graph(case)
    used = [call.kernel for call in make(graph, case.batch).calls]
    assert used.count("winograd") + used.count("winograd_pool") >= 3
    assert used.count("winograd_weight_grad") >= 1
    agree(monkeypatch, case, graph)
    agree(monkeypatch, case, for_inference(built(case).graph))


@pytest.mark.parametrize("case", CASES[::4], ids=str)
def test_inference(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    agree(monkeypatch, case, for_inference(built(case).graph))


@pytest.mark.parametrize("loss", ["hinge", "target_cross_entropy"])
def test_other_losses(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    case = Case("conv3-5 relu fc", (6, 5, 3), 7)
    graph, _ = gradient_graph(case, loss)
    agree(monkeypatch, case, graph)


@pytest.mark.parametrize(
    "wrt",
    [
        ["conv1.bias"],
        ["conv1.bias", "conv2.bias", "fc1.bias"],
        ["conv2.bias", "conv1.weight"],
        ["conv1.bias", "conv2.bias", "conv2.weight"],
        ["fc1.weight"],
        ["input"],
    ],
)
@pytest.mark.parametrize("batch", [3, 4])
def test_some_gradients_without_the_others(
    monkeypatch: pytest.MonkeyPatch, wrt: list[str], batch: int
) -> None:
    # Both branches' convolutions have the same dy.
    case = Case("[conv3-4p1 | conv1-4] relu fc", (6, 5, 3), batch)
    lossy = with_loss(built(case).graph, "softmax_cross_entropy", CrossEntropy())
    agree(monkeypatch, case, with_gradients(lossy, wrt))


def test_every_shipped_net_is_compared() -> None:
    assert set(SHIPPED) == set(KNOWN_NETS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_nets(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    graph, _ = gradient_graph(SHIPPED[name])
    agree(monkeypatch, SHIPPED[name], graph, SETS[:1])


UPDATES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "sgd": ("sgd", Sgd(l2=0.01, l1=0.005, decay=0.02), ()),
    "momentum": ("sgd", Sgd(momentum=0.9, l2=0.01), ("velocity",)),
    "nesterov": ("sgd", Sgd(momentum=0.9, nesterov=True, decay=0.02), ("velocity",)),
    "rmsprop": ("rmsprop", RMSProp(alpha=0.9, epsilon=1e-3, l2=0.01), ("square",)),
    "rmsprop with momentum": (
        "rmsprop",
        RMSProp(epsilon=1e-3, momentum=0.5, l1=0.01),
        ("square", "velocity"),
    ),
    "adam": ("adam", Adam(epsilon=1e-3, l2=0.01, l1=0.005), ("first", "second")),
    "adamw": ("adam", Adam(epsilon=1e-3, decay=0.1), ("first", "second")),
    "muon": ("muon", Muon(decay=0.1, rate_factor=0.5), ("velocity",)),
    "muon of a length": ("muon", Muon(momentum=0.5, unit=True, l1=0.005), ("velocity",)),
}


def _stepped(
    monkeypatch: pytest.MonkeyPatch, case: Case, graph: Graph
) -> tuple[dict[str, Array], dict[str, Array], dict[str, float]]:
    """A third step on every instruction set, held against the reference.

    Gives what the values were, what they became with the results, and how far each may be off.
    """
    values = start_values(case)
    rng = np.random.default_rng(5)
    for slot in graph.with_role("slot"):
        drawn = rng.uniform(0.1, 1.0, slot.shape).astype(np.float32)
        values[slot.name] = drawn.astype(np.float64)
    fed = {**feeds(case), "step": 3, "rate": 0.0625}
    kept = tuple(value.name for value in graph.values.values() if value.persistent)
    exact = outcome(ReferenceSession(), graph, values, fed, kept)
    allowed = tolerances(graph, values, fed, EPS, kept, "float32")
    for isa in SETS:
        found = outcome(session(monkeypatch, isa), graph, values, fed, kept)
        assert_close(found, exact, allowed)
    return values, exact, allowed


@pytest.mark.parametrize("name", UPDATES)
def test_a_step_of_each_optimizer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    op, attributes, slots = UPDATES[name]
    case = Case("conv3-5p1 bn relu pool2 fc7 tanh fc", (6, 6, 3), 7)
    lossy = with_loss(built(case).graph, "softmax_cross_entropy", CrossEntropy())
    graph = with_updates(lossy, lambda _: Update(op, attributes, slots), Penalty(0.01, 0.005))
    values, exact, allowed = _stepped(monkeypatch, case, graph)
    assert "penalty" in exact
    for parameter in graph.with_role("parameter"):
        moved = np.abs(exact[parameter.name] - values[parameter.name]).max()
        assert moved > 10 * allowed[parameter.name], parameter.name


@pytest.mark.parametrize("limit", [0.01, 1e3])
def test_clipped_gradients(monkeypatch: pytest.MonkeyPatch, limit: float) -> None:
    case = Case("conv3-5p1 bn relu pool2 fc7 tanh fc", (6, 6, 3), 7)
    lossy = with_loss(built(case).graph, "softmax_cross_entropy", CrossEntropy())
    for op, attributes, slots in (UPDATES["momentum"], UPDATES["adamw"], UPDATES["muon"]):
        update = Update(op, attributes, slots)
        graph = with_updates(lossy, lambda _, update=update: update, clip=Clip(limit))
        _stepped(monkeypatch, case, graph)


def test_layers_with_settled_statistics_within_a_training_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case("conv3-5p1 bn relu conv3-7 bn pool2 fc", (6, 6, 3), 7)
    settled = with_settled(built(case).graph, ["bn1", "bn2"])
    lossy = with_loss(settled, "softmax_cross_entropy", CrossEntropy())
    agree(monkeypatch, case, with_gradients(lossy, ["conv1.weight", "input", "fc1.bias"]))


@pytest.mark.parametrize("place", [0, 17, -1])
def test_no_number_spreads_as_in_the_reference(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    case = Case("conv3-6p1 relu pool2 {conv1-3 leaky0.1 | maxout2 | gelu} fc", (6, 6, 3), 4)
    graph, _ = gradient_graph(case)
    names = [node.outputs[0] for node in built(case).graph.nodes]
    graph = Graph(
        graph.values, graph.nodes, (*names, "losses", "loss", "correct", "grad(fc1.weight)")
    )
    values, fed = start_values(case), feeds(case)
    fed["input"].reshape(-1)[place] = np.nan
    exact = outcome(ReferenceSession(), graph, values, fed, ())
    assert 0 < np.isnan(exact[names[0]]).mean() < 1
    for isa in SETS:
        found = outcome(session(monkeypatch, isa), graph, values, fed, ())
        for name, array in exact.items():
            np.testing.assert_array_equal(np.isnan(found[name]), np.isnan(array), err_msg=name)


@pytest.mark.slow
@pytest.mark.requires_torch
@pytest.mark.parametrize(
    "case",
    [*CASES, *random_cases(5, 20), *(pytest.param(SHIPPED[name], id=name) for name in SHIPPED)],
    ids=str,
)
def test_float32_of_pytorch(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    import torch

    values, fed = start_values(case), feeds(case)
    graph, wanted = gradient_graph(case)
    ours = outcome(session(monkeypatch), graph, values, fed, ())
    allowed = tolerances(graph, values, fed, EPS, (), "float32")
    net = TorchNet(case, values, fed)
    net.tensors = {
        name: tensor.detach().float().requires_grad_(tensor.requires_grad)
        for name, tensor in net.tensors.items()
    }
    scores = net.scores(training=True)
    loss = torch.nn.functional.cross_entropy(
        scores.flatten(1), torch.tensor(fed["labels"]), label_smoothing=0.1
    )
    loss.backward()
    theirs = {graph.outputs[0]: scores.detach(), "loss": loss.detach()}
    theirs.update({output: net.tensors[name].grad for name, output in wanted.items()})
    for name, tensor in theirs.items():
        # Both engines round.
        np.testing.assert_allclose(
            ours[name], tensor.numpy(), rtol=0, atol=2 * allowed[name], err_msg=name
        )
