"""Ranges of numbers: what a search chooses from, in a network's text and in choices of training."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from hubel.errors import NetworkError, Problem, UsageError
from hubel.notation.expand import expand
from hubel.notation.kinds import KINDS, SUFFIXES
from hubel.notation.names import Names
from hubel.notation.parse import parse
from hubel.notation.spec import Branches, Item, Layer
from hubel.notation.token import shorten

__all__ = ["Range", "RangedNet", "read_range", "read_ranged"]

_FORMS = "write 16..64, 16..128 log, or 16,32,64"
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?")
_SPAN = re.compile(r"(\S+?)\.\.(\S+?)(?:\s+(log|linear))?")
# Braces with no bar in them, which no concatenation lacks, so that no network is taken for one.
_BRACES = re.compile(r"#[^\n\r]*|\{([^{}|()\[\]#]*)\}")
_NAMED = re.compile(r"([a-z][a-z_]*)\s*=\s*(.*)", re.DOTALL)
_USED = re.compile(r"([0-9]{0,4})([a-z][a-z_]*)")
_PLACE_IN_LINES = re.compile(r" \(line \d+, column \d+\)$")
_LETTERS = {example[0]: sets for sets, example in SUFFIXES.items() if example[0].isalpha()}
# Digits that a number between two ends is rounded to: finer than any difference it makes.
_DIGITS = 3
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`, or those of `values` alone where numbers were listed.

    `whole` says that they are integers, `log` that they are drawn evenly on a logarithmic scale.

    >>> str(Range(16, 128, whole=True, log=True)), str(Range(3, 5, whole=True, values=(3, 5)))
    ('16..128 log', '3,5')
    """

    low: float
    high: float
    whole: bool = False
    log: bool = False
    values: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.values:
            return ",".join(map(self.written, self.values))
        scale = " log" if self.log else ""
        return f"{self.written(self.low)}..{self.written(self.high)}{scale}"

    def share(self, number: float) -> float:
        """How far along the range a number lies on its scale, 0 at the low end, 1 at the high one.

        >>> Range(0.001, 0.1, log=True).share(0.01)
        0.5
        """
        low, high, here = (
            math.log(one) if self.log else one for one in (self.low, self.high, number)
        )
        return (here - low) / (high - low) if high > low else 0.5

    def at(self, share: float) -> float:
        """The number that lies so far along the range on its scale.

        >>> Range(0.0, 8.0).at(0.25)
        2.0
        """
        if self.log:
            number = self.low * (self.high / self.low) ** share
        else:
            number = self.low + (self.high - self.low) * share
        return self.rounded(round(number) if self.whole else number)

    def written(self, number: float) -> str:
        """A number as the notation and the command line take it, to the last bit."""
        return str(int(number)) if self.whole else repr(float(number))

    def rounded(self, number: float) -> float:
        """The number near this one that is short to write, within the range."""
        if self.values:
            return number
        if self.whole:
            return int(number)
        return min(max(float(f"{number:.{_DIGITS}g}"), self.low), self.high)


def read_range(
    text: str, *, usually_log: bool = False, whole: bool | None = None, named: str = ""
) -> Range:
    """The range that a text means; a single number is a range of one value.

    Without `log` or `linear` behind it, it is logarithmic where that is usual. It is of `whole`
    numbers where all of its numbers are written so, unless that is said. Raises UsageError, which
    says what is `named`.

    >>> read_range("1e-4..1e-1", usually_log=True)
    Range(low=0.0001, high=0.1, whole=False, log=True, values=())
    >>> read_range("16,32,64").values
    (16, 32, 64)
    >>> read_range("64..16")
    Traceback (most recent call last):
    hubel.errors.UsageError: 64..16 ends before it begins. Hint: write 16..64.
    """
    where, given = named, " ".join(text.split()).lower()
    if len(given) > _LONGEST:
        raise UsageError(f"{shorten(given)} is too long", where=where, hint=_FORMS)
    span = _SPAN.fullmatch(given)
    parts = [span[1], span[2]] if span else [part.strip() for part in given.split(",")]
    if not all(map(_NUMBER.fullmatch, parts)):
        raise UsageError(f"{shorten(given) or 'nothing'} is no range", where=where, hint=_FORMS)
    integers = all(part.isdigit() for part in parts)
    if whole and not integers:
        raise UsageError(f"{given} is not of whole numbers", where=where, hint=_FORMS)
    whole = integers if whole is None else whole
    numbers = [int(part) if whole else float(part) for part in parts]
    if span is None:
        if len(set(numbers)) < len(numbers):
            raise UsageError(f"{given} names a number twice", where=where, hint="leave it out once")
        return Range(min(numbers), max(numbers), whole, values=tuple(numbers))
    low, high = numbers
    if low >= high:
        what = "ends before it begins" if low > high else "is a single number"
        mended = f"{parts[1]}..{parts[0]}" if low > high else parts[0]
        raise UsageError(f"{given} {what}", where=where, hint=f"write {mended}")
    log = span[3] == "log" or (usually_log and span[3] is None)
    if log and not low:
        raise UsageError(
            f"{given} is logarithmic and begins at 0, where that scale has no end",
            where=where,
            hint=f"begin above 0, or write {parts[0]}..{parts[1]} linear",
        )
    return Range(low, high, whole, log)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a number goes into a text: that of a name, so many times over."""

    span: tuple[int, int]
    name: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class RangedNet:
    """A network's text with the ranges in it by name, in the order of the text."""

    text: str
    ranges: Mapping[str, Range]
    places: tuple[_Place, ...]

    def chosen(self, numbers: Mapping[str, float]) -> str:
        """The text of the network with a number in the place of each range.

        >>> read_ranged("conv3-{w=16..64} relu conv3-{2w} fc").chosen({"w": 20})
        'conv3-20 relu conv3-40 fc'
        """
        return self.filled(numbers)[0]

    def filled(self, numbers: Mapping[str, float]) -> tuple[str, list[tuple[int, int]]]:
        """The text with the numbers, and where in it each place has come to lie."""
        parts, spans, before, length = list[str](), list[tuple[int, int]](), 0, 0
        for place in self.places:
            first, last = place.span
            number = numbers[place.name]
            if place.times > 1:
                number = float(f"{number * place.times:.9g}")  # 0.3 for three times 0.1
            written = self.ranges[place.name].written(number)
            between = self.text[before:first]
            start = length + len(between)
            parts += [between, written]
            spans.append((start, start + len(written)))
            before, length = last, start + len(written)
        return "".join([*parts, self.text[before:]]), spans


@cache
def read_ranged(text: str) -> RangedNet:
    """Read a network whose numbers may be ranges in braces, `conv3-{16..64}` or `drop{0.1..0.5}`.

    A range may have a name, `{w=16..64}`, by which other places take the same number, `{w}`, or a
    multiple of it, `{2w}`. One without is named for its layer: `conv1 filters`. The syntax is
    checked with both ends of each range. Raises NetworkError with every problem in its place.

    >>> list(read_ranged("conv{3,5}-{16..64}same relu drop{0.1..0.5} fc").ranges)
    ['conv1 size', 'conv1 filters', 'drop1 rate']
    """
    ranges: dict[str, Range] = {}
    places, problems = list[_Place](), list[Problem]()
    for found in _BRACES.finditer(text):
        if found[1] is None:
            continue
        inside, span, token = found[1].strip(), found.span(), shorten(found[0])
        used, named = _USED.fullmatch(inside), _NAMED.fullmatch(inside)
        if used:
            places.append(_Place(span, used[2], int(used[1] or 1)))
            continue
        name = named[1] if named else f"{len(places)}"
        try:
            range_ = read_range(named[2] if named else inside)
            if range_.low == range_.high:
                raise UsageError("is a single number", hint="write it without the braces")
        except UsageError as error:
            message = f"{error.what}: {error.hint}"
            problems.append(Problem("range", "error", message, token, span))
            range_ = Range(1, 1, whole=True)
        if name in ranges:
            message = f"{name} is a range already: write {{{name}}} for the same number once more"
            problems.append(Problem("range", "error", message, token, span))
        ranges.setdefault(name, range_)
        places.append(_Place(span, name))
    for place in places:
        if place.name not in ranges:
            message = f"there is no range {place.name}: write {{{place.name}=16..64}} in one place"
            token = text[slice(*place.span)]
            problems.append(Problem("range", "error", message, token, place.span))
        elif not place.times:
            message = "is no number of times: write it without the 0"
            token = text[slice(*place.span)]
            problems.append(Problem("range", "error", message, token, place.span))
    if problems:
        problems.sort(key=lambda problem: problem.span or (0, 0))
        raise NetworkError(tuple(problems), text)
    net = RangedNet(text, ranges, tuple(places))
    misread = tuple(dict.fromkeys(_misread(net)))
    if misread:
        raise NetworkError(misread, text)
    return _named_for_layers(net)


def _misread(net: RangedNet) -> Iterator[Problem]:
    """What is wrong with the text, and with it at the ends of each range."""
    lows = {name: one.low for name, one in net.ranges.items()}
    wrong = False
    for problem in _misread_with(net, lows):
        wrong = True
        yield problem
    if wrong:
        return
    for name, one in net.ranges.items():
        for number in one.values or (one.high,):
            for problem in _misread_with(net, {**lows, name: number}):
                message = f"{problem.message}, at {one.written(number)} of {one}"
                yield replace(problem, message=message)


def _misread_with(net: RangedNet, numbers: Mapping[str, float]) -> Iterator[Problem]:
    """The problems of a filled text, in the places where they stand in the ranged one."""
    filled, spans = net.filled(numbers)
    ends = [position for span in spans for position in span]
    kept = [position for place in net.places for position in place.span]
    try:
        parse(filled)
    except NetworkError as error:
        for problem in error.problems:
            message = _PLACE_IN_LINES.sub("", problem.message)
            if problem.span is None:
                yield replace(problem, message=message)
                continue
            first, last = (_shifted(position, ends, kept) for position in problem.span)
            token = shorten(net.text[first:last])
            yield replace(problem, message=message, span=(first, last), layer=token)


def _shifted(position: int, ends: list[int], kept: list[int]) -> int:
    """Where a position of the filled text lies in the ranged one."""
    before = 0
    for end, original in zip(ends, kept, strict=True):
        if position < end:
            break
        before = original - end
    return position + before


def _named_for_layers(net: RangedNet) -> RangedNet:
    """The same with each range that has no name called by its layer and what it sets there."""
    filled, spans = net.filled({name: one.low for name, one in net.ranges.items()})
    layers = list(_layers(expand(parse(filled)).items))
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for place, (start, _) in zip(net.places, spans, strict=True):
        if place.name.isdigit():
            called = _called(filled, start, layers)
            counts[called] += 1
            names[place.name] = called if counts[called] == 1 else f"{called} {counts[called]}"
    return RangedNet(
        net.text,
        {names.get(name, name): one for name, one in net.ranges.items()},
        tuple(replace(one, name=names.get(one.name, one.name)) for one in net.places),
    )


def _called(text: str, start: int, layers: list[tuple[str, Layer]]) -> str:
    for name, layer in layers:
        if layer.span[0] <= start < layer.span[1]:
            kind, before = KINDS[layer.kind], text[layer.span[0] : start].removeprefix(layer.kind)
            suffixes = [letter for letter in before if letter in _LETTERS]
            if suffixes:
                return f"{name} {_LETTERS[suffixes[-1]]}"
            if before.endswith("-") or (kind.count and not kind.size):
                return f"{name} {kind.count.removeprefix('number of ')}"
            return f"{name} {'size' if kind.size else kind.value}"
    return "repeats"


def _layers(items: tuple[Item, ...]) -> Iterator[tuple[str, Layer]]:
    """Each layer of a network without repeats, with its name."""
    name = Names()

    def walk(items: tuple[Item, ...]) -> Iterator[tuple[str, Layer]]:
        for item in items:
            if isinstance(item, Branches):
                for branch in item.branches:
                    yield from walk(branch)
            elif isinstance(item, Layer):
                yield name(item.kind), item

    return walk(items)
