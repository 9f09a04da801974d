"""Time that passes only when everybody waits: in no time, and the same each time; nothing that hangs goes unsaid."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from functools import partial

import pytest

from pagein import PageCache
from pagein.testing import VirtualClock
from pagein.testing.schedule import Deadlock, Stuck
from pagein.units import PAGE_SIZE


def test_the_caller_and_those_beside_him_wait_at_one_time() -> None:
    def nap(delay_s: float) -> float:
        clock.sleep(delay_s)
        return clock.now_s()

    with VirtualClock() as clock:
        clock.sleep(1000)
        assert clock.together(lambda: nap(30), lambda: nap(20), lambda: nap(0)) == [1030, 1020, 1000]
        assert clock.now_s() == 1030


def test_an_error_is_raised_when_all_have_ended() -> None:
    def fail() -> float:
        raise KeyError("first")

    with VirtualClock() as clock:
        with pytest.raises(KeyError, match="first"):
            clock.together(lambda: clock.sleep(5), fail)
        assert clock.now_s() == 5


def test_a_lock_or_a_waiter_of_which_nobody_lets_him_go_is_a_deadlock_and_not_a_test_that_hangs() -> None:
    with VirtualClock() as clock, clock.lock() as _:
        with pytest.raises(Deadlock, match="the test, which waits for a waiter that nobody has woken"):
            clock.waiter().wait()
        waiters = [clock.waiter(), clock.waiter()]
        with pytest.raises(Deadlock, match="call 1, which waits for"):
            clock.together(waiters[0].wake, waiters[1].wait)
        clock.sleep(1)  # and it goes on


def test_a_lock_that_is_never_given_back_is_a_deadlock() -> None:
    with VirtualClock() as clock:
        lock = clock.lock()
        with lock, pytest.raises(Deadlock), lock:
            pass


def test_what_fails_in_the_background_is_raised_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise KeyError("of a worker")

    with VirtualClock() as clock:
        clock.start_thread("worker", fail)
        with pytest.raises(KeyError, match="of a worker"):
            clock.sleep(1)


def test_who_waits_past_the_clock_is_stuck_and_said_to_be() -> None:
    never = threading.Event()
    with pytest.raises(Stuck, match=r"call 0, which runs in .*run, line"), VirtualClock(stuck_s=0.05) as clock:
        try:
            clock.together(never.wait)
        finally:
            clock.sleep(1)  # as whatever cleans up may wait
    never.set()


def test_ctrl_c_while_another_runs_ends_the_test() -> None:
    done = threading.Event()

    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        done.wait(10)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job

    with pytest.raises(KeyboardInterrupt), VirtualClock() as clock, PageCache(4 * PAGE_SIZE, door=clock):
        clock.together(interrupt)
    signal.signal(signal.SIGINT, before)
    done.set()


def test_a_clock_is_used_once() -> None:
    clock = VirtualClock()
    with clock:
        clock.sleep(1)
        with pytest.raises(RuntimeError, match="a VirtualClock is used once"), clock:
            pass
        clock.sleep(1)
    with pytest.raises(RuntimeError, match="a VirtualClock is used once: make another one"), clock:
        pass
    assert clock.now_s() == 2


def test_no_thread_outlives_the_clock() -> None:
    before = set(threading.enumerate())
    with VirtualClock() as clock:
        for _ in range(3):
            clock.start_thread("worker", partial(clock.sleep, 100))
        clock.sleep(1)
    assert not set(threading.enumerate()) - before


def test_a_program_whose_cache_was_closed_while_pages_were_on_their_way_ends_in_silence() -> None:
    """They never come, as time has ended: whoever waits for them is let go of when the interpreter ends."""
    program = """
from pagein import PageCache
from pagein.testing import Link, SimulatedStore, VirtualClock
with VirtualClock() as clock:
    store = SimulatedStore({"a": 64 << 20}, Link(latency_s=0.1, bandwidth_bytes_s=1e8), clock=clock)
    with PageCache("64 MiB", door=clock) as cache, cache.open((store, "a")) as file:
        for _ in range(8):
            assert len(file.read(1 << 20)) == 1 << 20
        assert cache.stats().requests_in_flight
"""
    command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
