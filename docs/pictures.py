"""Makes docs/check.svg and docs/train.svg from what `check` and `train` really print.

Run it from the project's folder after the output has changed: `python docs/pictures.py`.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import hubel
from hubel.cli import main
from hubel.views.summary import render

__all__ = ["COLUMNS", "picture"]

COLUMNS = 100
FOLDER = Path(__file__).parent

# The pictures must show without a network: no fonts from elsewhere, whatever is monospaced here.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "font-family: Fira Code, monospace", "font-family: monospace"
)


def picture(command: str, output: str, name: str) -> None:
    """Draw a command and its output, colours as in a terminal, to docs/<name>.svg."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor")
    console.print(Text.from_ansi(f"\x1b[1m$ {command}\x1b[0m\n{output.rstrip()}"), soft_wrap=False)
    drawing = console.export_svg(
        title="Hubel", theme=MONOKAI, code_format=FORMAT, unique_id=f"hubel-{name}"
    )
    (FOLDER / f"{name}.svg").write_text(drawing, encoding="utf-8")


def draw_check() -> None:
    """A network that fits, then one that does not."""
    net = "conv3-8s3 relu pool2 fc"
    report = hubel.check(net, input=(32, 32, 3), classes=10)
    command = f'hubel check "{net}" --input 32x32x3 --classes 10'
    picture(command, render(report, width=COLUMNS, color=True), "check")


def draw_train() -> None:
    """A whole run on the digits that come along."""
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.chdir(folder):
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                main(["train", "digits"])
        # Where the run lies differs from machine to machine.
        text = output.getvalue().replace(str(Path(folder).resolve()), "/home/you")
    picture("hubel train digits", text, "train")


if __name__ == "__main__":
    draw_check()
    draw_train()
