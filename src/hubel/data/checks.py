"""What a look at images or at a run finds: a check with its number, its cause and its advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Check", "Finding", "ImageCheck"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found: its number beside what was expected, why it matters, what to do.

    `value` is None where the number is not finite, or not known.
    """

    check: str
    ok: bool
    value: float | None
    expected: str
    cause: str = ""
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """All of it as what JSON can hold."""
        return {
            "check": self.check,
            "ok": self.ok,
            "value": self.value,
            "expected": self.expected,
            "cause": self.cause,
            "advice": self.advice,
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """Files that are wrong, one or the two that do not go together, and how."""

    files: tuple[str, ...]
    what: str


@dataclass(frozen=True, slots=True)
class ImageCheck(Check):
    """A check of images, with each one that was found.

    `value` counts images, and for `imbalance` is the ratio of the largest class to the smallest.
    """

    findings: tuple[Finding, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it as what JSON can hold, the files among it."""
        files = [{"files": list(one.files), "what": one.what} for one in self.findings]
        # A class with slots is made anew by its decorator, so that super() alone misses it.
        return {**Check.as_dict(self), "files": files}
