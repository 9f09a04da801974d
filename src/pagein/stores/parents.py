"""`WrittenByParent`: in a child of a fork, what stands for the store of a file that the parent was writing.

Guarantees: the child neither reads what the parent is changing, nor writes it.
Not here: which files these are (pagein.table).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import written_by_parent
from ..mm.aops import AddressSpaceOperations

if TYPE_CHECKING:
    from ..mm.openfile import OpenFile
    from ..mm.page import Page


class WrittenByParent(AddressSpaceOperations):
    """Here nobody reads it, or writes it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.device_name = "written by the parent"

    def readpage(self, file: OpenFile, page: Page) -> int:
        """Raises: OSError(EBADF)."""
        raise written_by_parent(self._name)

    def fsync(self) -> None:
        """Raises: OSError(EBADF)."""
        raise written_by_parent(self._name)
