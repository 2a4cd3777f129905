"""First weights: their spread, their independence of everything but seed and name."""

from __future__ import annotations

import numpy as np
import pytest

from hubel.errors import UsageError
from hubel.network import Network
from hubel.train.initialise import initial

NET = "conv3-64 bn prelu fc100"
FIRST = [0.11644942, -0.12171506, -0.37215802]


def parameters(net: str = NET) -> tuple:
    return Network(net, input=(10, 10, 16)).built.parameters


def test_he_is_normal_with_variance_two_over_fan_in() -> None:
    weight = initial(parameters())["conv1.weight"]
    assert weight.dtype == np.float32
    assert weight.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 16)), rel=0.03)
    assert abs(weight.mean()) < 0.005


def test_xavier_is_uniform_within_its_limit() -> None:
    weight = initial(parameters(), "xavier")["fc1.weight"]
    limit = np.sqrt(6 / (8 * 8 * 64 + 100))
    assert 0.99 * limit < weight.max() <= limit
    assert weight.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)


def test_small_random_has_a_deviation_of_a_hundredth() -> None:
    assert initial(parameters(), "small-random")["fc1.weight"].std() == pytest.approx(
        0.01, rel=0.02
    )


def test_zero_is_zero() -> None:
    assert not initial(parameters(), "zero")["conv1.weight"].any()


@pytest.mark.parametrize(("filters", "same"), [(24, 16), (16, 16), (5, 5)])
def test_dirac_passes_as_many_channels_on_as_there_are(filters: int, same: int) -> None:
    weight = initial(parameters(f"conv3-{filters}p1b0"), "dirac")["conv1.weight"]
    x = np.zeros((3, 3, 16), np.float32)
    x[1, 1] = np.arange(16)
    made = np.tensordot(x, weight, 3)
    assert np.array_equal(made[:same], np.arange(16)[:same])
    he = initial(parameters(f"conv3-{filters}p1b0"), "he")["conv1.weight"]
    assert np.array_equal(weight[..., same:], he[..., same:])


@pytest.mark.parametrize("net", ["conv2-20 fc7", "conv3x2-20 fc7"])
def test_dirac_is_he_where_there_is_no_centre(net: str) -> None:
    he, dirac = (initial(parameters(net), method) for method in ("he", "dirac"))
    assert all(np.array_equal(dirac[name], array) for name, array in he.items())


@pytest.mark.parametrize("method", ["he", "zero"])
def test_biases_scales_and_slopes_begin_as_their_layer_says(method: str) -> None:
    values = initial(parameters(), method)
    assert not values["conv1.bias"].any()
    assert not values["bn1.bias"].any()
    assert (values["bn1.weight"] == 1).all()
    assert (values["prelu1.weight"] == 0.25).all()


def test_numbers_depend_on_seed_and_name_alone() -> None:
    values = initial(parameters(), seed=3)
    assert np.array_equal(
        initial(parameters("conv3-64 relu fc7"), seed=3)["conv1.weight"], values["conv1.weight"]
    )
    other = initial(parameters(), seed=4)["conv1.weight"]
    assert not np.isclose(other, values["conv1.weight"]).any()


def test_the_same_numbers_as_ever() -> None:
    weight = initial(parameters(), seed=0)["conv1.weight"].ravel()[:3]
    assert weight == pytest.approx(FIRST, rel=1e-6)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'hee', not one of he, xavier, small-random, zero, dirac"):
        initial(parameters(), "hee")
