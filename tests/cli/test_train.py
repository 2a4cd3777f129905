"""`hubel train`: what it says, what it leaves, and how its mistakes are told."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from hubel import __version__
from hubel.data import load as load_data
from hubel.model import load
from hubel.train.recipes import recipe
from tests.cli.conftest import Said
from tests.train import toy

Hubel = Callable[..., Said]
FLAGS = ("--engine", "reference", "--net", toy.NET, "--epochs", 2, "-b", 16)
DIVERGING = ("--net", "fc8 fc", "--lr", 1e200, "--opt", "sgd", "-b", 8)


def test_the_first_lines_say_all_that_matters(hubel: Hubel, folder: Path) -> None:
    said = hubel("train", folder, *FLAGS)
    assert said.status == 0
    lines = said.err.splitlines()
    assert lines[0] == f"Hubel {__version__}, engine reference (NumPy, float64), 1 thread"
    assert re.match(
        r"Data: shapes, \d+ training \+ \d+ validation \+ 12 test images of 6×6×1 in 3 classes, "
        r"1 unreadable or left out",
        lines[1],
    )
    assert "left out: train/left/broken.png: " in said.err
    assert "Net:  net, 6 layers, 159 parameters, 1,404 multiply-adds an image" in lines
    assert f"Run:  {Path.cwd() / 'runs' / 'shapes-net'}" in lines
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 2
    assert re.fullmatch(
        r"epoch 1/2  loss \d\.\d{4}  accuracy +\d+\.\d\d %  val loss \d\.\d{4}  "
        r"accuracy +\d+\.\d\d %  lr 0\.00\d+ +[\d,.k ]+ images/s +\d\.\d s  best",
        epochs[0],
    )


def test_the_last_lines_have_intervals_beside_the_baseline(hubel: Hubel, folder: Path) -> None:
    lines = hubel("train", folder, *FLAGS, "-q").out.splitlines()
    figures = (
        r"\d+\.\d\d % of \d+ {} images \(95 % interval \d+\.\d to \d+\.\d; "
        r"the most frequent class alone \d\d\.\d\d %\)"
    )
    assert re.fullmatch(r"Best: epoch \d, " + figures.format("validation"), lines[0])
    linear = r"      a linear classifier \d+\.\d\d % of {} \(95 % interval \d+\.\d to \d+\.\d\); "
    linear += r"100 epochs on 42 training images of 6×6"
    assert re.fullmatch(linear.format(6), lines[1])
    assert re.fullmatch(r"Last: epoch 2, " + figures.format("validation"), lines[2])
    assert re.fullmatch(r"Test: " + figures.format("test") + ", by the best model", lines[3])
    assert lines[5] == "Watched: nothing was off"
    assert re.fullmatch(
        r"Foreseen: [\d.e-]+ s an epoch, was [\d.e-]+ s; [\d.]+ MB memory, was [\d.]+ MB; "
        r"[\d.]+ kB file, was [\d.]+ kB",
        lines[6],
    )
    assert lines[7] == f"Saved in {Path.cwd() / 'runs' / 'shapes-net'}"


def test_what_recipes_need_has_its_options(hubel: Hubel, folder: Path) -> None:
    choices = ("--average", 0.9, "--clip-norm", 0.5, "--optimizer", "muon", "--bias-lr-factor", 2)
    others = ("--freeze", "bn1.weight,bn1.bias", "--whiten", "--tta", "flip", "--init", "dirac")
    net = ("--net", "conv2-8 gelu conv3-6p1 bn gelu fc scale0.5", "--schedule", "triangle")
    said = hubel("train", folder, *FLAGS, *net, *choices, *others)
    assert said.status == 0
    views = "Scores are the mean over 2 views of each image (--tta flip)"
    assert views in said.out.splitlines()
    run = Path("runs/shapes-net")
    kept = json.loads((run / "settings.json").read_text())["training"]
    assert (kept["average"], kept["clip_norm"], kept["bias_lr_factor"]) == (0.9, 0.5, 2.0)
    assert (kept["freeze"], kept["whiten"], kept["tta"]) == (
        ["bn1.weight", "bn1.bias"],
        True,
        "flip",
    )
    model = load(run / "best.hubel", engine="reference")
    assert not model.parameters["bn1.bias"].any()
    assert model.tta == "flip"
    scored = hubel("evaluate", run, folder, "--engine", "reference", "--tta", "none", "--json")
    assert json.loads(scored.out)["tta"] == "none"
    again = hubel("train", "--resume", run, "--epochs", 3, "--freeze", "bn1.weight,bn1.bias")
    assert again.status == 0


def test_quiet_says_nothing_but_the_result_and_json_is_json(hubel: Hubel, folder: Path) -> None:
    said = hubel("train", folder, *FLAGS, "--quiet", "--json", "--name", "mine", "--out", "there")
    assert said.err == ""
    result = json.loads(said.out)
    assert result["run"] == str(Path.cwd() / "there" / "mine")
    assert result["test"]["images"] == 12
    assert result["interrupted"] is False
    names = {path.name for path in Path("there/mine").iterdir()}
    assert names == {
        *("settings.json", "history.csv", "events.jsonl", "best.hubel", "last.hubel"),
        *("confusion.csv", "confusion-test.csv", "summary.json", "preflight.json", "rates.svg"),
    }
    assert json.loads(Path("there/mine/summary.json").read_text()) == result


def test_a_run_is_never_overwritten(hubel: Hubel, folder: Path) -> None:
    for _ in range(2):
        hubel("train", folder, *FLAGS, "-q")
    assert sorted(path.name for path in Path("runs").iterdir()) == ["shapes-net", "shapes-net-2"]


def test_every_flag_reaches_the_settings(hubel: Hubel, folder: Path) -> None:
    flags = {
        "--optimizer": "rmsprop",
        "--lr": 0.002,
        "--momentum": 0.5,
        "--weight-decay": 1e-4,
        "--l1": 1e-5,
        "--label-smoothing": 0.1,
        "--schedule": "one-cycle",
        "--warmup-epochs": 0.5,
        "--preprocess": "centre",
        "--crop": 1,
        "--border": "reflect",
        "--rotate": 5.0,
        "--scale": 0.1,
        "--colour": 0.2,
        "--cutout": 2,
        "--mixup": 0.2,
        "--cutmix": 1.0,
        "--class-weights": "balanced",
        "--val-fraction": 0.25,
        "--seed": 7,
        "--patience": 5,
    }
    pairs = [part for pair in flags.items() for part in pair]
    said = hubel(
        "train", folder, *FLAGS, *pairs, "--flip", "--time", "5m", "-q", "--init", "xavier"
    )
    assert said.status == 0
    kept = json.loads(Path("runs/shapes-net/settings.json").read_text())
    training = kept["training"]
    for flag, value in flags.items():
        assert training[flag.removeprefix("--").replace("-", "_")] == value, flag
    assert (training["flip"], training["time"], training["epochs"]) == (True, 300.0, 2)
    assert (training["batch_size"], training["nesterov"]) == (16, False)
    assert kept["initialisation"] == "xavier"
    assert load("runs/shapes-net/last.hubel", engine="reference").seed == 7


def test_without_a_net_one_is_chosen_that_suits(hubel: Hubel, folder: Path) -> None:
    said = hubel(
        "train", folder, "--epochs", 1, "--engine", "reference", "--size", "8x12", "--no-preflight"
    )
    assert "Net:  default, 15 layers" in said.err
    assert "images of 8×12×1" in said.err
    assert Path("runs/shapes/best.hubel").exists()


def test_a_resumed_run_ends_as_one_that_never_stopped(hubel: Hubel, folder: Path) -> None:
    flags = (*FLAGS, "--schedule", "constant")
    hubel("train", folder, *flags, "--name", "whole", "--epochs", 3, "-q")
    hubel("train", folder, *flags, "--name", "short", "-q")
    said = hubel("train", "--resume", "runs/short", "--epochs", 3)
    assert said.status == 0
    assert "Going on after epoch 2" in said.err
    whole, short = (load(f"runs/{n}/last.hubel", engine="reference") for n in ("whole", "short"))
    assert toy.bits(whole) == toy.bits(short)
    confusions = [Path(f"runs/{n}/confusion.csv").read_text() for n in ("whole", "short")]
    assert confusions[0] == confusions[1]
    assert len(Path("runs/short/history.csv").read_text().splitlines()) == 4


def test_a_run_in_bfloat16_says_so_and_is_taken_up_in_it(hubel: Hubel, folder: Path) -> None:
    flags = ("--net", "conv3-16p1 relu conv3-16p1 relu pool2 fc", "--precision", "bfloat16")
    for name, epochs in (("whole", 3), ("short", 2)):
        said = hubel(
            "train", folder, *flags, "--schedule", "constant", "--epochs", epochs, "--name", name
        )
        assert ", bfloat16), " in said.err
    assert json.loads(Path("runs/whole/settings.json").read_text())["precision"] == "bfloat16"
    said = hubel("train", "--resume", "runs/short", "--epochs", 3)
    assert ", bfloat16), " in said.err
    whole, short = (load(f"runs/{n}/last.hubel", engine="reference") for n in ("whole", "short"))
    assert toy.bits(whole) == toy.bits(short)
    said = hubel("train", folder, "--precision", "int4")
    assert said.status == 2
    assert "there is no precision 'int4'" in said.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--patience", 1, "--lr", 0), r"Stopped after epoch 2: no new best since epoch 1\n"),
        (("--time", "0.001s"), r"Stopped after epoch \d: the time is up; --resume goes on\n"),
    ],
)
def test_a_run_that_stops_early_says_why(
    hubel: Hubel, folder: Path, flags: tuple[object, ...], message: str
) -> None:
    said = hubel("train", folder, *FLAGS[:2], "--net", "fc", "--epochs", 9, *flags)
    assert said.status == 0
    assert re.search(message, said.err)
    assert "Best: " in said.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--lr", 0.5), "a resumed run keeps its choices: it began with lr 0.001, not lr 0.5"),
        (
            ("--net", "fc"),
            "a resumed run keeps its data, net, engine and precision, but --net was given",
        ),
        (("--epochs", 1), "the run has 2 epochs behind it already"),
    ],
)
def test_a_resumed_run_keeps_its_choices(
    hubel: Hubel, folder: Path, flags: tuple[object, ...], message: str
) -> None:
    hubel("train", folder, *FLAGS, "-q")
    said = hubel("train", "--resume", "runs/shapes-net", *flags)
    assert said.status == 2
    assert message in said.err
    (folder / "train" / "left" / "000.png").unlink()
    assert "are not those of the run" in hubel("train", "--resume", "runs/shapes-net").err


def test_a_refused_resumption_leaves_the_settings_of_a_run_under_way(
    hubel: Hubel, folder: Path
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="this system does not lock files")
    hubel("train", folder, *FLAGS, "-q")
    kept = Path("runs/shapes-net/settings.json")
    before = kept.read_bytes()
    with Path("runs/shapes-net/events.jsonl").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        said = hubel("train", "--resume", "runs/shapes-net", "--epochs", 9)
    assert "another process is training in this run folder" in said.err
    assert kept.read_bytes() == before
    hubel("train", "--resume", "runs/shapes-net", "--epochs", 3)
    assert json.loads(kept.read_text())["training"]["epochs"] == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"engine": 1, "net": {}, "data": {"a": 1}}'])
def test_a_run_folder_with_broken_settings_is_refused(
    hubel: Hubel, tmp_path: Path, content: str
) -> None:
    (tmp_path / "settings.json").write_text(content)
    said = hubel("train", "--resume", tmp_path)
    assert said.status == 2
    assert "these are no settings of a run: " in said.err


def test_what_check_warns_of_is_told_before_training(hubel: Hubel, folder: Path) -> None:
    said = hubel("train", folder, *FLAGS[:2], "--net", "conv3-4 conv3-4 fc", "--epochs", 1)
    assert "      warning: " in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "hubel: there is nothing to train on. Hint: name a folder of class folders"),
        (("train", "nowhere"), "nowhere: "),
        (("train", "digits", "--net", "conv3-8 rleu"), "rleu"),
        (("train", "digits", "--net", "conv9-3 fc"), "(8 − 9)/1 + 1 = 0"),
        (
            ("train", "digits", "--opt", "sdg"),
            "optimizer (--optimizer) is 'sdg', not one of sgd, rmsprop",
        ),
        (("train", "digits", "--epochs", "many"), "Invalid value for '--epochs'"),
        (("train", "digits", "--learning-rate", 1), "No such option"),
        (
            ("train", "digits", "--time", "soon"),
            "--time soon is no time. Hint: write 30s, 10m or 2h",
        ),
        (("train", "digits", "--size", "0"), "--size 0 is no size"),
        (("train", "digits", "--engine", "naive"), "there is no engine 'naive'"),
        (("train", "digits", "--net", "fc7"), "7 scores, but there are 10 classes"),
        (("train", "--resume", "runs/none"), "there is no run here: no such file or directory"),
    ],
)
def test_mistakes_are_a_paragraph_and_exit_2(
    hubel: Hubel, arguments: tuple[object, ...], message: str
) -> None:
    said = hubel(*arguments)
    assert said.status == 2
    assert said.out == ""
    assert message in said.err
    assert said.err.startswith("hubel: ")
    assert "Traceback" not in said.err
    assert not Path("runs").exists()


def test_a_diverging_run_says_where_and_keeps_what_was_good(hubel: Hubel, folder: Path) -> None:
    said = hubel("train", folder, *FLAGS[:2], *DIVERGING)
    assert said.status == 2
    assert re.search(
        r"hubel: epoch \d, step \d: the loss is \w+: fc2 is the first layer whose output is not "
        r"finite. Hint: lower the learning rate",
        said.err,
    )
    assert load("runs/shapes-net/last.hubel", engine="reference")


def test_a_recipe_says_the_command_that_it_is_short_for(hubel: Hubel, folder: Path) -> None:
    said = hubel("train", folder, "--recipe", "fast", "--epochs", 2, "--no-preflight")
    lines = said.err.splitlines()
    command = lines[lines.index("Recipe fast, which is short for:") + 1].strip()
    assert f"Run:  {Path.cwd() / 'runs' / 'shapes-fast'}" in lines
    net = recipe("fast", load_data(folder)).net
    assert command.startswith(f"hubel train shapes --net '{' '.join(net.split())}' --epochs 2 ")
    for option in ("--optimizer muon", "--whiten", "--initialisation dirac", "--precision auto"):
        assert option in command
    program, *arguments = shlex.split(command)
    assert program == "hubel"
    assert hubel(*arguments, "--no-preflight", "--name", "again").status == 0
    first, again = (load(Path("runs") / name / "best.hubel") for name in ("shapes-fast", "again"))
    for name, array in first.parameters.items():
        assert (array == again.parameters[name]).all(), name


def test_a_recipe_trains_the_network_that_is_named(hubel: Hubel, folder: Path) -> None:
    said = hubel("train", folder, "--recipe", "best", "--net", "fc8 relu fc", "-e", 1, "--lr", 0.01)
    assert said.status == 0
    assert "--net 'fc8 relu fc' --epochs 1 " in said.err
    assert "--lr 0.01" in said.err
    assert "--whiten" not in said.err


def test_a_recipe_that_there_is_not_is_told_before_images_are_read(hubel: Hubel) -> None:
    said = hubel("train", "nowhere", "--recipe", "slow")
    assert said.status == 2
    assert said.err == "hubel: recipe (--recipe) is 'slow', not one of fast, best\n"
