"""A cold object in S3, in order and at random: over the moto server, in a process of its own.

64 MiB in 128 KiB reads, beside one streamed GET by the same client and s3fs with its defaults (blocks of 50 MiB);
200 random 4 KiB reads of the same places, beside ranges without a cache (ten each by turns) and s3fs (after those).
moto takes the whole object in hand for every range, under its interpreter's lock: what each request costs there is
measured too, and it is why few large requests do better than many in flight at once.  (glibc is told to keep the
memory that moto frees; else most of its time were page faults.)  moto does not count what it sends: random_reads does.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
import readers
import s3fs
import timing
from obstore.store import S3Store
from readers import PAGEIN, RANGES, READ_BYTES, STREAMED, Check, Open, Places, Remote, Scan
from report import Headline, Report, Table, at_most, bars, duration, times_spread
from timing import Rounds, Spread, Work
from workload import KIB, MIB, offsets, random_bytes

from pagein import PageCache

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "A cold object in S3 (moto)"
FILE_BYTES = 64 * MIB
BUCKET, KEY = "bucket", "data"
RANDOM_BYTES = 4 * KIB
S3FS = "s3fs"
HEAD, RANGE = "HEAD", "GET of 4 KiB"
TARGET_RATIO, RANDOM_TARGET_RATIO = 1.5, 1.1
TIMEOUT_S = 30.0
KEEP_FREED_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


def measure(*, quick: bool) -> Report:
    data = random_bytes(FILE_BYTES)
    with _moto() as url:
        remote = _object(url, data)
        scans: dict[str, Scan] = {**readers.scans(), S3FS: readers.through_fsspec}
        wrong = {name: readers.tolerated(name, _wrong_reads(remote, scan, data)) for name, scan in scans.items()}
        in_order = timing.by_turns(
            {name: Work(1, partial(scan, remote, len)) for name, scan in scans.items()},
            rounds=3 if quick else 11,
            warm_up=False,
        )
        requests = _requests(remote, rounds=3 if quick else 11)
        request_count = _request_count(remote)
        at_random, wrong_random = _random(remote, data, reads=100 if quick else 200, rounds=1 if quick else 3)
    return _report(in_order, requests, request_count, at_random, {"in_order": wrong, "random": wrong_random})


# -- the server ------------------------------------------------------------------------------------------------------


@contextmanager
def _moto() -> Iterator[str]:
    """Its URL."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("moto_child.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C at the terminal is for us
        env={**os.environ, **KEEP_FREED_MEMORY},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("moto ended before it listened")
        yield url
    finally:
        process.stdin.close()
        try:
            process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _object(url: str, data: bytes) -> Remote:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)
    connection.request("PUT", f"/{BUCKET}")
    assert connection.getresponse().status == 200
    connection.close()
    options: dict[str, Any] = {
        "endpoint": url, "region": "us-east-1", "access_key_id": "anyone", "secret_access_key": "anything",
    }  # fmt: skip
    store = S3Store(BUCKET, client_options={"allow_http": True}, **options)
    obstore.put(store, KEY, data)
    filesystem = s3fs.S3FileSystem(
        key="anyone", secret="anything", endpoint_url=url, client_kwargs={"region_name": "us-east-1"}
    )
    remote = Remote(f"s3://{BUCKET}/{KEY}", options, store, KEY, filesystem, f"{BUCKET}/{KEY}")
    readers.connect(remote)
    return remote


# -- what is timed ---------------------------------------------------------------------------------------------------


def _wrong_reads(remote: Remote, scan: Scan, data: bytes) -> int:
    check = Check(data)
    scan(remote, check)
    return check.wrong_count()


def _requests(remote: Remote, *, rounds: int) -> Rounds:
    """What moto takes for a request, without much to send."""
    calls = {
        HEAD: lambda: obstore.head(remote.store, remote.key),
        RANGE: lambda: obstore.get_range(remote.store, remote.key, start=RANDOM_BYTES, length=RANDOM_BYTES),
    }
    return timing.by_turns({name: Work(1, call) for name, call in calls.items()}, rounds=rounds)


def _request_count(remote: Remote) -> int:
    """Of pagein, to read all in order."""
    with PageCache() as cache:
        readers.in_order(partial(cache.open, remote.url, **remote.options), len)
        return cache.stats().requests


def _random(remote: Remote, data: bytes, *, reads: int, rounds: int) -> tuple[Rounds, dict[str, int]]:
    """Seconds a read."""
    opens: dict[str, Open] = {PAGEIN: readers.pagein_reads, RANGES: readers.ranges}
    offset_list = offsets(reads, size_bytes=RANDOM_BYTES, within_bytes=FILE_BYTES)
    seconds: dict[str, list[float]] = {}
    wrong: dict[str, int] = {}

    def add(opens: dict[str, Open], places: Places) -> None:
        remotes = dict.fromkeys(opens, remote)
        with readers.side_by_side(opens, remotes, places) as passes:
            pass
        for name, one in passes.items():
            seconds.setdefault(name, []).append(one.seconds / len(places.offsets))
            wrong[name] = wrong.get(name, 0) + readers.tolerated(name, one.wrong_count(data, places))

    for _ in range(rounds):
        add(opens, Places(RANDOM_BYTES, offset_list))
        add({S3FS: readers.fsspec_reads}, Places(RANDOM_BYTES, offset_list))
    return seconds, wrong


# -- what is said about it -------------------------------------------------------------------------------------------


def _report(
    in_order: Rounds, requests: Rounds, request_count: int, at_random: Rounds, wrong: dict[str, dict[str, int]]
) -> Report:
    whole_s, range_s = (Spread.of(rounds[name]).median for rounds, name in ((in_order, STREAMED), (requests, RANGE)))
    note = (
        f"A {HEAD} took moto {duration(Spread.of(requests[HEAD]).median)}, a {RANGE} {duration(range_s)}: "
        f"{range_s / whole_s:.0%} of what all {FILE_BYTES // MIB} MiB take at once; pagein's scan made {request_count}."
    )
    title = f"{FILE_BYTES // MIB} MiB in order, {READ_BYTES // KIB} KiB reads"
    report = Report(
        tables=[
            _table(title, "time", in_order, wrong["in_order"], note),
            _table(f"Random {RANDOM_BYTES // KIB} KiB reads", "a read", at_random, wrong["random"]),
        ],
        headlines=[
            _headline("cold 64 MiB over S3 (moto) in order", in_order, STREAMED, TARGET_RATIO),
            _headline("random 4 KiB reads over S3 (moto), a read", at_random, RANGES, RANDOM_TARGET_RATIO),
        ],
    )
    report.data = {
        "in_order_seconds": timing.summary(in_order),
        "request_seconds": timing.summary(requests),
        "random_seconds_a_read": timing.summary(at_random),
        "request_count": request_count,
        "wrong_reads": wrong,
    }
    return report


def _table(title: str, unit: str, rounds: Rounds, wrong: dict[str, int], note: str = "") -> Table:
    rows = []
    for name in rounds:
        spread = Spread.of(rounds[name])
        over = "" if name == PAGEIN else times_spread(timing.ratio(rounds, PAGEIN, name))
        quartiles = f"{duration(spread.low)}–{duration(spread.high)}"
        rows.append([name, duration(spread.median), quartiles, over, str(wrong[name])])
    return Table(title, ["", unit, "quartiles", "pagein's time over it", "wrong reads"], rows, note)


def _headline(what: str, rounds: Rounds, beside: str, limit: float) -> Headline:
    medians = {name: Spread.of(rounds[name]).median for name in rounds}
    over = timing.ratio(rounds, PAGEIN, beside)
    peers = f"{beside} {duration(medians[beside])}; {S3FS} {duration(medians[S3FS])}"
    return Headline(what, duration(medians[PAGEIN]), peers, times_spread(over), *at_most(over, limit))


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 2.5)
    left, right = figure.subplots(1, 2)
    seconds = report.data["in_order_seconds"]
    title = f"{FILE_BYTES // MIB} MiB in order"
    bars(left, list(seconds), [spread[1] for spread in seconds.values()], unit="seconds", title=title)
    seconds = report.data["random_seconds_a_read"]
    title = f"Random {RANDOM_BYTES // KIB} KiB reads"
    bars(right, list(seconds), [spread[1] * 1e3 for spread in seconds.values()], unit="ms a read", title=title)
