"""What preflight found, in words: a line a check, and where one fails why and what to change."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from hubel.train.preflight import Check

__all__ = ["check_lines", "preflight_lines", "quantity"]

_WIDTH = 96


def _number(value: float) -> str:
    return f"{value:.3g}"


def _seconds(value: float) -> str:
    return f"{value:.3g} s"


def _bytes(value: float) -> str:
    size, unit = (1e9, "GB") if value >= 1e9 else (1e6, "MB") if value >= 1e6 else (1e3, "kB")
    return f"{value / size:.3g} {unit}"


_SHOWN: Mapping[str, Callable[[float], str]] = MappingProxyType(
    {"seconds-an-epoch": _seconds, "memory": _bytes, "checkpoint": _bytes}
)


def check_lines(check: Check) -> Iterator[str]:
    """A check in one line, and where it fails its cause and the advice.

    >>> print(*check_lines(Check("first-loss", True, 2.31, "2.00 to 6.30")))
    ok    first-loss        2.31      expected: 2.00 to 6.30
    """
    yield (
        f"{'ok' if check.ok else 'FAIL':<6}{check.check:<18}{_shown(check):<10}"
        f"expected: {check.expected}".rstrip()
    )
    if not check.ok:
        yield from textwrap.wrap(
            check.cause, _WIDTH, initial_indent="      ", subsequent_indent="      "
        )
        yield from textwrap.wrap(
            check.advice, _WIDTH, initial_indent="      → ", subsequent_indent="        "
        )


def preflight_lines(checks: Sequence[Check], seconds: float) -> Iterator[str]:
    """All checks before a run: those that fail in full, the others by their number alone."""
    failed = [check for check in checks if not check.ok]
    by_name = {check.check: _shown(check) for check in checks}
    passed = "all passed" if not failed else f"{len(failed)} FAILED"
    yield (
        f"Preflight: {len(checks)} checks in {seconds:.1f} s, {passed}; about "
        f"{by_name['seconds-an-epoch']} an epoch, {by_name['memory']} of memory, "
        f"{by_name['checkpoint']} a checkpoint"
    )
    for check in failed:
        yield from check_lines(check)


def _shown(check: Check) -> str:
    if check.value is None:
        return "not finite" if not check.ok else "unknown"
    return quantity(check.check, check.value)


def quantity(check: str, value: float) -> str:
    """A check's number with its unit.

    >>> quantity("memory", 310_000_000)
    '310 MB'
    """
    return _SHOWN.get(check, _number)(value)
