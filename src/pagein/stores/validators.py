"""Validators: what an answer says of the version of an object, and whether two answers mean the same one.

Assumes: equal ETags, even weak ones, mean equal bytes, or else dates differ.  A server may omit a validator in some
answers; those that both have are compared.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TypedDict

from ..errors import stale, wrong_range

NEVER = datetime.fromtimestamp(0, UTC)
"""The date of an object without Last-Modified (as obstore says it)."""


class Meta(TypedDict):
    """What an answer says of an object; obstore's `ObjectMeta` is one."""

    size: int
    e_tag: str | None
    last_modified: datetime


def is_strong(etag: str | None) -> bool:
    """Whether equal ones are told to mean equal bytes."""
    return etag is not None and not etag.startswith("W/")


def has_validator(meta: Meta) -> bool:
    """Whether it tells anything but its size."""
    return bool(meta["e_tag"]) or meta["last_modified"] != NEVER


def is_same_version(was: Meta, now: Meta) -> bool:
    """Whether the validators that both answers have are equal; a strong ETag settles it."""
    if was["size"] != now["size"]:
        return False
    if was["e_tag"] and now["e_tag"]:
        if was["e_tag"] != now["e_tag"]:
            return False
        if is_strong(was["e_tag"]):
            return True
    dates = was["last_modified"], now["last_modified"]
    return NEVER in dates or dates[0] == dates[1]


def version_of(meta: Meta) -> str:
    """What `Opened.version` is."""
    size = f"size={meta['size']}"
    if is_strong(meta["e_tag"]):
        return f"etag={meta['e_tag']} {size}"
    etag = f"etag={meta['e_tag']} " if meta["e_tag"] else ""
    if meta["last_modified"] != NEVER:
        return f"{etag}modified={meta['last_modified'].isoformat()} {size}"
    return f"{etag}{size}" if etag else f"unknown={uuid.uuid4().hex} {size}"


def require_same_version(name: str, *, version: str, was: Meta, now: Meta) -> None:
    """Raises: OSError: ESTALE; EIO if the server contradicts itself."""
    if is_strong(was["e_tag"]) and was["e_tag"] == now["e_tag"] and was["size"] != now["size"]:
        asked, got = f"an object of {was['size']} bytes", f"the same one of {now['size']} bytes"
        raise wrong_range(name, asked=asked, got=got)
    if not is_same_version(was, now):
        raise stale(name, was=version, now=version_of(now))


def bytes_of(start: int, stop: int) -> str:
    """A range, as messages name it."""
    return f"bytes {start}-{stop - 1}"
