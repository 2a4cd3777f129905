"""What went wrong, where, and what would mend it: every error that a user can cause."""

from __future__ import annotations

from hubel.records import dataclass

__all__ = [
    "DataError",
    "Fix",
    "FormatError",
    "HubelError",
    "NetworkError",
    "Problem",
    "UsageError",
    "excerpt",
    "reason",
]


class HubelError(Exception):
    """An error that its user can mend: `what` happened, `where`, and a `hint` of what to do.

    >>> str(HubelError("the file is empty", where="cats/1.jpg", hint="delete it or copy it again"))
    'cats/1.jpg: the file is empty. Hint: delete it or copy it again.'
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if not self.hint:
            return text
        return f"{text.rstrip('.')}. Hint: {self.hint.rstrip('.')}."


class DataError(HubelError):
    """Images or labels that cannot be used as they are."""


class FormatError(HubelError):
    """A file that is not what its name or its place promises."""


class UsageError(HubelError, ValueError):
    """An argument that does not make sense."""


@dataclass(frozen=True, slots=True)
class Fix:
    """A smallest edit that makes a layer fit, already verified by applying it.

    `edit` says it in words ("padding 1"), `text` is the whole network after the edit and `input`
    the image size (height, width, depth) that goes with it.
    """

    edit: str
    text: str
    input: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a network (`severity` "error") or worth knowing ("warning").

    `code` names the rule, `layer` the layer ("conv2"), `span` its first and past-the-end character
    in the text, `formula` the arithmetic with its numbers, `unread` the input rows or columns that
    no window reads.
    """

    code: str
    severity: str
    message: str
    layer: str = ""
    span: tuple[int, int] | None = None
    formula: str = ""
    unread: str = ""
    fixes: tuple[Fix, ...] = ()

    def __str__(self) -> str:
        text = f"{self.layer}: {self.message}" if self.layer else self.message
        if self.formula:
            text += f": {self.formula}"
        if self.unread:
            text += f"; {self.unread}"
        if self.fixes:
            text += ". Fits: " + "; ".join(fix.edit for fix in self.fixes)
        return text


class NetworkError(HubelError, ValueError):
    """A network that cannot be built, with every one of its `problems`.

    Where its `text` is given the place of each problem is shown in it.
    """

    def __init__(self, problems: tuple[Problem, ...], text: str = "") -> None:
        self.problems = problems
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        lines = [f"the network has {count}:"]
        for problem in problems:
            lines.append(f"  {problem}")
            if text and problem.span:
                lines += [f"      {line}" for line in excerpt(text, problem.span)]
        super().__init__("\n".join(lines))

    def __str__(self) -> str:
        return self.what


def reason(error: Exception) -> str:
    """Why the system refused, as the end of a sentence.

    >>> reason(FileNotFoundError(2, "No such file or directory"))
    'no such file or directory'
    """
    return (getattr(error, "strerror", None) or str(error)).lower()


def excerpt(text: str, span: tuple[int, int], width: int = 72) -> tuple[str, str]:
    """The line of a text that a span begins in, cut to `width`, and carets under the span.

    >>> print(*excerpt("conv3-8\\nrelu pool3 fc", (13, 18)), sep="\\n")
    relu pool3 fc
         ^^^^^
    """
    first, last = span
    begin = text.rfind("\n", 0, first) + 1
    end = text.find("\n", first)
    line = text[begin : len(text) if end < 0 else end].rstrip().replace("\t", " ")
    start = first - begin
    stop = max(min(last - begin, len(line)), start + 1)
    if len(line) > width:
        # Keeps what stands before the span where there is room for it.
        cut = max(0, min(start - width // 4, len(line) - width + 1))
        head = "…" if cut else ""
        cut += len(head)
        tail = "…" if len(line) - cut > width - len(head) else ""
        line = head + line[cut : cut + width - len(head) - len(tail)] + tail
        start, stop = start - cut + len(head), stop - cut + len(head)
        stop = min(stop, len(line))
    return line, " " * start + "^" * max(stop - start, 1)
