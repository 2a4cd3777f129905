"""The weights file: bytes, refusals, damage of every kind, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hubel.errors import FormatError, UsageError
from hubel.formats import weights

DTYPES = ["?", "<f2", "<f4", "<f8", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8"]


def small() -> dict[str, np.ndarray]:
    return {
        "conv1.weight": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
        "bn1.count": np.array(7, np.int64),
        "mask": np.array([True, False, True]),
        "empty": np.zeros((0, 4), np.float32),
    }


def file_of(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        weights.read(path)
    assert caught.value.where == str(path)
    return str(caught.value)


def test_round_trip_keeps_values_types_shapes_and_strings(tmp_path: Path) -> None:
    path = tmp_path / "w"
    weights.write(path, small(), {"net": "conv3-8 fc10", "classes": '["chat", "été", "猫"]'})
    tensors, metadata = weights.read(path)
    assert list(tensors) == sorted(small())
    assert metadata == {"net": "conv3-8 fc10", "classes": '["chat", "été", "猫"]'}
    for name, array in small().items():
        assert tensors[name].dtype == array.dtype
        assert tensors[name].shape == array.shape
        assert np.array_equal(tensors[name], array)
        assert tensors[name].flags.writeable


def test_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    weights.write(tmp_path / "a", small(), {"x": "1", "y": "2"})
    weights.write(tmp_path / "b", dict(reversed(small().items())), {"y": "2", "x": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_big_endian_and_strided_arrays_are_stored_alike(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    weights.write(tmp_path / "a", {"x": array.T.copy()}, {})
    weights.write(tmp_path / "b", {"x": array.T.astype(">f4", order="F")}, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_header_is_aligned(tmp_path: Path) -> None:
    for name in ("a", "ab", "abc"):
        weights.write(tmp_path / "w", {name: np.zeros(1)}, {})
        assert int.from_bytes((tmp_path / "w").read_bytes()[:8], "little") % 8 == 0


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
        ),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=6), st.text(max_size=20), max_size=3),
)
def test_random_round_trips(
    tmp_path_factory: pytest.TempPathFactory,
    tensors: dict[str, np.ndarray],
    metadata: dict[str, str],
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    weights.write(path, tensors, metadata)
    found, strings = weights.read(path)
    assert strings == metadata
    assert set(found) == set(tensors)
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_the_reference_reader_reads_it_and_its_files_are_refused_for_want_of_a_checksum(
    tmp_path: Path,
) -> None:
    reference = pytest.importorskip("safetensors", reason="safetensors is not installed")
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "w.safetensors"
    weights.write(path, small(), {"net": "fc10"})
    found = load_file(path)
    assert set(found) == set(small())
    assert all(np.array_equal(found[name], array) for name, array in small().items())
    with reference.safe_open(path, framework="numpy") as file:
        assert file.metadata()["net"] == "fc10"
        assert len(file.metadata()[weights.CHECKSUM]) == 64
    save_file({"a": np.zeros(2, np.float32)}, path)
    with pytest.raises(FormatError, match=r"the header has no 'hubel\.sha256'"):
        weights.read(path)


def test_every_flipped_byte_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "w"
    weights.write(path, {"a": np.arange(3, dtype=np.float32)}, {"net": "fc10", "q": 'a "b"\n'})
    good = path.read_bytes()
    for offset in range(len(good)):
        for mask in (0x01, 0x20, 0x80, 0x29, 0xFF):
            bad = bytearray(good)
            bad[offset] ^= mask
            refused(path, bytes(bad))


def test_every_truncation_and_any_addition_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "w"
    weights.write(path, small(), {"net": "fc10"})
    good = path.read_bytes()
    for length in range(len(good)):
        refused(path, good[:length])
    assert "1 bytes follow the last tensor" in refused(path, good + b"\0")


def entry(dtype: object = "U8", shape: object = (2,), offsets: object = (0, 2)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file ends after 0 of the first 8 bytes"),
        (b"abc", "the file ends after 3 of the first 8 bytes"),
        (b"\xff" * 16, "the header claims 18,446,744,073,709,551,615 bytes, the file has 8"),
        (file_of(b"\xff\xfe"), "the header is not JSON"),
        (file_of(b"{"), "the header is not JSON"),
        (file_of(b"[" * 100_000), "the header is not JSON"),
        (file_of(b"9" * 5_000), "the header is not JSON"),
        (file_of([]), "the header is not a JSON object"),
        (file_of({"__metadata__": []}), "'__metadata__' is not an object of strings"),
        (file_of({"__metadata__": {"a": 1}}), "'__metadata__' is not an object of strings"),
        (file_of(b'{"a":1,"a":2}'), "the header names 'a' twice"),
        (file_of(b'{"__metadata__":{"k":"1","k":"2"}}'), "the header names 'k' twice"),
        (file_of({"a": 1}), "tensor 'a' has not exactly dtype, shape and data_offsets"),
        (file_of({"a": {**entry(), "x": 1}}), "tensor 'a' has not exactly dtype, shape"),
        (file_of({"a": entry("BF17")}), "tensor 'a' has the type 'BF17', not one of BOOL F16"),
        (file_of({"a": entry(["U8"])}), "tensor 'a' has the type ['U8']"),
        (file_of({"a": entry(shape=[-2])}), "tensor 'a' has the shape [-2]"),
        (file_of({"a": entry(shape=[2.0])}), "tensor 'a' has the shape [2.0]"),
        (file_of({"a": entry(shape=[True])}), "tensor 'a' has the shape [True]"),
        (file_of({"a": entry(shape=2)}), "tensor 'a' has the shape 2"),
        (file_of({"a": entry(offsets=[0])}), "tensor 'a' has the data_offsets [0]"),
        (file_of({"a": entry(offsets=[2, 0])}), "needs 2 bytes and has -2"),
        (file_of({"a": entry("F32")}, b"12"), "(F32, shape [2]) needs 8 bytes and has 2"),
        (
            file_of({"a": entry(shape=[2**40, 2**40], offsets=[0, 2])}, b"12"),
            "needs 1,208,925,819,614,629,174,706,176 bytes and has 2",
        ),
        (
            file_of({"a": entry(shape=[0, 2**70], offsets=[0, 0])}),
            "tensor 'a' has the shape [0, 1180591620717411303424]",
        ),
        (file_of({"a": entry(shape=[1] * 100, offsets=[0, 1])}, b"1"), "tensor 'a' has the shape"),
        (file_of({"a": entry()}, b"1"), "tensor 'a' ends at byte 2 of 1"),
        (file_of({"a": entry(offsets=[1, 3])}, b"123"), "starts at byte 1 instead of 0"),
        (file_of({"a": entry(), "b": entry()}, b"12"), "'b' starts at byte 0 instead of 2"),
        (file_of({"a": entry()}, b"1234"), "2 bytes follow the last tensor"),
        (file_of({"a": entry("BOOL")}, b"\1\2"), "holds truth values other than 0 and 1"),
        (file_of({"a": entry()}, b"12"), "the header has no 'hubel.sha256'"),
        (
            file_of({"__metadata__": {"hubel.sha256": "0" * 64}}),
            "the checksum does not match the content",
        ),
    ],
)
def test_refusals_name_the_rule(tmp_path: Path, content: bytes, message: str) -> None:
    text = refused(tmp_path / "w", content)
    assert message in text
    assert "Hint: it is not a file that Hubel saved, or it was damaged since" in text


def test_arguments_that_cannot_be_stored(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="array 'a' has the type complex128, not one of BOOL F16"):
        weights.write(tmp_path / "w", {"a": np.zeros(1, complex)}, {})
    with pytest.raises(UsageError, match="the name '__metadata__' is the file format's own"):
        weights.write(tmp_path / "w", {"__metadata__": np.zeros(1)}, {})
    with pytest.raises(UsageError, match=r"the name 'hubel\.sha256' is the file format's own"):
        weights.write(tmp_path / "w", {}, {"hubel.sha256": ""})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_before_the_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "w"
    weights.write(path, small(), {"net": "old"})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        weights.write(path, small(), {"net": "new"})
    monkeypatch.undo()
    assert weights.read(path)[1] == {"net": "old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["w"]


@pytest.mark.skipif(os.name != "posix", reason="file modes and umask are POSIX")
def test_mode_follows_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        weights.write(tmp_path / "w", small(), {})
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="only POSIX folders can be flushed")
def test_file_and_folder_are_flushed_around_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def spy_replace(source: Path, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    weights.write(tmp_path / "w", small(), {})
    assert steps == ["file", "rename", "folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_long_and_odd_file_names(tmp_path: Path) -> None:
    for name in ("x" * 255, "é🙂\n", "-rf"):
        weights.write(tmp_path / name, small(), {})
        assert set(weights.read(tmp_path / name)[0]) == set(small())
