"""fsspec's protocol ``pagein``: ``fsspec.open("pagein::s3://bucket/key")``, ``fsspec.filesystem("pagein", fs=other)``.

Not here: files of fsspec's filesystems that are opened by way of pagein (stores/fsspec.py).
"""

from .filesystem import PageCacheFileSystem

__all__ = ["PageCacheFileSystem"]
