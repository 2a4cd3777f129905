"""`hubel bench`: how fast this machine trains and runs networks, and where the time goes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubel import __version__
from hubel.cli import options
from hubel.errors import UsageError

if TYPE_CHECKING:
    from hubel.model import Model
    from hubel.network import Network

__all__ = ["bench"]

# The nets that are timed where nobody names one: images, and how many at a time.
_SHIPPED = (
    ("cs231n", "32x32x3", 128),
    ("lenet5", "28x28x1", 64),
    ("resnet20", "32x32x3", 128),
    ("mobilenet", "96x96x3", 32),
)
_BATCH = 128


def bench(
    net: Annotated[
        str | None,
        typer.Option(help="Time this one: text, a .hub file, or a shipped name. [several]"),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="NET", help="Print every call of this net's step with its time."),
    ] = None,
    inference: Annotated[
        bool, typer.Option("--inference", help="With --explain: of inference, not of training.")
    ] = False,
    input: options.Input = None,
    classes: options.Classes = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", "-b", "--batch-size", min=1, help="Images in a step. [128]"),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="How maps are stored: float32, bfloat16 or auto.")
    ] = "float32",
    threads: options.Threads = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long each measurement takes.")] = 1.0,
    json: options.Json = False,
) -> None:
    """Time the training step and the inference of networks on this machine."""
    from hubel.cli.report import engine_line
    from hubel.model import Model
    from hubel.speed import native_session

    if net is not None and explain is not None:
        raise UsageError("--net and --explain both name a network", hint="give one of them")
    if inference and explain is None:
        raise UsageError("--inference goes with --explain", hint="both are timed without it")
    chosen = net if explain is None else explain
    jobs = [_Job(chosen, input, batch or _BATCH)] if chosen is not None else _shipped(input, batch)
    networks = [job.network(classes) for job in jobs]
    models = [Model(network, precision=precision, threads=threads) for network in networks]
    session = native_session(models[0])
    peak = session.peak()
    facts = {
        "version": __version__,
        "isa": session.isa,
        "threads": session.threads,
        "precision": models[0].precision,
        "peak_gflops": peak / 1e9,
    }
    if not json:
        print(engine_line(models[0], "native", precision))
        print(f"Peak {peak / 1e9:,.0f} GFLOP/s: float32 multiply-adds on registers alone")
    if explain is None:
        _speeds(jobs, models, seconds, peak, facts if json else None)
    else:
        _calls(jobs[0], models[0], inference, peak, facts if json else None)


@dataclass(frozen=True, slots=True)
class _Job:
    """A network as the user names it, the size of its images as written, and how many at a time."""

    net: str
    size: str | None
    batch: int

    def network(self, classes: int | None) -> Network:
        from hubel.cli.values import input_size
        from hubel.network import Network

        return Network(self.net, None if self.size is None else input_size(self.size), classes)


def _shipped(size: str | None, batch: int | None) -> list[_Job]:
    return [_Job(net, size or usual, batch or count) for net, usual, count in _SHIPPED]


def _speeds(
    jobs: list[_Job],
    models: list[Model],
    seconds: float,
    peak: float,
    facts: dict[str, Any] | None,
) -> None:
    """Time each network and print a table, or with `facts` JSON that begins with them."""
    from hubel.cli.terminal import say
    from hubel.cli.values import print_json
    from hubel.speed import measure
    from hubel.views.speed import speed_table

    timed = []
    for job, model in zip(jobs, models, strict=True):
        say(f"timing {job.net} ...")
        timed.append((job.net, model.network.input, measure(model, job.batch, seconds)))
    if facts is None:
        print(f"\n{speed_table(timed, peak)}")
        return
    nets = [{"net": net, "input": size, **asdict(speed)} for net, size, speed in timed]
    print_json({**facts, "nets": nets})


def _calls(
    job: _Job, model: Model, inference: bool, peak: float, facts: dict[str, Any] | None
) -> None:
    """Time each call and print a table, or with `facts` JSON that begins with them."""
    from hubel.cli.values import print_json
    from hubel.speed import explain
    from hubel.views.speed import call_table, shape_of

    rows = explain(model, job.batch, inference)
    if facts is None:
        what = "Inference" if inference else "A training step"
        print(f"{what} of {job.net}, batch {job.batch}, call by call:\n")
        print(call_table(rows, peak))
        return
    calls = [{**asdict(row), "shape": shape_of(row.parameters)} for row in rows]
    print_json({**facts, "net": job.net, "batch": job.batch, "calls": calls})
