"""Ranges: what they mean, what is wrong with them and where, and networks with numbers put in."""

from __future__ import annotations

import pytest

from hubel.errors import NetworkError, UsageError
from hubel.notation.parse import parse
from hubel.notation.ranges import Range, read_range, read_ranged


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("16..64", Range(16, 64, whole=True)),
        ("0.1..0.5", Range(0.1, 0.5)),
        ("0..0.5", Range(0.0, 0.5)),
        ("1e-4..1e-1 log", Range(1e-4, 1e-1, log=True)),
        (" 16 .. 128  log", None),
        ("16..128   LOG", Range(16, 128, whole=True, log=True)),
        ("16, 32,64", Range(16, 64, whole=True, values=(16, 32, 64))),
        ("0.1,0.5", Range(0.1, 0.5, values=(0.1, 0.5))),
        ("0.01", Range(0.01, 0.01, values=(0.01,))),
    ],
)
def test_what_a_text_means(text: str, meant: Range | None) -> None:
    if meant is None:
        with pytest.raises(UsageError, match="is no range"):
            read_range(text)
        return
    one = read_range(text)
    assert one == meant
    assert read_range(str(one)) == one


def test_the_scale_that_is_usual_is_that_of_a_range_without_a_word() -> None:
    assert read_range("1e-4..1", usually_log=True).log
    assert not read_range("1e-4..1 linear", usually_log=True).log
    assert read_range("1..8", whole=False).whole is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("64..16", r"64\.\.16 ends before it begins\. Hint: write 16\.\.64\."),
        ("16..16", r"16\.\.16 is a single number\. Hint: write 16\."),
        (
            "0..8 log",
            r"0\.\.8 log is logarithmic and begins at 0, .*\. Hint: .* write 0\.\.8 linear\.",
        ),
        ("8,16,8", r"8,16,8 names a number twice"),
        ("", r"nothing is no range\. Hint: write 16\.\.64, 16\.\.128 log, or 16,32,64\."),
        ("." * 100_000 + " 1", r"\.+… is too long"),
        ("few..many", r"few\.\.many is no range"),
        ("-1..1", r"-1\.\.1 is no range"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^--lr: {message}"):
        read_range(text, named="--lr")


def test_a_choice_of_whole_numbers_takes_no_others() -> None:
    with pytest.raises(UsageError, match=r"1\.5\.\.3 is not of whole numbers"):
        read_range("1.5..3", whole=True)


def test_places_on_a_scale() -> None:
    for one in (Range(1.0, 100.0, log=True), Range(1.0, 100.0), Range(1, 100, True, True)):
        assert (one.share(1), one.share(100)) == (0, 1)
        assert (one.at(0.0), one.at(1.0)) == (1, 100)
    assert Range(1.0, 100.0, log=True).at(0.5) == 10
    assert Range(1, 100, whole=True, log=True).at(0.25) == 3
    assert Range(0.0, 1.0).rounded(1 / 3) == 0.333
    assert Range(0.33333, 1.0).rounded(1 / 3) == 0.33333


@pytest.mark.parametrize(
    ("text", "names", "high"),
    [
        ("conv3-{16..64}p1 fc", ["conv1 filters"], "conv3-64p1 fc"),
        ("conv{3,5}-8 conv3x{1,3}-8 fc", ["conv1 size", "conv2 size"], "conv5-8 conv3x3-8 fc"),
        ("pool{2,3}s{1..2}", ["pool1 size", "pool1 stride"], "pool3s2"),
        (
            "conv3-8p{1,2}d{1,2}g{1,2}",
            ["conv1 padding", "conv1 dilation", "conv1 groups"],
            "conv3-8p2d2g2",
        ),
        ("leaky{0.01..0.3} elu{0.5..1}", ["leaky1 slope", "elu1 alpha"], "leaky0.3 elu1.0"),
        ("fc{8..16} relu fc{8..16} fc", ["fc1 outputs", "fc2 outputs"], "fc16 relu fc16 fc"),
        ("maxout{2,4}", ["maxout1 pieces"], "maxout4"),
        ("(conv3-{8..16 log} relu)x{2..3}", ["conv1 filters", "repeats"], "(conv3-16 relu)x3"),
        ("(relu)x{1..2} (relu)x{1..2}", ["repeats", "repeats 2"], "(relu)x2 (relu)x2"),
        ("conv3-{w=8..16} conv1-{w} fc{3w}", ["w"], "conv3-16 conv1-16 fc48"),
        ("drop{2r} conv3-8 drop{r=0.1..0.15}", ["r"], "drop0.3 conv3-8 drop0.15"),
        ("conv3-8 # not {16..64}", [], "conv3-8 # not {16..64}"),
        ("{ conv3-8p1 | conv{1,3}-8same }", ["conv2 size"], "{ conv3-8p1 | conv3-8same }"),
        ("relu{conv1-8|conv3-8p1}", [], "relu{conv1-8|conv3-8p1}"),
    ],
)
def test_ranges_are_named_for_what_they_set(text: str, names: list[str], high: str) -> None:
    net = read_ranged(text)
    assert list(net.ranges) == names
    filled = net.chosen({name: one.high for name, one in net.ranges.items()})
    assert filled == high
    parse(filled)


def test_every_mistake_is_told_in_its_place() -> None:
    text = "conv3-{64..16}\nconv3-{v} drop{0..1 log} {conv3-8 relu} fc{16}\nfc{a=1..2}{a=1..2}{0a}"
    with pytest.raises(NetworkError) as caught:
        read_ranged(text)
    found = [(str(problem), problem.span) for problem in caught.value.problems]
    assert [text[slice(*span)] for _, span in found if span] == [
        *("{64..16}", "{v}", "{0..1 log}", "{conv3-8 relu}", "{16}", "{a=1..2}", "{0a}"),
    ]
    said = "\n".join(message for message, _ in found)
    for part in (
        "{64..16}: 64..16 ends before it begins: write 16..64",
        "{v}: there is no range v: write {v=16..64} in one place",
        "where that scale has no end: begin above 0, or write 0..1 linear",
        "{conv3-8 relu}: conv3-8 relu is no range: write 16..64",
        "{16}: is a single number: write it without the braces",
        "a is a range already: write {a} for the same number once more",
        "{0a}: is no number of times: write it without the 0",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("text", "token", "message"),
    [
        (
            "relu conv3-{0..4}p1",
            "conv3-{0..4}p1",
            "the number of filters must be at least 1, not 0",
        ),
        ("drop{0.5..1.5}", "drop{0.5..1.5}", "less than 1, not 1.5, at 1.5 of 0.5..1.5"),
        ("relu maxout{1,2}", "maxout{1,2}", "at least 2, not 1"),
        ("maxout{2,1,3} relu", "maxout{2,1,3}", "at least 2, not 1"),
        ("bn\nconv3-{8..16} rleu", "rleu", "did you mean relu?"),
        ("bn{8..16}", "bn{8..16}", "bn takes nothing after its name"),
    ],
)
def test_the_notation_is_checked_with_every_end(text: str, token: str, message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        read_ranged(text)
    (problem,) = {problem.span: problem for problem in caught.value.problems}.values()
    assert problem.span is not None
    assert text[slice(*problem.span)] == token
    assert message in str(problem)
    assert "line" not in problem.message


def test_a_plain_network_says_where_ranges_belong() -> None:
    with pytest.raises(NetworkError, match=r"16\.\.64: is a range, which only `hubel search`"):
        parse("conv3-{16..64}")
