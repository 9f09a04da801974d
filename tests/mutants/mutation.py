"""A mistake that the core must not make: one change of a line of src/pagein/mm, and the tests that catch it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MM = Path("src", "pagein", "mm")


@dataclass(frozen=True)
class Mutation:
    """In *file* of src/pagein/mm the *old* text becomes the *new* one; *name* says what is wrong then.  One of *tests*
    has to fail."""

    file: str
    name: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def path(self) -> Path:
        """From the root of the project."""
        return MM / f"{self.file}.py"

    def applied_to(self, text: str) -> str:
        """Raises: ValueError if the old text does not stand there exactly once."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.path} holds {count} times, not once:\n{self.old}")
        return text.replace(self.old, self.new)

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def mutation(file: str, name: str, old: str, new: str, *tests: str) -> Mutation:
    """*tests* are named from tests/ on."""
    return Mutation(file, name, old, new, tuple(f"tests/{test}" for test in tests))
