"""The same network with each activation function, looked at and trained for some steps."""

from __future__ import annotations

import numpy as np
import pytest

import hubel
from hubel.data.dataset import Dataset, Split
from hubel.errors import UsageError
from hubel.graph.check import check
from hubel.study.activations import ACTIVATIONS, compare, pattern, with_activation
from hubel.views.activations import SIZE, as_dict, lines, shapes
from hubel.views.canvas import to_svg
from tests.train import toy


@pytest.fixture(scope="module")
def data() -> Dataset:
    x, y = toy.images(64)
    nothing = Split(x[:0], y[:0])
    return Dataset("toy", toy.NAMES, Split(x, np.asarray(y, np.int64)), nothing)


@pytest.mark.parametrize(
    ("net", "token", "left"),
    [
        ("conv3-8 relu fc10", "tanh", "conv3-8 tanh fc10"),
        ("conv3-8 bn drop0.1 relu fc10", "maxout2", "conv3-16 bn drop0.1 maxout2 fc10"),
        ("(conv3-8 leaky0.2)x2 fc6 relu fc", "maxout2", "(conv3-16 maxout2)x2 fc12 maxout2 fc"),
        ("conv3-16 maxout2 fc10", "relu", "conv3-8 relu fc10"),
        ("conv3-12 maxout3 fc10", "maxout2", "conv3-8 maxout2 fc10"),
        ("[conv3-4p1 relu | conv1-4] sigmoid fc", "gelu", "[conv3-4p1 gelu | conv1-4] gelu fc"),
        ("conv3-4g2 relu fc", "maxout2", "conv3-8g2 maxout2 fc"),
    ],
)
def test_every_function_is_replaced_and_maxout_gets_its_filters(
    net: str, token: str, left: str
) -> None:
    assert with_activation(net, token) == left
    outputs = [
        check(text, (9, 9, 2), classes=3).rows[-1].output for text in (net, left) if "x2" not in net
    ]
    assert len(set(outputs)) <= 1


def test_what_cannot_be_replaced_is_refused() -> None:
    with pytest.raises(UsageError, match="has no activation function to replace"):
        with_activation("conv3-8 pool2 fc10", "relu")
    message = "maxout needs 2 times the filters right before it"
    for net in ("[conv3-8p1 | conv1-8] relu fc", "relu fc10", "conv3-8 pool2 relu fc"):
        with pytest.raises(UsageError, match=message):
            with_activation(net, "maxout2")


@pytest.mark.parametrize("sides", [(1, 1), (3, 5), (28, 28), (65, 96), (224, 224)])
def test_the_pattern_fits_images_of_any_size(sides: tuple[int, int]) -> None:
    report = check(pattern(*sides), (*sides, 3), classes=4)
    assert report.ok
    assert report.rows[-1].output == (4,)


def test_functions_are_compared_after_the_same_steps_from_the_same_weights(data: Dataset) -> None:
    compared = compare(data, "conv3-6p1 relu pool2 fc8 relu fc", steps=12, seed=3)
    assert [row.token for row in compared.rows] == list(ACTIVATIONS)
    assert (compared.images, compared.steps, compared.left_out) == (64, 12, ())
    by_token = {row.token: row for row in compared.rows}
    assert all(len(row.losses) == 12 for row in compared.rows)
    model = hubel.Model(
        by_token["tanh"].net, data.train.images.shape[1:], seed=3, classes=toy.NAMES
    )
    model.preprocess = hubel.data.preprocess.fit(data.train.images)
    seen = model.activations(data.train.images)["tanh2"].astype(np.float64)
    last = by_token["tanh"].layers[-1]
    assert last.layer == "tanh2"
    assert last.mean == pytest.approx(seen.mean())
    assert last.deviation == pytest.approx(seen.std())
    assert last.positive == pytest.approx((seen > 0).mean())
    assert last.flat == pytest.approx((1 - seen**2 < 0.05).mean())
    _, gradients = model.gradients(data.train.images, data.train.labels)
    assert by_token["tanh"].first == pytest.approx(np.linalg.norm(gradients["conv1.weight"]), 1e-5)
    assert by_token["tanh"].last == pytest.approx(np.linalg.norm(gradients["fc2.weight"]), 1e-5)
    # What the lecture says: outputs of sigmoid are all positive and centred nowhere near zero, its
    # gradients are small, ReLU is flat on half of its inputs, maxout nowhere.
    assert by_token["sigmoid"].layers[0].positive == 1
    assert abs(by_token["tanh"].layers[0].mean) < 0.1 < by_token["sigmoid"].layers[0].mean
    assert by_token["sigmoid"].first < 0.2 * by_token["tanh"].first
    relu = by_token["relu"].layers[0]
    assert relu.flat == pytest.approx(1 - relu.positive)
    assert by_token["maxout2"].layers[0].flat == 0
    assert by_token["maxout2"].parameters > by_token["relu"].parameters
    again = compare(data, "conv3-6p1 relu pool2 fc8 relu fc", tokens=["relu"], steps=12, seed=3)
    assert again.rows[0].losses == by_token["relu"].losses


def test_a_function_that_stands_first_reads_the_images(data: Dataset) -> None:
    (row,) = compare(data, "relu fc", tokens=["prelu"], steps=1, preprocess="none").rows
    assert (row.layers[0].mean, row.layers[0].flat) == (
        pytest.approx((data.train.images / 255).mean(), 1e-6),
        0,
    )


def test_dead_units_are_those_that_are_flat_on_every_image(data: Dataset) -> None:
    white = Split(np.full_like(data.train.images, 255), data.train.labels)
    alike = Dataset("white", toy.NAMES, white, data.validation)
    (row,) = compare(alike, "fc40 relu fc", tokens=["relu"], steps=1, preprocess="none").rows
    assert row.layers[0].dead == row.layers[0].flat > 0  # one image, many times


def test_a_run_that_diverges_is_told_and_the_others_stay(data: Dataset) -> None:
    tokens = ["tanh", "relu"]
    net = "conv3-6p1 relu (conv3-6p1 relu)x3 fc"
    compared = compare(
        data, net, tokens=tokens, steps=30, lr=1e30, optimizer="sgd", preprocess="none"
    )
    failed = [row.token for row in compared.rows if row.failed]
    assert failed
    text = "\n".join(lines(compared))
    assert f"{failed[0]} stopped at step " in text
    assert to_svg(shapes(compared), *SIZE).endswith("</svg>\n")


def test_time_and_steps_bound_the_comparison(data: Dataset) -> None:
    compared = compare(data, "fc8 relu fc", tokens=["relu", "tanh"], steps=10**6, seconds=0.2)
    assert 1 <= compared.steps < 10**6
    assert compared.steps == min(len(row.losses) for row in compared.rows)
    with pytest.raises(UsageError, match="0 steps in 1 s compare nothing"):
        compare(data, steps=0, seconds=1)


def test_the_table_and_the_picture_name_every_function(data: Dataset) -> None:
    net = "[conv3-4p1 relu conv3-4p1 | conv1-4] relu fc"
    compared = compare(data, net, steps=4)
    assert [token for token, _ in compared.left_out] == ["maxout2"]
    table = list(lines(compared))
    rows = {line.split()[0]: line for line in table[1 : len(ACTIVATIONS)]}
    assert rows.keys() == set(ACTIVATIONS) - {"maxout2"}
    losses = [float(line.split()[7]) for line in table[1 : len(ACTIVATIONS)]]
    assert losses == sorted(losses)
    assert any(line.startswith("maxout2 was left out: maxout needs") for line in table)
    picture = to_svg(shapes(compared), *SIZE)
    assert all(picture.count(f">{token}<") == 2 for token in rows)
    found = as_dict(compared)
    assert found["steps"] == 4
    assert len(found["functions"][0]["layers"]) == 2
