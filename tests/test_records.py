"""Records are the standard library's dataclasses in all that is seen of them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from hubel import records


class Sample:
    """Fields with every option that records have."""

    size: int
    name: str = "conv"
    seen: list[int] = field(default_factory=list, compare=False)
    span: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)

    @property
    def twice(self) -> int:
        """Twice the size."""
        return 2 * self.size


OF_CLASSES = ("__dict__", "__weakref__")
"""What every class is given anew."""


def made(declare: Any, **options: Any) -> Any:
    """The class as a decorator makes it."""
    own = {name: kept for name, kept in vars(Sample).items() if name not in OF_CLASSES}
    return declare(**options)(type("Sample", (), own))


@records.dataclass(frozen=True, slots=True)
class Record:
    """One that pickle finds."""

    size: int
    name: str = "conv"
    seen: list[int] = field(default_factory=list, compare=False)
    span: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)


@pytest.mark.parametrize("slots", [True, False])
@pytest.mark.parametrize("given", [(3,), (3, "fc"), (3, "fc", [1], (1, 2))])
def test_a_record_is_made_shown_and_compared_as_the_standard_one(
    given: tuple[Any, ...], slots: bool
) -> None:
    quick = made(records.dataclass, frozen=True, slots=slots)
    standard = made(dataclasses.dataclass, frozen=True, slots=slots)
    one, other = quick(*given), standard(*given)
    assert dataclasses.is_dataclass(one)
    assert repr(one) == repr(other)
    assert hash(one) == hash(other)
    assert dataclasses.asdict(one) == dataclasses.asdict(other)
    assert quick.__match_args__ == standard.__match_args__
    assert [one.name for one in dataclasses.fields(quick)] == list(standard.__match_args__)
    assert hasattr(one, "__dict__") != slots
    assert one.twice == 6
    assert one == quick(*given)
    assert one == quick(size=3, **dict(zip(quick.__match_args__[1:], given[1:], strict=False)))
    assert one != other
    assert one != quick(4, *given[1:])
    assert one == dataclasses.replace(one, span=(7, 8))
    assert dataclasses.replace(one, name="pool") == quick(3, "pool")


def test_a_default_that_is_made_is_nobody_elses() -> None:
    assert Record(1).seen is not Record(1).seen


def test_a_frozen_record_stays_as_it_is_and_can_be_copied() -> None:
    one = Record(3, "fc", [1])
    with pytest.raises(FrozenInstanceError, match="cannot change 'size' of Record"):
        one.size = 4
    with pytest.raises(FrozenInstanceError, match="cannot change 'size' of Record"):
        del one.size
    for copied in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert copied == one
        assert copied.seen == [1]


def test_a_record_that_is_not_frozen_changes_and_has_no_hash() -> None:
    one = made(records.dataclass, slots=True)(3)
    one.size = 4
    assert one.twice == 8
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_without_equality_a_record_is_equal_to_itself_alone() -> None:
    kind = made(records.dataclass, frozen=True, slots=True, eq=False)
    one = kind(3)
    assert one == one
    assert one != kind(3)
    assert len({one, kind(3)}) == 2


def test_methods_of_the_class_itself_stay() -> None:
    kind = records.dataclass(frozen=True, slots=True)(
        type("Own", (), {"__annotations__": {"size": "int"}, "__repr__": lambda _: "own"})
    )
    assert repr(kind(1)) == "own"


@pytest.mark.parametrize(
    ("given", "named", "told"),
    [
        ((), {}, "Record needs size"),
        ((1,), {"depth": 2}, "Record has no depth"),
        ((1, "a", [], (0, 0), 5), {}, "Record takes size, name, seen, span, each once"),
        ((1,), {"size": 2}, "Record takes size, name, seen, span, each once"),
    ],
)
def test_what_does_not_fit_the_fields_is_told(
    given: tuple[Any, ...], named: dict[str, Any], told: str
) -> None:
    with pytest.raises(TypeError, match=told):
        Record(*given, **named)
