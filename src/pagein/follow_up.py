"""What follows from files that were closed, and from what finalizers have left: for one cache.

Guarantees: it is done where no signal can interrupt it, and where nobody waits who holds what it would wait for: by who
calls next, or by a worker.  Who asks for it hears what a store's close has raised; else the next does.
Assumes: a finalizer calls what says that it takes single steps, and nothing else.
Not here: what becomes of inodes (table.py), writing (unwritten.py), the end of the cache (closing.py).
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING

from . import unwritten
from .mm.sync import is_inside
from .table import Released

if TYPE_CHECKING:
    from .cache import PageCache
    from .inode import Inode


def file_closed(cache: PageCache) -> None:
    """A file was closed.  A finalizer may have done it, inside the core: then a worker follows up."""
    if is_inside():
        soon(cache)
    elif not cache._zone.door.is_finalizing():
        sweep(cache)


def soon(cache: PageCache) -> None:
    """Have a worker do what follows; if there is none, the next call does.  For finalizers: single steps."""
    if not cache._zone.closed:
        cache._zone.io.put(partial(_behind, cache))
        try:
            cache._zone.io.kick_if_possible()
        except RuntimeError:  # the interpreter is ending
            pass


def _behind(cache: PageCache) -> None:
    try:
        now(cache)
    except Exception as error:
        cache._table.close_failures.append(error)


def sweep(cache: PageCache) -> None:
    """Do what follows from files that were closed, where no signal can interrupt it.

    Raises: what a store's close has raised, here or since the last time.
    """
    if cache._table.has_work:
        if cache._zone.is_calling_here():  # who has called it may have what this would wait for
            soon(cache)
        else:
            cache._zone.shielded(partial(now, cache))
    raise_first_failure(cache)


def now(cache: PageCache) -> None:
    """Do it here, where no signal can interrupt it."""
    cache._table.behind.begin()  # from before what was left is taken, until those who write it out have begun
    try:
        write_late(cache)
        cache._table.follow_up()
        for inode in cache._table.take_left():
            _write_out_behind(cache, inode)
    finally:
        cache._table.behind.end()


def write_late(cache: PageCache, key: Hashable = None) -> None:
    """Write what finalizers have noted, also what could not be written before of the inode that *key* finds."""
    if cache._zone.closed:
        return
    is_called_by_store = cache._zone.is_calling_here()
    if cache._table.late and is_called_by_store:
        soon(cache)
    while cache._table.late and not is_called_by_store:
        try:
            inode = cache._table.late.popleft()
        except IndexError:  # another was faster
            break
        unwritten.write_late(cache._table, inode, waits=False)
    with cache._table.lock:
        known = None if key is None else cache._table.by_key.get(key)
    if known is not None and not (is_called_by_store and known.mapping.is_interrupted_here()):
        unwritten.write_late(cache._table, known, waits=True)


def has_late(cache: PageCache, key: Hashable) -> bool:
    """Whether `write_late` has anything to do, which may block."""
    with cache._table.lock:
        known = cache._table.by_key.get(key)
    return bool(cache._table.late or (known is not None and known.mapping.late))


def _write_out_behind(cache: PageCache, inode: Inode) -> None:
    """Write out what was left without a close.  What fails stays, and is told as any failure of write-back is: here
    nobody hears of it."""

    def done(_: BaseException | None, error: BaseException | None) -> None:
        cache._table.released.append(Released(inode, None, 0, wrote=False))
        try:
            cache._table.follow_up()
        finally:  # who closes the cache waits for that
            cache._table.behind.end()

    mapping = inode.mapping
    steps = partial(unwritten.write_out_steps, mapping, durable=mapping.ops.commits, behind_writers=True)
    cache._table.behind.begin()
    try:
        cache._zone.workqueue.run_detached(steps, done)
    except (RuntimeError, ValueError):  # no thread is left, or the cache was closed: then sync and close do it
        done(None, None)


def raise_first_failure(cache: PageCache) -> None:
    """Raise what a store's close has raised that nobody has been told yet, if there is any."""
    try:
        failure = cache._table.close_failures.popleft()
    except IndexError:
        return
    raise failure
