"""What a command line's destination means: a file, or a directory that one goes into."""

from __future__ import annotations

import os
import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|:)|file:", re.IGNORECASE)


def is_path(place: str) -> bool:
    """Whether it is a path of this machine, and no URL."""
    return not _URL.match(place)


def below(place: str, relative: str) -> str:
    """What *relative*, a path, is called below *place*."""
    if is_path(place):
        return os.path.join(place, relative)
    return f"{place.rstrip('/')}/{relative.replace(os.sep, '/')}"


def target_of(source: str, target: str) -> str:
    """The file that *source* becomes at *target*: in it, if that is a directory, or ends with a slash."""
    if target.endswith("/") or (is_path(target) and os.path.isdir(target)):
        name = re.sub(r"[?#].*", "", source) if not is_path(source) else source
        return below(target, os.path.basename(name.rstrip("/")))
    return target
