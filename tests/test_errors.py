"""pagein.errors: each error has the type, the errno and the words that programs and people act upon."""

from __future__ import annotations

import errno
import io
import pickle

import pytest

from pagein import errors

URL = "https://host/data.bin"


@pytest.mark.parametrize(
    ("error", "kind", "number", "words"),
    [
        (errors.not_found(URL), FileNotFoundError, errno.ENOENT, "no such file"),
        (errors.is_directory(URL), IsADirectoryError, errno.EISDIR, "is a directory"),
        (errors.permission(URL, "token expired"), PermissionError, errno.EACCES, "token expired"),
        (errors.permission(URL), PermissionError, errno.EACCES, "permission denied"),
        (errors.not_regular(URL, "a FIFO"), OSError, errno.ESPIPE, "is a FIFO, not a file"),
        (errors.no_size(URL), OSError, errno.EOPNOTSUPP, "does not tell its size"),
        (errors.store_failed(URL, "it is tired"), OSError, errno.EIO, "it is tired"),
        (errors.store_failed(URL, "late", errno.ETIMEDOUT), TimeoutError, errno.ETIMEDOUT, "late"),
        (errors.after_fork(URL), OSError, errno.EDEADLK, "'spawn'"),
        (errors.too_large(2 << 40, 1 << 40, URL), OSError, errno.EFBIG, "2 TiB is more than the 1 TiB"),
        (
            errors.missing_extra(URL, extra="object"),
            OSError,
            errno.EPROTONOSUPPORT,
            r"pip install 'pagein\[object\]'",
        ),
        (errors.stale(URL, was='"a"', now='"b"'), OSError, errno.ESTALE, 'was "a", now "b"'),
        (errors.no_ranges(URL), OSError, errno.EOPNOTSUPP, "byte ranges"),
        (
            errors.wrong_range(URL, asked="bytes 0-9", got="bytes 5-9"),
            OSError,
            errno.EIO,
            "0-9, .* with bytes 5-9",
        ),
        (
            errors.short_fetch(URL, offset_bytes=4096, wanted_bytes=8192, got_bytes=5),
            OSError,
            errno.EIO,
            "got 5 of the 8192 bytes at offset 4096",
        ),
        (errors.would_block(URL), BlockingIOError, errno.EAGAIN, "may not wait"),
        (errors.busy(URL, 3), OSError, errno.EBUSY, "3 pages are pinned"),
        (errors.cannot_grow(URL, 2 << 40, 1 << 40), OSError, errno.EFBIG, "can grow to 1 TiB, not to 2 TiB"),
        (errors.not_uptodate(URL, index=7), OSError, errno.EIO, "page 7 "),
        (errors.read_only_source(URL), OSError, errno.EROFS, "read-only"),
        (errors.exists(URL), FileExistsError, errno.EEXIST, "exists"),
        (errors.being_written(URL), OSError, errno.EBUSY, "open for writing"),
        (errors.no_such_place(URL), OSError, errno.EOPNOTSUPP, "past the cache"),
        (errors.written_by_parent(URL), OSError, errno.EBADF, "only the parent"),
        (errors.timed_out(URL, after_s=0.25), TimeoutError, errno.ETIMEDOUT, r"within 0\.25 s"),
    ],
    ids=lambda value: errno.errorcode.get(value) if isinstance(value, int) else None,
)
def test_an_error_of_the_source_is_an_oserror_that_names_it(
    error: OSError, kind: type[OSError], number: int, words: str
) -> None:
    assert type(error) is kind
    assert error.errno == number
    assert error.filename == URL
    with pytest.raises(kind, match=words) as caught:
        raise pickle.loads(pickle.dumps(error))
    assert str(caught.value) == str(error)


def test_too_large_without_a_source_names_none() -> None:
    error = errors.too_large(2 << 40, 1 << 40)
    assert error.filename is None
    assert str(error) == f"[Errno {errno.EFBIG}] 2 TiB is more than the 1 TiB that one file may have"


def test_no_memory_without_a_number_of_pins_says_only_how_many_pages_there_are() -> None:
    words = "all 16 pages of the cache are pinned, locked or dirty: end a view"
    assert words in str(errors.no_memory(64 << 10))


def test_no_memory_says_how_many_pages_there_are_and_how_many_bytes_are_pinned() -> None:
    error = errors.no_memory(cap_bytes=64 << 10, pinned_bytes=60 << 10)
    assert error.errno == errno.ENOMEM
    assert "all 16 pages of the cache are pinned, locked or dirty" in str(error)
    assert "60 KiB of 64 KiB pinned" in str(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.cap_too_small(100, "size"), "size: a cache must hold at least one page (4096 bytes), not 100 bytes"),
        (errors.closed_cache(), "closed PageCache"),
        (errors.negative("offset", -3), "offset must be at least 0, not -3"),
        (errors.not_a_url("x://y", "why"), "cannot open 'x://y': why"),
        (errors.unknown_scheme("x://y", "x"), "cannot open 'x://y': nobody knows the scheme 'x'; accepted are a path"),
        (errors.bad_mode("zz"), "invalid mode 'zz': accepted is one of"),
    ],
)
def test_an_error_of_the_caller_is_a_valueerror_that_says_what_is_accepted(error: ValueError, words: str) -> None:
    assert type(error) is ValueError
    assert words in str(error)


def test_what_is_no_source_is_a_typeerror_that_says_what_is_accepted() -> None:
    error = errors.not_a_source(range(10**9))
    assert type(error) is TypeError
    assert "cannot open range(0, 1000000000) (range): accepted are a path" in str(error)


def test_a_closed_file_says_what_files_of_the_standard_library_say() -> None:
    file = io.BytesIO()
    file.close()
    with pytest.raises(ValueError, match="closed file") as caught:
        file.read()
    assert str(errors.closed_file()) == str(caught.value).rstrip(".")


@pytest.mark.parametrize("error", [errors.not_readable("read"), errors.not_writable("write")])
def test_what_a_mode_does_not_allow_is_unsupported_as_in_the_standard_library(error: io.UnsupportedOperation) -> None:
    assert type(error) is io.UnsupportedOperation
    assert "only" in str(error)


def test_unwritten_data_are_named_with_their_bytes_and_the_first_cause() -> None:
    cause = OSError(errno.ENOSPC, "no space left", "b")
    error = errors.unwritten({f"file-{number}": 1024 * number for number in range(7)}, cause)
    assert (error.errno, error.filename, error.__cause__) == (errno.ENOSPC, "file-0", cause)
    assert str(error).startswith("[Errno 28] not written, and kept in the cache: file-0 (0 B), file-1 (1 KiB)")
    assert "file-4 (4 KiB) and 2 more: no space left" in str(error)
    copy: errors.UnwrittenDataError = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.files, str(copy)) == (errors.UnwrittenDataError, error.files, str(error))


def test_unwritten_data_without_an_errno_are_an_input_output_error() -> None:
    assert errors.unwritten({"a": 1}, None).errno == errors.unwritten({"a": 1}, KeyError()).errno == errno.EIO


def test_a_contract_violation_names_the_clause_and_the_operation_even_after_pickling() -> None:
    raised = errors.ContractViolation("a read is ended exactly once", "end_read")
    error: errors.ContractViolation = pickle.loads(pickle.dumps(raised))
    assert type(error) is errors.ContractViolation
    assert isinstance(raised, AssertionError)
    assert (error.clause, error.operation) == ("a read is ended exactly once", "end_read")
    assert str(error) == "end_read: a read is ended exactly once"
