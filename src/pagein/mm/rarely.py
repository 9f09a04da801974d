"""An attribute that few objects have at any moment, of those of which there may be many.

Guarantees: it costs an object nothing while it has its default; to read it takes no lock.
Assumes: its class has a slot ``rare``, which begins as `NOTHING_RARE`; whoever sets one holds the lock of all of them.
Not here: which those are (mapping.py, sizes.py).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

NOTHING_RARE: Any = MappingProxyType({})
"""Every such attribute has its default."""


class Rarely(Generic[T]):
    """A descriptor: the attribute is in the object's table of them, if it is not the default."""

    __slots__ = ("_default", "_name")

    def __init__(self, default: T) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        value: T = instance.rare.get(self._name, self._default)
        return value

    def __set__(self, instance: Any, value: T) -> None:
        rare = {name: other for name, other in instance.rare.items() if name != self._name}
        if value is not self._default:
            rare[self._name] = value
        instance.rare = rare or NOTHING_RARE  # anew: another may be reading the one that was
