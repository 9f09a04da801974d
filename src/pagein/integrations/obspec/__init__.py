"""A store of obstore, or of anybody who keeps to obspec, with a page cache before it: `CachedStore`.

    store = CachedStore(S3Store("bucket"))
    store.get_range("key", start=0, length=100)

It is taken wherever obspec's protocols are.  Not here: zarr, which takes obstore's own classes only (zarr.py).
"""

from .result import CachedResult as CachedResult, CachedStream as CachedStream
from .store import CachedStore as CachedStore
