"""Recipes: networks for images of every size, and choices that training takes as they are."""

from __future__ import annotations

import numpy as np
import pytest

from hubel import Dataset, Model, Network, UsageError
from hubel.data.dataset import Split
from hubel.train.recipes import RECIPES, recipe, usual, whitened_net
from hubel.train.settings import settings

SIZES = ((3, 3), (5, 9), (8, 8), (17, 40), (28, 28), (32, 32), (64, 64), (65, 65), (96, 130))


def dataset(count: int, depth: int = 3, size: int = 8) -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, size, size, depth), dtype=np.uint8)
    split = Split(images, np.arange(count) % 2)
    return Dataset("made", ("a", "b"), split, split)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_there_is_a_network_for_images_of_any_size(size: tuple[int, int], depth: int) -> None:
    shape = (*size, depth)
    assert Network(usual(*size).net, shape, 10).output == (10,)
    whitened = Network(whitened_net(*shape, 8, 16), shape, 10)
    assert whitened.output == (10,)
    pools = [node for node in whitened.graph.nodes if node.op == "max_pool"]
    assert whitened.graph[pools[-1].outputs[0]].shape[:2] == (1, 1)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("size", [8, 70])
def test_the_first_filters_are_as_many_as_can_be_made_from_the_images(
    size: int, depth: int
) -> None:
    data = dataset(40, depth, size)
    model = Model(Network(whitened_net(size, size, depth, 4, 8), (size, size, depth), 2))
    history = model.fit(data, epochs=1, whiten=True)
    assert len(history) == 1


@pytest.mark.parametrize("name", RECIPES)
def test_training_takes_the_choices_of_a_recipe(name: str) -> None:
    made = recipe(name, dataset(45_000, size=1))
    chosen = settings(**made.choices)
    assert chosen.batch_size == 128
    assert chosen.flip
    assert chosen.tta == "crops"


def test_grey_images_are_not_mirrored() -> None:
    choices = recipe("fast", dataset(100, depth=1)).choices
    assert choices["flip"] is False
    assert choices["tta"] == "none"


@pytest.mark.parametrize("images", [1, 7, 8, 100, 2_000, 45_000, 200_000, 1_000_000])
def test_few_images_are_seen_more_often(images: int) -> None:
    choices = recipe("fast", dataset(images, size=1)).choices
    assert 1 <= choices["batch_size"] <= 128
    more = recipe("fast", dataset(2 * images, size=1)).choices
    assert 1 <= more["epochs"] <= choices["epochs"] <= 100
    assert choices["epochs"] * images <= max(360_000, images)


def test_best_takes_longer_than_fast() -> None:
    fast, best = (recipe(name, dataset(45_000, size=1)) for name in ("fast", "best"))
    assert best.choices["epochs"] > fast.choices["epochs"]


def test_another_network_keeps_its_own_first_filters() -> None:
    made = recipe("fast", dataset(100)).around("conv3-100 relu fc")
    assert made.net == "conv3-100 relu fc"
    assert "whiten" not in made.choices


def test_a_recipe_that_there_is_not_is_told() -> None:
    with pytest.raises(UsageError) as caught:
        recipe("slow", dataset(10))
    assert str(caught.value) == "recipe (--recipe) is 'slow', not one of fast, best"
