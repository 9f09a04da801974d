"""The reference for a URL: one plain download, by another HTTP client than the one that is tried out.

Guarantees: one request, no cache, no ranges; the file is whole, or there is an error.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ...errors import not_found, permission, short_fetch, store_failed
from .reference import PIECE_BYTES, Reference, is_tar, members_of

TIMEOUT_S = 30.0
"""Without one byte from the server."""


def download(url: str, target: Path, report: Callable[[int, int | None], object]) -> Reference:
    """Write what is at *url* to *target*, and tell what is in it.

    *report*: (bytes so far, bytes in all, if the server tells).  Raises: OSError that names the URL.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            size_bytes = answer.length
            with target.open("wb") as made:
                while piece := answer.read(PIECE_BYTES):
                    made.write(piece)
                    report(made.tell(), size_bytes)
                got_bytes = made.tell()
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(url, error) from error
    except urllib.error.URLError as error:
        raise store_failed(url, str(error.reason)) from error
    except http.client.HTTPException as error:
        raise store_failed(url, f"{type(error).__name__}: {error}") from error
    if size_bytes is not None and got_bytes != size_bytes:
        raise short_fetch(url, offset_bytes=0, wanted_bytes=size_bytes, got_bytes=got_bytes)
    with target.open("rb") as file:
        tar = is_tar(file)
        members = list(members_of(file, is_tar=tar, report=lambda _: None))
    what = f"{len(members):,} files in the tar at {url}" if tar else url
    return Reference(what=what, members=members, size_bytes=got_bytes, is_tar=tar)


def _refused(url: str, error: urllib.error.HTTPError) -> OSError:
    reason = f"the server answered {error.code} {error.reason}"
    if error.code in (404, 410):
        return not_found(url)
    return permission(url, reason) if error.code in (401, 403) else store_failed(url, reason)
