"""`hubel check | evaluate | predict | info`, and what all commands share."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hubel import __file__ as hubel_source
from hubel import __version__
from hubel.cli import main
from hubel.graph.check import check as hubel_check
from tests.cli.conftest import Said, write_dataset, write_folder
from tests.train import toy

Hubel = Callable[..., Said]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset and a run on it."""
    root = tmp_path_factory.mktemp("trained")
    shapes = write_dataset(root / "shapes")
    flags = ("--net", "conv3-4p1 relu pool2 fc", "--epochs", "8", "--lr", "0.05", "-b", "8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(root / "cache"))
        where = ("--out", str(root / "runs"), "--engine", "reference", "-q")
        assert main(["train", str(shapes), *flags, *where]) == 0
    return root


@pytest.fixture
def run(trained: Path) -> Path:
    return trained / "runs" / "shapes-net"


@pytest.fixture
def folder(trained: Path) -> Path:
    return trained / "shapes"


def test_check_prints_the_table_and_exits_1_for_problems(hubel: Hubel) -> None:
    said = hubel("check", "conv5-10p2 relu fc10", "--input", "32x32x3")
    assert said.status == 0
    assert "(32 + 2·2 − 5)/1 + 1 = 32" in said.out
    assert "(5·5·3 + 1)·10 = 760" in said.out
    bad = hubel("check", "conv3-8s3 fc", "--input", "7x7x3", "--classes", 10)
    assert bad.status == 1
    assert "(7 − 3)/3 + 1 = 2.33" in bad.out
    assert hubel("check", "conv3-8s3 fc10", "--input", "7x7x3", "--fit", "floor").status == 0


def test_check_prints_a_line_a_layer_where_no_terminal_limits_it(
    hubel: Hubel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    out = hubel("check", "vgg16").out
    report = hubel_check("vgg16")
    lines = out.splitlines()
    for row in report.rows:
        (line,) = [one for one in lines if one.startswith(f"{row.name} ")]
        assert row.formula in line
        assert row.parameter_formula in line
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, hubel("check", "vgg16").out.splitlines())) <= 80


def test_check_prints_the_plan_of_a_training_step(hubel: Hubel) -> None:
    said = hubel("check", "conv3-4p1 relu fc10", "--input", "8x8x1", "--plan", "-b", "16")
    assert said.status == 0
    assert said.out.startswith("15 calls for a batch of 16\n   0  pack_maps")
    assert re.search(r"bytes: arena [\d,]+, store [\d,]+", said.out)
    assert re.search(r"relu1 +\|.*━.*\|", said.out)


def test_check_as_json(hubel: Hubel) -> None:
    report = json.loads(hubel("check", "lenet5", "--json").out)
    assert report["ok"] is True
    assert report["input"] == [28, 28, 1]
    assert report["training"]["total"] > 0
    bad = json.loads(hubel("check", "conv3-8s3", "--input", "7x7x3", "--json").out)
    assert (bad["ok"], bad["training"]) == (False, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "fc10"), "the size of the images is not known. Hint: give it: --input 32x32x3"),
        (
            ("check", "fc10", "--input", "32x32"),
            "--input 32x32 is no size. Hint: write HEIGHTxWIDTH",
        ),
        (("check", "fc10", "--input", "9x9x1", "--fit", "loose"), "fit must be"),
        (("check", "gone.hub"), "gone.hub: there is no such file"),
        (("info", "gone.hubel"), "gone.hubel: the model cannot be read: no such file or directory"),
        (("evaluate", "gone", "digits"), "gone: the model cannot be read"),
        (("evaluate",), "Missing argument 'model'"),
        (("frobnicate",), "No such command 'frobnicate'"),
    ],
)
def test_mistakes_are_told_in_words(hubel: Hubel, arguments: tuple[str, ...], message: str) -> None:
    said = hubel(*arguments)
    assert said.status == 2
    assert message in said.err
    assert said.out == ""


def test_version(hubel: Hubel) -> None:
    assert hubel("--version") == Said(0, f"hubel {__version__}\n", "")


def test_no_argument_is_answered_with_the_help(hubel: Hubel) -> None:
    said = hubel()
    assert (said.status, said.out) == (2, "")
    assert all(
        f"  {name} " in said.err for name in ("check", "train", "evaluate", "predict", "info")
    )


def test_the_list_of_commands_cuts_no_line_short(hubel: Hubel) -> None:
    listed = hubel("--help").out.partition("Commands:")[2]
    assert "check            Check a network: sizes, cost, and every mistake." in listed
    assert "..." not in listed


def test_help_is_data(hubel: Hubel) -> None:
    said = hubel("train", "--help")
    assert (said.status, said.err) == (0, "")
    assert "sgd, rmsprop, adam, adamw or muon. [adam]" in said.out


def test_python_m_hubel_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "hubel", "-V"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"hubel {__version__}\n")


def test_evaluate_takes_the_test_split_and_names_classes(
    hubel: Hubel, run: Path, folder: Path
) -> None:
    said = hubel("evaluate", run, folder, "--engine", "reference")
    assert said.status == 0
    assert " of 12 test images (95 % interval " in said.out
    assert [line.split()[0] for line in said.out.splitlines()[2:]] == list(toy.NAMES)
    found = json.loads(hubel("evaluate", run, folder, "--engine", "reference", "--json").out)
    assert found["accuracy"] == json.loads((run / "summary.json").read_text())["test"]["accuracy"]


def test_evaluate_finds_the_validation_images_of_the_training_again(
    hubel: Hubel, run: Path, folder: Path
) -> None:
    flags = ("--split", "val", "--engine", "reference", "--json", "-q")
    found = json.loads(hubel("evaluate", run, folder, *flags).out)
    best = json.loads((run / "summary.json").read_text())["best"]
    assert (found["images"], found["correct"]) == (best["images"], best["correct"])


def test_evaluate_scores_no_training_image_unasked(hubel: Hubel, run: Path, tmp_path: Path) -> None:
    part = write_folder(tmp_path / "part", 60, toy.NAMES, seed=2)
    flags = ("--engine", "reference", "-q")
    assert " of 6 validation images (95 % interval " in hubel("evaluate", run, part, *flags).out
    said = hubel("evaluate", run, part, *flags, "--split", "all")
    assert " of 60 images, training images included (95 % interval " in said.out


def test_classes_are_matched_by_name_not_by_place(hubel: Hubel, run: Path, tmp_path: Path) -> None:
    # Without "left" the folders' own numbers are shifted: middle is 0, right is 1.
    part = write_folder(tmp_path / "part", 60, toy.NAMES, seed=2)
    shutil.rmtree(part / "left")
    flags = ("--split", "all", "--engine", "reference", "--json", "-q")
    found = json.loads(hubel("evaluate", run, part, *flags).out)
    assert found["split"] == "all"
    assert found["images"] == 40
    assert found["accuracy"] > 0.9
    assert found["per_class"]["left"] is None


def test_classes_that_the_model_does_not_have_are_listed(
    hubel: Hubel, run: Path, tmp_path: Path
) -> None:
    other = write_folder(tmp_path / "other", 9, ("left", "top", "bottom"))
    said = hubel("evaluate", run, other, "--engine", "reference", "-q")
    assert said.status == 2
    assert (
        "the model has no class bottom, top. Hint: its classes are left, middle, right" in said.err
    )


def test_predict_names_classes_with_their_probability(
    hubel: Hubel, run: Path, folder: Path
) -> None:
    image = folder / "test" / "middle" / "001.png"
    said = hubel(
        "predict", run, image, folder / "test" / "left", "--engine", "reference", "--top", 2
    )
    lines = said.out.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"image 1/5 .*001.png: 6x6 middle [01]\.\d\d, \w+ 0\.\d\d", lines[0])
    assert all(": 6x6 left 0." in line or ": 6x6 left 1." in line for line in lines[1:])


def test_predict_as_json(hubel: Hubel, run: Path, folder: Path) -> None:
    image = folder / "test" / "middle" / "001.png"
    (found,) = json.loads(hubel("predict", run, image, "--engine", "reference", "--json").out)
    assert (found["image"], found["height"], found["width"]) == (str(image), 6, 6)
    assert next(iter(found["classes"])) == "middle"
    assert sum(found["classes"].values()) == pytest.approx(1)


def test_images_that_cannot_be_read_are_named(hubel: Hubel, run: Path, folder: Path) -> None:
    broken = folder / "train" / "left" / "broken.png"
    good = folder / "test" / "left" / "000.png"
    said = hubel("predict", run, broken, good, "--engine", "reference")
    assert said.status == 2
    assert said.out.startswith(f"image 1/2 {good}: ")
    assert said.err.startswith(f"hubel: {broken}: ")
    listed = json.loads(hubel("predict", run, broken, good, "--engine", "reference", "--json").out)
    assert [entry["image"] for entry in listed] == [str(broken), str(good)]
    assert "it cannot be decoded" in listed[0]["error"] or "damaged" in listed[0]["error"]
    assert "classes" in listed[1]
    alone = hubel("predict", run, broken, "--engine", "reference")
    assert (alone.status, alone.out) == (2, "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_named_and_the_rest_predicted(
    hubel: Hubel, run: Path, folder: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    good = folder / "test" / "left" / "000.png"
    said = hubel("predict", run, "gone.png", good, pipe, good, "--engine", "reference")
    assert said.status == 2
    assert [line.split()[1] for line in said.out.splitlines()] == ["1/4", "2/4"]
    assert said.err.splitlines() == [
        "hubel: gone.png: there is no such file",
        f"hubel: {pipe}: it is not a regular file",
    ]


def test_other_files_in_a_folder_are_passed_over(
    hubel: Hubel, run: Path, folder: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(folder / "test" / "left", mixed)
    (mixed / "0.JPEG").write_bytes((mixed / "000.png").read_bytes())
    for name in ("README.md", "notes.txt", "LICENSE"):
        (mixed / name).write_text("no image")
    said = hubel("predict", run, mixed, "--engine", "reference")
    assert (said.status, said.err) == (0, "")
    assert len(said.out.splitlines()) == 5
    (mixed / "phone.heic").write_bytes(b"....ftypheic....")
    said = hubel("predict", run, mixed, "--engine", "reference")
    assert said.status == 2
    assert "phone.heic: it is HEIC or a video" in said.err
    for file in mixed.iterdir():
        file.unlink()
    assert "there is no image" in hubel("predict", run, mixed).err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_a_file_name_in_no_encoding_can_be_shown(
    hubel: Hubel, run: Path, folder: Path, tmp_path: Path
) -> None:
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    shutil.copy(folder / "test" / "left" / "000.png", image)
    assert "caf\\udce9.png: 6x6 left" in hubel("predict", run, image, "--engine", "reference").out


def test_info_tells_what_a_model_is(hubel: Hubel, run: Path) -> None:
    said = hubel("info", run)
    assert said.status == 0
    assert "net            conv3-4p1 relu pool2 fc\n" in said.out
    assert "classes        3: left, middle, right" in said.out
    assert "preprocessing  normalise, mean [0." in said.out
    assert "parameters     151, begun as he, seed 0" in said.out
    facts = json.loads(hubel("info", run / "last.hubel", "--json").out)
    assert facts["resumable"] is True
    assert facts["training"]["lr"] == 0.05
    assert facts["bytes"] == (run / "last.hubel").stat().st_size


def test_a_reader_that_goes_away_is_no_error(hubel: Hubel, run: Path) -> None:
    command = f"{sys.executable} -m hubel check lenet5 --json | head -c 1 >/dev/null"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_an_interrupt_during_the_imports_shows_no_traceback(tmp_path: Path) -> None:
    # A module of the command's own imports that is interrupted while it is read.
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    source = Path(hubel_source).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "hubel", "-V"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(source)))},
    )
    assert (done.returncode, done.stderr) == (130, "hubel: interrupted\n")


def test_collapse_shows_the_one_layer_and_saves_a_trained_model(
    hubel: Hubel, run: Path, folder: Path, tmp_path: Path
) -> None:
    said = hubel("collapse", "conv3-4 conv3-5 fc7", "--input", "8x8x2")
    assert said.status == 0
    assert "conv1, conv2 and fc1 = fc1: conv3-4 conv3-5 fc7 = fc7\n" in said.out
    assert re.search(r"8 random images: \d\.\de-1\d in float64, \d\.\de-0\d as kept", said.out)
    said = hubel("collapse", "conv3-4 relu fc2", "--input", "8x8x2", "--out", "x.hubel")
    assert (said.status, "a network without weights" in said.err) == (2, True)
    said = hubel("collapse", run, "--input", "8x8x2")
    assert (said.status, "says its own input" in said.err) == (2, True)
    shapes = str(folder)
    flags = ("--net", "conv3-4p1 bn conv3-4 relu fc", "--epochs", "1", "-q", "--name", "linear")
    assert hubel("train", shapes, *flags).status == 0
    image = folder / "test" / "left"
    said = hubel("collapse", "runs/linear", image, "--out", "one.hubel", "--json")
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert found["merged"][0]["layers"] == ["conv1", "bn1", "conv2"]
    assert found["difference"] < 1e-12
    assert found["images"] == len(list(image.glob("*.png")))
    assert hubel("evaluate", "one.hubel", shapes, "-q").status == 0


def test_activations_and_initialisations_print_draw_and_give_json(
    hubel: Hubel, folder: Path, tmp_path: Path
) -> None:
    flags = ("--net", "conv3-4p1 relu pool2 fc", "--steps", "3", "--out", "a.png")
    said = hubel("activations", folder, *flags)
    assert said.status == 0, said.err
    assert said.out.splitlines()[0].endswith("loss from step 1 to 3")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(hubel("activations", folder, *flags[:4], "--json").out)
    assert [row["net"] for row in found["functions"]][6] == "conv3-8p1 maxout2 pool2 fc"
    said = hubel("initialisations", folder, "--layers", "conv", "--out", "i.svg")
    assert said.status == 0, said.err
    assert "vanishes: at layer " in said.out
    assert (tmp_path / "i.svg").read_text(encoding="utf-8").startswith("<svg")
    for arguments, message in (
        (("activations",), "there are no images"),
        (("activations", folder, "--out", "a.pdf"), "a picture is .png or .svg"),
        (("initialisations", folder, "--out", "no/i.svg"), "there is no such folder"),
        (("initialisations", folder, "--layers", "bn"), "the layers are 'bn'"),
    ):
        said = hubel(*arguments)
        assert (said.status, message in said.err) == (2, True), said.err
