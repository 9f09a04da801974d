"""For the door of fsspec: an HTTP server, and nothing left behind, as for the stores."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest
from tests.stores.conftest import nothing_is_left_behind as nothing_is_left_behind, objects as objects, server as server

import pagein
from pagein import default


@pytest.fixture(autouse=True)
def own_default_cache(monkeypatch: pytest.MonkeyPatch, nothing_is_left_behind: None) -> Iterator[pagein.PageCache]:
    """The cache of the process, for one test."""
    with pagein.PageCache("32 MiB", debug=True) as cache:
        monkeypatch.setattr(default, "_cache", cache)
        yield cache
    fsspec.get_filesystem_class("pagein").clear_instance_cache()  # fsspec has them for ever
