"""Views of an image: what they show, what their mean is, and who takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hubel.errors import UsageError
from hubel.model import Model, load
from hubel.train.metrics import measure
from hubel.train.tta import TTA, views_of
from tests.train import toy

X, Y = toy.images()
RECIPE = {"epochs": 1, "batch_size": 16, "optimizer": "sgd", "lr": 0.05}


def seen(images: np.ndarray, name: str) -> list[np.ndarray]:
    """The views of images by NumPy's own padding and slicing."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    made = [images]
    if name == "crops":
        # Moved down and right: cut out one pixel further up and left; and the other way about.
        made += [padded[:, :-2, :-2], padded[:, 2:, 2:]]
    return [view for plain in made for view in (plain, plain[:, :, ::-1])]


@pytest.mark.parametrize("name", ["flip", "crops"])
def test_views_are_those_of_the_recipe(name: str) -> None:
    for view, wanted in zip(views_of(name), seen(X, name), strict=True):
        rows, columns = view.places(len(X), 6, 6)
        found = X[np.arange(len(X))[:, None, None], rows[:, :, None], columns[:, None, :]]
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("name", TTA)
def test_the_shares_add_up_to_one(name: str) -> None:
    assert sum(view.share for view in views_of(name)) == 1.0


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("name", ["flip", "crops"])
def test_scores_are_the_mean_over_the_views(name: str, engine: str) -> None:
    model = toy.model(engine=engine)
    model.fit(X, Y, **RECIPE)
    parts = [model.logits(np.ascontiguousarray(view)) for view in seen(X, name)]
    mean = sum(v.share * p.astype(np.float64) for v, p in zip(views_of(name), parts, strict=True))
    found = model.logits(X, tta=name)
    assert found.dtype == np.float64
    assert np.array_equal(found, mean)
    np.testing.assert_allclose(model.logits(X, 7, tta=name), found, rtol=0, atol=1e-5)
    evaluated = measure([(mean, Y)], 3)
    assert model.evaluate(X, Y, tta=name) == {
        "loss": evaluated.loss,
        "accuracy": evaluated.accuracy,
    }


def test_images_that_need_no_preprocessing_are_moved_too() -> None:
    model = toy.model()
    images = X.astype(np.float32)
    assert not np.array_equal(model.logits(images, tta="flip"), model.logits(images))


def test_a_model_does_as_it_was_trained_to_unless_told_otherwise(tmp_path: Path) -> None:
    model = toy.model()
    assert model.tta == "none"
    model.fit(X, Y, **RECIPE, tta="crops")
    model.save(tmp_path / "m.hubel", resumable=False)
    again = load(tmp_path / "m.hubel", engine="reference")
    assert again.tta == "crops"
    assert np.array_equal(again.predict(X), model.predict(X, tta="crops"))
    assert not np.array_equal(again.predict(X), again.predict(X, tta="none"))


def test_validation_during_a_run_takes_images_as_they_are() -> None:
    plain = toy.model().fit(X, Y, **RECIPE, val_fraction=0.2)
    assert [row.validation_loss for row in plain] == [
        row.validation_loss
        for row in toy.model().fit(X, Y, **RECIPE, val_fraction=0.2, tta="crops")
    ]


def test_what_cannot_be_viewed_is_refused() -> None:
    with pytest.raises(UsageError, match="'mirror', not one of none, flip, crops"):
        toy.model().predict(X, tta="mirror")
    tiny = Model("fc2", (1, 4, 1), engine="reference")
    with pytest.raises(UsageError, match="images of 1×4 cannot be moved by 1 pixel"):
        tiny.predict(np.zeros((1, 1, 4, 1), np.float32), tta="crops")
