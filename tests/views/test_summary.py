"""The printed report: aligned, whole formulas, nothing wider than asked for."""

from __future__ import annotations

import re

import pytest

from hubel.graph.check import check
from hubel.notation.named import NETS
from hubel.views.summary import render

BROKEN = "conv3-8s3 relu\n# and then\nmaxout3 conv3-8p1 relu conv3-9p1g2 relu fc sigmoid"


def test_one_layer_in_full() -> None:
    report = check("conv5-10p2 relu fc10", (32, 32, 3))
    assert render(report, width=130).splitlines()[:6] == [
        "Network on 32×32×3 images",
        "",
        "Layer              Output    Arithmetic                 Parameters               "
        "Multiply-adds  Receptive field / stride    Memory",
        "─" * 130,
        "conv1  conv5-10p2  32×32×10  (32 + 2·2 − 5)/1 + 1 = 32  (5·5·3 + 1)·10 = 760     "
        "         768K                     5 / 1  40.0 KiB",
        "relu1  relu        32×32×10                                                      "
        "                                  5 / 1  40.0 KiB",
    ]


def test_a_report_prints_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    for text in ("conv5-10p2 relu fc10", BROKEN):
        report = check(text, (32, 32, 3))
        assert str(report) == render(report, width=90)


def test_eighty_columns_put_the_arithmetic_below_its_layer() -> None:
    report = check("conv5-10p2 relu fc10", (32, 32, 3))
    assert render(report, width=80) == (
        "Network on 32×32×3 images\n"
        "\n"
        "Layer              Output    Multiply-       Receptive    Memory\n"
        "                                  adds  field / stride\n"
        "    Arithmetic                 Parameters\n"
        "────────────────────────────────────────────────────────────────\n"
        "conv1  conv5-10p2  32×32×10       768K           5 / 1  40.0 KiB\n"
        "    (32 + 2·2 − 5)/1 + 1 = 32  (5·5·3 + 1)·10 = 760\n"
        "relu1  relu        32×32×10                      5 / 1  40.0 KiB\n"
        "fc1    fc10        10             102K              36      40 B\n"
        "    32·32·10 = 10240 → 10      (10240 + 1)·10 = 102410\n"
        "\n"
        "Parameters     103,170 (403 KiB in float32)\n"
        "Multiply-adds  870,400 an image\n"
        "Activations    80.0 KiB an image\n"
        "Training       " + training(report, 80) + "\n"
        "\n"
        "fits"
    )


def training(report: object, width: int) -> str:
    """The lines on training memory, whose numbers other tests look at."""
    text = render(report, width=width)
    return text.split("Training       ")[1].split("\n\n")[0]


def test_training_memory_is_told_part_by_part() -> None:
    report = check("fc10", (32, 32, 3), batch_size=8)
    assert " ".join(training(report, 100).split()) == (
        "457 KiB at batch size 8: activations 96.7 KiB, their gradients 0 B, weights 120 KiB, "
        "their gradients 120 KiB, optimizer 120 KiB (1 array a parameter)"
    )


def test_problems_show_their_place_and_their_fixes() -> None:
    text = render(check("conv3-8s3 relu fc10", (7, 7, 1)), width=80)
    assert text.endswith(
        "error conv1: the window does not fit both ways\n"
        "    conv3-8s3 relu fc10\n"
        "    ^^^^^^^^^\n"
        "  (7 − 3)/3 + 1 = 2.33\n"
        "  row and column 6 (counted from 0) would never be read\n"
        "  fits: padding 1\n"
        "        stride 2\n"
        "        filter 4\n"
        "        input 6×6×1\n"
        "        round down with ~\n"
        "\n"
        "does not fit: 1 problem"
    )


def test_warnings_are_told_before_the_verdict() -> None:
    text = render(check("conv3-8p1 relu fc10 relu", (8, 8, 1)), width=80)
    assert text.endswith(
        "warning relu2: relu right before the softmax changes the scores: it makes all\n"
        "  negative ones equal and stops learning there; leave it out\n"
        "    conv3-8p1 relu fc10 relu\n"
        "                        ^^^^\n"
        "\n"
        "fits, 1 warning"
    )


def test_syntax_problems_have_no_table() -> None:
    assert render(check("conv3-8 rellu", (8, 8, 1)), width=80) == (
        "Network on 8×8×1 images\n"
        "\n"
        "error rellu: is not a layer: did you mean relu?\n"
        "    conv3-8 rellu\n"
        "            ^^^^^\n"
        "\n"
        "does not fit: 1 problem"
    )


@pytest.mark.parametrize("net", [*sorted(NETS), BROKEN])
@pytest.mark.parametrize("width", [80, 100, 140])
def test_nothing_is_wider_than_asked_for_and_no_formula_is_broken(net: str, width: int) -> None:
    report = check(net, None if net in NETS else (31, 31, 3))
    text = render(report, width=width)
    assert max(map(len, text.splitlines())) <= width
    for row in report.rows:
        assert row.formula in text
        assert row.parameter_formula in text
    for problem in (*report.problems, *report.warnings):
        assert problem.layer in text


def test_narrow_terminals_leave_columns_out_and_keep_totals() -> None:
    text = render(check("resnet18"), width=50)
    assert "Memory" not in text
    assert "11,689,512 (44.6 MiB in float32)" in text


def test_color_only_adds_colour() -> None:
    report = check(BROKEN, (31, 31, 3))
    for width in (80, 140):
        colored = render(report, width=width, color=True)
        assert "\x1b[31m" in colored
        assert re.sub(r"\x1b\[\d+m", "", colored) == render(report, width=width)
        assert "\x1b" not in render(report, width=width)


def test_the_terminal_sets_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    report = check("lenet5")
    monkeypatch.setenv("COLUMNS", "140")
    assert render(report) == render(report, width=140)
