"""The `hubel` command: one file a subcommand, each of which imports what it needs when it runs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hubel import __version__
from hubel.cli import (
    activations,
    audit,
    bench,
    check,
    collapse,
    diagnose,
    evaluate,
    info,
    initialisations,
    predict,
    search,
    show_batch,
    train,
)
from hubel.errors import HubelError, reason

__all__ = ["app", "main"]

app = typer.Typer(
    name="hubel",
    help="Convolutional networks: described in a line of text, checked, trained, and used.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Square brackets in the help are defaults, not markup.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# One line each in the list of commands; `hubel COMMAND -h` prints the docstring.
for _name, _run, _line in (
    ("check", check.check, "Check a network: sizes, cost, and every mistake."),
    ("audit", audit.audit, "Look for copies and broken images in a dataset."),
    ("train", train.train, "Train a network on a folder of images."),
    ("diagnose", diagnose.diagnose, "Look for faults in a run before it begins."),
    ("show-batch", show_batch.show_batch, "Draw a batch exactly as the network sees it."),
    ("search", search.search, "Find rates and sizes by many short trainings."),
    ("evaluate", evaluate.evaluate, "Measure a model's accuracy on images."),
    ("predict", predict.predict, "Name the most probable classes of images."),
    ("activations", activations.activations, "Compare activation functions on images."),
    ("initialisations", initialisations.initialisations, "Compare initialisations on images."),
    ("collapse", collapse.collapse, "Make stacked linear layers the one they equal."),
    ("info", info.info, "Tell what a model file holds."),
    ("bench", bench.bench, "Time training and inference on this machine."),
):
    app.command(_name, short_help=_line)(_run)

# What a wrong flag raises. Which package it lives in depends on Typer's version, this does not.
_FlagError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hubel {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for what a user can mend, 130 after
    Ctrl-C, and 1 where `check` finds problems in the network, `audit` in the images or `diagnose`
    in the run.
    """
    command = typer.main.get_command(app)
    given = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown with escapes rather than not at all.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = command.main(given, prog_name="hubel", standalone_mode=False)
        sys.stdout.flush()
    except HubelError as error:
        return _fail(str(error))
    except _FlagError as error:
        message = error.format_message()  # type: ignore[attr-defined]  # see _FlagError
        if message.startswith("Usage:"):  # no argument at all is answered with the help
            print(message, file=sys.stderr)
            return 2
        return _fail(message)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of a pipe has gone; Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {reason(error)}")
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int = 2) -> int:
    print(f"hubel: {message}", file=sys.stderr)
    return status
