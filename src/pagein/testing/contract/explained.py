"""What there is to know of a clause beyond what a report tells: for ``pagein check --explain``, and the documentation.

Guarantees: needs no file but this package, so that who has only installed it can read it, too.
Not here: the clauses (clauses.py), the page that is made of both (tests/store_clauses.py).
"""

from __future__ import annotations

import textwrap

from .clauses import CLAUSES

WIDTH = 80

SECTIONS = {
    "O1": "A source",
    "D1": "Operations",
    "R1": "Reading a page",
    "E1": "The end of the file",
    "A1": "Readahead",
    "C1": "Several at once",
    "F1": "When the store fails",
    "W1": "Writing",
    "L1": "What is left",
}
"""The clause that each begins with."""

NOTES = {
    "O3": "A fetch is too late: the file would exist, with a size. `source(path)` is too early: what is not there may "
    "be about to be made.",
    "O4": "look() is also asked after close(): the cache does.",
    "O5": "Told from what a write of the checker's does, or from `Subject(change=...)`; look() has to say so, too.",
    "O6": "Asked of operations that say `validates = True` only: by readpage, and by a read of several pages at once.",
    "O9": "After it the cache has nothing of the object but pages.",
    "O10": "Asked of a (store, path) that may be overwritten, as the modes xb, ab and wb ask. The objects are named as "
    "the checked one, with `.pagein-check-xb`, `-ab` and `-wb` behind, and stay: while one is left of an earlier "
    "check, this is not checked.",
    "O12": "Then looks at it are among the requests of which that store gets so many at once.",
    "D3": "Told from the shortest of some calls: one that waits now and then is not found.",
    "D4": "Told if the store shows no sign of life for `patience_s` seconds while a call runs: also one of `open`, "
    "`look`, `close` or `open_for_writing` of a source.",
    "R4": "To unlock a page that is Uptodate by page.unlock() is an end of its read, too.",
    "R8": "So it is with `open`, `look` and `open_for_writing` of a source.",
    "R9": "The checker fills the page with something else before the call, twice: what is the same something "
    "afterwards was not written. It also compares what the page holds as it becomes Uptodate with what it holds when "
    "the store lets go of it.",
    "R10": "Without a `content` to compare with, a page is compared with what it was before.",
    "R13": "`page.buffer` is the cache's own memory. When the page is released it may become another page's.",
    "E2": "The checker tells the cache of a longer file than there is. A store that has bytes everywhere keeps this "
    "clause.",
    "E3": "An advice: told, and no failure. It matters for objects that may be cut by others while they are open.",
    "F1": "F1 to F3 need `Subject(failing=...)`, a context manager within which the store fails. Who brings the right "
    "bytes all the same, kept from before, breaks nothing.",
    "W1": "What is stored after page.unlock() without page.set_writeback() may be another page's memory by then.",
    "W3": "A page that `writepages` has taken and left locked counts as stored without `PAGEIN_DEBUG=1`, and its bytes "
    "are lost.",
    "W6": "While a page is being stored, the checker writes to it once more.",
    "W12": "Seen after each of two fsyncs; and discard, after the second, has to bring back what that has committed.",
    "W13": "Asked after each of two fsyncs, of which the second has one page to make visible, and when the file is "
    "closed.",
    "W18": "Asked of operations with a `launder_page` of their own. The page leaves the cache after a True: what was "
    "not stored is lost.",
    "W19": "While nothing at all is stored the checker calls fsync again and again, a hundred times at least, for one "
    "second.",
    "W20": "All that an operation took which raises, and did not end, is dirty again, and may be stored anew at once: "
    "what lands late may land over what is newer. Needs `Subject(failing=...)`; told if the store ends such a page, or "
    "takes its content, later.",
    "L2": "Opened, read and closed four times; the same while the store fails (`Subject(failing=...)`), and written to "
    "where it may be. Only if threads of each time are still there five seconds later, it is done forty times: what "
    "all share, a pool that is not full yet, and threads that end by themselves are no breach.",
    "L3": "Found as threads are: a descriptor that all share, and a cache of connections, are no breach.",
    "X1": "Also told of a mistake of the checker's.",
}

LINUX = {
    "R1": 1,
    "R2": 1,
    "R3": 1,
    "R4": 9,
    "R5": 8,
    "R6": 14,
    "R7": 14,
    "R8": 10,
    "R12": 11,
    "R15": 10,
    "E1": 24,
    "A1": 46,
    "A2": 46,
    "C1": 18,
    "T1": 38,
    "T2": 25,
    "F1": 10,
    "F2": 13,
    "F3": 57,
    "W1": 58,
    "W3": 54,
    "W6": 54,
    "W7": 50,
    "W8": 53,
    "W9": 29,
    "W10": 34,
    "W16": 41,
    "W18": 39,
    "W19": 58,
    "L1": 60,
}
"""Which clause of Linux's (docs/reference/clauses.md) stands behind it."""


def explain(number: str) -> str:
    """The clause with that number: what is expected, what puts a breach right, and what else is known.

    Raises: ValueError that says what is accepted.
    """
    clause = CLAUSES.get(number.upper())
    if clause is None:
        raise ValueError(f"no clause {number}: accepted are {', '.join(CLAUSES)}")
    advice = " (advice: told, and no failure)" if clause.is_advice else ""
    parts = [f"{clause.number}: {clause.expected}{advice}", clause.fix]
    if clause.number in NOTES:
        parts.append(NOTES[clause.number])
    if clause.number in LINUX:
        parts.append(
            f"Linux has it, too: clause {LINUX[clause.number]} of docs/reference/clauses.md, in pagein's source tree."
        )
    return "\n\n".join(textwrap.fill(part, WIDTH, break_long_words=False, break_on_hyphens=False) for part in parts)
