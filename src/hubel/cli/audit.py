"""`hubel audit`: what is wrong with a dataset, before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubel.cli import options

if TYPE_CHECKING:
    from hubel.data.audit import Audit

__all__ = ["audit"]


def audit(
    data: Annotated[str, typer.Argument(help="A folder of class folders, or a dataset's name.")],
    size: options.Size = None,
    channels: options.Channels = None,
    resize: options.Resize = None,
    data_dir: options.DataDir = None,
    val_fraction: options.ValFraction = None,
    seed: options.Seed = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Take over what an earlier audit found.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.csv", help="List every finding.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Audit images: copies across splits and classes, and what else is wrong. Changes nothing."""
    from hubel.cli.terminal import reading
    from hubel.cli.values import image_size, print_json
    from hubel.data.audit import audit as audited
    from hubel.views.audit import lines

    loading: dict[str, Any] = {
        "size": None if size is None else image_size(size),
        "channels": channels,
        "data_dir": data_dir,
        "resize": resize,
        "val_fraction": val_fraction,
        "seed": seed,
    }
    given = {name: value for name, value in loading.items() if value is not None}
    found = audited(data, cache=cache, progress=reading(), **given)
    if out is not None:
        _write(out, found)
    if json:
        print_json(found.as_list())
    else:
        print(*lines(found), sep="\n")
    if not found.ok:
        raise typer.Exit(1)


def _write(path: Path, found: Audit) -> None:
    """Write a row for each finding: the check, whether it is ok, the files, and what is wrong."""
    from hubel.train.run import write_csv

    rows = [
        [check.check, "ok" if check.ok else "failed", *(*one.files, "")[:2], one.what]
        for check in found.checks
        for one in check.findings
    ]
    write_csv(path, [["check", "state", "file", "other file", "what"], *rows])
