"""The audit: every defect planted, its words, its cache, and nothing changed in the folder."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hubel
from hubel.data import audit as module
from hubel.data import load, split_arrays
from hubel.data.audit import Audit
from hubel.errors import DataError
from tests.data.conftest import Maker

CLEAN = tuple(
    f"{split}/{name}/{number}"
    for split, count in (("train", 12), ("val", 4), ("test", 4))
    for name in ("cat", "dog")
    for number in range(count)
)


def digest(root: Path) -> str:
    """A hash of every name, time and byte below a folder."""
    whole = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        whole.update(f"{path.relative_to(root)} {path.stat().st_mtime_ns}".encode())
        whole.update(path.read_bytes() if path.is_file() else b"")
    return whole.hexdigest()


def found(audited: Audit, check: str) -> set[tuple[tuple[str, ...], str]]:
    return {(one.files, one.what) for one in audited[check].findings}


@pytest.fixture
def clean(images: Maker) -> Path:
    return images(*CLEAN, size=(24, 24))


def shade(root: Path, original: str, copy: str) -> None:
    """Write a darker copy as JPEG."""
    darker = Image.open(root / original).point(lambda level: round(level * 0.95))
    darker.save(root / copy, "JPEG", quality=90)


def test_a_clean_folder_passes_every_check(clean: Path) -> None:
    audited = hubel.audit(clean)
    assert audited.ok
    assert (audited.name, audited.images) == ("set", 40)
    assert [check.check for check in audited.checks] == [
        *("leaks", "labels", "duplicates", "unreadable", "constant", "tiny", "size", "classes"),
        *("imbalance", "left out"),
    ]
    assert not any(check.findings for check in audited.checks)
    assert audited.leaked == {"validation": (), "test": ()}


def test_copies_are_found_within_and_across_splits_and_classes(clean: Path) -> None:
    for original, copy in (
        ("train/cat/0", "val/cat/a"),
        ("train/cat/1", "train/dog/b"),
        ("train/cat/2", "train/cat/c"),
        ("val/dog/1", "test/dog/d"),  # neither is in training
    ):
        shutil.copy(clean / original, clean / copy)
    shade(clean, "train/dog/3", "test/dog/e")
    shade(clean, "train/dog/4", "train/dog/f")
    before = digest(clean)
    audited = hubel.audit(clean)
    assert digest(clean) == before
    assert found(audited, "leaks") == {
        (("val/cat/a", "train/cat/0"), "exact copy"),
        (("test/dog/e", "train/dog/3"), "near copy"),
    }
    assert found(audited, "labels") == {
        (("train/dog/b", "train/cat/1"), "exact copy, dog and cat"),
    }
    assert found(audited, "duplicates") == {
        (("train/cat/c", "train/cat/2"), "exact copy"),
        (("train/dog/f", "train/dog/4"), "near copy"),
        (("train/dog/b", "train/cat/1"), "exact copy"),
    }
    failed = [check.check for check in audited.checks if not check.ok]
    assert failed == ["leaks", "labels", "duplicates"]
    assert audited.leaked == {"validation": (4,), "test": (9,)}


def test_a_check_says_what_how_many_why_and_what_to_do(clean: Path) -> None:
    shutil.copy(clean / "train/cat/0", clean / "val/cat/a")
    (first, *_) = hubel.audit(clean).as_list()
    assert first == {
        "check": "leaks",
        "ok": False,
        "value": 1,
        "expected": "no exact copy, near copies of at most 1 % of 17 held-out images",
        "cause": "validation or test images are in the training images too: their score flatters",
        "advice": "remove either image of each pair, or believe the score without them",
        "files": [{"files": ["val/cat/a", "train/cat/0"], "what": "exact copy"}],
    }


def test_images_that_show_nothing_are_named(clean: Path) -> None:
    random = np.random.default_rng(0)
    for name, shape in (("tiny", (3, 24)), ("long", (24, 60)), ("vast", (120, 120))):
        pixels = random.integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(pixels).save(clean / f"train/cat/{name}.png")
    Image.new("RGB", (24, 24), (9, 90, 200)).save(clean / "train/dog/blue.png")
    Image.new("RGB", (24, 24), (9, 90, 201)).save(clean / "val/dog/blue.jpg", quality=40)
    (clean / "val/cat/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    (clean / "train/notes.txt").write_text("none of a class")
    audited = hubel.audit(clean)
    assert found(audited, "tiny") == {(("train/cat/tiny.png",), "3×24")}
    assert found(audited, "size") == {
        (("train/cat/tiny.png",), "3×24"),
        (("train/cat/long.png",), "24×60"),
        (("train/cat/vast.png",), "120×120"),
    }
    assert found(audited, "constant") == {
        (("train/dog/blue.png",), "one colour throughout"),
        (("val/dog/blue.jpg",), "one colour throughout"),
    }
    ((files, _),) = found(audited, "unreadable")
    assert files == ("val/cat/broken.png",)
    assert found(audited, "left out") == {(("train/notes.txt",), "it lies in no class folder")}
    assert audited["left out"].ok
    # Images of one colour are near copies of nothing.
    assert not audited["leaks"].findings
    with pytest.raises(KeyError):
        audited["leak"]


def test_classes_that_differ_between_splits_are_named_instead_of_refused(clean: Path) -> None:
    (clean / "val/cat").rename(clean / "val/Cat")
    (clean / "train/bird").mkdir()
    (clean / "test/emu").mkdir()
    with pytest.raises(DataError, match="no image in the class 'bird'"):
        load(clean)
    audited = hubel.audit(clean)
    assert not audited["classes"].ok
    assert found(audited, "classes") == {
        (("train/bird",), "it holds no image: the class cannot be learned"),
        (("val/Cat",), "train/ has no images of such a class: is it 'cat'?"),
        (("test/emu",), "train/ has no images of such a class"),
        (("validation: cat",), "it holds no image of this class"),
    }


def test_an_empty_split_is_named_and_another_set_aside(clean: Path) -> None:
    shutil.rmtree(clean / "val")
    (clean / "val/cat").mkdir(parents=True)
    audited = hubel.audit(clean)
    assert found(audited, "classes") == {(("val",), "it holds no image of any class")}
    assert audited.images == 32


def test_a_class_of_few_images_is_out_of_balance() -> None:
    x = np.random.default_rng(0).integers(0, 256, (120, 8, 8), np.uint8)
    data = split_arrays(x, ["often"] * 114 + ["seldom"] * 6, val_fraction=0)
    check = hubel.audit(data)["imbalance"]
    assert (check.ok, check.value) == (False, 19.0)
    assert "often has 114 training images, seldom has 6" in check.cause
    assert [(one.files, one.what) for one in check.findings] == [(("seldom",), "6 training images")]


def test_arrays_are_named_by_their_places() -> None:
    x = np.random.default_rng(0).random((30, 8, 8, 1), np.float32)
    y = np.arange(30) % 2
    held = (x[[4, 5]], y[[4, 5]])
    audited = hubel.audit(split_arrays(x, y, validation=held, test=(x[:1] * 0.5, [1])))
    assert found(audited, "leaks") == {
        (("validation[0]", "train[4]"), "exact copy"),
        (("validation[1]", "train[5]"), "exact copy"),
        (("test[0]", "train[0]"), "near copy"),
    }
    assert found(audited, "labels") == {(("test[0]", "train[0]"), "near copy, 1 and 0")}


@pytest.mark.slow
def test_a_second_audit_takes_over_what_the_first_found(
    clean: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(clean / "train/cat/0", clean / "val/cat/a")
    shade(clean, "train/dog/3", "test/dog/e")
    first = hubel.audit(clean)
    searches = []
    search = module.find_copies
    monkeypatch.setattr(module, "find_copies", lambda *a: searches.append(a) or search(*a))
    assert hubel.audit(clean) == first
    assert not searches
    assert hubel.audit(clean, cache=False) == first
    assert len(searches) == 1
    (kept,) = (cache_folder / "facts").glob("*.json")
    kept.write_bytes(kept.read_bytes().replace(b'"near"', b'"Near"'))
    assert hubel.audit(clean) == first
    assert len(searches) == 2
    shutil.copy(clean / "train/cat/1", clean / "val/cat/b")
    assert hubel.audit(clean)["leaks"].value == 3


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    clean: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "file"))
    assert hubel.audit(clean).ok
