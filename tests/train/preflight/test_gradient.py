"""The gradient check finds a wrong gradient, of a net and of a function of one's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hubel.engine.reference import RULES
from hubel.train.preflight import Check
from hubel.train.preflight.gradient import gradient_check
from tests.train import toy

X, Y = toy.images(40)


def layer(x: np.ndarray, weight: np.ndarray) -> float:
    return float(np.square(np.tanh(x @ weight)).sum())


def by_hand(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    made = np.tanh(x @ weight)
    slope = 2 * made * (1 - made**2)
    return slope @ weight.T, x.T @ slope


def test_a_layer_of_ones_own_is_checked() -> None:
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((5, 4)), random.standard_normal((4, 3))
    assert max(gradient_check(layer, by_hand(x, weight), x, weight)) < 1e-6
    wrong = (by_hand(x, weight)[0], 1.01 * by_hand(x, weight)[1])
    right_error, wrong_error = gradient_check(layer, wrong, x, weight)
    assert right_error < 1e-6
    assert wrong_error > 1e-3


@pytest.mark.parametrize("loss", ["cross-entropy", "hinge"])
def test_every_layer_of_a_net_is_checked(loss: str) -> None:
    net = "conv3-4p1 bn prelu [conv3-4p1 gelu | ] maxout2 avgpool2 fc6 elu1 fc"
    found = toy.model(net).diagnose(X, Y, loss=loss, gradient_check=True)
    (check,) = [
        each for each in found if isinstance(each, Check) and each.check == "gradient-check"
    ]
    assert check.ok
    assert check.value is not None
    assert check.value < 1e-4


def test_a_wrong_rule_is_found_and_its_layer_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULES["conv_weight_grad"]

    def wrong(call: object) -> tuple[np.ndarray, ...]:
        return tuple(1.02 * each for each in rule(call))

    monkeypatch.setattr("hubel.engine.reference.RULES", {**RULES, "conv_weight_grad": wrong})
    found = toy.model("conv3-4p1 relu fc").diagnose(X, Y, gradient_check=True)
    (check,) = [
        each for each in found if isinstance(each, Check) and each.check == "gradient-check"
    ]
    assert not check.ok
    assert check.cause == "the gradient by conv1.weight is not what central differences give"
    assert check.value == pytest.approx(0.02, rel=0.1)
    assert replace(check, ok=True) != check
