"""Memory for frames: private to the process where it may be, a file for who writes, and never huge pages."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pagein.mm import memory as memory_module
from pagein.mm.memory import Memory, memories, populate
from pagein.units import PAGE_SIZE

SIZE_PAGES = 4096
EVERYWHERE = [[(0, SIZE_PAGES * PAGE_SIZE)]]


def one(*, is_private: bool) -> Memory:
    (memory,) = memories({"pagein-test": [SIZE_PAGES * PAGE_SIZE]}, is_private=is_private)
    return memory


@pytest.fixture(params=[True, False], ids=["private", "file"])
def memory(request: pytest.FixtureRequest) -> Memory:
    return one(is_private=request.param)


def fill(memory: Memory, page_count: int) -> None:
    memory.maps[0][: page_count * PAGE_SIZE] = b"\xaa" * (page_count * PAGE_SIZE)


# -- which of the two ----------------------------------------------------------------------------------------


def test_private_memory_is_no_file():
    assert one(is_private=True).fd == -1


def test_a_file_shows_what_is_in_the_memory_and_is_no_child_s():
    memory = one(is_private=False)
    memory.maps[0][:5] = b"hello"
    assert os.pread(memory.fd, 5, 0) == b"hello"
    assert not os.get_inheritable(memory.fd)


def test_several_mappings_of_one_file_lie_beside_each_other():
    (memory,) = memories({"pagein-test": [PAGE_SIZE, 3 * PAGE_SIZE, PAGE_SIZE]}, is_private=False)
    for number, mapping in enumerate(memory.maps):
        mapping[:] = bytes([number]) * len(mapping)
    assert os.pread(memory.fd, 5 * PAGE_SIZE, 0) == bytes(PAGE_SIZE) + b"\1" * 3 * PAGE_SIZE + b"\2" * PAGE_SIZE


def test_where_the_system_does_not_promise_so_much_it_is_a_file():
    """A limit of data counts private memory, used or not (as vm.overcommit_memory = 2 does); of a file what is used."""
    program = (
        "import pagein\n"
        "from pagein.stores import MemoryStore\n"
        "with pagein.PageCache('1 MiB') as cache, cache.open((MemoryStore({'a': b'x' * 5000}), 'a')) as file:\n"
        "    assert file.read() == b'x' * 5000\n"
        "    print(file._mapping.arena.memory_fd >= 0)\n"
    )
    for limit, is_file in (("", False), ("resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))\n", True)):
        ran = subprocess.run(
            [sys.executable, "-c", "import resource\n" + limit + program], capture_output=True, text=True, check=False
        )
        assert (ran.stdout.strip(), ran.stderr) == (str(is_file), "")


def test_a_kernel_that_does_not_empty_memory_for_a_child_gets_files(monkeypatch):
    monkeypatch.setattr(memory_module, "_MADV_WIPEONFORK", 1 << 20)  # which is refused
    pages, planes = memories({"pages": [PAGE_SIZE], "planes": [PAGE_SIZE]}, is_private=True)
    assert pages.fd >= 0
    assert planes.fd >= 0


# -- what the system is told -----------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="Linux only")
def test_a_private_mapping_has_no_huge_pages_and_no_child():
    """A machine may give huge pages to everybody (transparent_hugepage/enabled = always): a read of one page would
    take 2 MiB, and to evict it give nothing back."""
    memory = one(is_private=True)
    memory.maps[0][SIZE_PAGES // 2 * PAGE_SIZE] = 1
    assert flags_of(ctypes.addressof(ctypes.c_char.from_buffer(memory.maps[0]))) >= {"nh", "wf", "nr"}
    assert memory.taken_bytes(EVERYWHERE) == PAGE_SIZE


def flags_of(address: int) -> set[str]:
    """What the kernel says of the mapping there: see proc(5), VmFlags."""
    is_it = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if place := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            is_it = int(place[1], 16) <= address < int(place[2], 16)
        elif is_it and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    raise AssertionError("no such mapping")


def test_a_child_finds_private_memory_empty_before_anybody_has_done_anything():
    """Handlers of others run before ours (os.register_at_fork): until then a page that is Uptodate, without its
    content, would be zeros that nobody has written."""
    pages, flags = memories({"pages": [PAGE_SIZE], "planes": [PAGE_SIZE]}, is_private=True)
    pages.maps[0][0] = flags.maps[0][0] = 1
    child = os.fork()
    if not child:
        os._exit(pages.maps[0][0] or flags.maps[0][0])
    assert os.waitpid(child, 0)[1] == 0
    assert pages.maps[0][0] == flags.maps[0][0] == 1


# -- how it comes and goes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1, 511])
@pytest.mark.parametrize("page_count", [1, 2, 512, 1027])
def test_what_is_had_beforehand_is_no_more_than_was_asked_for_and_zeros(memory, first, page_count):
    start, stop = first * PAGE_SIZE, (first + page_count) * PAGE_SIZE
    populate(memory.maps[0], start, stop)
    assert memory.taken_bytes(EVERYWHERE) in (page_count * PAGE_SIZE, 0)  # 0: a system that does not know it
    assert memory.maps[0][start:stop] == bytes(stop - start)


def test_what_was_had_is_given_back_as_any_other(memory):
    populate(memory.maps[0], 0, 512 * PAGE_SIZE)
    fill(memory, 512)
    start, stop = 7 * PAGE_SIZE, 23 * PAGE_SIZE
    memory.punch(memory.maps[0], start, stop - start)
    assert memory.taken_bytes(EVERYWHERE) == (512 - 16) * PAGE_SIZE
    assert memory.maps[0][start:stop] == bytes(stop - start)
    assert memory.maps[0][:start] == b"\xaa" * start


def test_a_range_that_the_system_refuses_is_no_error(memory):
    populate(memory.maps[0], 1, 2)  # on no bound
    assert memory.taken_bytes(EVERYWHERE) == 0


def test_without_the_system_s_help_memory_is_had_as_it_is_written_to(monkeypatch, memory):
    monkeypatch.setattr(memory_module, "_libc", lambda: None)
    populate(memory.maps[0], 0, 512 * PAGE_SIZE)
    monkeypatch.undo()
    assert memory.taken_bytes(EVERYWHERE) == 0


def test_without_the_system_s_help_it_is_not_known_what_private_memory_takes(monkeypatch):
    monkeypatch.setattr(memory_module, "_libc", lambda: None)
    assert one(is_private=True).taken_bytes(EVERYWHERE) is None


def test_only_what_it_is_asked_for_is_counted(memory):
    fill(memory, 10)
    assert memory.taken_bytes([[(2 * PAGE_SIZE, 5 * PAGE_SIZE)]]) == (3 if memory.fd < 0 else 10) * PAGE_SIZE


@pytest.mark.parametrize("size_bytes", [0, 1, PAGE_SIZE, 100 * PAGE_SIZE - 1])
@pytest.mark.parametrize("position", [0, 1, PAGE_SIZE - 1, 3 * PAGE_SIZE])
def test_what_is_written_is_there_and_nothing_beside_it(memory, size_bytes, position):
    memory.write(memoryview(b"\xaa" * size_bytes), position)
    written = memory.maps[0][: position + size_bytes + PAGE_SIZE]
    assert written == bytes(position) + b"\xaa" * size_bytes + bytes(PAGE_SIZE)


@pytest.mark.parametrize("position", [0, PAGE_SIZE, PAGE_SIZE + 5])
def test_writing_takes_no_page_beside_what_is_written(memory, position):
    memory.write(memoryview(b"\xaa" * (100 * PAGE_SIZE)), position)
    assert memory.taken_bytes(EVERYWHERE) == (100 + (position % PAGE_SIZE > 0)) * PAGE_SIZE


def test_pages_are_those_of_the_machine_or_nothing_is_punched():
    """A machine with pages of 16 KiB cannot give back 4."""
    assert memory_module._CAN_PUNCH == (hasattr(mmap, "MADV_REMOVE") and mmap.PAGESIZE == PAGE_SIZE)


def test_a_file_that_cannot_be_mapped_is_not_kept_open():
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as raised:
        memories({"pagein-test": [1 << 47]}, is_private=False)
    assert raised.value.errno == errno.ENOMEM
    del raised
    assert set(os.listdir("/proc/self/fd")) == before
