"""Ratios by hand, and a contestant's process from its start to its end."""

from __future__ import annotations

import pytest

from benchmarks.compare import compare, started
from benchmarks.rivals import HUBEL, RIVALS, rivals_for
from benchmarks.task import Case, Task
from benchmarks.turns import Contestant, LeftOutError, ratio

TINY = Case("conv3-4p1 relu pool2 fc", (4, 4, 2), 3, 2)


def test_a_ratio_is_that_of_medians_with_the_middle_half_of_the_rounds() -> None:
    found = ratio([1.0, 2.0, 4.0, 1.0], [3.0, 4.0, 4.0, 6.0])
    assert found.ratio == 4.0 / 1.5
    assert (found.low, found.high) == (1.75, 3.75)  # of 1, 2, 3 and 6


def test_one_round_has_no_spread() -> None:
    found = ratio([2.0], [5.0])
    assert (found.ratio, found.low, found.high) == (2.5, 2.5, 2.5)


def test_rounds_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


@pytest.mark.slow
@pytest.mark.parametrize("work", ["training", "inference"])
def test_hubel_alone_takes_its_turns(work: str, capfd: pytest.CaptureFixture[str]) -> None:
    task = Task(TINY, work, "float32", 1)
    (ours,) = started(task, ("nobody",))
    try:
        found = [ours.turn(0.0) for _ in range(3)]
    finally:
        ours.close()
    assert ours.name == HUBEL
    assert ours.rounds == [one["median"] for one in found]
    assert all(one["steps"] == 1 and one["median"] > 0 for one in found)
    assert found[0]["peak"] > 1e6
    assert ours.process.returncode == 0


@pytest.mark.slow
def test_no_rival_means_no_row_and_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert compare(Task(TINY, "training", "float32", 1), 1, 0.0, ("nobody",)) == []
    said = capfd.readouterr().err
    assert "training of conv3-4p1 relu pool2 fc 4x4x2, batch 2, float32" in said
    assert "NO RIVAL TOOK PART" in said


@pytest.mark.slow
@pytest.mark.requires_torch
def test_pytorch_computes_the_same_and_gets_a_row() -> None:
    task = Task(TINY, "training", "float32", 1)
    (row,) = compare(task, 2, 0.0, ("channels last",))
    assert row["rival"] == "PyTorch, channels last"
    assert set(row["rounds"]) == {HUBEL, "PyTorch, channels last"}
    assert row["ratio"] == pytest.approx(row["seconds"] / row["hubel"])
    assert (row["net"], row["batch"], row["precision"]) == (TINY.net, 2, "float32")


@pytest.mark.slow
def test_a_process_that_fails_leaves_its_contestant_out() -> None:
    failed = Contestant("nobody", "benchmarks.worker", "nobody", "no task")
    with pytest.raises(LeftOutError, match="it failed with status 1"):
        failed.answer()
    failed.close()


def test_everybody_has_one_name_in_a_task() -> None:
    for work in ("training", "inference"):
        for precision in ("float32", "bfloat16"):
            task = Task(Case("cs231n", (32, 32, 3), 10, 128), work, precision, 2)
            names = [rival.name for rival in rivals_for(task)]
            assert names[0] == HUBEL
            assert len(set(names)) == len(names) > 3
    assert {rival.work for rival in RIVALS} == {"training", "inference"}


def test_only_leaves_hubel_and_those_that_are_named() -> None:
    task = Task(Case("cs231n", (32, 32, 3), 10, 128), "training", "float32", 2)
    names = [rival.name for rival in rivals_for(task, ("last", "jax"))]
    assert names == [HUBEL, "PyTorch, channels last", "JAX"]
    other = Task(TINY, "training", "float32", 2)
    assert "JAX" not in [rival.name for rival in rivals_for(other)]
