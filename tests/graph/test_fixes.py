"""Every fix does what it says, none smaller exists, and looking for them takes bounded time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

import pytest

from hubel.errors import Fix, Problem
from hubel.graph.build import build
from hubel.graph.check import check
from hubel.notation.parse import parse


def problem_of(text: str, size: tuple[int, int, int], code: str) -> Problem:
    return next(one for one in check(text, size, classes=10).problems if one.code == code)


def edits_of(text: str, size: tuple[int, int, int], code: str = "misfit") -> list[str]:
    return [fix.edit for fix in problem_of(text, size, code).fixes]


def applied(fix: Fix) -> tuple[Problem, ...]:
    """What is left wrong after a fix."""
    return problems_of(fix.text, fix.input)


def problems_of(text: str, size: tuple[int, int, int]) -> tuple[Problem, ...]:
    return build(parse(text), size, classes=10).problems


def test_stride_three_on_seven_as_in_the_lecture() -> None:
    problem = problem_of("conv3-8s3", (7, 7, 3), "misfit")
    assert [(fix.edit, fix.text, fix.input) for fix in problem.fixes] == [
        ("padding 1", "conv3-8s3p1", (7, 7, 3)),
        ("stride 2", "conv3-8s2", (7, 7, 3)),
        ("filter 4", "conv4-8s3", (7, 7, 3)),
        ("input 6×6×3", "conv3-8s3", (6, 6, 3)),
        ("round down with ~", "conv3-8s3~", (7, 7, 3)),
    ]
    assert not any(applied(fix) for fix in problem.fixes)


def test_a_fix_in_a_repeat_edits_the_token_once_for_all() -> None:
    problem = problem_of("(conv3-8p1 relu pool2)x2 fc10  # twice", (30, 30, 3), "misfit")
    assert problem.layer == "pool2"
    texts = {fix.edit: fix.text for fix in problem.fixes}
    assert texts["round down with ~"] == "(conv3-8p1 relu pool2~)x2 fc10  # twice"
    assert texts["input 28×28×3"] == "(conv3-8p1 relu pool2)x2 fc10  # twice"
    assert not any(applied(fix) for fix in problem.fixes)


def test_comments_and_lines_stay_as_they_were() -> None:
    text = "# mine\nconv3-8s3   # three\n relu fc10\n"
    assert problem_of(text, (7, 7, 3), "misfit").fixes[0].text == text.replace("s3", "s3p1", 1)


def test_groups_that_divide_depth_and_filters() -> None:
    assert edits_of("conv3-16 relu conv3-32g3", (16, 16, 3), "groups") == ["groups 2"]
    assert edits_of("conv3-16 relu conv3-9g3", (16, 16, 3), "groups") == [
        "15 filters in conv3-16 before it",
        "groups 1",
    ]
    problem = problem_of("conv3-9 relu conv3-8g3", (16, 16, 3), "groups")
    assert [fix.edit for fix in problem.fixes] == ["filters 9", "groups 1"]


def test_groups_of_a_normalisation_that_divide() -> None:
    edits = edits_of("conv3-9 gn8 fc10", (16, 16, 3), "norm-groups")
    assert edits == ["groups 9", "8 filters in conv3-9 before it"]


def test_maxout_pieces_that_divide() -> None:
    edits = edits_of("conv3-9 maxout2 fc10", (16, 16, 3), "maxout")
    assert edits == ["pieces 3", "8 filters in conv3-9 before it"]


def test_a_window_larger_than_its_input() -> None:
    problem = problem_of("pool4 relu conv5-8", (16, 16, 3), "too-small")
    assert [fix.edit for fix in problem.fixes] == [
        "padding 1",
        "filter 4",
        "input 20×20×3",
    ]
    assert problem.formula == "(4 − 5)/1 + 1 = 0"
    assert not any(applied(fix) for fix in problem.fixes)


def test_pools_too_many_are_left_out_or_given_larger_images() -> None:
    text = "conv3-8p1 relu pool2 conv3-8p1 relu pool2 conv3-8p1 relu pool2 fc10"
    problem = problem_of(text, (4, 4, 3), "too-small")
    assert problem.layer == "pool3"
    assert [(fix.edit, fix.text, fix.input) for fix in problem.fixes] == [
        ("leave pool2 out", text.replace("pool2 fc10", "fc10"), (4, 4, 3)),
        ("input 8×8×3", text, (8, 8, 3)),
    ]


def test_an_unpadded_stack_is_padded_throughout() -> None:
    problem = problem_of("(conv3-8 relu)x20 fc10", (32, 32, 3), "too-small")
    assert {fix.edit: fix.text for fix in problem.fixes}["padding 1"] == "(conv3-8p1 relu)x20 fc10"
    text = " ".join(["conv3-8 relu"] * 20) + " fc10"
    edits = edits_of(text, (32, 32, 3), "too-small")
    assert edits == ["input 41×41×3", "conv3-8 → conv3-8p1"]


def test_dilation_is_made_smaller() -> None:
    assert "dilation 4" in edits_of("conv3-8d5", (9, 9, 3), "too-small")


def test_padding_that_puts_pools_outside_the_image() -> None:
    assert edits_of("pool3p3", (9, 9, 3), "padding") == ["padding 0", "window 6"]


@pytest.mark.parametrize(
    ("text", "edit", "fixed"),
    [
        (
            "[conv3-16p1 relu conv3-16p1 | ] relu gap fc10",
            "conv1-16 in the empty branch",
            "[conv3-16p1 relu conv3-16p1 |  conv1-16 ] relu gap fc10",
        ),
        (
            "[ | conv3-16s2p1~ bn] relu gap fc10",
            "conv1-16s2~ in the empty branch",
            "[ conv1-16s2~  | conv3-16s2p1~ bn] relu gap fc10",
        ),
        (
            "[conv3-16 relu conv3-16 | ] relu gap fc10",
            "conv3-16 → conv3-16p1, conv1-16 in the empty branch",
            "[conv3-16p1 relu conv3-16p1 |  conv1-16 ] relu gap fc10",
        ),
        (
            "[conv3-16 | conv1-16] relu gap fc10",
            "conv3-16 → conv3-16p1",
            "[conv3-16p1 | conv1-16] relu gap fc10",
        ),
        (
            "[conv3-16p1 | conv1-8] relu gap fc10",
            "16 filters in conv1-8",
            "[conv3-16p1 | conv1-16] relu gap fc10",
        ),
        (
            "[conv3-16s2p1~ | conv1-16] relu gap fc10",
            "conv1-16 → conv1-16s2~",
            "[conv3-16s2p1~ | conv1-16s2~] relu gap fc10",
        ),
        (
            "{conv1-8 | conv3-8 | pool3s1} gap fc10",
            "conv3-8 → conv3-8p1, pool3s1 → pool3s1p1",
            "{conv1-8 | conv3-8p1 | pool3s1p1} gap fc10",
        ),
    ],
)
def test_branches_are_made_alike(text: str, edit: str, fixed: str) -> None:
    fixes = problem_of(text, (32, 32, 3), "branches").fixes
    found = {fix.edit: fix.text for fix in fixes}
    assert found[edit] == fixed
    assert not any(applied(fix) for fix in fixes)


def test_whole_fixes_come_before_smaller_ones_that_leave_problems() -> None:
    report = check("conv3-8s3 relu pool2 conv3-8p1 relu pool2 fc10", (31, 31, 3))
    assert len(report.problems) > 1
    for problem in report.problems:
        whole = [not applied(fix) for fix in problem.fixes]
        assert whole == sorted(whole, reverse=True)
    assert not all(applied(fix) for fix in report.problems[0].fixes)


def test_an_input_that_is_not_square_is_changed_where_it_does_not_fit() -> None:
    edits = edits_of("conv3-8 relu pool2 fc10", (30, 31, 3))
    assert {"window 2×3", "stride 2×1", "input 30×30×3", "input 30×32×3"} <= set(edits)
    assert "input 30×28×3" in edits_of("conv3-8 relu pool2 fc10", (31, 29, 3))


def random_net(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randint(1, 4)):
        roll = rng.random()
        suffix = rng.choice(["", "s2", "s3", "s2p1", "p1", "s4"])
        if roll < 0.45:
            parts.append(f"conv{rng.randint(1, 5)}-{rng.choice([4, 6, 8])}{suffix} relu")
        elif roll < 0.6:
            parts.append(rng.choice(["pool2", "pool3", "pool3s2", "avgpool2", "pool2s3"]))
        elif roll < 0.7:
            parts.append(f"conv3x2-6{suffix}d2 relu")
        elif roll < 0.78:
            parts.append(f"conv3-{rng.choice([4, 6])}p1g{rng.randint(2, 3)}")
        elif roll < 0.84:
            parts.append(f"maxout{rng.randint(2, 3)}")
        elif roll < 0.92:
            parts.append(f"(conv{rng.randint(2, 3)}-4 relu pool2)x{rng.randint(2, 3)}")
        else:
            parts.append(f"[conv3-6{suffix} relu conv3-6 | {rng.choice(['', 'conv1-6'])}]")
    return " ".join([*parts, "fc10"])


def keys(problems: Iterable[Problem]) -> set[tuple[str, str]]:
    return {(one.code, one.layer) for one in problems}


def faults(problems: Iterable[Problem]) -> int:
    """Problems, a window that fits neither way counted twice."""
    return sum(1 + one.message.endswith("both ways") for one in problems)


@pytest.mark.slow
def test_every_fix_of_random_broken_nets_removes_its_problem_and_adds_none() -> None:
    rng = random.Random(11)
    broken = fixes = mended = 0
    while broken < 300:
        text = random_net(rng)
        size = (rng.randint(5, 40), rng.randint(5, 40), 3) if rng.random() < 0.3 else None
        side = rng.randint(5, 40)
        report = check(text, size or (side, side, 3))
        if report.ok:
            continue
        broken += 1
        before = keys(report.problems)
        for problem in report.problems:
            assert len(problem.fixes) <= 5
            for fix in problem.fixes:
                after = applied(fix)
                fixes += 1
                mended += not after
                assert faults(after) < faults(report.problems), (text, fix)
                if "leave" not in fix.edit and "empty branch" not in fix.edit:
                    assert (problem.code, problem.layer) not in keys(after), (text, fix)
                    assert keys(after) <= before, (text, fix)
        if len(report.problems) == 1:
            assert not any(applied(fix) for fix in report.problems[0].fixes), text
    assert fixes > 500
    assert mended > 300


def test_no_smaller_edit_of_a_single_window_exists() -> None:
    rng = random.Random(3)
    for _ in range(120):
        size, stride, padding = rng.randint(1, 7), rng.randint(1, 5), rng.randint(0, 3)
        side = rng.randint(1, 20)

        def text(size: int, stride: int, padding: int) -> str:
            return f"conv{size}-4s{stride}p{padding}"

        report = check(text(size, stride, padding), (side, side, 1))
        if report.ok:
            continue
        legal: dict[str, int] = {}
        for other in range(0, 30):
            for kind, values in (
                ("padding", (size, stride, other)),
                ("stride", (size, max(other, 1), padding)),
                ("filter", (max(other, 1), stride, padding)),
            ):
                if not problems_of(text(*values), (side, side, 1)):
                    current = {"padding": padding, "stride": stride, "filter": size}[kind]
                    distance = abs(
                        {"padding": values[2], "stride": values[1]}.get(kind, values[0]) - current
                    )
                    legal[kind] = min(distance, legal.get(kind, distance))
        found = {}
        for fix in report.problems[0].fixes:
            kind, _, value = fix.edit.partition(" ")
            if kind in ("padding", "stride", "filter"):
                current = {"padding": padding, "stride": stride, "filter": size}[kind]
                found[kind] = abs(int(value) - current)
        assert found == legal, (report.text, side)


def test_fifty_layers_with_twenty_five_misfits_take_less_than_two_seconds() -> None:
    start = time.process_time()
    report = check("conv4-8s3p39 relu " * 25 + "fc10", (38, 38, 3))
    assert time.process_time() - start < 2
    assert len(report.rows) == 51
    assert len(report.problems) == 25
    assert all(problem.fixes for problem in report.problems)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("(conv3-8s2p1 relu)x3000 fc10", (33, 33, 3)),
        ("((conv2-4s2p20000)x100)x90", (40001, 40001, 1)),
        ("conv999999999-9 fc10", (32, 32, 3)),
        ("conv3-9s999999999 fc10", (32, 32, 3)),
        ("conv3-9p999999999 fc10", (32, 32, 3)),
        ("conv3-9d999999999 fc10", (32, 32, 3)),
        ("conv3-999999999g999999998 fc10", (32, 32, 3)),
        ("conv1-4s7p30000 " * 500, (65536, 1, 1)),
        ("conv1-4s7p2000 " * 500, (667, 667, 1)),
        ("conv1-4s7p15000 " * 500, (5001, 5001, 1)),
        ("conv900-4d2s7p9000 " * 500, (2600, 2600, 1)),
        ("(conv4-8s3p39 relu)x4000", (38, 38, 1)),
        ("([conv3-8s2p17 | conv3-7] {conv3-4 | pool2})x20", (33, 33, 3)),
        ("[" * 40 + "conv3-8 | conv3-7" + "| ]" * 40, (32, 32, 3)),
        ("{conv3-8|" * 300 + "conv2-4" + "}" * 300, (32, 32, 3)),
    ],
)
def test_adversarial_texts_end_soon(text: str, size: tuple[int, int, int]) -> None:
    start = time.process_time()
    check(text, size)
    assert time.process_time() - start < 10
