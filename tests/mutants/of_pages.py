"""Mistakes of a page's lock, its line, and what takes it away."""

from tests.mutants.mutation import mutation

PAGES = [
    # -- pages and their line ----------------------------------------------------------------------------------
    mutation(
        "page", "a page that was removed is uncharged twice",
        "        if not self.filled and not self.removed:\n",
        "        if not self.filled:\n",
        "contract/test_invalidate_and_reclaim.py::test_item_38_invalidation_waits_for_a_page_being_read_and_removes_it",
    ),
    mutation(
        "page", "an unlock does not wake who waits for memory",
        "            self._serve(wait)\n        self.bystanders.wake(self)\n        zone.wake_memory_waiter()\n",
        "            self._serve(wait)\n        self.bystanders.wake(self)\n",
        "mm/test_interleavings_of_waits.py::test_a_reader_waits_for_memory_or_hears_that_there_is_none",
    ),
    mutation(
        "page", "who stands in line for a page goes with the wrong part of its run",
        "                wait.page = head if wait.index < self.index else self\n",
        "                wait.page = self\n",
        "mm/test_readahead.py::test_a_waiter_goes_with_its_page_when_a_run_is_split",
    ),
    mutation(
        "page", "a waiter does not stay in line behind who gets the lock",
        "            wait.page = holder\n            holder._waits.append(wait)\n            return\n",
        "            pass\n",
        "mm/test_interleavings.py::test_a_page_lock_is_served_in_the_order_of_arrival",
    ),
    mutation(
        "page", "the end of write-back is told when the first piece has ended",
        "        if not self._pages_left:\n            if mapping",
        "        if True:\n            if mapping",
        "contract/test_writeback.py::test_item_57_fsync_waits_for_every_piece_of_a_run",
    ),
    mutation(
        "page", "the error of a piece is forgotten if the next succeeds",
        "        self.error = self.error or error\n",
        "        self.error = error\n",
        "contract/test_writeback.py::test_item_57_fsync_waits_for_every_piece_of_a_run",
    ),
    mutation(
        "page", "errseq is not advanced when write-back fails",
        "                mapping.set_error(error)\n",
        "",
        "contract/test_fsync_errors.py::test_item_56_two_files_that_were_open_before_hear_once_each",
    ),
    mutation(
        "page", "a page that could not be stored counts as clean, as in Linux",
        '                zone.counters["failed_writes"] += 1\n                mapping.mark_dirty(self.index, self.page_count)\n',
        '                zone.counters["failed_writes"] += 1\n',
        "contract/test_fsync_errors.py::test_item_56_two_files_that_were_open_before_hear_once_each",
    ),
    mutation(
        "page", "the end of write-back does not wake who waits for memory",
        "        zone.wake_memory_waiter()  # it may be evicted now\n",
        "",
        "mm/test_waiting_for_the_store.py::test_a_reader_waits_for_memory_until_what_is_in_it_has_been_stored",
    ),
    mutation(
        "page", "a page under write-back is not marked as such",
        "        self.mapping.arena.writeback[frame : frame + self.page_count] = ones(self.page_count)\n",
        "",
        "contract/test_writeback.py::test_a_page_that_is_stored_late_is_under_write_back_until_then",
    ),
    mutation(
        "wait", "an interrupted waiter keeps the lock that it was just handed",
        "            granted.owner = zone.door.thread_id()\n            granted.unlock()\n",
        "            pass\n",
        "mm/test_interleavings_of_waits.py::test_an_interrupted_wait_leaves_nothing_behind",
    ),
    mutation(
        "wait", "an interrupted waiter's reservation is not taken back",
        "        elif self.has_reservation:\n",
        "        elif False:\n",
        "mm/test_interleavings_of_waits.py::test_an_interrupted_wait_leaves_nothing_behind",
    ),
    mutation(
        "mapping", "the reservation for a page that was removed meanwhile is not taken back",
        "it up again\n                self.zone.uncharge(1, reserved=True)\n",
        "it up again\n                pass\n",
        "contract/test_eof_and_truncate.py::test_item_26_a_page_that_grew_while_it_came",
    ),
    mutation(
        "mapping", "who gives up stays in line for the lock, with a page of the cache",
        "                if wanting is not None:\n                    wanting.wait = wait\n",
        "",
        "aio/test_cancel.py::"
        "test_those_that_give_up_after_another_s_fetch_has_failed_leave_no_reservation_and_no_request",
    ),
    mutation(
        "mapping", "what was reserved and is not needed is not given back",
        "                absent = min(absent, rest.pages_from(index) or absent)\n"
        "            self.zone.uncharge(page_count - absent, reserved=True)\n",
        "                absent = min(absent, rest.pages_from(index) or absent)\n",
        "mm/test_reclaim.py::test_what_was_reserved_for_pages_that_are_here_by_now_is_given_back",
    ),
    mutation(
        "mapping", "pages are locked beyond an end that has moved meanwhile",
        "            stop_index = self.frame_count if beyond_end else self.page_count\n",
        "            stop_index = self.frame_count\n",
        "mm/test_readahead.py::test_a_window_that_is_cut_off_before_its_pages_are_locked_is_asked_for_no_more",
    ),
    mutation(
        "mapping", "a mark that a writer is about to take off is taken for a dirty page",
        "            for plane in (self.arena.dirty, self.arena.uptodate):\n",
        "            for plane in (self.arena.dirty,):\n",
        "contract/test_writeback.py::test_a_mark_on_a_page_that_has_gone_is_no_dirty_page",
    ),
    mutation(
        "mapping", "a writer's budget is forgotten, and not taken back, when his file is clean",
        "                    self.zone.dirty.given_back(self.dirty_budget)  # so",
        "                    pass  # so",
        "mm/test_interleavings_of_writes.py::test_a_budget_that_is_used_while_it_is_recalled",
    ),
    mutation(
        "sizes", "what is stored behind a cut counts as had by the store",
        "            end_bytes = min(end_bytes, self.size_owed)\n",
        "            pass\n",
        "contract/test_direct.py::"
        "test_what_is_stored_behind_a_cut_that_the_store_has_not_been_told_of_is_none_of_what_it_has",
        "mm/test_interleavings_of_writes.py::test_two_truncations_and_a_writer_while_the_store_is_told",
    ),
    mutation(
        "mapping", "a dirty file is suspended",
        "bool(self.under_writeback or self.dirty_pages or self.i_rwsem.held)",
        "bool(self.under_writeback or self.i_rwsem.held)",
        "contract/test_writeback.py::test_a_dirty_file_is_not_suspended",
    ),
    # -- removal and reclaim -----------------------------------------------------------------------------------
    mutation(
        "removal", "the generation changes before Uptodate is cleared",
        "    for arena, frame, count in runs:\n        arena.uptodate[frame : frame + count] = bytes(count)\n"
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n",
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n"
        "    for arena, frame, count in runs:\n        arena.uptodate[frame : frame + count] = bytes(count)\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[pread]",
    ),
    mutation(
        "removal", "the memory goes before the generation changes",
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n    removed_pages = 0\n",
        "    for arena, frame, count in runs:\n        arena.punch(frame, count)\n        arena.bump_generation(frame, count)\n"
        "    removed_pages = 0\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[pread]",
    ),
    mutation(
        "removal", "pins are read before Uptodate is cleared",
        "    for arena, frame, count in runs:\n        arena.uptodate[frame : frame + count] = bytes(count)\n"
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n    removed_pages = 0\n"
        "    pins = defaultdict(list) if pins_are_late else _pins_of(runs)\n",
        "    pins = defaultdict(list) if pins_are_late else _pins_of(runs)\n"
        "    for arena, frame, count in runs:\n        arena.uptodate[frame : frame + count] = bytes(count)\n"
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n    removed_pages = 0\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[while_it_is_shown]",
    ),
    mutation(
        "removal", "a pin that came in between is not looked at",
        "        hit = list(_overlaps(pins[arena.number], frame, frame + count))\n",
        "        hit: list[tuple[int, int]] = []\n",
        "mm/test_reclaim.py::test_a_pin_that_comes_between_the_look_and_the_removal_keeps_its_page",
    ),
    mutation(
        "removal", "dirty is looked at before the flags are cleared, and not after",
        "        if not hit and 1 not in dirty:\n",
        "        if not hit:\n",
        "mm/test_interleavings_of_writes.py::test_a_short_write_and_eviction",
    ),
    mutation(
        "removal", "a pinned page that stays is in no queue",
        "                queues.requeue(same)\n            else:\n                yield same\n",
        "            else:\n                yield same\n",
        "mm/test_reclaim.py::test_a_pin_that_comes_between_the_look_and_the_removal_keeps_its_page",
    ),
    mutation(
        "removal", "removed pages are not uncharged",
        "    zone.uncharge(removed_pages)\n",
        "",
        "contract/test_invalidate_and_reclaim.py::test_item_42_the_cap_holds_whatever_became_of_a_page_before",
    ),
    mutation(
        "removal", "a page under write-back is evicted",
        "(dirty | writeback) * BUSY",
        "dirty * BUSY",
        "contract/test_writeback.py::test_a_page_that_is_stored_late_is_under_write_back_until_then",
    ),
    mutation(
        "removal", "a locked page is evicted",
        "        for page in zone.locked:\n",
        "        for page in ():\n",
        "contract/test_invalidate_and_reclaim.py::test_item_42_reclaim_takes_only_what_is_clean_and_unused",
    ),
    mutation(
        "removal", "a page whose pin began before it is taken for unpinned",
        "    at = max(0, bisect.bisect_right(spans, (start,)) - 1)\n",
        "    at = bisect.bisect_right(spans, (start,))\n",
        "mm/test_pin.py::test_a_view_that_fails_leaves_no_pin",
    ),
    mutation(
        "removal", "who lost a race punches a page that is on its way",
        "                flags[at - index] = 1\n",
        "                pass\n",
        "mm/test_reclaim.py::test_pages_that_came_back_meanwhile_are_not_given_back",
    ),
    mutation(
        "removal", "who lost a race punches a page of the file that has the frames now",
        "            if not any(first < one.base + one.frame_count for one in others):\n",
        "            if True:\n",
        "mm/test_reclaim.py::test_a_copy_that_lost_its_race_takes_nothing_from_the_file_that_has_its_frames_now",
    ),
    mutation(
        "removal", "who lost a race over frames that are nobody's leaves their memory",
        "                arena.punch(first, page_count)\n            return\n",
        "                pass\n            return\n",
        "mm/test_reclaim.py::test_a_copy_that_comes_after_its_frames_were_given_back_leaves_no_memory",
    ),
    mutation(
        "removal", "who lost a race leaves the memory of a page that was removed and is still locked",
        " and not page.removed:  # a page",
        ":  # a page",
        "mm/test_reclaim.py::test_memory_of_a_page_that_was_removed_is_given_back_though_its_lock_is_held",
    ),
    mutation(
        "arena", "only the first of several regions gets a new generation",
        "(first_frame + page_count - 1 >> REGION_SHIFT) + 1):\n",
        "(first_frame >> REGION_SHIFT) + 1):\n",
        "mm/test_arena.py::test_a_removal_bumps_the_generation_of_each_region_that_it_touches",
    ),
    mutation(
        "arena", "what was looked at beside the pages of a grain stays",
        "            first -= 1\n",
        "            pass\n",
        "mm/test_arena.py::test_jumps_through_a_large_file_leave_no_flags_when_all_is_dropped",
    ),
    mutation(
        "arena", "a walk goes on in a grain whose last page its caller has removed",
        "            yield from [run.span() for run in _PRESENT.finditer(self.uptodate, start, stop)]\n",
        "            yield from (run.span() for run in _PRESENT.finditer(self.uptodate, start, stop))\n",
        "mm/test_arena.py::test_flags_of_many_pages_of_a_grain_go_when_they_are_dropped",
    ),
    mutation(
        "arena", "the last piece of a long punch goes beyond its end",
        "            self._frames.punch(self.memory, at, min(_PUNCH_BYTES_MAX, stop - at))\n",
        "            self._frames.punch(self.memory, at, _PUNCH_BYTES_MAX)\n",
        "mm/test_arena.py::test_punching_gives_memory_back_and_leaves_zeros",
    ),
    mutation(
        "arena", "what is tracked is walked in the order in which it came",
        "            grains = sorted(grain for grain in list(tracked) if first <= grain < stop)  # list() is one step\n",
        "            grains = [grain for grain in list(tracked) if first <= grain < stop]\n",
        "mm/test_arena.py::test_runs_are_found_in_order_however_they_came",
    ),
    mutation(
        "arena", "a walk looks at the flags of a grain that has gone meanwhile",
        "            if grain in tracked:\n",
        "            if True:\n",
        "mm/test_arena.py::test_a_walk_does_not_look_where_nothing_is_any_more",
    ),
    mutation(
        "memory", "a child of a fork has its parent's private memory",
        "            mapping.madvise(_MADV_WIPEONFORK)\n",
        "",
        "mm/test_memory.py::test_a_child_finds_private_memory_empty_before_anybody_has_done_anything",
    ),
    mutation(
        "memory", "huge pages are taken where the system gives them",
        "                mapping.madvise(mmap.MADV_NOHUGEPAGE)\n",
        "                pass\n",
        "mm/test_memory.py::test_a_private_mapping_has_no_huge_pages_and_no_child",
    ),
    mutation(
        "memory", "without private memory for all there is no file in its place",
        "        with suppress(OSError):  # vm.overcommit_memory",
        "        with suppress(ValueError):  # vm.overcommit_memory",
        "mm/test_memory.py::test_where_the_system_does_not_promise_so_much_it_is_a_file",
    ),
    mutation(
        "memory", "memory is had for what lies beside what is written",
        "position + len(data) + PAGE_SIZE - 1 & -PAGE_SIZE)\n",
        "position + len(data) + 2 * PAGE_SIZE - 1 & -PAGE_SIZE)\n",
        "mm/test_memory.py::test_writing_takes_no_page_beside_what_is_written",
    ),
    mutation(
        "zone", "files that are read get the memory of those that are written",
        "is_for_it = arena.page_count == SHARED_ARENA_PAGES and arena.is_written == is_written\n",
        "is_for_it = arena.page_count == SHARED_ARENA_PAGES\n",
        "mm/test_arena.py::test_who_reads_has_private_memory_and_who_writes_a_file",
    ),
    mutation(
        "bystanders", "who comes to stand by a page does not look whether it has just been unlocked",
        "            if page.mapping.in_flight.get(index) is not page and self._left(one):\n                return None\n",
        "",
        "contract/test_standing_by.py::test_a_page_that_is_unlocked_as_he_comes_is_not_waited_for",
    ),
    mutation(
        "page", "who stands by a page that is parted is woken by whichever part is unlocked first",
        "            self.bystanders.hand_on(head)\n",
        "",
        "contract/test_standing_by.py::test_he_is_handed_on_when_pages_part_and_when_they_become_one",
    ),
    mutation(
        "page", "who stands by a page that another takes in is never woken",
        "        tail.bystanders.hand_on(self)\n",
        "",
        "contract/test_standing_by.py::test_he_goes_on_with_the_page_that_takes_his_in",
    ),
    mutation(
        "bring", "who stood by a page that failed does not get in line",
        "        self.failed = waited_for\n        return False\n",
        "        return True\n",
        "contract/test_standing_by.py::test_after_a_failure_he_is_in_line_behind_those_who_were_there_before",
    ),
    mutation(
        "bystanders", "who stood by a page has not missed it",
        '            counters["misses"] += one.counts\n',
        "",
        "contract/test_standing_by.py::test_no_worker_waits_for_him_and_he_has_waited_once",
    ),
    mutation(
        "bring", "who stands by leaves a marker on the page",
        "        if self.index <= page.marker_index < self.index + self.want_pages:\n            return False\n",
        "",
        "contract/test_standing_by.py::test_a_marker_on_the_page_fires_before_he_waits",
    ),
    mutation(
        "reclaim", "a page that is spared is paid for again",
        "            target |= head.flags & PAID  # nothing may have said yet that it was used\n",
        "            pass\n",
        "mm/test_reclaim.py::test_a_page_that_is_spared_is_not_paid_for_again",
    ),
    mutation(
        "reclaim", "memory that is granted is not counted as reserved",
        "    zone.reserved_pages += granted\n",
        "",
        "contract/test_memory.py::test_no_memory_is_an_error_and_not_a_hang",
    ),
    mutation(
        "reclaim", "who leaves the line for memory does not let the next one look",
        "                else:\n                    zone.wake_memory_waiter()\n            raise\n",
        "            raise\n",
        "mm/test_reclaim.py::test_who_leaves_the_line_for_memory_as_he_is_told_tells_the_next",
    ),
    mutation(
        "reclaim", "who got memory does not let the next in line look",
        "                if help_comes is None:\n                    zone.wake_memory_waiter()\n",
        "                if help_comes is None:\n",
        "mm/test_interleavings_of_waits.py::test_a_reader_waits_for_memory_or_hears_that_there_is_none",
    ),
    mutation(
        "reclaim", "a thread that holds a page lock waits for memory",
        "    if zone.is_waited_for_here() or any(page.owner == this_thread for page in zone.locked):\n",
        "    if False:\n",
        "contract/test_memory.py::test_a_store_that_reads_through_the_full_cache_has_an_error_and_not_a_hang",
    ),
    mutation(
        "zone", "a look that has a place at its store waits for memory",
        "        return self.is_in_store_code() or any(\n",
        "        return self.is_in_store_code() or not all(\n",
        "device/test_looks.py::test_a_look_does_not_wait_for_memory_that_stands_behind_it",
    ),
    mutation(
        "dirty", "there is said to be no memory while pages are under write-back",
        "        return self.writeback_pages > 0 or any(\n",
        "        return any(\n",
        "mm/test_waiting_for_the_store.py::test_a_reader_waits_for_memory_until_what_is_in_it_has_been_stored",
    ),
    mutation(
        "reclaim", "the references of a page that is kept stay",
        "        run.arena.referenced[run.frame : run.frame + run.page_count] = bytes(run.page_count)\n"
        "        self._zone.queues.push",
        "        self._zone.queues.push",
        "mm/test_reclaim.py::test_a_scan_leaves_what_was_read_ahead_and_used_once_to_the_next_scan",
    ),
    mutation(
        "reclaim", "what was looked at and not taken comes back in the wrong order",
        "            for head in reversed(heads):\n",
        "            for head in heads:\n",
        "mm/test_reclaim.py::test_what_is_left_of_a_run_of_which_some_pages_are_busy_keeps_its_order",
    ),
    mutation(
        "lru", "a page that was evicted lately comes back into small",
        "                self.push(same, MAIN, was)\n",
        "                self.push(same, SMALL, was)\n",
        "mm/test_lru.py::test_a_page_evicted_lately_comes_back_into_main",
    ),
    mutation(
        "lru", "a page with two entries comes up twice after a clean-up",
        "                _set_plane(run, run.arena.lru[run.frame] | _MARK)\n                kept.append(run)\n",
        "                kept.append(run)\n",
        "mm/test_lru.py::test_stale_entries_do_not_pile_up",
    ),
    mutation(
        "pin", "a sweep forgets the pins that were entered meanwhile",
        "        self.entries[: len(entries)] = live",
        "        self.entries[:] = live",
        "mm/test_pin.py::test_a_pin_that_is_entered_while_a_sweep_looks_at_the_others_stays",
    ),
]  # fmt: skip
