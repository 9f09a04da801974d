"""One cold scan, request by request: does the pipe fill, and stay full, while the reader reads?

64 MiB over HTTP at 10 ms a request, in 128 KiB reads, through a new cache of the default size, over warm connections.
The requests are those that the server noted: from the moment it got one until it had nothing left to send for it but
the last 64 KiB.  The reads are those that the reader noted, by the same clock; one of more than 1 ms has waited.
Bytes have arrived when the cache has counted them, which is when their pages can be read; a thread looks each
millisecond.  Shown is the scan that took the median time of several, and the median of as many streamed GETs, by turns.
Every byte is compared afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import readers
from readers import READ_BYTES, Check, Remote
from report import ACCENT_COLOUR, PAGEIN_COLOUR, PEER_COLOUR, Report, Table, plain
from workload import KIB, MIB, description_of, directory, random_bytes

from pagein import File, PageCache
from pagein.testing.httpserver import RangeServerProcess

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The timeline of one cold scan"
FILE_BYTES, LATENCY_S = 64 * MIB, 0.01
WAIT_S = 0.001
"""A read that takes longer has waited."""
POINT_READS = 8
"""Of reads that did not wait, every so manieth is kept: a point a MiB."""
LOOK_S = 0.001
"""How often somebody looks at what has arrived."""
SENDING_COLOUR, LATENCY_COLOUR = "#8fb8d8", "#dfe8ef"

Scan = dict[str, Any]
"""JSON: ``seconds``, ``open_seconds``; ``requests`` [start, end, offset, stop]; ``waits`` [start, end]; ``arrived``
and ``position`` (what was read) [time, bytes]."""
Points = list[list[float]]
"""[time, bytes], in order."""


def measure(*, quick: bool) -> Report:
    data = random_bytes(FILE_BYTES)
    scans: list[Scan] = []
    streams: list[Points] = []
    with directory() as place:
        (place / "data").write_bytes(data)
        with RangeServerProcess(place, latency_s=LATENCY_S) as server:
            remote = readers.over_http(server.url("data"))
            for _ in range(1 if quick else 7):
                scans.append(_scan(server, remote, data))
                streams.append(_streamed(remote))
    scan = sorted(scans, key=lambda one: float(one["seconds"]))[len(scans) // 2]
    streamed = sorted(streams, key=lambda points: points[-1][0])[len(streams) // 2]
    return Report(tables=[_table(scan, streamed)], data={**scan, "streamed": streamed})


# -- what is noted -----------------------------------------------------------------------------------------------------


def _scan(server: RangeServerProcess, remote: Remote, data: bytes) -> Scan:
    reads: list[tuple[float, float]] = []
    pieces: list[Any] = []
    sleep(10 * LATENCY_S)
    server.reset()
    with PageCache() as cache:
        start_s = monotonic()
        with cache.open(remote.url, **remote.options) as file, _looking_on(file, start_s) as arrived:
            open_s = before_s = monotonic()
            while piece := file.read(READ_BYTES):
                after_s = monotonic()
                reads.append((before_s - start_s, after_s - start_s))
                pieces.append(piece)
                before_s = after_s
    return {
        "seconds": reads[-1][1],
        "open_seconds": open_s - start_s,
        "requests": _requests(server, start_s),
        "waits": [read for read in reads if read[1] - read[0] > WAIT_S],
        "arrived": arrived,
        "position": _position(reads, pieces, data),
    }


@contextmanager
def _looking_on(file: File, start_s: float) -> Iterator[Points]:
    """Note how much has arrived, whenever it has become more."""
    counters = description_of(file).mapping.zone.counters
    points, is_over = [[monotonic() - start_s, float(counters.get("fetched_bytes", 0))]], threading.Event()

    def look() -> None:
        while not is_over.wait(LOOK_S):
            if (fetched_bytes := float(counters.get("fetched_bytes", 0))) > points[-1][1]:
                points.append([monotonic() - start_s, fetched_bytes])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield points
    finally:
        is_over.set()
        thread.join()


def _requests(server: RangeServerProcess, start_s: float) -> list[list[float]]:
    requests = []
    for request in server.stats().log:
        assert request.range_start is not None, "a request for all of the file"
        assert request.range_stop is not None
        assert request.t_end_s is not None, "a request that is still under way"
        assert request.sent_bytes == request.range_stop - request.range_start
        times = request.t_start_s - start_s, request.t_end_s - start_s
        requests.append([*times, request.range_start, request.range_stop])
    return requests


def _position(reads: list[tuple[float, float]], pieces: list[Any], data: bytes) -> Points:
    check = Check(data)
    points, position = [[reads[0][0], 0.0]], 0
    for number, ((before_s, after_s), piece) in enumerate(zip(reads, pieces, strict=True), 1):
        if after_s - before_s > WAIT_S:
            points.append([before_s, position])
        check(piece)
        position += len(piece)
        if after_s - before_s > WAIT_S or not number % POINT_READS or number == len(reads):
            points.append([after_s, position])
    if check.wrong_count():
        raise AssertionError(f"{check.wrong_count()} reads were wrong")
    return points


def _streamed(remote: Remote) -> Points:
    points = [[0.0, 0.0]]
    start_s = monotonic()
    readers.streamed(remote, lambda chunk: points.append([monotonic() - start_s, points[-1][1] + len(chunk)]))
    return points


# -- what is said about it -------------------------------------------------------------------------------------------


def _range(request: list[float]) -> str:
    return "–".join(f"{offset / MIB:.1f}" for offset in request[2:4])


def _table(scan: Scan, streamed: Points) -> Table:
    requests = scan["requests"]
    rows = []
    for number, request in enumerate(requests, 1):
        start_ms, end_ms = request[0] * 1e3, request[1] * 1e3
        rows.append([str(number), _range(request), f"{start_ms:.1f}", f"{end_ms:.1f}", _under_way(requests, request)])
    waited_s = sum(end_s - start_s for start_s, end_s in scan["waits"])
    note = (
        f"Open took {scan['open_seconds'] * 1e3:.1f} ms, all of it {scan['seconds'] * 1e3:.0f} ms. "
        f"{len(scan['waits'])} of {FILE_BYTES // READ_BYTES} reads waited, {waited_s * 1e3:.0f} ms together. "
        f"One streamed GET took {streamed[-1][0] * 1e3:.0f} ms."
    )
    columns = ["request", "MiB of the file", "came at ms", "sent at ms", "under way when it came"]
    return Table(f"{_title()}: what the server saw", columns, rows, note)


def _title() -> str:
    return (
        f"One cold scan of {FILE_BYTES // MIB} MiB in {READ_BYTES // KIB} KiB reads, {LATENCY_S * 1e3:g} ms a request"
    )


def _under_way(requests: list[list[float]], one: list[float]) -> str:
    """Itself counts."""
    return str(sum(other[0] <= one[0] < other[1] for other in requests))


# -- the picture -----------------------------------------------------------------------------------------------------


def draw(report: Report, figure: Figure) -> None:
    """Three tracks, one above the other, over the same time: the server's requests, the reader's reads, bytes."""
    scan = report.data
    figure.set_size_inches(11, 9)
    figure.suptitle(_title(), fontsize=12, x=0.01, ha="left")
    lanes, reads, total = figure.subplots(3, 1, sharex=True, height_ratios=[5, 0.9, 5])
    _draw_requests(lanes, scan["requests"])
    _draw_reads(reads, scan)
    _draw_bytes(total, scan)
    lanes.set_title("Requests at the server: which MiB of the file", fontsize=10, loc="left")
    reads.set_title("The reader", fontsize=10, loc="left")
    total.set_title("Bytes", fontsize=10, loc="left")
    total.set_xlabel("ms since before the file was opened", fontsize=8)
    total.set_xlim(0, scan["seconds"] * 1e3 * 1.02)
    for axes in (lanes, reads, total):
        axes.grid(axis="x", color="black", alpha=0.08)
        axes.set_axisbelow(True)
        axes.tick_params(labelbottom=True)
        plain(axes)


def _draw_requests(axes: Axes, requests: list[list[float]]) -> None:
    free_at_s: list[float] = []
    for request in requests:
        start_s, end_s = request[:2]
        lane = next((at for at, free_s in enumerate(free_at_s) if free_s <= start_s), len(free_at_s))
        free_at_s[lane : lane + 1] = [end_s]
        start_ms, latency_ms, all_ms = start_s * 1e3, min(LATENCY_S, end_s - start_s) * 1e3, (end_s - start_s) * 1e3
        axes.barh(lane, latency_ms, left=start_ms, color=LATENCY_COLOUR)
        axes.barh(lane, all_ms - latency_ms, left=start_ms + latency_ms, color=SENDING_COLOUR)
        axes.barh(lane, all_ms, left=start_ms, color="none", edgecolor="white", linewidth=1)
        axes.text(start_ms + all_ms / 2, lane, _range(request), va="center", ha="center", fontsize=7)
    axes.barh(0, 0, color=LATENCY_COLOUR, label=f"the server waits {LATENCY_S * 1e3:g} ms")
    axes.barh(0, 0, color=SENDING_COLOUR, label="the server sends")
    axes.set_yticks(range(len(free_at_s)), [str(lane + 1) for lane in range(len(free_at_s))])
    axes.set_ylim(len(free_at_s) - 0.4, -0.6)
    axes.set_ylabel("requests under way", fontsize=8)
    _legend_above(axes)


def _draw_reads(axes: Axes, scan: Scan) -> None:
    open_ms, all_ms = scan["open_seconds"] * 1e3, scan["seconds"] * 1e3
    waits = [(start_s * 1e3, (end_s - start_s) * 1e3) for start_s, end_s in scan["waits"]]
    axes.broken_barh([(0, open_ms)], (0, 1), color=PEER_COLOUR, label="opens the file")
    axes.broken_barh([(open_ms, all_ms - open_ms)], (0, 1), color=PAGEIN_COLOUR, label="reads what is there")
    axes.broken_barh(waits, (0, 1), color=ACCENT_COLOUR, label=f"waits in a read, for more than {WAIT_S * 1e3:g} ms")
    axes.set_yticks([])
    axes.set_ylim(0, 1)
    _legend_above(axes)


def _draw_bytes(axes: Axes, scan: Scan) -> None:
    sent, sent_bytes = [[0.0, 0.0]], 0.0
    for _, end_s, offset, stop in sorted(scan["requests"], key=lambda request: float(request[1])):
        sent_bytes += stop - offset
        sent.append([end_s, sent_bytes])
    sent.append([scan["seconds"], sent_bytes])
    arrived = [*scan["arrived"], [scan["seconds"], scan["arrived"][-1][1]]]
    _line(axes, scan["streamed"], color=PEER_COLOUR, linestyle="--", label="one streamed GET, from its own start")
    _line(axes, sent, color=SENDING_COLOUR, drawstyle="steps-post", label="sent by the server, whole requests")
    _line(axes, arrived, color=ACCENT_COLOUR, drawstyle="steps-post", label="arrived in the cache")
    _line(axes, scan["position"], color=PAGEIN_COLOUR, label="read")
    axes.set_ylabel("MiB", fontsize=8)
    axes.set_ylim(0, FILE_BYTES / MIB * 1.05)
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=4, frameon=False)


def _line(axes: Axes, points: Points, **style: Any) -> None:
    axes.plot([seconds * 1e3 for seconds, _ in points], [size_bytes / MIB for _, size_bytes in points], **style)
