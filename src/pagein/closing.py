"""The end of a cache, and what `PageCache.sync` does of it: everything that was written goes to its store, or is named.

Guarantees: a cache with data that a store does not have is not closed, unless it is told to give them up; two who close
it at once do no harm.
Not here: writing itself (unwritten.py), what follows from closed files (follow_up.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import follow_up, unwritten
from .mm import removal
from .mm.lockorder import CLOSE_TURN, TEXTS_TURN
from .mm.sync import outside

if TYPE_CHECKING:
    from .cache import PageCache
    from .inode import Inode


def write_out_all(cache: PageCache, *, durable: bool = False, behind_writers: bool = False) -> None:
    """Write back what is dirty in every file.  *behind_writers*: all of them were closed, and who has begun to change
    one is waited for.

    Raises: UnwrittenDataError, if something could not be written; with *durable*, OSError, if it is not that.
    """
    _flush_texts(cache)
    follow_up.now(cache)
    with cache._table.kept_open() as inodes:
        failures = [unwritten.write_late(cache._table, inode, waits=True) for inode in inodes]
        errors = unwritten.write_out_all(cache._zone, inodes, durable=durable, behind_writers=behind_writers)
        cause = next((error for error in (*failures, *errors) if error is not None), None)
        if cause is not None:
            unwritten.require_written(inodes, cause)
            if durable:
                unwritten.require_durable(inodes, errors)


def _flush_texts(cache: PageCache) -> None:
    if cache._zone.closed:
        return
    # In turn: a text that is being flushed has nothing left to flush, and its file must stay open until it has
    # written what was taken out of it.
    with cache._table.turns.turn(TEXTS_TURN):
        with cache._table.lock:
            texts = list(cache._texts)
        for text in texts:
            try:
                with outside(cache._zone):  # as its user would
                    text.flush()
            except (ValueError, OSError):  # closed, or detached; or its file keeps what it could not write
                pass
            except Exception as error:  # the others all the same
                cache._table.close_failures.append(error)


def close(cache: PageCache, *, discard: bool) -> list[str]:
    """As `PageCache.close`; what of the store's reads was never ended, if debug mode knows.

    Raises: UnwrittenDataError, and then the cache is as it was.
    """
    if not discard and not cache._zone.closed:
        write_out_all(cache)  # first, since afterwards the files are closed
    with cache._table.closing():
        if discard:  # not in turn: another may wait for a store that declines, or fails again and again
            return _close_all(cache, discard=True)
        with cache._table.turns.turn(CLOSE_TURN):
            return _close_all(cache, discard=False)


def _close_all(cache: PageCache, *, discard: bool) -> list[str]:
    if not discard:
        _flush_texts(cache)
    with cache._table.lock:
        files = list(cache._files)
    for file in files:
        file._release()
    cache._table.end_ahead()
    if not cache._zone.closed:
        if discard:
            with cache._zone.giving_up():  # what is left of it nobody waits for
                _discard_all(cache, list(cache._table.written))
        else:
            write_out_all(cache)  # what others have written meanwhile...
            # ...and what they were about to write when their files were closed.  The others' data are in their stores
            # by then, should this one not answer a read that a writer waits for.
            write_out_all(cache, behind_writers=True)
            unwritten.require_written(list(cache._table.written), None)
            cache._table.behind.wait()
    cache._table.forget_all()
    follow_up.now(cache)  # also what the garbage collector has closed
    removal.remove_all_idle(cache._zone)
    unended = cache._zone.checks.unended_reads(cache._zone) if cache._zone.checks else []
    for inode in cache._table.take_lingering():  # a page is in flight: closed when it has come
        # Begun here, because another close may have closed the queue meanwhile: what was begun goes on in it.
        cache._zone.workqueue.begin(inode.mapping.idle_steps, lambda *_, inode=inode: cache._table.close_late(inode))
    cache._zone.close()  # last: from then on, whoever closes once more has nothing to wait for
    cache._table.end()
    return unended


def _discard_all(cache: PageCache, written: list[Inode]) -> None:
    for inode in written:
        try:
            unwritten.discard(cache._table, inode, shown_stays=True)
        except OSError:  # the store does not even let go
            pass
        except ValueError:  # its store was let go of meanwhile, and has it all
            if inode in cache._table.written:
                raise
    cache._gave_up = True
    cache._table.give_up(written)
