"""Learning rates by step: the ends, the shapes, warm-up, and that nothing but the step matters."""

from __future__ import annotations

import pytest

from hubel.train.schedules import SCHEDULES, learning_rate
from hubel.train.settings import settings


def rates(**choices: object) -> list[float]:
    chosen = settings(lr=1.0, epochs=10, **choices)
    return [learning_rate(chosen, step, 10) for step in range(100)]


def test_constant_stays() -> None:
    assert set(rates(schedule="constant")) == {1.0}


def test_step_falls_to_a_tenth_twice() -> None:
    found = rates(schedule="step")
    assert (found[49], found[50], found[74], found[75], found[99]) == (1.0, 0.1, 0.1, 0.01, 0.01)


def test_cosine_starts_at_the_top_and_is_half_in_the_middle() -> None:
    found = rates(schedule="cosine")
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5)
    assert 0 < found[99] < 0.001
    assert found == sorted(found, reverse=True)


def test_one_cycle_rises_for_thirty_percent_and_then_falls() -> None:
    found = rates(schedule="one-cycle")
    assert found[0] == pytest.approx(1 / 25)
    assert found[30] == 1.0
    assert found[:31] == sorted(found[:31])
    assert found[30:] == sorted(found[30:], reverse=True)


def test_linear_falls_evenly() -> None:
    assert rates(schedule="linear") == pytest.approx([1 - step / 100 for step in range(100)])


def test_triangle_rises_for_23_percent_and_then_falls_to_7() -> None:
    found = rates(schedule="triangle")
    assert found[0] == pytest.approx(0.2)
    assert found[23] == pytest.approx(1.0)
    assert found[99] == pytest.approx(0.07 + 0.93 / 77)
    assert [found[5] - found[4], found[50] - found[49]] == pytest.approx([0.8 / 23, -0.93 / 77])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_rises_in_equal_steps_before_any_schedule(schedule: str) -> None:
    found = rates(schedule=schedule, warmup_epochs=0.5)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[5] == pytest.approx({"one-cycle": 1 / 25, "triangle": 0.2}.get(schedule, 1.0))


def test_a_run_that_is_all_warm_up_never_falls() -> None:
    assert rates(warmup_epochs=20)[-1] == 1.0
