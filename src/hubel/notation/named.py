"""Finding a network: a shipped name, a .hub file, or the text itself."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from hubel.errors import FormatError, UsageError, reason
from hubel.notation.kinds import KINDS
from hubel.records import dataclass

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

__all__ = ["NETS", "Header", "find", "read_header"]

_SUFFIX = ".hub"
_INPUT = re.compile(
    r"^#[ \t]*input:[ \t]*([0-9]{1,9})x([0-9]{1,9})x([0-9]{1,9})"
    r"(?:[ \t]*,[ \t]*classes:[ \t]*([0-9]{1,9}))?[ \t]*$",
    re.MULTILINE,
)
_PAPER = re.compile(r"^#[ \t]*paper:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Header:
    """What the comments of a network say of it; None and "" where they do not.

    `input` is (height, width, depth), `classes` what `fc` without a number has as outputs.
    """

    input: tuple[int, int, int] | None = None
    classes: int | None = None
    paper: str = ""


NETS: dict[str, Header]
"""The shipped nets by name, with their input, classes and paper."""


def __getattr__(name: str) -> Any:
    # A network that is given as text is read without a look at the shipped ones.
    if name == "NETS":
        return _shipped()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def read_header(text: str) -> Header:
    """Read the comment lines `# input: 32x32x3, classes: 10` and `# paper: …` of a network.

    >>> read_header("# input: 28x28x1, classes: 10\\nfc").input
    (28, 28, 1)
    """
    sizes = _INPUT.search(text)
    paper = _PAPER.search(text)
    return Header(
        input=(int(sizes[1]), int(sizes[2]), int(sizes[3])) if sizes else None,
        classes=int(sizes[4]) if sizes and sizes[4] else None,
        paper=paper[1] if paper else "",
    )


def find(net: str) -> tuple[str, str]:
    """The text of a network and where it comes from: a shipped name, a path, or "" for text.

    Raises UsageError where there is no such file or net, FormatError where a file is not text.

    >>> find("conv3-8 relu")
    ('conv3-8 relu', '')
    >>> find("vgg16")[1]
    'vgg16'
    """
    name = net.strip()
    called = re.fullmatch(r"[A-Za-z][\w-]{,40}", name)
    if called and name in _shipped():
        return _shipped_text(name), name
    if name.lower().endswith(_SUFFIX) and "\n" not in name:
        from pathlib import Path

        return _file_text(Path(name)), name
    if called and not name.lower().startswith(tuple(KINDS)):
        from difflib import get_close_matches

        near = get_close_matches(name.lower(), _shipped(), n=1)
        if near:
            raise UsageError(
                f"there is no shipped net {name}",
                hint=f"did you mean {near[0]}? The shipped nets are {', '.join(_shipped())}",
            )
    return net, ""


@cache
def _folder() -> Traversable:
    from importlib.resources import files

    return files("hubel.notation") / "nets"


def _shipped_text(name: str) -> str:
    return (_folder() / f"{name}{_SUFFIX}").read_text(encoding="utf-8")


@cache
def _shipped() -> dict[str, Header]:
    names = (entry.name for entry in _folder().iterdir() if entry.name.endswith(_SUFFIX))
    return {
        name: read_header(_shipped_text(name))
        for name in sorted(name.removesuffix(_SUFFIX) for name in names)
    }


def _file_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            "this is no text file", where=str(path), hint="save the network as UTF-8 text"
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError("there is no such file", where=str(path), hint=_nearby(path)) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the file cannot be read: {reason(error)}",
            where=str(path),
            hint="give the path of a readable .hub file",
        ) from error


def _nearby(path: Path) -> str:
    """A hint that names what lies where the file was looked for."""
    from difflib import get_close_matches

    if path.stem in _shipped():
        return f"the shipped net is called {path.stem}, without {_SUFFIX}"
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    there = sorted(file.name for file in folder.glob(f"*{_SUFFIX}"))
    near = get_close_matches(path.name, there, n=3, cutoff=0.0)
    if near:
        return f"in {folder} there is {', '.join(near)}"
    return f"{folder} has no {_SUFFIX} file; the shipped nets are {', '.join(_shipped())}"
