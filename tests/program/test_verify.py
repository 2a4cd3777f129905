"""Every kind of broken program is caught, and says what is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hubel.program.program import Buffer, Program
from hubel.program.verify import ProgramError, verify
from tests.program.programs import step

TEXT, IMAGE = "conv3-4p1 relu pool2 fc", (6, 6, 3)


def without_call(program: Program, kernel: str) -> Program:
    return replace(program, calls=tuple(c for c in program.calls if c.kernel != kernel))


def with_buffer(program: Program, name: str, **changes: Any) -> Program:
    buffers = dict(program.buffers)
    buffers[name] = replace(buffers[name], **changes)
    return replace(program, buffers=buffers)


def overlapping(program: Program) -> Program:
    one = program.buffers["grad(pool1)"]
    return with_buffer(program, "grad(fc1)", offset=one.offset)


def writing(program: Program, kernel: str, operand: str, name: str) -> Program:
    calls = []
    for call in program.calls:
        if call.kernel == kernel:
            operands = list(call.operands)
            operands[call.place(operand)] = name
            call = replace(call, operands=tuple(operands))
        calls.append(call)
    return replace(program, calls=tuple(calls))


def short_of_an_operand(program: Program) -> Program:
    first, *rest = program.calls
    return replace(program, calls=(replace(first, operands=first.operands[:-1]), *rest))


def with_parts(program: Program, kernel: str, operands: tuple[str, ...]) -> Program:
    """The call of a kernel with another part, on these operands."""
    calls = []
    for call in program.calls:
        if call.kernel == kernel:
            before = call.parameters if isinstance(call.parameters, tuple) else (call.parameters,)
            call = replace(call, operands=call.operands + operands, parameters=(*before, before[0]))
        calls.append(call)
    return replace(program, calls=tuple(calls))


BROKEN: dict[str, tuple[Callable[[Program], Program], str]] = {
    "a call left out": (
        lambda p: without_call(p, "max_pool"),
        r"conv_weight_grad reads pool1 before it is made|conv reads pool1 before it is made",
    ),
    "calls in the wrong order": (
        lambda p: replace(p, calls=p.calls[::-1]),
        "call 0 sgd reads .* before it is made",
    ),
    "an operand too few": (short_of_an_operand, r"call 0 \w+: wrong number of operands"),
    "a part short of an operand": (
        lambda p: with_parts(p, "sgd", ("grad(fc1.bias)", "rate", "step", "", "fc1.bias")),
        r"call \d+ sgd: wrong number of operands",
    ),
    "two parts that change one array": (
        lambda p: with_parts(p, "sgd", ("grad(fc1.bias)", "rate", "step", "", "fc1.bias", "")),
        r"two parts of call \d+ sgd work on fc1.bias",
    ),
    "a part that reads what another changes": (
        lambda p: with_parts(p, "sgd", ("fc1.bias", "rate", "step", "", "loss", "")),
        r"two parts of call \d+ sgd work on fc1.bias",
    ),
    "parts of a kernel that has none": (
        lambda p: with_parts(p, "mean_loss", ("losses", "loss")),
        r"call \d+ mean_loss has 2 parts, but does not repeat",
    ),
    "a buffer that was not placed": (
        lambda p: with_buffer(p, "pool1", offset=-1),
        "pool1 is not placed on a cache line",
    ),
    "a buffer between cache lines": (
        lambda p: with_buffer(p, "pool1", offset=8),
        "pool1 is not placed on a cache line",
    ),
    "a buffer outside its memory": (
        lambda p: with_buffer(p, "pool1", offset=2**30),
        "pool1 lies outside its memory",
    ),
    "two buffers in one place at one time": (
        overlapping,
        r"grad\(\w+\) and grad\(\w+\) overlap in time and in memory",
    ),
    "a call that writes what was fed": (
        lambda p: writing(p, "mean_loss", "loss", "labels"),
        "mean_loss writes labels, which was fed",
    ),
    "a result that no call makes": (
        lambda p: without_call(p, "mean_loss"),
        "the result loss is made by no call",
    ),
    "two parameters in one place": (
        lambda p: with_buffer(p, "fc1.bias", offset=p.buffers["conv1.bias"].offset),
        r"conv1.bias and fc1.bias overlap|fc1.bias and conv1.bias overlap",
    ),
    "a result in the arena": (
        lambda p: replace(p, results=(("pool1", (4, 3, 3, 4), "float32"),)),
        "the result pool1 lies in another memory",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_program_is_caught(what: str) -> None:
    program = step(TEXT, IMAGE, 4)
    assert verify(program) is program
    breaking, message = BROKEN[what]
    with pytest.raises(ProgramError, match=message):
        verify(breaking(program))


def test_a_fault_is_not_the_users() -> None:
    assert not issubclass(ProgramError, ValueError)
    assert Buffer("a", 64, "arena").offset == -1
