"""The clauses of the contract that storage has to keep, by number: what is expected, and what puts a breach right.

Guarantees: each clause has a section of its own in docs/reference/store-clauses.md, to which `Clause.link` leads.
Not here: how they are checked (reading.py, meeting.py, writing.py, sources.py), what else is known of them
(explained.py), who keeps the core's part of the contract (tests/contract of pagein itself).
"""

from __future__ import annotations

from typing import NamedTuple

DOCS = "docs/reference/store-clauses.md"


class Clause(NamedTuple):
    """One promise that a store makes."""

    number: str
    expected: str
    fix: str
    is_advice: bool = False
    """Whether a breach is told without failing the check."""

    @property
    def link(self) -> str:
        """Where the documentation has it."""
        return f"{DOCS}#{self.number.lower()}"

    @property
    def command(self) -> str:
        """What prints it where no documentation is."""
        return f"pagein check --explain {self.number}"


_TABLE = (
    # -- a source
    Clause(
        "O1",
        "source.open() returns an Opened: operations, a size in bytes and a version",
        "Return pagein.stores.Opened(ops, size_bytes, version): an AddressSpaceOperations, an int of 0 or more, a str.",
    ),
    Clause(
        "O2",
        "source.key is hashable, and the same each time for one object",
        "Make the key of what names the object (store, bucket, path), not of the Source that was made for it.",
    ),
    Clause(
        "O3",
        "an object that is not there is OSError(ENOENT) when it is opened",
        'Raise FileNotFoundError(errno.ENOENT, "no such object", name) in open(): not in source(path), which only '
        "names it, and not in the first fetch.",
    ),
    Clause(
        "O4",
        "an object that has not changed has the same version, and look() says None",
        "Derive the version from the object (an ETag; mtime and size), not from the moment or the call.",
    ),
    Clause(
        "O5",
        "an object that has changed has another version",
        "Take the version from what the store says of the object now; a constant lets the cache serve old pages for "
        "ever.",
    ),
    Clause(
        "O6",
        "operations that validate bring bytes of the version that was opened, or raise OSError(ESTALE)",
        "Send the version with each fetch (If-Match), or compare it after the fetch, and raise ESTALE.",
    ),
    Clause(
        "O7",
        "open_for_writing(exclusive=True) of an object that is there is OSError(EEXIST)",
        "Look whether it is there, and raise FileExistsError(errno.EEXIST, ...).",
    ),
    Clause(
        "O8",
        "open_for_writing(truncate=True) returns an empty object",
        "Return Opened with size_bytes=0, and operations that have nothing of the old object.",
    ),
    Clause(
        "O9",
        "Opened.close() gives back what open() has taken, and raises nothing",
        "It is called once, when nobody uses the operations any more. Catch what your library raises when it has lost "
        "its connection.",
    ),
    Clause(
        "O10",
        "open_for_writing(create=True) of an object that is not there gives an empty one, which is there after fsync",
        "Look whether it is there before you do anything with it; what is missing is an error only without create, "
        "what is there only with exclusive.",
    ),
    Clause(
        "O11",
        "Opened.head is the first bytes of the object, Opened.rest what follows them, and open_with_head() and "
        "open_with_rest() open what open() does",
        "Give as head the bytes from offset 0 on of the version that you return, or nothing; let rest.fill() bring "
        "what follows them, in order, up to rest.stop_bytes.",
    ),
    Clause(
        "O12",
        "a source that says which store it is of says what its operations will say",
        "Give it device_key, device_name and requests_max, each as of the operations that it opens; or no device_key.",
    ),
    Clause(
        "O13",
        "Opened.again() gives the same version once more, after close, or None",
        "Return operations that need nothing which close() has given back; None if that takes a question to the store.",
    ),
    # -- the operations themselves
    Clause(
        "D1",
        "the attributes of operations have the types and bounds that the contract gives",
        "See the class AddressSpaceOperations: blocking, readers_call, writable, commits are bools; requests_max is at "
        "least 1.",
    ),
    Clause(
        "D2",
        "device_key is hashable, and the same each time",
        "Return what names the store. With another key for each file or call, requests_max bounds nothing.",
    ),
    Clause(
        "D3",
        "operations that say blocking = False do not keep their thread waiting",
        "Say blocking = True, so that I/O workers call them; or start the I/O, return 0, and call page.end_read() when "
        "it has come.",
    ),
    Clause(
        "D4",
        "an operation returns",
        "Give what it waits for a time-out, and raise OSError(ETIMEDOUT).",
    ),
    # -- reading a page
    Clause(
        "R1",
        "readpage returns 0, AOP_UPDATED_PAGE or AOP_TRUNCATED_PAGE",
        "Return one of the three; to say that it failed, raise OSError. A method without a return statement returns "
        "None.",
    ),
    Clause(
        "R2",
        "when readpage returns AOP_UPDATED_PAGE, the page is still locked",
        "Do not call page.unlock() or page.end_read() before you return AOP_UPDATED_PAGE; or return 0 after "
        "page.end_read().",
    ),
    Clause(
        "R3",
        "when readpage returns AOP_UPDATED_PAGE, the page is Uptodate",
        "Call page.set_uptodate() once the bytes are in page.buffer.",
    ),
    Clause(
        "R4",
        "a read for which readpage returned 0 is ended by page.end_read()",
        "Call page.end_read() when the bytes are in, page.end_read(error) when they do not come, on every path, "
        "whatever raises.",
    ),
    Clause(
        "R5",
        "a read is ended exactly once, and the page is not touched afterwards",
        "Let one path end the page: a completion and a time-out must agree who is first. Return 0, not "
        "AOP_UPDATED_PAGE, after page.end_read().",
    ),
    Clause(
        "R6",
        "when readpage returns AOP_TRUNCATED_PAGE, it has unlocked the page",
        "Call page.unlock() before you return AOP_TRUNCATED_PAGE.",
    ),
    Clause(
        "R7",
        "AOP_TRUNCATED_PAGE is not the answer for ever",
        "Return it only for a page that may have left the file meanwhile; if it cannot be brought, raise OSError.",
    ),
    Clause(
        "R8",
        "what an operation raises, or ends a read with, is an OSError",
        "Catch what your library raises and raise OSError(code, text, name) from it. Anything else is taken for a "
        "mistake, and told to every reader.",
    ),
    Clause(
        "R9",
        "every byte of the page is written before it is Uptodate",
        "Fill page.buffer to its end (page.size_bytes), then call page.set_uptodate(): loop over short reads, and "
        "raise OSError(EIO) if the bytes do not come.",
    ),
    Clause(
        "R10",
        "page i holds the file's bytes from i * 4096 on, each time it is read",
        "Read at page.offset (= page.index * 4096), and take no bytes that were there for another page.",
    ),
    Clause(
        "R11",
        "a page that has left the cache is brought again when it is asked for",
        "Keep no record of which pages you have brought: the cache drops pages when it likes.",
    ),
    Clause(
        "R12",
        "a page whose read failed is not Uptodate",
        "Call page.set_uptodate() last, when nothing can fail any more.",
    ),
    Clause(
        "R13",
        "page.buffer is not kept beyond the page's lock",
        "Copy what you want to keep; end slices of the buffer and arrays over it before the page is unlocked.",
    ),
    Clause(
        "R14",
        "a page is not written to after it was released",
        "End the read only when all that writes to the buffer has ended: cancel it and wait, or let it write to memory "
        "of its own.",
    ),
    Clause(
        "R15",
        "a page of the file can be brought when nothing is wrong",
        "See which error the store raised.",
    ),
    # -- the end of the file
    Clause(
        "E1",
        "the last page has page.size_bytes bytes, fewer than 4096 where the file ends",
        "Use page.size_bytes, or len(page.buffer), not 4096: page.buffer ends where the file ends.",
    ),
    Clause(
        "E2",
        "what the store does not have is OSError, not bytes that it did not write",
        "Raise OSError(EIO) for an answer that is shorter than the buffer: an object may be cut while it is open.",
    ),
    Clause(
        "E3",
        "the error for what the store does not have is an OSError",
        "Check the length of the answer and raise OSError(EIO), before an assignment of it raises ValueError.",
        is_advice=True,
    ),
    # -- readahead
    Clause(
        "A1",
        "readahead takes only the pages of its run",
        "Take with rac.take(n) while rac.page_count > 0, or with for page in rac.",
    ),
    Clause(
        "A2",
        "what readahead takes it ends",
        "Call page.end_read() for each page or run that rac.take() gave, on every path; or raise, and the core "
        "releases it. Take no more than you bring.",
    ),
    Clause(
        "A3",
        "a run that readahead brings has the bytes that readpage brings",
        "Read page.size_bytes bytes from page.offset on: a page of a run is longer than 4096 bytes.",
    ),
    # -- several at once
    Clause(
        "C1",
        "calls at once, for different pages, do not mix their bytes",
        "Keep no state of a call in self; read with pread, or under a lock, not with seek and read on a shared file.",
    ),
    Clause(
        "T1",
        "readers that meet an invalidation get the file's bytes",
        "Bring each page from the store, by its own index, whatever was brought before.",
    ),
    Clause(
        "T2",
        "readers that meet a new size get the file's bytes up to it",
        "Take page.size_bytes anew for each page: the last page of the file may be any, and any short.",
    ),
    # -- when the store fails
    Clause(
        "F1",
        "while the store fails, the reader gets an OSError",
        "Raise OSError, or page.end_read(error).",
    ),
    Clause(
        "F2",
        "when the store has healed, the next read succeeds",
        "Keep no failed connection or future: each call of readpage tries anew.",
    ),
    Clause(
        "F3",
        "a write that fails raises OSError from fsync, and is stored once the store has healed",
        "Raise OSError from the operation, or page.end_writeback(error); the page stays dirty and is given to you "
        "again.",
    ),
    # -- writing
    Clause(
        "W1",
        "writepage returns 0 with the page unlocked, or AOP_WRITEPAGE_ACTIVATE with it locked",
        "page.set_writeback(), page.unlock(), store, page.end_writeback(), return 0.",
    ),
    Clause(
        "W2",
        "what write-back was given is what is read afterwards",
        "Store all of page.content at page.offset; to decline, call wbc.redirty(page) before you unlock it.",
    ),
    Clause(
        "W3",
        "a write-back that was begun is ended; what writepages takes is stored, or declined",
        "Call page.end_writeback(), or page.end_writeback(error), on every path, whatever raises. Take no more than "
        "you store, and unlock what you take.",
    ),
    Clause(
        "W4",
        "write-back of a page begins and ends exactly once",
        "page.set_writeback() under the lock, once; page.end_writeback() once, from one path.",
    ),
    Clause(
        "W5",
        "the object is as long as the file",
        "Store page.size_bytes bytes (len(page.content)), not 4096: the last page ends where the file ends.",
    ),
    Clause(
        "W6",
        "a page that is written again, also while it is stored, is stored again",
        "Keep no record of which pages were stored, and no copy of their bytes.",
    ),
    Clause(
        "W7",
        "a write changes no byte beside it",
        "Store at page.offset exactly len(page.content) bytes.",
    ),
    Clause(
        "W8",
        "a gap before what was written is zeros",
        "Let store make the object longer with zeros.",
    ),
    Clause(
        "W9",
        "set_size cuts off for good, and what it adds is zeros",
        "Cut the object, and what you keep of it; make it longer with zeros, not with what was there.",
    ),
    Clause(
        "W10",
        "punch_hole makes exactly its range zeros",
        "Zero [offset_bytes, offset_bytes + size_bytes), and keep the size; or raise NotImplementedError.",
    ),
    Clause(
        "W11",
        "ranges that are stored at once do not mix",
        "Keep no state of a call in self; write with pwrite, or under a lock, not with seek and write on a shared "
        "file.",
    ),
    Clause(
        "W12",
        "after fsync nothing is uncommitted",
        "With commits = True, let fsync put into the store what was stored before, and uncommitted_bytes be None then.",
    ),
    Clause(
        "W13",
        "who opens the object after fsync finds what was written",
        "Let fsync make it visible, or raise.",
    ),
    Clause(
        "W14",
        "ops.version follows what is written",
        "After fsync, let ops.version be what source.open() says.",
    ),
    Clause(
        "W15",
        "discard gives up what was not committed, and the object is as it was",
        "Drop what was stored since the last fsync; return the size of the object that is left.",
    ),
    Clause(
        "W16",
        "direct_write returns how many bytes it has stored",
        "Return the count; or 0, and the data go through the cache.",
    ),
    Clause(
        "W17",
        "page.content is not kept beyond the end of its write-back",
        "with page.content as content: ... ; copy what you want to keep.",
    ),
    Clause(
        "W18",
        "launder_page returns True for a page that is in the store now, False for one that stays; locked, as it came",
        "Store page.content at page.offset before you return True, under the page's lock: no page.set_writeback(), no "
        "page.unlock(). Return False if you do not store it.",
    ),
    Clause(
        "W19",
        "a page is not declined for ever",
        "Decline only what you will take soon, also if nothing else is stored meanwhile; if it cannot be stored, raise "
        "OSError.",
    ),
    Clause(
        "W20",
        "an operation that raises has nothing still under way",
        "Before you raise, wait for what you have begun. Or raise nothing: what you cannot begin you end by "
        "page.end_writeback(error), and return.",
    ),
    # -- what is left
    Clause(
        "L1",
        "no page stays locked, pinned or reserved",
        "End what you have taken, on every path.",
    ),
    Clause(
        "L2",
        "no thread is left after close",
        "End your threads in Opened.close, or share one pool between all.",
    ),
    Clause(
        "L3",
        "no file descriptor is left after close",
        "Close what you have opened in Opened.close, or in the call that has opened it, also where that fails.",
    ),
    Clause(
        "X1",
        "the check runs to its end",
        "See what was raised. If it is not your store's, it is a mistake of pagein's: please report it.",
    ),
)

CLAUSES: dict[str, Clause] = {clause.number: clause for clause in _TABLE}
"""All of them, by number, in the order of the documentation."""

_OF_THE_CORE = (
    ("a page is not written to after", "R14"),
    ("page.buffer is not kept", "R13"),
    ("readpage returns AOP_UPDATED_PAGE", "R2"),
    ("readpage returns AOP_TRUNCATED_PAGE", "R6"),
    ("readpage returns 0 or one", "R1"),
    ("a read is ended exactly once", "R5"),
    ("a page is unlocked exactly once", "R5"),
    ("a page is made Uptodate under its lock", "R5"),
    ("a read that was started is ended", "R4"),
    ("readahead takes only", "A1"),
    ("writepages takes only", "W4"),
    ("what writepages takes", "W3"),
    ("write-back of a page", "W4"),
    ("writepage returns 0", "W1"),
)


def number_of(core_clause: str) -> str:
    """The clause for what a `ContractViolation` says."""
    return next((number for text, number in _OF_THE_CORE if core_clause.startswith(text)), "X1")
