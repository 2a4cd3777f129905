"""One token to one Layer, as the table of kinds says, with a sentence for each mistake in it."""

from __future__ import annotations

import math
import re
from dataclasses import field, replace

from hubel.notation.kinds import KINDS, LARGEST_DIGITS, SUFFIXES, Kind
from hubel.notation.spec import Layer
from hubel.records import dataclass

__all__ = ["Reading", "read_layer", "read_whole", "shorten"]

_LONGEST = 200
_LETTERS = re.compile(r"[a-z]*")
_PAIR = re.compile(r"([0-9]+)(?:x([0-9]+))?")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:e[-+]?[0-9]+)?")
_SUFFIX = re.compile(r"same|([spdgb])([0-9]+(?:x[0-9]+)?)?|[~^]")
_LETTER_SETS = {"s": "stride", "p": "padding", "d": "dilation", "g": "groups", "b": "bias"}

# Other systems' spellings that no token of this notation can have.
_FOREIGN = (
    (re.compile(r"max_?pool(?:ing)?(?:2d)?(.*)"), "pool"),
    (re.compile(r"(?:global|adaptive)_?(?:avg|average)_?pool(?:ing)?(?:2d)?.*()"), "gap"),
    (re.compile(r"(?:avg_|average_?)pool(?:ing)?(?:2d)?(.*)"), "avgpool"),
    (re.compile(r"(?:conv2d|convolution(?:al)?)-?(.*)"), "conv"),
    (re.compile(r"(?:linear|dense|affine)-?(.*)"), "fc"),
    (re.compile(r"dropout-?(.*)"), "drop"),
    (re.compile(r"(?:batch_?norm(?:2d|alization)?|bnorm)()"), "bn"),
    (re.compile(r"(?:leaky_?relu|lrelu)-?(.*)"), "leaky"),
    (re.compile(r"swish()"), "silu"),
)
_RANGE = re.compile(r"(?:[a-z_]+=)?[0-9.][0-9.e+-]*(?:\.\.|,)[0-9.e+,-]+")
_NOT_NEEDED = {
    "flatten": "fc flattens on its own",
    "softmax": "the loss applies it",
    "logsoftmax": "the loss applies it",
}


@dataclass(slots=True)
class Reading:
    """A token as far as it is read: the `layer` (None where its kind is unknown) and `wrong`."""

    layer: Layer | None = None
    wrong: list[str] = field(default_factory=list)


def read_layer(word: str, span: tuple[int, int] = (0, 0)) -> Reading:
    """Read the token of one layer, such as conv3-10p1.

    >>> read_layer("pool3s2").layer.stride
    (2, 2)
    >>> read_layer("drop").wrong
    ['drop needs its rate, as in drop0.5']
    """
    reading = Reading()
    if len(word) > _LONGEST:
        reading.wrong.append(f"has more than {_LONGEST} characters: put spaces between layers")
        return reading
    name = _kind_of(word)
    if name is None:
        reading.wrong.append(_unknown(word))
        return reading
    kind = KINDS[name]
    layer, rest = _read_head(name, kind, word[len(name) :], reading.wrong)
    reading.layer = replace(_read_suffixes(name, kind, layer, rest, reading.wrong), span=span)
    return reading


def read_whole(text: str, what: str, wrong: list[str], least: int = 1) -> int:
    """The whole number of `text`, or `least` and a sentence in `wrong` where it cannot be."""
    if len(text) > LARGEST_DIGITS:
        wrong.append(f"the {what} {shorten(text)} has more than {LARGEST_DIGITS} digits")
        return least
    number = int(text)
    if number < least:
        wrong.append(f"the {what} must be at least {least}, not {number}")
        return least
    return number


def shorten(text: str, most: int = 40) -> str:
    """The text on one line, cut with … where it is longer than `most` characters."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in cut)


def _kind_of(word: str) -> str | None:
    """The kind that a token names; a suffix may follow its letters directly, as in fcb0."""
    if any(pattern.fullmatch(word) for pattern, _ in _FOREIGN):
        return None
    letters = _letters(word)
    if letters in KINDS:
        return letters
    for name, kind in KINDS.items():
        if letters.startswith(name) and kind.suffixes:
            suffix = _SUFFIX.match(word, len(name))
            if suffix and (suffix[2] or suffix[0] == "same"):
                return name
    return None


def _letters(word: str) -> str:
    match = _LETTERS.match(word)
    return match[0] if match else ""


def _read_head(name: str, kind: Kind, rest: str, wrong: list[str]) -> tuple[Layer, str]:
    """Window size, count and value; what is left of the token are suffixes."""
    layer = Layer(name)
    if kind.size:
        pair = _PAIR.match(rest)
        if pair is None:
            wrong.append(f"{name} needs a window size, as in {kind.example}")
        else:
            size = _pair(pair[0], "window size", wrong)
            layer = replace(layer, size=size)
            rest = rest[pair.end() :]
            if kind.stride_default == "size":
                layer = replace(layer, stride=size)
    if kind.count:
        # A count after a window size is set off by a hyphen: conv3-10.
        count = re.match(r"-([0-9]+)" if kind.size else r"([0-9]+)", rest)
        if count is not None:
            layer = replace(layer, count=read_whole(count[1], kind.count, wrong, kind.least_count))
            rest = rest[count.end() :]
        elif kind.count_needed:
            rest = rest.removeprefix("-")
            if layer.size is not None or not kind.size:
                head = f"{name}{_pair_text(layer.size)}-10" if layer.size else kind.example
                wrong.append(f"{name} needs its {kind.count}, as in {head}")
    if kind.value:
        number = _NUMBER.match(rest)
        if number is not None:
            layer = replace(layer, value=_value(number[0], kind, wrong))
            rest = rest[number.end() :]
        elif kind.default is not None:
            layer = replace(layer, value=kind.default)
        else:
            wrong.append(f"{name} needs its {kind.value}, as in {kind.example}")
    return layer, rest


def _read_suffixes(name: str, kind: Kind, layer: Layer, rest: str, wrong: list[str]) -> Layer:
    seen: dict[str, str] = {}
    while rest:
        match = _SUFFIX.match(rest)
        if match is None:
            wrong.append(f'"{shorten(rest)}" is not understood: {_takes(name, kind)}')
            return layer
        suffix, letter, number = match[0], match[1], match[2]
        rest = rest[match.end() :]
        sets = _LETTER_SETS[letter] if letter else "padding" if suffix == "same" else "fit"
        if sets not in kind.suffixes:
            wrong.append(f"{name} has no {sets} ({shorten(suffix)}): {_takes(name, kind)}")
        elif sets in seen:
            both = f"{shorten(seen[sets])} and {shorten(suffix)}"
            wrong.append(f"{both} both set the {sets}: keep one")
        elif letter and not number:
            wrong.append(f"{letter} needs a number, as in {SUFFIXES[sets].split()[0]}")
        else:
            layer = _with_suffix(layer, sets, suffix, number, wrong)
        seen.setdefault(sets, suffix)
    return layer


def _with_suffix(
    layer: Layer, sets: str, suffix: str, number: str | None, wrong: list[str]
) -> Layer:
    if sets == "fit":
        return replace(layer, fit="floor" if suffix == "~" else "ceil")
    if number is None:
        return replace(layer, padding="same")
    if sets == "stride":
        return replace(layer, stride=_pair(number, sets, wrong))
    if sets == "padding":
        return replace(layer, padding=_pair(number, sets, wrong, least=0))
    if sets == "dilation":
        return replace(layer, dilation=_pair(number, sets, wrong))
    if sets == "groups":
        if "x" in number:
            wrong.append(f"groups is one number, as in {SUFFIXES[sets]}, not {shorten(suffix)}")
            return layer
        return replace(layer, groups=read_whole(number, "number of groups", wrong))
    if number != "0":
        wrong.append(f"b0 leaves the bias out, and without it there is one: {shorten(suffix)}")
    return replace(layer, bias=False)


def _pair(text: str, what: str, wrong: list[str], least: int = 1) -> tuple[int, int]:
    height, _, width = text.partition("x")
    first = read_whole(height, what, wrong, least)
    return first, read_whole(width, what, wrong, least) if width else first


def _pair_text(pair: tuple[int, int]) -> str:
    height, width = pair
    return f"{height}" if height == width else f"{height}x{width}"


def _value(text: str, kind: Kind, wrong: list[str]) -> float:
    value = float(text)
    if value >= kind.below:
        limit = "finite" if math.isinf(kind.below) else f"less than {kind.below:g}"
        wrong.append(f"the {kind.value} must be {limit}, not {shorten(text)}")
        return kind.default or 0.0
    return value


def _takes(name: str, kind: Kind) -> str:
    """A sentence on what may follow in a token of this kind."""
    if kind.suffixes:
        are = "suffixes of {} are" if len(kind.suffixes) > 1 else "only suffix of {} is"
        return f"the {are.format(name)} {' '.join(SUFFIXES[sets] for sets in kind.suffixes)}"
    if kind.count or kind.value:
        return f"{name} takes its {kind.count or kind.value} and nothing else"
    return f"{name} takes nothing after its name"


def _unknown(word: str) -> str:
    plain = word.lower()
    reason = _NOT_NEEDED.get(re.sub(r"[0-9_]", "", plain))
    if reason is not None:
        return f"is not needed: {reason}; leave it out"
    if _RANGE.fullmatch(plain):
        return "is a range, which only `hubel search` takes: write one number, without braces"
    for pattern, name in _FOREIGN:
        match = pattern.fullmatch(plain)
        if match is not None:
            return f"is not a layer here: did you mean {_candidate(name, match[1])}?"
    letters = _letters(plain)
    from difflib import get_close_matches

    near = get_close_matches(letters, KINDS, n=1)
    if near:
        return f"is not a layer: did you mean {_candidate(near[0], plain[len(letters) :])}?"
    return f"is not a layer: the layers are {', '.join(KINDS)}"


def _candidate(name: str, rest: str) -> str:
    """The name with the rest of the token where that can be read, else the kind's example."""
    return KINDS[name].example if read_layer(name + rest).wrong else name + rest
