"""Named datasets: the one inside, and downloads from a local server with all that can go wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from hubel.data import load, named
from hubel.data.download import Resource, fetch
from hubel.data.image import read
from hubel.errors import DataError

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (40, 28, 28), np.uint8), np.arange(40, dtype=np.uint8) % 10
CIFAR = RNG.integers(0, 256, (6, 4, 3073), np.uint8)
CIFAR[..., 0] %= 10


def idx(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def cifar_archive(**more: bytes) -> bytes:
    members = {f"cifar-10-batches-bin/data_batch_{i + 1}.bin": CIFAR[i].tobytes() for i in range(5)}
    members |= {"cifar-10-batches-bin/test_batch.bin": CIFAR[5].tobytes(), **more}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


IDX = [gzip.compress(idx(a)) for a in (X, Y, X[:10], Y[:10])]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Let mnist and cifar10 be small files of the published names, and return them."""
    files = dict(zip([file.name for file in named._PUBLISHED["mnist"].files], IDX, strict=True))
    files["cifar-10-binary.tar.gz"] = cifar_archive(evil=b"x" * 10)
    for name in ("mnist", "cifar10"):
        published = named._PUBLISHED[name]
        resources = tuple(
            Resource(file.name, hashlib.md5(files[file.name]).hexdigest())
            for file in published.files
        )
        monkeypatch.setitem(named._PUBLISHED, name, replace(published, files=resources))
    return files


Server = Callable[[dict[str, bytes]], str]


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve files by name; "cut" before a name promises more bytes than come."""
    running: list[ThreadingHTTPServer] = []

    def start(files: dict[str, bytes]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[-1]
                if name not in files:
                    self.send_error(404)
                    return
                content = files[name]
                self.send_response(200)
                extra = 100 if self.path.startswith("/cut/") else 0
                self.send_header("Content-Length", str(len(content) + extra))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                return

        running.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_port}"

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def test_digits_ship_inside() -> None:
    digits = load("digits")
    assert digits.classes == tuple("0123456789")
    assert digits.test is not None
    sizes = [len(part) for part in (digits.train, digits.validation, digits.test)]
    assert sum(sizes) == 1797
    assert len(digits.test) == 359
    assert digits.train.images.shape[1:] == (8, 8, 1)
    assert digits.train.images.max() == 255
    assert digits.train.images.min() == 0
    assert digits.notes[0] == (
        "digits has no test set of its own: 359 of its 1,797 images, the same in every run, are "
        "kept for testing."
    )
    other = load("digits", seed=7, val_fraction=0.5).test
    assert other is not None
    assert np.array_equal(other.images, digits.test.images)
    assert np.bincount(digits.test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]


def test_digits_are_those_that_scikit_learn_carries() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    theirs = datasets.load_digits()
    x, y, x_test, y_test = named._read_digits()
    ours = np.concatenate([x, x_test])[..., 0]
    expected = np.rint(theirs.images * 255 / 16 + 1e-9).astype(np.uint8)
    assert sorted(i.tobytes() for i in ours) == sorted(i.tobytes() for i in expected)
    lookup = {i.tobytes(): label for i, label in zip(expected, theirs.target, strict=True)}
    assert [lookup[i.tobytes()] for i in ours] == np.concatenate([y, y_test]).tolist()


def test_digits_in_another_size_and_depth() -> None:
    digits = load("digits", size=(16, 12), channels=3)
    assert digits.train.images.shape[1:] == (16, 12, 3)
    plain = load("digits")
    assert np.array_equal(digits.train.images[5], read(plain.train.images[5], (16, 12), 3))


def test_mnist_is_downloaded_once(
    small: dict[str, bytes], server: Server, cache_folder: Path
) -> None:
    seen: list[tuple[int, int]] = []
    address = server(small)
    mnist = named.load_named(
        "mnist", mirror=address, val_fraction=0, progress=lambda *done: seen.append(done)
    )
    assert np.array_equal(mnist.train.images[..., 0], X)
    assert np.array_equal(mnist.train.labels, Y)
    assert mnist.test is not None
    assert np.array_equal(mnist.test.images[..., 0], X[:10])
    assert seen[-1] == (len(IDX[3]), len(IDX[3]))
    again = named.load_named("mnist", mirror="http://127.0.0.1:9", val_fraction=0)
    assert again.fingerprint == mnist.fingerprint
    assert {path.name for path in (cache_folder / "downloads" / "mnist").iterdir()} == {
        name for name in small if "idx" in name
    }


def test_cifar10_is_read_from_its_archive(small: dict[str, bytes], server: Server) -> None:
    data = named.load_named("cifar10", mirror=server(small), val_fraction=0)
    records = CIFAR[:5].reshape(-1, 3073)
    assert data.classes[:2] == ("airplane", "automobile")
    assert np.array_equal(data.train.labels, records[:, 0])
    red = records[:, 1:1025].reshape(-1, 32, 32)
    assert np.array_equal(data.train.images[..., 0], red)
    assert data.test is not None
    assert np.array_equal(data.test.images[..., 2], CIFAR[5][:, 2049:].reshape(-1, 32, 32))


def test_original_files_are_found_in_a_data_dir(small: dict[str, bytes], tmp_path: Path) -> None:
    for place in ("mnist", "", "MNIST/raw"):
        folder = tmp_path / place.replace("/", "_") / place
        folder.mkdir(parents=True, exist_ok=True)
        for name in list(small)[:4]:
            content = small[name]
            if place == "mnist":
                name, content = name.removesuffix(".gz"), gzip.decompress(content)
            (folder / name).write_bytes(content)
        found = load("mnist", data_dir=tmp_path / place.replace("/", "_"), val_fraction=0)
        assert np.array_equal(found.train.images[..., 0], X)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for index in range(6):
        name = f"data_batch_{index + 1}.bin" if index < 5 else "test_batch.bin"
        (tmp_path / "cifar-10-batches-bin" / name).write_bytes(CIFAR[index].tobytes())
    assert len(load("cifar10", data_dir=tmp_path, val_fraction=0).train) == 20


def test_class_folders_are_found_in_a_data_dir(
    images: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = images("mnist/train/0/a", "mnist/train/1/b", "mnist/test/1/c", channels=1)
    for data_dir in (root, root / "mnist"):
        found = load("mnist", data_dir=data_dir)
        assert found.train.files == ("train/0/a", "train/1/b")
    images("cifar10/cat/a", "cifar10/dog/b")
    assert load("cifar10", data_dir=root, val_fraction=0).classes == ("cat", "dog")
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", data_dir=root)
    assert str(caught.value) == (
        f"{root}: fashion-mnist is not here: neither train-images-idx3-ubyte.gz, "
        "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz nor a "
        "folder fashion-mnist/train of class folders. "
        "Hint: give the folder that holds them, or none to download them."
    )
    # A path, even a relative one with the name of a dataset, is the folder.
    monkeypatch.chdir(root)
    assert load("./mnist").name == "mnist"
    assert load(Path("mnist")).train.files == ("train/0/a", "train/1/b")


def test_failing_downloads_say_why_and_leave_nothing(
    small: dict[str, bytes], server: Server, cache_folder: Path
) -> None:
    name = "train-images-idx3-ubyte.gz"
    cases = {
        server({}): "/train-images-idx3-ubyte.gz: the server answers 404 Not Found",
        server({name: small[name][:-1] + b"x"}): "its MD5 is ",
        server({name: small[name][:50]}) + "/cut": "it ended after 50 of 150 bytes",
        "http://127.0.0.1:9": "Connection refused",
        "nonsense": "unknown url type",
    }
    for mirror, message in cases.items():
        with pytest.raises(DataError) as caught:
            named.load_named("mnist", mirror=mirror)
        text = str(caught.value)
        assert text.startswith("mnist: train-images-idx3-ubyte.gz could not be downloaded; ")
        assert message in text
        assert "give their folder with --data-dir (data_dir=)" in text
        assert [path for path in cache_folder.rglob("*") if path.is_file()] == []


def test_the_next_address_is_tried(small: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    resource = named._PUBLISHED["mnist"].files[0]
    good = server(small)
    path = fetch(resource, ["http://127.0.0.1:9", good + "/"], tmp_path)
    assert path.read_bytes() == small[resource.name]


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DataError, match="timed out"):
            fetch(Resource("a", "0" * 32), [address], tmp_path, timeout=0.1)


def test_damaged_files_in_a_data_dir_are_refused(small: dict[str, bytes], tmp_path: Path) -> None:
    for name in list(small)[:4]:
        (tmp_path / name).write_bytes(small[name])
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(IDX[3] + b"x")
    with pytest.raises(DataError, match=r"its MD5 is [0-9a-f]{32}, the published one of t10k-"):
        load("mnist", data_dir=tmp_path)
    for name, content in zip(list(small)[:4], (X, Y, X, Y), strict=True):
        (tmp_path / name).unlink()
        (tmp_path / name.removesuffix(".gz")).write_bytes(idx(content))
    for bad in (b"", idx(X)[:-1], idx(X) + b"x", idx(Y), b"\0\0\x08\x03" + b"\xff" * 12):
        (tmp_path / "train-images-idx3-ubyte").write_bytes(bad)
        with pytest.raises(DataError, match="it is not an IDX file of 3 dimensions"):
            load("mnist", data_dir=tmp_path)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for index in range(1, 6):
        (tmp_path / f"cifar-10-batches-bin/data_batch_{index}.bin").write_bytes(b"x" * 3073)
    with pytest.raises(DataError, match="it cannot be read"):
        load("cifar10", data_dir=tmp_path)
    (tmp_path / "cifar-10-batches-bin/test_batch.bin").write_bytes(b"x" * 3072)
    with pytest.raises(DataError, match=r"test_batch\.bin has 3,072 bytes, not up to 10,000 rec"):
        load("cifar10", data_dir=tmp_path)


def test_published_checksums_have_the_form_of_one() -> None:
    files = [file for published in named._PUBLISHED.values() for file in published.files]
    assert len({file.md5 for file in files}) == len(files) == 9
    assert all(len(bytes.fromhex(file.md5)) == 16 for file in files)


def test_what_is_done_to_all_images_is_told_as_of_folders() -> None:
    assert load("digits", size=(16, 16), channels=3).conversions == {
        "grey to colour": 1797,
        "resized": 1797,
    }
    assert load("digits").conversions == {}
