"""The window formula, written once: how many places a filter or pool has along one axis."""

from __future__ import annotations

from hubel.notation.spec import Fit
from hubel.records import dataclass

__all__ = ["Window", "describe", "extent_of", "same_padding", "window"]


@dataclass(frozen=True, slots=True)
class Window:
    """A window sliding along one axis of `size` inputs, and the number of places (`output`) it has.

    `before` and `after` are the zero padding at the two ends. `exact` tells whether the last place
    ends at the padded border; where it does not, "strict" has the output of "floor".
    """

    size: int
    filter: int
    stride: int
    before: int
    after: int
    dilation: int
    fit: Fit
    output: int
    exact: bool

    @property
    def extent(self) -> int:
        """Inputs from the first to the last one that a single window reads."""
        return extent_of(self.filter, self.dilation)

    @property
    def padded(self) -> int:
        """Inputs together with the padding at both ends."""
        return self.size + self.before + self.after

    @property
    def formula(self) -> str:
        """The arithmetic with its numbers, as in the lecture.

        >>> window(32, 5, before=2, after=2).formula
        '(32 + 2·2 − 5)/1 + 1 = 32'
        >>> window(7, 3, stride=3).formula
        '(7 − 3)/3 + 1 = 2.33'
        """
        quotient = f"({_padded_text(self)} − {_extent_text(self)})/{self.stride}"
        room = self.padded - self.extent
        places = room // self.stride + 1
        if self.fit == "strict" or room % self.stride == 0:
            return f"{quotient} + 1 = {_fraction_text(room + self.stride, self.stride)}"
        if self.fit == "ceil" and self.output > places:
            return f"⌈{quotient}⌉ + 1 = {_signed(places + 1)}"
        return f"⌊{quotient}⌋ + 1 = {_signed(places)}"

    @property
    def unread(self) -> tuple[range, ...]:
        """Runs of input positions, from 0 and without the padding, that no window reads.

        >>> window(7, 3, stride=3).unread
        (range(6, 7),)
        """
        if self.dilation == 1 and self.stride <= self.filter:
            # Neighbouring windows touch, so together they read one run from the start.
            end = (self.output - 1) * self.stride + self.filter if self.output else 0
            rest = range(max(end - self.before, 0), self.size)
            return (rest,) if rest else ()
        return _gaps(_read(self))


def window(
    size: int,
    filter: int,
    stride: int = 1,
    before: int = 0,
    after: int = 0,
    dilation: int = 1,
    fit: Fit = "strict",
) -> Window:
    """Place a window along one axis: (size + before + after − extent)/stride + 1 places.

    The extent is dilation·(filter − 1) + 1. "ceil" adds a last place over the border where there is
    a remainder, but none that starts past the input, as PyTorch does. A window larger than the
    padded input has no place (`output` 0).

    >>> window(224, 2, stride=2).output
    112
    """
    room = size + before + after - extent_of(filter, dilation)
    output = room // stride + 1
    remainder = room % stride
    if fit == "ceil" and remainder and output * stride < size + before:
        output += 1
    return Window(
        size=size,
        filter=filter,
        stride=stride,
        before=before,
        after=after,
        dilation=dilation,
        fit=fit,
        output=max(output, 0),
        exact=room >= 0 and remainder == 0,
    )


def extent_of(filter: int, dilation: int = 1) -> int:
    """Inputs from the first to the last one that a dilated filter reads.

    >>> extent_of(3, dilation=2)
    5
    """
    return dilation * (filter - 1) + 1


def same_padding(
    size: int,
    filter: int,
    stride: int = 1,
    dilation: int = 1,
) -> tuple[int, int]:
    """Zero padding (before, after) for ceil(size/stride) outputs, the odd one at the end.

    TensorFlow's rule: max((ceil(size/stride) − 1)·stride + extent − size, 0) in all.

    >>> same_padding(32, 3, stride=2)
    (0, 1)
    """
    output = -(-size // stride)
    total = max((output - 1) * stride + extent_of(filter, dilation) - size, 0)
    return total // 2, total - total // 2


def _read(window: Window) -> bytearray:
    """One byte an input, 1 where a window reads it."""
    read = bytearray(window.size)
    for tap in range(window.filter):
        start = tap * window.dilation - window.before
        stop = min(start + window.output * window.stride, window.size)
        # The first reading of this tap that is not in the padding.
        start = start if start >= 0 else start % window.stride
        if start < stop:
            count = len(range(start, stop, window.stride))
            read[start : stop : window.stride] = b"\1" * count
    return read


def _gaps(read: bytearray) -> tuple[range, ...]:
    gaps = []
    start = read.find(0)
    while start >= 0:
        stop = read.find(1, start)
        if stop < 0:
            stop = len(read)
        gaps.append(range(start, stop))
        start = read.find(0, stop)
    return tuple(gaps)


def _padded_text(window: Window) -> str:
    if window.before == window.after:
        return f"{window.size} + 2·{window.before}" if window.before else f"{window.size}"
    return f"{window.size} + {window.before} + {window.after}"


def _extent_text(window: Window) -> str:
    if window.dilation == 1 or window.filter == 1:
        return f"{window.filter}"
    return f"({window.dilation}·({window.filter} − 1) + 1)"


def _fraction_text(numerator: int, denominator: int) -> str:
    """The quotient with two decimals, or as many as it takes to show that it is no integer."""
    whole, remainder = divmod(abs(numerator), denominator)
    sign = "−" if numerator < 0 else ""
    if not remainder:
        return f"{sign}{whole}"
    digits = 2
    while True:
        scale = 10**digits
        decimals = (2 * remainder * scale + denominator) // (2 * denominator)
        if 0 < decimals < scale:
            return f"{sign}{whole}.{decimals:0{digits}d}".rstrip("0")
        digits += 1


def _signed(number: int) -> str:
    return f"−{-number}" if number < 0 else f"{number}"


def describe(size: tuple[int, ...]) -> str:
    """A size as the lecture writes it.

    >>> describe((32, 32, 3))
    '32×32×3'
    """
    return "×".join(map(str, size))
