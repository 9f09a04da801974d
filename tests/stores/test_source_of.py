"""`source_of`: what each form of a source is taken for, and what is said to those that are none."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import fsspec
import numpy
import obstore.store
import pytest
from tests.naming import without_address

from pagein.stores import LocalStore, MemoryStore, source_of
from pagein.stores.fsspec import FsspecSource
from pagein.stores.http import HTTPSource
from pagein.stores.local import LocalSource
from pagein.stores.object import WritableObjectSource

TIMEOUT_S = 30.0


class Elsewhere:
    """A path-like object."""

    def __fspath__(self) -> str:
        return "http://is/a/path"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("/a/b", LocalSource),
        ("a", LocalSource),
        (b"a", LocalSource),
        (Path("a"), LocalSource),
        (Elsewhere(), LocalSource),
        ("file:///a", LocalSource),
        ("FILE:/a", LocalSource),
        ("C:/a", LocalSource),
        ("a:b", LocalSource),
        ("a::b", LocalSource),
        ("s3:x", LocalSource),
        ("./http://x", LocalSource),
        ("http://host/a", HTTPSource),
        ("HTTPS://host/a", HTTPSource),
        ("http://[::1]/a", HTTPSource),
        ("http://host/a::b", HTTPSource),
        ("s3://bucket/a", WritableObjectSource),
        ("s3a://bucket/a", WritableObjectSource),
        ("gs://bucket/a::b", WritableObjectSource),
        ("memory://a", FsspecSource),
        ("ftp://host/a", FsspecSource),
        ("zip://a::b.zip", FsspecSource),
        ("zip::b.zip", FsspecSource),
        ("simplecache::s3://bucket/a", FsspecSource),
        ("zip://a::simplecache::http://host/b", FsspecSource),
        ("file:///a::b", LocalSource),
        ("file::http://host/a", FsspecSource),
        ((obstore.store.MemoryStore(), "a"), WritableObjectSource),
        ((fsspec.filesystem("memory"), "a"), FsspecSource),
        ((fsspec.filesystem("memory"), Path("a")), FsspecSource),
        ((LocalStore("/"), "a"), LocalSource),
    ],
    ids=without_address,
)
def test_what_a_source_is_taken_for(source: Any, kind: type) -> None:
    assert type(source_of(source)) is kind


def test_a_store_of_anybody_is_asked_for_its_source() -> None:
    store = MemoryStore({"a": b"data"})
    assert source_of((store, "a")).open().size_bytes == 4
    assert source_of((store, "a")).key == store.source("a").key


@pytest.mark.parametrize(
    "source",
    [None, 3, 3.5, io.BytesIO(), ["a"], (), ("a",), ("a", "b"), (MemoryStore(), 3), (3, "a")],
    ids=without_address,
)
def test_what_is_no_source_is_a_typeerror_that_says_what_is_accepted(source: Any) -> None:
    with pytest.raises(TypeError, match=r"accepted are a path; a file:, s3:, .* or \(store, path\)"):
        source_of(source)


@pytest.mark.parametrize("url", ["nope://a", "nope+x://a::b"])
def test_a_url_that_nobody_reads_is_a_valueerror_that_says_what_is_accepted(url: str) -> None:
    with pytest.raises(ValueError, match=r"cannot open .* accepted are a path"):
        source_of(url)


@pytest.mark.parametrize(
    "url", ["file://host/a", "file:///a?b", "file:///a#b", "file:", "http:///a", "s3://", "http://a b/c"]
)
def test_a_url_that_is_wrong_is_a_valueerror_that_says_what_is_wrong_and_no_more(url: str) -> None:
    with pytest.raises(ValueError, match="cannot open ") as raised:
        source_of(url)
    assert "accepted" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:sec@ret@host:99999/a",
        "http://user:secret@[::1/a",
        "http://host:99999/a?sig=secret",
        "http://user:se/secret@host/x",
        "http://user:12secret#ret@host/x",
        "http://user:secret@h\u2100st/a",
        "nope://user:sec/secret@host/a",
        "nope://user:secret@host/a",
        "file://user:secret@host/a",
    ],
)
def test_what_is_wrong_with_a_url_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="cannot open ") as raised:
        source_of(url).open()
    assert "secret" not in str(raised.value)
    assert "@" not in str(raised.value)


def test_an_object_is_named_without_the_key_that_its_url_has() -> None:
    """As fsspec's s3: takes it."""
    assert source_of("s3://key:secret@bucket/a@b", region="x").name == "s3://bucket/a@b"


WAIT = "a timedelta or a number of seconds above 0, and 24 days at most"
WAIT_OR_NONE = "a timedelta or a number of seconds, at least 0, and 24 days at most"


@pytest.mark.parametrize("url", ["http://h/a", "s3://b/a"])
@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"client_options": 5}, TypeError, "client_options must be a mapping of options, not 5 (int)"),
        ({"retry_config": 5}, TypeError, "retry_config must be a mapping of options, not 5 (int)"),
        ({"retry_config": {"backoff": 5}}, TypeError, "retry_config['backoff'] must be a mapping"),
        ({"retry_config": {"max_retries": "x"}}, TypeError, "retry_config['max_retries'] must be a number"),
        ({"retry_config": {"max_retries": -1}}, ValueError, "retry_config['max_retries'] must be a number"),
        ({"retry_config": {"retry_timeout": None}}, TypeError, f"retry_config['retry_timeout'] must be {WAIT_OR_NONE}"),
        ({"retry_config": {"retry_timeout": -1}}, ValueError, f"retry_config['retry_timeout'] must be {WAIT_OR_NONE}"),
        ({"retry_config": {"max_retries": True}}, TypeError, "retry_config['max_retries'] must be a number"),
        ({"retry_config": {"max_retries": 1.0}}, TypeError, "retry_config['max_retries'] must be a number"),
        ({"retry_config": {"backoff": {"init_backoff": 0}}}, ValueError, f"['init_backoff'] must be {WAIT}, not 0"),
        ({"client_options": {"timeout": -5}}, ValueError, f"client_options['timeout'] must be {WAIT}, not -5"),
        ({"client_options": {"timeout": 1e15}}, ValueError, f"client_options['timeout'] must be {WAIT}, not 1000"),
        ({"client_options": {"connect_timeout": 1e12}}, ValueError, f"['connect_timeout'] must be {WAIT}, not 1000"),
        ({"client_options": {"connect_timeout": 1e-9}}, ValueError, f"['connect_timeout'] must be {WAIT}, not 1e-09"),
        ({"client_options": {"timeout": 10**400}}, ValueError, f"client_options['timeout'] must be {WAIT}, not 1000"),
        ({"client_options": {"timeout": math.nan}}, ValueError, f"['timeout'] must be {WAIT}, not nan"),
        ({"client_options": {"timeout": True}}, TypeError, f"client_options['timeout'] must be {WAIT}, not True"),
        ({"client_options": {"default_headers": 5}}, TypeError, "client_options['default_headers'] must be a mapping"),
        (
            {"client_options": {"default_headers": {"a": 5}}},
            TypeError,
            "client_options['default_headers']['a'] must be a string, not 5 (int)",
        ),
        ({"client_options": {"foo": 1}}, ValueError, "client_options: Invalid key: foo"),
    ],
)
def test_an_option_that_makes_no_sense_is_named_with_what_is_accepted(
    url: str, options: Any, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=re.escape(said)):
        source_of(url, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"region": 5}, "region must be a string or a bool, not 5 (int)"),
        ({"region": None}, "region must be a string or a bool, not None (NoneType)"),
        ({"config": 5}, "config must be a mapping"),
        ({"config": {"region": 5}}, "config['region'] must be a string or a bool, not 5 (int)"),
    ],
)
def test_so_is_one_of_the_object_store(options: Any, said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        source_of("s3://b/a", **options)


@pytest.mark.parametrize("name", ["headers", "foo"])
def test_an_option_that_http_does_not_have_is_told_with_those_that_it_has(name: str) -> None:
    options: Any = {name: {"a": "b"}}
    with pytest.raises(TypeError, match=f"no option '{name}' .* accepted are client_options .*default_headers.*retry"):
        source_of("http://h/a", **options)


def test_a_wait_may_be_a_number_of_seconds() -> None:
    def key(wait: object) -> object:
        retry = {"retry_timeout": wait, "backoff": {"init_backoff": wait}}
        return source_of("http://h/a", client_options={"timeout": wait}, retry_config=retry).key

    assert key(5) == key(5.0) == key(timedelta(seconds=5)) != key(6)
    assert isinstance(source_of("http://h/a", client_options={"timeout": 0.5}), HTTPSource)
    source_of("s3://b/a", region="r", client_options={"timeout": 5, "connect_timeout": "5s"})


@pytest.mark.parametrize("url", ["http://h/a", "s3://b/a"])
@pytest.mark.parametrize(
    "options",
    [
        {"retry_config": {"retry_timeout": timedelta(0)}},
        {"retry_config": {"retry_timeout": 0}},
        {"retry_config": {"max_retries": numpy.int64(3)}},
        {"client_options": {"timeout": numpy.int64(3), "read_timeout": numpy.float32(3)}},
        {"client_options": {"timeout": timedelta(days=24), "default_headers": None}},
        {"client_options": MappingProxyType({"default_headers": MappingProxyType({"a": "b"})})},
    ],
    ids=without_address,
)
def test_an_option_that_makes_sense_is_taken_however_it_is_written(url: str, options: Any) -> None:
    source = source_of(url, **options)
    assert isinstance(source, HTTPSource) == url.startswith("http:")


@pytest.mark.parametrize("source", ["/a", b"/a", Path("/a"), "file:///a", (MemoryStore(), "a")], ids=without_address)
def test_what_takes_no_options_says_so(source: Any) -> None:
    with pytest.raises(TypeError, match="takes no store options, not a_thing, region"):
        source_of(source, region="x", a_thing=1)


@pytest.mark.parametrize(
    ("url", "path"),
    [("file:///a%20b", "/a b"), ("file:/a", "/a"), ("file://localhost/%C3%BC", "/ü"), ("file:///a%3Fb", "/a?b")],
)
def test_a_file_url_names_the_file_of_its_decoded_path(url: str, path: str) -> None:
    assert source_of(url).key == source_of(path).key
    assert source_of(url).name == url


def test_a_path_with_a_nul_is_refused_in_pythons_words() -> None:
    with pytest.raises(ValueError, match="null byte"):
        source_of("a\0b")


WITHOUT_EXTRAS = """
import errno, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("obstore", "fsspec"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from pagein.stores import MemoryStore, source_of
for url, extra in (("s3://b/a", "object"), ("ftp://h/a", "fsspec"), ("zip://a::b", "fsspec")):
    try:
        source_of(url)
    except OSError as error:
        assert error.errno == errno.EPROTONOSUPPORT, error
        assert f"pip install 'pagein[{extra}]'" in str(error), error
        assert error.filename == url
    else:
        raise AssertionError(url)
try:
    source_of("http://h/a", client_options={"http2_only": True})
except OSError as error:
    assert error.errno == errno.EPROTONOSUPPORT, error
else:
    raise AssertionError("an option that only obstore knows")
assert source_of("a::b").name == "a::b"
assert source_of("http://h/a").name == "http://h/a"
assert source_of((MemoryStore({"a": b"x"}), "a")).open().size_bytes == 1
"""

NOTHING_IMPORTED = """
import sys, pagein.stores
pagein.stores.source_of("/a")
pagein.stores.source_of((pagein.stores.MemoryStore(), "a"))
assert not {"obstore", "fsspec", "aiohttp", "http.client"} & sys.modules.keys()
pagein.stores.source_of("http://host/a")
assert not {"obstore", "fsspec", "aiohttp"} & sys.modules.keys()
"""


@pytest.mark.parametrize("program", [WITHOUT_EXTRAS, NOTHING_IMPORTED], ids=["without extras", "nothing imported"])
def test_in_a_process_of_its_own(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], timeout=TIMEOUT_S, check=True)
