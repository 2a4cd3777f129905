"""Dataclasses that are quick to declare, for what a cold start imports: their methods are shared.

The standard decorator compiles six functions anew for each class, which takes half a millisecond:
for all the small records of graphs and programs longer than to load a model and predict with it.
Here a class only gets its fields, which tell the standard library's functions that it is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

_set = object.__setattr__

# By this mark the standard library's functions know a field from other attributes.
_FIELD: Any = vars(dataclasses)["_FIELD"]


def _initialise(self: Any, *given: Any, **named: Any) -> None:
    cls = type(self)
    names = cls.__match_args__
    if len(given) == len(names) and not named:
        for name, value in zip(names, given, strict=True):
            _set(self, name, value)
        return
    values = dict(zip(names, given, strict=False))
    if len(given) > len(names) or values.keys() & named.keys():
        raise TypeError(f"{cls.__name__} takes {', '.join(names)}, each once")
    values |= named
    for name, field in cls.__dataclass_fields__.items():
        if name in values:
            _set(self, name, values.pop(name))
        elif field.default is not MISSING:
            _set(self, name, field.default)
        elif field.default_factory is not MISSING:
            _set(self, name, field.default_factory())
        else:
            raise TypeError(f"{cls.__name__} needs {name}")
    if values:
        raise TypeError(f"{cls.__name__} has no {', '.join(values)}")


def _represent(self: Any) -> str:
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _compared(self: Any) -> tuple[Any, ...]:
    compared = self.__dataclass_fields__
    return tuple([getattr(self, name) for name in compared if compared[name].compare])


def _equal(self: Any, other: object) -> Any:
    if type(self) is not type(other):
        return NotImplemented
    return self is other or _compared(self) == _compared(other)


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _refuse(self: Any, name: str, value: object = None) -> None:
    raise FrozenInstanceError(f"cannot change {name!r} of {type(self).__name__}")


def _reduce(self: Any) -> tuple[Any, ...]:
    return type(self), tuple(getattr(self, one.name) for one in fields(self))


_METHODS = {"__init__": _initialise, "__repr__": _represent}
_FROZEN = {"__setattr__": _refuse, "__delattr__": _refuse, "__reduce__": _reduce}


def _fields_of(cls: type) -> dict[str, Any]:
    """The fields of a class, those of its bases before its own."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[1:]):
        found |= base.__dict__.get("__dataclass_fields__", {})
    for name, kind in cls.__annotations__.items():
        given = cls.__dict__.get(name, MISSING)
        one: Any = given if isinstance(given, Field) else dataclasses.field(default=given)
        one.name, one.type, one.kw_only = name, kind, False
        one._field_type = _FIELD
        found[name] = one
    return found


def _with_slots(cls: type) -> type:
    """The class made again, for only a new one can have slots."""
    names = tuple(cls.__annotations__)
    left_out = {*names, "__dict__", "__weakref__"}
    body = {name: value for name, value in cls.__dict__.items() if name not in left_out}
    made = type(cls)(cls.__name__, cls.__bases__, body | {"__slots__": names})
    made.__qualname__ = cls.__qualname__
    return made


if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        *, frozen: bool = False, slots: bool = False, eq: bool = True
    ) -> Callable[[type], type]:
        """What `dataclasses.dataclass` makes, of fields that are all initialised.

        >>> @dataclass(frozen=True, slots=True)
        ... class Point:
        ...     x: int
        ...     y: int = 0
        >>> Point(1), Point(1) == Point(1, 0), dataclasses.replace(Point(1), y=2)
        (Point(x=1, y=0), True, Point(x=1, y=2))
        """
        methods = _METHODS | (_FROZEN if frozen else {})
        if eq:
            methods |= {"__eq__": _equal, "__hash__": _hash if frozen else None}

        def declare(cls: type) -> type:
            fields_there = _fields_of(cls)
            made = _with_slots(cls) if slots else cls
            made.__dataclass_fields__ = fields_there
            made.__match_args__ = tuple(fields_there)
            for name, method in methods.items():
                if name not in cls.__dict__:
                    setattr(made, name, method)
            return made

        return declare
