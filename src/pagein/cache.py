"""`PageCache`: the owner of a zone and of the inodes whose pages are in it.

Guarantees: one hard cap over all files; one mapping for one version of one source, however often it is opened; a
source that has changed gets a new mapping at its next open, so that two versions never mix; nothing that was written
is lost without an error that names it.
Assumes: sources with equal keys are one object (stores/source.py).
Not here: inodes (inode.py), which of them is found and when it goes (table.py), files (file.py), what is in no store
yet (unwritten.py), what follows from closed files (follow_up.py), the end (closing.py), pages (mm/), what a source is
(stores/).
"""

from __future__ import annotations

import io
import os
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import closing, config, follow_up, lookup_for_writing, notebook, process, stores
from .errors import ContractViolation, closed_cache, not_operations
from .file import File
from .freshness import Revalidate, parse_revalidate
from .inode import Inode as Inode
from .lookup import Lookup
from .mm import truncate
from .mm.aops import AddressSpaceOperations
from .mm.debug import Checks
from .mm.dirty import Limits
from .mm.mapping import AddressSpace
from .mm.openfile import OpenFile
from .mm.outcome import InOrder
from .mm.sync import SYSTEM, Door, MakeWaiter, OwnedLock, Steps
from .mm.victims import Victims, s3fifo
from .mm.zone import Zone
from .modes import Mode
from .owner import CacheOwner
from .reader import PageReader, checked
from .residency import members
from .stores.source import Opened, Source
from .table import InodeTable
from .text import TextFile, text_layer
from .units import PAGE_SHIFT, format_share, format_size
from .watching import Watch, WatchingFile
from .write_only import WriteOnlyFile

if TYPE_CHECKING:
    from _typeshed import OpenBinaryMode, OpenTextMode

    from .mm.aops import AddressSpaceOperations
    from .stats import CacheStats
    from .trace import Trace

T = TypeVar("T")
R = TypeVar("R", bound=PageReader)

IDLE_INODES_MAX = 4096
"""Inodes kept, with their pages, after their last file was closed.  One costs about 2 KiB;
of large ones fewer are kept (idle.py)."""


class PageCache:
    """A cache of at most *size* bytes over all the files opened through it.

    *size* is an int or a string with a unit ("4 GiB"), by default a quarter of the memory that the process may use.
    Of it, at most *dirty_limit*, a share, may wait to be written back, which begins at *dirty_background*, or when
    something has waited for *dirty_age_s* seconds.  *debug* asserts the contract at run time.
    What is not given is as the environment or a file says (config.py), else the default.
    *revalidate* says when a source is looked at again: "open": whenever it is opened; "never", as long as anything is
    known of it; a number of seconds: when it is opened, or read, and the last look is older; "always": each time.
    *victims* chooses what to evict (pagein.mm.victims.s3fifo).  *door* is for tests.
    Raises: ValueError, TypeError for a size that cannot be read or is below one page, or what else makes no sense;
    ValueError, OSError for a setting or a file of settings that cannot be read.
    """

    def __init__(
        self,
        size: int | str | None = None,
        *,
        dirty_background: float | None = None,
        dirty_limit: float | None = None,
        dirty_age_s: float | None = None,
        victims: Victims = s3fifo,
        revalidate: Revalidate | None = None,
        debug: bool | None = None,
        door: Door = SYSTEM,
    ) -> None:
        self.size_bytes: int = config.SIZE.found(size).value
        self._freshness = parse_revalidate(config.REVALIDATE.found(revalidate).value)
        cap_pages = self.size_bytes >> PAGE_SHIFT
        background, limit = config.dirty_shares(dirty_background, dirty_limit)
        limits = Limits.for_cap(
            cap_pages,
            background_share=background.value,
            limit_share=limit.value,
            age_s=config.DIRTY_AGE_S.found(dirty_age_s).value,
        )
        checks = Checks(config.DEBUG_READ_TIMEOUT_S.found().value) if config.DEBUG.found(debug).value else None
        self._zone = Zone(cap_pages, victims=victims, door=door, checks=checks, dirty_limits=limits)
        self._files: weakref.WeakSet[PageReader] = weakref.WeakSet()
        self._texts: weakref.WeakSet[TextFile] = weakref.WeakSet()
        """Text that is written: a piece of it may not have come to its file yet."""
        self._roomy_inodes: weakref.WeakSet[Inode] = weakref.WeakSet()
        self._gave_up = False
        """Whether `close` was told to discard what is unwritten."""
        self._table = InodeTable(self, idle_max=lambda: IDLE_INODES_MAX)
        self._lookup = Lookup(self._table, self._freshness)
        process.caches.add(self)
        process.open_caches.add(self)
        if os.environ.get("PAGEIN_TOP", "").lower() not in ("", "0", "false", "no", "off"):
            from . import publishing  # sockets, and a thread, only for who wants them

            publishing.publish_as_asked()

    def __enter__(self) -> PageCache:
        """Raises: ValueError if it is closed."""
        if self._zone.closed:
            raise closed_cache()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed: nothing is opened through it any more, nor read."""
        return self._zone.closed

    def __repr__(self) -> str:
        size = format_size(self.size_bytes)
        if self._zone.closed:
            return f"<pagein.PageCache size={size} closed>"
        files = members(self._files)
        hits = self._table.hits + sum(file.hits for file in files)
        reads = hits + self._zone.counters["misses"]
        dirty_bytes = sum(mapping.dirty_bytes for mapping in members(self._zone.mappings))
        return (
            f"<pagein.PageCache size={size} resident={format_size(self._zone.charged_pages << PAGE_SHIFT)} "
            f"dirty={format_size(dirty_bytes)} hits={format_share(hits, reads) if reads else 'none'} "
            f"files={len(self._table.by_key)} open={sum(not file.closed for file in files)}>"
        )

    def _repr_html_(self) -> str:
        return notebook.cache_html(self)

    # What tests and the asynchronous face know of the table.

    @property
    def _lock(self) -> OwnedLock:
        return self._table.lock

    @property
    def _inodes(self) -> dict[Hashable, Inode]:
        return self._table.by_key

    @property
    def _orphans(self) -> deque[AddressSpace]:
        return self._table.orphans

    # -- opening -----------------------------------------------------------------------------------------

    @overload
    def open(self, source: Any, mode: OpenBinaryMode = "rb", **store_options: Any) -> File: ...
    @overload
    def open(
        self,
        source: Any,
        mode: OpenTextMode,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **store_options: Any,
    ) -> io.TextIOWrapper: ...
    @overload
    def open(
        self,
        source: Any,
        mode: str,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **store_options: Any,
    ) -> File | io.TextIOWrapper: ...
    def open(
        self,
        source: Any,
        mode: str = "rb",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **store_options: Any,
    ) -> File | io.TextIOWrapper:
        """Open *source* through this cache.

        *source*: a path; a ``file:``, ``s3:``, ``gs:``, ``az:`` or ``http(s):`` URL; any other fsspec URL or chain;
        or ``(store, path)``.  *mode*: as the built-in `open` takes it, but "rb" by default; the other arguments are
        for text, as `open`.  *store_options* go to the store.
        The source is looked at anew, unless *revalidate* says otherwise: if it has changed since it was last opened,
        its old pages are not used.  What is open for writing in this cache, or has data that are not written yet, is
        what this cache says it is: whoever opens it shares that.
        Blocks: interruptibly.  Raises: OSError with the errno that fits: EROFS for a store that cannot be written
        to; ValueError, TypeError for what makes no sense.
        """
        parsed, wrap = text_layer(mode, encoding, errors, newline)
        found = stores.source_of(source, **store_options)
        if parsed.writes:
            return self._opened_to_write(
                lambda: wrap(self._open_file(self._look_up_for_writing(found, parsed), parsed)),
                self._table.by_key.get(found.key),  # one step
                found.key,
            )
        return self._zone.io.shielded(
            lambda: self._noted(wrap(self._open_file(self._look_up(found), parsed))), undo=self._close_unwanted
        )

    def _opened_to_write(
        self, run: Callable[[], File | io.TextIOWrapper], inode: Inode | None, key: Hashable
    ) -> File | io.TextIOWrapper:
        """The file that ``run()`` opens.  That may make it empty: it comes in order with other changes of *inode*."""

        def steps(make_waiter: MakeWaiter) -> Steps[File | io.TextIOWrapper]:
            yield from ()
            return self._noted(run())

        # Who has a mapping that nobody can write finds the line of all such files there, which he must not wait in.
        file = None if inode is None or inode.mapping.is_read_only else inode.mapping.unsettled
        change = InOrder(steps, file, opens=self._zone.opens_to_write, key=key)
        return self._zone.io.in_order(change, self._close_unwanted, blocks=True)

    def inode(
        self, ops: AddressSpaceOperations, *, size_bytes: int, key: Hashable = None, name: str | None = None
    ) -> Inode:
        """A file of *size_bytes* whose pages *ops* brings: ``inode.open()`` reads it.

        With a *key*, the inode that this cache already has for it is returned, if its size is the same, or while it
        is being written.  Raises: TypeError, ValueError, OSError(EFBIG).
        """
        if not isinstance(ops, AddressSpaceOperations):
            raise not_operations(ops)
        size_bytes = checked("size_bytes", size_bytes)
        opened = Opened(ops, size_bytes, version=f"size={size_bytes}")
        title = name or (type(ops).__name__ if key is None else str(key))
        follow_up.sweep(self)
        return self._zone.workqueue.shielded(lambda: self._table.made(opened, key, title))

    def _look_up(self, source: Source) -> Inode:
        follow_up.write_late(self, source.key)
        return self._lookup.look_up(source)

    def _look_up_for_writing(self, source: Source, mode: Mode) -> Inode:
        follow_up.write_late(self, source.key)
        return lookup_for_writing.look_up_for_writing(self._table, source, mode)

    def _hold_for_writing(self, inode: Inode, mode: Mode) -> Inode:
        return lookup_for_writing.hold_for_writing(self._table, inode, mode)

    def _file_of(self, inode: Inode, kind: Callable[..., R]) -> R:
        """A reader of *inode*, which was held for it."""
        return self._entered(
            kind(
                OpenFile(inode.mapping),
                name=inode.name,
                version=inode.version,
                owner=CacheOwner(self, inode, wrote=False),
            )
        )

    def _watch(self, inode: Inode) -> Watch | None:
        """How who only reads it looks again; None if he never does."""
        if inode.source is None or not self._freshness.reads_look:
            return None
        return Watch(self._lookup, inode)

    def _open_file(self, inode: Inode, mode: Mode) -> File:
        kind: Callable[..., File] = File if mode.reads else WriteOnlyFile
        if not mode.writes and (watch := self._watch(inode)) is not None:
            kind = partial(WatchingFile, watch=watch)
        return self._entered(
            kind(
                OpenFile(inode.mapping, writable=mode.writes),
                name=inode.name,
                version=inode.version,
                owner=CacheOwner(self, inode, wrote=mode.writes),
                mode=mode,
            )
        )

    def _entered(self, file: R) -> R:
        try:
            with self._table.lock:
                self._table.check_open()
                self._files.add(file)
        except ValueError:  # the cache is being closed, and may have followed up for the last time
            file._release()
            self._table.follow_up()
            raise
        if self._zone.tracer is not None:
            self._zone.tracer.opened(file)
        return file

    def _noted(self, file: File | io.TextIOWrapper) -> File | io.TextIOWrapper:
        if isinstance(file, TextFile):
            with self._table.lock:
                self._texts.add(file)
        return file

    # -- letting go ----------------------------------------------------------------------------------------

    def drop(self, source: Any = None, **store_options: Any) -> int:
        """Drop the pages of *source* (by default, of every file) that nobody uses; return how many.

        Pages that are locked, dirty or shown by a view stay.  Blocks: no.
        """
        key = None if source is None else stores.source_of(source, **store_options).key
        follow_up.sweep(self)
        return self._zone.workqueue.shielded(lambda: self._drop(key))

    def _drop(self, key: Hashable) -> int:
        if key is None:
            mappings = self._zone.all_mappings()
        else:
            with self._lock:
                inode = self._inodes.get(key)
            mappings = [inode.mapping] if inode else []
        return sum(truncate.invalidate_mapping_pages(one, 0, one.frame_count) for one in mappings)

    # -- what is written, and the end ----------------------------------------------------------------------

    def sync(self) -> None:
        """`File.fsync` of every file with data that its store does not have, also of those that are closed; and of each
        local file that was written to through this cache, and closed, before.

        Blocks: interruptibly.  Raises: UnwrittenDataError naming the files that their stores do not have; else OSError:
        the first error of a store that has all of a file, but not durably; ValueError if the cache is closed.
        """
        if self._zone.closed:
            raise closed_cache()
        self._zone.shielded(partial(closing.write_out_all, self, durable=True))
        self._zone.io.shielded(self._table.written.closed_files.fsync)
        follow_up.sweep(self)

    def close(self, *, discard: bool = False) -> None:
        """Write back what is dirty, close the cache and every file in it, and give its memory back.  Twice does no
        harm.

        A view that is still open keeps its pages.  A reader in another thread gets ValueError; a writer, too, unless he
        has begun to change a file: he is waited for.
        *discard* gives up what is not written, instead; but what a store is being given at this moment is waited for:
        it reads our memory, and would store what comes there.
        Blocks: interruptibly, and then it goes on behind.
        Raises: UnwrittenDataError, and then the cache is as it was, and open: the store may heal, or `File.save_as` or
        *discard* settle it.  With debug, ContractViolation if an operation started a read and has not ended it.
        """
        if self._zone.door.is_finalizing():
            return  # of the threads that it would need, none runs any more
        unended = self._zone.shielded(partial(closing.close, self, discard=discard)) if not self._zone.closed else []
        self._zone.workqueue.close()  # also after a close that was interrupted
        process.open_caches.discard(self)
        if not len(process.open_caches):
            stores.close_idle_connections()
        if self._zone.tracer is not None:
            self._zone.tracer.close()
        if unended:
            clause = "a read that was started is ended before the cache is closed"
            raise ContractViolation(clause, "; ".join(unended))
        follow_up.raise_first_failure(self)

    def _close_unwanted(self, file: PageReader | io.TextIOWrapper) -> None:
        """Close what was opened for somebody who was interrupted.  What that raises the next call tells that closes."""
        try:
            below = file.buffer if isinstance(file, io.TextIOWrapper) else file
            if isinstance(below, File) and below.writable():
                below._owner.take_back_open()
            file.close()
        except Exception as error:
            self._table.close_failures.append(error)

    # -- seeing what it does -------------------------------------------------------------------------------

    def trace(self, path: str | os.PathLike[str]) -> Trace:
        """Record what the cache does to *path*, from now on until `Trace.close`: ``with cache.trace("t.json"): ...``

        Reads and writes by thread, with size, offset, and whether they were hits; requests to each store; evictions,
        write-back, and waits.  https://ui.perfetto.dev and chrome://tracing open the file.  What an asyncio file reads
        is seen in its fetches only.
        Raises: OSError if the file cannot be made; ValueError if the cache is closed, or is traced already.
        """
        from .trace import Trace  # no traced classes, and no exit handler, for who never traces

        return self._zone.shielded(lambda: Trace(self, path))

    def stats(self) -> CacheStats:
        """What the cache holds and what it has done so far."""
        follow_up.sweep(self)
        return self._zone.shielded(self._stats)

    def _stats(self) -> CacheStats:
        from .stats import cache_stats  # with dataclasses, whose import takes as long as that of the cache

        with self._lock:
            files = [file for file in self._files if not file.closed]
            hits = self._table.hits + sum(file.hits for file in files)
            inodes = len(self._inodes)
        return cache_stats(self._zone, size_bytes=self.size_bytes, inodes=inodes, open_files=len(files), hits=hits)

    def _start_locks_anew(self) -> None:
        """After a fork, in the child: locks that a thread may have held which stayed in the parent."""
        self._table.start_anew()
        self._lookup.start_anew()
        self._texts = weakref.WeakSet()  # what is in them is the parent's
        for file in self._files:
            file._start_lock_anew()
            if self._zone.closed:  # there was no memory, or no descriptor, for a cache of the child's own
                file._release()
