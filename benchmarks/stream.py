"""A cold file over HTTP, read in order, 128 KiB at a time: beside one streamed GET, and the caches that read ahead.

64 MiB at 10 ms a request: just read, and by a reader that computes 5 ms a MiB (CPU time of its own, in pure Python);
4 MiB at 50 ms; 256 MiB at 100 ms; 64 MiB at 30 ms from a server that gives each connection 60 MB/s, as S3 does
(Amazon advises one request for each 85 to 90 MB/s); and 64 MiB over https.
Time counts from before open until after the last byte; every round has a new handle, and pagein a new cache of the
default size; connections are warm.  fsspec's caches have the block size that is their default; obstore's reader has a
buffer of 8 MiB (with its own 1 MiB it makes 64 requests, one after the other).
In a round that is not timed every byte is compared, and the server counts.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import readers
import timing
import trustme
from readers import (
    COMPUTE_S_A_MIB,
    PAGEIN,
    PAGEIN_ASIDE,
    READ_BYTES,
    STREAMED,
    STREAMED_BY_OBSTORE,
    Check,
    Remote,
    Scan,
    Take,
)
from report import Headline, Report, Table, at_most, bars, duration, times_spread
from timing import Rounds, Spread, Work
from workload import KIB, MIB, directory, random_bytes

from pagein.testing.httpserver import RangeServerProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "A cold file over HTTP, in order"
FILE_BYTES, LATENCY_S = 64 * MIB, 0.01
SMALL_FILE_BYTES, SMALL_LATENCY_S = 4 * MIB, 0.05
FAR_FILE_BYTES, FAR_LATENCY_S = 256 * MIB, 0.1
SLOW_LATENCY_S, CONNECTION_BYTES_S = 0.03, 60e6
FSSPEC_CACHES = ("readahead", "background", "bytes", "blockcache")
FAR_FSSPEC_CACHES = ("readahead", "background")
IDEAL = "bytes in memory"
TARGET_S, TARGET_RATIO = 0.10, 1.5
COMPUTING_TARGET_S = 0.36
FAR_TARGET_RATIO = 2.5


class Checked(NamedTuple):
    """What came of the round that was not timed."""

    wrong_reads: int
    sent_bytes: int
    request_count: int


class Found(NamedTuple):
    """One table."""

    size_bytes: int
    rounds: Rounds
    checked: dict[str, Checked]


def measure(*, quick: bool) -> Report:
    with directory() as place:
        certificate = _certificate(place)
        with _served(place, FILE_BYTES, LATENCY_S) as (server, remote, data):
            scans = {**readers.scans(*FSSPEC_CACHES), STREAMED_BY_OBSTORE: readers.streamed_by_obstore}
            checked = _check(server, remote, data, scans)
            plain = _by_turns(remote, scans, len, rounds=2 if quick else 7)
            computing = _by_turns(remote, {**scans, IDEAL: _in_memory(data)}, readers.compute, rounds=1 if quick else 4)
        with _served(place, SMALL_FILE_BYTES, SMALL_LATENCY_S) as (server, remote, data):
            scans = readers.scans(*FSSPEC_CACHES)
            small_checked = _check(server, remote, data, scans)
            small = _by_turns(remote, scans, len, rounds=2 if quick else 7)
        with _served(place, FAR_FILE_BYTES, FAR_LATENCY_S) as (server, remote, data):
            scans = readers.scans(*FAR_FSSPEC_CACHES)
            far_checked = _check(server, remote, data, _ours(scans))
            if quick:
                scans = _ours(scans)
            far = _by_turns(remote, scans, len, rounds=1 if quick else 3)
        with _served(place, FILE_BYTES, SLOW_LATENCY_S, CONNECTION_BYTES_S) as (server, remote, data):
            scans = readers.scans(*FAR_FSSPEC_CACHES)
            slow_checked = _check(server, remote, data, _ours(scans))
            slow = _by_turns(remote, scans, len, rounds=1 if quick else 4)
        with _served(place, FILE_BYTES, LATENCY_S, certificate=certificate) as (server, remote, data):
            scans = {**readers.scans(*FAR_FSSPEC_CACHES), STREAMED_BY_OBSTORE: readers.streamed_by_obstore}
            secure_checked = _check(server, remote, data, scans)
            secure = _by_turns(remote, scans, len, rounds=1 if quick else 5)
    return _report(
        plain=Found(FILE_BYTES, plain, checked),
        computing=Found(FILE_BYTES, computing, {}),
        small=Found(SMALL_FILE_BYTES, small, small_checked),
        far=Found(FAR_FILE_BYTES, far, far_checked),
        slow=Found(FILE_BYTES, slow, slow_checked),
        secure=Found(FILE_BYTES, secure, secure_checked),
    )


# -- what is timed ---------------------------------------------------------------------------------------------------


@contextmanager
def _served(
    place: Path,
    size_bytes: int,
    latency_s: float,
    connection_bytes_s: float | None = None,
    *,
    certificate: Path | None = None,
) -> Iterator[tuple[RangeServerProcess, Remote, bytes]]:
    data = random_bytes(size_bytes)
    (place / "data").write_bytes(data)
    with RangeServerProcess(
        place, latency_s=latency_s, bandwidth_bytes_s=connection_bytes_s, certificate=certificate
    ) as server:
        yield server, readers.over_http(server.url("data")), data


def _certificate(place: Path) -> Path:
    """Which this process trusts: said before any client has looked."""
    authority, path = trustme.CA(), place / "certificate.pem"
    path.write_bytes(
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes()
    )
    os.environ["SSL_CERT_FILE"] = str(path)
    return path


def _check(server: RangeServerProcess, remote: Remote, data: bytes, scans: dict[str, Scan]) -> dict[str, Checked]:
    checked = {}
    for name, scan in scans.items():
        check = Check(data)
        server.reset()
        scan(remote, check)
        stats = server.stats()
        checked[name] = Checked(readers.tolerated(name, check.wrong_count()), stats.sent_bytes, stats.request_count)
    return checked


def _ours(scans: dict[str, Scan]) -> dict[str, Scan]:
    """Those that do not take seconds; the others have been compared when they read the smaller file."""
    return {name: scans[name] for name in (PAGEIN, PAGEIN_ASIDE, STREAMED)}


def _by_turns(remote: Remote, scans: dict[str, Scan], take: Take, *, rounds: int) -> Rounds:
    work = {name: Work(1, partial(scan, remote, take)) for name, scan in scans.items()}
    return timing.by_turns(work, rounds=rounds, warm_up=False)


def _in_memory(data: bytes) -> Scan:
    """The same reader over bytes that are here: what the computing alone takes at the moment."""
    return lambda _, take: readers.in_order(lambda: io.BytesIO(data), take)


# -- what is said about it -------------------------------------------------------------------------------------------


def _report(*, plain: Found, computing: Found, small: Found, far: Found, slow: Found, secure: Found) -> Report:
    report = Report(
        tables=[
            _table(_title(FILE_BYTES, LATENCY_S), plain),
            _table(f"The same, the reader computes {COMPUTE_S_A_MIB * 1e3:g} ms a MiB", computing, _COMPUTING_NOTE),
            _table(_title(SMALL_FILE_BYTES, SMALL_LATENCY_S), small),
            _table(_title(FAR_FILE_BYTES, FAR_LATENCY_S), far),
            _table(_title(FILE_BYTES, SLOW_LATENCY_S) + _SLOWLY, slow),
            _table(_title(FILE_BYTES, LATENCY_S) + _SECURELY, secure, _SECURE_NOTE),
        ],
        headlines=[
            _streaming_headline(plain),
            _computing_headline(computing),
            _distant_headline(small, SMALL_LATENCY_S),
            _distant_headline(far, FAR_LATENCY_S, FAR_TARGET_RATIO),
            _distant_headline(slow, SLOW_LATENCY_S, what=_SLOWLY),
            _distant_headline(secure, LATENCY_S, what=_SECURELY),
        ],
    )
    report.data = {
        "seconds": timing.summary(plain.rounds),
        "computing_seconds": timing.summary(computing.rounds),
        "small_seconds": timing.summary(small.rounds),
        "far_seconds": timing.summary(far.rounds),
        "slow_seconds": timing.summary(slow.rounds),
        "secure_seconds": timing.summary(secure.rounds),
        "checked": {name: one._asdict() for name, one in plain.checked.items()},
        "small_checked": {name: one._asdict() for name, one in small.checked.items()},
        "far_checked": {name: one._asdict() for name, one in far.checked.items()},
        "slow_checked": {name: one._asdict() for name, one in slow.checked.items()},
        "secure_checked": {name: one._asdict() for name, one in secure.checked.items()},
    }
    return report


_COMPUTING_NOTE = (
    f"`{IDEAL}`: the same reader without a network, which is what the computing alone took at the moment. Were it "
    f"alone on the machine, it were {COMPUTE_S_A_MIB * FILE_BYTES / MIB * 1e3:g} ms."
)


_SLOWLY = f", {CONNECTION_BYTES_S / 1e6:g} MB/s a connection"

_SECURELY = ", https"
_SECURE_NOTE = "The server is written in Python, and encrypts on one of the two cores."


def _title(size_bytes: int, latency_s: float) -> str:
    return f"{size_bytes // MIB} MiB in order, {READ_BYTES // KIB} KiB reads, {latency_s * 1e3:g} ms a request"


def _table(title: str, found: Found, note: str = "") -> Table:
    columns = ["", "time", "quartiles", "pagein's time over it"]
    if found.checked:
        columns += ["downloaded / file", "requests", "wrong reads"]
    rows = []
    for name in found.rounds:
        spread = Spread.of(found.rounds[name])
        over = "" if name == PAGEIN else times_spread(timing.ratio(found.rounds, PAGEIN, name))
        row = [name, duration(spread.median), f"{duration(spread.low)}–{duration(spread.high)}", over]
        if found.checked:
            row += _checked_cells(found.checked.get(name), found.size_bytes)
        rows.append(row)
    return Table(title, columns, rows, note)


def _checked_cells(checked: Checked | None, size_bytes: int) -> list[str]:
    if checked is None:
        return ["", "", ""]
    return [f"{checked.sent_bytes / size_bytes:.2f}", str(checked.request_count), str(checked.wrong_reads)]


def _median_s(rounds: Rounds, name: str) -> float:
    return Spread.of(rounds[name]).median


def _beside(rounds: Rounds, *names: str) -> str:
    return "; ".join(f"{name} {duration(_median_s(rounds, name))}" for name in names)


def _best_cache(rounds: Rounds) -> str:
    """Of those that are read as a file."""
    return timing.fastest(rounds, [name for name in rounds if name.startswith(("fsspec", "obstore"))])


def _streaming_headline(found: Found) -> Headline:
    rounds, over = found.rounds, timing.ratio(found.rounds, PAGEIN, STREAMED)
    target, met = at_most(over, TARGET_RATIO)
    return Headline(
        f"cold {FILE_BYTES // MIB} MiB over HTTP in order, {LATENCY_S * 1e3:g} ms a request",
        duration(_median_s(rounds, PAGEIN)),
        _beside(rounds, STREAMED, _best_cache(rounds)),
        times_spread(over),
        f"≤ {TARGET_S:.2f} s, {target} the {STREAMED}",
        met and _median_s(rounds, PAGEIN) <= TARGET_S,
    )


def _computing_headline(found: Found) -> Headline:
    rounds, best = found.rounds, _best_cache(found.rounds)
    return Headline(
        f"the same, the reader computes {COMPUTE_S_A_MIB * 1e3:g} ms a MiB",
        duration(_median_s(rounds, PAGEIN)),
        _beside(rounds, best, IDEAL),
        times_spread(timing.ratio(rounds, PAGEIN, best)),
        f"≤ {COMPUTING_TARGET_S:.2f} s",
        _median_s(rounds, PAGEIN) <= COMPUTING_TARGET_S,
    )


def _distant_headline(found: Found, latency_s: float, target_ratio: float | None = None, *, what: str = "") -> Headline:
    rounds, over = found.rounds, timing.ratio(found.rounds, PAGEIN, STREAMED)
    peers = [name for name in rounds if name.startswith(("fsspec", "obstore"))]
    return Headline(
        f"cold {found.size_bytes // MIB} MiB over HTTP in order, {latency_s * 1e3:g} ms a request{what}",
        duration(_median_s(rounds, PAGEIN)),
        _beside(rounds, STREAMED, *([timing.fastest(rounds, peers)] if peers else [])),
        times_spread(over),
        *(("", None) if target_ratio is None else at_most(over, target_ratio)),
    )


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 5)
    panels = figure.subplot_mosaic([["seconds", "computing_seconds"], ["far_seconds", "far_seconds"]])
    for key, title in (
        ("seconds", _title(FILE_BYTES, LATENCY_S)),
        ("computing_seconds", f"The same, the reader computes {COMPUTE_S_A_MIB * 1e3:g} ms a MiB"),
        ("far_seconds", _title(FAR_FILE_BYTES, FAR_LATENCY_S)),
    ):
        seconds: dict[str, Any] = report.data[key]
        names = sorted(seconds, key=lambda name: float(seconds[name][1]))
        bars(panels[key], names, [seconds[name][1] for name in names], unit="seconds", title=title)
