"""Rotated and whitened images: measured once, kept, applied everywhere, to the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hubel import Model, load
from hubel.train.events import EpochDone
from tests.train import toy

NET = "conv3-4p1 relu pool2 fc"


def trained(engine: str = "native", threads: int | None = None, method: str = "whiten") -> Model:
    x, y = toy.images(48)
    model = Model(NET, x.shape[1:], engine=engine, threads=threads, classes=toy.NAMES)
    model.fit(x, y, epochs=2, batch_size=20, preprocess=method, crop=1, val_fraction=0.2, lr=0.01)
    return model


@pytest.mark.parametrize("method", ["pca", "whiten"])
def test_every_engine_sees_the_product(method: str) -> None:
    x, _ = toy.images(9)
    for engine in ("native", "reference"):
        model = trained(engine, method=method)
        preprocess = model.preprocess
        assert preprocess is not None
        assert preprocess.matrix is not None
        assert preprocess.mean_image is not None
        rows = (x / 255 - preprocess.mean_image).reshape(9, -1)
        wanted = (rows @ preprocess.matrix).reshape(x.shape)
        bare = Model(NET, x.shape[1:], engine=engine, classes=toy.NAMES)
        bare.set_parameters(model.parameters)
        scores = bare.logits(wanted.astype(np.float32))
        np.testing.assert_allclose(model.logits(x), scores, atol=1e-3 * np.abs(scores).max())


def test_threads_and_a_file_change_no_bit(tmp_path: Path) -> None:
    x, _ = toy.images(9)
    one, two = trained(threads=1), trained(threads=2)
    assert one.logits(x).tobytes() == two.logits(x).tobytes()
    one.save(tmp_path / "m.hubel")
    assert load(tmp_path / "m.hubel").logits(x).tobytes() == one.logits(x).tobytes()


def test_a_resumed_run_goes_on_with_the_same_matrix(tmp_path: Path) -> None:
    x, y = toy.images(40)
    whole = Model(NET, x.shape[1:], classes=toy.NAMES)
    whole.fit(x, y, epochs=2, preprocess="whiten", batch_size=16)
    begun = Model(NET, x.shape[1:], classes=toy.NAMES)
    for event in begun.train(x, y, epochs=2, preprocess="whiten", batch_size=16):
        if isinstance(event, EpochDone):
            break
    begun.save(tmp_path / "m.hubel")
    again = load(tmp_path / "m.hubel")
    again.fit(x, y, resume=True)
    for name, array in whole.parameters.items():
        assert again.parameters[name].tobytes() == array.tobytes(), name
