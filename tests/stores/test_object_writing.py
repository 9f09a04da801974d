"""Objects replaced through obstore: S3 (a moto server, and one whose answers get lost), its local and memory stores."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store
from tests.stores.moto import moto_server
from tests.stores.reading import DATA, IMPATIENT, MIB, ONE_TRY, OTHER, opened, raises_errno
from tests.stores.writing import content, small_disk, store, writing

from pagein.stores import object_writing, policy, source_of
from pagein.stores.source import WritableSource

WAIT_S = 30.0


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def options(moto: str) -> dict[str, Any]:
    return {"endpoint": moto, "region": "us-east-1", "access_key_id": "id", "secret_access_key": "not-told"}


@pytest.fixture
def bucket(options: dict[str, Any]) -> S3Store:
    return S3Store("bucket", client_options={"allow_http": True}, **options)


@pytest.fixture(params=["s3", "s3-unconditional", "local", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "local":
        return LocalStore(tmp_path)
    if request.param == "memory":
        return MemoryStore()
    options = request.getfixturevalue("options")
    if request.param == "s3-unconditional":
        options["conditional_put"] = "disabled"
    made = S3Store("bucket", client_options={"allow_http": True}, **options)
    obstore.delete(made, [meta["path"] for page in obstore.list(made) for meta in page])
    return made


def bytes_of(made: Any, path: str) -> bytes:
    return bytes(obstore.get(made, path).bytes())


# -- every store -------------------------------------------------------------------------------------


def test_an_object_is_replaced_whole_at_fsync_and_its_version_is_ours(any_store: Any) -> None:
    obstore.put(any_store, "d/a", DATA)
    with writing((any_store, "d/a")) as version:
        assert version.size_bytes == len(DATA)
        expected = bytearray(DATA)
        for number, offset_bytes in enumerate((0, MIB, len(DATA))):
            store(version, b"stored", offset_bytes)
            expected[offset_bytes : offset_bytes + 6] = b"stored"
            if not number:
                assert bytes_of(any_store, "d/a") == DATA
            version.ops.fsync()
            assert bytes_of(any_store, "d/a") == expected
            with opened((any_store, "d/a")) as now:
                assert now.version == version.ops.version  # type: ignore[attr-defined]
        version.ops.set_size(10)
        version.ops.fsync()
        assert bytes_of(any_store, "d/a") == expected[:10] == content(version, 10)
        version.ops.set_size(0)
        version.ops.fsync()
        assert bytes_of(any_store, "d/a") == b""


def test_a_new_object_is_there_after_fsync_though_nothing_was_stored(any_store: Any) -> None:
    with writing((any_store, "new"), create=True, exclusive=True) as version:
        with raises_errno(errno.ENOENT):
            source_of((any_store, "new")).open()
        version.ops.fsync()
        assert bytes_of(any_store, "new") == b""
        store(version, b"more", 0)
        version.ops.fsync()
    assert bytes_of(any_store, "new") == b"more"
    with writing((any_store, "new"), truncate=True) as version:
        assert version.size_bytes == 0
        assert bytes_of(any_store, "new") == b"more"
        version.ops.fsync()
    assert bytes_of(any_store, "new") == b""


@pytest.mark.parametrize("change", ["replaced", "deleted", "made"])
def test_what_somebody_else_has_changed_is_estale_and_stays_and_so_do_the_data(any_store: Any, change: str) -> None:
    if change != "made":
        obstore.put(any_store, "a", DATA)
    with writing((any_store, "a"), create=True) as version:
        store(version, b"mine", 0)
        version_before = version.ops.version  # type: ignore[attr-defined]
        if change == "deleted":
            obstore.delete(any_store, "a")
        else:
            obstore.put(any_store, "a", OTHER)
        for _ in range(2):
            with raises_errno(errno.ESTALE, "a"):
                version.ops.fsync()
            assert content(version, 4) == b"mine"
        assert version.ops.version == version_before  # type: ignore[attr-defined]
    if change == "deleted":
        with pytest.raises(FileNotFoundError):
            obstore.head(any_store, "a")
    else:
        assert bytes_of(any_store, "a") == OTHER


def test_what_is_opened_for_writing_has_to_be_there_or_not_as_is_asked(any_store: Any) -> None:
    obstore.put(any_store, "d/a", DATA)
    for path, asked, number in (
        ("x", {}, errno.ENOENT),
        ("d/a", {"create": True, "exclusive": True}, errno.EEXIST),
        ("d", {}, errno.EISDIR),
        ("d/", {"create": True}, errno.EISDIR),
        ("", {"create": True}, errno.EISDIR),
    ):
        with raises_errno(number), writing((any_store, path), **asked):
            pass


# -- S3 ----------------------------------------------------------------------------------------------


def test_a_url_is_written_to_and_what_its_metadata_say_is_kept(bucket: S3Store, options: dict[str, Any]) -> None:
    obstore.put(bucket, "typed", DATA, attributes={"Content-Type": "text/x-mine", "colour": "blue"})
    with writing("s3://bucket/typed", **options) as version:
        store(version, b"new", 0)
        version.ops.fsync()
        store(version, b"newer", 0)
        version.ops.fsync()
    result = obstore.get(bucket, "typed", options={"head": True})
    assert result.attributes["Content-Type"] == "text/x-mine"
    assert result.attributes["colour"] == "blue"
    assert bytes_of(bucket, "typed") == b"newer" + DATA[5:]


def test_who_comes_between_the_look_and_the_put_is_not_overwritten(
    bucket: S3Store, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, existing in (("race", DATA), ("race-new", None)):
        if existing is not None:
            obstore.put(bucket, path, existing)
        put = obstore.put

        def put_after_another(made: Any, path: str, data: Any, put: Any = put, **asked: Any) -> Any:
            put(bucket, path, OTHER)
            return put(made, path, data, **asked)

        with writing(f"s3://bucket/{path}", create=True, **options) as version:
            store(version, b"mine", 0)
            with monkeypatch.context() as patch:
                patch.setattr(obstore, "put", put_after_another)
                with raises_errno(errno.ESTALE):
                    version.ops.fsync()
        assert bytes_of(bucket, path) == OTHER


def test_an_object_larger_than_one_put_is_a_multipart_upload(
    bucket: S3Store, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_writing, "PUT_BYTES_MAX", 6 * MIB)
    monkeypatch.setattr(object_writing, "PART_BYTES_MIN", 5 * MIB)
    data = OTHER * 4
    with writing("s3://bucket/large", create=True, **options) as version:
        store(version, data, 0)
        version.ops.fsync()
        assert bytes_of(bucket, "large") == data
        assert obstore.head(bucket, "large")["e_tag"].endswith('-3"')  # type: ignore[union-attr]
        store(version, b"again", 0)
        version.ops.fsync()
        assert bytes_of(bucket, "large") == b"again" + data[5:]
        obstore.put(bucket, "large", OTHER)
        store(version, b"once more", 0)
        with raises_errno(errno.ESTALE):
            version.ops.fsync()
    assert bytes_of(bucket, "large") == OTHER


def test_a_bucket_that_is_not_there_is_enoent_and_the_data_stay(options: dict[str, Any]) -> None:
    with writing("s3://no-such-bucket/a", create=True, **options) as version:
        store(version, b"mine", 0)
        with raises_errno(errno.ENOENT):
            version.ops.fsync()
        assert content(version, 4) == b"mine"


def no_upload(*, upload_bytes: int) -> Any:
    raise AssertionError(upload_bytes)


def test_the_largest_object_is_that_of_the_store() -> None:
    for made, least in (
        (S3Store("b", region="us-east-1", skip_signature=True), 5 << 40),
        (GCSStore("b", skip_signature=True), 5 << 40),
        (AzureStore("c", account_name="me", skip_signature=True), 4 << 40),
    ):
        target = object_writing.ObjectTarget(made, "a", "a", upload=no_upload)
        assert target.object_bytes_max is not None
        assert least <= target.object_bytes_max < 6 << 40


def test_http_is_read_only() -> None:
    assert not isinstance(source_of("http://127.0.0.1:1/a"), WritableSource)
    assert not isinstance(source_of((obstore.store.HTTPStore.from_url("http://127.0.0.1:1"), "a")), WritableSource)


def test_an_upload_may_take_as_long_as_its_size_asks_for() -> None:
    times = [policy.upload_timeout_s(size_bytes) for size_bytes in (0, 8 * MIB, 100 * MIB, 5000 * MIB)]
    assert times == [32, 128, 1024, 65536]


# -- answers that get lost ---------------------------------------------------------------------------


class Proxy:
    """Passes each request on to a server, and its answer back unless *judge* says what else to do with it.

    *judge* gets the request line and is called when the server has answered: it may raise ConnectionError, and then
    the connection is closed without the answer.
    """

    def __init__(self, url: str) -> None:
        self._server = url.removeprefix("http://").split(":")
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.judge: Callable[[str], None] = lambda line: None
        self.requests: list[str] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(WAIT_S)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reading:
            connection.settimeout(WAIT_S)
            head, length = [reading.readline()], 0
            if not head[0]:
                return
            while (line := reading.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                if name.lower() != b"connection":
                    head.append(line)
            request = head[0].decode().rpartition(" ")[0]
            self.requests.append(request)
            with socket.create_connection((self._server[0], int(self._server[1])), WAIT_S) as server:
                server.sendall(b"".join([*head, b"Connection: close\r\n\r\n"]) + reading.read(length))
                answer = b""
                while part := server.recv(1 << 20):
                    answer += part
            try:
                self.judge(request)
            except ConnectionError:
                return
            answer = answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            connection.sendall(answer)


@contextmanager
def lossy(moto: str, options: dict[str, Any], path: str, **more: Any) -> Iterator[tuple[Proxy, str, dict[str, Any]]]:
    proxy = Proxy(moto)
    try:
        yield proxy, f"s3://bucket/{path}", {**options, "endpoint": proxy.url, **more}
    finally:
        proxy.close()


def losing(count: int, what: str = "PUT") -> Callable[[str], None]:
    left = [count]

    def judge(line: str) -> None:
        if line.startswith(what) and left[0]:
            left[0] -= 1
            raise ConnectionError

    return judge


@pytest.mark.parametrize("existing", [None, DATA])
@pytest.mark.parametrize("patience", [IMPATIENT, ONE_TRY], ids=["obstore-sends-it-again", "obstore-gives-up"])
def test_a_put_whose_answer_was_lost_is_ours_and_no_estale(
    moto: str, options: dict[str, Any], bucket: S3Store, existing: bytes | None, patience: dict[str, Any]
) -> None:
    path = f"lost-{existing is None}-{len(patience['retry_config'])}"
    if existing is not None:
        obstore.put(bucket, path, existing)
    with lossy(moto, options, path, **patience) as (proxy, url, kept), writing(url, create=True, **kept) as version:
        store(version, b"mine", 0)
        proxy.judge = losing(1)
        version.ops.fsync()
        expected = b"mine" + (existing or b"")[4:]
        assert bytes_of(bucket, path) == expected
        version.ops.fsync()
        store(version, b"more", 0)
        version.ops.fsync()
        assert bytes_of(bucket, path) == b"more" + expected[4:]


def test_a_put_that_was_carried_out_unknown_to_us_is_the_base_of_the_next(
    moto: str, options: dict[str, Any], bucket: S3Store
) -> None:
    """Its answer, and every one after it, was lost: fsync had to fail.  What is there all the same is ours."""
    obstore.put(bucket, "unknown", DATA)
    with lossy(moto, options, "unknown", **ONE_TRY) as (proxy, url, kept), writing(url, **kept) as version:
        store(version, b"mine", 0)

        def lose_all_after_put(line: str) -> None:
            if any(request.startswith("PUT") for request in proxy.requests):
                raise ConnectionError

        proxy.judge = lose_all_after_put
        with pytest.raises(OSError, match="unknown"):
            version.ops.fsync()
        assert bytes_of(bucket, "unknown") == b"mine" + DATA[4:]
        proxy.judge = lambda line: None
        store(version, b"more", 0)
        version.ops.fsync()
        assert bytes_of(bucket, "unknown") == b"more" + DATA[4:]


def test_a_put_whose_answer_was_lost_and_that_somebody_has_replaced_is_estale(
    moto: str, options: dict[str, Any], bucket: S3Store
) -> None:
    obstore.put(bucket, "replaced", DATA)
    with lossy(moto, options, "replaced", **ONE_TRY) as (proxy, url, kept), writing(url, **kept) as version:
        store(version, b"mine", 0)

        def lose_and_replace(line: str) -> None:
            if line.startswith("PUT"):
                obstore.put(bucket, "replaced", OTHER)
                raise ConnectionError

        proxy.judge = lose_and_replace
        with raises_errno(errno.ESTALE):
            version.ops.fsync()
    assert bytes_of(bucket, "replaced") == OTHER


# -- what a store refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "number"),
    [
        ("403 Forbidden", errno.EACCES),
        ("401 Unauthorized", errno.EACCES),
        ("413 Content Too Large", errno.EFBIG),
        ("507 Insufficient Storage", errno.ENOSPC),
        ("400 Bad Request", errno.EIO),
        ("500 Internal Server Error", errno.EIO),
        ("409 Conflict", errno.EBUSY),
    ],
)
def test_what_a_server_refuses_has_its_errno_and_the_data_stay(
    moto: str, options: dict[str, Any], status: str, number: int
) -> None:
    with lossy(moto, options, "refused", **ONE_TRY) as (proxy, url, kept), writing(url, create=True, **kept) as version:
        store(version, b"mine", 0)
        with raises_errno(number, "refused"), answering(proxy, status):
            version.ops.fsync()
        assert content(version, 4) == b"mine"
        version.ops.fsync()
        obstore.delete(S3Store("bucket", client_options={"allow_http": True}, **options), "refused")


@contextmanager
def answering(proxy: Proxy, status: str) -> Iterator[None]:
    """Each PUT is answered so, and reaches no server."""
    serve = proxy._serve

    def refuse(connection: socket.socket) -> None:
        line = connection.recv(3, socket.MSG_PEEK)
        if line != b"PUT":
            serve(connection)
            return
        with connection, connection.makefile("rb") as reading:
            length = 0
            while (header := reading.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            reading.read(length)
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    proxy._serve = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        proxy._serve = serve  # type: ignore[method-assign]


def test_a_server_without_conditional_put_gets_a_plain_one(moto: str, options: dict[str, Any], bucket: S3Store) -> None:
    with lossy(moto, options, "plain", **ONE_TRY) as (proxy, url, kept), writing(url, create=True, **kept) as version:
        serve = proxy._serve

        def refuse_conditions(connection: socket.socket) -> None:
            head = connection.recv(4096, socket.MSG_PEEK).lower()
            if b"if-none-match" not in head and b"if-match" not in head:
                serve(connection)
                return
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        proxy._serve = refuse_conditions  # type: ignore[method-assign]
        store(version, b"mine", 0)
        version.ops.fsync()
        assert bytes_of(bucket, "plain") == b"mine"


class Generations(BaseHTTPRequestHandler):
    """One object as GCS has it: the ETag is of its bytes, and each PUT makes another generation."""

    data, generation = DATA, 1

    def do_GET(self) -> None:
        begin = int(asked.removeprefix("bytes=").split("-")[0]) if (asked := self.headers["Range"]) else 0
        self._answer(206 if asked else 200, type(self).data[begin:], begin)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        kind, data = type(self), self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["x-goog-if-generation-match"] not in (None, str(kind.generation)):
            self._answer(412)
            return
        kind.data, kind.generation = data, kind.generation + 1
        self._answer(200)

    def _answer(self, status: int, body: bytes = b"", begin: int = 0) -> None:
        self.send_response(status)
        self.send_header("ETag", f'"{hashlib.md5(type(self).data).hexdigest()}"')
        self.send_header("x-goog-generation", str(type(self).generation))
        self.send_header("Last-Modified", "Sun, 29 Nov 2026 12:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(body) - 1}/{begin + len(body)}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("theirs", [DATA, OTHER], ids=["the_same", "another"])
def test_what_somebody_has_put_there_once_more_is_no_change_though_its_generation_is_another(theirs: bytes) -> None:
    class Object(Generations):
        pass

    with HTTPServer(("127.0.0.1", 0), Object) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        key = {"gcs_base_url": f"http://127.0.0.1:{server.server_port}", "disable_oauth": True}
        key |= {"client_email": "", "private_key": "", "private_key_id": ""}
        made = GCSStore("bucket", service_account_key=json.dumps(key), client_options={"allow_http": True})
        try:
            with writing((made, "a")) as version:
                for mine in b"mine", b"more":
                    store(version, mine, 0)
                    Object.generation += 1  # their PUT, of what is there by then, or of something else
                    if theirs is DATA:
                        version.ops.fsync()
                        assert Object.data == mine + DATA[4:]
                        continue
                    Object.data = theirs
                    with raises_errno(errno.ESTALE):
                        version.ops.fsync()
                    assert Object.data == theirs
        finally:
            server.shutdown()
            serving.join(WAIT_S)


def test_a_full_disk_below_a_local_store_is_enospc_and_the_old_object_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        made = LocalStore(disk)
        obstore.put(made, "a", b"before")
        with writing((made, "a")) as version:
            store(version, OTHER, 0)
            with raises_errno(errno.ENOSPC):
                version.ops.fsync()
            assert content(version, len(OTHER)) == OTHER
            assert bytes_of(made, "a") == b"before"
            version.ops.set_size(100)
            version.ops.fsync()
            assert bytes_of(made, "a") == OTHER[:100]


def test_what_obstores_memory_store_keeps_is_not_our_temporary_file() -> None:
    """It keeps the buffer that it is given."""
    made = MemoryStore()
    with writing((made, "a"), create=True) as version:
        store(version, OTHER, 0)
        version.ops.fsync()
        store(version, b"after", 0)
        version.ops.set_size(5)
    assert bytes_of(made, "a") == OTHER
    maps = Path("/proc/self/maps").read_text()
    assert f"{os.environ.get('TMPDIR', '/tmp')}/#" not in maps
