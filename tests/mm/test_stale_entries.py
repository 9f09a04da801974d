"""A page that was dropped and came back has two entries in its queue: it is decided on once."""

from pagein import PageCache
from pagein.stores import MemoryStore
from pagein.units import PAGE_SIZE

DATA = bytes(range(256)) * 16 * 64


def test_a_page_that_was_dropped_and_read_again_is_evicted_once() -> None:
    with PageCache(8 * PAGE_SIZE) as cache, cache.open((MemoryStore({"a": DATA}), "a")) as file:
        file.advise("random")
        for _ in range(50):
            assert file.pread(2 * PAGE_SIZE, 0) == DATA[: 2 * PAGE_SIZE]
            cache.drop()
        for offset in range(0, len(DATA), 4 * PAGE_SIZE):
            assert file.pread(4 * PAGE_SIZE, offset) == DATA[offset : offset + 4 * PAGE_SIZE]
            resident_bytes = cache.stats().resident_bytes
            assert resident_bytes == sum(count for _, count in file.resident()) * PAGE_SIZE
            assert resident_bytes == cache._zone.charged_pages * PAGE_SIZE <= 8 * PAGE_SIZE
