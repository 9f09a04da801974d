"""The standard library's own readers take a File for a file."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import pickle
import random
import shutil
import struct
import tarfile
import wave
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, cast
from xml.etree import ElementTree

import pytest
from tests.file.sources import binary, file_of, inode_of

from pagein import File, PageCache

FILES = {f"dir/{number}.bin": random.Random(number).randbytes(number * 997) for number in range(40)}
TEXT = "".join(f"{number},value {number},{number * number}\n" for number in range(20_000))
VALUE = {"list": list(range(5000)), "text": TEXT, "bytes": random.Random(9).randbytes(100_000)}


def tar_of_files(mode: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def zip_of_files() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return made.getvalue()


@pytest.fixture(params=["cache", "small_cache"])
def any_cache(request: pytest.FixtureRequest) -> PageCache:
    cache: PageCache = request.getfixturevalue(request.param)
    return cache


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:xz"])
def test_tarfile(mode: str, any_cache: PageCache) -> None:
    file = file_of(any_cache, tar_of_files(mode))
    with file, tarfile.open(fileobj=file, mode=mode.replace("w", "r")) as archive:  # type: ignore[call-overload]
        assert {member.name: archive.extractfile(member).read() for member in archive} == FILES
        for name in random.Random(1).sample(sorted(FILES), 20):  # back and forth
            assert archive.extractfile(name).read() == FILES[name]


def test_tarfile_as_a_stream(any_cache: PageCache) -> None:
    with file_of(any_cache, tar_of_files("w:gz")) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
        assert {member.name: archive.extractfile(member).read() for member in archive} == FILES  # type: ignore[union-attr]


def test_zipfile_from_many_threads(any_cache: PageCache) -> None:
    with file_of(any_cache, zip_of_files()) as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        with ThreadPoolExecutor(8) as pool:
            assert dict(zip(FILES, pool.map(archive.read, FILES), strict=True)) == FILES


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_compressed_files(module: Any, any_cache: PageCache) -> None:
    data = TEXT.encode()
    with file_of(any_cache, module.compress(data)) as file:
        with module.open(file) as decompressed:
            assert decompressed.read() == data
        assert not file.closed  # it belongs to whoever opened it
        file.seek(0)
        with module.open(file, "rt") as decompressed:
            assert decompressed.read() == TEXT


def test_csv_and_json(any_cache: PageCache) -> None:
    with inode_of(any_cache, TEXT.encode())[0].open("r", encoding="ascii", newline="") as text:
        assert list(csv.reader(text)) == [line.split(",") for line in TEXT.splitlines()]
    document = {"text": TEXT, "numbers": list(range(1000))}
    with file_of(any_cache, json.dumps(document).encode()) as file:
        assert json.load(file) == document


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol: int, any_cache: PageCache) -> None:
    with file_of(any_cache, pickle.dumps(VALUE, protocol) * 2) as file:
        assert pickle.load(file) == VALUE
        assert pickle.load(file) == VALUE  # the first read no byte too many


def test_shutil_copyfileobj_and_file_digest(any_cache: PageCache) -> None:
    data = random.Random(2).randbytes(300_000)
    with file_of(any_cache, data) as file:
        copy = io.BytesIO()
        shutil.copyfileobj(file, copy)
        assert copy.getvalue() == data
        file.seek(0)
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()


def test_wave_and_xml(any_cache: PageCache) -> None:
    made = io.BytesIO()
    frames = struct.pack("<20000h", *range(-10_000, 10_000))
    with wave.open(made, "wb") as sound:
        sound.setparams((1, 2, 8000, 20_000, "NONE", ""))
        sound.writeframes(frames)
    with file_of(any_cache, made.getvalue()) as file, wave.open(cast(IO[bytes], file)) as sound:
        assert sound.readframes(20_000) == frames
    with file_of(any_cache, b"<a>" + b"<b>text</b>" * 10_000 + b"</a>") as file:
        assert len(ElementTree.parse(file).getroot()) == 10_000


WRAPPERS: dict[str, Callable[[Any], io.BufferedIOBase]] = {
    "BufferedReader": io.BufferedReader,
    "BufferedReader of 1 byte": lambda file: io.BufferedReader(file, 1),
    "BufferedReader of a MiB": lambda file: io.BufferedReader(file, 1 << 20),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_buffered_readers_over_it(kind: str, any_cache: PageCache) -> None:
    data = TEXT.encode()[:30_000]
    with WRAPPERS[kind](file_of(any_cache, data)) as file:
        assert file.read(1000) == data[:1000]
        file.seek(-1000, 2)
        assert file.read() == data[-1000:]
        file.seek(0)
        assert file.readlines() == data.splitlines(keepends=True)


def test_numpy_reads_arrays_from_it(any_cache: PageCache) -> None:
    numpy = pytest.importorskip("numpy")
    made = io.BytesIO()
    numpy.save(made, numpy.arange(50_000))
    numpy.savez(zipped := io.BytesIO(), first=numpy.arange(1000), second=numpy.ones((10, 10)))
    with file_of(any_cache, made.getvalue()) as file:
        assert (numpy.load(file) == numpy.arange(50_000)).all()
    with file_of(any_cache, zipped.getvalue()) as file, numpy.load(file) as arrays:
        assert (arrays["first"] == numpy.arange(1000)).all()


def test_a_real_file_of_this_machine(any_cache: PageCache) -> None:
    path = Path(json.__file__)
    with binary(any_cache.open(path)) as file, path.open("rb") as reference:
        assert isinstance(file, File)
        assert list(file) == list(reference)
