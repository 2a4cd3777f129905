"""Text to Spec, with every mistake in the text found in one pass."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import field

from hubel.errors import NetworkError, Problem
from hubel.notation.expand import count_layers
from hubel.notation.spec import Branches, Item, Repeat, Spec
from hubel.notation.token import read_layer, read_whole, shorten
from hubel.records import dataclass

__all__ = ["MOST_LAYERS", "parse"]

MOST_LAYERS = 10_000
"""A network has at most so many layers, repeats unrolled."""

_MOST_CHARACTERS = 1_000_000
_MOST_PROBLEMS = 1_000
_DEEPEST = 50
_WORD = re.compile(r"#[^\n\r]*|[()\[\]{}|]|[^\s()\[\]{}|#]+")
_TIMES = re.compile(r"x([0-9]+)")
_CLOSER = {"(": ")", "[": "]", "{": "}"}
_OPENER = {closer: opener for opener, closer in _CLOSER.items()}


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.start + len(self.text)


@dataclass(slots=True)
class _Group:
    """An open bracket with what stands in it so far, branch by branch."""

    opener: _Word
    problems_before: int = 0
    branches: list[list[Item]] = field(default_factory=lambda: [[]])


def parse(text: str) -> Spec:
    """Read a network; raises NetworkError with every syntax problem, each with its place.

    >>> parse("conv5-10p2 relu").items[0].padding
    (2, 2)
    >>> parse("conv3 rellu")
    Traceback (most recent call last):
    hubel.errors.NetworkError: the network has 2 problems:
      conv3: conv needs its number of filters, as in conv3-10
      rellu: is not a layer: did you mean relu?
    """
    if len(text) > _MOST_CHARACTERS:
        message = f"the text has {len(text):,} characters, more than {_MOST_CHARACTERS:,}"
        raise NetworkError((Problem("syntax", "error", message),))
    reader = _Reader(text)
    items = tuple(reader.read())
    if reader.problems:
        reader.problems.sort(key=lambda problem: problem.span or (0, 0))
        raise NetworkError(tuple(reader.problems))
    return Spec(items, text)


class _Reader:
    """The state of one pass over the text: open groups, words still to come, problems."""

    def __init__(self, text: str) -> None:
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.problems: list[Problem] = []
        self.groups = [_Group(_Word("", 0))]
        found = _WORD.finditer(text)
        words = [_Word(match[0], match.start()) for match in found]
        self.words = [word for word in words if not word.text.startswith("#")]

    def read(self) -> list[Item]:
        if not self.words:
            self.wrong(_Word("", 0), "the network is empty: write its layers, as in conv3-10 relu")
        elif sum(word.text not in "()[]{}|" for word in self.words) > MOST_LAYERS:
            self.wrong(_Word("", 0), f"the network has more than {MOST_LAYERS:,} layers")
        else:
            self.walk(iter(self.words))
        return self.groups[0].branches[0]

    def walk(self, words: Iterator[_Word]) -> None:
        word = next(words, None)
        while word is not None:
            if len(self.problems) >= _MOST_PROBLEMS:
                self.wrong(word, f"is not read any more, after {_MOST_PROBLEMS:,} problems")
                return
            if len(self.groups) > _DEEPEST + 1:
                self.wrong(self.groups[-1].opener, f"is nested more than {_DEEPEST} deep")
                return
            following = next(words, None)
            if word.text in _CLOSER:
                self.open(word)
            elif word.text == "|":
                self.bar(word)
            elif word.text in _OPENER:
                times = None
                if word.text == ")" and following and following.text.startswith("x"):
                    times, following = following, next(words, None)
                self.close(word, times)
            else:
                self.layer(word)
            word = following
        for group in self.groups[1:]:
            self.unclosed(group)
        count = count_layers(self.groups[0].branches[0])
        if count > MOST_LAYERS:
            message = f"the network has more than {MOST_LAYERS:,} layers once repeats are unrolled"
            self.wrong(_Word("", 0), message)

    def layer(self, word: _Word) -> None:
        reading = read_layer(word.text, word.span)
        for message in reading.wrong:
            self.wrong(word, message)
        if reading.layer is not None:
            self.add(reading.layer)

    def add(self, item: Item) -> None:
        self.groups[-1].branches[-1].append(item)

    def open(self, word: _Word) -> None:
        self.groups.append(_Group(word, len(self.problems)))

    def bar(self, word: _Word) -> None:
        group = self.groups[-1]
        if group.opener.text in ("[", "{"):
            group.branches.append([])
        else:
            self.wrong(word, "stands only between the branches of [ a | b ] or { a | b }")

    def close(self, word: _Word, times: _Word | None) -> None:
        opener = _OPENER[word.text]
        if all(group.opener.text != opener for group in self.groups[1:]):
            self.wrong(word, f"closes nothing: there is no {opener} before it")
            return
        while self.groups[-1].opener.text != opener:
            self.unclosed(self.groups.pop())
        group = self.groups.pop()
        if opener == "(":
            self.add_repeat(group, word, times)
        else:
            self.add_branches(group, word)

    def add_repeat(self, group: _Group, closer: _Word, times: _Word | None) -> None:
        body = tuple(group.branches[0])
        count = 1
        if not body and not self.problems_within(group):
            self.wrong(group.opener, "there is no layer between ( and )")
        if times is None:
            self.wrong(closer, "lacks the number of repeats: write ( … )x2, or leave ( ) out")
        else:
            match = _TIMES.fullmatch(times.text)
            messages: list[str] = []
            if match is None:
                messages.append("is no number of repeats: write x and a number, as in ( … )x2")
            else:
                count = read_whole(match[1], "number of repeats", messages)
            for message in messages:
                self.wrong(times, message)
        self.add(Repeat(body, count, (group.opener.start, (times or closer).span[1])))

    def add_branches(self, group: _Group, closer: _Word) -> None:
        branches = tuple(tuple(branch) for branch in group.branches)
        pair = f"{group.opener.text} a | b {closer.text}"
        if len(branches) < 2:
            self.wrong(group.opener, f"needs at least two branches with | between them: {pair}")
        elif sum(not branch for branch in branches) > 1 and not self.problems_within(group):
            self.wrong(group.opener, "only one branch may be empty: an empty one is the identity")
        span = group.opener.start, closer.span[1]
        self.add(Branches("add" if group.opener.text == "[" else "concat", branches, span))

    def problems_within(self, group: _Group) -> bool:
        """Whether something in the brackets was refused, so that they may only look empty."""
        return len(self.problems) > group.problems_before

    def unclosed(self, group: _Group) -> None:
        closer = _CLOSER[group.opener.text]
        closing = ")x2" if closer == ")" else closer
        self.wrong(group.opener, f"is never closed: write {closing} where it ends")

    def wrong(self, word: _Word, message: str) -> None:
        """Note a problem at a word; a text of several lines also gets line and column."""
        if word.text and len(self.line_starts) > 1:
            line = bisect_right(self.line_starts, word.start)
            column = word.start - self.line_starts[line - 1] + 1
            message += f" (line {line}, column {column})"
        span = word.span if word.text else None
        self.problems.append(Problem("syntax", "error", message, shorten(word.text), span))
