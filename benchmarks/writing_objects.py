"""Objects that are replaced as a whole, in S3: over the moto server, in a process of its own.

A new object of 64 MiB, in 1 MiB writes, until it is there: beside one PUT of bytes in memory by the same client, which
is the least it can take, s3fs, and rclone's mount.  And 64 overwrites of 4 KiB at random places of an object of 64 MiB,
until the new object is there: pagein fetches what was not overwritten, and uploads it once; rclone's VFS cache works in
the same way; with s3fs and with obstore alone the user fetches, changes and uploads it himself.
moto keeps the whole under its interpreter's lock; what it takes for it is in all of these.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import obstore
import s3
import timing
import writers
from readers import Remote
from report import Headline, Report, Table, bars, duration, times_spread
from timing import Rounds, Spread, Work
from workload import MIB, directory, random_bytes
from writers import RCLONE, Write

from pagein import PageCache

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Writing objects, in S3 (moto)"
OBJECT_BYTES = 64 * MIB
OVERWRITES = 64
PAGEIN, PUT, S3FS = "pagein", "one PUT", "s3fs"
FETCH_PUT = "GET and PUT of all"
POLL_S = 0.01
THERE_TIMEOUT_S = 60.0


class Place(NamedTuple):
    """A bucket, and where rclone shows it, if it does."""

    remote: Remote
    mount: writers.Mount | None


def measure(*, quick: bool) -> Report:
    data = random_bytes(OBJECT_BYTES)
    rounds = 3 if quick else 7
    with ExitStack() as stack:
        url = stack.enter_context(s3._moto())
        remote = s3._object(url, data)
        mount = None
        if writers.rclone_version() is not None:
            scratch = stack.enter_context(directory())
            mount = stack.enter_context(writers.rclone_mount(_rclone_remote(url), scratch))
        place = Place(remote, mount)
        new = _new(place, data, rounds=rounds)
        changed = _changed(place, data, rounds=rounds)
    report = Report(
        tables=[
            _table("A new object of 64 MiB, until it is there", new),
            _table(f"{OVERWRITES} random 4 KiB overwrites of an object of 64 MiB, until they are there", changed),
        ],
        headlines=[
            _headline("a new object of 64 MiB in S3 (moto), until it is there", new),
            _headline(f"{OVERWRITES} random 4 KiB overwrites of 64 MiB in S3 (moto), until they are there", changed),
        ],
    )
    report.data = {"new_seconds": timing.summary(new), "changed_seconds": timing.summary(changed)}
    return report


def _rclone_remote(url: str) -> str:
    options = f"provider=Other,access_key_id=anyone,secret_access_key=anything,region=us-east-1,endpoint='{url}'"
    return f":s3,{options}:{s3.BUCKET}"


# -- a new object -----------------------------------------------------------------------------------------------------


def _new(place: Place, data: bytes, *, rounds: int) -> Rounds:
    pieces = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    runs: dict[str, Callable[[str], None]] = {
        PAGEIN: partial(_new_by_pagein, place.remote, pieces),
        PUT: lambda key: _put(place.remote, key, data),
        S3FS: lambda key: _write_all(lambda: place.remote.filesystem.open(f"{s3.BUCKET}/{key}", "wb"), pieces),
    }
    if place.mount is not None:
        runs[RCLONE] = partial(_new_by_rclone, place, pieces)
    numbers = count()

    def run(name: str) -> float:
        key = f"new-{next(numbers)}"
        start = perf_counter()
        runs[name](key)
        spent_s = perf_counter() - start
        assert _object(place.remote, key) == data, name
        obstore.delete(place.remote.store, key)
        return spent_s

    return timing.by_turns({name: Work(1, partial(run, name)) for name in runs}, rounds=rounds)


def _new_by_pagein(remote: Remote, pieces: list[bytes], key: str) -> None:
    with PageCache(512 * MIB) as cache:
        _write_all(lambda: cache.open(f"s3://{s3.BUCKET}/{key}", "wb", **remote.options), pieces)


def _write_all(how: Callable[[], Any], pieces: list[bytes]) -> None:
    with how() as file:
        for piece in pieces:
            file.write(piece)


def _new_by_rclone(place: Place, pieces: list[bytes], key: str) -> None:
    assert place.mount is not None
    before = place.mount.upload_count(key)
    with open(place.mount.path / key, "wb", buffering=0) as file:
        for piece in pieces:
            file.write(piece)
    _wait_for_upload(place.mount, key, before)


def _put(remote: Remote, key: str, data: bytes | bytearray) -> None:
    obstore.put(remote.store, key, bytes(data), use_multipart=False)


# -- a part of an object ----------------------------------------------------------------------------------------------


def _changed(place: Place, data: bytes, *, rounds: int) -> Rounds:
    remote = place.remote
    runs: dict[str, Callable[[str, list[Write]], None]] = {
        PAGEIN: partial(_change_by_pagein, remote),
        FETCH_PUT: partial(_change_by_hand, remote),
        S3FS: partial(_change_by_s3fs, remote),
    }
    if place.mount is not None:
        runs[RCLONE] = partial(_change_by_rclone, place)
    keys = {name: f"changed-{number}" for number, name in enumerate(runs)}
    expected = {name: bytearray(data) for name in runs}
    turn = dict.fromkeys(runs, 0)
    for key in keys.values():
        _put(remote, key, data)

    def run(name: str) -> float:
        turn[name] += 1
        writes = writers.random_writes(OVERWRITES, within_bytes=OBJECT_BYTES, seed=turn[name])
        writers.apply(writes, expected[name])
        start = perf_counter()
        runs[name](keys[name], writes)
        spent_s = perf_counter() - start
        assert _object(remote, keys[name]) == expected[name], name
        return spent_s

    return timing.by_turns({name: Work(1, partial(run, name)) for name in runs}, rounds=rounds)


def _change_by_pagein(remote: Remote, key: str, writes: list[Write]) -> None:
    with PageCache(512 * MIB) as cache, cache.open(f"s3://{s3.BUCKET}/{key}", "r+b", **remote.options) as file:
        for offset, block in writes:
            file.pwrite(block, offset)


def _change_by_hand(remote: Remote, key: str, writes: list[Write]) -> None:
    data = bytearray(_object(remote, key))
    writers.apply(writes, data)
    _put(remote, key, data)


def _change_by_s3fs(remote: Remote, key: str, writes: list[Write]) -> None:
    data = bytearray(remote.filesystem.cat_file(f"{s3.BUCKET}/{key}"))
    writers.apply(writes, data)
    remote.filesystem.pipe_file(f"{s3.BUCKET}/{key}", bytes(data))


def _change_by_rclone(place: Place, key: str, writes: list[Write]) -> None:
    assert place.mount is not None
    before = place.mount.upload_count(key)
    fd = os.open(place.mount.path / key, os.O_RDWR)
    try:
        for offset, block in writes:
            os.pwrite(fd, block, offset)
    finally:
        os.close(fd)
    _wait_for_upload(place.mount, key, before)


# -- what is there ----------------------------------------------------------------------------------------------------


def _object(remote: Remote, key: str) -> bytes:
    return bytes(obstore.get(remote.store, key).bytes())


def _wait_for_upload(mount: writers.Mount, key: str, before: int) -> None:
    give_up_at_s = perf_counter() + THERE_TIMEOUT_S
    while mount.upload_count(key) == before:
        if perf_counter() > give_up_at_s:
            raise RuntimeError(f"rclone has not uploaded {key}: {mount.log.read_text()[-2000:]}")
        time.sleep(POLL_S)


# -- what is said about it --------------------------------------------------------------------------------------------


def _table(title: str, rounds: Rounds) -> Table:
    rows = []
    for name in rounds:
        spread = Spread.of(rounds[name])
        over = "" if name == PAGEIN else times_spread(timing.ratio(rounds, PAGEIN, name))
        rows.append([name, duration(spread.median), f"{duration(spread.low)}–{duration(spread.high)}", over])
    version = writers.rclone_version()
    note = (
        f"rclone {version}: its mount with --vfs-cache-mode writes, a write-back delay of 0, looked for every "
        f"{POLL_S * 1e3:.0f} ms."
        if version
        else "rclone's mount is not here: it takes rclone, fusermount3 and /dev/fuse."
    )
    return Table(title, ["", "time", "quartiles", "pagein's time over it"], rows, note)


def _headline(what: str, rounds: Rounds) -> Headline:
    peers = [name for name in rounds if name != PAGEIN]
    best = timing.fastest(rounds, peers)
    medians = {name: duration(Spread.of(rounds[name]).median) for name in rounds}
    beside = "; ".join(f"{name} {medians[name]}" for name in sorted(peers, key=lambda name: name != best))
    return Headline(what, medians[PAGEIN], beside, times_spread(timing.ratio(rounds, PAGEIN, best)))


def draw(report: Report, figure: Figure) -> None:
    figure.set_size_inches(11, 2.2)
    panels = figure.subplots(1, 2)
    titles = {"new_seconds": "A new object of 64 MiB", "changed_seconds": f"{OVERWRITES} overwrites of 4 KiB in 64 MiB"}
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        seconds = report.data[key]
        bars(axes, list(seconds), [spread[1] for spread in seconds.values()], unit="s, less is better", title=title)
