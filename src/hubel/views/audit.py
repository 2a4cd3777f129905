"""An audit as text: what was looked for, what was found, the first few files, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from hubel.data.audit import Audit
from hubel.data.checks import ImageCheck

__all__ = ["lines", "note_lines"]

_SHOWN = 3


def lines(found: Audit) -> Iterator[str]:
    """A line a check, and for those that found anything why it matters and the first few files."""
    failed = sum(not check.ok for check in found.checks)
    verdict = f"{failed} of {len(found.checks)} checks failed" if failed else "no check failed"
    yield f"Audit of {found.name}, {found.images:,} images: {verdict}"
    width = max(len(check.check) for check in found.checks)
    for check in found.checks:
        state = "ok    " if check.ok else "FAILED"
        yield f"{state}  {check.check:<{width}}  {check.value:,} (expected: {check.expected})"
        if not check.findings:
            continue
        yield f"        {check.cause}"
        for finding in check.findings[:_SHOWN]:
            yield f"          {' = '.join(finding.files)}: {finding.what}"
        if len(check.findings) > _SHOWN:
            yield f"          … and {len(check.findings) - _SHOWN:,} more; --out FILE.csv lists all"
        yield f"        To do: {check.advice}"


def note_lines(found: Audit) -> Iterator[str]:
    """A sentence for each failed check, with one example."""
    for check in found.checks:
        if not check.ok:
            yield f"audit: {check.check} {check.value:,}: {check.cause}{_example(check)}"


def _example(check: ImageCheck) -> str:
    if not check.findings:
        return ""
    first = check.findings[0]
    return f" ({' = '.join(first.files)}: {first.what})"
