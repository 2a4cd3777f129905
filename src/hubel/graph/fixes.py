"""The smallest edits that mend a network's problems, each verified by applying it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from hubel.errors import Fix, NetworkError, Problem
from hubel.graph.build import Built, build
from hubel.graph.edits import (
    Edit,
    apply,
    branch_edits,
    count_edits,
    keeping_edits,
    layers_of,
    producer_of,
    window_edits,
)
from hubel.graph.layers import LARGEST_SIDE, axes_of
from hubel.graph.op import Shape
from hubel.graph.shape import describe
from hubel.notation.parse import parse
from hubel.notation.spec import Branches, Fit, Item, Layer, Repeat, Spec

__all__ = ["with_fixes"]

_MOST_FIXES = 5
_MOST_TRIES = 12
_FARTHEST_INPUT = 64
_MANY_PROBLEMS = 5
_EFFORT_FOR_INPUTS = 10_000
_EFFORT_FOR_EDITS = 30_000
_BY_WINDOW = ("misfit", "too-small", "padding")
_BY_COUNT = ("groups", "maxout", "norm-groups")
_BY_INPUT = ("misfit", "too-small", "branches")

_Key: TypeAlias = tuple[str, str]
_Fault: TypeAlias = tuple[str, str, str]


def with_fixes(
    spec: Spec,
    built: Built,
    input: tuple[int, int, int],
    classes: int | None,
    fit: Fit,
) -> tuple[Problem, ...]:
    """The problems of a built network, each with up to five fixes of different kinds.

    A fix is kept if the edited text, parsed and built again, has lost the problem and gained none.
    Fixes that leave the whole network without problems come first, then the smaller ones. However
    broken a network is, only so many edits are tried.
    """
    if not built.problems:
        return ()
    bench = _Bench(spec, input, classes, fit, built, _EFFORT_FOR_INPUTS)
    inputs = bench.inputs() if any(one.code in _BY_INPUT for one in built.problems) else []
    found: dict[_Key, tuple[Fix, ...]] = {}
    share = _EFFORT_FOR_EDITS // len(built.problems)
    bench.effort_left = 0
    for problem in built.problems:
        bench.effort_left += share
        key = _key(problem)
        if key not in found:
            others = inputs if problem.code in _BY_INPUT else []
            found[key] = bench.fixes(problem, list(_edits(problem, spec, built)), others)
    return tuple(replace(problem, fixes=found[_key(problem)]) for problem in built.problems)


def _key(problem: Problem) -> _Key:
    return problem.code, problem.layer


def _faults(problems: Iterable[Problem]) -> frozenset[_Fault]:
    """What is wrong, axis by axis."""
    return frozenset((*_key(one), axis) for one in problems for axis in axes_of(one) or ("",))


def _edits(problem: Problem, spec: Spec, built: Built) -> Iterator[Edit]:
    """What could mend one problem."""
    if problem.layer not in built.reads:
        return
    sizes = [built.graph[name].shape for name in built.reads[problem.layer]]
    if problem.code == "branches":
        item = next(one for one in _joins(spec.items) if one.span == problem.span)
        yield from branch_edits(item, _begins(item, built, problem.layer), sizes)
        return
    layer = next((one for one in layers_of(spec.items) if one.span == problem.span), None)
    if layer is None:
        return
    if problem.code in _BY_WINDOW and layer.size is not None:
        yield from window_edits(layer, sizes[0], problem.code)
        if problem.code == "too-small":
            yield from keeping_edits(spec.items)
    elif problem.code in _BY_COUNT:
        yield from count_edits(layer, sizes[0], producer_of(built, problem.layer), problem.code)


def _joins(items: Iterable[Item]) -> Iterator[Branches]:
    for item in items:
        match item:
            case Branches():
                yield item
                for branch in item.branches:
                    yield from _joins(branch)
            case Repeat():
                yield from _joins(item.body)
            case Layer():
                pass


def _begins(item: Branches, built: Built, join: str) -> Shape:
    """The size of what all branches of a join read: going back from its ends, past its brackets."""
    placed = {one.name: one for one in built.layers}
    name = built.reads[join][0]
    while name in placed and _within(placed[name].span, item.span):
        name = placed[name].sources[0]
    return built.graph[name].shape


def _within(span: tuple[int, int], outer: tuple[int, int]) -> bool:
    return outer[0] < span[0] and span[1] < outer[1]


def _moved(span: tuple[int, int] | None, edit: Edit) -> tuple[int, int] | None:
    """Where a span of the text lies after an edit."""
    if span is None:
        return None
    first, last = span
    for (start, stop), new in edit.changes:
        moved = len(new) - (stop - start)
        if start < span[0] or start == stop == span[0]:
            first += moved
        if start < span[1]:
            last += moved
    return first, last


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A verified fix: whether it leaves no problem at all, and how small it is."""

    whole: bool
    cost: int
    fix: Fix

    @property
    def rank(self) -> tuple[bool, int]:
        return not self.whole, self.cost


@dataclass(slots=True)
class _Bench:
    """Where edits are tried out, as long as there are tries left."""

    spec: Spec
    input: tuple[int, int, int]
    classes: int | None
    fit: Fit
    built: Built
    effort_left: int = 0
    known: frozenset[_Fault] = field(init=False)

    def __post_init__(self) -> None:
        self.known = _faults(self.built.problems)

    def fixes(
        self, problem: Problem, edits: list[Edit], inputs: list[_Candidate]
    ) -> tuple[Fix, ...]:
        """The best edit of each kind, in order, then input sizes as far as there is room."""
        kinds = {edit.kind: None for edit in edits}
        candidates = []
        for kind in kinds:
            best = self.best(problem, [edit for edit in edits if edit.kind == kind])
            if best is not None:
                candidates.append(best)
        candidates += inputs[:1]
        candidates.sort(key=lambda one: one.rank)
        candidates = (candidates[:_MOST_FIXES] + inputs[1:])[:_MOST_FIXES]
        return tuple(one.fix for one in sorted(candidates, key=lambda one: one.rank))

    def best(self, problem: Problem, edits: list[Edit]) -> _Candidate | None:
        """The smallest of some edits that leaves no problem, else the smallest that helps."""
        best: _Candidate | None = None
        for edit in sorted(edits, key=lambda one: one.cost)[:_MOST_TRIES]:
            text = apply(self.spec.text, edit)
            left = self.edited(text)
            if left is None or not self.helps(problem, edit, left):
                continue
            fix = Fix(edit.words, text, self.input)
            if not left:
                return _Candidate(True, edit.cost, fix)
            best = best or _Candidate(False, edit.cost, fix)
            if len(self.built.problems) > _MANY_PROBLEMS:
                break
        return best

    def helps(self, problem: Problem, edit: Edit, left: tuple[Problem, ...]) -> bool:
        """Whether the problem is gone and no other has come."""
        if not edit.shifts:
            gone = _key(problem) not in {_key(one) for one in left}
            return gone and _faults(left) <= self.known
        # Layers are numbered anew, so problems are known by their place in the text.
        after = Counter((one.code, one.span) for one in left)
        before = Counter((one.code, _moved(one.span, edit)) for one in self.built.problems)
        return after <= before and not after[problem.code, _moved(problem.span, edit)]

    def edited(self, text: str) -> tuple[Problem, ...] | None:
        """What is wrong with an edited text; None if it is no network or no tries are left."""
        if self.effort_left <= 0:
            return None
        self.effort_left -= len(text) // 8
        try:
            spec = parse(text)
        except NetworkError:
            return None
        return self.problems(spec, self.input)

    def problems(self, spec: Spec, size: tuple[int, int, int]) -> tuple[Problem, ...]:
        """What is wrong with a network on images of a size."""
        built = build(spec, size, self.classes, self.fit)
        self.effort_left -= len(built.layers) + 2 * len(built.problems) + 1
        return built.problems

    def inputs(self) -> list[_Candidate]:
        """The nearest smaller and larger images on which the whole network is exact."""
        height, width, _ = self.input
        if height == width:
            return self.sizes((1, 1))
        for direction in ((1, 0), (0, 1)):
            if found := self.sizes(direction):
                return found
        return self.both_sides()

    def sizes(self, direction: tuple[int, int]) -> list[_Candidate]:
        found = []
        for sign in (-1, 1):
            for distance in range(1, _FARTHEST_INPUT + 1):
                height = self.input[0] + sign * distance * direction[0]
                width = self.input[1] + sign * distance * direction[1]
                if self.fits((height, width)):
                    found.append(self.resized((height, width)))
                    break
        return sorted(found, key=lambda one: one.cost)

    def _square_near(self, side: int) -> int | None:
        near = range(side - _FARTHEST_INPUT // 2, side + _FARTHEST_INPUT // 2)
        for other in sorted(near, key=lambda other: abs(other - side)):
            if self.fits((other, other)):
                return other
        return None

    def both_sides(self) -> list[_Candidate]:
        """For images that are not square: sides that fit as squares do, put together."""
        height, width = (self._square_near(side) for side in self.input[:2])
        if height is None or width is None or not self.fits((height, width)):
            return []
        return [self.resized((height, width))]

    def fits(self, size: tuple[int, int]) -> bool:
        if self.effort_left <= 0 or min(size) < 1 or max(size) > LARGEST_SIDE:
            return False
        return not self.problems(self.spec, (*size, self.input[2]))

    def resized(self, size: tuple[int, int]) -> _Candidate:
        cost = max(abs(size[axis] - self.input[axis]) for axis in range(2))
        full = (*size, self.input[2])
        return _Candidate(True, cost, Fix(f"input {describe(full)}", self.spec.text, full))
