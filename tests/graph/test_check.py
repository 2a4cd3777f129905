"""What `check` reports: the lecture's numbers, every problem in one pass, and warnings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hubel.errors import Problem, UsageError
from hubel.graph.build import build
from hubel.graph.check import check
from hubel.graph.report import Report
from hubel.notation.named import NETS
from hubel.notation.parse import parse
from tests.graph.known_nets import KNOWN_NETS


def warning(report: Report, code: str) -> Problem:
    (found,) = [one for one in report.warnings if one.code == code]
    return found


def codes(report: Report) -> list[str]:
    return [one.code for one in (*report.problems, *report.warnings)]


class TestLecture:
    def test_fully_connected_flattens_the_image(self) -> None:
        report = check("fc10", (32, 32, 3))
        (row,) = report.rows
        assert (row.input, row.output) == ((32, 32, 3), (10,))
        assert row.formula == "32·32·3 = 3072 → 10"
        assert row.parameter_formula == "(3072 + 1)·10 = 30730"
        assert row.parameters == 30_730
        assert row.macs == 30_720
        assert report.warnings == ()

    def test_filters_span_the_full_depth(self) -> None:
        first, second = check("conv5-6 conv5-10", (32, 32, 3)).rows
        assert first.parameter_formula == "(5·5·3 + 1)·6 = 456"
        assert second.parameter_formula == "(5·5·6 + 1)·10 = 1510"

    def test_six_then_ten_filters(self) -> None:
        rows = check("conv5-6 relu conv5-10 relu", (32, 32, 3)).rows
        assert [row.output for row in rows[::2]] == [(28, 28, 6), (24, 24, 10)]
        assert rows[0].formula == "(32 − 5)/1 + 1 = 28"
        assert [row.receptive_field for row in rows[::2]] == [5, 9]

    @pytest.mark.parametrize(("stride", "output"), [(1, 5), (2, 3)])
    def test_strides_that_fit(self, stride: int, output: int) -> None:
        report = check(f"conv3-1s{stride}", (7, 7, 1))
        assert report.ok
        assert report.rows[0].output == (output, output, 1)
        assert report.rows[0].formula == f"(7 − 3)/{stride} + 1 = {output}"

    def test_a_stride_that_does_not_fit_is_refused(self) -> None:
        report = check("conv3-1s3", (7, 7, 1))
        assert not report.ok
        (problem,) = report.problems
        assert (problem.code, problem.layer, problem.span) == ("misfit", "conv1", (0, 9))
        assert problem.formula == "(7 − 3)/3 + 1 = 2.33"
        assert str(problem) == (
            "conv1: the window does not fit both ways: (7 − 3)/3 + 1 = 2.33; row and column 6 "
            "(counted from 0) would never be read. Fits: padding 1; stride 2; filter 4; "
            "input 6×6×1; round down with ~"
        )

    def test_padding_keeps_the_size(self) -> None:
        (row,) = check("conv3-4p1", (7, 7, 1)).rows
        assert row.output == (7, 7, 4)
        assert row.formula == "(7 + 2·1 − 3)/1 + 1 = 7"

    def test_a_deep_unpadded_stack_is_warned_about(self) -> None:
        report = check("conv3-8 relu " * 12 + "fc10", (32, 32, 3))
        found = warning(report, "shrinking")
        assert report.ok
        assert found.layer == "conv9"
        assert str(found) == (
            "conv9: the maps are vanishing: 9 convolutions without enough padding, 2 rows lost in "
            "this one, leave 14×14×8 here; write p1 or same to keep the size: heights "
            "32 → 30 → 28 → 26 → … → 18 → 16 → 14"
        )

    def test_worked_example(self) -> None:
        report = check("conv5-10p2", input=(32, 32, 3))
        (row,) = report.rows
        assert row.output == (32, 32, 10)
        assert row.formula == "(32 + 2·2 − 5)/1 + 1 = 32"
        assert row.parameter_formula == "(5·5·3 + 1)·10 = 760"
        assert report.parameters == row.parameters == 760
        assert report.parameter_bytes == 3040
        assert report.macs == 32 * 32 * 10 * 75
        assert report.activation_bytes == 32 * 32 * 10 * 4

    def test_pooling_halves_the_map_and_keeps_its_depth(self) -> None:
        (row,) = check("pool2", (224, 224, 64)).rows
        assert row.output == (112, 112, 64)
        assert row.formula == "(224 − 2)/2 + 1 = 112"
        assert (row.parameters, row.parameter_formula) == (0, "")

    def test_linear_layers_are_worth_one(self) -> None:
        report = check("conv3-8p1 conv3-8p1 bn conv3-16p1 relu fc10", (32, 32, 3))
        found = warning(report, "no-nonlinearity")
        assert str(found) == (
            "conv1: conv1, conv2 and conv3 have no activation between them, so together they are "
            "worth a single linear layer, conv7-16 but for its padding: put one between, as in "
            "conv3-8p1 relu, or see what hubel collapse makes of them"
        )
        assert found.span == (0, 33)


def test_leaving_a_layer_out_leaves_single_spaces() -> None:
    (problem,) = check("conv3-4p1 relu pool2 pool9 fc10", (8, 8, 1)).problems
    assert problem.fixes[0].text == "conv3-4p1 relu pool2 fc10"


class TestRows:
    @pytest.mark.parametrize(
        ("text", "size", "formula"),
        [
            ("conv5-10b0", (8, 8, 3), "5·5·3·10 = 750"),
            ("conv3-8g2", (8, 8, 4), "(3·3·4/2 + 1)·8 = 152"),
            ("conv3-8g8b0", (8, 8, 8), "3·3·8/8·8 = 72"),
            ("bn", (8, 8, 64), "2·64 = 128"),
            ("prelu", (8, 8, 64), "1·64 = 64"),
            ("fc10b0", (2, 2, 3), "12·10 = 120"),
            ("relu", (8, 8, 3), ""),
        ],
    )
    def test_parameter_formulas(self, text: str, size: tuple[int, int, int], formula: str) -> None:
        assert check(text, size).rows[0].parameter_formula == formula

    @pytest.mark.parametrize(
        ("text", "formula"),
        [
            ("conv3x5-8", "(9 − 3)/1 + 1 = 7, (9 − 5)/1 + 1 = 5"),
            ("gap", "9·9 = 81 → 1"),
            ("{conv1-8 | conv1-4}", "8 + 4 = 12"),
            ("maxout3", "3/3 = 1"),
            ("gn3", "3/3 = 1"),
            ("pool2~", "⌊(9 − 2)/2⌋ + 1 = 4"),
            ("pool2^", "⌈(9 − 2)/2⌉ + 1 = 5"),
            ("conv3-8s2same", "(9 + 2·1 − 3)/2 + 1 = 5"),
        ],
    )
    def test_formulas(self, text: str, formula: str) -> None:
        assert check(text, (9, 9, 3)).rows[-1].formula == formula

    @pytest.mark.parametrize("name", sorted(NETS))
    def test_formulas_of_shipped_nets_come_to_what_they_say(self, name: str) -> None:
        for row in check(name).rows:
            for formula in (row.formula, row.parameter_formula):
                if "=" in formula:
                    assert worth(formula.split(" = ")[0]) == int(
                        formula.split(" = ")[1].split(" ")[0]
                    )
            if row.parameter_formula:
                assert row.parameter_formula.endswith(f" = {row.parameters}")

    def test_fields_that_are_not_square_are_pairs(self) -> None:
        (row,) = check("conv3x5-8s1x2", (9, 9, 3)).rows
        assert row.receptive_field == (3, 5)
        assert row.receptive_stride == (1, 2)

    def test_tokens_are_as_written(self) -> None:
        report = check("conv3-8p1s1 # first\n  relu", (9, 9, 3))
        assert [(row.name, row.kind, row.text) for row in report.rows] == [
            ("conv1", "conv", "conv3-8p1s1"),
            ("relu1", "relu", "relu"),
        ]


def worth(formula: str) -> int:
    """The value of a printed formula, worked out by its own small rules."""
    text = formula.replace("−", "-").replace("·", "*")
    text = re.sub(r"⌊\(([^()]+)\)/(\d+)⌋", lambda m: str(worth(m[1]) // int(m[2])), text)
    text = re.sub(r"⌈\(([^()]+)\)/(\d+)⌉", lambda m: str(-(-worth(m[1]) // int(m[2]))), text)
    while "(" in text:
        text = re.sub(r"\(([^()]+)\)", lambda m: str(worth(m[1])), text)
    total = 0
    for sign, term in re.findall(r"([+-]?)\s*([\d*/]+)", text):
        value = 1
        for operation, number in re.findall(r"([*/]?)(\d+)", term):
            value = value // int(number) if operation == "/" else value * int(number)
        total += -value if sign == "-" else value
    return total


class TestNets:
    @pytest.mark.parametrize("name", sorted(KNOWN_NETS))
    def test_shipped_nets_have_the_known_parameters(self, name: str) -> None:
        size, parameters = KNOWN_NETS[name]
        report = check(name)
        assert report.ok
        assert (report.name, report.input, report.parameters) == (name, size, parameters)

    def test_shipped_nets_are_quiet_but_for_what_is_true_of_them(self) -> None:
        told = {name: codes(check(name)) for name in NETS}
        assert {name: found for name, found in told.items() if found} == {
            # Its last depthwise filters begin with a field of 251 pixels on images of 224.
            "mobilenet": ["wasted-layers"],
            # The paper's net ends in relu and gap, over places that see 207 pixels of 224.
            "squeezenet": ["activation-before-scores", "receptive-field"],
        }

    def test_multiply_adds_of_resnet18(self) -> None:
        # As fvcore and torchvision count them.
        assert check("resnet18").macs == 1_814_073_344

    def test_files_and_classes(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.hub"
        path.write_text("# input: 8x8x1, classes: 3\nconv3-4 relu fc\n", encoding="utf-8")
        report = check(path)
        assert report.input == (8, 8, 1)
        assert report.rows[-1].output == (3,)
        assert check(path, classes=7).rows[-1].output == (7,)
        assert check(path, (10, 10, 1)).rows[0].output == (8, 8, 4)


class TestProblems:
    def test_an_empty_text_is_one_problem(self) -> None:
        (problem,) = check("", input=(8, 8, 1)).problems
        assert problem.message.startswith("the network is empty")

    def test_what_does_not_fit_before_a_misspelt_layer_is_told_too(self) -> None:
        report = check("conv5-6 relu pool3 blah fc10", input=(32, 32, 3))
        misfit, syntax = report.problems
        assert (misfit.code, misfit.layer, misfit.formula) == (
            "misfit",
            "pool1",
            "(28 − 3)/3 + 1 = 9.33",
        )
        assert (syntax.code, syntax.span) == ("syntax", (19, 23))
        assert all(fix.text.endswith(" blah fc10") for fix in misfit.fixes)

    def test_all_are_found_in_one_pass(self) -> None:
        text = "conv3-8s3 relu pool2 maxout3 conv3-9p1g2 relu [conv3-6 | ] fc"
        report = check(text, (31, 31, 3))
        assert [(one.code, one.layer) for one in report.problems] == [
            ("misfit", "conv1"),
            ("maxout", "maxout1"),
            ("groups", "conv2"),
            ("branches", "add1"),
            ("classes", "fc1"),
        ]
        assert all(text[slice(*one.span)] for one in report.problems if one.span)

    def test_syntax_problems_are_reported_and_not_raised(self) -> None:
        report = check("conv3 rellu", (8, 8, 1))
        assert not report.ok
        assert [one.code for one in report.problems] == ["syntax", "syntax"]
        assert report.rows == ()
        assert report.training_bytes() == 0

    def test_too_few_scores_for_the_classes(self) -> None:
        report = check("conv3-8 relu fc10", (8, 8, 1), classes=12)
        assert str(report.problems[0]) == (
            "fc1: it gives 10 scores, but there are 12 classes: write fc or fc12"
        )

    def test_too_many_scores_for_the_classes(self) -> None:
        report = check("conv3-8 relu fc12", (8, 8, 1), classes=10)
        assert str(report.problems[0]) == (
            "fc1: it gives 12 scores, but there are 10 classes: write fc or fc10"
        )
        report = check("conv3-8 relu conv1-12 gap", (8, 8, 1), classes=10)
        assert str(report.problems[0]) == (
            "gap1: it gives 12 scores, but there are 10 classes: give the last layer with weights "
            "10 filters, or end in fc"
        )

    def test_very_many_problems_end_the_pass(self) -> None:
        report = check("conv4-8s3p39 relu " * 300 + "fc10", (38, 38, 1))
        assert len(report.problems) == 201
        assert str(report.problems[-1]) == (
            "conv201: what follows is not checked, after 200 problems"
        )

    def test_sides_beyond_measure_are_refused(self) -> None:
        (problem,) = check("conv3-8p99999", (8, 8, 1)).problems
        assert problem.code == "too-large"
        assert problem.formula == "8 + 99999 + 99999 = 200006"

    def test_gaps_between_windows_are_listed_shortly(self) -> None:
        (problem,) = check("conv1-8s3", (32, 32, 1)).problems
        assert problem.unread == (
            "rows and columns 1–2, 4–5, 7–8, …, 25–26, 28–29, 31 (counted from 0) would never be "
            "read"
        )

    @pytest.mark.parametrize("side", range(3, 12))
    @pytest.mark.parametrize("text", ["conv3-1s3", "conv2-1s3p1", "conv2-1s2d2", "conv1-1s4"])
    def test_rows_told_unread_are_those_no_window_reads(self, text: str, side: int) -> None:
        built = build(parse(text), (side, side, 1))
        layer = parse(text).items[0]
        for problem in built.problems:
            if problem.code != "misfit":
                continue
            read = {
                place * layer.stride[0] - layer.padding[0] + tap * layer.dilation[0]
                for place in range(built.layers[0].output[0])
                for tap in range(layer.size[0])
            }
            told: set[int] = set()
            numbers = re.sub(r"^rows? and columns? | \(.*", "", problem.unread)
            for run in filter(None, numbers.split(", ")):
                first, _, last = run.partition("–")
                told.update(range(int(first), int(last or first) + 1))
            assert told == set(range(side)) - read


class TestArguments:
    @pytest.mark.parametrize(
        ("size", "message"),
        [
            ((32, 32), "input must be (height, width, depth), not (32, 32)"),
            ((32, 32, 0), "each number of input must be a positive whole number, not 0"),
            ((32, 32, 3.0), "each number of input must be a positive whole number, not 3.0"),
            ("32x32x3", "input must be (height, width, depth), not '32x32x3'"),
            ((99999, 32, 3), "input 99999×32×3 has a side of more than 65536"),
        ],
    )
    def test_sizes_that_make_no_sense(self, size: tuple[int, int, int], message: str) -> None:
        with pytest.raises(UsageError, match=re.escape(message)):
            check("conv3-8", size)

    def test_other_arguments(self) -> None:
        with pytest.raises(UsageError, match="classes must be a positive whole number, not -1"):
            check("fc", (8, 8, 1), classes=-1)
        with pytest.raises(UsageError, match="batch_size must be a positive whole number, not 0"):
            check("fc", (8, 8, 1), batch_size=0)
        with pytest.raises(UsageError, match='fit must be "strict", "floor" or "ceil", not'):
            check("fc", (8, 8, 1), fit="round")
        with pytest.raises(UsageError, match="the size of the images is not known"):
            check("conv3-8 relu fc10")
        with pytest.raises(UsageError, match="object_size must be"):
            check("fc", (8, 8, 1), object_size=3)


class TestWarnings:
    def test_a_linear_stack_ends_at_max_pooling_and_maxout(self) -> None:
        for between in ("pool2", "maxout2", "relu", "prelu"):
            report = check(f"conv3-8p1 {between} conv3-8p1 relu fc10", (8, 8, 3))
            assert "no-nonlinearity" not in codes(report)
        for between in ("bn", "avgpool2", "drop0.5", ""):
            report = check(f"conv3-8p1 {between} conv3-8p1 relu fc10", (8, 8, 3))
            assert "no-nonlinearity" in codes(report)

    def test_a_stack_that_ends_in_fc_is_one_fc(self) -> None:
        found = warning(check("(fc64)x2 fc10", (8, 8, 3)), "no-nonlinearity")
        assert "a single linear layer, fc10 on 8×8×3" in found.message

    def test_linear_branches_are_part_of_a_stack(self) -> None:
        found = warning(check("conv3-8p1 [conv3-8p1 | ] relu fc10", (8, 8, 3)), "no-nonlinearity")
        assert found.message.startswith("conv1 and conv2 have no activation between them")
        report = check("conv3-8p1 relu [conv3-8p1 relu conv3-8p1 | ] relu fc10", (8, 8, 3))
        assert report.warnings == ()
        inside = check("relu [conv3-3p1 conv3-3p1 relu | ] relu fc10", (8, 8, 3))
        assert warning(inside, "no-nonlinearity").layer == "conv1"

    def test_branches_side_by_side_are_no_stack(self) -> None:
        assert codes(check("[conv3-8p1 | conv1-8] relu fc10", (8, 8, 3))) == []

    def test_pooling_and_strides_do_not_count_as_shrinking(self) -> None:
        report = check("conv3-8p1s1 relu pool2 " * 4 + "fc10", (32, 32, 3))
        assert "shrinking" not in codes(report)
        report = check("conv5-6p2 relu pool2 conv5-16 relu pool2 conv5-120 relu fc10", (28, 28, 1))
        assert report.warnings == ()

    def test_a_filter_larger_than_its_input(self) -> None:
        found = warning(check("conv7-8p3 relu fc10", (4, 4, 3)), "filter-larger-than-input")
        assert found.message == (
            "the window reaches over 7×7 places but its input is only 4×4, so some weights only "
            "ever meet padding (conv1): use a smaller window, or shrink the maps less before it"
        )

    def test_layers_past_the_whole_image_are_told_once(self) -> None:
        found = warning(check("(conv3-8p1 relu)x20 fc10", (16, 16, 3)), "wasted-layers")
        assert found.layer == "conv9"
        assert found.message == (
            "the receptive field is 17×17 before it, more than the whole 16×16 image, so there is "
            "nothing more to see for conv9, conv10, … conv20 (12 layers): use fewer layers, less "
            "pooling before them, or larger images"
        )

    def test_a_field_smaller_than_the_object(self) -> None:
        text = "conv3-8p1 relu conv3-8p1 relu gap fc10"
        found = warning(check(text, (32, 32, 3)), "receptive-field")
        assert found.layer == "gap1"
        assert "32·32 places that each see 5×5 pixels of the 32×32 to recognise" in found.message
        assert check(text, (32, 32, 3), object_size=(5, 5)).warnings == ()
        assert check(text.replace("gap ", ""), (32, 32, 3)).warnings == ()

    @pytest.mark.parametrize(
        ("tail", "message"),
        [
            (
                "relu",
                "relu right before the softmax changes the scores: it makes all negative ones "
                "equal and stops learning there; leave it out",
            ),
            (
                "sigmoid",
                "sigmoid right before the softmax changes the scores: it keeps them between 0 and "
                "1, so no class gets more than 23%; leave it out",
            ),
            (
                "tanh",
                "tanh right before the softmax changes the scores: it keeps them between −1 and 1, "
                "so no class gets more than 45%; leave it out",
            ),
        ],
    )
    def test_an_activation_before_the_scores(self, tail: str, message: str) -> None:
        report = check(f"conv3-8p1 relu fc10 {tail}", (8, 8, 3))
        assert warning(report, "activation-before-scores").message == message

    def test_dropout_on_the_scores(self) -> None:
        assert codes(check("conv3-8 relu fc10 drop0.5", (8, 8, 3))) == ["dropout-on-scores"]
        assert codes(check("conv3-8 relu drop0.5 fc10", (8, 8, 3))) == []

    def test_maps_are_no_scores(self) -> None:
        found = warning(check("conv5-10p2", (32, 32, 3)), "no-scores")
        assert "ends in maps, 32×32×10" in found.message


class TestMemory:
    def test_one_layer_counted_by_hand(self) -> None:
        memory = check("fc10", (32, 32, 3)).training_memory(batch_size=8)
        assert memory.weights == memory.gradients == memory.optimizer == 4 * 30_730
        # Images, labels, and at the loss scores, losses and probabilities.
        assert memory.activations == 8 * (4 * (3072 + 10 + 1 + 10) + 8)
        assert memory.activation_gradients == 0
        assert memory.total == 3 * 4 * 30_730 + memory.activations

    def test_positions_in_a_window_of_more_than_256_take_two_bytes(self) -> None:
        kept = {
            size: check(f"pool{size} fc10", (size, size, 64)).training_memory(1).activations
            - 4 * size * size * 64
            for size in (16, 17)
        }
        assert kept[17] - kept[16] == 64

    def test_it_grows_with_the_batch_and_the_optimizer(self) -> None:
        report = check("cs231n")
        one, two = report.training_memory(64), report.training_memory(128)
        assert two.activations == 2 * one.activations
        assert two.activation_gradients == 2 * one.activation_gradients
        assert (two.weights, two.gradients) == (one.weights, one.gradients)
        assert report.training_bytes(128) == two.total == report.training_bytes()
        adam = check("cs231n", optimizer_slots=2)
        assert adam.training_bytes() - report.training_bytes() == 4 * report.parameters

    def test_broken_nets_cannot_be_trained(self) -> None:
        for text in ("conv3-8s3 relu fc10", "[conv3-8 | conv3-8p1] fc10", "conv9-1", "conv"):
            assert check(text, (8, 8, 3)).training_bytes() == 0


def test_the_report_is_plain_data() -> None:
    for net, size in (("lenet5", None), ("conv3-8s3 pool2", (7, 7, 1)), ("conv", (7, 7, 1))):
        report = check(net, size)
        data = report.to_dict()
        assert json.loads(json.dumps(data)) == data
        assert data["ok"] == report.ok
        assert len(data["rows"]) == len(report.rows)
    assert check("lenet5").to_dict()["training"]["total"] == check("lenet5").training_bytes()


def test_a_factor_behind_the_scores_is_no_activation() -> None:
    assert not check("conv3-4 relu fc10 scale0.1", input=(8, 8, 3)).warnings
    (warning,) = check("conv3-4 scale0.5 conv3-4 relu fc10", input=(8, 8, 3)).warnings
    assert warning.code == "no-nonlinearity"
