"""Lifetimes and places of buffers: what lives at once never shares, what does not mostly does."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.program.kernels import KERNELS
from hubel.program.lower import Lowered
from hubel.program.plan import Lifetime, lifetimes, plan
from hubel.program.prepare import Prepared
from hubel.program.program import ALIGNMENT, Buffer, Call, Program
from hubel.program.structs import Size, Sum
from hubel.program.verify import verify
from tests.program.programs import STEPS, step


def add(a: str, b: str, y: str) -> Call:
    return Call("add", (a, b, "", y), Sum(4))


def test_a_lifetime_reaches_from_the_first_call_to_the_last() -> None:
    calls = (add("a", "a", "b"), add("a", "b", "c"), add("c", "c", "d"), add("b", "d", "e"))
    assert lifetimes(calls) == {
        "a": Lifetime(0, 1),
        "b": Lifetime(0, 3),
        "c": Lifetime(1, 2),
        "d": Lifetime(2, 3),
        "e": Lifetime(3, 3),
    }
    assert Lifetime(0, 1).overlaps(Lifetime(1, 2))
    assert not Lifetime(0, 1).overlaps(Lifetime(2, 2))


def test_operands_that_are_left_out_have_no_life() -> None:
    call = Call("sgd", ("g", "rate", "step", "", "w", ""), Size(4))
    assert "" not in lifetimes((call,))
    assert KERNELS["sgd"].operands[5] == "velocity?!"


def test_a_chain_needs_room_for_two() -> None:
    names = [f"v{i}" for i in range(9)]
    calls = tuple(add(a, a, b) for a, b in pairwise(names))
    buffers = {name: Buffer(name, 640, "arena") for name in names}
    assert plan(Prepared((), Lowered(1, calls, buffers, ()))).sizes["arena"] == 2 * 640


def test_buffers_that_no_call_needs_take_no_place() -> None:
    buffers = {name: Buffer(name, 64, "arena") for name in ("a", "b", "unused")}
    made = plan(Prepared((), Lowered(1, (add("a", "a", "b"),), buffers, ())))
    assert set(made.buffers) == {"a", "b"}


def test_the_other_memories_are_filled_in_order() -> None:
    buffers = {
        "x": Buffer("x", 100, "input"),
        "w": Buffer("w", 64, "store", 640),
        "y": Buffer("y", 64, "results"),
        "z": Buffer("z", 128, "results"),
    }
    calls = (add("x", "w", "y"), add("x", "w", "z"))
    made = plan(Prepared((), Lowered(1, calls, buffers, ())))
    assert [made.buffers[name].offset for name in "xwyz"] == [0, 640, 0, 64]
    assert made.sizes == {
        "arena": 0, "store": 704, "prepared": 0, "scalars": 0, "results": 192,
        "input": 100, "labels": 0, "targets": 0,
    }  # fmt: skip


@st.composite
def programs(draw: st.DrawFn) -> Lowered:
    """Calls that each make a buffer of some size out of earlier ones."""
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=40))
    calls, names = [], ["b0"]
    for place in range(1, len(sizes)):
        recent = names[-draw(st.integers(1, len(names))) :]
        a, b = draw(st.sampled_from(recent)), draw(st.sampled_from(recent))
        names.append(f"b{place}")
        calls.append(add(a, b, names[-1]))
    buffers = {
        name: Buffer(name, size * ALIGNMENT, "arena")
        for name, size in zip(names, sizes, strict=True)
    }
    return Lowered(1, tuple(calls), buffers, ())


def peak(program: Program) -> int:
    """The most bytes of the arena that are needed during any one call."""
    living = lifetimes(program.calls)
    return max(
        (
            sum(
                buffer.bytes
                for buffer in program.buffers.values()
                if buffer.memory == "arena"
                and living[buffer.name].first <= place <= living[buffer.name].last
            )
            for place in range(len(program.calls))
        ),
        default=0,
    )


@settings(max_examples=150, deadline=None)
@given(programs())
def test_buffers_never_overlap_in_time_and_memory(lowered: Lowered) -> None:
    program = plan(Prepared((), lowered))
    living = lifetimes(program.calls)
    arena = list(program.buffers.values())
    for place, one in enumerate(arena):
        assert one.offset % ALIGNMENT == 0
        assert 0 <= one.offset <= program.sizes["arena"] - one.bytes
        for other in arena[place + 1 :]:
            apart = (
                one.offset + one.bytes <= other.offset or other.offset + other.bytes <= one.offset
            )
            assert apart or not living[one.name].overlaps(living[other.name])
    # First fit is no perfect packing, but never needs more than each buffer a place of its own.
    assert peak(program) <= program.sizes["arena"] <= sum(buffer.bytes for buffer in arena)


def test_training_steps_waste_little() -> None:
    for text, image, batch in STEPS:
        program = verify(step(text, image, batch))
        assert peak(program) <= program.sizes["arena"] <= 1.1 * peak(program), text
