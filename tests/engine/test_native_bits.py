"""Where the compiled engine must give not nearly the same numbers but the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hubel.engine.native import NativeSession, instruction_sets
from hubel.engine.reference import ReferenceSession
from hubel.engine.session import Array
from hubel.graph.modes import Update, for_inference, with_loss, with_updates
from hubel.graph.op import Graph, Node, Value
from hubel.graph.ops.loss import CrossEntropy
from hubel.graph.ops.pointwise import Dropout
from hubel.graph.ops.update import Adam, Sgd
from hubel.program.make import make
from hubel.program.program import Precision
from tests.engine.cases import Case, built, feeds, gradient_graph, start_values, write_all

CONVOLUTIONS = (
    Case("conv5-33p2 fc", (9, 8, 17), 16),
    Case("conv3-10s2p1~ fc", (9, 8, 5), 7),
    Case("conv3x2-12g3d2 fc", (9, 8, 6), 3),
    Case("conv3-33g33p1 fc", (9, 8, 33), 16),
    Case("conv5x3-6g6s2d2p3~ fc", (9, 12, 6), 7),
    Case("conv1-65 fc", (4, 5, 3), 17),
    Case("conv9-4p4 fc", (9, 9, 3), 2),
)


def whole_numbers(graph: Graph, batch: int) -> tuple[dict[str, Array], dict[str, Any]]:
    """Small whole numbers everywhere, so that every sum of products is exact in float32."""
    rng = np.random.default_rng(11)

    def drawn(shape: tuple[int, ...]) -> Array:
        return rng.integers(-2, 3, shape).astype(np.float64)

    values = {value.name: drawn(value.shape) for value in graph.with_role("parameter")}
    (image,) = graph.with_role("input")
    fed = {"input": drawn((batch, *image.shape))}
    return values, fed


def convolution_graph(case: Case) -> Graph:
    """A convolution and its gradients, its output also taken for the gradient that reaches it."""
    graph = built(case).graph
    (conv,) = (node for node in graph.nodes if node.op == "conv")
    x, weight, bias = conv.inputs
    (y,) = conv.outputs
    values = dict(graph.values)
    nodes = [conv]
    for op, inputs, of in (
        ("conv_input_grad", (y, weight), x),
        ("conv_weight_grad", (x, y), weight),
        ("bias_grad", (y,), bias),
    ):
        name = f"grad({of})"
        values[name] = Value(name, values[of].shape, "gradient", values[of].batched, of=of)
        nodes.append(Node(op, name, inputs, (name,), conv.attributes))
    return Graph(values, tuple(nodes), (y, *(f"grad({of})" for of in conv.inputs)))


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolutions_of_whole_numbers_are_exact(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    graph = convolution_graph(case)
    values, fed = whole_numbers(graph, case.batch)
    reference = ReferenceSession()
    write_all(reference, values)
    exact = reference.run(graph, fed)
    assert all(np.abs(array).max() < 2**24 for array in exact.values())
    for isa in instruction_sets():
        monkeypatch.setenv("HUBEL_ISA", isa)
        for threads in (1, 2, 3):
            session = NativeSession(threads)
            write_all(session, values)
            for name, array in session.run(graph, fed).items():
                np.testing.assert_array_equal(array, exact[name], err_msg=f"{isa} {name}")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_five_steps_give_the_same_bits_on_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    text = "conv5-33p2 bn relu [conv3-33p1 prelu | ] pool2 drop0.2 gelu conv3-40 conv2-20g2 fc"
    case = Case(text, (10, 10, 3), 48)
    lossy = with_loss(built(case).graph, "softmax_cross_entropy", CrossEntropy(0.1))
    graph = with_updates(lossy, lambda _: Update("adam", Adam(decay=0.01), ("first", "second")))
    names = [value.name for value in graph.values.values() if value.persistent]
    used = {call.kernel for call in make(graph, case.batch, precision=precision).calls}
    assert used >= {"stem", "stem_weight_grad", "winograd", "winograd_weight_grad", "conv"}
    for isa in instruction_sets():
        monkeypatch.setenv("HUBEL_ISA", isa)
        trained = []
        for threads in (1, 2, 3, 1):
            session = NativeSession(threads, precision)
            write_all(session, start_values(case))
            losses = [
                float(session.run(graph, {**feeds(case, step), "rate": 0.01, "step": step})["loss"])
                for step in range(1, 6)
            ]
            kept = b"".join(session.read(name).tobytes() for name in names)
            trained.append((losses, kept))
        assert all(each == trained[0] for each in trained[1:]), isa


@pytest.mark.parametrize("batch", [1, 2, 6, 16, 33])
@pytest.mark.parametrize("shape", [(5, 6, 7), (13,)])
@pytest.mark.parametrize("seed", [0, 7, -1, 2**63 + 5])
def test_dropout_keeps_what_the_reference_keeps(
    batch: int, shape: tuple[int, ...], seed: int
) -> None:
    values = {
        "input": Value("input", shape, "input"),
        "seed": Value("seed", (), "scalar", batched=False),
        "step": Value("step", (), "scalar", batched=False),
        "y": Value("y", shape, "activation"),
    }
    # A rate of ¾ scales by 4, which rounds nothing.
    node = Node("dropout", "drop1", ("input", "seed", "step"), ("y",), Dropout(0.75, 3))
    graph = Graph(values, (node,), ("y",))
    x = np.random.default_rng(3).normal(size=(batch, *shape)).astype(np.float32)
    fed = {"input": x, "seed": seed, "step": 12}
    expected = ReferenceSession().run(graph, fed)["y"]
    np.testing.assert_array_equal(NativeSession(1).run(graph, fed)["y"], expected)
    assert (expected == 0).any()


@pytest.mark.parametrize(
    "text",
    [
        "conv3-10p1 bn relu pool2 [conv3-10p1 relu | ] drop0.3 fc",
        "{conv1-3 maxout3 | avgpool3s1p1 | prelu} conv3-5s2~ elu1 fc9 relu fc",
        "conv3-64p1 relu conv3-64p1 bn relu conv3-33p1 fc",
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_nothing_is_read_from_memory_that_no_call_has_written(
    text: str, precision: Precision
) -> None:
    case = Case(text, (8, 8, 3), 4)
    graph, _ = gradient_graph(case)
    session = NativeSession(2, precision)
    write_all(session, start_values(case))
    statistics = {name: session.read(name) for name in names_of(graph, "statistic")}
    first = session.run(graph, feeds(case))
    write_all(session, statistics)
    assert session._arena.size > 0
    session._arena.view(np.float32)[:] = np.nan
    for name, array in session.run(graph, feeds(case)).items():
        np.testing.assert_array_equal(array, first[name], err_msg=name)


def names_of(graph: Graph, role: Any) -> tuple[str, ...]:
    return tuple(value.name for value in graph.with_role(role))


def test_equal_starts_give_equal_bits_whatever_ran_before() -> None:
    case = Case("conv3-7p1 relu pool2 fc", (6, 6, 3), 6)
    lossy = with_loss(built(case).graph, "hinge")
    graph = with_updates(lossy, lambda _: Update("sgd", Sgd(momentum=0.9), ("velocity",)))
    fresh, used = NativeSession(2), NativeSession(2)
    other = Case("conv3-9 bn relu fc", (9, 9, 2), 5)
    write_all(used, start_values(other))
    used.run(gradient_graph(other)[0], feeds(other))
    for session in (fresh, used):
        write_all(session, start_values(case))
        for batch in (6, 4, 6):
            fed = feeds(case)
            session.run(
                graph, {**fed, "input": fed["input"][:batch], "labels": fed["labels"][:batch]}
            )
    for name in (*names_of(graph, "parameter"), *names_of(graph, "slot")):
        np.testing.assert_array_equal(fresh.read(name), used.read(name), err_msg=name)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_inference_gives_the_same_bits_on_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    case = Case("conv3-64p1 bn relu conv3-64p1 relu conv3-300 gap fc40 fc", (9, 10, 3), 16)
    graph = for_inference(built(case).graph)
    for isa in instruction_sets():
        monkeypatch.setenv("HUBEL_ISA", isa)
        for batch in (1, 6, 16):
            scores = []
            for threads in (1, 2, 3):
                session = NativeSession(threads, precision)
                write_all(session, start_values(case))
                scores.append(session.run(graph, {"input": feeds(case)["input"][:batch]})["fc2"])
            for others in scores[1:]:
                np.testing.assert_array_equal(others, scores[0], err_msg=f"{isa} {batch}")
