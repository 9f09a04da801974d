"""Objects replaced through obstore: one conditional PUT, where the store has that.

Guarantees: an object is replaced whole, and only if it is the version that was opened, or that we put there: If-Match,
or where there was nothing If-None-Match: *.  A PUT whose answer was lost, or that obstore has sent twice, is recognised
as ours by a tag in the object's metadata (COMMIT_ATTRIBUTE): it is neither repeated nor taken for somebody else's.
Content-Type and whatever else the object's metadata say are kept.
Where a store has no conditional PUT (obstore's LocalStore, S3 with ``conditional_put="disabled"``), or the object is
larger than one PUT takes (PUT_BYTES_MAX, then it is a multipart upload), the version is looked at just before: **who
else writes in that moment is overwritten**; and where a PUT is answered without a strong ETag, what is there a moment
later is taken for ours.  It is looked at before each upload, so that a lost cause costs none, and
servers that ignore If-Match do no more harm than those that have no such thing.
Waits: an upload by URL may take what policy.upload_timeout_s says; in a store that the user has made, what that says.
Not here: what is put (staged.py).
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import obstore
from obstore import exceptions, store as obstore_store

from ..errors import conflict, store_failed
from . import clients, policy
from .clients import ObjectStore
from .layer import Whole
from .object import ObjectSource
from .source import Opened
from .validators import NEVER, is_same_version, is_strong, version_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from obstore import ObjectMeta, PutMode, PutResult

    from .object import Upload

COMMIT_ATTRIBUTE = "pageincommit"
"""Of letters only, as Azure wants it."""
PUT_BYTES_MAX = 5000 << 20
"""The largest PUT of Azure; S3 takes a little more."""
PART_BYTES_MIN = 16 << 20
PARTS_MAX = 10_000
_TIB = 1 << 40
_OBJECT_BYTES_MAX = (
    (obstore_store.S3Store, 5 * _TIB),
    (obstore_store.GCSStore, 5 * _TIB),
    (obstore_store.AzureStore, 50_000 * (100 << 20)),
)
_ERRNO_OF_STATUS = {413: errno.EFBIG, 507: errno.ENOSPC}


class Found(NamedTuple):
    """What is there."""

    meta: ObjectMeta
    attributes: dict[str, str]


class ObjectTarget:
    """An object to be replaced."""

    def __init__(self, store: ObjectStore, path: str, name: str, *, upload: Upload) -> None:
        self.name = name
        self.device_name: str = name.removesuffix(path).rstrip("/:")
        self.device_key: Hashable = ("object", id(store))
        limits = (most for kind, most in _OBJECT_BYTES_MAX if isinstance(store, kind))
        self.object_bytes_max: int | None = next(limits, None)
        self._store = store
        self._path = path
        self._upload = upload
        self._expected: Found | None = None
        self._sent: set[str] = set()
        """The tags of what may yet turn out to have been put there."""
        # obstore's local files have no metadata; nor is there an answer of theirs that could get lost.
        self._has_tags = not isinstance(store, clients.ObstoreLocalStore)
        self._is_conditional = True

    @property
    def version(self) -> str:
        """What is there, as far as we know."""
        return version_of(self._expected.meta) if self._expected else "absent"

    def opened(self) -> Opened | None:
        """That, to be read."""
        if self._expected is None:
            return None
        return ObjectSource(self._store, self._path, key=None, name=self.name).opened(self._expected.meta)

    def expect(self, found: Found | None) -> None:
        """This is what may be replaced; None: nothing."""
        self._expected = found
        self._sent.clear()  # those of an older version can no longer succeed

    def look(self) -> Found | None:
        """What is there now, by one HEAD.  Raises: OSError."""
        clients.require_same_process(self.name)
        try:
            result = obstore.get(self._store, self._path, options={"head": True})
        except FileNotFoundError:
            return None
        except Exception as error:
            raise clients.os_error(error, self.name) from error
        return Found(result.meta, dict(result.attributes))

    def replace(self, whole: Whole) -> None:
        """One HEAD and one PUT.  Raises: OSError: ESTALE, EBUSY, EACCES, ENOSPC, …"""
        tag = uuid.uuid4().hex
        with whole.mapped() as data:
            policy.retrying(lambda: self._try(data, whole.size_bytes, tag))

    def _try(self, data: ReadableBuffer, size_bytes: int, tag: str) -> None:
        if self._is_there(tag):
            return  # by a try whose answer was lost
        self._sent.add(tag)
        try:
            result = self._put(data, size_bytes, tag)
        except Exception as error:
            if not self._is_done_after(error, tag):
                self._try(data, size_bytes, tag)
            return
        meta: ObjectMeta = {
            "path": self._path,
            "size": size_bytes,
            "e_tag": result["e_tag"],
            "version": result["version"],
            "last_modified": NEVER,
        }
        if is_strong(meta["e_tag"]):
            self.expect(Found(meta, self._attributes(tag)))
        else:
            self.expect(self.look())

    def _is_there(self, tag: str) -> bool:
        """Whether what was sent with *tag* is there, so that nothing remains to be done.

        Raises: OSError(ESTALE) if what is there is neither what we expect nor anything of ours.
        """
        found = self.look()
        found_tag = found.attributes.get(COMMIT_ATTRIBUTE) if found else None
        if found and found_tag in self._sent:
            self.expect(found)
            return found_tag == tag
        expected = self._expected
        if (found is None) != (expected is None) or (
            found and expected and not is_same_version(expected.meta, found.meta)
        ):
            raise conflict(self.name, was=self.version, now=version_of(found.meta) if found else "absent")
        if found and is_strong(found.meta["e_tag"]) and expected and found.meta["version"] != expected.meta["version"]:
            self._expected = found  # the same bytes, put there once more: GCS takes no PUT in place of the older ones
        return False

    def _put(self, data: ReadableBuffer, size_bytes: int, tag: str) -> PutResult:
        clients.require_same_process(self.name)
        store = self._upload(upload_bytes=min(size_bytes, PUT_BYTES_MAX))
        options: dict[str, Any] = {"attributes": self._attributes(tag)} if self._has_tags else {}
        if isinstance(store, obstore_store.MemoryStore):
            data = bytes(data)  # it keeps what it is given
        if size_bytes > PUT_BYTES_MAX and not isinstance(store, clients.AT_HAND):
            part_bytes = max(PART_BYTES_MIN, -(-size_bytes // PARTS_MAX))
            return obstore.put(store, self._path, data, use_multipart=True, chunk_size=part_bytes, **options)
        mode = self._mode()
        if mode != "overwrite" and self._is_conditional:
            try:
                return obstore.put(store, self._path, data, mode=mode, **options)
            except (NotImplementedError, exceptions.NotSupportedError):
                self._is_conditional = False
            except exceptions.BaseError as error:
                if clients.status_of(error) != 501:
                    raise
                self._is_conditional = False
        return obstore.put(store, self._path, data, mode="overwrite", use_multipart=False, **options)

    def _mode(self) -> PutMode:
        if self._expected is None:
            return "create"
        meta = self._expected.meta
        if not is_strong(meta["e_tag"]):
            return "overwrite"
        if meta["version"] is None:
            return {"e_tag": meta["e_tag"]}
        return {"e_tag": meta["e_tag"], "version": meta["version"]}  # GCS wants the latter

    def _attributes(self, tag: str) -> dict[str, str]:
        kept = self._expected.attributes if self._expected else {}
        return {**kept, COMMIT_ATTRIBUTE: tag}

    def _is_done_after(self, error: Exception, tag: str) -> bool:
        """Whether the PUT was carried out in spite of its *error*.  If not, an earlier one was: send it again.

        Raises: what the error means otherwise.
        """
        known = clients.os_error(error, self.name)
        status = clients.status_of(error)
        if status in _ERRNO_OF_STATUS:
            known = store_failed(self.name, known.strerror or "", _ERRNO_OF_STATUS[status])
        if known.errno in (errno.EACCES, errno.EFBIG, errno.EINVAL):
            raise known from error
        expected = self._expected
        try:
            if self._is_there(tag):
                return True
        except OSError as change:
            # Of these two, what was said of the PUT tells more, unless it was that something else is there.
            raise (change if change.errno == errno.ESTALE else known) from error
        if self._expected is not expected:
            return False
        if isinstance(error, exceptions.PreconditionError | exceptions.AlreadyExistsError):
            # And yet it is what we expect: somebody's upload has begun, and not ended.
            raise store_failed(self.name, "is being written by somebody else at this moment", errno.EBUSY) from error
        raise known from error
