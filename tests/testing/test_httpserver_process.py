"""RangeServerProcess and `python -m pagein.testing.httpserver`: a server in its own process, and its end."""

from __future__ import annotations

import http.client
import os
import select
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme
from tests.testing.httpclient import TIMEOUT_S, ask, connected, random_bytes

from pagein.testing.httpserver import RangeServer, RangeServerProcess
from pagein.testing.httpserver.__main__ import main

DATA = random_bytes(100_000)

needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open (Linux)")

# A parent that starts a server, tells its URL and pid, and waits to be killed; `FORK` leaves a sibling behind
# that keeps the pipe to the server open.
PARENT = """
import os, signal, sys
from pagein.testing.httpserver import RangeServerProcess
server = RangeServerProcess(sys.argv[1])
server.start()
sibling = os.fork() if sys.argv[2] == "FORK" else 0
if sibling == 0 and sys.argv[2] == "FORK":
    signal.pause()
print(server.url("a.bin"), server.pid, sibling, flush=True)
signal.pause()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(DATA)
    return tmp_path


@pytest.fixture
def server(directory: Path) -> Iterator[RangeServerProcess]:
    with RangeServerProcess(directory) as server:
        yield server


def test_it_serves_ranges_from_another_process(server: RangeServerProcess) -> None:
    assert server.pid != os.getpid()
    reply = ask(server, "a.bin", range="bytes=10-19")
    assert (reply.status, reply.body) == (206, DATA[10:20])


def test_statistics_and_reset_cross_the_border(server: RangeServerProcess) -> None:
    before_s = time.monotonic()
    ask(server, "a.bin", range="bytes=-5")
    ask(server, "a.bin", method="HEAD")
    stats = server.stats()
    assert (stats.request_count, stats.get_count, stats.head_count) == (2, 1, 1)
    assert (stats.sent_bytes, stats.max_concurrent) == (5, 1)
    assert stats.by_path["a.bin"].sent_bytes == 5
    assert [record[:4] for record in stats.log] == [("GET", "a.bin", -5, None), ("HEAD", "a.bin", None, None)]
    assert before_s <= stats.log[0].t_start_s <= time.monotonic()  # one clock for both processes
    server.reset()
    assert server.stats().request_count == 0


def test_statistics_do_not_go_through_a_proxy(server: RangeServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert server.stats().request_count == 0


def test_latency_and_bandwidth_are_passed_on(directory: Path) -> None:
    with RangeServerProcess(directory, latency_s=0.02, bandwidth_bytes_s=2_000_000) as server:
        began_s = time.monotonic()
        assert ask(server, "a.bin").body == DATA
        assert time.monotonic() - began_s >= 0.02 + 0.05
        record = server.stats().log[0]
        assert record.t_end_s is not None
        assert record.t_end_s - record.t_start_s >= 0.02 + 0.05


@needs_pidfd
def test_stop_ends_the_process_even_with_a_request_under_way(directory: Path) -> None:
    with RangeServerProcess(directory, bandwidth_bytes_s=1) as server:
        descriptor = os.pidfd_open(server.pid)
        with connected(server) as connection:
            connection.request("GET", "/a.bin")
            with connection.getresponse() as response:  # its headers are here, its body takes a day
                server.stop()
                with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                    response.read()
    assert has_ended(descriptor)
    server.stop()  # again: no harm


@needs_pidfd
@pytest.mark.parametrize("how", ["ALONE", "FORK"])
def test_it_never_outlives_its_parent(directory: Path, how: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(directory), how], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        _, server_pid, sibling_pid = parent.stdout.readline().split()
        descriptor = os.pidfd_open(int(server_pid))
        parent.kill()
        try:
            assert has_ended(descriptor)
        finally:
            if how == "FORK":
                os.kill(int(sibling_pid), signal.SIGKILL)


def has_ended(descriptor: int) -> bool:
    """Wait for the process behind a pidfd, up to TIMEOUT_S, and close it."""
    try:
        return bool(select.select([descriptor], [], [], TIMEOUT_S)[0])
    finally:
        os.close(descriptor)


def test_it_speaks_https(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    authority, path = trustme.CA(), tmp_path_factory.mktemp("tls") / "certificate.pem"
    certificate = authority.issue_cert("127.0.0.1")
    path.write_bytes(certificate.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes())
    with RangeServerProcess(directory, certificate=path) as server:
        assert server.url("a.bin").startswith("https://127.0.0.1:")
        with urlopen(server.url("a.bin"), context=ssl.create_default_context(cafile=path)) as answer:
            assert answer.read() == DATA
        assert server.stats().get_count == 1
        server.reset()
        assert server.stats().get_count == 0


def test_a_certificate_that_is_none_is_refused_at_once(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(OSError, match=r"no\.pem is not a PEM file with a certificate and its key"):
        RangeServerProcess(directory, certificate=tmp_path / "no.pem")
    with pytest.raises(FileNotFoundError):
        RangeServerProcess(directory, certificate=tmp_path / "missing.pem")


def test_ctrl_c_at_the_terminal_does_not_reach_it(server: RangeServerProcess) -> None:
    assert os.getpgid(server.pid) != os.getpgid(0)


def test_bad_arguments_are_refused_before_a_process_starts(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RangeServerProcess(directory / "missing")
    with pytest.raises(NotADirectoryError):
        RangeServerProcess(directory / "a.bin")
    with pytest.raises(ValueError, match="latency_s must be"):
        RangeServerProcess(directory, latency_s=-1)
    server = RangeServerProcess(directory)
    server.stop()
    with pytest.raises(RuntimeError, match="has not been started"):
        server.url("a.bin")
    with pytest.raises(RuntimeError, match="has not been started"):
        server.pid  # noqa: B018 - the property raises


def test_it_starts_only_once(server: RangeServerProcess) -> None:
    with pytest.raises(RuntimeError, match="starts only once"):
        server.start()


def test_a_process_that_cannot_serve_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    server = RangeServerProcess(directory)
    directory.rmdir()
    with pytest.raises(RuntimeError, match="the server ended with status 2 before it listened"):
        server.start()
    assert "no such directory" in capfd.readouterr().err


def test_the_command_prints_its_url_and_serves_until_its_input_ends(directory: Path) -> None:
    command = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "pagein.testing.httpserver", str(directory), "--port", "0"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with command:
        assert command.stdout is not None
        url = command.stdout.readline()
        assert url.startswith("http://127.0.0.1:")
        assert command.communicate("not the end yet\n", TIMEOUT_S) == ("", "")
    assert command.returncode == 0


def test_ctrl_c_ends_the_command_quietly(directory: Path) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "pagein.testing.httpserver", str(directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with command:
        assert command.stdout is not None
        command.stdout.readline()
        command.send_signal(signal.SIGINT)
        assert command.wait(TIMEOUT_S) == 0
        assert command.stderr is not None
        assert command.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/no/such/directory"], "no such directory: /no/such/directory"),
        ([".", "--latency-ms", "-1"], "latency_s must be"),
        ([".", "--bandwidth-bytes-s", "0"], "bandwidth_bytes_s must be"),
        ([".", "--port", "70000"], "port"),
        ([], "DIR"),
    ],
)
def test_the_command_refuses_what_it_cannot_use(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert says in capsys.readouterr().err


def test_the_command_says_that_a_port_is_taken(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RangeServer(directory) as other:
        port = other.base_url.rpartition(":")[2]
        with pytest.raises(SystemExit):
            main([str(directory), "--port", port])
    assert "in use" in capsys.readouterr().err
