"""Layouts of folders: what is found, what is skipped, what is refused and how it is said."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from hubel.data.folder import LAYOUT, Listing, list_folder, natural_key
from hubel.errors import DataError

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX file names and links")


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        list_folder(root)
    assert caught.value.where == str(root)
    return str(caught.value)


def train(listing: Listing) -> list[tuple[str, str]]:
    return [(listing.classes[file.label], file.name) for file in listing.train]


def reasons(listing: Listing) -> dict[str, str]:
    return {problem.path: problem.reason for problem in listing.problems}


def test_class_folders_in_natural_order(tmp_path: Path) -> None:
    listing = list_folder(make(tmp_path, "10/b.JPG", "9/a.jpg", "10/a.png", "9/deep/er/c.jpg"))
    assert listing.classes == ("9", "10")
    assert train(listing) == [
        ("9", "9/a.jpg"),
        ("9", "9/deep/er/c.jpg"),
        ("10", "10/a.png"),
        ("10", "10/b.JPG"),
    ]
    assert listing.train[0].bytes == 1
    assert (listing.validation, listing.test, listing.problems) == (None, None, ())


def test_natural_order() -> None:
    names = ["img12", "img2", "IMG1", "a10b2", "a10b10", "", "007", "7"]
    ordered = sorted(names, key=natural_key)
    assert ordered == ["", "007", "7", "a10b2", "a10b10", "IMG1", "img2", "img12"]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_splits_below_the_root(tmp_path: Path, val: str) -> None:
    root = make(
        tmp_path, "train/a/1", "train/b/1", f"{val}/a/2", "test/b/3", "notes.txt", "extra/a/1"
    )
    listing = list_folder(root)
    assert train(listing) == [("a", "train/a/1"), ("b", "train/b/1")]
    assert [file.name for file in listing.validation or ()] == [f"{val}/a/2"]
    assert [(file.label, file.name) for file in listing.test or ()] == [(1, "test/b/3")]
    assert reasons(listing) == {
        "notes.txt": "it is not in train/, val/ or test/",
        "extra": "it is not in train/, val/ or test/",
    }


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert list_folder(make(tmp_path, "train/1", "bus/1", "test/1")).classes == (
        "bus",
        "test",
        "train",
    )


def test_hidden_and_system_entries_are_skipped(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        *("a/1", "b/1", "a/.DS_Store", "a/._1", "a/Thumbs.db", "a/desktop.ini", ".DS_Store"),
        *(".ipynb_checkpoints/1", "__MACOSX/a/1", "a/.ipynb_checkpoints/1"),
    )
    listing = list_folder(root)
    assert train(listing) == [("a", "a/1"), ("b", "b/1")]
    assert listing.problems == ()


def test_loose_files_are_named(tmp_path: Path) -> None:
    listing = list_folder(make(tmp_path, "a/1", "b/1", "loose.jpg"))
    assert reasons(listing) == {"loose.jpg": "it lies in no class folder"}


def test_refusals_say_what_was_found_and_what_is_expected(tmp_path: Path) -> None:
    assert "no class folders; a classifier needs at least two" in refused(tmp_path)
    make(tmp_path, "1.jpg")
    assert f"Hint: give {LAYOUT}" in refused(tmp_path)
    make(tmp_path, "cat/1")
    assert "found one class folder, 'cat'; a classifier needs at least two" in refused(tmp_path)
    assert "no such file or directory" in refused(tmp_path / "none")
    assert "this is a file, not a folder" in refused(tmp_path / "1.jpg")
    (tmp_path / "dog").mkdir()
    (tmp_path / "10").mkdir()
    assert "no image in the class '10', 'dog'. Hint: put images" in refused(tmp_path)


def test_splits_must_agree(tmp_path: Path) -> None:
    make(tmp_path, "test/a/1", "test/b/1")
    assert "found test/ but no train/" in refused(tmp_path)
    make(tmp_path, "train/a/1", "train/b/1", "test/c/1")
    assert (
        "test/ has the class 'c', which train/ has not (it has 'a', 'b'). "
        "Hint: name the class folders alike in every split"
    ) in refused(tmp_path)
    (tmp_path / "test/c/1").unlink()
    (tmp_path / "test/c").rmdir()
    make(tmp_path, "val/a/1", "valid/a/1")
    assert "val/ and valid/ both hold validation images. Hint: keep one" in refused(tmp_path)
    (tmp_path / "valid/a/1").unlink()
    (tmp_path / "valid/a").rmdir()
    (tmp_path / "val/a/1").unlink()
    assert "the validation folder holds no images" in refused(tmp_path)


@posix
def test_only_regular_files_are_images(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "b/1.jpg", "elsewhere.jpg")
    os.mkfifo(tmp_path / "a/pipe.jpg")
    (tmp_path / "a/folder.jpg").mkdir()
    (tmp_path / "a/gone.jpg").symlink_to("nothing")
    (tmp_path / "a/self.jpg").symlink_to("self.jpg")
    (tmp_path / "a/good.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "loop").symlink_to(".")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path / "a")  # the name of a socket must be short
        server.bind("s.jpg")
        os.chdir(here)
        listing = list_folder(tmp_path)
    assert [name for _, name in train(listing)] == ["a/1.jpg", "a/good.jpg", "b/1.jpg"]
    assert reasons(listing) == {
        "a/gone.jpg": "it is a link to nothing",
        "a/pipe.jpg": "it is not a regular file",
        "a/s.jpg": "it is not a regular file",
        "a/self.jpg": "it is a link to nothing",
        "a/up": "it is a link to a folder, which is not followed",
        "elsewhere.jpg": "it lies in no class folder",
        "loop": "it is a link to a folder that contains it",
    }


@posix
def test_linked_class_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "store", "x/1")
    make(tmp_path / "data", "b/1")
    (tmp_path / "data/a").symlink_to(tmp_path / "store/x")
    assert train(list_folder(tmp_path / "data")) == [("a", "a/1"), ("b", "b/1")]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_names_of_any_bytes(tmp_path: Path) -> None:
    make(tmp_path, "日本 🙂/a\nb.jpg", "é/ \"'.jpg", "-rf/x.jpg", f"-rf/{'x' * 251}.jpg")
    make(tmp_path, os.fsdecode(b"caf\xe9/\xff.jpg"))
    listing = list_folder(tmp_path)
    assert set(listing.classes) == {"日本 🙂", "é", "-rf", "caf\\xe9"}
    assert all("\udce9" not in name for name in listing.classes)
    for file in listing.train:
        assert Path(listing.root, file.name).stat().st_size == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems merge the two spellings")
def test_two_spellings_of_one_class_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "caf\u00e9/1", "cafe\u0301/1")
    text = refused(tmp_path)
    assert "two class folders are both called 'caf\u00e9'" in text
    assert "'cafe\\u0301'" in text
    assert "'caf\\xe9'" in text


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may list everything")
def test_folders_without_permission(tmp_path: Path) -> None:
    make(tmp_path, "a/1", "a/locked/2", "b/1")
    (tmp_path / "a/locked").chmod(0)
    listing = list_folder(tmp_path)
    (tmp_path / "a/locked").chmod(0o700)
    assert reasons(listing) == {"a/locked": "it cannot be listed (Permission denied)"}
