"""The compiled engine: graphs lowered to programs, one for each batch size, and run in C++."""

from __future__ import annotations

import os
from math import prod
from struct import pack, pack_into, unpack
from threading import RLock
from time import perf_counter
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np

from hubel import _native
from hubel.engine.feeds import check_choice, check_feeds
from hubel.engine.session import Array, Factors, Feeds
from hubel.errors import HubelError, UsageError
from hubel.graph.op import Graph, Value
from hubel.program import structs
from hubel.program.make import make
from hubel.program.program import ALIGNMENT, Buffer, Call, Memory, Precision, Program
from hubel.records import dataclass
from hubel.variation import Mixture, Variation

__all__ = ["CallTime", "NativeSession", "instruction_sets", "pair_rate"]

OWN: tuple[Memory, ...] = ("arena", "store", "prepared", "scalars", "results")
GIVEN: tuple[Memory, ...] = ("input", "labels", "targets")
MEMORIES = (*OWN, *GIVEN)

_NO_LABELS = np.empty(0, np.int64)
_NO_FLOATS = np.empty(0, np.float32)
_NONE = np.empty(0, np.int32)
_UNVARIED = Variation()

# Bytes of second images that are made at once: they stay in cache until they are mixed in, and the
# system is not asked for new memory every time.
_MIXED_TOGETHER = 1 << 19

MOST_PROGRAMS = 64
"""Programs kept ready; past them the one not used for longest is made again when needed."""


# Runs by which the peak is found, and how long one must be for the clock and the start of the
# threads not to show in it.
_PEAK_RUNS, _PEAK_SECONDS = 24, 0.01


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that this build and this processor both have, best first."""
    return tuple(name for name, available in _native.instruction_sets() if available)


def pair_rate() -> float:
    """How fast this processor multiplies pairs of bfloat16 numbers, by floats; 0 for no such."""
    return NativeSession(1).pair_rate


@dataclass(frozen=True, slots=True)
class CallTime:
    """A call of a program, and the seconds that it takes."""

    call: Call
    seconds: float


@dataclass(slots=True)
class _Loaded:
    """A program that is ready to run, and the state of the store that it is prepared for."""

    graph: Graph
    program: Program
    first: _native.Program
    compiled: _native.Program
    scalars: Array
    prepared: Array
    results: list[tuple[str, slice, np.dtype[Any], tuple[int, ...]]]
    updates: bool
    prepared_for: int = -1


class NativeSession:
    """A session of the compiled engine; `precision` is how activation maps are stored.

    `threads` None means every core that the process may use; the environment's HUBEL_ISA names an
    instruction set instead of the best. Threads of the caller may share a session: they take turns.
    After a fork the child goes on with one thread, to the same bits. Raises UsageError for a number
    of threads below 1 and for an instruction set that the processor lacks.
    """

    pace: ClassVar[float] = 4e11

    def __init__(self, threads: int | None = None, precision: Precision = "float32") -> None:
        if threads is not None and not 1 <= threads <= 1024:
            raise UsageError(f"threads must be between 1 and 1024, not {threads}")
        wanted = os.environ.get("HUBEL_ISA", "")
        if wanted and wanted not in instruction_sets():
            raise UsageError(
                f"this processor has no instruction set {wanted!r}",
                where="HUBEL_ISA",
                hint=f"use one of {', '.join(instruction_sets())}, or unset it",
            )
        try:
            self._machine = _native.Machine(wanted, threads or 0)
            # What makes the next batch while a step has the team: a thread of the caller's, alone.
            self._alone = _native.Machine(wanted, 1)
        except RuntimeError as error:
            raise HubelError(f"the system gave no threads: {error}", hint="use fewer") from error
        self.precision = precision
        # Products of pairs of bfloat16 numbers in the time of one of floats; 0 for no such.
        self.pair_rate = self._machine.pair_rate
        self._lock = RLock()
        _SESSIONS.add(self)
        self._placed: dict[str, tuple[Buffer, tuple[int, ...]]] = {}
        self._written: set[str] = set()
        self._store = _memory(0)
        self._used = 0
        self._changes = 0
        self._arena = _memory(0)
        self._loaded: dict[tuple[int, int], _Loaded] = {}
        self._assemblers: dict[tuple[Any, tuple[int, ...]], _native.Program] = {}

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._machine.isa

    @property
    def threads(self) -> int:
        """The number of threads in use."""
        return self._machine.threads

    def write(self, name: str, array: Array) -> None:
        """Keeps a copy of a persistent value."""
        values = np.asarray(array, dtype=np.float32)
        with self._lock:
            if name not in self._placed or self._placed[name][1] != values.shape:
                self._place(name, values.shape)
            self._written.add(name)
            self._changes += 1
            self._view(name)[...] = values

    def read(self, name: str) -> Array:
        """A copy of a persistent value. Raises UsageError for one that does not exist."""
        with self._lock:
            if name not in self._written:
                raise UsageError(f"there is no value {name!r}")
            return self._view(name).copy()

    def assemble(
        self, images: Array, indices: Array, variation: Variation | None, factors: Factors
    ) -> Array:
        """The chosen images as a batch; raises UsageError for what they do not have."""
        # They choose places in memory: what was checked must stay so.
        indices, variation = np.array(indices), None if variation is None else variation.copy()
        check_choice(images, indices, variation)
        given = variation or _UNVARIED
        batch = self._varied(images, indices, given, factors)
        if given.mixed is not None and batch.size:
            together = max(1, _MIXED_TOGETHER // batch[0].nbytes)
            for first in range(0, len(batch), together):
                part = slice(first, first + together)
                self._mix(batch[part], images, given.mixed.part(part), factors)
        return batch

    def _mix(self, batch: Array, images: Array, mixed: Mixture, factors: Factors) -> None:
        """Mixes the second images into a batch."""
        second = self._varied(images, mixed.indices, mixed.variation, factors)
        shares, boxes = _ready(mixed.shares, np.float32), _ready(mixed.boxes, np.int32)
        self._alter("mix", structs.Mixing(*batch.shape), [second, shares, boxes], batch)

    def _varied(
        self, images: Array, indices: Array, variation: Variation, factors: Factors
    ) -> Array:
        """The chosen images, each by itself."""
        batch = np.empty((len(indices), *images.shape[1:]), np.float32)
        if not batch.size:
            return batch
        if not _usable(images):
            images, indices = images[indices], np.arange(len(indices))
            images = images if images.dtype == np.uint8 else images.astype(np.float32)
        rows, columns = variation.places or (None, None)
        affine, colours, boxes = variation.affine, variation.colours, variation.boxes
        scale, shift = (_ready(each, np.float32) for each in factors)
        count, height, width, depth = batch.shape
        parameters = structs.Assembly(
            len(images),
            count,
            height,
            width,
            depth,
            int(images.dtype == np.uint8),
            len(scale),
            int(rows is not None),
            int(affine is not None),
            int(variation.reflect),
            int(colours is not None),
            int(boxes is not None),
        )
        given = [
            images,
            _ready(indices, np.int64),
            _ready_or_none(rows, np.int32),
            _ready_or_none(columns, np.int32),
            _ready_or_none(affine, np.int64),
            _ready_or_none(colours, np.float32),
            _ready_or_none(boxes, np.int32),
            scale,
            shift,
        ]
        self._alter("assemble", parameters, given, batch)
        return batch

    def _alter(self, kernel: str, parameters: Any, given: list[Array], batch: Array) -> None:
        """Runs the program of one call that fills or changes a batch, made once for such ones."""
        sizes = tuple([each.nbytes for each in (batch, *given)])
        made = self._assemblers.get((parameters, sizes))
        if made is None:
            operands = [(number, 0, sizes[number]) for number in (*range(1, len(sizes)), 0)]
            step = (kernel, operands, [_word(x) for x in structs.words(parameters)])
            if len(self._assemblers) >= MOST_PROGRAMS:
                self._assemblers.clear()
            made = _native.Program(self._alone, [step], list(sizes))
            self._assemblers[parameters, sizes] = made
        self._alone.run(made, [batch], given)

    def run(self, graph: Graph, feeds: Feeds) -> dict[str, Array]:
        """Runs every node once and gives the graph's outputs by name."""
        fed = check_feeds(graph, feeds)
        with self._lock:
            loaded, own = self._ready(graph, fed)
            given = _given(fed)
            self._prepare(loaded, own, given)
            self._machine.run(loaded.compiled, own, given)
            self._changes += loaded.updates
        results = own[OWN.index("results")]
        return {
            name: results[place].view(dtype).reshape(shape)
            for name, place, dtype, shape in loaded.results
        }

    def time_calls(self, graph: Graph, feeds: Feeds, repeats: int = 5) -> tuple[CallTime, ...]:
        """Every call of the graph's program in order, with the median of what it took.

        The whole program runs `repeats` times after one run that does not count, and changes
        the persistent values as so many runs would. What is made once for many runs, such as laid
        out weights in inference, is not among the calls.
        """
        from statistics import median  # which brings fractions and decimals along

        fed = check_feeds(graph, feeds)
        with self._lock:
            loaded, own = self._ready(graph, fed)
            given = _given(fed)
            self._prepare(loaded, own, given)
            _, *runs = [self._machine.time(loaded.compiled, own, given) for _ in range(1 + repeats)]
            self._changes += loaded.updates
        return tuple(
            CallTime(call, median(seconds))
            for call, *seconds in zip(loaded.program.calls, *runs, strict=True)
        )

    def peak(self) -> float:
        """Floating-point operations a second of multiply-adds on registers: the machine's most.

        Measured in float32 with the session's instruction set and threads, the best of several
        short runs, in about a quarter of a second.
        """
        tasks, rounds, best = 16 * self.threads, 1 << 10, 0.0
        with self._lock:
            for _ in range(_PEAK_RUNS):
                begun = perf_counter()
                operations = self._machine.multiply_adds(tasks, rounds)
                seconds = perf_counter() - begun
                best = max(best, operations / seconds)
                if seconds < _PEAK_SECONDS:
                    rounds = int(rounds * min(8.0, 1.5 * _PEAK_SECONDS / seconds))
        return best

    def program(self, graph: Graph, batch: int) -> Program:
        """The program that runs a graph on a batch of that size."""
        with self._lock:
            return self._load(graph, batch).program

    def _ready(self, graph: Graph, fed: dict[str, Array]) -> tuple[_Loaded, list[Array]]:
        """The program for what was fed, and the engine's own memories for a run of it."""
        (batch,) = {len(fed[value.name]) for value in graph.fed if value.role == "input"}
        loaded = self._load(graph, batch)
        program = loaded.program
        if self._arena.size < program.sizes["arena"]:
            self._arena = _memory(program.sizes["arena"])
        _write_scalars(loaded, fed)
        results = np.empty(program.sizes["results"], np.uint8)
        return loaded, [self._arena, self._store, loaded.prepared, loaded.scalars, results]

    def _prepare(self, loaded: _Loaded, own: list[Array], given: list[Array]) -> None:
        """Makes anew what follows from the store alone, if that has changed."""
        if loaded.program.first and loaded.prepared_for != self._changes:
            self._machine.run(loaded.first, own, given)
            loaded.prepared_for = self._changes

    def _load(self, graph: Graph, batch: int) -> _Loaded:
        key = (id(graph), batch)
        if key in self._loaded:
            self._loaded[key] = self._loaded.pop(key)
        else:
            for value in graph.values.values():
                if value.persistent:
                    self._claim(value)
            store = {
                name: buffer for name, (buffer, _) in self._placed.items() if name in graph.values
            }
            program = make(graph, batch, store, self.precision, self.pair_rate)
            sizes = [program.sizes[name] for name in MEMORIES]
            first, compiled = (
                _native.Program(self._machine, _steps(program, calls), sizes)
                for calls in (program.first, program.calls)
            )
            updates = any(node.updates for node in graph.nodes)
            prepared = _memory(program.sizes["prepared"])
            while len(self._loaded) >= MOST_PROGRAMS:
                del self._loaded[next(iter(self._loaded))]
            scalars = _memory(program.sizes["scalars"])
            self._loaded[key] = _Loaded(
                graph,
                program,
                first,
                compiled,
                scalars,
                prepared,
                _results(graph, program),
                updates,
            )
        return self._loaded[key]

    def _claim(self, value: Value) -> None:
        if value.name in self._written:
            if self._placed[value.name][1] != value.shape:
                raise UsageError(
                    f"{value.name!r} has shape {self._placed[value.name][1]}, "
                    f"but the graph needs {value.shape}"
                )
            return
        if value.role != "slot":
            raise UsageError(
                f"{value.name!r} was never written", hint="write every parameter and statistic"
            )
        self.write(value.name, np.zeros(value.shape, np.float32))

    def _place(self, name: str, shape: tuple[int, ...]) -> None:
        size = -(-prod(shape) * 4 // ALIGNMENT) * ALIGNMENT
        if name in self._placed:
            self._loaded.clear()
            before, _ = self._placed[name]
            if size <= before.bytes:
                self._placed[name] = (before, shape)
                return
        if self._used + size > self._store.size:
            kept = self._store
            self._store = _memory(2 * kept.size + size)
            self._store[: kept.size] = kept
        self._placed[name] = (Buffer(name, size, "store", self._used), shape)
        self._used += size

    def _view(self, name: str) -> Array:
        buffer, shape = self._placed[name]
        return self._store[buffer.offset :][: prod(shape) * 4].view(np.float32).reshape(shape)


def _memory(size: int) -> Array:
    """Zeroed bytes that start on a cache line."""
    whole = np.zeros(size + ALIGNMENT, np.uint8)
    start = -_address(whole) % ALIGNMENT
    return whole[start : start + size]


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _ready(array: Array, dtype: type[np.generic]) -> Array:
    """The array as the compiled module reads it: contiguous, and aligned to its numbers."""
    made = np.ascontiguousarray(array, dtype)
    return made if made.flags.aligned else made.copy()


def _ready_or_none(array: Array | None, dtype: type[np.generic]) -> Array:
    return _NONE if array is None else _ready(array, dtype)


def _usable(images: Array) -> bool:
    """Whether the compiled module can read images where they lie, however many there are."""
    known = images.dtype in (np.uint8, np.float32)
    return known and images.flags.c_contiguous and images.flags.aligned


def _write_scalars(loaded: _Loaded, fed: dict[str, Array]) -> None:
    for value in loaded.graph.fed:
        if value.role != "scalar":
            continue
        number = fed[value.name].item()
        at = loaded.program.buffers[value.name].offset
        if value.name == "rate":
            pack_into("<d", loaded.scalars.data, at, number)
        else:
            pack_into("<Q", loaded.scalars.data, at, number % 2**64)


def _given(fed: dict[str, Array]) -> list[Array]:
    """What the caller feeds, as the compiled module reads it."""
    labels = _ready(fed["labels"], np.int64) if "labels" in fed else _NO_LABELS
    targets = _ready(fed["targets"], np.float32) if "targets" in fed else _NO_FLOATS
    return [_ready(fed["input"], np.float32), labels, targets]


def _results(
    graph: Graph, program: Program
) -> list[tuple[str, slice, np.dtype[Any], tuple[int, ...]]]:
    """Where each output of the graph lies among the results, its number type and its shape."""
    found = []
    for name, (buffer, shape, kind) in zip(graph.outputs, program.results, strict=True):
        start, dtype = program.buffers[buffer].offset, np.dtype(kind)
        end = start + prod(shape) * dtype.itemsize
        found.append((name, slice(start, end), dtype, shape))
    return found


def _steps(
    program: Program, calls: tuple[Call, ...]
) -> list[tuple[str, list[tuple[int, int, int]], list[int]]]:
    steps = []
    for call in calls:
        places = []
        for name in call.operands:
            if name:
                buffer = program.buffers[name]
                places.append((MEMORIES.index(buffer.memory), buffer.offset, buffer.bytes))
            else:
                places.append((-1, 0, 0))
        steps.append((call.compiled, places, [_word(x) for x in structs.words(call.parameters)]))
    return steps


def _word(number: int | float) -> int:
    """A parameter as the eight bytes that the compiled struct holds, read as a whole number."""
    if isinstance(number, float):
        (word,) = unpack("<q", pack("<d", number))
        return int(word)
    return int(number)


_SESSIONS: WeakSet[NativeSession] = WeakSet()


def _unlock_after_fork() -> None:
    """A lock that another thread held at the fork has nobody left to release it."""
    for session in _SESSIONS:
        session._lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_after_fork)
