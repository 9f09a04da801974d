"""The door to obstore: shared clients, bounded waits, and what happens after a fork."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta

import pytest
from obstore.store import S3Store
from tests.stores.reading import raises_errno

from pagein.stores import clients, object as object_store, policy, source_of
from pagein.stores.object import ObjectSource

CHILD_TIMEOUT_S = 30.0


def client_of(url: str, **options: object) -> clients.ObjectStore:
    source = object_store.source_of_url(url, options)
    assert isinstance(source, ObjectSource)
    return source._store


def test_objects_of_one_place_share_a_client() -> None:
    assert client_of("http://host/a") is client_of("http://host/d/b")
    assert client_of("http://host/a") is not client_of("http://host:81/a")
    assert client_of("s3://b/x", region="r") is client_of("s3://b/y", region="r")
    assert client_of("s3://b/x", region="r") is not client_of("s3://b/x", region="q")


def test_only_so_many_clients_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "CLIENTS_MAX", 2)
    monkeypatch.setattr(clients, "_clients", clients._Clients())
    first = client_of("http://one/a")
    client_of("http://two/a")
    assert client_of("http://one/a") is first  # and is the one used last
    client_of("http://three/a")
    assert client_of("http://one/a") is first
    assert len(clients._clients._kept) == 2


def test_waits_are_bounded_and_each_bound_can_be_set_alone() -> None:
    store = client_of(
        "http://host/a",
        client_options={"read_timeout": timedelta(seconds=1)},
        retry_config={"max_retries": 7},
    )
    assert isinstance(store, clients.HTTPStore)
    assert store.client_options == {  # as obstore writes them
        "allow_http": "true",
        "connect_timeout": f"{policy.CONNECT_TIMEOUT_S}s",
        "read_timeout": "1s",
        "timeout": f"{policy.REQUEST_TIMEOUT_S // 60}m",
    }
    assert store.retry_config is not None
    assert store.retry_config["max_retries"] == 7
    assert store.retry_config["retry_timeout"] == timedelta(seconds=policy.RETRY_TIMEOUT_S)


class OwnMapping(Mapping[str, str]):
    """No dict, nor what can be joined with one."""

    def __getitem__(self, name: str) -> str:
        return {"aws_endpoint": "http://host:1"}[name]

    def __iter__(self) -> Iterator[str]:
        return iter(["aws_endpoint"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "http://host:1"},
        {"endpoint": "HTTP://host:1"},
        {"config": {"aws_endpoint": "http://host:1"}},
        {"config": OwnMapping()},
    ],
    ids=["option", "in capitals", "config", "mapping"],
)
def test_an_endpoint_without_tls_is_allowed_by_being_named(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_clients", clients._Clients())
    store = client_of("s3://bucket/a", region="r", **options)
    assert isinstance(store, clients.STORES[0])
    assert dict(store.client_options or {})["allow_http"] == "true"


def test_an_endpoint_without_tls_is_allowed_by_being_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://host:1")
    plain = client_of("s3://of-the-environment/a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://host:1")
    with_tls = client_of("s3://of-tls/a")
    assert isinstance(plain, S3Store)
    assert isinstance(with_tls, S3Store)
    assert dict(plain.client_options or {})["allow_http"] == "true"
    assert "allow_http" not in dict(with_tls.client_options or {})


@pytest.mark.parametrize("option", ["bogus", "client_optionz"])
def test_an_option_that_obstore_does_not_know_is_refused_at_once(option: str) -> None:
    with pytest.raises((TypeError, ValueError), match=option):
        source_of("http://host/a", **{option: "x"})
    with pytest.raises((TypeError, ValueError), match=option):
        source_of("s3://bucket/a", **{option: "x"})


def test_a_forked_child_is_refused_and_does_not_hang() -> None:
    """obstore's threads are not in the child: without this it would wait for them for ever."""
    program = """
import os, sys, obstore.store, pagein.stores
store = obstore.store.MemoryStore()
store.put("a", b"data")
source = pagein.stores.source_of((store, "a"))
opened = source.open()
pid = os.fork()
if pid == 0:
    numbers = []
    for use in (source.open, lambda: pagein.stores.read_range(opened.ops, 0, 4)):
        try:
            use()
        except OSError as error:
            numbers.append(error.errno)
    os._exit(numbers[0] if len(set(numbers)) == 1 and len(numbers) == 2 else 255)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    child = subprocess.run([sys.executable, "-c", program], timeout=CHILD_TIMEOUT_S, check=False)
    assert child.returncode == errno.EDEADLK


def test_what_obstore_cannot_name_is_said_to_be_invalid() -> None:
    from obstore.store import MemoryStore

    for path in ("a//b", "a/../b", "./a"):
        with raises_errno(errno.EINVAL, "path"):
            source_of((MemoryStore(), path)).open()
