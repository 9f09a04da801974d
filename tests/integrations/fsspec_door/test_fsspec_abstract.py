"""fsspec's own tests of what every filesystem should do, of ``pagein`` in front of memory and of local files.

With listings kept: each change has to be seen at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.tests import abstract

import pagein


class OverMemory(abstract.AbstractFixtures):  # type: ignore[misc]  # fsspec ships no types
    @pytest.fixture
    def fs(self) -> Iterator[Any]:
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
        with pagein.PageCache("16 MiB", debug=True) as cache:
            yield fsspec.filesystem("pagein", fs=memory, cache=cache, use_listings_cache=True)
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]

    @pytest.fixture
    def fs_path(self) -> str:
        return ""

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *parts: "/".join(parts)


class OverLocal(abstract.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs(self) -> Iterator[Any]:
        local = fsspec.filesystem("file", auto_mkdir=True)
        with pagein.PageCache("16 MiB", debug=True) as cache:
            yield fsspec.filesystem("pagein", fs=local, cache=cache, use_listings_cache=True)

    @pytest.fixture
    def fs_path(self, tmp_path: Path) -> str:
        return str(tmp_path)


class TestCopyOverMemory(OverMemory, abstract.AbstractCopyTests):  # type: ignore[misc]
    pass


class TestGetOverMemory(OverMemory, abstract.AbstractGetTests):  # type: ignore[misc]
    pass


class TestPutOverMemory(OverMemory, abstract.AbstractPutTests):  # type: ignore[misc]
    pass


class TestOpenAndPipeOverMemory(OverMemory, abstract.AbstractOpenTests, abstract.AbstractPipeTests):  # type: ignore[misc]
    pass


class TestCopyOverLocal(OverLocal, abstract.AbstractCopyTests):  # type: ignore[misc]
    pass


class TestGetOverLocal(OverLocal, abstract.AbstractGetTests):  # type: ignore[misc]
    pass


class TestPutOverLocal(OverLocal, abstract.AbstractPutTests):  # type: ignore[misc]
    pass


class TestOpenAndPipeOverLocal(OverLocal, abstract.AbstractOpenTests, abstract.AbstractPipeTests):  # type: ignore[misc]
    pass
