"""What is legal in a network but most likely not meant: one function a warning."""

from __future__ import annotations

from collections.abc import Sequence
from math import e

from hubel.errors import Problem
from hubel.graph import shape
from hubel.graph.build import Built, Placed
from hubel.graph.linear import list_names, no_nonlinearity
from hubel.graph.receptive import narrowest_fields, receptive_fields
from hubel.graph.shape import describe
from hubel.notation.spec import Spec
from hubel.records import dataclass

__all__ = ["warnings_of"]


def warnings_of(
    spec: Spec,
    built: Built,
    object_size: tuple[int, int] | None = None,
) -> tuple[Problem, ...]:
    """All warnings, in the order of the text.

    `object_size` is the (height, width) of what the network must see whole, by default the image.
    """
    height, width, _ = built.graph["input"].shape
    found = [
        *no_nonlinearity(spec, built),
        *_shrinking(built),
        *_larger_than_input(built),
        *_wasted(built, (height, width)),
    ]
    if not built.problems:
        found += _narrow_view(built, object_size or (height, width))
        found += _at_the_scores(built)
    return tuple(sorted(found, key=lambda problem: problem.span or (0, 0)))


def _warning(code: str, message: str, placed: Placed, formula: str = "") -> Problem:
    return Problem(code, "warning", message, placed.name, placed.span, formula)


@dataclass(frozen=True, slots=True)
class _Shrunk:
    """What unpadded convolutions have left of each axis, and the heights on the way."""

    left: tuple[float, float] = (1.0, 1.0)
    heights: tuple[int, ...] = ()
    told: bool = False


def _shrinking(built: Built) -> list[Problem]:
    """Maps that vanish layer by layer for want of padding.

    The share that stride-1 convolutions leave of their input's height or width is multiplied up
    along the network; three or more of them that together leave less than half of a side (a quarter
    of the map) are told at the layer where this happens. Pooling and strides, which shrink on
    purpose, do not count, nor does a filter as large as its input, which stands for an FC layer.
    """
    warnings = []
    shrunk: dict[str, _Shrunk] = {"input": _Shrunk()}
    for placed in built.layers:
        state = min((shrunk[source] for source in placed.sources), key=lambda one: min(one.left))
        window = placed.window
        if placed.op == "conv" and window is not None and window.stride == (1, 1):
            height, width = placed.input[:2]
            after = placed.output[:2]
            if after != (1, 1) and (after[0] < height or after[1] < width):
                left = (
                    state.left[0] * min(after[0] / height, 1.0),
                    state.left[1] * min(after[1] / width, 1.0),
                )
                heights = (*(state.heights or (height,)), after[0])
                state = _Shrunk(left, heights, state.told)
                if min(left) < 0.5 and len(heights) > 3 and not state.told:
                    warnings.append(_shrunk_warning(placed, state))
                    state = _Shrunk(left, heights, told=True)
        shrunk[placed.name] = state
    return warnings


def _shrunk_warning(placed: Placed, state: _Shrunk) -> Problem:
    assert placed.window is not None
    count = len(state.heights) - 1
    rows = placed.input[0] - placed.output[0]
    extents = [
        shape.extent_of(size, dilation)
        for size, dilation in zip(placed.window.size, placed.window.dilation, strict=True)
    ]
    odd = all(extent % 2 for extent in extents)
    same = extents[0] // 2 if odd and extents[0] == extents[1] else None
    padding = f"p{same} or same" if same else "same"
    steps = [str(height) for height in state.heights]
    if len(steps) > 8:
        steps[4:-3] = ["…"]
    return _warning(
        "shrinking",
        f"the maps are vanishing: {count} convolutions without enough padding, {rows} rows lost in "
        f"this one, leave {describe(placed.output)} here; write {padding} to keep the size",
        placed,
        f"heights {' → '.join(steps)}",
    )


def _larger_than_input(built: Built) -> list[Problem]:
    """Windows that reach into the padding wherever they lie, told once for all of a size."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Placed]] = {}
    for placed in built.layers:
        if placed.fits is None:
            continue
        extents = tuple(fit.extent for fit in placed.fits)
        sizes = tuple(fit.size for fit in placed.fits)
        if any(extent > size for extent, size in zip(extents, sizes, strict=True)):
            found.setdefault((extents, sizes), []).append(placed)
    return [
        _warning(
            "filter-larger-than-input",
            f"the window reaches over {describe(extents)} places but its input is only "
            f"{describe(sizes)}, so some weights only ever meet padding "
            f"({list_names([one.name for one in layers])}): use a smaller window, or shrink the "
            "maps less before it",
            layers[0],
        )
        for (extents, sizes), layers in found.items()
    ]


def _wasted(built: Built, image: tuple[int, int]) -> list[Problem]:
    """Convolutions that widen a view already larger than the image, told once for all of them.

    As in Richter, Schöning, Wiedenroth and Krumnack, "Should you go deeper?", 2021, with the path
    that sees least where branches meet: skips keep deep layers useful.
    """
    fields = narrowest_fields(built)
    past = []
    for placed in built.layers:
        if placed.op != "conv" or placed.window is None or placed.window.size == (1, 1):
            continue
        seen = fields[placed.sources[0]].size
        if seen[0] > image[0] and seen[1] > image[1]:
            past.append((placed, seen))
    if not past:
        return []
    placed, seen = past[0]
    names = list_names([one.name for one, _ in past])
    return [
        _warning(
            "wasted-layers",
            f"the receptive field is {describe(seen)} before it, more than the whole "
            f"{describe(image)} image, so there is nothing more to see for {names}: use fewer "
            "layers, less pooling before them, or larger images",
            placed,
        )
    ]


def _narrow_view(built: Built, wanted: tuple[int, int]) -> list[Problem]:
    """A global average of places none of which can see the object whole.

    FC layers over a map put its places together, so only averages are told.
    """
    fields = receptive_fields(built)
    warnings = []
    for placed in built.layers:
        many = len(placed.input) == 3 and placed.input[:2] != (1, 1)
        if placed.op != "average_pool" or not many or placed.output[:2] != (1, 1):
            continue
        seen = fields[placed.sources[0]].size
        if seen[0] < wanted[0] or seen[1] < wanted[1]:
            height, width = placed.input[:2]
            warnings.append(
                _warning(
                    "receptive-field",
                    f"it averages {height}·{width} places that each see {describe(seen)} pixels of "
                    f"the {describe(wanted)} to recognise, so nothing sees it whole: add layers, "
                    "strides or pooling before it, or use fc in its place",
                    placed,
                )
            )
    return warnings


_BOUNDS = {"sigmoid": ("0 and 1", 1.0), "tanh": ("−1 and 1", 2.0)}


def _at_the_scores(built: Built) -> list[Problem]:
    """What comes after the last layer with weights, where the scores should be left as they are."""
    placed = {one.name: one for one in built.layers}
    last = placed.get(built.graph.outputs[0])
    if last is None:
        return []
    if len(last.output) == 3 and last.output[:2] != (1, 1):
        return [
            _warning(
                "no-scores",
                f"the network ends in maps, {describe(last.output)}, and not in one score a class: "
                "to train it add fc, or gap after a convolution with a filter for each class",
                last,
            )
        ]
    warnings = []
    scores = last.output[-1]
    before = _unweighted_tail(placed, last)
    for one in before:
        if one.op == "dropout":
            warnings.append(
                _warning(
                    "dropout-on-scores",
                    "dropout on the scores themselves erases right answers: move it before the "
                    "last layer with weights",
                    one,
                )
            )
        elif one.op in ("activation", "prelu") and one.layer and one.layer.kind != "scale":
            warnings.append(_activation_warning(one, scores))
    return warnings


def _unweighted_tail(placed: dict[str, Placed], last: Placed) -> Sequence[Placed]:
    """The activations, dropouts and pools that stand behind the last layer with weights."""
    tail = []
    one: Placed | None = last
    while one is not None and one.op in (
        "activation",
        "prelu",
        "dropout",
        "average_pool",
        "max_pool",
    ):
        tail.append(one)
        one = placed.get(one.sources[0])
    return tail if one is not None else ()


def _activation_warning(placed: Placed, scores: int) -> Problem:
    assert placed.layer is not None
    kind = placed.layer.kind
    formula = ""
    if kind in _BOUNDS:
        between, spread = _BOUNDS[kind]
        most = e**spread / (e**spread + scores - 1)
        harm = f"keeps them between {between}, so no class gets more than {most:.0%}"
        formula = f"e^{spread:g}/(e^{spread:g} + {scores - 1}) = {most:.2f}" if scores > 1 else ""
    elif kind == "relu":
        harm = "makes all negative ones equal and stops learning there"
    else:
        harm = "squeezes the negative ones"
    return _warning(
        "activation-before-scores",
        f"{kind} right before the softmax changes the scores: it {harm}; leave it out",
        placed,
        formula,
    )
