from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubel.errors import NetworkError, Problem
from hubel.notation.kinds import KINDS
from hubel.notation.parse import parse
from hubel.notation.spec import Branches, Layer, Repeat, Spec
from hubel.notation.token import read_layer


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(NetworkError) as caught:
        parse(text)
    return caught.value.problems


def messages(text: str) -> list[str]:
    return [str(problem) for problem in problems(text)]


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("conv5-10", Layer("conv", (5, 5), 10)),
        ("conv3x5-8", Layer("conv", (3, 5), 8)),
        ("conv3x5-8s2x1p1x2", Layer("conv", (3, 5), 8, stride=(2, 1), padding=(1, 2))),
        ("conv3-32same", Layer("conv", (3, 3), 32, padding="same")),
        ("conv3-32s2same", Layer("conv", (3, 3), 32, stride=(2, 2), padding="same")),
        ("conv3-32sames2", Layer("conv", (3, 3), 32, stride=(2, 2), padding="same")),
        (
            "conv3-32p1s2~",
            Layer("conv", (3, 3), 32, stride=(2, 2), padding=(1, 1), fit="floor"),
        ),
        (
            "conv3-8g4b0d2x3^",
            Layer("conv", (3, 3), 8, dilation=(2, 3), groups=4, bias=False, fit="ceil"),
        ),
        ("pool2", Layer("pool", (2, 2), stride=(2, 2))),
        ("pool2x3", Layer("pool", (2, 3), stride=(2, 3))),
        ("pool3s2p1~", Layer("pool", (3, 3), stride=(2, 2), padding=(1, 1), fit="floor")),
        ("avgpool2same", Layer("avgpool", (2, 2), stride=(2, 2), padding="same")),
        ("avgpool3s1^", Layer("avgpool", (3, 3), fit="ceil")),
        ("gap", Layer("gap")),
        ("fc10", Layer("fc", count=10)),
        ("fc", Layer("fc")),
        ("fcb0", Layer("fc", bias=False)),
        ("fc10b0", Layer("fc", count=10, bias=False)),
        ("leaky", Layer("leaky", value=0.01)),
        ("leaky0.2", Layer("leaky", value=0.2)),
        ("scale0.1", Layer("scale", value=0.1)),
        ("leaky1e-3", Layer("leaky", value=0.001)),
        ("elu", Layer("elu", value=1.0)),
        ("elu1.5", Layer("elu", value=1.5)),
        ("maxout2", Layer("maxout", count=2)),
        ("drop0.5", Layer("drop", value=0.5)),
        ("drop0", Layer("drop", value=0.0)),
        *((name, Layer(name)) for name in ("relu", "prelu", "selu", "gelu", "silu")),
        *((name, Layer(name)) for name in ("sigmoid", "tanh", "bn", "ln")),
        ("gn8", Layer("gn", count=8)),
    ],
)
def test_every_layer_of_the_notation(text: str, layer: Layer) -> None:
    assert parse(text) == Spec((layer,))


@pytest.mark.parametrize("name", KINDS)
def test_the_example_of_every_kind_reads_as_that_kind(name: str) -> None:
    reading = read_layer(KINDS[name].example)
    assert reading.wrong == []
    assert reading.layer is not None
    assert reading.layer.kind == name


def test_brackets_and_bars_delimit_themselves() -> None:
    conv, bn, relu = Layer("conv", (3, 3), 64, padding=(1, 1)), Layer("bn"), Layer("relu")
    residual = Branches("add", ((conv, bn), ()))
    assert parse("[conv3-64p1 bn|]relu").items == (residual, relu)
    assert parse("[ conv3-64p1 bn | ] relu").items == (residual, relu)
    assert parse("{conv3-64p1|bn|relu}").items == (Branches("concat", ((conv,), (bn,), (relu,))),)
    assert parse("(conv3-64p1 relu)x2").items == (Repeat((conv, relu), 2),)
    assert parse("(conv3-64p1(bn relu)x3)x2").items == (Repeat((conv, Repeat((bn, relu), 3)), 2),)


def test_spans_point_into_the_text_past_comments_and_lines() -> None:
    text = "# a net\nconv5-6 # six\n ( relu [bn | ] )x2\r\nfc10"
    conv, repeat, fc = parse(text).items
    assert isinstance(repeat, Repeat)
    relu, branches = repeat.body
    assert isinstance(branches, Branches)
    written = [conv, repeat, relu, branches, branches.branches[0][0], fc]
    assert [text[slice(*item.span)] for item in written] == [
        "conv5-6",
        "( relu [bn | ] )x2",
        "relu",
        "[bn | ]",
        "bn",
        "fc10",
    ]


_CONV = "the suffixes of conv are s2 p2 same d2 g4 b0 ~ ^"
_POOL = "the suffixes of pool are s2 p2 same ~ ^"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv", "conv needs a window size, as in conv3-10"),
        ("conv3", "conv needs its number of filters, as in conv3-10"),
        ("conv3-", "conv needs its number of filters, as in conv3-10"),
        ("conv3x5s2", "conv needs its number of filters, as in conv3x5-10"),
        ("pool", "pool needs a window size, as in pool2"),
        ("pools2", "pool needs a window size, as in pool2"),
        ("maxout", "maxout needs its number of pieces, as in maxout2"),
        ("drop", "drop needs its rate, as in drop0.5"),
        ("conv0-3", "the window size must be at least 1, not 0"),
        ("conv3-0", "the number of filters must be at least 1, not 0"),
        ("conv3-1s0", "the stride must be at least 1, not 0"),
        ("conv3-1s1x0", "the stride must be at least 1, not 0"),
        ("conv3-1d0", "the dilation must be at least 1, not 0"),
        ("conv3-1g0", "the number of groups must be at least 1, not 0"),
        ("fc0", "the number of outputs must be at least 1, not 0"),
        ("maxout1", "the number of pieces must be at least 2, not 1"),
        ("drop1", "the rate must be less than 1, not 1"),
        ("leaky9e999", "the slope must be finite, not 9e999"),
        ("conv3-1p1same", "p1 and same both set the padding: keep one"),
        ("conv3-1samep1", "same and p1 both set the padding: keep one"),
        ("conv3-1~^", "~ and ^ both set the fit: keep one"),
        ("conv3-1s1s2", "s1 and s2 both set the stride: keep one"),
        ("conv3-1b0b0", "b0 and b0 both set the bias: keep one"),
        ("conv3-1b1", "b0 leaves the bias out, and without it there is one: b1"),
        ("conv3-1g2x2", "groups is one number, as in g4, not g2x2"),
        ("conv3-1s", "s needs a number, as in s2"),
        ("conv3-1q7", f'"q7" is not understood: {_CONV}'),
        ("conv3-10-3", f'"-3" is not understood: {_CONV}'),
        ("conv3-1x2", f'"x2" is not understood: {_CONV}'),
        ("pool2g4", f"pool has no groups (g4): {_POOL}"),
        ("pool2b0", f"pool has no bias (b0): {_POOL}"),
        ("fc10s2", "fc has no stride (s2): the only suffix of fc is b0"),
        ("relu2", '"2" is not understood: relu takes nothing after its name'),
        ("leaky-1", '"-1" is not understood: leaky takes its slope and nothing else'),
        ("conv1234567890-3", "the window size 1234567890 has more than 9 digits"),
        ("fc" + "9" * 60, f"the number of outputs {'9' * 39}… has more than 9 digits"),
        ("conv3-4" + "s1" * 100, "has more than 200 characters: put spaces between layers"),
    ],
)
def test_what_is_wrong_with_a_token(text: str, message: str) -> None:
    (problem,) = problems(text)
    assert problem.message == message
    assert (problem.code, problem.severity, problem.span) == ("syntax", "error", (0, len(text)))
    assert problem.layer == (text if len(text) <= 40 else f"{text[:39]}…")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("maxpool2", "pool2"),
        ("MaxPool2d", "pool2"),
        ("conv2d", "conv3-10"),
        ("conv2d3-8", "conv3-8"),
        ("linear10", "fc10"),
        ("dense10", "fc10"),
        ("Dense", "fc"),
        ("dropout0.5", "drop0.5"),
        ("batchnorm", "bn"),
        ("BatchNorm2d", "bn"),
        ("LayerNorm", "ln"),
        ("group_norm8", "gn8"),
        ("leakyrelu", "leaky"),
        ("leaky_relu0.2", "leaky0.2"),
        ("swish", "silu"),
        ("globalavgpool", "gap"),
        ("Conv3-10", "conv3-10"),
        ("conb3-10p1", "conv3-10p1"),
        ("rellu", "relu"),
        ("relux", "relu"),
        ("sigmiod", "sigmoid"),
    ],
)
def test_a_foreign_or_misspelled_layer_is_suggested(word: str, meant: str) -> None:
    (problem,) = problems(word)
    assert problem.message.endswith(f": did you mean {meant}?")
    parse(meant)


def test_layers_that_are_not_needed_say_why() -> None:
    assert messages("flatten softmax") == [
        "flatten: is not needed: fc flattens on its own; leave it out",
        "softmax: is not needed: the loss applies it; leave it out",
    ]


def test_a_layer_like_no_other_is_answered_with_the_list() -> None:
    assert messages("xyzzy") == [f"xyzzy: is not a layer: the layers are {', '.join(KINDS)}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["the network is empty: write its layers, as in conv3-10 relu"]),
        (" # only this\n", ["the network is empty: write its layers, as in conv3-10 relu"]),
        ("(relu)", ["): lacks the number of repeats: write ( … )x2, or leave ( ) out"]),
        ("(relu) bn", ["): lacks the number of repeats: write ( … )x2, or leave ( ) out"]),
        ("(relu)x0", ["x0: the number of repeats must be at least 1, not 0"]),
        ("(relu)xx", ["xx: is no number of repeats: write x and a number, as in ( … )x2"]),
        ("()x2", ["(: there is no layer between ( and )"]),
        ("(relu", ["(: is never closed: write )x2 where it ends"]),
        ("[relu | bn", ["[: is never closed: write ] where it ends"]),
        ("relu ]", ["]: closes nothing: there is no [ before it"]),
        (
            "[relu | (bn] relu",
            ["(: is never closed: write )x2 where it ends"],
        ),
        ("[relu]", ["[: needs at least two branches with | between them: [ a | b ]"]),
        ("{}", ["{: needs at least two branches with | between them: { a | b }"]),
        ("[|]", ["[: only one branch may be empty: an empty one is the identity"]),
        ("{relu||}", ["{: only one branch may be empty: an empty one is the identity"]),
        ("relu | bn", ["|: stands only between the branches of [ a | b ] or { a | b }"]),
        ("(relu | bn)x2", ["|: stands only between the branches of [ a | b ] or { a | b }"]),
    ],
)
def test_brackets_that_do_not_work(text: str, expected: list[str]) -> None:
    assert messages(text) == expected


def test_a_refused_layer_does_not_make_its_brackets_empty() -> None:
    assert [problem.layer for problem in problems("[rellu | ] (bnn)x2")] == ["rellu", "bnn"]


def test_all_problems_are_told_at_once_in_the_order_of_the_text() -> None:
    text = "[conv3 | conv0-0] rellu (fc10"
    found = problems(text)
    assert [text[slice(*(problem.span or ()))] for problem in found] == [
        "conv3",
        "conv0-0",
        "conv0-0",
        "rellu",
        "(",
    ]
    with pytest.raises(NetworkError, match=r"^the network has 5 problems:\n  conv3: conv needs"):
        parse(text)


def test_a_text_of_several_lines_gets_line_and_column() -> None:
    assert messages("conv3-8 # first\n  rellu\n\n[bn") == [
        "rellu: is not a layer: did you mean relu? (line 2, column 3)",
        "[: is never closed: write ] where it ends (line 4, column 1)",
    ]


def test_signs_that_a_terminal_would_obey_are_written_out() -> None:
    (message,) = messages("relu\x1b[2J|")[:1]
    assert "\x1b" not in message
    assert r"relu\x1b: " in message


def test_limits_of_layers_and_nesting() -> None:
    many = "the network has more than 10,000 layers"
    assert messages("relu " * 10_001) == [many]
    assert len(parse("relu " * 10_000).items) == 10_000
    assert messages("((relu bn)x99)x99") == [f"{many} once repeats are unrolled"]
    assert messages("((relu)x999999999)x999999999") == [f"{many} once repeats are unrolled"]
    parse("(" * 50 + "relu" + ")x1" * 50)
    assert messages("(" * 51 + "relu" + ")x1" * 51) == ["(: is nested more than 50 deep"]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 300_000,
        "(" * 200_000 + "]" * 200_000,
        "|" * 300_000,
        "[relu" * 40 + "|]" * 100_000,
        "9" * 300_000,
        "conv3-3" + "s1" * 150_000,
        "maxpool" * 50_000,
        "aaab " * 60_000,
        "leaky" + "9" * 300_000,
        "relu\n" * 9_000 + "]\n" * 5_000,
        "x" * 1_000_001,
    ],
    ids=lambda text: f"{text[:8]}…",
)
def test_hostile_text_gets_a_short_answer_soon(text: str) -> None:
    start = time.perf_counter()
    found = problems(text)
    assert time.perf_counter() - start < 5
    assert 1 <= len(found) <= 1_010
    assert max(len(str(problem)) for problem in found) < 300


@given(st.text(alphabet="convpolfcrelu0123456789xspdgbame~^()[]{}| \n#-.", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        spans = [item.span for item in parse(text).items]
    except NetworkError as error:
        spans = [problem.span or (0, 1) for problem in error.problems]
    assert spans
    assert all(0 <= start < stop <= max(len(text), 1) for start, stop in spans)
