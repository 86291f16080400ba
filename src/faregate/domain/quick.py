"""Fast construction of frozen values that every decision makes."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


def quick_maker(kind: type[_T]) -> Callable[..., _T]:
    """Return a function that makes values of a frozen, slotted dataclass from its fields.

    A frozen dataclass sets each field by `object.__setattr__`: 3.5 µs for 20 fields. The function
    fills an object of a mutable class with the same slots, then changes its class: 0.5 µs. It takes
    fields by position or name, with their defaults, and does not call `__post_init__`.
    """
    defaults = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    named = ", ".join(
        name if default is MISSING else f"{name}=defaults[{name!r}]"
        for name, default in defaults.items()
    )
    body = "\n    ".join([*(f"self.{name} = {name}" for name in defaults), "self.__class__ = kind"])
    source = f"def make({named}):\n    self = new()\n    {body}\n    return self\n"
    slots = tuple(kind.__slots__)  # type: ignore[attr-defined]
    new = type(f"_Mutable{kind.__name__}", (), {"__slots__": slots})
    scope: dict[str, Any] = {"kind": kind, "defaults": defaults, "new": new}
    exec(source, scope)  # noqa: S102 -- the names are those of our own fields
    return cast("Callable[..., _T]", scope["make"])
