"""The reference engine against PyTorch in float64: scores, gradients, statistics, optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hubel.engine.reference import ReferenceSession
from hubel.engine.session import Array
from hubel.graph.modes import Update, for_inference, with_loss, with_updates
from hubel.graph.ops.loss import CrossEntropy
from hubel.graph.ops.update import Adam, Clip, Muon, RMSProp, Sgd
from hubel.train.targets import targets
from hubel.variation import Mixture, Variation
from tests.engine.cases import (
    CASES,
    CLASSES,
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

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.requires_torch

EPS = float(np.finfo(np.float64).eps)


@pytest.mark.parametrize(
    "case",
    [*CASES, *random_cases(5, 60), *(pytest.param(SHIPPED[name], id=name) for name in SHIPPED)],
    ids=str,
)
def test_scores_gradients_and_statistics(case: Case) -> None:
    import torch

    values, fed = start_values(case), feeds(case)
    graph, wanted = gradient_graph(case)
    statistics = tuple(value.name for value in graph.with_role("statistic"))
    session = ReferenceSession()
    write_all(session, values)
    ours = session.run(graph, fed)
    ours.update({name: session.read(name) for name in statistics})
    # Both engines round, so both may be off.
    allowed = {
        name: 2 * bound for name, bound in tolerances(graph, values, fed, EPS, statistics).items()
    }

    net = TorchNet(case, values, fed)
    scores = net.scores(training=True)
    loss = torch.nn.functional.cross_entropy(
        scores.flatten(1), torch.tensor(fed["labels"]), label_smoothing=0.1
    )
    loss.backward()
    theirs = {graph.outputs[0]: scores, "loss": loss}
    theirs.update({name: net.tensors[name] for name in statistics})
    theirs.update({output: net.tensors[name].grad for name, output in wanted.items()})
    for name, tensor in theirs.items():
        _agree(ours[name], tensor, allowed[name], name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scores_of_inference(case: Case) -> None:
    values, fed = start_values(case), feeds(case)
    graph = for_inference(built(case).graph)
    session = ReferenceSession()
    write_all(session, values)
    (name,) = graph.outputs
    allowed = tolerances(graph, values, fed, EPS)
    scores = TorchNet(case, values, fed).scores(training=False)
    _agree(session.run(graph, fed)[name], scores, 2 * allowed[name], name)


def _agree(ours: Array, tensor: Tensor, allowed: float, name: str) -> None:
    theirs = tensor.detach().numpy()
    assert ours.shape == theirs.shape, name
    # Far below this a wrong formula would not hide.
    assert allowed <= 1e-9 * max(1.0, np.abs(theirs).max()), name
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=allowed, err_msg=name)


def test_a_hinge_loss_is_the_multi_margin_loss_times_the_classes() -> None:
    import torch

    case = Case("conv3-4 relu fc", (5, 6, 3), 7)
    graph, wanted = gradient_graph(case, "hinge")
    values, fed = start_values(case), feeds(case)
    session = ReferenceSession()
    write_all(session, values)
    ours = session.run(graph, fed)
    net = TorchNet(case, values, fed)
    scores = net.scores(training=True)
    loss = 5 * torch.nn.functional.multi_margin_loss(scores, torch.tensor(fed["labels"]))
    loss.backward()
    allowed = tolerances(graph, values, fed, EPS)
    _agree(ours["loss"], loss, allowed["loss"], "loss")
    for name, output in wanted.items():
        _agree(ours[output], net.tensors[name].grad, allowed[output], name)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["weighted", "mixed", "mixed and weighted"])
def test_a_loss_of_targets_is_the_cross_entropy_of_class_probabilities(
    kind: str, smoothing: float
) -> None:
    import torch

    case = Case("conv3-4 relu fc", (5, 6, 3), 7)
    graph, wanted = gradient_graph(case, "target_cross_entropy")
    values, fed = start_values(case), feeds(case)
    labels, weights = fed["labels"], np.array([0.5, 1.0, 2.0, 0.25, 4.0])
    mixed = None
    if kind != "weighted":
        shares = np.linspace(0.0, 1.0, 7, dtype=np.float32)
        mixed = Mixture(np.arange(7)[::-1], shares, np.zeros((7, 4), np.int32), Variation())
    ours_weigh = weights if "weighted" in kind else None
    fed["targets"] = targets(labels, labels, CLASSES, mixed, smoothing, ours_weigh)
    session = ReferenceSession()
    write_all(session, values)
    ours = session.run(graph, fed)
    net = TorchNet(case, values, fed)
    scores = net.scores(training=True).flatten(1)
    weigh = torch.tensor(weights) if "weighted" in kind else None
    aim = torch.tensor(labels)
    if mixed is not None:
        share = torch.tensor(shares.astype(np.float64))[:, None]
        hot = torch.nn.functional.one_hot(aim, CLASSES)
        aim = share * hot + (1 - share) * hot.flip(0)
    loss = torch.nn.functional.cross_entropy(scores, aim, weigh, label_smoothing=smoothing)
    if mixed is not None and weigh is not None:
        # For class probabilities PyTorch divides by the images, not by their weights.
        loss = loss * len(labels) / (aim @ weigh).sum()
    loss.backward()
    # Targets are float32 numbers.
    assert float(ours["loss"]) == pytest.approx(loss.item(), rel=1e-6)
    for name, output in wanted.items():
        theirs = net.tensors[name].grad.numpy()
        np.testing.assert_allclose(ours[output], theirs, rtol=1e-5, atol=1e-7, err_msg=name)


OPTIMIZERS: Mapping[str, tuple[str, Any, tuple[str, ...], str, dict[str, Any]]] = {
    "sgd": ("sgd", Sgd(), (), "SGD", {}),
    "sgd with l2": ("sgd", Sgd(l2=0.01), (), "SGD", {"weight_decay": 0.01}),
    "momentum": (
        "sgd",
        Sgd(momentum=0.9, l2=0.01),
        ("velocity",),
        "SGD",
        {"momentum": 0.9, "weight_decay": 0.01},
    ),
    "nesterov": (
        "sgd",
        Sgd(momentum=0.9, nesterov=True),
        ("velocity",),
        "SGD",
        {"momentum": 0.9, "nesterov": True},
    ),
    "rmsprop": (
        "rmsprop",
        RMSProp(alpha=0.9, l2=0.01),
        ("square",),
        "RMSprop",
        {"alpha": 0.9, "weight_decay": 0.01},
    ),
    "rmsprop with momentum": (
        "rmsprop",
        RMSProp(momentum=0.5),
        ("square", "velocity"),
        "RMSprop",
        {"momentum": 0.5},
    ),
    "adam": (
        "adam",
        Adam(beta1=0.8, beta2=0.99, l2=0.01),
        ("first", "second"),
        "Adam",
        {"betas": (0.8, 0.99), "weight_decay": 0.01},
    ),
    "adamw": ("adam", Adam(decay=0.1), ("first", "second"), "AdamW", {"weight_decay": 0.1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_of_each_optimizer(name: str) -> None:
    import torch

    op, attributes, slots, theirs, settings = OPTIMIZERS[name]
    case = Case("conv3-4p1 bn silu pool2 fc9 tanh fc", (6, 6, 3), 7)
    values = start_values(case)
    lossy = with_loss(built(case).graph, "softmax_cross_entropy", CrossEntropy())
    graph = with_updates(lossy, lambda _: Update(op, attributes, slots))
    session = ReferenceSession()
    write_all(session, values)
    net = TorchNet(case, values, feeds(case))
    parameters = [parameter.name for parameter in built(case).parameters]
    optimizer = getattr(torch.optim, theirs)(
        [net.tensors[parameter] for parameter in parameters], lr=1.0, **settings
    )
    # epsilon 1e-8, the default of both, leaves a gradient that should be 0 but is rounding noise
    # to move its weight by a whole step: a bias in front of a normalisation is left out.
    parameters.remove("conv1.bias")
    for step in range(1, 21):
        fed = feeds(case, step)
        rate = 0.02 / step
        out = session.run(graph, {**fed, "rate": rate, "step": step})
        net.tensors["input"] = torch.tensor(fed["input"])
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            net.scores(training=True), torch.tensor(fed["labels"])
        )
        loss.backward()
        optimizer.step()
        assert float(out["loss"]) == pytest.approx(loss.item(), abs=1e-10)
    for parameter in parameters:
        moved = np.abs(session.read(parameter) - values[parameter]).max()
        assert moved > 1e-3, parameter
        np.testing.assert_allclose(
            session.read(parameter),
            net.tensors[parameter].detach().numpy(),
            rtol=0,
            atol=1e-10,
            err_msg=parameter,
        )


@pytest.mark.parametrize("limit", [1e-3, 0.5, 1e3])
def test_gradients_are_clipped_as_by_clip_grad_norm(limit: float) -> None:
    import torch

    case = Case("conv3-4p1 bn silu pool2 fc9 tanh fc", (6, 6, 3), 7)
    values = start_values(case)
    lossy = with_loss(built(case).graph, "softmax_cross_entropy", CrossEntropy())
    graph = with_updates(lossy, lambda _: Update("sgd", Sgd()), clip=Clip(limit))
    session = ReferenceSession()
    write_all(session, values)
    net = TorchNet(case, values, feeds(case))
    parameters = [parameter.name for parameter in built(case).parameters]
    out = session.run(graph, {**feeds(case), "rate": 0.5})
    torch.nn.functional.cross_entropy(
        net.scores(training=True), torch.tensor(feeds(case)["labels"])
    ).backward()
    tensors = [net.tensors[parameter] for parameter in parameters]
    norm = torch.nn.utils.clip_grad_norm_(tensors, limit)
    torch.optim.SGD(tensors, lr=0.5).step()
    assert float(out["gradient_norm"]) == pytest.approx(norm.item(), rel=1e-12)
    for parameter, tensor in zip(parameters, tensors, strict=True):
        np.testing.assert_allclose(
            session.read(parameter), tensor.detach().numpy(), rtol=0, atol=1e-12
        )


def test_muon_is_pytorchs_as_far_as_bfloat16_reaches() -> None:
    import torch

    case = Case("fc40 tanh fc12 tanh fc", (5, 5, 1), 200)
    values = start_values(case)
    # Gradients by scores add up to zero, so that those of the last matrix have no full rank.
    parameters = ["fc1.weight", "fc2.weight"]
    lossy = with_loss(built(case).graph, "softmax_cross_entropy", CrossEntropy())
    muon = Update("muon", Muon(momentum=0.8, decay=0.1), ("velocity",))
    graph = with_updates(lossy, lambda p: muon if p.name in parameters else Update("sgd", Sgd()))
    session = ReferenceSession()
    write_all(session, values)
    net = TorchNet(case, values, feeds(case))
    # With many images no singular value of a gradient is so small that bfloat16 drowns it.
    # PyTorch's matrices have a row an output, ours a column.
    matrices = [torch.nn.Parameter(torch.tensor(values[name].T.copy())) for name in parameters]
    optimizer = torch.optim.Muon(matrices, lr=0.1, momentum=0.8, weight_decay=0.1, ns_steps=5)
    for step in (1, 2, 3):
        fed = feeds(case, step)
        before = {name: session.read(name) for name in parameters}
        session.run(graph, {**fed, "rate": 0.1, "step": step})
        # One step at a time: a step's rounding must not lead the next one away.
        net.tensors["input"] = torch.tensor(fed["input"])
        for name, matrix in zip(parameters, matrices, strict=True):
            matrix.data = torch.tensor(before[name].T.copy())
            net.tensors[name] = torch.tensor(before[name], requires_grad=True)
        torch.nn.functional.cross_entropy(
            net.scores(training=True), torch.tensor(fed["labels"])
        ).backward()
        for name, matrix in zip(parameters, matrices, strict=True):
            matrix.grad = net.tensors[name].grad.T.clone()
        optimizer.step()
        for name, matrix in zip(parameters, matrices, strict=True):
            ours = session.read(name) - before[name]
            theirs = matrix.detach().numpy().T - before[name]
            assert np.linalg.norm(ours) > 0.1
            assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(ours), name
