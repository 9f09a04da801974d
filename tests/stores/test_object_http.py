"""Objects over HTTP: a correct server, every fault of the test server, and versions."""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import NamedTuple

import pytest
from tests.stores.reading import DATA, IMPATIENT, MIB, ONE_TRY, OTHER, fill, opened, raises_errno, source

import pagein
from pagein.stores.object import HEAD_BYTES
from pagein.testing.httpserver import KINDS, RangeServer, RequestRecord

pytestmark = pytest.mark.usefixtures("each_client")

EMPTY = b""


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA, "empty": EMPTY}


def asked(server: RangeServer, method: str = "GET") -> list[RequestRecord]:
    return [record for record in server.stats().log if record.method == method]


# -- a correct server --------------------------------------------------------------------------------


@pytest.mark.usefixtures("first_bytes_only")
def test_an_object_reads_as_its_bytes(server: RangeServer) -> None:
    with pagein.PageCache("16M", debug=True) as cache:
        with cache.open(server.url("a")) as file:
            assert file.pread(1000, 2 * MIB - 500) == DATA[2 * MIB - 500 : 2 * MIB + 500]
            assert file.read() == DATA
        assert server.stats().sent_bytes == len(DATA)
        with cache.open(server.url("empty")) as file:
            assert file.read() == EMPTY


@pytest.mark.usefixtures("first_bytes_only")
def test_open_is_one_get_of_the_first_bytes_and_a_cold_mebibyte_another(server: RangeServer) -> None:
    with pagein.PageCache("16M", debug=True) as cache, cache.open(server.url("a")) as file:
        assert [record.method for record in server.stats().log] == ["GET"]
        file.advise("random")
        assert file.pread(HEAD_BYTES, 0) == DATA[:HEAD_BYTES]
        assert file.pread(MIB, MIB) == DATA[MIB : 2 * MIB]
        ranges = [(record.range_start, record.range_stop) for record in asked(server)]
        assert ranges == [(0, HEAD_BYTES), (MIB, 2 * MIB)]


def test_an_object_no_larger_than_that_is_one_request(server: RangeServer, objects: dict[str, bytes]) -> None:
    objects["small"] = DATA[:1000]
    with pagein.PageCache("16M", debug=True) as cache, cache.open(server.url("small")) as file:
        assert file.read() == DATA[:1000]
        assert server.stats().request_count == 1


@pytest.mark.usefixtures("first_bytes_only")
def test_of_many_that_open_at_once_one_brings_the_first_bytes(server: RangeServer) -> None:
    with pagein.PageCache("16M", debug=True) as cache, ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda _: cache.open(server.url("a")), range(8)))
        assert [file.pread(10, 0) for file in files] == [DATA[:10]] * 8
        assert server.stats().sent_bytes == HEAD_BYTES


def test_first_bytes_take_no_more_of_a_small_cache_than_a_window_would(server: RangeServer) -> None:
    with pagein.PageCache("64K", debug=True) as cache, cache.open(server.url("a")) as file:
        assert file.resident() == [(0, 4)]
        assert file.read() == DATA


def test_what_is_asked_for_whole_is_asked_for_without_a_range(server: RangeServer) -> None:
    with opened(server.url("a")) as version:
        assert fill(version, len(DATA), 0) == DATA
    assert [(record.range_start, record.status) for record in asked(server)] == [(None, 200)]


def test_fetches_from_many_threads_are_each_right(server: RangeServer) -> None:
    pieces = [(offset, 70_001) for offset in range(0, len(DATA) - 70_001, 70_001)]
    with opened(server.url("a")) as version, ThreadPoolExecutor(8) as pool:
        for (offset, size), data in zip(
            pieces, pool.map(lambda piece: fill(version, piece[1], piece[0]), pieces), strict=True
        ):
            assert data == DATA[offset : offset + size]


def test_reopening_asks_only_whether_it_has_changed(server: RangeServer) -> None:
    with pagein.PageCache("16M", debug=True) as cache:
        for _ in range(3):
            with cache.open(server.url("a")) as file:
                assert file.read() == DATA
        assert [record.status for record in server.stats().log].count(304) == 2
        assert server.stats().head_count == 0
        assert server.stats().sent_bytes == len(DATA)


# -- faults ------------------------------------------------------------------------------------------


class Expected(NamedTuple):
    """None: it works all the same."""

    at_open: int | None
    """The errno if every answer has the fault."""
    at_read: int | None
    """The errno if it comes only after a faultless open."""
    words: str = ""


def outcome(read: Callable[[], bytes]) -> bytes | int | None:
    """What was read, or the errno."""
    try:
        return read()
    except OSError as error:
        return error.errno


FAULTS = {
    "die": Expected(errno.EIO, errno.EIO, "error sending request|without an answer"),
    "redirect": Expected(None, None),
    "redirect-loop": Expected(errno.ELOOP, errno.ELOOP, "redirect"),
    "status:400": Expected(errno.EIO, errno.EIO, "400"),
    "status:401": Expected(errno.EACCES, errno.EACCES, "401"),
    "status:403": Expected(errno.EACCES, errno.EACCES, "403"),
    "status:404": Expected(errno.ENOENT, errno.ENOENT),
    "status:410": Expected(errno.ENOENT, errno.ENOENT),
    "status:412": Expected(errno.EIO, errno.ESTALE, ""),
    "status:416": Expected(errno.EIO, errno.ESTALE, ""),
    "status:429": Expected(errno.EIO, errno.EIO, "429"),
    "status:500": Expected(errno.EIO, errno.EIO, "500"),
    "status:503": Expected(errno.EIO, errno.EIO, "503"),
    "no-head": Expected(None, None),
    "no-range": Expected(None, None),
    "no-etag": Expected(None, None),
    "weak-etag": Expected(None, errno.ESTALE, "another version"),
    "no-last-modified": Expected(None, None),
    "ignore-range-lie": Expected(None, errno.EIO, "4096..12288, got 0..8192|bytes 4096-12287, .* bytes 0-8191"),
    "no-length": Expected(errno.EOPNOTSUPP, errno.EOPNOTSUPP, "size"),
    "wrong-length:-1": Expected(None, errno.EIO, "got 8191 of the 8192 bytes at offset 4096"),
    "wrong-length:+1": Expected(None, errno.EIO, ""),
    "truncate": Expected(None, errno.EIO, "broke off before all of bytes 4096-12287"),
    "die-after-headers": Expected(None, errno.EIO, "broke off before all of bytes 4096-12287"),
}


def test_the_table_knows_every_fault() -> None:
    assert {name.partition(":")[0] for name in FAULTS} == set(KINDS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_begins_before_the_open(server: RangeServer, fault: str) -> None:
    server.faults.set("a", fault)
    expected = FAULTS[fault].at_open
    if expected is not None:
        with raises_errno(expected):
            source(server.url("a"), **IMPATIENT).open()
        return
    with opened(server.url("a"), **IMPATIENT) as version:
        assert outcome(lambda: fill(version, 8192, 4096)) in (DATA[4096:12288], FAULTS[fault].at_read)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_begins_after_the_open(server: RangeServer, fault: str) -> None:
    expected = FAULTS[fault]
    with opened(server.url("a"), **IMPATIENT) as version:
        server.faults.set("a", fault)
        if expected.at_read is None:
            assert fill(version, 8192, 4096) == DATA[4096:12288]
        else:
            with raises_errno(expected.at_read, expected.words or None):
                fill(version, 8192, 4096)
        server.faults.clear()
        assert fill(version, 8192, 4096) == DATA[4096:12288]


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_leaves_a_wrong_byte_in_the_cache(server: RangeServer, fault: str) -> None:
    with (
        pagein.PageCache("16M", debug=True) as cache,
        cache.open(server.url("a"), **IMPATIENT) as file,
    ):
        server.faults.set("a", fault)
        for offset in (4096, 0, 2 * MIB):
            read = outcome(partial(file.pread, 8192, offset))
            assert read in (DATA[offset : offset + 8192], FAULTS[fault].at_read)
        server.faults.clear()
        assert file.read() == DATA


@pytest.mark.parametrize("fault", ["die", "status:503", "status:429", "truncate", "die-after-headers"])
def test_a_fault_that_heals_is_not_noticed(server: RangeServer, fault: str) -> None:
    with opened(server.url("a"), **IMPATIENT) as version:
        server.faults.set("a", fault, times=2)
        assert fill(version, MIB, 4096) == DATA[4096 : 4096 + MIB]


def test_a_failing_open_is_not_asked_for_by_another_method_if_it_should_be_asked_later(
    server: RangeServer,
) -> None:
    server.faults.set("a", "status:429")
    with raises_errno(errno.EIO):
        source(server.url("a"), **ONE_TRY).open()
    assert [record.method for record in server.stats().log] == ["HEAD"]


def test_a_url_that_is_signed_for_get_only_is_opened_by_get(server: RangeServer) -> None:
    server.faults.set("a", "status:403", method="HEAD")
    with opened(server.url("a") + "?signature=x") as version:
        assert version.size_bytes == len(DATA)
        assert fill(version, 100, 100) == DATA[100:200]


@pytest.mark.parametrize("fault", ["no-head", "status:403"])
@pytest.mark.parametrize("ranges", [[], ["no-range"]])
def test_an_empty_object_without_head_is_empty(server: RangeServer, fault: str, ranges: list[str]) -> None:
    server.faults.set("empty", fault, *ranges, method="HEAD")
    server.faults.set("empty", *ranges)
    with opened(server.url("empty")) as version:
        assert version.size_bytes == 0


def test_a_server_that_does_not_answer_is_given_up(server: RangeServer) -> None:
    # Several tries, so that a slow machine opens it in one of them.
    options = {**IMPATIENT, "client_options": {"read_timeout": timedelta(milliseconds=100)}}
    with opened(server.url("a"), **options) as version:
        server.hold("a")
        with raises_errno(errno.ETIMEDOUT, "timed out"):
            fill(version, 100, 100)
        with raises_errno(errno.ETIMEDOUT):
            source(server.url("a"), **options).open()
        server.release("a")
    with opened(server.url("a")) as version:
        assert fill(version, 100, 100) == DATA[100:200]


def test_nobody_listens() -> None:
    with RangeServer({}) as gone:
        url = gone.url("a")
    with raises_errno(errno.ECONNREFUSED):
        source(url, **ONE_TRY).open()


# -- versions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults", [[], ["weak-etag"], ["no-etag"], ["weak-etag", "no-last-modified"], ["no-last-modified"]]
)
@pytest.mark.parametrize("size_bytes", [len(DATA), len(DATA) + 7, MIB], ids=["same size", "grown", "shrunk"])
def test_an_object_that_changes_while_it_is_open_gives_estale(
    server: RangeServer, objects: dict[str, bytes], faults: list[str], size_bytes: int
) -> None:
    server.faults.set("a", *faults)
    with pagein.PageCache("16M", debug=True) as cache, cache.open(server.url("a")) as file:
        assert file.pread(4096, 0) == DATA[:4096]
        objects["a"] = (OTHER + OTHER)[:size_bytes]
        for offset in (200_000, 2 * MIB):
            with raises_errno(errno.ESTALE, "open it again"):
                file.pread(10_000, offset)
        assert file.pread(4096, 0) == DATA[:4096]
        with cache.open(server.url("a")) as again:
            assert again.version != file.version
            assert again.read() == objects["a"]


def test_an_object_that_goes_while_it_is_open_is_not_found(server: RangeServer, objects: dict[str, bytes]) -> None:
    with opened(server.url("a")) as version:
        del objects["a"]
        with raises_errno(errno.ENOENT):
            fill(version, 100, 100)


def test_without_any_validator_a_change_of_size_is_seen_and_no_version_recurs(
    server: RangeServer, objects: dict[str, bytes]
) -> None:
    server.faults.set("a", "no-etag", "no-last-modified")
    with opened(server.url("a")) as version, opened(server.url("a")) as other:
        assert version.version != other.version
        assert fill(version, 100, 100) == DATA[100:200]
        objects["a"] = DATA + b"!"
        with raises_errno(errno.ESTALE):
            fill(version, 100, 100)


def test_only_a_strong_etag_is_sent_and_equal_versions_have_equal_names(server: RangeServer) -> None:
    versions = {}
    for fault in (None, "weak-etag", "no-etag"):
        server.faults.clear()
        if fault:
            server.faults.set("a", fault)
        with opened(server.url("a")) as version, opened(server.url("a")) as again:
            assert version.version == again.version
            assert fill(version, 100, 100) == DATA[100:200]  # the server answers 412 to a weak one
            versions[fault] = version.version
    assert versions[None].startswith('etag="')
    assert versions["weak-etag"].startswith('etag=W/"')
    assert versions["no-etag"].startswith("modified=")
    assert len(set(versions.values())) == 3
