"""The model as a Python user meets it: shapes, names, gradients, and what mistakes are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hubel
from hubel.data import split_arrays
from hubel.errors import DataError, UsageError
from hubel.model import Model
from hubel.network import Network
from tests.train import toy

X, Y = toy.images()


def test_the_public_names_are_sorted_and_all_there() -> None:
    assert list(hubel.__all__) == sorted(hubel.__all__)
    assert all(getattr(hubel, name) is not None for name in hubel.__all__)
    assert set(hubel.__all__) <= set(dir(hubel))
    with pytest.raises(AttributeError, match="module 'hubel' has no attribute 'Modle'"):
        _ = hubel.Modle


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import hubel, sys; print([m for m in ('numpy', 'rich', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_saved_model_predicts_without_what_only_training_and_checking_need(
    tmp_path: Path,
) -> None:
    Model("cs231n").save(tmp_path / "m.hubel")
    code = """
import sys
import hubel
import numpy as np
model = hubel.load(sys.argv[1])
model.predict(np.zeros((1, 32, 32, 3), np.float32))
print(*sorted(sys.modules))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "m.hubel")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert {"hubel.model", "hubel.engine.native", "hubel.program.make"} <= set(loaded)
    foreign = {"PIL", "rich", "typer", "numpy.random", "multiprocessing", "importlib.resources"}
    assert not (foreign | {"difflib", "pathlib", "secrets", "statistics", "tempfile"}) & set(loaded)
    ours = {name for name in loaded if name.startswith("hubel.")}
    of_training = {name for name in ours if name.startswith(("hubel.train.", "hubel.data."))}
    assert of_training == {
        "hubel.data.dataset",
        "hubel.data.preprocess",
        "hubel.train.arrays",
        "hubel.train.checkpoint",
        "hubel.train.forward",
        "hubel.train.initialise",
        "hubel.train.losses",
        "hubel.train.prepared",
    }
    assert not {"hubel.graph.fixes", "hubel.graph.edits", "hubel.graph.summary"} & ours


def test_a_fresh_model_takes_numbers_as_they_are() -> None:
    model = Model(Network("fc2", input=(1, 1, 1)), engine="reference")
    model.set_parameters({"fc1.weight": [[1.0, -1.0]]})
    assert model.logits(np.full((1, 1, 1, 1), 255, np.uint8)).tolist() == [[255.0, -255.0]]
    assert model.classes == ("0", "1")


def test_a_net_may_be_given_as_text_with_its_input() -> None:
    model = Model("conv3-4 relu fc", (6, 6, 1), engine="reference", classes=toy.NAMES)
    assert model.network == Network("conv3-4 relu fc", input=(6, 6, 1), classes=3)
    with pytest.raises(UsageError, match="the network is for 6×6×1, not 5×5×1"):
        Model(model.network, (5, 5, 1), engine="reference")


def test_probabilities_add_up_and_batches_make_no_difference() -> None:
    model = toy.model()
    probabilities = model.predict(X)
    assert probabilities.shape == (50, 3)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(50))
    assert model.predict(X, batch_size=7) == pytest.approx(probabilities, rel=1e-12)
    assert model.predict(X[..., 0]) == pytest.approx(probabilities, rel=1e-12)


def test_training_sets_a_preprocessing_that_is_applied_from_then_on() -> None:
    model = toy.model("fc")
    model.fit(X, Y, epochs=1, lr=0.0)
    assert model.preprocess is not None
    same = toy.model("fc")
    ready = (X / 255 - X.mean() / 255) / (X.std() / 255)
    assert model.logits(X) == pytest.approx(same.logits(ready.astype(np.float32)), rel=1e-4)


def test_classes_by_name_become_numbers_in_sorted_order() -> None:
    model = toy.model("fc")
    names = np.array(toy.NAMES)[Y]
    model.fit(X, names, epochs=1)
    assert model.classes == ("left", "middle", "right")
    by_number = toy.model("fc")
    by_number.fit(X, Y, epochs=1, classes=toy.NAMES)
    assert toy.bits(model) == toy.bits(by_number)
    assert model.evaluate(X, names) == model.evaluate(X, Y)


def test_names_keep_the_order_they_are_given_in() -> None:
    model = toy.model("fc", classes=["right", "left", "middle"])
    assert model.evaluate(X[:1], ["right"]) == model.evaluate(X[:1], [0])
    model.fit(X, np.array(toy.NAMES)[Y], epochs=1, classes=["middle", "right", "left"])
    assert model.classes == ("middle", "right", "left")


def test_a_dataset_brings_its_own_split() -> None:
    data = split_arrays(X, np.array(toy.NAMES)[Y], val_fraction=0.2)
    model = toy.model("fc")
    history = model.fit(data, epochs=1)
    assert history[0].validation_accuracy is not None
    assert model.classes == toy.NAMES
    with pytest.raises(UsageError, match="a Dataset brings its own"):
        model.fit(data, Y)


def test_activations_are_every_layers_by_name() -> None:
    model = toy.model("conv3-4p1 bn relu drop0.5 pool2 [conv1-4 | ] fc", seed=1)
    maps = model.activations(X, batch_size=20)
    assert list(maps) == [row.name for row in model.network.report.rows]
    assert maps["conv1"].shape == (50, 6, 6, 4)
    assert maps["fc1"] == pytest.approx(model.logits(X))
    assert np.array_equal(maps["drop1"], maps["relu1"])
    assert maps["relu1"] == pytest.approx(np.maximum(maps["bn1"], 0))


def test_dropout_of_the_image_itself_passes_it_on() -> None:
    model, images = toy.model("drop0.5 fc"), X[:2].astype(np.float32)
    for given in (X[:2], images):
        passed = model.activations(given)["drop1"]
        assert np.array_equal(passed, images)
        assert not np.shares_memory(passed, given)


def test_gradients_are_the_slopes_of_the_loss() -> None:
    model = toy.model("conv3-2p1 tanh drop0.5 fc", seed=2)
    x = X[:8] / np.float32(255)
    loss, gradients = model.gradients(x, Y[:8])
    assert set(gradients) == {*model.parameters, "input"}
    assert gradients["input"].shape == x.shape
    assert loss == pytest.approx(model.evaluate(x, Y[:8])["loss"])
    start = model.parameters
    direction = np.random.default_rng(0).standard_normal(start["conv1.weight"].shape)
    shifted = []
    for sign in (1, -1):
        model.set_parameters({"conv1.weight": start["conv1.weight"] + sign * 1e-5 * direction})
        shifted.append(model.gradients(x, Y[:8])[0])
    slope = (shifted[0] - shifted[1]) / 2e-5
    assert slope == pytest.approx(float((gradients["conv1.weight"] * direction).sum()), rel=1e-6)


def test_gradients_use_the_batchs_statistics_and_change_nothing() -> None:
    model = toy.model()
    before = toy.bits(model)
    first = model.gradients(X, Y)
    assert toy.bits(model) == before
    model.set_parameters({"bn1.running_mean": [9.0] * 4})
    again = model.gradients(X, Y)
    assert first[0] == again[0]
    assert all(np.array_equal(first[1][name], again[1][name]) for name in first[1])


def test_parameters_are_copies_under_the_ecosystems_names() -> None:
    model = toy.model()
    parameters = model.parameters
    assert set(parameters) == {
        *("conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias"),
        *("bn1.running_mean", "bn1.running_var", "fc1.weight", "fc1.bias"),
    }
    parameters["fc1.bias"][:] = 7
    assert not model.parameters["fc1.bias"].any()


def test_parameters_that_do_not_fit_are_all_named_and_none_is_set() -> None:
    model = toy.model()
    before = toy.bits(model)
    with pytest.raises(UsageError) as caught:
        model.set_parameters(
            {"fc1.bias": [1, 2, 3], "fc2.bias": [1], "conv1.bias": [1, 2], "bn1.bias": ["a"] * 4}
        )
    assert caught.value.what == (
        "there is no fc2.bias; conv1.bias has shape (4,), not (2,); bn1.bias holds numbers, not <U1"
    )
    assert toy.bits(model) == before


@pytest.mark.parametrize(
    ("x", "y", "what"),
    [
        (
            np.zeros((2, 5, 6, 1), np.uint8),
            [0, 1],
            "the images are 5×6×1, and the network takes 6×6×1",
        ),
        (
            np.zeros((6, 6), np.uint8),
            [0],
            "the images are shape (6, 6), and the network takes 6×6×1",
        ),
        (np.zeros((0, 6, 6, 1), np.uint8), [], "there is no image"),
        (np.zeros((1, 6, 6, 1), np.int32), [0], "the images are int32"),
        (X[:2], [0], "there are 2 images, but 1 classes"),
        (X[:2], [0, 3], "the class 3 of image 1 (from 0) is none of the 3"),
        (X[:2], [0, -1], "the class -1 of image 1"),
        (X[:2], [0.5, 1], "the classes are float64"),
        (X[:2], ["1", "four"], "four is no class of the model. Hint: its classes are 0, 1, 2"),
        (X[:2], [[0], [1]], "the classes have shape (2, 1)"),
    ],
)
def test_images_and_classes_that_do_not_fit_are_refused(
    x: np.ndarray, y: list[object], what: str
) -> None:
    with pytest.raises(UsageError) as caught:
        toy.model().evaluate(x, y)
    assert what in str(caught.value)


def test_mistakes_are_told_before_a_run_begins() -> None:
    model = toy.model("fc")
    with pytest.raises(UsageError, match="there are 2 classes, and the network has 3 outputs"):
        model.train(X, Y, classes=["a", "b"])
    with pytest.raises(UsageError, match="two classes are called a"):
        model.train(X, Y, classes=["a", "b", "a"])
    with pytest.raises(UsageError, match="the classes of the images are missing"):
        model.train(X)
    with pytest.raises(UsageError, match=r"optimizer \(--optimizer\) is 'sdg'"):
        model.train(X, Y, optimizer="sdg")
    with pytest.raises(DataError, match="no image can be set aside from 3"):
        model.train(X[:3], Y[:3], val_fraction=0.5)
    with pytest.raises(UsageError, match="batch_size is 0"):
        model.predict(X, batch_size=0)
    with pytest.raises(UsageError, match=r"there is no precision 'int4'. Hint: use one of float32"):
        toy.model(engine="native", precision="int4")
    with pytest.raises(UsageError, match="there is no engine 'naive'"):
        toy.model(engine="naive")
    assert model.settings is None


def test_a_run_that_is_not_begun_changes_nothing(tmp_path: Path) -> None:
    model = toy.model()
    model.fit(X, Y, epochs=1, val_fraction=0.2, schedule="constant")
    model.save(tmp_path / "before.hubel")
    other = {"preprocess": "centre", "optimizer": "sgd", "classes": toy.NAMES}
    model.train(X / np.float32(9), Y, **other)
    model.save(tmp_path / "after.hubel")
    assert (tmp_path / "after.hubel").read_bytes() == (tmp_path / "before.hubel").read_bytes()
    list(model.train(X, Y, resume=True, epochs=2))
    whole = toy.model()
    whole.fit(X, Y, epochs=2, val_fraction=0.2, schedule="constant")
    assert toy.bits(model) == toy.bits(whole)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(UsageError, match=r"seed is .*, not at least 0 and below 2\*\*64"):
        toy.model(seed=seed)


def test_a_model_shows_itself_in_one_line() -> None:
    model = toy.model("conv3-4p1 relu\nconv3-4p1  # twice\nrelu " + "conv3-4p1 relu " * 9 + "fc")
    shown = repr(model)
    assert shown.startswith("Model('conv3-4p1 relu conv3-4p1 # twice relu conv3-4p1")
    assert "…' on 6×6×1, 3 classes, " in shown
    assert shown.endswith(" parameters, 0 epochs of training)")
    assert "\n" not in shown
    assert len(shown) < 140


@pytest.mark.parametrize("preprocess", [None, "normalise"])
def test_no_images_give_empty_arrays(preprocess: str | None) -> None:
    model = toy.model()
    model.fit(X, Y, epochs=1, preprocess=preprocess)
    none = X[:0]
    assert model.predict(none).shape == model.logits(none).shape == (0, 3)
    one, empty = model.activations(X[:1]), model.activations(none)
    assert {name: array.shape[1:] for name, array in one.items()} == {
        name: array.shape[1:] for name, array in empty.items()
    }
    assert all(len(array) == 0 for array in empty.values())


def test_a_single_image_and_a_wrong_validation_are_told() -> None:
    model = toy.model()
    with pytest.raises(UsageError) as caught:
        model.predict(np.zeros((6, 6, 1)))
    assert "shape of a single one, (6, 6, 1)" in str(caught.value)
    assert "give an array of shape (N, 6, 6, 1)" in str(caught.value)
    with pytest.raises(UsageError, match=r"validation has 3 parts. Hint: give \(images, classes\)"):
        model.train(X, Y, validation=(X, Y, 1))


def test_only_public_names_are_listed() -> None:
    assert dir(hubel) == sorted([*hubel.__all__, "__version__"])
