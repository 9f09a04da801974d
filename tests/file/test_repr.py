"""What a person sees who writes the name of a cache or of a file in a notebook: what of it is in memory."""

from __future__ import annotations

import os
import threading
from html.parser import HTMLParser

import pytest

import pagein
from pagein.residency import of_cache
from pagein.stores import MemoryStore
from pagein.testing.stores import Gate, ScriptedOps, gated, updated
from pagein.units import PAGE_SIZE, format_share


class Balanced(HTMLParser):
    """Fails on markup that is not closed in order; keeps the words, the bars, and what would be loaded."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.loaded: list[str] = []
        self.filled: list[int] = []
        self.feed(document)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.loaded += [name for name, _ in attrs if name in ("src", "href", "xlink:href")]
        self.loaded += [tag] if tag in ("script", "link", "iframe", "img") else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if dict(attrs).get("fill") != "currentColor":
            self.filled.append(int(dict(attrs)["width"] or 0))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f"{data}\n"


def test_a_cache_tells_its_size_what_is_here_and_how_it_did() -> None:
    store = MemoryStore({"data": os.urandom(64 * PAGE_SIZE)})
    with pagein.PageCache("1 MiB") as cache:
        assert repr(cache) == "<pagein.PageCache size=1 MiB resident=0 B dirty=0 B hits=none files=0 open=0>"
        with cache.open((store, "data"), "r+b") as file:
            file.advise("random")
            file.pread(4 * PAGE_SIZE, 0)
            file.pread(1, 0)
            file.pwrite(b"x", 0)
            expected = "resident=16 KiB dirty=4 KiB hits=50% files=1 open=1>"
            assert repr(cache) == f"<pagein.PageCache size=1 MiB {expected}"
    assert repr(cache) == "<pagein.PageCache size=1 MiB closed>"


def test_a_file_tells_its_size_position_version_and_what_is_here() -> None:
    store = MemoryStore({"data": os.urandom(8 * PAGE_SIZE)})
    with pagein.PageCache("1 MiB") as cache, cache.open((store, "data")) as file:
        file.advise("random")
        file.read(PAGE_SIZE)
        assert repr(file) == (
            f"<pagein.File name='memory:data' size=32768 position=4096 version={file.version!r} resident=12%>"
        )
        file.close()
        assert repr(file) == "<pagein.File name='memory:data' closed>"


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 10, "0%"), (1, 10_000, "1%"), (9_999, 10_000, "99%"), (10, 10, "100%"), (0, 0, "100%"), (1, 3, "33%")],
)
def test_a_share_is_nothing_only_of_nothing_and_all_only_of_all(part: int, whole: int, words: str) -> None:
    assert format_share(part, whole) == words


def test_in_a_notebook_a_cache_is_a_table_of_its_files_that_needs_nothing_from_elsewhere() -> None:
    name = '<script>alert("&")</script>'
    store = MemoryStore({name: os.urandom(120 * PAGE_SIZE), "small": b"x", **{f"{at:02}": b"x" for at in range(30)}})
    with pagein.PageCache("1 MiB") as cache, cache.open((store, name)) as file, cache.open((store, "small")):
        file.advise("random")
        file.pread(30 * PAGE_SIZE, 60 * PAGE_SIZE)
        shown = Balanced(cache._repr_html_())
        assert f"memory:{name}\n480 KiB\n25%\n0 B\n" in shown.words
        assert "memory:small\n1 B\n0%\n0 B\n" in shown.words
        assert (shown.loaded, shown.filled) == ([], [30])
        for at in range(30):
            cache.open((store, f"{at:02}")).close()
        assert "and 12 more" in Balanced(cache._repr_html_()).words
        assert Balanced(file._repr_html_()).words.split("\n")[:3] == ["pagein.File", "name", f"memory:{name}"]
    assert Balanced(cache._repr_html_()).words == "<pagein.PageCache size=1 MiB closed>\n"
    assert "closed" in Balanced(file._repr_html_()).words


def test_what_was_replaced_under_an_open_file_is_a_file_of_its_own() -> None:
    store = MemoryStore({"data": b"old"})
    with pagein.PageCache("1 MiB") as cache, cache.open((store, "data")) as old:
        old.read()
        store.put("data", b"newer")
        with cache.open((store, "data")) as new:
            found = {one.version: one for one in of_cache(cache)}
            assert (found[old.version].resident_bytes, found[new.version].resident_bytes) == (3, 0)
            assert found[new.version].size_bytes == 5


def test_who_looks_waits_for_no_lock_and_for_no_store() -> None:
    """Also who holds the locks himself: a debugger may stop anywhere."""
    gate = Gate()
    ops = ScriptedOps(default=gated(gate, updated))
    with (  # debug mode would not let us take them
        pagein.PageCache("1 MiB", debug=False) as cache,
        cache.inode(ops, size_bytes=PAGE_SIZE, key="k").open() as file,
    ):
        looks: list[str] = []

        def look() -> None:
            looks.extend((repr(cache), repr(file), cache._repr_html_(), file._repr_html_()))

        reader = threading.Thread(target=file.pread, args=(1, 0), daemon=True)
        reader.start()
        gate.wait_for_arrivals()
        with cache._table.lock, cache._zone.lock, file._lock, file._mapping.dirty_lock:
            look()
            other = threading.Thread(target=look, daemon=True)
            other.start()
            other.join(60)
            assert len(looks) == 8
        gate.open()
        reader.join(60)
