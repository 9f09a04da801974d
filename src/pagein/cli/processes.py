"""The processes of this user that tell what their caches do, and what they say.

Guarantees: a process that has ended is not among them, and what it left behind is removed; one that does not answer
in time, or whose version of pagein tells other things, is passed over; nobody but this user, or root, is believed.
Not here: what is told (pagein.publishing).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from ..publishing import FORMAT, Request, connect, directories, is_of_same_user, opened_directory, pid_of

ASKED_AT_ONCE = 16
ANSWER_BYTES_MAX = 64 << 20


def ask_all(request: Request, *, pids: Collection[int] = (), token: str | None = None) -> list[dict[str, Any]]:
    """What each process tells (`pagein.publishing.document`), by its process id; of *pids* only, if there are any, and
    with a *token* only of those that were started with it."""
    found = [(directory, name, request) for directory in directories() for name in _names(directory, pids)]
    if not found:
        return []
    with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(found))) as pool:
        answers = list(pool.map(_ask, found))
    told = [answer for answer in answers if answer is not None and token in (None, answer["token"])]
    return sorted(told, key=lambda answer: int(answer["pid"]))


def _names(directory: str, pids: Collection[int]) -> list[str]:
    with contextlib.suppress(OSError), opened_directory(directory) as short:
        named = [(pid_of(name), name) for name in os.listdir(short)]
        return [name for pid, name in named if pid is not None and (not pids or pid in pids)]
    return []


def _ask(at: tuple[str, str, Request]) -> dict[str, Any] | None:
    directory, name, request = at
    try:
        with opened_directory(directory) as short:
            connection = connect(short, name)
        if connection is None:
            return None
        with connection:
            if not is_of_same_user(connection):
                return None
            connection.sendall(json.dumps(asdict(request)).encode() + b"\n")
            answer = bytearray()
            while (piece := connection.recv(1 << 20)) and len(answer) < ANSWER_BYTES_MAX:
                answer += piece
        told: dict[str, Any] = json.loads(answer)
        return told if told["format"] == FORMAT else None
    except (OSError, ValueError):  # it has just ended, or does not answer in time
        return None
