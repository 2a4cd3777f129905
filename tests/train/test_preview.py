"""What is shown of a batch is what training is fed, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hubel.data import load
from hubel.engine.native import NativeSession
from hubel.errors import UsageError
from hubel.model import Model
from hubel.train.preview import preview

CHOICES = {
    "batch_size": 100,
    "flip": True,
    "crop": 1,
    "rotate": 10.0,
    "colour": 0.3,
    "cutout": 2,
    "mixup": 0.5,
    "cutmix": 1.0,
    "class_weights": "balanced",
    "preprocess": "mean-image",
    "seed": 5,
}


def test_a_preview_has_the_very_bits_that_a_run_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits")
    fed: list[dict[str, Any]] = []
    really = NativeSession.run

    def run(self: NativeSession, graph: Any, feeds: Any) -> Any:
        if "rate" in feeds:
            fed.append(dict(feeds))
        return really(self, graph, feeds)

    monkeypatch.setattr(NativeSession, "run", run)
    Model("conv3-4 relu fc", (8, 8, 1), classes=data.classes).fit(data, epochs=2, **CHOICES)
    steps = len(fed) // 2
    for epoch, step in ((1, 1), (1, steps), (2, 3)):
        for engine in ("native", "reference"):
            shown = preview(data, epoch, step, engine=engine, **CHOICES).batch
            seen = fed[(epoch - 1) * steps + step - 1]
            assert shown.images.tobytes() == seen["input"].tobytes()
            assert shown.labels.tobytes() == seen["labels"].tobytes()
            assert shown.targets is not None
            assert shown.targets.tobytes() == seen["targets"].tobytes()


def test_mixed_images_have_both_names_with_their_shares() -> None:
    data = load("digits")
    shown = preview(data, mixup=1.0, batch_size=50)
    batch = shown.batch
    assert batch.variation is not None
    mixed = batch.variation.mixed
    assert mixed is not None
    for place, ((one, share), (other, rest)) in enumerate(shown.names):
        assert one == data.classes[batch.labels[place]]
        assert other == data.classes[data.train.labels[mixed.indices[place]]]
        assert share + rest == pytest.approx(1)
        assert batch.targets is not None
        if one != other:
            assert batch.targets[place, data.classes.index(one)] == pytest.approx(share)


def test_steps_that_there_are_not_are_named() -> None:
    data = load("digits")
    for epoch, step in ((0, 1), (1, 0), (1, 99)):
        with pytest.raises(UsageError) as caught:
            preview(data, epoch, step, batch_size=100)
        assert str(caught.value) == (
            f"there is no step {step} of epoch {epoch}. Hint: {len(data.train):,} training images "
            "in batches of 100 are steps 1 to 13 of every epoch from 1 on."
        )
    assert preview(data, epoch=40).epoch == 40  # whatever the number of epochs
    assert np.array_equal(preview(data).batch.images, preview(data).batch.images)
