"""One source to one destination, through a cache, as `cp` and `sync` do it.

Guarantees: the source is opened, and the first of it read, before the destination is touched; where the destination's
store replaces objects as a whole, it is as it was unless the copy is complete, whatever interrupts it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pagein

from ..file import File
from ..stores import Source, source_of
from ..stores.local import LocalSource

REFRESH_S = 0.1
PIECE_BYTES = 1 << 20
CACHE_BYTES = 256 * PIECE_BYTES
"""Each byte is wanted once: enough to read ahead, and to write behind."""
DIRTY_LIMIT = 0.5
"""Half of that may wait for the destination."""

Progress = Callable[[int], object]
"""Is told, now and then, how many bytes have been copied."""


@contextmanager
def passing_cache() -> Iterator[pagein.PageCache]:
    """A cache for copies.  What an error has left in it is given up: that error says why."""
    cache = pagein.PageCache(CACHE_BYTES, dirty_background=DIRTY_LIMIT / 4, dirty_limit=DIRTY_LIMIT)
    try:
        yield cache
    except BaseException:
        cache.close(discard=True)
        raise
    cache.close()


def copy(cache: pagein.PageCache, source: str, target: str, progress: Progress, *, mode: str = "wb") -> int:
    """Copy *source* to *target*, which is opened with *mode*; return how many bytes.

    Raises: OSError of either; ValueError if they are the same.
    """
    if _are_same(source_of(source), source_of(target)):
        raise ValueError(f"{source} and {target} are the same file")
    with cache.open(source) as reader:
        assert isinstance(reader, File)
        reader.advise("sequential")
        head = reader.pread(PIECE_BYTES, 0)
        writer = cache.open(target, mode)
        assert isinstance(writer, File)
        copying = _Copying(reader, head, writer)
        try:
            for copied_bytes in copying.copied():
                progress(copied_bytes)
            progress(reader.size_bytes)
        except BaseException:
            with suppress(OSError):  # what was raised first says more
                writer.discard()
                writer.close()
            raise
        writer.close()
        return reader.size_bytes


def _are_same(source: Source, target: Source) -> bool:
    return source.key == target.key or (isinstance(source, LocalSource) and source.is_file_of(target))


class _Copying:
    """In a thread, so that how far it is can be told meanwhile, and Ctrl-C heard."""

    def __init__(self, reader: File, head: bytes, writer: File) -> None:
        self._reader, self._head, self._writer = reader, head, writer
        self._copied_bytes = 0
        self._stopped = False
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        # A daemon: a store that does not answer must not keep the command from ending.
        self._thread = threading.Thread(target=self._guarded, name="copy", daemon=True)

    def copied(self) -> Iterator[int]:
        """How many bytes have been copied, now and then, until all have.  Nothing is written after it has ended."""
        self._thread.start()
        try:
            while self._thread.is_alive():
                self._thread.join(REFRESH_S)
                yield self._copied_bytes
        finally:
            with self._lock:
                self._stopped = True
        if self._error is not None:
            raise self._error

    def _guarded(self) -> None:
        try:
            piece = self._head
            while piece:
                with self._lock:
                    if self._stopped:
                        return
                    self._writer.write(piece)
                self._copied_bytes += len(piece)
                piece = self._reader.pread(PIECE_BYTES, self._copied_bytes)
        except BaseException as error:  # raised again by copied()
            self._error = error
