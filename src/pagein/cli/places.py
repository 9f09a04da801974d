"""What a command line's source and destination mean: a file, or a directory that one goes into.

Guarantees: two files of a directory never get one name below a destination; what has no name there is a ValueError.
Assumes: a destination of obstore's has objects below it, each with the key that is written, whatever is in it.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from ..stores import OBJECT_SCHEMES, source_of
from ..stores.local import LocalSource


def place_of(text: str) -> str:
    """*text*; the path, if it is a file: URL, to which a name can be added as it is.

    Raises: ValueError for what names nothing; OSError if a package is missing.
    """
    source = source_of(text)
    return source.path if isinstance(source, LocalSource) and text[:5].lower() == "file:" else text


def is_path(place: str) -> bool:
    """Whether it is a path of this machine, and no URL.  Raises: as `place_of`."""
    return isinstance(source_of(place), LocalSource)


def below(place: str, relative: str) -> str:
    """What *relative*, a path, is called below *place*.

    Raises: ValueError if it has no name there: it is no UTF-8, or what reads the URL would take it for another.
    """
    if is_path(place):
        return os.path.join(place, relative)
    name = relative.replace(os.sep, "/")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("a URL cannot name it, as it is no UTF-8") from None
    link = _first_link(place)
    if _scheme(place) in ("http", "https"):
        name = quote(name)
    root = link.rstrip("/")
    below_link = f"{link}{name}" if root.endswith(":") else f"{root}/{name}"  # memory:// ends with its slashes
    if _scheme(place) not in OBJECT_SCHEMES:
        _require_read_as_written(below_link, name)
    return place.replace(link, below_link, 1)


def target_of(source: str, target: str) -> str:
    """The file that *source* becomes at *target*: in it, if that is a directory, or ends with a slash.

    Raises: ValueError if it goes into it, and has no name there.
    """
    if target.endswith("/") or (is_path(target) and os.path.isdir(target)):
        return below(target, _name_of(source))
    return target


def _name_of(source: str) -> str:
    """What the file is called without what it is in.  Raises: ValueError."""
    if is_path(source):
        whole = source
    else:
        _, _, whole = _first_link(source).partition("://")
        if _scheme(source) in ("http", "https"):
            _, _, whole = re.sub(r"[?#].*", "", whole, flags=re.DOTALL).partition("/")
    name = whole.rstrip("/").rpartition("/")[2]
    if name in ("", ".", ".."):
        raise ValueError(f"{source} has no name that a copy could have: say what it is to be called")
    return name


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


def _first_link(url: str) -> str:
    """Of a chain (``zip://a.csv::s3://bucket/x.zip``) the link that says which file it is; else all."""
    if _scheme(url) in OBJECT_SCHEMES:
        return url  # no chain: http://[::1]/
    links = url.split("::")
    return next((link for link in links if "://" in link), links[-1])


def _require_read_as_written(url: str, name: str) -> None:
    """Raises: ValueError if fsspec would not find *name* at the end of *url*: it cuts some at '?', chains at '::'."""
    from fsspec import get_filesystem_class

    if "::" in name:
        raise ValueError(f"{_scheme(url)}: URLs cannot name it: fsspec takes what follows '::' for another")
    try:
        path = get_filesystem_class(_scheme(url))._strip_protocol(url)
    except ImportError:  # told when it is opened
        return
    if not f"/{path}".endswith(f"/{name}"):
        raise ValueError(f"{_scheme(url)}: URLs cannot name it: fsspec takes {url} for {path}")
