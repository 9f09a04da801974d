"""Mistakes that the core must not make, and the tests that catch them.

Guarantees: the old text of each stands in its file exactly once (tests/mutants/test_mutants.py), so that a change
of the core cannot make a mutation void without anybody hearing of it: then quote the new line.
Not here: running them (run.py).
"""

from tests.mutants.of_pages import PAGES
from tests.mutants.of_reading import READING
from tests.mutants.of_surroundings import SURROUNDINGS
from tests.mutants.of_write_back import WRITE_BACK
from tests.mutants.of_writing import WRITING

MUTATIONS = [*READING, *PAGES, *WRITING, *WRITE_BACK, *SURROUNDINGS]
