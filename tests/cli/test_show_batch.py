"""`hubel show-batch`: where it draws, what it says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.cli.conftest import Said

Hubel = Callable[..., Said]


def test_it_draws_a_new_picture_each_time(hubel: Hubel, folder: Path) -> None:
    said = hubel("show-batch", folder, "--crop", 1, "-b", 8, "--count", 4)
    assert said.status == 0
    assert said.out.splitlines() == [
        "Drawn: 4 of the 8 images of epoch 1, step 1. Black is pixel 0, white 255.",
        f"Saved as {Path('batch.png').resolve()}",
    ]
    hubel("show-batch", folder)
    assert Path("batch-2.png").exists()
    with Image.open("batch.png") as picture:
        assert picture.format == "PNG"


def test_a_file_is_only_replaced_where_that_is_asked_for(hubel: Hubel, folder: Path) -> None:
    Path("mine.png").write_text("mine")
    said = hubel("show-batch", folder, "--out", "mine.png")
    assert (said.status, said.out) == (2, "")
    assert "mine.png: there is such a file" in said.err
    assert "--overwrite" in said.err
    assert Path("mine.png").read_text() == "mine"
    assert hubel("show-batch", folder, "--out", "mine.png", "--overwrite").status == 0
    with Image.open("mine.png") as picture:
        assert picture.width > 100


def test_json_tells_what_was_drawn(hubel: Hubel, folder: Path) -> None:
    options = ("--mixup", 1, "--epoch", 3, "--step", 2, "-b", 16, "--count", 5, "--json", "-q")
    found = json.loads(hubel("show-batch", folder, *options).out)
    assert (found["epoch"], found["step"], found["drawn"], found["images"]) == (3, 2, 5, 16)
    assert (found["black"], found["white"]) == (0, 255)
    assert len(found["captions"]) == 5
    assert all(len(caption) in (1, 2) for caption in found["captions"])


def test_what_cannot_be_shown_is_refused(hubel: Hubel, folder: Path) -> None:
    assert "there is no step 9 of epoch 1" in hubel("show-batch", folder, "--step", 9).err
    said = hubel("show-batch", folder, "--border", "wrap", "--scale", 2)
    assert "border (--border) is 'wrap', not one of zero, reflect" in said.err
    assert "scale (--scale) is 2.0, not a number of at least 0 and below 1" in said.err
    assert not list(Path().glob("batch*"))
