"""The programs of three shipped nets, call by call, as they were when someone last looked at them.

A change of lowering, fusing or planning shows up here as a difference of text. When it is meant,
renew the files and read the difference before it is committed:

    HUBEL_RENEW=1 python -m pytest tests/program/test_golden.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubel.program.program import Program
from hubel.program.show import show
from hubel.program.structs import words
from tests.program.programs import shipped, step

GOLDEN = Path(__file__).parent / "golden"
NETS = {"lenet5": (28, 28, 1), "cs231n": (32, 32, 3), "resnet20": (32, 32, 3)}


def listing(program: Program) -> str:
    """What show() draws, then the parameters of every call."""
    parameters = (
        f"{place:4}  {call.node}: {' '.join(map(str, words(call.parameters)))}"
        for place, call in enumerate(program.calls)
    )
    drawn = (line.rstrip() for line in show(program).splitlines())
    return "\n".join((*drawn, "", *parameters, ""))


@pytest.mark.parametrize("name", NETS)
def test_programs_of_shipped_nets(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    found = listing(step(shipped(name), NETS[name], 32))
    if os.environ.get("HUBEL_RENEW"):
        path.write_text(found, "utf-8")
        pytest.skip(f"renewed {path.name}")
    assert found.splitlines() == path.read_text("utf-8").splitlines()


def test_show_draws_every_call_and_every_buffer_of_the_arena() -> None:
    program = step("conv3-4p1 relu pool2 fc", (6, 6, 3), 4)
    text = show(program)
    lines = text.splitlines()
    assert lines[0] == f"{len(program.calls)} calls for a batch of 4"
    for place, call in enumerate(program.calls):
        assert lines[1 + place].startswith(f"{place:4}  {call.kernel}")
    for buffer in program.buffers.values():
        if buffer.memory == "arena":
            assert any(buffer.name in line and "━" in line for line in lines), buffer.name
    assert f"arena {program.sizes['arena']:,}" in text
    assert "—" in text  # an operand that is left out
