"""A Network is checked text: it raises every problem, shown in its place, or it fits."""

from __future__ import annotations

import pytest

from hubel.errors import NetworkError, UsageError, excerpt
from hubel.network import Network


def test_a_network_knows_its_sizes() -> None:
    net = Network("conv5-6 relu pool2 fc10", input=(32, 32, 3))
    assert net.text == "conv5-6 relu pool2 fc10"
    assert (net.input, net.output, net.classes) == ((32, 32, 3), (10,), 10)
    assert net.graph.outputs == ("fc1",)
    assert [placed.name for placed in net.built.layers] == ["conv1", "relu1", "pool1", "fc1"]
    assert net.report.ok


def test_classes_are_the_scores_unless_given() -> None:
    assert Network("conv3-7 relu gap", (8, 8, 1)).classes == 7
    assert Network("conv3-7 relu fc", (8, 8, 1), classes=4).output == (4,)
    assert Network("lenet5").classes == 10
    assert Network("resnet20", classes=100).output == (100,)


def test_equal_text_and_input_make_equal_networks() -> None:
    one = Network("conv3-8 relu fc10", (8, 8, 1))
    assert one == Network("conv3-8 relu fc10", (8, 8, 1))
    assert hash(one) == hash(Network("conv3-8 relu fc10", (8, 8, 1)))
    assert one != Network("conv3-8 relu fc10", (9, 9, 1))
    assert one != Network("conv3-8 relu fc9", (8, 8, 1))
    with pytest.raises(AttributeError):
        one.text = "fc10"


def test_rounding_down_is_asked_for() -> None:
    with pytest.raises(NetworkError):
        Network("conv3-8s3 relu fc10", (7, 7, 1))
    assert Network("conv3-8s3 relu fc10", (7, 7, 1), fit="floor").output == (10,)


def test_it_prints_as_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = str(Network("conv5-10p2", (32, 32, 3)))
    assert "(32 + 2·2 − 5)/1 + 1 = 32" in text
    assert "(5·5·3 + 1)·10 = 760" in text


def test_every_problem_is_raised_and_shown_in_its_place() -> None:
    with pytest.raises(NetworkError) as caught:
        Network("conv3-8s3 relu\nmaxout3 fc", (7, 7, 1))
    assert [problem.code for problem in caught.value.problems] == ["misfit", "maxout", "classes"]
    assert str(caught.value) == (
        "the network has 3 problems:\n"
        "  conv1: the window does not fit both ways: (7 − 3)/3 + 1 = 2.33; row and column 6 "
        "(counted from 0) would never be read. Fits: padding 1; stride 2; filter 4; "
        "round down with ~\n"
        "      conv3-8s3 relu\n"
        "      ^^^^^^^^^\n"
        "  maxout1: 3 pieces do not divide its input depth 8: 8/3 = 2.67. Fits: pieces 2; "
        "9 filters in conv3-8s3 before it\n"
        "      maxout3 fc\n"
        "      ^^^^^^^\n"
        "  fc1: fc without a number has as many outputs as there are classes, and their number is "
        "not known: write fc10, or give it: --classes 10, or classes=10 in Python\n"
        "      maxout3 fc\n"
        "              ^^"
    )


def test_syntax_is_shown_in_its_place_too() -> None:
    with pytest.raises(NetworkError, match=r"(?m)^      conv3-8 rellu\n              \^\^\^\^\^$"):
        Network("conv3-8 rellu", (7, 7, 1))


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="the size of the images is not known"):
        Network("fc10")


@pytest.mark.parametrize(
    ("text", "span", "line", "carets"),
    [
        ("a bb c", (2, 4), "a bb c", "  ^^"),
        ("a\nbb c\n", (2, 4), "bb c", "^^"),
        ("a\n(bb\nc)x2", (2, 9), "(bb", "^^^"),
        ("a\t\tbb", (3, 5), "a  bb", "   ^^"),
        ("a", (1, 1), "a", " ^"),
        ("0123456789" * 3, (2, 4), "01234567890123456…", "  ^^"),
        ("0123456789" * 3, (14, 16), "…1234567890123456…", "    ^^"),
        ("0123456789" * 3, (28, 30), "…4567890123456789", "               ^^"),
        ("0123456789" * 3, (14, 30), "…1234567890123456…", "    ^^^^^^^^^^^^^^"),
    ],
)
def test_excerpts_stay_on_one_line_and_point_at_the_span(
    text: str, span: tuple[int, int], line: str, carets: str
) -> None:
    assert excerpt(text, span, width=18) == (line, carets)
