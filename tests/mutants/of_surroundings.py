"""Mistakes of workers, stores, forks, and of what checks the locks."""

from tests.mutants.mutation import mutation

SURROUNDINGS = [
    # -- workers and interrupts --------------------------------------------------------------------------------
    mutation(
        "workqueue", "a worker does not look at the line again after it has said that it is idle",
        "            if (self._queued or self._closed) and self._is_idle_no_more(waiter):\n                continue\n",
        "",
        "mm/test_workqueue.py::test_work_that_comes_before_the_only_worker_says_that_it_is_idle_is_done",
    ),
    mutation(
        "workqueue", "a worker ends that somebody has just woken",
        "            if not is_woken and self._is_idle_no_more(waiter):\n",
        "            if not is_woken:\n",
        "mm/test_workqueue.py::test_work_that_comes_as_a_worker_gives_up_is_done",
    ),
    mutation(
        "workqueue", "a worker that ends leaves work to nobody",
        "            self._vacancies.append(number)\n            self.kick()  #",
        "            self._vacancies.append(number)  #",
        "mm/test_workqueue.py::test_work_that_comes_before_the_only_worker_is_gone_is_done",
    ),
    mutation(
        "workqueue", "work stays in the line whose caller was interrupted before he told anybody",
        "            self.kick()  # the signal may have come after",
        "            pass  # the signal may have come after",
        "mm/test_workqueue.py::test_work_is_done_whose_caller_is_interrupted_before_he_has_told_anybody",
    ),
    mutation(
        "workqueue", "the token of an errand is not given back",
        "            self._to_lend.append(token)\n",
        "            pass\n",
        "mm/test_workqueue.py::test_workers_are_left_while_errands_take_for_ever",
    ),
    mutation(
        "workqueue", "steps go on when the first of two has come to their appointment",
        "        if not self._once.is_first():\n            self._detached.resume()\n",
        "        if self._once.is_first():\n            self._detached.resume()\n",
        "mm/test_workqueue.py::test_steps_go_on_when_they_are_woken_and_not_before",
    ),
    mutation(
        "workqueue", "a change that was called off is made all the same",
        "        if not outcome.is_to_begin():  # it was called off\n            return\n",
        "",
        "file/test_writers_interrupted.py::"
        "test_a_change_that_was_interrupted_before_it_began_is_not_made_after_a_later_one",
    ),
    mutation(
        "outcome", "what comes for a caller who was interrupted is not given back",
        "            self.done.wake()\n        else:\n            self._give_back()\n",
        "            self.done.wake()\n",
        "mm/test_interleavings_of_waits.py::test_ctrl_c_in_shielded_gives_back_what_the_work_returns",
    ),
    mutation(
        "outcome", "what has come for a caller who was interrupted is not given back",
        "        if not self._once.is_first():\n            self._give_back()\n",
        "        self._once.is_first()\n",
        "mm/test_workqueue.py::test_interrupted_after_the_work_is_done",
    ),
    mutation(
        "outcome", "work that failed is given back",
        "        if self._undo and self.error is None:\n",
        "        if self._undo:\n",
        "mm/test_workqueue.py::test_work_that_failed_has_nothing_to_give_back",
    ),
    mutation(
        "outcome", "a change overtakes one whose caller was interrupted",
        "    waiter = make_waiter()\n    outcome.waiters.append(waiter)\n",
        "    return\n    waiter = make_waiter()\n    outcome.waiters.append(waiter)\n",
        "file/test_writers_interrupted.py::"
        "test_a_change_that_was_interrupted_when_it_had_begun_is_made_before_the_next",
    ),
    mutation(
        "outcome", "whether a change has settled is not looked at again before waiting for it",
        "    if not (outcome.has_settled and _took(outcome.waiters, waiter)):\n        yield waiter\n",
        "    yield waiter\n",
        "mm/test_workqueue.py::test_a_change_that_settles_as_the_next_one_gets_in_line_is_not_waited_for",
    ),
    mutation(
        "zone", "who waits for memory is not told that the cache was closed",
        "        while self.memory_waiters:\n            self.wake_memory_waiter()\n",
        "",
        "mm/test_reclaim.py::test_memory_of_a_closed_cache_is_not_given",
    ),
    mutation(
        "zone", "who waits for what is given up is not told",
        "            self._discarders += 1  # under the lock: whoever has looked before is among those who wait\n",
        "",
        "mm/test_interleavings_of_closing.py::"
        "test_a_close_that_discards_tells_a_writer_who_waits_for_what_a_store_declines",
    ),
    # -- what a store is, and how much is asked of it ----------------------------------------------------------
    mutation(
        "aops", "a code of readpage may be taken for a count of bytes",
        "AOP_UPDATED_PAGE = 0x80002\n",
        "AOP_UPDATED_PAGE = 2\n",
        "contract/test_return_contract.py::test_item_01_the_code_is_never_a_byte_count",
    ),
    mutation(
        "aops", "each file has a line of its own before the store",
        "        return id(type(self))\n",
        "        return id(self)\n",
        "device/test_line.py::test_two_files_of_one_store_take_turns",
    ),
    mutation(
        "aops", "a store that says nothing of it has laundered what is dropped",
        "        Locks: page locked, on return too.  Blocks: yes.  Raises: OSError, and it stays.\n        \"\"\"\n        return False\n",
        "        Locks: page locked, on return too.  Blocks: yes.  Raises: OSError, and it stays.\n        \"\"\"\n        return True\n",
        "contract/test_direct.py::test_item_39_a_dirty_page_is_not_dropped_and_the_others_are",
    ),
    mutation(
        "pipe", "a fetch that failed is in flight for ever",
        "        self.in_flight -= 1\n        if not size_bytes:\n            return\n",
        "        if not size_bytes:\n            return\n        self.in_flight -= 1\n",
        "mm/test_pipe.py::test_an_error_is_one_less_in_flight_and_no_more",
    ),
    mutation(
        "pipe", "the window stays what it is before anything is known",
        "        return int(min(window, WINDOW_BYTES_MAX, share_bytes))\n",
        "        return int(min(WINDOW_BYTES_START, share_bytes))\n",
        "mm/test_pipe.py::test_within_8_fetches_a_pipe_that_they_fill_is_known_and_window_pieces_and_width_with_it",
        "mm/test_pipe.py::test_a_pipe_that_8_fetches_do_not_fill_has_a_longer_window_by_then_and_one_that_holds_it_within_32",
        "mm/test_pipe.py::test_a_pipe_of_hundreds_of_mib_has_a_window_that_holds_it_late_and_is_never_filled",
        "testing/test_simulated.py::"
        "test_within_8_fetches_the_window_is_what_the_pipe_asks_for_and_never_longer_than_its_share",
    ),
    mutation(
        "pipe", "what was under way when a round began counts for it",
        "        is_whole = start.at_s >= self._round_at_s  #",
        "        is_whole = True  #",
        "mm/test_pipe.py::test_the_window_stays_a_few_pipes_long",
    ),
    mutation(
        "pipe", "a pause of the reader counts as the store's",
        "        if not self.in_flight:  # nothing",
        "        if False:  # nothing",
        "mm/test_pipe.py::test_a_pause_of_the_reader_is_not_the_store_s",
    ),
    mutation(
        "pipe", "requests that slow each other are more and more",
        "            is_alone = rate_bytes_s >= ALONE * self.stream_bytes_s\n",
        "            is_alone = True\n",
        "mm/test_pipe_start.py::test_where_requests_share_a_bandwidth_they_stay_few",
    ),
    mutation(
        "pipe", "one that comes as if alone is no reason for another",
        "            if self._is_growing:\n",
        "            if False:\n",
        "mm/test_pipe_start.py::test_each_that_comes_as_if_alone_is_one_more_up_to_the_most",
        "testing/test_simulated.py::test_of_a_store_whose_connections_are_slow_many_are_asked_at_once",
    ),
    mutation(
        "pipe", "who asks for little at once is taken for a store that takes more",
        "        if crowd >= CROWD * self.width:\n",
        "        if True:\n",
        "mm/test_pipe_start.py::test_a_reader_who_asks_for_little_at_once_is_no_reason_for_more",
    ),
    mutation(
        "pipe", "after the start there are as many requests as were too many",
        "                    self._proved_width = min(self._proved_width, self._enough(sum(self._slowed_rates) / FULL_FETCHES))\n",
        "                    pass\n",
        "mm/test_pipe_start.py::test_then_there_are_half_as_many_again_as_it_takes_to_bring_what_they_brought",
    ),
    mutation(
        "known", "each cache begins without what another has seen of one connection",
        "        pipe.begin_with(self._stream_bytes_s, self._pipe.several_bytes_s)\n",
        "",
        "mm/test_known.py::test_a_cache_is_told_what_one_connection_has_brought_another",
    ),
    mutation(
        "rest", "the pipe is not told what one connection has brought",
        "                self._device.pipe.streamed(self._stream_bytes_s)\n",
        "                pass\n",
        "mm/test_rest_measured.py::test_the_pipe_is_told_with_the_first_part_what_one_connection_brings",
    ),
    mutation(
        "populate", "memory is had beyond what was asked for",
        "stop - start, _MADV_POPULATE_WRITE)",
        "stop, _MADV_POPULATE_WRITE)",
        "mm/test_populate.py::test_it_is_no_more_than_was_asked_for_and_zeros",
    ),
    mutation(
        "victims", "a page that was hit in small leaves from there",
        "        if small.referenced:\n",
        "        if small.referenced and small.read_ahead:\n",
        "mm/test_reclaim.py::test_pages_that_are_used_again_outlive_a_scan",
    ),
    mutation(
        "victims", "what was read ahead for nobody is spared again and again",
        " and not small.spared else",
        " else",
        "mm/test_reclaim.py::test_s3fifo",
    ),
    mutation(
        "victims", "small may fill the cache",
        "occupancy.small_pages > occupancy.cap_pages // SMALL_SHARE",
        "occupancy.small_pages > occupancy.cap_pages",
        "mm/test_reclaim.py::test_pages_that_are_used_again_outlive_a_scan",
    ),
    mutation(
        "openfile", "who opens a file is told what another has heard before",
        "            self.wb_seen: Since = mapping.wb_err.sample()\n",
        "            self.wb_seen: Since = 0\n",
        "contract/test_fsync_errors.py::test_item_56_a_file_that_was_opened_after_somebody_had_heard_hears_nothing",
    ),
    mutation(
        "openfile", "who has just opened a file is lent nothing",
        "        self.ra_credit: int | None = None\n",
        "        self.ra_credit: int | None = 0\n",
        "mm/test_readahead.py::test_item_44_a_marker_is_hit_once_and_asks_for_the_next_window",
    ),
    # -- fork --------------------------------------------------------------------------------------------------
    mutation(
        "fork", "what a view shows is not there in a child",
        "                if uptodate:\n",
        "                if False:\n",
        "test_fork.py::test_a_view_shows_the_same_bytes_in_both_after_a_fork",
    ),
    mutation(
        "fork", "the parent keeps the lock of a cache",
        "            zone.lock.__exit__(None, None, None)\n        held.leave(None)\n",
        "            pass\n        held.leave(None)\n",
        "test_fork.py::test_a_child_reads_every_byte_through_an_empty_cache_and_the_parent_keeps_its_own",
    ),
    mutation(
        "fork", "who forks under the lock of a cache has it no more",
        "        if takes and zone.lock.held_here():\n",
        "        if zone.lock.held_here():\n",
        "test_fork.py::test_who_forks_under_a_lock_of_ours_has_it_still",
    ),
    mutation(
        "mapping", "pages that were made ready wake nobody who waits for memory",
        "                self.zone.wake_memory_waiter()  # what was reserved has become pages that may be evicted\n",
        "",
        "mm/test_waiting_for_the_store.py::test_a_reader_waits_for_memory_that_somebody_who_appends_makes_ready",
    ),
    mutation(
        "fork", "a child goes on with its parent's pages",
        "            zone.start_anew()\n",
        "            pass\n",
        "test_fork.py::test_a_child_keeps_nothing_of_its_parents_memory_open",
    ),
    mutation(
        "fork", "a child holds what the thread that forked had locked",
        "    held.start_anew()\n",
        "",
        "mm/test_lock_order.py::test_in_a_child_of_a_fork_nothing_is_held",
    ),
    # -- the checks of locks -----------------------------------------------------------------------------------
    mutation(
        "held", "a lock that is taken under itself is not seen where another's operation lies between",
        "        elif hold.lock is lock and _is_held(hold):\n",
        "        elif hold.lock is lock and not is_below and _is_held(hold):\n",
        "mm/test_lock_order.py::test_the_very_same_lock_is_found_across_an_operation",
    ),
    mutation(
        "held", "two of one kind pass under one another",
        "(rank.nests and rank is hold.rank)",
        "rank is hold.rank",
        "mm/test_lock_order.py::test_locks_of_two_caches_are_not_taken_under_one_another",
    ),
    mutation(
        "held", "a lock that was released counts as held",
        "        released(self)\n        super().__exit__(kind, error, trace)\n",
        "        super().__exit__(kind, error, trace)\n",
        "mm/test_lock_order.py::test_locks_are_taken_in_the_order_of_the_tree_only",
    ),
    mutation(
        "held", "two files in both orders pass, if a third lies between",
        "        paths += [(after, [*path, order]) for after, order in list(_orders.get(node, {}).items())]\n",
        "        paths += [(after, [order]) for after, order in list(_orders.get(node, {}).items()) if after is goal]\n",
        "mm/test_lock_order.py::test_stores_that_read_each_other_s_files_are_found_before_they_meet",
    ),
    mutation(
        "held", "a store's operation is compared with what its caller holds",
        "        if hold.rank is None:\n            is_below = True\n",
        "        if hold.rank is None:\n            continue\n",
        "mm/test_lock_order.py::test_a_store_takes_any_lock_of_another_cache_whatever_its_caller_holds",
    ),
    mutation(
        "held", "a signal in a checked dirty_lock leaves it taken",
        "            if self._is_owned():\n                self.__exit__(None, None, None)\n            raise\n",
        "            raise\n",
        "mm/test_lock_order.py::test_a_signal_in_a_checked_dirty_lock_leaves_it_free",
    ),
    mutation(
        "debug", "page locks in descending order pass",
        "            elif page.index + page.page_count > index and (",
        "            elif page.index <= index < page.index + page.page_count and (",
        "contract/test_debug_mode.py::test_page_locks_are_taken_in_ascending_order",
    ),
    mutation(
        "debug", "a page is unlocked that another has locked",
        "        if page.owner not in (None, here) and page not in self._in_operation:\n",
        "        if False:\n",
        "contract/test_debug_mode.py::test_a_page_that_another_has_locked_is_not_unlocked",
    ),
    mutation(
        "debug", "a store is called under a short lock",
        "            if not hold.rank.across_waits:\n                raise held",
        "            if False:\n                raise held",
        "mm/test_lock_order.py::test_no_store_is_called_under_a_short_lock",
    ),
    mutation(
        "debug", "a store is called with pages under write-back that must not be",
        "        if stored:\n            clause",
        "        if False:\n            clause",
        "mm/test_lock_order.py::test_an_operation_is_called_with_what_the_table_says",
    ),
    mutation(
        "lockorder", "memory is waited for under a page lock",
        "    (ZONE_LOCK,),\n    across_waits=True,\n    nests=True,  # in which order",
        "    (ZONE_LOCK, MEMORY),\n    across_waits=True,\n    nests=True,  # in which order",
        "mm/test_lock_order.py::test_nothing_but_the_zone_s_lock_and_below_is_taken_under_a_page_lock",
    ),
    mutation(
        "lockorder", "a store may be called under the zone's lock",
        'no store code under it", (DIRTY_LOCK,))\n',
        'no store code under it", (DIRTY_LOCK,), across_waits=True)\n',
        "mm/test_lock_order.py::test_no_store_is_called_under_a_short_lock",
    ),
    mutation(
        "locking", "a hole may be made without i_rwsem",
        '    Held.YES,\n    _LONG,\n    "who makes the hole",\n',
        '    Held.MAY,\n    _LONG,\n    "who makes the hole",\n',
        "mm/test_lock_order.py::test_an_operation_is_called_with_what_the_table_says",
    ),
    mutation(
        "locking", "a page may be laundered that nobody has locked",
        '"who drops the pages", locked=True, stores=True\n',
        '"who drops the pages", stores=True\n',
        "mm/test_lock_order.py::test_an_operation_is_called_with_what_the_table_says",
    ),
]  # fmt: skip
