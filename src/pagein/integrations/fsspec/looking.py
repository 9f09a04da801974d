"""What fsspec's protocol ``pagein`` says of files and directories: what the filesystem behind says, kept for a while.

Guarantees: each answer is that of the filesystem behind, none older than ``listings_expiry_time``.
Not here: what is kept how (listings.py).
"""

from __future__ import annotations

import re
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem

from ...stores.fsspec_instances import is_async
from .behind import FilesystemBehind, call_alone
from .listings import Info
from .target import bare


class LookingFilesystem(FilesystemBehind):
    """One that is asked of files and directories."""

    async def _ask_anew(self, method: str, path: str, **kwargs: Any) -> Any:
        """Past what it has kept itself, for as long as it likes."""
        if self._listings.expiry_s != 0:
            self.fs.invalidate_cache(path)
        return await self._ask(method, path, **kwargs)

    def _derives(self, method: str) -> bool:
        """Whether it makes a *method* of its ``info``, as fsspec does where nothing else is said; or could."""
        # fsspec's HTTP begins to download the whole object, and hangs up: what is sent by then may be all of it.
        if method != "isdir" and "http" in self.fs.protocol:
            return True
        cls = type(self.fs)
        if is_async(self.fs):
            return getattr(cls, f"_{method}", None) is getattr(AsyncFileSystem, f"_{method}")
        return getattr(cls, method, None) is getattr(AbstractFileSystem, method)

    async def _info(self, path: str, **kwargs: Any) -> Info:
        path = self._strip_protocol(path)
        if kwargs.pop("refresh", False):
            self.invalidate_cache(path)
        if kwargs:
            return await self._ask("info", path, **kwargs)  # type: ignore[no-any-return]
        info = self._listings.info(path, self._parent(path))
        if info is None:
            asked = self._listings.asking()
            info = await self._ask_anew("info", path)
            self._listings.learn({path: info}, asked)
        return info

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if kwargs.pop("refresh", False):
            self.invalidate_cache(path)
        if kwargs:
            return await self._ask("ls", path, detail=detail, **kwargs)  # type: ignore[no-any-return]
        infos = self._listings.directory(path)
        if infos is None:
            asked = self._listings.asking()
            infos = await self._ask_anew("ls", path, detail=True)
            self._listings.learn_directory(path, infos, asked)
        return infos if detail else sorted(info["name"] for info in infos)

    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> list[str] | dict[str, Info]:
        asked = self._listings.asking()
        path = self._strip_protocol(path)
        found = await self._ask_anew("find", path, maxdepth=maxdepth, withdirs=withdirs, **kwargs)
        if isinstance(found, dict) and "versions" not in kwargs:
            self._listings.learn(found, asked)
        return found  # type: ignore[no-any-return]

    async def _glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        return await self._ask("glob", bare(path), maxdepth=maxdepth, **kwargs)

    async def _du(self, path: str, total: bool = True, maxdepth: int | None = None, **kwargs: Any) -> Any:
        found = await self._find(path, maxdepth=maxdepth, detail=True, **kwargs)
        assert isinstance(found, dict)
        sizes: dict[str, int] = {}
        for name, info in found.items():
            told = info if info.get("size") is not None else await self._info(name)
            sizes[told.get("name", name)] = told["size"]
        return sum(sizes.values()) if total else sizes

    async def _exists(self, path: str, **kwargs: Any) -> bool:
        path = self._strip_protocol(path)
        if not kwargs:
            if self._listings.info(path, self._parent(path)) is not None:
                return True
            if self._derives("exists"):
                return await super()._exists(path)  # type: ignore[no-any-return]
        return bool(await self._ask("exists", path, **kwargs))

    async def _isfile(self, path: str) -> bool:
        path = self._strip_protocol(path)
        if self._derives("isfile"):
            return bool(await super()._isfile(path))
        info = self._listings.info(path, self._parent(path))
        return bool(await self._ask("isfile", path)) if info is None else info["type"] == "file"

    async def _isdir(self, path: str) -> bool:
        path = self._strip_protocol(path)
        if self._derives("isdir"):
            return bool(await super()._isdir(path))
        # fsspec's HTTP downloads the whole object, to look for links in it.
        if "http" in self.fs.protocol and await self._has_no_links(path):
            return False
        return bool(await self._ask("isdir", path))

    async def _has_no_links(self, path: str) -> bool:
        try:
            mimetype = (await self._info(path)).get("mimetype")
        except Exception:  # it may be a directory all the same
            return False
        return mimetype is not None and not re.search("text|html|xml|json", mimetype)

    def created(self, path: str) -> Any:
        """As the filesystem behind."""
        return call_alone(self.fs, "created", self._strip_protocol(path))

    def modified(self, path: str) -> Any:
        """As the filesystem behind."""
        return call_alone(self.fs, "modified", self._strip_protocol(path))

    def checksum(self, path: str) -> Any:
        """As the filesystem behind."""
        return call_alone(self.fs, "checksum", self._strip_protocol(path))

    def ukey(self, path: str) -> Any:
        """As the filesystem behind."""
        return call_alone(self.fs, "ukey", self._strip_protocol(path))

    def sign(self, path: str, expiration: float = 100, **kwargs: Any) -> Any:
        """As the filesystem behind."""
        return call_alone(self.fs, "sign", self._strip_protocol(path), expiration=expiration, **kwargs)
