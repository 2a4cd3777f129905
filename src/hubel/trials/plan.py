"""What is searched and how: ranges and fixed choices, in stages from coarse to fine."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hubel.data.preprocess import Resize
from hubel.errors import FormatError, HubelError, UsageError
from hubel.notation.named import find
from hubel.notation.ranges import Range, RangedNet, read_range, read_ranged
from hubel.train.optimizers import OPTIMIZERS
from hubel.train.settings import Settings, flag, settings
from hubel.trials.searchable import DECAY, DECOUPLED_DECAY, SEARCHABLE

__all__ = [
    "METHODS",
    "Plan",
    "budget",
    "from_dict",
    "grid",
    "narrowed",
    "plan",
    "settings_of",
    "stage_epochs",
]

METHODS = {
    "random": "numbers drawn independently",
    "grid": "evenly spaced numbers in every combination, in random order",
    "tpe": "numbers drawn where earlier trials did well: tree-structured Parzen estimators",
}
"""How a stage finds its candidates (Bergstra et al. 2011 for tpe, 2012 for random and grid)."""


# A finer stage trains its trials so many times longer than the one before it, and a coarser stage
# gets this share of the trials that are left.
_LONGER = 3
_COARSE_SHARE = 2 / 3
# The trials of a stage that say where the next one looks, and how far beyond them, as a share of
# the range.
_BEST_SHARE, _FEWEST_BEST, _MARGIN = 1 / 4, 3, 1 / 10


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole search as data: what each trial has in common, and what is tried.

    `searched` are the ranges of choices of training, `net` holds ranges of its own, `choices` are
    the same in every trial. In all there are `trials`, in so many `stages`; `stop_early` ends those
    that do worse than half of the others.
    """

    net: str
    searched: Mapping[str, Range]
    choices: Mapping[str, Any]
    trials: int
    stages: int
    method: str
    stop_early: bool
    seed: int
    engine: str
    precision: str
    initialisation: str
    resize: Resize

    @property
    def ranged(self) -> RangedNet:
        """The network with its ranges read."""
        return read_ranged(self.net)

    @property
    def ranges(self) -> dict[str, Range]:
        """Every range of the search by name: those of training, then those of the network."""
        return {**self.searched, **self.ranged.ranges}

    def as_dict(self) -> dict[str, Any]:
        """All of it as what JSON can hold."""
        # `asdict` would take the ranges apart, which their text says as well.
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        searched = {name: str(one) for name, one in self.searched.items()}
        return {**fields, "searched": searched, "choices": dict(self.choices)}


def plan(
    net: str,
    choices: Mapping[str, Any],
    *,
    trials: int = 20,
    stages: int = 2,
    method: str = "tpe",
    stop_early: bool = True,
    seed: int = 0,
    engine: str = "native",
    precision: str = "float32",
    initialisation: str = "he",
    resize: Resize = "squash",
) -> Plan:
    """A search of the ranges in `net` and among `choices`, checked.

    A choice is a range where it is a Range or the text of one. The learning rate and the weight
    decay are searched, over their usual ranges, unless they are given. Raises UsageError and
    NetworkError for what cannot be.
    """
    text, _ = find(net)
    searched, same = dict[str, Range](), dict[str, Any]()
    for name, value in choices.items():
        one = _read(name, value)
        if one is None or one.low == one.high:
            same[name] = value if one is None else one.low
        else:
            searched[name] = one
    if "time" in same:
        raise UsageError("a trial has no limit of time", hint="the whole search has one: time=600")
    usual = settings(**same)
    optimizer = OPTIMIZERS[usual.optimizer]
    if "lr" not in choices:
        low = float(f"{optimizer.rate / 10:g}")
        searched["lr"] = Range(low, optimizer.rate * 100, log=True)
    if "weight_decay" not in choices:
        decay = DECOUPLED_DECAY if optimizer.decoupled else DECAY
        searched["weight_decay"] = read_range(decay, usually_log=True)
    searched = {name: searched[name] for name in SEARCHABLE if name in searched}
    made = Plan(
        text,
        searched,
        {**same, "epochs": usual.epochs, "seed": seed},
        trials,
        stages,
        method,
        stop_early,
        seed,
        engine,
        precision,
        initialisation,
        resize,
    )
    _check(made)
    return made


def from_dict(fields: Mapping[str, Any]) -> Plan:
    """The plan that `as_dict` was made of; raises FormatError where it cannot be."""
    try:
        searched = {name: read_range(text) for name, text in fields["searched"].items()}
        made = Plan(**{**fields, "searched": searched})
        _check(made)
    except (AttributeError, KeyError, TypeError, HubelError) as error:
        raise FormatError(f"its plan of a search does not hold: {error}") from None
    return made


def settings_of(plan: Plan, stage: int, numbers: Mapping[str, float]) -> Settings:
    """The choices of training of one trial."""
    drawn = {
        name: int(numbers[name]) if one.whole else numbers[name]
        for name, one in plan.searched.items()
    }
    return settings(**{**plan.choices, **drawn, "epochs": stage_epochs(plan, stage)})


def budget(plan: Plan, stage: int) -> int:
    """How many trials a stage has: coarse ones more than the finer ones after them.

    >>> made = plan("fc", {}, trials=20, stages=2)
    >>> [budget(made, stage) for stage in range(2)], [stage_epochs(made, s) for s in range(2)]
    ([13, 7], [4, 10])
    """
    left = plan.trials
    for earlier in range(stage + 1):
        finer = plan.stages - earlier - 1
        # Each finer stage keeps a trial at least.
        mine = min(max(round(left * _COARSE_SHARE), 1), left - finer) if finer else left
        if earlier < stage:
            left -= mine
    return mine


def stage_epochs(plan: Plan, stage: int) -> int:
    """How many epochs the trials of a stage have; those of the last have as many as were chosen."""
    whole: int = plan.choices["epochs"]
    return math.ceil(whole / math.pow(_LONGER, plan.stages - stage - 1))


def narrowed(
    ranges: Mapping[str, Range], ranked: Sequence[Mapping[str, float]]
) -> dict[str, Range]:
    """The ranges that hold the best quarter of a stage's trials, with a margin; best ones first.

    At least three trials count, and fewer narrow nothing down. No range grows, and a number that
    made no difference keeps most of its range by itself.

    >>> wide = {"lr": Range(1e-4, 1.0, log=True)}
    >>> narrowed(wide, [{"lr": 1e-2}, {"lr": 2e-2}, {"lr": 1e-3}, {"lr": 0.9}])["lr"]
    Range(low=0.000398, high=0.0502, whole=False, log=True, values=())
    """
    best = ranked[: max(_FEWEST_BEST, math.ceil(len(ranked) * _BEST_SHARE))]
    if len(best) < _FEWEST_BEST:
        return dict(ranges)
    return {name: _around(one, [numbers[name] for numbers in best]) for name, one in ranges.items()}


def _around(one: Range, numbers: Sequence[float]) -> Range:
    if one.values:
        values = tuple(value for value in one.values if value in numbers)
        return replace(one, low=min(values), high=max(values), values=values)
    shares = [one.share(number) for number in numbers]
    low, high = one.at(max(min(shares) - _MARGIN, 0.0)), one.at(min(max(shares) + _MARGIN, 1.0))
    return replace(one, low=low, high=high)


def grid(ranges: Mapping[str, Range], points: int) -> dict[str, tuple[float, ...]]:
    """Evenly spaced numbers in each range, as many as give at most `points` combinations.

    Listed numbers are taken as they are. Raises UsageError where two in each range are too many.
    """
    counts = dict.fromkeys(ranges, 2)
    if _size(ranges, counts) > points:
        raise UsageError(
            f"a grid over {', '.join(ranges)} has {_size(ranges, counts)} points at least, and "
            f"a stage has {points} trials",
            where="--method grid",
            hint="give more --trials, fewer ranges, --stages 1, or --method random",
        )
    growing = list(ranges)
    while growing:
        # The coarsest first, so that all are about as fine.
        name = min(growing, key=counts.__getitem__)
        more = {**counts, name: counts[name] + 1}
        if _size(ranges, counts) < _size(ranges, more) <= points:
            counts = more
        else:
            growing.remove(name)
    return {name: _spaced(one, counts[name]) for name, one in ranges.items()}


def _size(ranges: Mapping[str, Range], counts: Mapping[str, int]) -> int:
    return math.prod(len(_spaced(one, counts[name])) for name, one in ranges.items())


def _spaced(one: Range, count: int) -> tuple[float, ...]:
    if one.values:
        return one.values
    # Few whole numbers may lie between the ends.
    return tuple(dict.fromkeys(one.at(place / (count - 1)) for place in range(count)))


def _read(name: str, value: Any) -> Range | None:
    """The range that is given for a choice, or None for a choice that is the same in all trials."""
    searchable = SEARCHABLE.get(name)
    if isinstance(value, str) and searchable is not None:
        return read_range(
            value, usually_log=searchable.log, whole=searchable.whole, named=flag(name)
        )
    if isinstance(value, Range) and searchable is None:
        raise UsageError(
            f"{name} cannot be searched",
            hint=f"ranges are for {', '.join(SEARCHABLE)}, and for numbers of the network's text",
        )
    return value if isinstance(value, Range) else None


def _check(plan: Plan) -> None:
    for name, number in (("trials", plan.trials), ("stages", plan.stages)):
        if not isinstance(number, int) or number < 1:
            raise UsageError(f"{name} (--{name}) is {number!r}, not a whole number of at least 1")
    if plan.trials < plan.stages:
        raise UsageError(
            f"{plan.trials} trials are fewer than {plan.stages} stages",
            hint="give more --trials or fewer --stages",
        )
    if plan.method not in METHODS:
        raise UsageError(f"method (--method) is {plan.method!r}, not one of {', '.join(METHODS)}")
    ranges = plan.ranged.ranges
    same = [
        name for name in ranges if name in {field.name for field in dataclasses.fields(Settings)}
    ]
    if same:
        raise UsageError(
            f"the network's range {same[0]} is called like a choice of training",
            hint="give it another name",
        )
    if not plan.ranges:
        raise UsageError(
            "there is nothing to search",
            hint="give a range: --lr 1e-4..1e-1, or conv3-{16..64} in the network",
        )
    _check_ends(plan)
    if plan.method == "grid":
        for stage in range(plan.stages):
            grid(plan.ranges, budget(plan, stage))


def _check_ends(plan: Plan) -> None:
    """Raise UsageError where training refuses one end of a range."""
    lows = {name: one.low for name, one in plan.searched.items()}
    settings_of(plan, 0, lows)
    for name, one in plan.searched.items():
        settings_of(plan, 0, {**lows, name: one.high})
