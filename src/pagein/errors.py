"""The errors of pagein, each made in one place.

Guarantees: what the world did wrong is an `OSError` whose errno a program can test for, with the source as
its ``filename``; what the caller did wrong is a `ValueError`, a `TypeError` or `io.UnsupportedOperation`, as
from Python's own files, and says what is accepted.  What a store's code did wrong is `ContractViolation`.
Assumes: the caller raises what it is given, ``from`` the error behind it where there is one.
Not here: errors that a store raises itself.  They reach the reader unchanged.
"""

from __future__ import annotations

import errno
import io
import re
import reprlib
from collections.abc import Iterable

from .units import PAGE_SIZE, format_size, page_count_for

# -- the source --------------------------------------------------------------------------------------


def not_found(source: str) -> OSError:
    """ENOENT (`FileNotFoundError`): nothing is there."""
    return OSError(errno.ENOENT, "no such file or object", source)


def is_directory(source: str) -> OSError:
    """EISDIR (`IsADirectoryError`): a directory, or a prefix of objects, has no pages."""
    return OSError(errno.EISDIR, "is a directory, not a file", source)


def permission(source: str, reason: str = "permission denied") -> OSError:
    """EACCES (`PermissionError`): the store refuses, and *reason* is what it said."""
    return OSError(errno.EACCES, reason, source)


def not_regular(source: str, kind: str) -> OSError:
    """ESPIPE: a FIFO, a device or a socket, of which no byte can be asked for by its offset."""
    return OSError(errno.ESPIPE, f"is {kind}, not a file: it has no bytes at an offset", source)


def no_size(source: str) -> OSError:
    """EOPNOTSUPP: where it ends is told only by reading it to its end."""
    return OSError(errno.EOPNOTSUPP, "the store does not tell its size: copy it to a file, and open that", source)


def negative_size(source: str, size_bytes: int) -> OSError:
    """EIO: the store says something that cannot be."""
    return OSError(errno.EIO, f"its store says that it has {size_bytes} bytes", source)


def too_large(size_bytes: int, size_bytes_max: int, source: str | None = None) -> OSError:
    """EFBIG: the file has more pages than an arena can number."""
    text = f"{format_size(size_bytes)} is more than the {format_size(size_bytes_max)} that one file may have"
    return OSError(errno.EFBIG, text, source)


def missing_extra(source: str, *, extra: str) -> OSError:
    """EPROTONOSUPPORT: reading this source takes a package that is not installed."""
    text = f"needs the extra [{extra}]: pip install 'pagein[{extra}]'"
    return OSError(errno.EPROTONOSUPPORT, text, without_secrets(source))


def store_failed(source: str, reason: str, code: int = errno.EIO) -> OSError:
    """EIO, or a *code* that fits better: what a store's own library said."""
    return OSError(code, reason, source)


def after_fork(source: str) -> OSError:
    """EDEADLK: a store's threads did not survive a fork, and a call would wait for them for ever."""
    text = "obstore was used before this process was forked, and would hang: start processes with 'spawn'"
    return OSError(errno.EDEADLK, f"{text} or 'forkserver'", source)


def made_by_parent(kind: str, reason: str) -> OSError:
    """EDEADLK: to go on with what a filesystem of the parent's has open would mix up both processes' reads."""
    text = f"a {kind} that was made before this process was forked cannot be used here, nor made anew: {reason}"
    return OSError(errno.EDEADLK, f"{text}; make one in this process")


def stale(source: str, *, was: str, now: str) -> OSError:
    """ESTALE: the source is no longer the version that was opened; reading on would mix the two."""
    return OSError(errno.ESTALE, f"changed while it was open (was {was}, now {now}); open it again", source)


def conflict(source: str, *, was: str, now: str) -> OSError:
    """ESTALE: its store does not take what was written, since another has changed it.  To open it again gives the same:
    what is not written is what everybody in this cache gets."""
    text = f"changed while it was open for writing (was {was}, now {now})"
    ways_out = "File.save_as() saves what was written elsewhere, File.discard() gives it up"
    return OSError(errno.ESTALE, f"{text}: {ways_out}", source)


# -- a fetch -----------------------------------------------------------------------------------------


def no_ranges(source: str) -> OSError:
    """EOPNOTSUPP: the server sends only whole objects, and this one is too large to fetch whole."""
    text = "the server has no support for byte ranges, and the object does not fit into the cache whole"
    return OSError(errno.EOPNOTSUPP, text, source)


def wrong_range(source: str, *, asked: str, got: str) -> OSError:
    """EIO: the server answered with other bytes than those it was asked for."""
    return OSError(errno.EIO, f"asked the server for {asked}, which answered with {got}", source)


def short_fetch(source: str, *, offset_bytes: int, wanted_bytes: int, got_bytes: int) -> OSError:
    """EIO: the answer broke off; nothing of it was kept."""
    text = f"got {got_bytes} of the {wanted_bytes} bytes at offset {offset_bytes}, then the answer ended"
    return OSError(errno.EIO, text, source)


def cancelled(source: str | None) -> OSError:
    """ECANCELED: the store, or what it uses, has cancelled what the reader waits for."""
    return OSError(errno.ECANCELED, "its store's fetch was cancelled, or something that this awaited", source)


def longer_than_told(source: str, size_bytes: int) -> OSError:
    """EIO: the store says where it ends, and sends bytes from beyond."""
    return OSError(errno.EIO, f"goes on after the {size_bytes} bytes that its store says it has", source)


def not_uptodate(source: str, *, index: int) -> OSError:
    """EIO: a read ended without an error, and without the page."""
    return OSError(errno.EIO, f"page {index} was read, and is still not Uptodate", source)


def timed_out(source: str, *, after_s: float) -> OSError:
    """ETIMEDOUT (`TimeoutError`): the page had not come in time.  Its fetch goes on for other readers."""
    return OSError(errno.ETIMEDOUT, f"nothing came within {after_s:g} s", source)


# -- the cache ---------------------------------------------------------------------------------------


def no_memory(cap_bytes: int, pinned_bytes: int | None = None) -> OSError:
    """ENOMEM: no page can be evicted.  Waiting would be for ever if this very reader held the pins."""
    text = f"all {page_count_for(cap_bytes)} pages of the cache are pinned, locked or dirty"
    if pinned_bytes is not None:
        text += f" ({format_size(pinned_bytes)} of {format_size(cap_bytes)} pinned)"
    return OSError(errno.ENOMEM, f"{text}: end a view, or give PageCache more")


def no_address_space(size_bytes: int) -> OSError:
    """ENOMEM: the system maps no more.  It is no memory that is missing: what is mapped takes none until it is read."""
    text = f"files of a cache take {format_size(size_bytes)} of address space (not of memory), which cannot be had"
    return OSError(errno.ENOMEM, f"{text}: raise the limit (ulimit -v), or limit the memory by a cgroup instead")


def view_too_large(size_bytes: int, cap_bytes: int) -> OSError:
    """ENOMEM: so many pages would have to be there at once, and never are."""
    text = f"{format_size(size_bytes)} of pages in one view do not fit into a cache of {format_size(cap_bytes)}"
    return OSError(errno.ENOMEM, f"{text}: view less at once, or give PageCache more")


def would_block(source: str) -> OSError:
    """EAGAIN (`BlockingIOError`): the page is not here, and the reader does not want to wait."""
    return OSError(errno.EAGAIN, "the page is not in the cache, and the read may not wait for it", source)


def busy(source: str, page_count: int) -> OSError:
    """EBUSY: pages could not be removed because they are pinned by a view, or dirty."""
    text = f"{page_count} pages are pinned by views, or dirty, and stay in the cache"
    return OSError(errno.EBUSY, text, source)


def cannot_grow(source: str, size_bytes: int, size_bytes_max: int) -> OSError:
    """EFBIG: an open file has room in its arena for only so many pages."""
    most, wanted = format_size(size_bytes_max), format_size(size_bytes)
    text = f"while it is open it can grow to {most}, not to {wanted}; opened anew, to 4 times its size if that is more"
    return OSError(errno.EFBIG, text, source)


def cap_too_small(cap_bytes: int, where: str) -> ValueError:
    """The cache would not hold one page."""
    return ValueError(f"{where}: a cache must hold at least one page ({PAGE_SIZE} bytes), not {cap_bytes} bytes")


def given_up(source: str) -> OSError:
    """ECANCELED: discard() has given up some of what was written, and not all: the rest is no whole."""
    text = (
        'some of what was written has been given up: the rest is no whole, until it is discarded, or opened with "wb"'
    )
    return OSError(errno.ECANCELED, text, source)


def closed_cache() -> ValueError:
    """The cache was closed, and with it everything that reads through it."""
    return ValueError("I/O operation on closed PageCache")


def already_traced() -> ValueError:
    """A second trace of a cache."""
    return ValueError("the cache is traced already: close that trace first")


def shutting_down() -> RuntimeError:
    """A page is missing, and the interpreter is ending: no thread runs any more that could bring it."""
    return RuntimeError("cannot read through a PageCache while the interpreter is shutting down")


# -- the caller --------------------------------------------------------------------------------------


def closed_file() -> ValueError:
    """The file was closed; the words are those of Python's own files."""
    return ValueError("I/O operation on closed file")


_SOURCES = (
    "a path; a file:, s3:, gs:, az: or http(s): URL; any other URL or chain that fsspec knows; "
    "or (store, path) with a store of pagein or obstore, or an fsspec filesystem"
)


def not_a_source(value: object) -> TypeError:
    """Nothing that names a file or an object."""
    return TypeError(f"cannot open {reprlib.repr(value)} ({type(value).__name__}): accepted are {_SOURCES}")


def without_secrets(url: str) -> str:
    """A URL, or a chain, as it may be told: without who asks (``key:secret@``), and queries, which may be signed."""
    told = re.sub(r"(?<!abfs:)(?<!abfss:)//[^/?]*@", "//", url)  # there, it is the container
    # A password may hold what ends a host: if what looks like a port is none, the last "@" ends it.
    told = re.sub(r"(?<!abfs:)(?<!abfss:)//(?!\[)[^/?#@]*:(?!\d*(?:[/?#]|\Z))[^?]*@", "//", told)
    return re.sub(r"\?.*?(?=::|\Z)", "?…", told, flags=re.DOTALL)


def not_a_url(url: str, reason: str) -> ValueError:
    """A URL that cannot be read, or one with options that make no sense."""
    return ValueError(f"cannot open {without_secrets(url)!r}: {reason}")


def unknown_scheme(url: str, scheme: str) -> ValueError:
    """A URL of which nobody knows what it is."""
    return not_a_url(url, f"nobody knows the scheme {scheme!r}; accepted are {_SOURCES}")


def not_operations(value: object) -> TypeError:
    """What `PageCache.inode` cannot ask for pages."""
    if isinstance(value, type):
        what = f"the class {value.__name__}: call it"
    else:
        what = f"{reprlib.repr(value)} ({type(value).__name__})"
    return TypeError(f"ops must be an instance of AddressSpaceOperations, not {what}")


def not_a_cache(value: object) -> TypeError:
    """What nothing can be opened through."""
    return TypeError(f"cache must be a pagein.PageCache or None, not {reprlib.repr(value)} ({type(value).__name__})")


def negative(what: str, value: int) -> ValueError:
    """An offset, a size or a count below zero."""
    return ValueError(f"{what} must be at least 0, not {value}")


def beyond_end(index: int, page_count: int) -> ValueError:
    """A page that the file does not have."""
    return ValueError(f"page {index} is beyond the end of a file of {page_count} pages")


def beyond_page(at: int, size_bytes: int, page_bytes: int) -> ValueError:
    """A store brings more than was asked for."""
    return ValueError(f"bytes {at} to {at + size_bytes} do not fit into a page of {page_bytes} bytes")


def bad_mode(mode: str) -> ValueError:
    """Not a mode of `open`."""
    accepted = "one of 'r', 'w', 'a' and 'x', perhaps with '+', and perhaps with one of 'b' and 't'"
    return ValueError(f"invalid mode {mode!r}: accepted is {accepted}")


def only_reads_bytes(mode: str) -> ValueError:
    """A mode of `open` that `pagein.aio.open` does not have."""
    return ValueError(
        f"invalid mode {mode!r}: pagein.aio reads bytes, and accepted is 'rb'; pagein.open has the others"
    )


def entered_already() -> RuntimeError:
    """An ``async with`` over a view that another one has."""
    return RuntimeError("this view has been entered and not left yet: ask file.view() for another")


# -- settings ----------------------------------------------------------------------------------------


def bad_setting(
    where: str, accepted: str, value: object, *, kind: type[ValueError] | type[TypeError] = ValueError
) -> ValueError | TypeError:
    """A value that a setting cannot have; *where* is the argument, the variable, or the key and its file."""
    return kind(f"{where} must be {accepted}, not {reprlib.repr(value)}")


def contradicting_settings(lower: str, upper: str) -> ValueError:
    """Two settings of which one must not be above the other, each with its value and where that comes from."""
    return ValueError(f"{lower} must not be above {upper}")


def unknown_setting(key: str, path: str, known: Iterable[str], *, nearest: str | None) -> ValueError:
    """A key of a file that nobody reads."""
    meant = f" (did you mean {nearest!r}?)" if nearest else ""
    return ValueError(f"unknown key {key!r} in {path}{meant}: known are {', '.join(known)}")


def not_settings(path: str, reason: str) -> ValueError:
    """A file that is no TOML."""
    return ValueError(f"{path} cannot be read as TOML: {reason}")


def unreadable_settings(path: str, error: OSError) -> OSError:
    """The error of the system, and what it was that could not be read."""
    reason = f"cannot read the settings of pagein: {error.strerror or error}"
    return OSError(error.errno or errno.EIO, reason, path)


# -- the contract ------------------------------------------------------------------------------------


class ContractViolation(AssertionError):
    """A store, or pagein itself, broke a *clause* of the contract during an *operation*.

    Raised if `PAGEIN_DEBUG=1` or a test asks for the checks, and where going on could hand out wrong bytes.
    """

    def __init__(self, clause: str, operation: str, stacks: str = "") -> None:
        super().__init__(clause, operation, stacks)  # these are `args`, so that it survives pickling
        self.clause = clause
        self.operation = operation
        self.stacks: str = stacks
        """Of locks: where the one was taken, and where the other was to be."""

    def __str__(self) -> str:
        return f"{self.operation}: {self.clause}{self.stacks}"


def wrong_return(called: str, returned: object, accepted: str) -> TypeError:
    """A store's method returns what it cannot return."""
    return TypeError(f"{called} must {accepted}, not {reprlib.repr(returned)} ({type(returned).__name__})")


# -- writing -----------------------------------------------------------------------------------------


class UnwrittenDataError(OSError):
    """Files have data that could not be written to their store.  They stay in the cache, which stays open.

    The errno is that of the first cause, which is also the ``__cause__``; ``files`` says how many bytes of which file.
    """

    files: dict[str, int]


_NAMES_MAX = 5


def unwritten(files: dict[str, int], cause: BaseException | None) -> UnwrittenDataError:
    """So many bytes of these files are in no store."""
    named = [f"{name} ({format_size(size_bytes)})" for name, size_bytes in list(files.items())[:_NAMES_MAX]]
    more = f" and {len(files) - _NAMES_MAX} more" if len(files) > _NAMES_MAX else ""
    why = ""
    if cause is not None:
        why = f": {getattr(cause, 'strerror', None) or str(cause) or type(cause).__name__}"
    text = f"not written, and kept in the cache: {', '.join(named)}{more}{why}"
    error = UnwrittenDataError(getattr(cause, "errno", None) or errno.EIO, text, next(iter(files), None))
    error.files = dict(files)
    error.__cause__ = cause
    return error


def read_only_source(source: str) -> OSError:
    """EROFS: its store can only be read."""
    return OSError(errno.EROFS, "its store is read-only", source)


def exists(source: str) -> OSError:
    """EEXIST (`FileExistsError`): it was to be made, and is there."""
    return OSError(errno.EEXIST, "file or object exists", source)


def being_written(source: str) -> OSError:
    """EBUSY: it cannot be replaced as a whole, or told its size, while the cache knows more of it than its store."""
    return OSError(errno.EBUSY, "is open for writing, or has data that are not written yet", source)


def same_file(source: str, target: str) -> OSError:
    """EINVAL: one would be overwritten with itself; the words are those of cp(1)."""
    return OSError(errno.EINVAL, f"{source} and {target} are the same file", target)


def no_such_place(source: str) -> OSError:
    """EOPNOTSUPP: a store that takes pages of the cache only."""
    return OSError(errno.EOPNOTSUPP, "its store takes no bytes past the cache", source)


def written_by_parent(source: str) -> OSError:
    """EBADF: a child has nothing of what its parent was writing when it forked."""
    text = "was open for writing when this process was forked, and only the parent has it; open it again"
    return OSError(errno.EBADF, text, source)


def not_readable(what: str) -> io.UnsupportedOperation:
    """The file's mode is for writing only; as from Python's own files."""
    return io.UnsupportedOperation(f"{what}: the file is open for writing only")


def not_writable(what: str) -> io.UnsupportedOperation:
    """The file's mode is for reading only; as from Python's own files."""
    return io.UnsupportedOperation(f"{what}: the file is open for reading only")


def would_wait_for_itself(what: str) -> RuntimeError:
    """A call that would have to wait, of a thread that may have what it would wait for."""
    return RuntimeError(
        f"{what} cannot be waited for here: the thread may have what it would wait for, because the garbage collector"
        " has run this finalizer inside the cache, or because a store does this that is asked for this very file"
    )
