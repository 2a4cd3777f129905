"""Makes the pictures of the pages from what `check`, `train`, `show-batch` and `search` really give.

Run it from the project's folder after the output has changed: `python docs/pictures.py`.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import hubel
from hubel.cli import main
from hubel.views.summary import render

__all__ = ["picture"]

FOLDER = Path(__file__).parent
WIDTH = 100

# The pictures must show anywhere without a network: no fonts or addresses from elsewhere, and
# spaces kept by every viewer.
FORMAT = (
    re.sub(r"<!--.*?-->|@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    .replace("font-family: Fira Code, monospace", "font-family: monospace")
    .replace("<svg ", '<svg xml:space="preserve" ', 1)
)


def picture(command: str, output: str, name: str) -> None:
    """Draw a command and its output, colours as in a terminal, to docs/<name>.svg."""
    text = Text.from_ansi(f"\x1b[1m$ {command}\x1b[0m\n{output.rstrip()}")
    width = max(len(line) for line in text.plain.splitlines()) + 1
    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor")
    console.print(text)
    drawing = console.export_svg(
        title="Hubel", theme=MONOKAI, code_format=FORMAT, unique_id=f"hubel-{name}"
    )
    (FOLDER / f"{name}.svg").write_text(drawing, encoding="utf-8")


def draw_check() -> None:
    """A network with a stride that does not fit."""
    net = "conv3-8s3 relu pool2 fc"
    report = hubel.check(net, input=(32, 32, 3), classes=10)
    command = f'hubel check "{net}" --input 32x32x3 --classes 10'
    picture(command, render(report, width=WIDTH, color=True), "check")


def draw_train() -> None:
    """A whole run on the digits that come along."""
    output = io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        main(["train", "digits"])
    # Where the run lies differs from machine to machine.
    text = output.getvalue().replace(str(Path(folder).resolve()), "/home/you")
    picture("hubel train digits", text, "train")


def draw_batch() -> None:
    """What docs/augmentation.md shows of a batch."""
    varied = (
        "--rotate 20 --scale 0.2 --crop 1 --cutout 3 --mixup 1 --seed 1 --batch-size 32 --count 12"
    )
    out = ("--out", str(FOLDER / "batch.png"), "--overwrite")
    main(["show-batch", "digits", *varied.split(), *out])


def draw_search() -> None:
    """What the search of docs/search.md leaves."""
    page = (FOLDER / "search.md").read_text(encoding="utf-8")
    found = re.search(r"^\$ hubel (search (?:.*\\\n)*.*)$", page, re.MULTILINE)
    assert found is not None
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        main([*shlex.split(found[1].replace("\\\n", " ")), "--quiet"])
        drawing = Path("runs/digits-search/search.svg").read_text(encoding="utf-8")
    (FOLDER / "search.svg").write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    draw_check()
    draw_train()
    draw_batch()
    draw_search()
