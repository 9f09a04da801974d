"""Mistakes of writing."""

from tests.mutants.mutation import mutation

WRITING = [
    mutation(
        "rwsem", "writes go the short way while somebody waits for i_rwsem",
        "            mapping.short_writes = False\n            if not mapping.rwsem_held:\n",
        "            if not mapping.rwsem_held:\n",
        "mm/test_interleavings_of_writes.py::test_two_who_append_lose_nothing_of_one_another",
    ),
    mutation(
        "rwsem", "an interrupted waiter keeps the lock that it was just handed",
        "                self.release()\n            raise\n",
        "                pass\n            raise\n",
        "mm/test_rwsem.py::test_who_is_interrupted_leaves_the_lock_to_the_next",
    ),
    mutation(
        "rwsem", "who is handed the lock is not told that it may go on",
        "            mapping.zone.workqueue.kick_if_possible()\n",
        "            pass\n",
        "mm/test_rwsem.py::test_steps_that_wait_without_a_thread_go_on_when_the_lock_is_theirs",
    ),
    mutation(
        "rwsem", "a store called by who holds it may wait for it",
        "return isinstance(holder, Holder) and holder.is_here",
        "return False",
        "file/test_finalizers.py::test_what_is_collected_inside_the_core_waits_for_nothing_and_is_written",
    ),
    mutation(
        "workqueue", "a worker may be waited for by a finalizer on its thread",
        "        with inside():  # between any two lines it may have what others wait for\n",
        "        if True:\n",
        "file/test_finalizers.py::test_a_thread_of_ours_is_inside_the_core_from_its_start_to_its_end",
    ),
    mutation(
        "flusher", "the flusher may be waited for by a finalizer on its thread",
        "            with inside():  # who waits for room waits for this thread\n",
        "            if True:\n",
        "file/test_finalizers.py::test_a_thread_of_ours_is_inside_the_core_from_its_start_to_its_end",
    ),
    mutation(
        "filemap", "a finalizer inside the core waits for a page",
        "                elif is_inside():\n",
        "                elif False:\n",
        "file/test_finalizers.py::test_a_finalizer_that_asks_for_what_cannot_be_noted_is_told",
    ),
    mutation(
        "flusher", "it goes round and round while another pass stores all that is dirty",
        "            if failure is None and _is_on_its_way(mapping):\n",
        "            if False:\n",
        "mm/test_waiting_for_the_store.py::test_the_flusher_rests_while_another_stores_all_that_is_dirty",
    ),
    mutation(
        "flusher", "what another stores is taken for all that is dirty if it is as much",
        "    return all(all(map(stored.__contains__, range(first, first + count))) for first, count in runs)\n",
        "    return bool(runs)\n",
        "mm/test_waiting_for_the_store.py::"
        "test_the_flusher_goes_on_with_what_has_become_dirty_though_another_stores_something_else",
    ),
    mutation(
        "flusher", "who has kicked while another could not start the flusher waits for ever",
        "                _wake_waiters(zone)  # who has kicked meanwhile took it for one that runs: he tries it himself\n",
        "",
        "mm/test_waiting_for_the_store.py::test_who_kicked_while_another_could_not_start_the_flusher_tries_it_himself",
    ),
    mutation(
        "flusher", "after a mistake of ours files count as busy for ever",
        "                self._busy.difference_update(due[begun:])\n",
        "                pass\n",
        "mm/test_waiting_for_the_store.py::"
        "test_files_of_which_no_pass_was_begun_after_a_mistake_of_ours_do_not_count_as_busy",
    ),
    mutation(
        "sync", "a store's code is taken for a finalizer's",
        "        HERE.depth, HERE.calling = STORE * (len(calling) + 1), (*calling, what)",
        "        HERE.calling = (*calling, what)",
        "file/test_finalizers.py::test_a_store_that_writes_another_file_is_no_finalizer",
    ),
    mutation(
        "rwsem", "last come, first served",
        "next(iter(mapping.rwsem_waiters), None)\n            mapping.rwsem_waiters = mapping.rwsem_waiters[1:]\n",
        "next(reversed(mapping.rwsem_waiters), None)\n            mapping.rwsem_waiters = mapping.rwsem_waiters[:-1]\n",
        "mm/test_rwsem.py::test_first_come_first_served",
    ),
    mutation(
        "write", "the end of the file is read before the lock of who appends",
        "    mapping = file.mapping\n    yield from mapping.i_rwsem.acquire_steps(make_waiter)\n    try:\n"
        "        require_open(file)\n        start = mapping",
        "    mapping = file.mapping\n    offset = mapping.i_size if offset is None else offset\n"
        "    yield from mapping.i_rwsem.acquire_steps(make_waiter)\n    try:\n"
        "        require_open(file)\n        start = mapping",
        "mm/test_interleavings_of_writes.py::test_two_who_append_lose_nothing_of_one_another",
    ),
    mutation(
        "write", "who writes a part of a page does not look again what the store has, once he has its lock",
        "        if page.uptodate or _is_covered(mapping, index, offset, stop):\n",
        "        if True:\n",
        "contract/test_write.py::test_item_50_a_page_that_the_store_has_by_the_time_that_its_lock_comes_is_read",
    ),
    mutation(
        "write", "a write into a cache that was closed meanwhile returns as if it were stored one day",
        "        if mapping.zone.closed:\n            raise closed_cache()\n",
        "",
        "mm/test_interleavings_of_closing.py::test_a_write_whose_own_store_closes_the_cache_is_told_so",
    ),
    mutation(
        "write", "a write within the file cuts off what lies behind",
        "        mapping.i_size = max(mapping.i_size, stop)\n",
        "        mapping.i_size = stop\n",
        "contract/test_write.py::test_item_50_the_bytes_around_a_write_are_kept",
    ),
    mutation(
        "write", "the last page of a long write is not read, of which a part is written",
        "            covered = stop_index - index - (not _is_covered(mapping, stop_index - 1, offset, stop))\n",
        "            covered = stop_index - index\n",
        "contract/test_write.py::test_item_07_an_error_after_some_bytes_comes_after_them",
    ),
    mutation(
        "write", "leave to make pages dirty is not given back if they cannot be locked",
        "            if granted:\n                dirty.give_back(granted)\n            if done",
        "            if done",
        "contract/test_write.py::test_item_07_a_read_inside_a_write_that_fails_reaches_the_writer_unchanged",
    ),
    mutation(
        "write", "what an interrupted write has left behind the end becomes the file's",
        "    if offset > mapping.i_size and len(data):\n",
        "    if False:\n",
        "contract/test_write.py::test_item_50_a_gap_after_a_write_that_was_interrupted_is_zeros",
    ),
    mutation(
        "write", "a budget is granted and not counted",
        "        zone.dirty.pages += max(0, budget - mapping.dirty_budget)\n",
        "",
        "mm/test_interleavings_of_writes.py::test_short_writes_and_write_back_of_their_page",
    ),
    mutation(
        "dirty", "a store waits for room that what it is storing takes",
        "                stores = zone.is_storing_here()",
        "                stores = False",
        "mm/test_dirty_limits.py::"
        "test_a_store_that_writes_to_another_file_while_it_stores_does_not_wait_for_what_it_stores",
    ),
    mutation(
        "dirty", "a budget is taken back, and its writer keeps it",
        "page_count, mapping.dirty_budget = mapping.dirty_budget, 0\n",
        "page_count = mapping.dirty_budget\n",
        "mm/test_interleavings_of_writes.py::test_a_budget_that_is_used_while_it_is_recalled",
    ),
    mutation(
        "write", "whoever makes dirty what another waits for does not say so",
        "    if is_first or is_waited_for:\n        _tell_flusher(mapping.zone, is_waited_for=is_waited_for)\n",
        "    if is_first:\n        _tell_flusher(mapping.zone, is_waited_for=False)\n",
        "mm/test_waiting_for_the_store.py::test_a_writer_waits_for_leave_until_that_of_another_has_become_dirty",
    ),
    mutation(
        "dirty", "pages that failed are not counted as dirty again",
        "            self.pages += page_count\n            self.failed(mapping, error)\n",
        "            self.failed(mapping, error)\n",
        "mm/test_interleavings_of_writes.py::test_short_writes_and_a_write_back_that_fails",
    ),
    mutation(
        "dirty", "a failure wakes nobody who waits for room",
        "        mapping.last_failure = self.last_failure = error\n        self._wake(everybody=True)\n",
        "        mapping.last_failure = self.last_failure = error\n",
        "mm/test_waiting_for_the_store.py::test_a_writer_at_the_limit_hears_why_nothing_could_be_stored",
    ),
    mutation(
        "dirty", "a store that declines wakes nobody who waits for room",
        "        self._wake(everybody=True)  # who waits for just these",
        "        pass  # who waits for just these",
        "mm/test_waiting_for_the_store.py::test_a_writer_at_the_limit_has_it_tried_again_if_the_store_declines",
    ),
    mutation(
        "dirty", "who is interrupted while he is slowed down keeps his leave",
        "                    if granted:\n                        self.give_back(granted)\n                    raise\n",
        "                    raise\n",
        "mm/test_waiting_for_the_store.py::test_who_is_interrupted_while_he_is_slowed_down_gives_his_leave_back",
    ),
    mutation(
        "dirty", "a writer at the limit is woken in vain again and again while a store is slow",
        "if entry.has_leave and entry.mapping not in busy]",
        "if entry.mapping not in busy]",
        "mm/test_waiting_for_the_store.py::test_a_writer_at_the_limit_waits_until_something_has_been_stored",
    ),
    mutation(
        "flusher", "who waits for what another is storing is woken in vain again and again",
        "            if not (self._busy or zone.dirty.writeback_pages):\n",
        "            if not self._busy:\n",
        "mm/test_waiting_for_the_store.py::test_a_reader_waits_for_memory_until_what_is_in_it_has_been_stored",
    ),
]  # fmt: skip
