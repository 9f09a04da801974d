"""The clauses of Linux's contract and their tests: docs/reference/clauses.md, by ``python -m tests.clauses``.

Guarantees: a test proves clause NN if it is called ``test_item_NN_…``, or is named here.
Not here: a store's own clauses; which of Linux's stands behind one of them is said in docs/reference/store-clauses.md.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "clauses.md"
STORE_CLAUSES = ROOT / "docs" / "reference" / "store-clauses.md"

CLAUSES = {
    "The answers of readpage": [
        "AOP_UPDATED_PAGE: the page is used and unlocked once; the code reaches nobody",
        "the same for a page that lies behind the end by then: the read is empty, the page unlocked",
        "the same in read_cache_page: the page is unlocked, kept, Uptodate",
        "the same in a fault that has kept its lock: the page is handed over locked, with no second lookup",
        "the same in a fault that has let go of its lock: it is tried again, and nothing is read twice",
        "the same in readahead by a store that has no operation for that: no page of the window stays locked",
        "the same inside write_begin: the page is handed on locked",
        "0, and the read has ended before readpage returns: no deadlock, one copy",
        "0, and the read ends later: who waits holds no page lock",
        "an error: it reaches the reader unchanged; the page is unlocked and not Uptodate",
        "an asynchronous error: its reader hears it, and his readahead becomes small",
        "good pages before a bad one: they are read, then the error is raised",
        "a page that failed once is read again, and right",
        "AOP_TRUNCATED_PAGE: looked up and locked anew for each try",
        "the same, and the page was removed meanwhile: another is read",
        "the same in a fault: it is tried again, never SIGBUS",
        "the same in read_cache_page: it is tried again",
    ],
    "Concurrent reads": [
        "two readers of one missing page: one fetch",
        "readers of a page whose readahead fails: each tries once, in turn, and the first success serves the rest",
        "who gets the lock of a page that was filled meanwhile does not read it again",
        "an interrupted reader returns; the fetch ends and unlocks",
        "NOWAIT does not block, NOIO starts nothing",
        "what has come of a run is read while the rest is on its way",
    ],
    "The end of the file, and truncation": [
        "a file that ends within a page: its bytes, then zeros to the end of the page, then nothing",
        "a file that becomes shorter during a read: no bytes beyond the new end",
        "a file that becomes longer during a read: zeros perhaps, garbage never",
        "a page that was removed before its lock came is looked up again, and not touched",
        "truncation waits for a read, and then removes",
        "what was cut off within a dirty page reads as zeros when the file grows",
        "the cut of a page under write-back waits for its end",
        "a dirty page that was cut off is never stored, and counts no more",
        "a fault that waits while the file is cut looks at the size again",
        "a page that a mapping shows is cut off",
        "a hole within one page zeros its range only",
        "a page that a reader brings while a hole is made is gone afterwards",
        "a write that waits while its page is cut off leaves no dirty page outside the file",
    ],
    "Invalidation, direct I/O, reclaim": [
        "invalidate_mapping_pages skips what is in use, and never waits",
        "invalidate_inode_pages2 waits for a page that is being read, and removes it",
        "a dirty page that cannot be laundered stays, and is reported",
        "a read that failed and was invalidated is looked up again",
        "what was written directly is read through the cache",
        "reclaim takes only what is clean and not in use, and leaves a shadow",
        "a page that comes back soon is kept longer: here by S3-FIFO's ghost queue, not by distances",
    ],
    "Readahead": [
        "windows as in Linux's table; a marker fires once",
        "an error of what is ahead is nobody's until he reads it",
        "what the operation leaves of a window is unlocked, and had later",
        "nothing beyond the end is asked for",
        "random reads cost themselves; interleaved streams are each read ahead",
        "a fault reads around it; many misses stop that, hits count back down",
    ],
    "Writing, write-back, fsync": [
        "a write into a part of a missing page keeps the bytes around it, and is not overwritten by a read",
        "a copy that fails leaves no page of garbage",
        "a write that makes the file longer while its page is stored",
        "what lies behind the end is stored as nothing, and reads as zeros",
        "a page that becomes dirty while it is stored is stored again",
        "fsync ends though others go on writing",
        "an error of write-back is told once to each open file",
        "all pages are attempted, and the first error is told",
        "a page that is declined stays dirty, is unlocked once, and is no error",
        "a page that was cut off before it was locked is passed over",
        "nothing is left: no lock, no pin, no waiter, no dirty page",
    ],
}
OTHER_PROOFS = {
    43: [
        "tests/mm/test_lru.py::test_a_page_evicted_lately_comes_back_into_main",
        "tests/contract/test_invalidate_and_reclaim.py::test_item_42_an_evicted_page_leaves_a_shadow",
        "tests/contract/test_invalidate_and_reclaim.py::test_item_42_a_dropped_page_leaves_none",
    ]
}
"""Where what is promised instead is tested."""


@cache
def functions(path: str) -> frozenset[str]:
    """The test functions of a file, by their names."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def proofs() -> dict[int, list[str]]:
    """By number of the clause: the tests, as pytest calls them."""
    found: dict[int, list[str]] = {number: list(tests) for number, tests in OTHER_PROOFS.items()}
    for path in sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py")):
        for name in sorted(functions(path)):
            if match := re.match(r"test_item_(\d+)_", name):
                found.setdefault(int(match[1]), []).append(f"{path}::{name}")
    return found


def of_the_kit() -> dict[int, list[str]]:
    """By number of the clause: those of a store behind which it stands, by their numbers in store-clauses.md."""
    found: dict[int, list[str]] = {}
    for section in re.split(r"^### ", STORE_CLAUSES.read_text(), flags=re.MULTILINE)[1:]:
        for told in re.findall(r"\(Linux: clauses? ([^)]*)\)", section):
            for number in map(int, re.findall(r"\d+", told)):
                found.setdefault(number, []).append(section.split(maxsplit=1)[0])
    return found


def page() -> str:
    """docs/reference/clauses.md."""
    lines = [
        "# The clauses of the contract, and what proves them",
        "",
        "What Linux's page cache does, one clause each, as pagein keeps it; where it does something else on purpose,",
        "[differences from Linux](../differences-from-linux.md) says what. What users are promised:",
        "[semantics](../explanation/semantics.md). Where a store has its part in one, it is held to the",
        "[clauses of a store](store-clauses.md) that are named, by `pagein check` and `ContractSuite`.",
        "(This page is written by `python -m tests.clauses`.)",
    ]
    number, found, of_stores = 0, proofs(), of_the_kit()
    for title, clauses in CLAUSES.items():
        lines += ["", f"## {title}", ""]
        for clause in clauses:
            number += 1
            links = ", ".join(f"[{one}](store-clauses.md#{one.lower()})" for one in of_stores.get(number, []))
            lines.append(f"{number}. {clause}." + (f" (A store: {links}.)" if links else ""))
            lines += [f"   `{test}`" for test in found[number]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
