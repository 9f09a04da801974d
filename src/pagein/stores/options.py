"""Options as a part of a source's key: equal options, equal forms.

Guarantees: what is told apart by ``==`` is told apart here; what cannot be hashed is compared all the same.
Assumes: options are not changed once they have been given.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping


def frozen(value: object) -> Hashable:
    """A hashable form of options: equal options have equal forms."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(name), frozen(one)) for name, one in value.items()))
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(frozen(one) for one in value)
    return (type(value).__name__, value) if isinstance(value, Hashable) else Same(value)


class Same:
    """Hashable in place of what is not: equal if it is equal."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and type(other.value) is type(self.value) and other.value == self.value

    def __hash__(self) -> int:
        return hash(type(self.value))
