"""The compiled engine's session: what it keeps, what it is fed, and what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from threading import Thread
from typing import Any

import numpy as np
import pytest

from hubel import _native
from hubel.engine.feeds import check_feeds
from hubel.engine.native import NativeSession, instruction_sets
from hubel.errors import DataError, UsageError
from hubel.graph.modes import Update, for_inference, with_loss, with_updates
from hubel.graph.op import Graph
from hubel.graph.ops.loss import CrossEntropy
from hubel.graph.ops.update import Sgd
from tests.engine.cases import Case, built, feeds, gradient_graph, start_values, write_all

CASE = Case("conv3-4p1 relu pool2 fc", (6, 6, 3), 4)


def ready(threads: int = 1) -> NativeSession:
    session = NativeSession(threads)
    write_all(session, start_values(CASE))
    return session


def refused(error: type[Exception], run: Any) -> str:
    with pytest.raises(error) as caught:
        run()
    return str(caught.value)


def test_threads_and_instruction_sets_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "threads must be between 1 and 1024, not 0" in refused(
        UsageError, lambda: NativeSession(0)
    )
    assert "not 1025" in refused(UsageError, lambda: NativeSession(1025))
    assert NativeSession().threads >= 1
    monkeypatch.setenv("HUBEL_ISA", "mmx")
    text = refused(UsageError, lambda: NativeSession(1))
    assert "this processor has no instruction set 'mmx'" in text
    assert "use one of " + ", ".join(instruction_sets()) in text
    assert instruction_sets()[-1] == "generic"


def test_values_are_kept_as_float32_copies() -> None:
    session = NativeSession(1)
    given = np.array([1.0, 0.1])
    session.write("a", given)
    given[:] = 5
    read = session.read("a")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, np.array([1.0, 0.1], np.float32))
    read[:] = 7
    assert session.read("a")[0] == 1
    for size in range(1, 40):  # the store grows, and what it holds moves with it
        session.write(f"b{size}", np.full((size, 7), size))
    session.write("a", np.ones((3, 2)))  # another shape
    assert session.read("a").shape == (3, 2)
    for size in range(1, 40):
        np.testing.assert_array_equal(session.read(f"b{size}"), np.full((size, 7), size))
    assert "there is no value 'c'" in refused(UsageError, lambda: session.read("c"))


def test_a_parameter_that_is_missing_or_has_another_shape_is_refused() -> None:
    graph, fed = for_inference(built(CASE).graph), feeds(CASE)
    text = refused(UsageError, lambda: NativeSession(1).run(graph, fed))
    assert "'conv1.weight' was never written" in text
    session = ready()
    session.write("fc1.bias", np.zeros(4))
    text = refused(UsageError, lambda: session.run(graph, fed))
    assert "'fc1.bias' has shape (4,), but the graph needs (5,)" in text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": np.zeros((4, 6, 6, 2))}, UsageError, "'input' has shape (4, 6, 6, 2)"),
        ({"input": np.zeros((0, 6, 6, 3))}, UsageError, "'input' holds no image"),
        ({"input": np.full((4, 6, 6, 3), "a")}, UsageError, "'input' must hold numbers"),
        ({"labels": np.zeros(3, int)}, UsageError, "'labels' has 3 entries, but 'input' has 4"),
        ({"labels": np.zeros(4)}, UsageError, "'labels' must hold whole numbers"),
        ({"labels": [0, 1, 5, 0]}, DataError, "the label 5 of image 2 (from 0) is no class"),
        ({"labels": [0, -1, 0, 0]}, DataError, "the label -1 of image 1"),
    ],
)
def test_feeds_are_validated(change: dict[str, Any], error: type[Exception], message: str) -> None:
    graph, _ = gradient_graph(CASE)
    assert message in refused(error, lambda: ready().run(graph, {**feeds(CASE), **change}))


def test_a_missing_feed_is_refused() -> None:
    graph, _ = gradient_graph(CASE)
    fed = feeds(CASE)
    del fed["labels"]
    assert "'labels', which was not fed" in refused(UsageError, lambda: ready().run(graph, fed))


def as_read_only(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float32)
    x.flags.writeable = False
    return x


def as_half_aligned(x: np.ndarray) -> np.ndarray:
    raw = np.concatenate([[0], x.reshape(-1)]).astype(np.float32)
    assert raw.ctypes.data % 8 == 0
    return raw[1:].reshape(x.shape)


def as_unaligned(x: np.ndarray) -> np.ndarray:
    raw = b"?" + x.astype(np.float32).tobytes()
    return np.frombuffer(raw, np.uint8)[1:].view(np.float32).reshape(x.shape)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.astype(np.float32),
        as_read_only,
        as_half_aligned,
        as_unaligned,
        lambda x: np.asfortranarray(x.astype(np.float32)),
        lambda x: x[:, ::-1].copy()[:, ::-1],
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.float16),
        lambda x: x.tolist(),
    ],
)
@pytest.mark.parametrize("batch", [3, 4])
def test_arrays_of_every_kind_may_be_fed(form: Any, batch: int) -> None:
    graph = for_inference(built(CASE).graph)
    x = np.round(4 * feeds(CASE)["input"][:batch])
    expected = ready().run(graph, {"input": x})["fc1"]
    np.testing.assert_array_equal(ready().run(graph, {"input": form(x)})["fc1"], expected)


def test_labels_of_every_kind_may_be_fed() -> None:
    graph, _ = gradient_graph(CASE)
    fed = feeds(CASE)
    expected = ready().run(graph, fed)["loss"]
    frozen = np.asarray(fed["labels"], np.int64)
    frozen.flags.writeable = False
    for labels in (fed["labels"].astype(np.uint8), fed["labels"].tolist(), frozen):
        assert ready().run(graph, {**fed, "labels": labels})["loss"] == expected


def test_labels_that_were_checked_are_the_sessions_own() -> None:
    (graph, _), given = gradient_graph(CASE), feeds(CASE)
    checked = check_feeds(graph, given)
    assert not np.shares_memory(checked["labels"], given["labels"])
    assert np.shares_memory(checked["input"], given["input"])


def test_results_are_the_callers_own() -> None:
    graph, _ = gradient_graph(CASE)
    session = ready()
    first = session.run(graph, feeds(CASE))
    kept = {name: array.copy() for name, array in first.items()}
    session.run(graph, feeds(CASE, seed=5))
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name], err_msg=name)
        array[...] = 0


def test_the_input_and_parameters_may_be_results() -> None:
    graph = built(CASE).graph
    graph = Graph(graph.values, graph.nodes, ("input", "conv1", "conv1.weight", "relu1", "fc1"))
    values, fed = start_values(CASE), feeds(CASE)
    found = ready().run(graph, fed)
    np.testing.assert_array_equal(found["input"], fed["input"])
    np.testing.assert_array_equal(found["conv1.weight"], values["conv1.weight"])
    np.testing.assert_array_equal(found["relu1"], np.maximum(found["conv1"], 0))


def test_images_that_must_not_be_changed_are_read() -> None:
    fed = dict(feeds(CASE))
    images = np.asarray(fed["input"], np.float32).copy()
    images.flags.writeable = False
    graph = built(CASE).graph
    expected = ready().run(graph, fed)
    np.testing.assert_array_equal(
        ready().run(graph, {**fed, "input": images})["fc1"], expected["fc1"]
    )


def test_slots_start_at_zero_and_change() -> None:
    lossy = with_loss(built(CASE).graph, "softmax_cross_entropy", CrossEntropy())
    graph = with_updates(lossy, lambda _: Update("sgd", Sgd(momentum=0.9), ("velocity",)))
    session = ready()
    session.run(graph, feeds(CASE))
    first = session.read("fc1.bias.velocity")
    fresh = ready()
    fresh.write("fc1.bias.velocity", np.zeros(5))
    fresh.run(graph, feeds(CASE))
    np.testing.assert_array_equal(fresh.read("fc1.bias.velocity"), first)
    assert np.abs(first).max() > 0


def test_the_compiled_module_checks_what_it_is_given() -> None:
    machine = _native.Machine("", 1)
    places = [(0, 0, 16), (0, 64, 16), (-1, 0, 0), (0, 128, 16)]
    program = _native.Program(machine, [("add", places, [4, 0, 0])], [192])
    with pytest.raises(ValueError, match="a memory is missing"):
        machine.run(program, [], [])
    with pytest.raises(ValueError, match="memory 0 is too small"):
        machine.run(program, [np.zeros(191, np.uint8)], [])
    with pytest.raises(ValueError, match="one too many"):
        machine.run(program, [np.zeros(192, np.uint8)], [np.zeros(1, np.uint8)])
    odd = np.zeros(200, np.uint8)[1:193]
    with pytest.raises(ValueError, match="memory 0 is not aligned"):
        machine.run(program, [odd[:192] if odd.ctypes.data % 8 else odd[1:]], [])
    for kernel, parameters in (
        ("copy_channels", [2**60, 2, 4, 0, 4, 0]),
        ("copy_channels", [2**31, 2, 2**31, 0, 4, 0]),
        ("pack_weights", [1, 2**62, 4, 1, 0]),
        ("pack_weights", [2**20, 2**20, 2**20, 1, 0]),
    ):
        with pytest.raises(ValueError, match=r"senseless parameters|has 64 bytes but needs"):
            _native.Program(machine, [(kernel, [(0, 0, 64), (0, 64, 64)], parameters)], [128])
    with pytest.raises(ValueError, match="operand 3 lies outside its memory"):
        _native.Program(machine, [("add", places, [4, 0, 0])], [128])
    with pytest.raises(ValueError, match="no instruction set mmx"):
        _native.Machine("mmx", 1)


def test_a_rewritten_value_takes_no_new_room() -> None:
    session = NativeSession(1)
    for _ in range(100):
        session.write("w", np.ones((30, 40)))
        session.write("w", np.ones((20, 10)))
    assert session._store.size < 2 * 30 * 40 * 4 + 1000
    np.testing.assert_array_equal(session.read("w"), np.ones((20, 10)))


def test_threads_that_share_a_session_take_turns() -> None:
    session = ready(2)
    graph = for_inference(built(CASE).graph)
    images = [feeds(CASE, seed)["input"] for seed in range(4)]
    expected = [session.run(graph, {"input": image})["fc1"] for image in images]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            found = session.run(graph, {"input": images[number]})["fc1"]
            if not np.array_equal(found, expected[number]):
                wrong.append(number)

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_goes_on_and_ends() -> None:
    script = """
import os, sys, threading
import numpy as np
from hubel import Model
model = Model("conv3-8p1 relu fc5", (8, 8, 3), threads=2)
x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
expected = model.logits(x)
busy = True
def work():
    while busy:
        model.logits(x)
thread = threading.Thread(target=work)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        same = np.array_equal(model.logits(x), expected)
        del model
        sys.exit(0 if same else 3)
    assert os.waitpid(child, 0)[1] == 0
busy = False
thread.join()
print("fine", np.array_equal(model.logits(x), expected))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("fine True\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory differ elsewhere")
def test_threads_that_the_system_does_not_give_are_an_error() -> None:
    script = """
import resource
from hubel.engine import start
from hubel.errors import HubelError
start(threads=1)
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
try:
    start(threads=1024)
except HubelError as error:
    print(error)
assert start(threads=2).threads == 2
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert re.match(r"the system gave no threads: .*\. Hint: use fewer\.", done.stdout)
