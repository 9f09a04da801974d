"""An ``http(s):`` URL in its parts, or why it is none.

Not here: who is asked for it (http.py, object.py), what is told of one (errors.without_secrets).
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import not_a_url


class HTTPUrl(NamedTuple):
    """What is in it, as it is written."""

    scheme: str
    user_info: str
    """``name:password``, or nothing."""
    host: str
    """And its port, if that is written."""
    path: str
    query: str


def split_http_url(url: str) -> HTTPUrl:
    """Raises: ValueError that quotes no password, as those of `urlsplit` may."""
    try:
        parts = urlsplit(url)
        names_host = bool(parts.hostname and parts.port != 0)
    except ValueError:
        names_host = False
    if not names_host:
        raise not_a_url(url, "it names no host, or a port that is no number from 1 to 65535")
    user_info, _, host = parts.netloc.rpartition("@")
    if any(one.isspace() for one in host):
        raise not_a_url(url, "a host cannot hold spaces")
    return HTTPUrl(parts.scheme, user_info, host, parts.path, parts.query)
