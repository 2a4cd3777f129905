"""A folder to a Dataset: pixels, labels, splits, the cache, and what is reported."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hubel.data import Dataset, load, pool, read
from hubel.data import assemble as assembling
from hubel.data import cache as caching
from hubel.errors import DataError, UsageError

Maker = Callable[..., Path]

NAMES = [f"{name}/{index}.png" for name in ("cat", "dog", "owl") for index in range(20)]


def all_of(dataset: Dataset) -> dict[str, tuple[int, bytes]]:
    parts = [dataset.train, dataset.validation, *([dataset.test] if dataset.test else [])]
    return {
        file: (int(label), image.tobytes())
        for part in parts
        for file, label, image in zip(part.files, part.labels, part.images, strict=True)
    }


def entries(cache_folder: Path) -> list[str]:
    return sorted(path.suffix for path in cache_folder.rglob("*") if path.is_file())


def test_pixels_labels_and_names_belong_together(images: Maker) -> None:
    root = images(*NAMES)
    dataset = load(root)
    assert dataset.name == "set"
    assert dataset.classes == ("cat", "dog", "owl")
    assert dataset.test is None
    assert dataset.train.labels.dtype == np.int64
    assert dataset.train.images.dtype == np.uint8
    found = all_of(dataset)
    assert sorted(found) == sorted(NAMES)
    for name, (label, pixels) in found.items():
        assert dataset.classes[label] == name.split("/")[0]
        assert pixels == read(root / name).tobytes()
    share = len(dataset.validation)
    assert dataset.notes == (f"{share} of the 60 training images are set aside for validation.",)


def test_validation_and_test_folders_are_kept_apart(images: Maker) -> None:
    root = images("train/a/1", "train/b/1", "train/b/2", "valid/b/3", "test/a/4", "test/b/5")
    dataset = load(root)
    assert dataset.train.files == ("train/a/1", "train/b/1", "train/b/2")
    assert dataset.validation.files == ("valid/b/3",)
    assert dataset.validation.labels.tolist() == [1]
    assert dataset.test is not None
    assert dataset.test.files == ("test/a/4", "test/b/5")
    assert all_of(dataset)["test/b/5"][1] == read(root / "test/b/5").tobytes()
    assert dataset.notes == ("valid/ has no image of a: validation says nothing about that.",)


def test_a_second_load_comes_from_the_cache_and_is_the_same(
    images: Maker, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images(*NAMES)
    first = load(root)
    assert entries(cache_folder) == [".json", ".pixels"]

    def fail(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(assembling, "decode_files", fail)
    second = load(root)
    assert all_of(first) == all_of(second)
    assert first.fingerprint == second.fingerprint
    assert first.notes == second.notes
    load(root, seed=5)  # another split needs no decoding
    with pytest.raises(AssertionError, match="decoded again"):
        load(root, size=(4, 4))
    (root / "cat/0.png").touch()
    with pytest.raises(AssertionError, match="decoded again"):
        load(root)


def test_every_kind_of_broken_cache_is_rebuilt(images: Maker, cache_folder: Path) -> None:
    root = images(*NAMES)
    good = all_of(load(root))
    for suffix in (".json", ".pixels"):
        path = next(cache_folder.rglob(f"*{suffix}"))
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        for bad in (b"", content[:-1], content + b"x", bytes(flipped)):
            path.write_bytes(bad)
            assert all_of(load(root)) == good
            assert path.read_bytes() == content
        path.unlink()
        assert all_of(load(root)) == good


def test_a_cache_entry_of_another_key_is_refused(images: Maker, cache_folder: Path) -> None:
    load(images(*NAMES))
    about = next(cache_folder.rglob("*.json"))
    key = json.loads(about.read_bytes())["body"]["key"]
    other = "0" * len(key)
    for suffix in (".json", ".pixels"):
        about.with_suffix(suffix).rename(about.with_name(other + suffix))
    assert caching.find(other) is None


def test_an_unwritable_cache_costs_only_the_cache(
    images: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images(*NAMES)
    good = all_of(load(root, cache=False))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "file"))
    dataset = load(root)
    assert all_of(dataset) == good
    assert dataset.notes[-2].startswith("The decoded images could not be cached: Not a directory")


def test_a_full_disk_costs_only_the_cache(
    images: Maker, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images(*NAMES)
    good = load(root, cache=False)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    dataset = load(root)
    assert all_of(dataset) == all_of(good)
    assert dataset.fingerprint == good.fingerprint
    assert "could not be cached: No space left on device" in dataset.notes[0]
    assert entries(cache_folder) == []
    monkeypatch.undo()
    monkeypatch.setenv("HUBEL_CACHE", str(cache_folder))
    monkeypatch.setattr(caching, "_SPARE_BYTES", 2**62)
    assert "bytes are needed and" in load(root).notes[0]


def test_unused_entries_and_leftovers_are_forgotten(images: Maker, cache_folder: Path) -> None:
    root = images(*NAMES)
    load(root)
    leftover = cache_folder / "images" / ".x.pixels.1234.tmp"
    leftover.write_bytes(b"half")
    for path in (leftover, *cache_folder.rglob("*.json")):
        os.utime(path, (0, 0))
    load(root, size=(3, 3))
    assert entries(cache_folder) == [".json", ".pixels"]


def test_pixels_that_a_kill_left_without_their_facts_are_forgotten(
    images: Maker, cache_folder: Path
) -> None:
    folder = cache_folder / "images"
    folder.mkdir(parents=True)
    for name in ("old", "new"):
        (folder / f"{name}.pixels").write_bytes(b"pixels")
    os.utime(folder / "old.pixels", (0, 0))
    load(images(*NAMES))
    left = next(folder.glob("*.json")).with_suffix(".pixels")
    os.utime(left, (0, 0))
    load(images(*NAMES), size=(3, 3))
    assert not (folder / "old.pixels").exists()
    assert (folder / "new.pixels").exists()
    assert left.exists()


def test_no_row_is_not_kept(cache_folder: Path) -> None:
    with pytest.raises(caching.CacheError, match="there is nothing to keep"):
        caching.store("key", 0, (2, 2, 1), [], dict)
    assert entries(cache_folder) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert str(caching.directory()) == os.environ["HUBEL_CACHE"]
    monkeypatch.delenv("HUBEL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for platform, variables, expected in (
        ("linux", {"XDG_CACHE_HOME": str(tmp_path / "x")}, tmp_path / "x" / "hubel"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, tmp_path / ".cache" / "hubel"),
        ("darwin", {}, tmp_path / "Library" / "Caches" / "hubel"),
        ("win32", {"LOCALAPPDATA": str(tmp_path / "l")}, tmp_path / "l" / "hubel" / "cache"),
    ):
        monkeypatch.setattr(caching.sys, "platform", platform)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert caching.directory() == expected


def test_processes_and_threads_give_the_same(
    images: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images(*NAMES)
    (root / "cat/3.png").write_bytes(b"")
    one = load(root, workers=1, cache=False)
    monkeypatch.setattr(pool, "_FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(pool, "_CHUNK_FILES", 7)
    seen: list[tuple[int, int]] = []
    two = load(
        root, workers=2, cache=False, progress=lambda done, total: seen.append((done, total))
    )
    assert all_of(one) == all_of(two)
    assert one.problems == two.problems
    assert one.fingerprint == two.fingerprint
    assert seen == [(done, 60) for done in (7, 14, 21, 28, 35, 42, 49, 56, 60)]


def test_a_decoding_process_that_dies_is_an_error(
    images: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images(*NAMES)
    monkeypatch.setattr(pool, "_FEWEST_FOR_PROCESSES", 1)
    start = pool._start_children

    def start_and_kill(count: int) -> list[pool._Child]:
        children = start(count)
        for child in children:
            os.kill(child._process.pid, signal.SIGTERM)
            child._process.wait()
        return children

    monkeypatch.setattr(pool, "_start_children", start_and_kill)
    with pytest.raises(DataError, match=r"was decoding ended with status .*with workers=1"):
        load(root, workers=2, cache=False)


def test_where_processes_cannot_start_threads_do(
    images: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images(*NAMES)
    monkeypatch.setattr(pool, "_FEWEST_FOR_PROCESSES", 1)
    monkeypatch.setattr(pool.sys, "executable", "/nowhere/python")
    assert len(all_of(load(root, workers=2))) == 60
    monkeypatch.setattr(pool.sys, "executable", "")
    assert len(all_of(load(root, workers=2, cache=False))) == 60


def test_unreadable_images_are_named_and_left_out(images: Maker) -> None:
    root = images(*NAMES, "cat/.hidden.png")
    (root / "cat/5.png").write_bytes((root / "cat/5.png").read_bytes()[:60])
    (root / "dog/0.png").write_bytes(b"")
    (root / "owl/readme.txt").write_text("not an image")
    dataset = load(root)
    assert [str(problem).split(" (")[0] for problem in dataset.problems] == [
        "cat/5.png: it cannot be decoded",
        "dog/0.png: the file is empty",
        "owl/readme.txt: it is not an image in one of JPEG, PNG, BMP, GIF, WEBP, TIFF, PPM, "
        "or its beginning is damaged",
    ]
    found = all_of(dataset)
    assert sorted(found) == sorted(set(NAMES) - {"cat/5.png", "dog/0.png"})
    for name, (label, pixels) in found.items():
        assert dataset.classes[label] == name.split("/")[0]
        assert pixels == read(root / name).tobytes()


def test_unreadable_images_in_every_split_leave_the_others_in_place(images: Maker) -> None:
    root = images(
        *(f"{s}/{c}/{i}" for s in ("train", "val", "test") for c in "ab" for i in range(3))
    )
    for name in ("train/a/0", "train/b/2", "val/a/1", "test/b/0"):
        (root / name).write_bytes(b"broken")
    dataset = load(root)
    assert dataset.test is not None
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [4, 5, 5]
    for name, (label, pixels) in all_of(dataset).items():
        assert dataset.classes[label] == name.split("/")[1]
        assert pixels == read(root / name).tobytes()


def test_a_class_with_no_readable_image_is_an_error(images: Maker) -> None:
    root = images("cat/1", "cat/2", "dog/1")
    (root / "dog/1").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load(root)
    assert str(caught.value) == (
        f"{root}: none of the 1 files in the class 'dog' is a readable image; dog/1: the file is "
        "empty. Hint: replace the images or remove the folder."
    )


def test_one_size_is_kept_and_several_go_to_the_median(images: Maker) -> None:
    assert load(images("a/1", "b/1", size=(30, 41))).train.images.shape == (2, 30, 41, 3)
    root = images("a/2", size=(100, 50))
    images("b/2", size=(60, 90))
    dataset = load(root, val_fraction=0)
    assert dataset.train.images.shape == (4, 48, 48, 3)
    assert dataset.notes[0] == (
        "The images differ in size (heights 30 to 100, widths 41 to 90): each is squashed to "
        "48×48. Choose another size if that is not right."
    )
    assert dataset.conversions == {"resized": 4}
    assert load(root, size=(7, 9)).train.images.shape[1:3] == (7, 9)
    for resize in ("pad", "crop"):
        small = load(root, size=(8, 8), resize=resize, val_fraction=0)
        for name, image in zip(small.train.files, small.train.images, strict=True):
            expected = read(root / name, (8, 8), 3, resize)
            assert np.array_equal(image, expected)


def test_large_images_of_one_size_are_capped(images: Maker) -> None:
    dataset = load(images("a/1", "b/1", size=(300, 600), channels=1))
    assert dataset.train.images.shape[1:] == (112, 224, 1)
    assert dataset.notes[0].startswith("The images are 300×600: each is squashed to 112×224.")


def test_channels_follow_the_training_images(
    images: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images("train/a/1", "train/a/2", "train/b/1", channels=1)
    images("test/b/1", channels=3)
    assert load(root, val_fraction=0).train.images.shape == (3, 6, 5, 1)
    assert load(root, val_fraction=0, channels=3).train.images.shape == (3, 6, 5, 3)
    assert load(root, val_fraction=0).conversions == {"colour to grey": 1}
    # A sample that misses the one colour image is found out.
    monkeypatch.setattr(assembling, "_SAMPLE", 2)
    images("train/a/2", channels=3)
    assert load(root, val_fraction=0).train.images.shape == (3, 6, 5, 3)


def test_conversions_are_counted(images: Maker) -> None:
    root = images("a/1", "b/1", size=(4, 4))
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(root / "a/2.png")
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(root / "b/2.png")
    dataset = load(root)
    assert dataset.conversions == {"16-bit": 1, "alpha composited": 1, "grey to colour": 1}


def test_users_files_are_not_changed(images: Maker) -> None:
    root = images(*NAMES)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")}
    load(root)
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")}


def test_fingerprint_changes_with_pixels_labels_and_split(images: Maker) -> None:
    root = images(*NAMES)
    prints = [
        load(root).fingerprint,
        load(root, seed=1).fingerprint,
        load(root, size=(3, 3)).fingerprint,
    ]
    (root / "cat/0.png").rename(root / "dog/99.png")
    prints.append(load(root).fingerprint)
    assert len(set(prints)) == 4
    moved = root.rename(root.with_name("elsewhere"))
    assert load(moved).fingerprint == prints[-1]


def test_a_split_too_large_for_memory_is_gathered_into_a_file(
    images: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images(*NAMES)
    expected = all_of(load(root))
    monkeypatch.setattr(assembling, "_MEMORY_BYTES", 10)
    monkeypatch.setattr(assembling, "_GATHER_ROWS", 7)
    for _ in range(2):
        dataset = load(root)
        assert isinstance(dataset.train.images, np.memmap)
        assert all_of(dataset) == expected


def test_bad_arguments(images: Maker) -> None:
    root = images("a/1", "b/1")
    with pytest.raises(UsageError, match="the size is"):
        load(root, size=(0, 4))
    with pytest.raises(UsageError, match=r"the validation fraction is 1\.0, not in 0 to 1"):
        load(root, val_fraction=1.0)
    with pytest.raises(UsageError, match="resize is 'zoom'"):
        load(root, resize="zoom")
    with pytest.raises(UsageError, match="channels is 2"):
        load(root, channels=2)


def test_a_name_that_is_nothing_is_met_with_the_names_there_are() -> None:
    with pytest.raises(DataError) as caught:
        load("nosuch")
    assert str(caught.value) == (
        "nosuch: there is no such folder or dataset. Hint: give a folder with a folder of images "
        "for each class, or one of digits, mnist, fashion-mnist, cifar10."
    )


def test_what_a_folder_of_validation_images_leaves_out_is_a_note(images: Maker) -> None:
    root = images("train/a/1", "train/a/2", "train/b/1", "train/c/1", "val/b/2")
    used = "Validation uses val/: no share of the training images is set aside."
    missing = "val/ has no image of a, c: validation says nothing about that."
    assert load(root, val_fraction=0.2).notes == (used, missing)
    assert load(root).notes == (missing,)
