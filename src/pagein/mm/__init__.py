"""The page cache proper: pages, locks, reads, readahead and reclaim, on the standard library only.

One file per path, as in Linux ``mm/``.
Nouns: ``zone`` (the frames of one cache and their lock), ``arena`` (memory and planes), ``lru`` (the queues),
``mapping`` (one file's pages), ``page``, ``pin``, ``aops`` (what a store implements), ``sync`` and ``workqueue``.
Verbs: ``filemap`` (read, fault), ``bring``, ``readpage``, ``readahead``, ``reclaim``, ``truncate``, ``fork``;
``debug`` checks them.  Nothing here knows a store, a URL or a file object.
"""
