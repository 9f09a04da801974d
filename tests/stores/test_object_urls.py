"""Objects over HTTP: URLs as they are written, and what is told of them."""

from __future__ import annotations

import pytest
from tests.stores.reading import DATA, ONE_TRY, fill, opened, source

from pagein.testing.httpserver import RangeServer

pytestmark = pytest.mark.usefixtures("each_client")


@pytest.fixture
def objects() -> dict[str, bytes]:
    return {"a": DATA}


NAMES = [
    "plain/data-1.0_(x)~.tar.gz", "a b", "ü/é", "50%", "100%25", "q?x=1", "f#g", "a//b", "d/", "a/./b", "a+b&c=d",
    "[x]", "a:b@c", "$HOME", "'q'", "semi;colon", "{x}", "a|b", "back\\slash", "*", "a/...",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_url_is_asked_for_as_it_is_written(server: RangeServer, objects: dict[str, bytes], name: str) -> None:
    objects[name] = name.encode()
    url = server.url(name)
    if "/./" in name:  # which is no part of a path: RFC 3986, 5.2.4
        objects[name.replace("/./", "/")] = name.encode()
    with opened(url) as version:
        assert fill(version, version.size_bytes, 0) == name.encode()


def test_the_query_belongs_to_the_object_and_not_to_its_name(server: RangeServer) -> None:
    one, other = source(server.url("a") + "?sig=one"), source(server.url("a") + "?sig=other")
    assert one.key != other.key
    assert one.name == other.name == server.url("a") + "?…"
    with opened(one) as version:
        assert fill(version, 10, 10) == DATA[10:20]


@pytest.mark.parametrize("fault", ["status:403", "status:503", "die", "redirect-loop", "no-length"])
def test_no_message_tells_the_query(server: RangeServer, fault: str) -> None:
    server.faults.set("a", fault)
    with pytest.raises(OSError) as raised:
        source(server.url("a") + "?sig=secret", **ONE_TRY).open()
    assert "secret" not in str(raised.value)


def test_a_fragment_is_no_part_of_an_object(server: RangeServer) -> None:
    assert source(server.url("a") + "#x").key == source(server.url("a")).key


@pytest.mark.parametrize("url", ["http://", "http:///a", "https://host:99999/a", "http://host:x/a", "http://[::1/a"])
def test_what_is_no_url_is_a_valueerror(url: str) -> None:
    with pytest.raises(ValueError, match="cannot open"):
        source(url)


def test_an_ipv6_address_is_no_chain() -> None:
    assert source("http://[::1]:1/a").name == "http://[::1]:1/a"
