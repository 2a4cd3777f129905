"""The whole product in a hundred lines: text, check, train, look, save, load, go on. Run first."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import hubel
from hubel.cli import main
from hubel.data import load as load_data

NET = "conv3-8p1 bn relu pool2 conv3-16p1 relu pool2 drop0.2 fc"


def engines() -> list[str]:
    return ["native", "reference"]


def test_a_line_of_text_is_checked() -> None:
    report = hubel.check("conv5-10p2", input=(32, 32, 3))
    assert report.ok
    assert report.rows[0].output == (32, 32, 10)
    assert report.rows[0].parameter_formula == "(5·5·3 + 1)·10 = 760"
    bad = hubel.check("conv3-8s3 fc10", input=(7, 7, 1))
    assert not bad.ok
    assert "(7 − 3)/3 + 1 = 2.33" in str(bad.problems[0])
    with pytest.raises(hubel.NetworkError, match="does not fit"):
        hubel.Network("conv3-8s3 fc10", input=(7, 7, 1))


@pytest.mark.parametrize("engine", engines())
def test_digits_from_text_to_a_file_and_back(tmp_path: Path, engine: str) -> None:
    data = load_data("digits")
    net = hubel.Network(NET, input=(8, 8, 1), classes=10)
    choices = {"epochs": 3, "batch_size": 32, "lr": 0.01}

    model = hubel.Model(net, seed=1, engine=engine)
    history = model.fit(data, **choices)
    assert data.test is not None
    test = model.evaluate(data.test.images, data.test.labels)
    assert test["accuracy"] > 0.8
    assert history[-1].validation_accuracy is not None

    left = hubel.Model(net, seed=1, engine=engine)
    events = left.train(data, **choices)
    assert isinstance(next(events), hubel.Started)
    assert all(isinstance(event, hubel.StepDone) for event in islice(events, 10))
    events.close()
    left.save(tmp_path / "left.hubel")
    resumed = hubel.load(tmp_path / "left.hubel", engine=engine)
    resumed.fit(data, resume=True)
    for name, array in model.parameters.items():
        assert np.array_equal(array, resumed.parameters[name]), name

    few = data.test.images[:5]
    assert np.array_equal(model.predict(few), resumed.predict(few))
    assert model.activations(few)["conv1"].shape == (5, 8, 8, 8)
    loss, gradients = model.gradients(few, data.test.labels[:5])
    assert loss > 0
    assert gradients["conv1.weight"].shape == (3, 3, 1, 8)


def test_both_engines_learn_the_same_from_the_same_start() -> None:
    data = load_data("digits")
    net = hubel.Network(NET, input=(8, 8, 1), classes=10)
    losses = []
    for engine in engines():
        model = hubel.Model(net, seed=1, engine=engine)
        steps = islice(model.train(data, batch_size=64, optimizer="sgd"), 6)
        losses.append([event.loss for event in steps if isinstance(event, hubel.StepDone)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_number_of_threads_changes_no_bit() -> None:
    data = load_data("digits")
    net = hubel.Network(NET, input=(8, 8, 1), classes=10)
    trained = []
    for threads in (1, 2, 3):
        model = hubel.Model(net, seed=1, threads=threads)
        model.fit(data, epochs=1, batch_size=100)
        trained.append(model.parameters)
    for name, array in trained[0].items():
        assert all(np.array_equal(array, other[name]) for other in trained[1:]), name


def test_the_same_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--net", NET, "--epochs", "1", "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert Path(result["run"]).name == "digits-net"
    assert result["test"]["images"] > 300
    assert main(["evaluate", "runs/digits-net", "digits", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == result["test"]["accuracy"]
    assert main(["check", "conv3-8s3 fc10", "--input", "7x7x1"]) == 1
    assert main(["info", "runs/digits-net"]) == 0
    assert "8×8×1" in capsys.readouterr().out
