"""Sparse memory for frames and for their flags: private to the process, or a file in memory.

Guarantees: what nobody has written to takes nothing and reads as zeros; `punch` gives memory back and leaves zeros.
A child of a fork shares none of it: what is private the system empties there, also before anybody has called
`start_anew` (MADV_WIPEONFORK), unless it is to be kept; a file is replaced by `start_anew`.
Why two: private memory is had in little more than half of the time (64 MiB: 22 ms in place of 40), and given back in a
third, which is most of what a fetch costs.  But what is *written* to a file by a system call is neither zeroed first
nor copied under the GIL, and only a file can be handed to somebody else.  So files that are read have the one, and
those that may be written the other.
Huge pages are refused: a page that is evicted would take 511 others along, or give nothing back.
Source: mmap(2), MAP_NORESERVE; madvise(2), MADV_WIPEONFORK (Linux 4.14), MADV_DONTNEED, MADV_REMOVE,
MADV_POPULATE_WRITE (5.14); mincore(2); memfd_create(2).  Elsewhere than on Linux the memory is anonymous, and how much
of it is taken is not known.
Not here: which byte is whose (arena.py).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Protocol

from ..units import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    import ctypes

Spans = Iterable[tuple[int, int]]
"""From byte, to byte; whole pages."""

_MAP_FIXED = 0x10
"""mman.h's value on Linux, macOS and the BSDs; Python's mmap names neither it nor those below."""
_MAP_NORESERVE = 0x4000
_MADV_WIPEONFORK, _MADV_KEEPONFORK = 18, 19
_MADV_POPULATE_WRITE = 23
_CAN_PUNCH = hasattr(mmap, "MADV_REMOVE") and mmap.PAGESIZE == PAGE_SIZE
"""Where not, removed pages are zeroed but their memory stays with the process."""
_POPULATED_MIN = 16 * PAGE_SIZE
"""Of less, one fault after the other is no slower."""


class Memory(Protocol):
    """Several mappings, for one purpose."""

    maps: list[mmap.mmap]
    fd: int
    """Of the file; -1 if there is none."""

    def start_anew(self) -> None:
        """After a fork, in the child: empty, at the same addresses."""

    def keep_for_children(self, *, is_kept: bool = True) -> None:
        """Whether a child of a fork has what is in it, as it is then."""

    def write(self, data: memoryview, position: int) -> None:
        """Copy *data*, which is bytes, to byte *position* of the first mapping."""

    def punch(self, mapping: mmap.mmap, start: int, size_bytes: int) -> None:
        """Give bytes of one of the mappings, whole pages, back to the system.  Holds the GIL."""

    def taken_bytes(self, spans: Sequence[Spans]) -> int | None:
        """How much is truly taken, by the system's count, if it is nowhere but in *spans* of each mapping; None where
        it cannot say."""


def memories(sizes_bytes: Mapping[str, Sequence[int]], *, is_private: bool) -> list[Memory]:
    """Mappings of these sizes, for each of these names.  *is_private*: private, all or none of them, where the system
    promises so much that may never be used."""
    if is_private:
        with suppress(OSError):  # vm.overcommit_memory = 2, a limit of data (RLIMIT_DATA), an older kernel
            return [_PrivateMemory(sizes) for sizes in sizes_bytes.values()]
    return [_FileMemory(name, sizes) for name, sizes in sizes_bytes.items()]


class _PrivateMemory:
    """Anonymous memory that nobody shares.  Raises: OSError if the system does not have it."""

    fd = -1

    def __init__(self, sizes_bytes: Sequence[int]) -> None:
        if not (_CAN_PUNCH and hasattr(os, "memfd_create")):  # no Linux
            raise OSError("this system has none that it empties for children")
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self.maps = [mmap.mmap(-1, size_bytes, flags=flags) for size_bytes in sizes_bytes]
        for mapping in self.maps:
            mapping.madvise(_MADV_WIPEONFORK)
            with suppress(OSError):  # a kernel that knows of none
                mapping.madvise(mmap.MADV_NOHUGEPAGE)

    def start_anew(self) -> None:
        """The system has emptied it."""

    def keep_for_children(self, *, is_kept: bool = True) -> None:
        for mapping in self.maps:
            mapping.madvise(_MADV_KEEPONFORK if is_kept else _MADV_WIPEONFORK)

    def write(self, data: memoryview, position: int) -> None:
        if len(data) >= _POPULATED_MIN:
            populate(self.maps[0], position & -PAGE_SIZE, position + len(data) + PAGE_SIZE - 1 & -PAGE_SIZE)
        self.maps[0][position : position + len(data)] = data

    def punch(self, mapping: mmap.mmap, start: int, size_bytes: int) -> None:
        mapping.madvise(mmap.MADV_DONTNEED, start, size_bytes)

    def taken_bytes(self, spans: Sequence[Spans]) -> int | None:
        libc = _libc()
        if libc is None:
            return None
        import ctypes

        taken_pages = 0
        for mapping, its_spans in zip(self.maps, spans, strict=True):
            begin = ctypes.c_char.from_buffer(mapping)  # keeps the mapping where it is
            for start, stop in its_spans:
                here = ctypes.create_string_buffer(stop - start >> PAGE_SHIFT)
                libc.mincore(ctypes.addressof(begin) + start, stop - start, here)
                taken_pages += here.raw.count(1)
        return taken_pages << PAGE_SHIFT


class _FileMemory:
    """Mappings of one sparse file in memory, one behind the other; anonymous memory where the system has no such
    files."""

    def __init__(self, name: str, sizes_bytes: Sequence[int]) -> None:
        self._name = name
        self._sizes_bytes = list(sizes_bytes)
        self.fd = self._new_file()
        self.maps = [mmap.mmap(self.fd, size, offset=at if self.fd >= 0 else 0) for at, size in self._places()]

    def _new_file(self) -> int:
        if not hasattr(os, "memfd_create"):
            return -1
        fd = os.memfd_create(self._name, os.MFD_CLOEXEC)
        os.ftruncate(fd, sum(self._sizes_bytes))
        return fd

    def _places(self) -> Iterable[tuple[int, int]]:
        """Where each mapping lies in the file: (offset, size) in bytes."""
        at = 0
        for size_bytes in self._sizes_bytes:
            yield at, size_bytes
            at += size_bytes

    def start_anew(self) -> None:
        old_fd, self.fd = self.fd, self._new_file()
        for mapping, (offset, _) in zip(self.maps, self._places(), strict=True):
            _map_over(mapping, self.fd, offset)
        _replace_descriptors(old_fd, self.fd)

    def keep_for_children(self, *, is_kept: bool = True) -> None:
        """They have it anyway, until `start_anew`."""

    def write(self, data: memoryview, position: int) -> None:
        """By a system call where there is a file: other threads run meanwhile, and the pages are not zeroed first."""
        if self.fd < 0:
            self.maps[0][position : position + len(data)] = data
            return
        written = 0
        while written < len(data):
            written += os.pwrite(self.fd, data[written:], position + written)

    def punch(self, mapping: mmap.mmap, start: int, size_bytes: int) -> None:
        if _CAN_PUNCH:
            mapping.madvise(mmap.MADV_REMOVE, start, size_bytes)
        else:
            mapping[start : start + size_bytes] = bytes(size_bytes)

    def taken_bytes(self, spans: Sequence[Spans]) -> int | None:
        return os.fstat(self.fd).st_blocks * 512 if self.fd >= 0 else None

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at the interpreter's end `os` may be gone
        # With the last object that shows it, and not before: a descriptor that is closed under a late reader may be
        # another's by the time it is used.
        if getattr(self, "fd", -1) >= 0:
            close(self.fd)


def populate(memory: mmap.mmap, start: int, stop: int) -> None:
    """Have memory for bytes that are on their way, in one call, before they come: page by page, each by a fault, it
    costs more than to receive what comes into it.  Other threads run meanwhile (`mmap.madvise` would hold the GIL).

    It is advice: what the system does not give is had when it is written to.  *start* and *stop* are on page bounds;
    what is between them is a hole whose pages are locked by the caller.
    """
    libc = _libc()
    if libc is not None:
        import ctypes

        begin = ctypes.c_char.from_buffer(memory, start)  # keeps the mapping where it is
        libc.madvise(ctypes.addressof(begin), stop - start, _MADV_POPULATE_WRITE)  # an error means: not now


@cache
def _libc() -> ctypes.CDLL | None:
    """The system's own calls, made without the GIL."""
    if not hasattr(os, "memfd_create"):  # no Linux
        return None
    try:
        import ctypes

        libc = ctypes.CDLL(None)
        libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        libc.mincore.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    except (ImportError, OSError, AttributeError):
        return None
    return libc


def _map_over(memory: mmap.mmap, fd: int, offset_bytes: int) -> None:
    """Map a part of a file, or of nothing, in place of what *memory* maps.  `mmap.mmap` cannot say MAP_FIXED."""
    import ctypes  # only a forked child needs it

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *3 * (ctypes.c_int,), ctypes.c_long)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    flags = mmap.MAP_SHARED | _MAP_FIXED | (mmap.MAP_ANONYMOUS if fd < 0 else 0)
    mapped = libc.mmap(address, len(memory), mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset_bytes)
    if mapped != address:
        # To go on would mean to write to the parent's pages.
        raise SystemError(f"cannot give a forked child a cache of its own: {os.strerror(ctypes.get_errno())}")


def _replace_descriptors(old_fd: int, new_fd: int) -> None:
    """Have every descriptor of an old file (`mmap.mmap` keeps one each) name the new one, so that the child does
    not keep the parent's memory alive."""
    if old_fd < 0 or not os.path.isdir("/proc/self/fd"):
        return
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            same = os.path.sameopenfile(fd, old_fd)
        except OSError:  # the directory's own descriptor, closed by now
            continue
        if same and fd != old_fd:
            os.dup2(new_fd, fd, inheritable=False)
    os.close(old_fd)
