"""A smaller run of the table of planted faults: digits alone, each fault once, and healthy runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.doctor import FAULTS, PATIENTS, Fault, examine
from hubel.data import load
from hubel.data.dataset import Dataset, Split

NORMED, SMALL = PATIENTS[1], PATIENTS[0]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    data = load("digits")
    chosen = np.arange(0, len(data.train), 2)
    train = Split(data.train.images[chosen], data.train.labels[chosen])
    return replace(data, train=train)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fault_is_detected(fault: Fault, digits: Dataset) -> None:
    assert fault.suits(NORMED)
    assert examine(NORMED, digits, 0, fault, epochs=3) & fault.found_by


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_healthy_run_raises_no_alarm(seed: int, digits: Dataset) -> None:
    assert examine(NORMED, digits, seed, None, epochs=3) == set()
    assert examine(SMALL, digits, seed, None, epochs=3) == set()
