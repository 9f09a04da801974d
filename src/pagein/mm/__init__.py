"""The page cache proper: pages, locks, reads, readahead and reclaim, on the standard library only.

One file per path, as in Linux ``mm/``.  Nouns: ``zone`` (the frames of one cache and their lock),
``arena`` (memory and planes), ``lru`` (the queues), ``mapping`` (one file's pages), ``page``, ``aops``
(what a store implements), ``sync`` (the one door to threads and time).  Verbs: ``filemap`` (read, fault),
``readahead``, ``reclaim``, ``truncate``.  Nothing here knows a store, a URL or a file object.
"""
