"""A deterministic scheduler, for a cache and for whatever takes its threads, locks and waits from a `Door`.

    def scenario(scheduler):
        cache = PageCache(8192, door=scheduler)
        scheduler.spawn("reader", lambda: check(file.pread(4096, 0)))
        scheduler.spawn("evictor", lambda: file.advise("dontneed"))
        scheduler.run()
        assert ...

    explore_all(scenario, preemptions_max=2)             # every order with at most two preemptions
    explore(scenario, seeds=range(1000))                 # beyond that, a random walk for each seed
    explore_pct(scenario, depth=3, seeds=range(1000))    # and PCT, with its bound
    replay(scenario, PCT(17, depth=3, points=212))       # what a failure says

Not here: the threads and the clock of the system (mm/sync.py).
"""

from ...mm.sync import Door as Door
from .explore import (
    Explored as Explored,
    FailedSchedule as FailedSchedule,
    Scenario as Scenario,
    Widened as Widened,
    explore as explore,
    explore_all as explore_all,
    explore_pct as explore_pct,
    explore_wider as explore_wider,
    replay as replay,
)
from .instructions import ByLine as ByLine, Preemptible as Preemptible
from .scheduler import (
    Deadlock as Deadlock,
    Livelock as Livelock,
    Scheduler as Scheduler,
    SchedulerError as SchedulerError,
    Strategy as Strategy,
    Stuck as Stuck,
    Task as Task,
)
from .strategies import PCT as PCT, Prescribed as Prescribed, RandomWalk as RandomWalk
