"""An exerciser of files, in the spirit of fsx: random operations against a model, and against a real local file.

    python -m pagein.testing.fsx --seed 1 --ops 100000 --threads 4 --cache-pages 16 --store local

Guarantees: what it reports is a difference: a byte, a size or an error that no order of the operations explains.
With it comes the seed, and a list of operations, shortened, that `--replay` runs again.
How the model stays exact with several threads: each thread owns byte ranges (`Plan.cuts`; they cut through pages)
and writes only there, so that what it reads there is exactly what it wrote last.  A size that another thread may be
changing is known by its bounds; operations.py says which operations may run at the same time.
With the stores `failing` and `failing-whole` calls of the store fail now and then, perhaps after it took a part; who
made them tries again, and then all must be as if nothing had failed.
Assumes: nobody else writes to the file.
Not here: what is told of a failure, and to whom (tests/writing/test_state_machine.py).
"""

from .exerciser import Difference as Difference, Exerciser as Exerciser
from .operations import Op as Op, Plan as Plan, dumps as dumps, generate as generate, loads as loads
from .rounds import exercise as exercise, replay as replay, shortened as shortened
from .subjects import CachedFile as CachedFile, Handle as Handle, PlainFile as PlainFile, Subject as Subject
