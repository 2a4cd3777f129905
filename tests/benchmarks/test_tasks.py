"""What is timed: tasks on one line, choices of the command line, points, sizes on disk."""

from __future__ import annotations

import argparse
import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks.choose import add_choices, tasks
from benchmarks.cold_start import installed_bytes
from benchmarks.images import Images
from benchmarks.kernels import LAYERS, Layer, measured
from benchmarks.memory import rows_of
from benchmarks.memory_use import peak_memory
from benchmarks.rivals import HUBEL
from benchmarks.scaling import AXES, points
from benchmarks.task import INFERENCE, TRAINING, Case, Task, case
from hubel import HubelError, Network

WITH_EXAMPLES = ("cold_start", "compare", "task", "turns")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_other_modules_have_no_examples_that_nobody_runs() -> None:
    for path in Path(str(benchmarks.__file__)).parent.rglob("*.py"):
        if path.stem not in WITH_EXAMPLES:
            assert ">>> " not in path.read_text("utf-8"), path


@pytest.mark.parametrize("one", [*TRAINING, *INFERENCE], ids=str)
def test_the_tables_nets_fit(one: Case) -> None:
    assert Network(one.net, one.input, one.classes).classes == one.classes


def test_a_task_comes_back_from_its_line() -> None:
    task = Task(case("conv3-8 relu fc@8x9x3@10@32"), "inference", "bfloat16", 3)
    assert Task.from_json(task.to_json()) == task
    with pytest.raises(ValueError, match=r"'cs231n' is not NET@32x32x3@10@128"):
        case("cs231n")


def test_everybody_sees_the_same_numbers() -> None:
    task = Task(TRAINING[2], "training", "float32", 1)
    np.testing.assert_array_equal(task.images(), task.images())
    assert task.images().shape == (64, 28, 28, 1)
    assert task.images().dtype == np.float32
    assert set(task.labels()) <= set(range(10))
    assert task.parameters()["conv1.weight"].shape == (5, 5, 1, 6)


def chosen(*line: str) -> list[tuple[str, int, str]]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    add_choices(parser, INFERENCE)
    found = tasks(parser.parse_args(line), INFERENCE, "inference")
    return [(task.case.net, task.case.batch, task.precision) for task in found]


def test_choices_leave_some_of_the_table() -> None:
    assert len(chosen()) == 2 * len(INFERENCE)
    assert chosen("--net", "cs231n", "--batch", "1", "--precision", "float32") == [
        ("cs231n", 1, "float32")
    ]
    assert chosen("--case", "fc@4x4x1@2@7", "--precision", "bfloat16") == [("fc", 7, "bfloat16")]


def test_a_net_that_is_not_in_the_table_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chosen("--net", "vgg16")
    assert "invalid choice: 'vgg16'" in capsys.readouterr().err


def test_every_point_of_every_axis_is_a_net_that_fits() -> None:
    for axis in AXES:
        found = list(points(axis, 2, 3))
        assert len(found) >= 3
        for _, task in found:
            task.network()
    assert [task.threads for _, task in points("threads", 2, 3)] == [1, 2, 3]
    sizes = [task.case.batch * task.case.input[0] ** 2 for _, task in points("image size", 2, 3)]
    assert set(sizes) == {128 * 32 * 32}
    depths = [
        sum(row.kind == "conv" for row in task.network().report.rows)
        for _, task in points("depth", 2, 3)
    ]
    assert depths == [value + 1 for value, _ in points("depth", 2, 3)]


@pytest.mark.parametrize(
    "layer", [LAYERS[0], LAYERS[4], LAYERS[8], LAYERS[15], LAYERS[-1]], ids=str
)
def test_a_layer_is_checked_and_timed(layer: Layer) -> None:
    small = Layer(layer.token, (8, 8, layer.input[2]), 2, layer.algorithm)
    rows = list(measured(small, "float32", 1, 1, 1e9))
    passes = ["outputs", "gradient by inputs", "gradient by weights"]
    assert [row["what"] for row in rows] == passes
    assert all(row["kernels"] for row in rows)
    assert all(row["seconds"] > 0 and row["operations"] > 0 for row in rows)
    assert all(row["error"] < 1e-4 for row in rows)
    if layer.algorithm == "direct":
        assert rows[0]["kernels"] == ["conv"]


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.kernels._errors", lambda got, wanted: {"y": 0.5, "dx": 0.0})
    with pytest.raises(RuntimeError, match=r"the result is wrong by 0\.5 of its largest number"):
        list(measured(Layer("conv3-4p1b0", (4, 4, 2), 2), "float32", 1, 1, 1e9))


def test_a_precision_that_is_not_there_is_hubels_error() -> None:
    with pytest.raises(HubelError, match="there is no precision 'float3'"):
        list(measured(LAYERS[0], "float3", 1, 1, 1e9))


def test_memory_is_told_above_the_imports_and_as_a_share() -> None:
    peaks = {
        HUBEL: {"imported": 50, "peak": 150},
        "PyTorch": {"imported": 200, "peak": 450},
    }
    ours, theirs = rows_of(TRAINING[0], "float32", peaks)
    assert (ours["above"], ours["share"]) == (100, 1.0)
    assert (theirs["above"], theirs["peak"], theirs["share"]) == (250, 450, 2.5)


def test_peak_memory_remembers_what_was_held() -> None:
    held = np.ones(50_000_000, np.uint8)
    grown = peak_memory()
    assert grown > held.nbytes
    del held
    # The system counts in pages and for each thread, and sums up now and then.
    assert peak_memory() > 0.95 * grown


def test_what_a_package_needs_counts_with_it() -> None:
    assert installed_bytes("numpy") > 5e6
    assert installed_bytes("hubel") > installed_bytes("numpy")


def test_images_come_back_from_their_files(tmp_path: Path) -> None:
    images = Images(*(np.arange(count, dtype=np.uint8) for count in range(1, 5)))
    images.save(tmp_path)
    back = Images.load(tmp_path)
    np.testing.assert_array_equal(back.train, images.train)
    np.testing.assert_array_equal(back.test_labels, images.test_labels)
