"""Mistakes that the core must not make, each one change of a line of src/pagein/mm, and the tests that catch it.

Guarantees: the old text of each stands in its file exactly once (tests/mutants/test_mutants.py), so that a change
of the core cannot make a mutation void without anybody hearing of it: then quote the new line.
Not here: running them (run.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MM = Path("src", "pagein", "mm")


@dataclass(frozen=True)
class Mutation:
    """In *file* of src/pagein/mm the *old* text becomes the *new* one; *name* says what is wrong then.  One of *tests*
    has to fail."""

    file: str
    name: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def path(self) -> Path:
        """From the root of the project."""
        return MM / f"{self.file}.py"

    def applied_to(self, text: str) -> str:
        """Raises: ValueError if the old text does not stand there exactly once."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.path} holds {count} times, not once:\n{self.old}")
        return text.replace(self.old, self.new)

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def _mutation(file: str, name: str, old: str, new: str, *tests: str) -> Mutation:
    return Mutation(file, name, old, new, tuple(f"tests/{test}" for test in tests))


MUTATIONS = [
    # -- reading ---------------------------------------------------------------------------------------------
    _mutation(
        "filemap", "the generation is not looked at again after the copy",
        "    if arena.generations[region] != generation:  # (d)\n",
        "    if False:  # (d)\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[copy]",
    ),
    _mutation(
        "filemap", "the generation is taken after Uptodate is tested",
        "    generation = arena.generations[region]  # (a)\n"
        "    stop_frame = min(base + page_count_for(stop), (region + 1) << REGION_SHIFT)\n"
        '    hole = arena.uptodate.find(b"\\0", frame, stop_frame)  # (b)\n',
        "    stop_frame = min(base + page_count_for(stop), (region + 1) << REGION_SHIFT)\n"
        '    hole = arena.uptodate.find(b"\\0", frame, stop_frame)  # (b)\n'
        "    generation = arena.generations[region]  # (a)\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[copy]",
    ),
    _mutation(
        "filemap", "i_size is read before Uptodate is tested",
        "    stop_frame = min(base + page_count_for(stop), (region + 1) << REGION_SHIFT)\n"
        '    hole = arena.uptodate.find(b"\\0", frame, stop_frame)  # (b)\n'
        "    if hole >= 0:\n        stop_frame = hole\n"
        "    stop = min(stop, (stop_frame - base) << PAGE_SHIFT, mapping.i_size)  # i_size only now\n",
        "    i_size, stop_frame = mapping.i_size, min(base + page_count_for(stop), (region + 1) << REGION_SHIFT)\n"
        '    hole = arena.uptodate.find(b"\\0", frame, stop_frame)  # (b)\n'
        "    if hole >= 0:\n        stop_frame = hole\n"
        "    stop = min(stop, (stop_frame - base) << PAGE_SHIFT, i_size)\n",
        "mm/test_reclaim.py::test_the_size_is_looked_at_once_the_page_is_seen_to_be_here",
    ),
    _mutation(
        "filemap", "whether the file was closed is not looked at after the copy",
        "    mapping.check_usable()  # else closed meanwhile, and the frames may be another file's\n",
        "",
        "mm/test_interleavings_of_changes.py::test_a_reader_of_a_closed_file_never_reads_another_file",
    ),
    _mutation(
        "filemap", "a page that was copied under its lock is not unlocked",
        "return (take(shift + offset, shift + stop), stop) if stop > offset else None\n    finally:\n        page.unlock()\n",
        "return (take(shift + offset, shift + stop), stop) if stop > offset else None\n    finally:\n        pass\n",
        "mm/test_reclaim.py::test_a_reader_that_loses_again_and_again_takes_the_page_lock",
    ),
    _mutation(
        "filemap", "a copy under the page's lock goes beyond i_size",
        "        stop = min(stop, (index + 1) << PAGE_SHIFT, mapping.i_size)\n",
        "        stop = min(stop, (index + 1) << PAGE_SHIFT)\n",
        "mm/test_reclaim.py::"
        "test_a_reader_that_takes_the_page_lock_reads_to_the_end_of_the_file_and_no_further",
    ),
    _mutation(
        "filemap", "an error at the first page of a read is swallowed",
        "            if pieces:\n                break\n            raise\n",
        "            break\n",
        "contract/test_return_contract.py::test_item_10_a_synchronous_error_reaches_its_reader_unchanged",
    ),
    _mutation(
        "filemap", "a failed view leaves its pin",
        "    except BaseException:\n        pin.put()\n        raise\n",
        "    except BaseException:\n        raise\n",
        "mm/test_pin.py::test_a_view_that_fails_leaves_no_pin",
    ),
    _mutation(
        "filemap", "read_cache_page leaves its pin beyond the end of the file",
        "    if index >= file.mapping.page_count:\n        pin.put()\n",
        "    if index >= file.mapping.page_count:\n",
        "contract/test_eof_and_truncate.py::test_item_25_bytes_by_the_new_size_where_the_page_is_pinned",
    ),
    _mutation(
        "bring", "a page that was read for the sake of its lock is not unlocked",
        "    if page is not None:\n        page.unlock()\n    return 1\n",
        "    return 1\n",
        "contract/test_concurrent_reads.py::test_item_19_the_first_success_serves_the_rest",
    ),
    _mutation(
        "bring", "who gets the lock does not look whether the page was filled meanwhile",
        "        if page.uptodate or (yield from _readpage(file, page, make_waiter)):\n",
        "        if (yield from _readpage(file, page, make_waiter)):\n",
        "contract/test_concurrent_reads.py::test_item_20_who_gets_the_lock_after_a_fill_does_not_read_again",
    ),
    _mutation(
        "bring", "who gets the lock does not look whether the page was cut off meanwhile",
        "        if index >= mapping.page_count:  # cut off while we waited\n",
        "        if False:  # cut off while we waited\n",
        "contract/test_eof_and_truncate.py::test_item_27_in_line_before_the_truncation_came",
    ),
    _mutation(
        "bring", "a marker in flight is not taken off, and fires twice",
        "        page.marker_index = -1\n        return marker_index\n",
        "        return marker_index\n",
        "mm/test_readahead.py::test_item_44_a_marker_in_flight_fires_before_the_reader_waits",
    ),
    _mutation(
        "bring", "the error of a page that was invalidated meanwhile is raised",
        " or mapping.invalidations != invalidations:\n",
        ":\n",
        "contract/test_invalidate_and_reclaim.py::test_item_40_a_reader_whose_page_was_invalidated_looks_again",
    ),
    _mutation(
        "readpage", "a page is not unlocked if readpage raises",
        '        zone.count("failed_requests")\n        if page.locked:\n            page.unlock()\n',
        '        zone.count("failed_requests")\n',
        "contract/test_return_contract.py::test_item_10_a_synchronous_error_reaches_its_reader_unchanged",
    ),
    _mutation(
        "rac", "a page for which readahead's fallback got AOP_UPDATED_PAGE is not unlocked (the patch's first version)",
        "            if outcome is Outcome.UPDATED:\n                page.unlock()\n",
        "",
        "contract/test_return_contract.py::test_item_06_readahead_without_an_operation_leaves_no_page_locked",
    ),
    _mutation(
        "rac", "what an operation left of a window stays locked",
        "    finally:\n        rac.unlock_rest()\n",
        "    finally:\n",
        "mm/test_readahead.py::test_item_46_what_an_operation_leaves_of_a_window_is_unlocked_and_had_later",
    ),
    _mutation(
        "rac", "what an operation had taken stays locked if it raises",
        "            if taken.locked:\n                taken.unlock()\n",
        "            pass\n",
        "mm/test_readahead.py::test_what_an_operation_took_is_released_when_it_raises",
    ),
    _mutation(
        "fault", "a page is not unlocked by a fault that has let go of its lock",
        "    if let_go:\n        _unlock(page)\n        return",
        "    if let_go:\n        return",
        "contract/test_return_contract.py::test_item_05_a_fault_that_let_go_of_its_lock_is_tried_again",
    ),
    _mutation(
        "fault", "i_size is not looked at again under the page's lock",
        "    if page is None or vmf.index >= mapping.page_count:  #",
        "    if page is None:  #",
        "contract/test_eof_and_truncate.py::test_item_27_a_fault_that_gets_its_lock_at_once_looks_at_the_size_again",
    ),
    _mutation(
        "fault", "an interrupted fault does not take its lock again",
        "                if let_go:\n                    vmf.lock.acquire()\n                raise\n",
        "                raise\n",
        "contract/test_interrupt.py::test_item_21_an_interrupted_fault_has_its_lock_again_and_no_page",
    ),
    # -- pages and their line --------------------------------------------------------------------------------
    _mutation(
        "page", "a page that was removed is uncharged twice",
        "        if not self.filled and not self.removed:\n",
        "        if not self.filled:\n",
        "contract/test_invalidate_and_reclaim.py::test_item_38_invalidation_waits_for_a_page_being_read_and_removes_it",
    ),
    _mutation(
        "page", "an unlock does not wake who waits for memory",
        "            self._serve(wait)\n        zone.wake_memory_waiter()\n",
        "            self._serve(wait)\n",
        "mm/test_interleavings_of_waits.py::test_a_reader_waits_for_memory_or_hears_that_there_is_none",
    ),
    _mutation(
        "page", "who stands in line for a page goes with the wrong part of its run",
        "                wait.page = head if wait.index < self.index else self\n",
        "                wait.page = self\n",
        "mm/test_readahead.py::test_a_waiter_goes_with_its_page_when_a_run_is_split",
    ),
    _mutation(
        "page", "a waiter does not stay in line behind who gets the lock",
        "            wait.page = holder\n            holder._waits.append(wait)\n            return\n",
        "            pass\n",
        "mm/test_interleavings.py::test_a_page_lock_is_served_in_the_order_of_arrival",
    ),
    _mutation(
        "page", "the end of write-back is told when the first piece has ended",
        "        if not self._pages_left:\n            if mapping",
        "        if True:\n            if mapping",
        "contract/test_writeback.py::test_item_57_fsync_waits_for_every_piece_of_a_run",
    ),
    _mutation(
        "page", "the error of a piece is forgotten if the next succeeds",
        "        self.error = self.error or error\n",
        "        self.error = error\n",
        "contract/test_writeback.py::test_item_57_fsync_waits_for_every_piece_of_a_run",
    ),
    _mutation(
        "page", "errseq is not advanced when write-back fails",
        "                mapping.set_error(error)\n",
        "",
        "contract/test_fsync_errors.py::test_item_56_two_files_that_were_open_before_hear_once_each",
    ),
    _mutation(
        "page", "a page that could not be stored counts as clean, as in Linux",
        '                zone.counters["failed_writes"] += 1\n                mapping.mark_dirty(self.index, self.page_count)\n',
        '                zone.counters["failed_writes"] += 1\n',
        "contract/test_fsync_errors.py::test_item_56_two_files_that_were_open_before_hear_once_each",
    ),
    _mutation(
        "page", "the end of write-back does not wake who waits for memory",
        "        zone.wake_memory_waiter()  # it may be evicted now\n",
        "",
        "mm/test_waiting_for_the_store.py::test_a_reader_waits_for_memory_until_what_is_in_it_has_been_stored",
    ),
    _mutation(
        "page", "a page under write-back is not marked as such",
        "        self.mapping.arena.writeback[frame : frame + self.page_count] = ones(self.page_count)\n",
        "",
        "contract/test_writeback.py::test_a_page_that_is_stored_late_is_under_write_back_until_then",
    ),
    _mutation(
        "wait", "an interrupted waiter keeps the lock that it was just handed",
        "            granted.owner = zone.door.thread_id()\n            granted.unlock()\n",
        "            pass\n",
        "mm/test_interleavings_of_waits.py::test_an_interrupted_wait_leaves_nothing_behind",
    ),
    _mutation(
        "wait", "an interrupted waiter's reservation is not taken back",
        "        elif self.has_reservation:\n",
        "        elif False:\n",
        "mm/test_interleavings_of_waits.py::test_an_interrupted_wait_leaves_nothing_behind",
    ),
    _mutation(
        "mapping", "the reservation for a page that was removed meanwhile is not taken back",
        "it up again\n                self.zone.uncharge(1, reserved=True)\n",
        "it up again\n                pass\n",
        "contract/test_eof_and_truncate.py::test_item_26_a_page_that_grew_while_it_came",
    ),
    _mutation(
        "mapping", "what was reserved and is not needed is not given back",
        "            absent = self.absent_run(index, max(0, min(page_count, stop_index - index)))\n"
        "            self.zone.uncharge(page_count - absent, reserved=True)\n",
        "            absent = self.absent_run(index, max(0, min(page_count, stop_index - index)))\n",
        "mm/test_reclaim.py::test_what_was_reserved_for_pages_that_are_here_by_now_is_given_back",
    ),
    _mutation(
        "mapping", "pages are locked beyond an end that has moved meanwhile",
        "            stop_index = self.frame_count if beyond_end else self.page_count\n",
        "            stop_index = self.frame_count\n",
        "mm/test_readahead.py::test_a_window_that_is_cut_off_before_its_pages_are_locked_is_asked_for_no_more",
    ),
    _mutation(
        "mapping", "a mark that a writer is about to take off is taken for a dirty page",
        "            for plane in (self.arena.dirty, self.arena.uptodate):\n",
        "            for plane in (self.arena.dirty,):\n",
        "contract/test_writeback.py::test_a_mark_on_a_page_that_has_gone_is_no_dirty_page",
    ),
    _mutation(
        "mapping", "a writer's budget is forgotten, and not taken back, when his file is clean",
        "                    self.zone.dirty.given_back(self.dirty_budget)  # so",
        "                    pass  # so",
        "mm/test_interleavings_of_writes.py::test_a_budget_that_is_used_while_it_is_recalled",
    ),
    _mutation(
        "mapping", "what is stored behind a cut counts as had by the store",
        "            end_bytes = min(end_bytes, self.size_owed)\n",
        "            pass\n",
        "mm/test_interleavings_of_writes.py::test_two_truncations_and_a_writer_while_the_store_is_told",
    ),
    _mutation(
        "mapping", "a dirty file is suspended",
        "self.in_flight or self.under_writeback or self.dirty_pages or self.i_rwsem.held",
        "self.in_flight or self.under_writeback or self.i_rwsem.held",
        "contract/test_writeback.py::test_a_dirty_file_is_not_suspended",
    ),
    # -- removal and reclaim ---------------------------------------------------------------------------------
    _mutation(
        "removal", "the generation changes before Uptodate is cleared",
        "    for arena, frame, count in runs:\n        arena.uptodate[frame : frame + count] = bytes(count)\n"
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n",
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n"
        "    for arena, frame, count in runs:\n        arena.uptodate[frame : frame + count] = bytes(count)\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[pread]",
    ),
    _mutation(
        "removal", "the memory goes before the generation changes",
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n    removed_pages = 0\n",
        "    for arena, frame, count in runs:\n        arena.punch(frame, count)\n        arena.bump_generation(frame, count)\n"
        "    removed_pages = 0\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[pread]",
    ),
    _mutation(
        "removal", "pins are read before Uptodate is cleared",
        "    for arena, frame, count in runs:\n        arena.uptodate[frame : frame + count] = bytes(count)\n"
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n    removed_pages = 0\n"
        "    pins = {arena.number: disjoint(arena.pins.spans()) for arena in {run.arena for run in runs}}\n",
        "    pins = {arena.number: disjoint(arena.pins.spans()) for arena in {run.arena for run in runs}}\n"
        "    for arena, frame, count in runs:\n        arena.uptodate[frame : frame + count] = bytes(count)\n"
        "    for arena, frame, count in runs:\n        arena.bump_generation(frame, count)\n    removed_pages = 0\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[while_it_is_shown]",
    ),
    _mutation(
        "removal", "a pin that came in between is not looked at",
        "        hit = list(_overlaps(pins[arena.number], frame, frame + count))\n",
        "        hit: list[tuple[int, int]] = []\n",
        "mm/test_reclaim.py::test_a_pin_that_comes_between_the_look_and_the_removal_keeps_its_page",
    ),
    _mutation(
        "removal", "dirty is looked at before the flags are cleared, and not after",
        "        if not hit and 1 not in dirty:\n",
        "        if not hit:\n",
        "mm/test_interleavings_of_writes.py::test_a_short_write_and_eviction",
    ),
    _mutation(
        "removal", "a pinned page that stays is in no queue",
        "                queues.requeue(same)\n            else:\n                yield same\n",
        "            else:\n                yield same\n",
        "mm/test_reclaim.py::test_a_pin_that_comes_between_the_look_and_the_removal_keeps_its_page",
    ),
    _mutation(
        "removal", "removed pages are not uncharged",
        "    zone.uncharge(removed_pages)\n",
        "",
        "contract/test_invalidate_and_reclaim.py::test_item_42_the_cap_holds_whatever_became_of_a_page_before",
    ),
    _mutation(
        "removal", "a page under write-back is evicted",
        "(dirty | writeback) * BUSY",
        "dirty * BUSY",
        "contract/test_writeback.py::test_a_page_that_is_stored_late_is_under_write_back_until_then",
    ),
    _mutation(
        "removal", "a locked page is evicted",
        "        for page in zone.locked:\n",
        "        for page in ():\n",
        "contract/test_invalidate_and_reclaim.py::test_item_42_reclaim_takes_only_what_is_clean_and_unused",
    ),
    _mutation(
        "removal", "a page whose pin began before it is taken for unpinned",
        "    at = max(0, bisect.bisect_right(spans, (start,)) - 1)\n",
        "    at = bisect.bisect_right(spans, (start,))\n",
        "mm/test_pin.py::test_a_view_that_fails_leaves_no_pin",
    ),
    _mutation(
        "removal", "who lost a race punches a page that is on its way",
        "                flags[at - index] = 1\n",
        "                pass\n",
        "mm/test_reclaim.py::test_pages_that_came_back_meanwhile_are_not_given_back",
    ),
    _mutation(
        "removal", "who lost a race leaves the memory of a page that was removed and is still locked",
        " and not page.removed:  # a page",
        ":  # a page",
        "mm/test_reclaim.py::test_memory_of_a_page_that_was_removed_is_given_back_though_its_lock_is_held",
    ),
    _mutation(
        "arena", "only the first of several regions gets a new generation",
        "(first_frame + page_count - 1 >> REGION_SHIFT) + 1):\n",
        "(first_frame >> REGION_SHIFT) + 1):\n",
        "mm/test_arena.py::test_a_removal_bumps_the_generation_of_each_region_that_it_touches",
    ),
    _mutation(
        "arena", "the last piece of a long punch goes beyond its end",
        "            _punch(self.memory, at, min(_PUNCH_BYTES_MAX, stop - at))\n",
        "            _punch(self.memory, at, _PUNCH_BYTES_MAX)\n",
        "mm/test_arena.py::test_punching_gives_memory_back_and_leaves_zeros",
    ),
    _mutation(
        "reclaim", "memory that is granted is not counted as reserved",
        "    zone.reserved_pages += granted\n",
        "",
        "contract/test_memory.py::test_no_memory_is_an_error_and_not_a_hang",
    ),
    _mutation(
        "reclaim", "who leaves the line for memory does not let the next one look",
        "                else:\n                    zone.wake_memory_waiter()\n            raise\n",
        "            raise\n",
        "mm/test_reclaim.py::test_who_leaves_the_line_for_memory_as_he_is_told_tells_the_next",
    ),
    _mutation(
        "reclaim", "who got memory does not let the next in line look",
        "                if help_comes is None:\n                    zone.wake_memory_waiter()\n",
        "                if help_comes is None:\n",
        "mm/test_interleavings_of_waits.py::test_a_reader_waits_for_memory_or_hears_that_there_is_none",
    ),
    _mutation(
        "reclaim", "a thread that holds a page lock waits for memory",
        "    if zone.is_in_store_code() or any(page.owner == this_thread for page in zone.locked):\n",
        "    if False:\n",
        "contract/test_memory.py::test_a_store_that_reads_through_the_full_cache_has_an_error_and_not_a_hang",
    ),
    _mutation(
        "reclaim", "there is said to be no memory while pages are under write-back",
        "    return zone.dirty.writeback_pages > 0 or any(",
        "    return any(",
        "mm/test_waiting_for_the_store.py::test_a_reader_waits_for_memory_until_what_is_in_it_has_been_stored",
    ),
    _mutation(
        "reclaim", "the references of a page that is kept stay",
        "        run.arena.referenced[run.frame : run.frame + run.page_count] = bytes(run.page_count)\n"
        "        self._zone.queues.push",
        "        self._zone.queues.push",
        "mm/test_reclaim.py::test_a_scan_leaves_what_was_read_ahead_and_used_once_to_the_next_scan",
    ),
    _mutation(
        "reclaim", "what was looked at and not taken comes back in the wrong order",
        "            for head in reversed(heads):\n",
        "            for head in heads:\n",
        "mm/test_reclaim.py::test_what_is_left_of_a_run_of_which_some_pages_are_busy_keeps_its_order",
    ),
    _mutation(
        "lru", "a page that was evicted lately comes back into small",
        "                self.push(same, MAIN, was)\n",
        "                self.push(same, SMALL, was)\n",
        "mm/test_lru.py::test_a_page_evicted_lately_comes_back_into_main",
    ),
    _mutation(
        "lru", "a page with two entries comes up twice after a clean-up",
        "                _set_plane(run, run.arena.lru[run.frame] | _MARK)\n                kept.append(run)\n",
        "                kept.append(run)\n",
        "mm/test_lru.py::test_stale_entries_do_not_pile_up",
    ),
    _mutation(
        "pin", "a sweep forgets the pins that were entered meanwhile",
        "        self.entries[: len(entries)] = live",
        "        self.entries[:] = live",
        "mm/test_pin.py::test_a_pin_that_is_entered_while_a_sweep_looks_at_the_others_stays",
    ),
    # -- readahead and the line before the store ---------------------------------------------------------------
    _mutation(
        "readahead", "a marker that is taken off is not looked at again under the lock",
        "        if arena.uptodate[frame] != MARKED:  #",
        "        if False:  #",
        "mm/test_readahead.py::test_item_44_a_marker_whose_page_goes_as_it_is_found_is_not_taken",
    ),
    _mutation(
        "readahead", "a window ends a page early",
        "        file.ra = window.state\n"
        "        _submit_ahead(file, window.start, window.start + window.page_count, window.marker_index)\n\n\n"
        "def take_marker",
        "        file.ra = window.state\n"
        "        _submit_ahead(file, window.start, window.start + window.page_count - 1, window.marker_index)\n\n\n"
        "def take_marker",
        "mm/test_readahead.py::test_item_44_a_marker_is_hit_once_and_asks_for_the_next_window",
    ),
    _mutation(
        "readahead", "a reader is lent three pages for each that he uses",
        "    return min(credit + 2 * used_pages, CREDIT_PAGES_MAX)\n",
        "    return min(credit + 3 * used_pages, CREDIT_PAGES_MAX)\n",
        "mm/test_readahead.py::"
        "test_whatever_a_reader_does_no_more_is_fetched_than_twice_what_he_reads_and_an_allowance",
    ),
    _mutation(
        "readahead", "the budget of a reader is not charged for what is fetched ahead of him",
        "    file.ra_credit = credit - max(0, min(window.page_count, mapping.page_count - window.start))\n",
        "    file.ra_credit = credit\n",
        "mm/test_readahead.py::"
        "test_whatever_a_reader_does_no_more_is_fetched_than_twice_what_he_reads_and_an_allowance",
    ),
    _mutation(
        "ondemand", "windows grow from where they are, not from their end",
        "        return _read_it(state.start + state.size, size, size, access)\n",
        "        return _read_it(index, size, size, access)\n",
        "mm/test_ondemand.py::test_item_44_the_windows_of_a_sequential_reader_are_those_of_linux",
    ),
    _mutation(
        "ondemand", "the marker lies a page late",
        "    marker_index = start + size - async_size if async_size else -1\n",
        "    marker_index = start + size - async_size + 1 if async_size else -1\n",
        "mm/test_ondemand.py::test_item_44_the_windows_of_a_sequential_reader_are_those_of_linux",
    ),
    _mutation(
        "ondemand", "a window that its reader skipped through is followed by a larger one",
        "    if is_expected and 2 * access.unused_pages <= index - state.start:\n",
        "    if is_expected:\n",
        "mm/test_ondemand.py::test_the_window_of_one_access",
    ),
    _mutation(
        "device", "a store gets a request more than it said",
        "        if self.in_flight >= self.requests_max:\n",
        "        if self.in_flight > self.requests_max:\n",
        "device/test_line.py::test_no_more_requests_are_in_flight_than_the_store_takes_and_every_reader_is_served",
    ),
    _mutation(
        "device", "a request ahead that has ended keeps its place in the pipe",
        '        assert started is not None, "a page that stands in line is nobody\'s to unlock"\n'
        "        self._ahead_in_flight -= not request.wanted\n",
        '        assert started is not None, "a page that stands in line is nobody\'s to unlock"\n',
        "device/test_line.py::test_what_is_ahead_takes_as_many_requests_as_fill_the_pipe",
    ),
    _mutation(
        "device", "a page whose reader has given up stays locked",
        "            is_kept = request.keeps_lock and not request.given_up and outcome is Outcome.UPDATED\n",
        "            is_kept = request.keeps_lock and outcome is Outcome.UPDATED\n",
        "device/test_giving_up.py::test_who_is_interrupted_while_the_operation_runs_leaves_the_unlocking_to_who_called_it",
    ),
    _mutation(
        "device", "a page whose reader was interrupted as it came stays locked",
        "                is_ours = request.outcome is Outcome.UPDATED\n",
        "                is_ours = False\n",
        "device/test_giving_up.py::test_who_is_interrupted_when_the_page_has_come_gives_its_lock_back",
    ),
    _mutation(
        "device", "what a reader gave up is not asked for though another waits for the page",
        "        if self.zone.closed or not (is_needed or page.waiter_count):\n",
        "        if self.zone.closed or not is_needed:\n",
        "device/test_giving_up.py::"
        "test_what_was_wanted_with_its_lock_by_who_was_interrupted_is_asked_for_only_if_another_wants_it",
    ),
    _mutation(
        "device", "a page stays locked for which no thread is to be had",
        "            request.error = error\n            self._let_go(request)\n",
        "            request.error = error\n            request.returned()\n",
        "device/test_calls.py::test_no_thread_to_be_had_for_it_is_the_reader_s_error_and_leaves_nothing",
    ),
    _mutation(
        "device", "the end of a request does not start who stands in line",
        "                request = self._take_next()\n                self._begin(request)\n",
        "                return\n",
        "mm/test_interleavings_of_requests.py::test_no_request_is_left_in_the_line_with_nobody_to_start_it",
    ),
    _mutation(
        "request", "whether the operation has returned is not looked at before waiting for it",
        "            if self._last()._has_returned:\n                return\n",
        "",
        "mm/test_interleavings_of_requests.py::test_the_end_of_a_page_against_the_return_of_its_operation",
    ),
    # -- writing -----------------------------------------------------------------------------------------------
    _mutation(
        "rwsem", "writes go the short way while somebody waits for i_rwsem",
        "            mapping.short_writes = False\n            if not mapping.rwsem_held:\n",
        "            if not mapping.rwsem_held:\n",
        "mm/test_interleavings_of_writes.py::test_two_who_append_lose_nothing_of_one_another",
    ),
    _mutation(
        "rwsem", "an interrupted waiter keeps the lock that it was just handed",
        "                self.release()\n            raise\n",
        "                pass\n            raise\n",
        "mm/test_rwsem.py::test_who_is_interrupted_leaves_the_lock_to_the_next",
    ),
    _mutation(
        "rwsem", "who is handed the lock is not told that it may go on",
        "            mapping.zone.workqueue.kick_if_possible()\n",
        "            pass\n",
        "mm/test_rwsem.py::test_steps_that_wait_without_a_thread_go_on_when_the_lock_is_theirs",
    ),
    _mutation(
        "rwsem", "a store called by who holds it may wait for it",
        "return isinstance(holder, Holder) and holder.is_here",
        "return False",
        "file/test_finalizers.py::test_what_is_collected_inside_the_core_waits_for_nothing_and_is_written",
    ),
    _mutation(
        "workqueue", "a worker may be waited for by a finalizer on its thread",
        "        with inside():  # between any two lines it may have what others wait for\n",
        "        if True:\n",
        "file/test_finalizers.py::test_a_thread_of_ours_is_inside_the_core_from_its_start_to_its_end",
    ),
    _mutation(
        "flusher", "the flusher may be waited for by a finalizer on its thread",
        "            with inside():  # who waits for room waits for this thread\n",
        "            if True:\n",
        "file/test_finalizers.py::test_a_thread_of_ours_is_inside_the_core_from_its_start_to_its_end",
    ),
    _mutation(
        "filemap", "a finalizer inside the core waits for a page",
        "                elif is_inside():\n",
        "                elif False:\n",
        "file/test_finalizers.py::test_a_finalizer_that_asks_for_what_cannot_be_noted_is_told",
    ),
    _mutation(
        "flusher", "it goes round and round while another pass stores all that is dirty",
        "            if is_well and 0 < mapping.dirty_pages <= len(mapping.under_writeback):\n",
        "            if False:\n",
        "mm/test_waiting_for_the_store.py::test_the_flusher_rests_while_another_stores_all_that_is_dirty",
    ),
    _mutation(
        "sync", "a store's code is taken for a finalizer's",
        "        HERE.depth, HERE.calling = STORE * (len(calling) + 1), (*calling, what)",
        "        HERE.calling = (*calling, what)",
        "file/test_finalizers.py::test_a_store_that_writes_another_file_is_no_finalizer",
    ),
    _mutation(
        "rwsem", "last come, first served",
        "next(iter(mapping.rwsem_waiters), None)\n            mapping.rwsem_waiters = mapping.rwsem_waiters[1:]\n",
        "next(reversed(mapping.rwsem_waiters), None)\n            mapping.rwsem_waiters = mapping.rwsem_waiters[:-1]\n",
        "mm/test_rwsem.py::test_first_come_first_served",
    ),
    _mutation(
        "write", "the end of the file is read before the lock of who appends",
        "    mapping = file.mapping\n    yield from mapping.i_rwsem.acquire_steps(make_waiter)\n    try:\n"
        "        require_open(file)\n        return",
        "    mapping = file.mapping\n    offset = mapping.i_size if offset is None else offset\n"
        "    yield from mapping.i_rwsem.acquire_steps(make_waiter)\n    try:\n        require_open(file)\n        return",
        "mm/test_interleavings_of_writes.py::test_two_who_append_lose_nothing_of_one_another",
    ),
    _mutation(
        "write", "who writes a part of a page does not look again what the store has, once he has its lock",
        "        if page.uptodate or _is_covered(mapping, index, offset, stop):\n",
        "        if True:\n",
        "contract/test_write.py::test_item_50_a_page_that_the_store_has_by_the_time_that_its_lock_comes_is_read",
    ),
    _mutation(
        "write", "a write within the file cuts off what lies behind",
        "        mapping.i_size = max(mapping.i_size, stop)\n",
        "        mapping.i_size = stop\n",
        "contract/test_write.py::test_item_50_the_bytes_around_a_write_are_kept",
    ),
    _mutation(
        "write", "the last page of a long write is not read, of which a part is written",
        "            covered = stop_index - index - (not _is_covered(mapping, stop_index - 1, offset, stop))\n",
        "            covered = stop_index - index\n",
        "contract/test_write.py::test_item_07_an_error_after_some_bytes_comes_after_them",
    ),
    _mutation(
        "write", "leave to make pages dirty is not given back if they cannot be locked",
        "            if granted:\n                dirty.give_back(granted)\n            if done",
        "            if done",
        "contract/test_write.py::test_item_07_a_read_inside_a_write_that_fails_reaches_the_writer_unchanged",
    ),
    _mutation(
        "write", "what an interrupted write has left behind the end becomes the file's",
        "    if offset > mapping.i_size and len(data):\n",
        "    if False:\n",
        "contract/test_write.py::test_item_50_a_gap_after_a_write_that_was_interrupted_is_zeros",
    ),
    _mutation(
        "write", "a budget is granted and not counted",
        "        zone.dirty.pages += max(0, budget - mapping.dirty_budget)\n",
        "",
        "mm/test_interleavings_of_writes.py::test_short_writes_and_write_back_of_their_page",
    ),
    _mutation(
        "dirty", "a budget is taken back, and its writer keeps it",
        "page_count, mapping.dirty_budget = mapping.dirty_budget, 0\n",
        "page_count = mapping.dirty_budget\n",
        "mm/test_interleavings_of_writes.py::test_a_budget_that_is_used_while_it_is_recalled",
    ),
    _mutation(
        "write", "whoever makes dirty what another waits for does not say so",
        "    if is_first or is_waited_for:\n        _tell_flusher(mapping.zone, is_waited_for=is_waited_for)\n",
        "    if is_first:\n        _tell_flusher(mapping.zone, is_waited_for=False)\n",
        "mm/test_waiting_for_the_store.py::test_a_writer_waits_for_leave_until_that_of_another_has_become_dirty",
    ),
    _mutation(
        "dirty", "pages that failed are not counted as dirty again",
        "            self.pages += page_count\n            self.failed(mapping, error)\n",
        "            self.failed(mapping, error)\n",
        "mm/test_interleavings_of_writes.py::test_short_writes_and_a_write_back_that_fails",
    ),
    _mutation(
        "dirty", "a failure wakes nobody who waits for room",
        "        mapping.last_failure = self.last_failure = error\n        self._wake(everybody=True)\n",
        "        mapping.last_failure = self.last_failure = error\n",
        "mm/test_waiting_for_the_store.py::test_a_writer_at_the_limit_hears_why_nothing_could_be_stored",
    ),
    _mutation(
        "dirty", "a store that declines wakes nobody who waits for room",
        "        self._wake(everybody=True)  # who waits for just these",
        "        pass  # who waits for just these",
        "mm/test_waiting_for_the_store.py::test_a_writer_at_the_limit_has_it_tried_again_if_the_store_declines",
    ),
    _mutation(
        "dirty", "who is interrupted while he is slowed down keeps his leave",
        "                    if granted:\n                        self.give_back(granted)\n                    raise\n",
        "                    raise\n",
        "mm/test_waiting_for_the_store.py::test_who_is_interrupted_while_he_is_slowed_down_gives_his_leave_back",
    ),
    _mutation(
        "dirty", "a writer at the limit is woken in vain again and again while a store is slow",
        "if entry.has_leave and entry.mapping not in busy]",
        "if entry.mapping not in busy]",
        "mm/test_waiting_for_the_store.py::test_a_writer_at_the_limit_waits_until_something_has_been_stored",
    ),
    _mutation(
        "flusher", "who waits for what another is storing is woken in vain again and again",
        "            if not (self._busy or zone.dirty.writeback_pages):\n",
        "            if not self._busy:\n",
        "mm/test_waiting_for_the_store.py::test_a_reader_waits_for_memory_until_what_is_in_it_has_been_stored",
    ),
    # -- write-back ----------------------------------------------------------------------------------------------
    _mutation(
        "walk", "i_size is read before the dirty flags are cleared",
        "    count = mapping.take_dirty(index, most)\n"
        "    if not count:\n        return None\n    page = mapping.lock_run(index, count)\n"
        "    # The size after the flags: a write that makes the file longer meanwhile makes the page dirty again.\n"
        "    end_bytes = mapping.zero_beyond_end(index, count)\n",
        "    end_bytes = mapping.zero_beyond_end(index, most)\n    count = mapping.take_dirty(index, most)\n"
        "    if not count:\n        return None\n    page = mapping.lock_run(index, count)\n"
        "    end_bytes = min(end_bytes, index + count << PAGE_SHIFT)\n",
        "mm/test_interleavings_of_writes.py::test_short_writes_that_make_the_file_longer_and_write_back",
    ),
    _mutation(
        "size_owed", "the store is told of a new size while it is being given more",
        "            if first is None:\n",
        "            if True:\n",
        "mm/test_interleavings_of_writes.py::test_a_file_that_is_cut_and_grows_again_while_it_is_stored",
    ),
    _mutation(
        "walk", "a page is stored although the store is owed a size",
        "            if mapping.size_owed is not None:  # cut meanwhile\n",
        "            if False:\n",
        "contract/test_truncate_dirty.py::test_a_cut_that_comes_as_a_page_is_locked_to_be_stored_is_told_first",
    ),
    _mutation(
        "size_owed", "another size that has come meanwhile is taken for told",
        "    if mapping.size_owed == size_bytes:\n",
        "    if True:\n",
        "contract/test_truncate_dirty.py::"
        "test_a_cut_that_comes_while_the_store_is_told_of_another_is_told_though_the_file_grows_again",
    ),
    _mutation(
        "writeback", "the store makes durable what is not whole",
        "    if error is None and durable:  #",
        "    if durable:  #",
        "contract/test_writeback.py::test_item_57_fsync_does_not_make_durable_what_is_not_whole",
    ),
    _mutation(
        "writeback", "an error is told to the same open file again and again",
        "        earlier, file.wb_seen = file.mapping.wb_err.check_and_advance(file.wb_seen)\n",
        "        earlier, _ = file.mapping.wb_err.check_and_advance(file.wb_seen)\n",
        "contract/test_fsync_errors.py::test_item_56_two_files_that_were_open_before_hear_once_each",
    ),
    _mutation(
        "walk", "fsync does not wait for what another has begun to store since it looked",
        "                self._others.update(_begun_in(mapping, index, stop_index if frame < 0 else frame - base))\n",
        "                pass\n",
        "contract/test_writeback.py::"
        "test_item_58_what_another_has_been_declined_before_the_fsync_is_at_its_end_is_asked_for_again",
    ),
    _mutation(
        "walk", "fsync passes over a page that is dirty again while it is stored",
        "            if self.sync is Sync.ALL:\n                return None, wait",
        "            if False:\n                return None, wait",
        "contract/test_writeback.py::test_item_54_a_page_that_becomes_dirty_while_it_is_stored_is_stored_again",
    ),
    _mutation(
        "walk", "whether a write-back has ended is not looked at before waiting for it",
        "        if writeback.has_ended:\n            return\n        waiter",
        "        waiter",
        "contract/test_writeback.py::test_a_page_is_handed_over_locked_uptodate_and_clean",
    ),
    _mutation(
        "walk", "an operation that has returned wakes nobody who waits for his turn",
        "            for waiter, _ in waiting:\n                waiter.wake()\n",
        "",
        "contract/test_writeback.py::test_a_page_is_handed_over_locked_uptodate_and_clean",
    ),
    _mutation(
        "walk", "who has stored a run goes on with the next although others wait for a turn",
        "any(walk not in (self, None) for _, walk in self.mapping.store_waiters):\n",
        "False:\n",
        "contract/test_writeback.py::test_who_stores_one_run_after_the_other_makes_way_for_another_walk",
    ),
    _mutation(
        "walk", "who has stored a run goes on with the next although something else waits for a worker",
        "            if self.zone.io.is_short or any(",
        "            if any(",
        "contract/test_writeback.py::"
        "test_who_stores_one_run_after_the_other_makes_way_for_what_waits_for_a_worker",
    ),
    _mutation(
        "walk", "workers go on with a walk that was interrupted",
        "                self._left.clear()  # an interrupted one ends here for the workers, too\n",
        "                pass\n",
        "contract/test_writeback.py::test_a_walk_that_was_interrupted_ends_with_what_it_has_begun",
    ),
    _mutation(
        "walk", "what another was about to store and the store declines is taken for stored",
        "            declined += writeback.declined\n        return declined\n",
        "            declined += writeback.declined if writeback in self._begun else ()\n        return declined\n",
        "contract/test_writeback.py::"
        "test_item_58_what_another_was_about_to_store_and_the_store_declines_is_not_taken_for_stored",
    ),
    _mutation(
        "writeback", "fsync asks again for what others have written, too",
        "        ranges = _joined(walk.declined)\n",
        "",
        "contract/test_writeback.py::"
        "test_item_58_fsync_asks_for_what_was_declined_no_more_often_because_others_write",
    ),
    _mutation(
        "walk", "a dirty page beyond the end is given up and stays counted",
        "        mapping.zone.dirty.cancelled(count)\n        page.release_in_zone()\n",
        "        page.release_in_zone()\n",
        "mm/test_interleavings_of_writes.py::test_a_file_that_is_cut_and_grows_again_while_it_is_stored",
    ),
    _mutation(
        "errseq", "an error that nobody has heard of is not told to who opens the file now",
        "        return self._count if self._seen else self._count - 1\n",
        "        return self._count\n",
        "mm/test_errseq.py::test_item_56_who_is_told_what",
    ),
    _mutation(
        "errseq", "an error that was told counts as untold",
        "            self._seen = True\n        return error",
        "            pass\n        return error",
        "mm/test_errseq.py::test_item_56_who_is_told_what",
    ),
    _mutation(
        "flusher", "a file whose pass has ended counts as busy for ever",
        "            self._busy.discard(mapping)\n",
        "",
        "mm/test_dirty_limits.py::test_eight_threads_write_four_files_in_a_small_cache",
    ),
    _mutation(
        "flusher", "a kick while the flusher works is lost",
        "            self._is_kicked = True\n            waiter, self._waiter",
        "            waiter, self._waiter",
        "mm/test_dirty_limits.py::test_eight_threads_write_four_files_in_a_small_cache",
    ),
    # -- truncation and invalidation -------------------------------------------------------------------------------
    _mutation(
        "truncate", "the pages of a file that becomes shorter go before its size",
        "    _set_size(mapping, size_bytes, size_bytes)\n"
        "    invalidate_inode_pages2(mapping, page_count_for(size_bytes), page_count_for(old_bytes))\n",
        "    invalidate_inode_pages2(mapping, page_count_for(size_bytes), page_count_for(old_bytes))\n"
        "    _set_size(mapping, size_bytes, size_bytes)\n",
        "contract/test_eof_and_truncate.py::test_item_25_bytes_by_the_new_size",
    ),
    _mutation(
        "truncate", "a file becomes longer before its last page has gone",
        "    page = mapping.lock_page(old_bytes >> PAGE_SHIFT)\n",
        "    _set_size(mapping, size_bytes, size_bytes)\n    page = mapping.lock_page(old_bytes >> PAGE_SHIFT)\n",
        "mm/test_interleavings_of_changes.py::test_a_file_that_becomes_longer_shows_no_zeros",
    ),
    _mutation(
        "truncate", "the tail of a page is zeroed under a reader that does not hear of it",
        "                mapping.arena.bump_generation(run.frame, 1)\n",
        "",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[shorter_and_read_again]",
    ),
    _mutation(
        "truncate", "the tail of a page is zeroed that a view shows",
        "                if removal.is_pinned(run):\n                    raise busy(mapping.name, 1)\n",
        "",
        "mm/test_interleavings_of_changes.py::test_what_a_view_shows_stays_when_the_file_becomes_shorter",
    ),
    _mutation(
        "truncate", "an invalidation does not count",
        "    # Also what has no page now: a reader whose own read failed before this must ask again, not fail.\n"
        "    mapping.invalidations += 1\n",
        "",
        "contract/test_invalidate_and_reclaim.py::test_item_40_a_reader_whose_page_was_invalidated_looks_again",
    ),
    _mutation(
        "truncate", "the last page of a file that is cut goes with what it holds",
        "    first = page_count_for(mapping.i_size)\n    invalidate_mapping",
        "    first = mapping.i_size >> PAGE_SHIFT\n    invalidate_mapping",
        "contract/test_truncate_dirty.py::test_item_29_what_was_cut_off_within_a_dirty_page_reads_as_zeros",
    ),
    _mutation(
        "truncate", "a page is zeroed while it is stored",
        "                _wait(page)  # it is stored as it was, or as it will be: not in between\n",
        "",
        "contract/test_truncate_dirty.py::test_item_30_a_truncation_waits_for_the_write_back_of_what_it_cuts",
    ),
    _mutation(
        "truncate", "a cut leaves what the store has behind it to be read again",
        "                    mapping.disk_size = min(mapping.disk_size, size_bytes)\n            drop",
        "            drop",
        "contract/test_truncate_dirty.py::test_item_29_what_was_cut_off_in_a_page_that_is_not_here_reads_as_zeros",
    ),
    _mutation(
        "truncate", "a page that a reader brought while a hole was made stays",
        "        # What a reader has brought meanwhile is from before.\n        invalidate_inode_pages2(mapping, first, stop)\n",
        "",
        "contract/test_truncate_dirty.py::"
        "test_item_35_a_page_that_a_reader_brings_while_the_hole_is_made_is_gone_afterwards",
    ),
    _mutation(
        "truncate", "a dirty page that was laundered stays counted",
        "            zone.dirty.cancelled(mapping.clear_dirty(page.index, page.page_count))\n",
        "            mapping.clear_dirty(page.index, page.page_count)\n",
        "contract/test_direct.py::test_item_39_a_dirty_page_is_dropped_if_the_store_launders_it",
    ),
    _mutation(
        "truncate", "a page that the store did not have is a hole once it was laundered",
        "            mapping.note_stored(end_bytes)\n            zone.dirty.cancelled",
        "            zone.dirty.cancelled",
        "contract/test_direct.py::"
        "test_item_39_what_the_store_did_not_have_is_laundered_up_to_the_end_of_the_file",
    ),
    _mutation(
        "truncate", "a page is laundered although the store is owed a size",
        "        if not mapping.arena.dirty[page.run.frame] or mapping.size_owed is not None:\n",
        "        if not mapping.arena.dirty[page.run.frame]:\n",
        "contract/test_direct.py::test_item_39_a_page_is_not_laundered_before_the_store_is_told_of_a_cut",
    ),
    _mutation(
        "direct", "what a reader brought while it was written directly stays",
        "        invalidate_inode_pages2(mapping, offset >> PAGE_SHIFT, page_count_for(end), own=own)\n",
        "",
        "contract/test_direct.py::test_item_41_a_reader_that_comes_meanwhile_keeps_nothing_old",
    ),
    _mutation(
        "direct", "the store may be told a size between a direct write and the growth of the file",
        "        if written:\n            _note_written(mapping, offset, written, writeback)\n        return written\n"
        "    finally:\n        with zone.lock:\n            writeback.piece_ended(mapping, first, page_count, None)\n",
        "    finally:\n        with zone.lock:\n            writeback.piece_ended(mapping, first, page_count, None)\n"
        "    if written:\n        _note_written(mapping, offset, written, writeback)\n    return written\n",
        "mm/test_interleavings_of_writes.py::test_an_fsync_between_a_direct_write_and_the_growth_of_the_file",
    ),
    # -- workers and interrupts ------------------------------------------------------------------------------------
    _mutation(
        "workqueue", "a worker does not look at the line again after it has said that it is idle",
        "            if (self._queued or self._closed) and self._is_idle_no_more(waiter):\n                continue\n",
        "",
        "mm/test_workqueue.py::test_work_that_comes_before_the_only_worker_says_that_it_is_idle_is_done",
    ),
    _mutation(
        "workqueue", "a worker ends that somebody has just woken",
        "            if not is_woken and self._is_idle_no_more(waiter):\n",
        "            if not is_woken:\n",
        "mm/test_workqueue.py::test_work_that_comes_as_a_worker_gives_up_is_done",
    ),
    _mutation(
        "workqueue", "a worker that ends leaves work to nobody",
        "            self._vacancies.append(number)\n            self.kick()  #",
        "            self._vacancies.append(number)  #",
        "mm/test_workqueue.py::test_work_that_comes_before_the_only_worker_is_gone_is_done",
    ),
    _mutation(
        "workqueue", "work stays in the line whose caller was interrupted before he told anybody",
        "            self.kick()  # the signal may have come after",
        "            pass  # the signal may have come after",
        "mm/test_workqueue.py::test_work_is_done_whose_caller_is_interrupted_before_he_has_told_anybody",
    ),
    _mutation(
        "workqueue", "the token of an errand is not given back",
        "            self._to_lend.append(token)\n",
        "            pass\n",
        "mm/test_workqueue.py::test_workers_are_left_while_errands_take_for_ever",
    ),
    _mutation(
        "workqueue", "steps go on when the first of two has come to their appointment",
        "        if not self._once.is_first():\n            self._detached.resume()\n",
        "        if self._once.is_first():\n            self._detached.resume()\n",
        "mm/test_workqueue.py::test_steps_go_on_when_they_are_woken_and_not_before",
    ),
    _mutation(
        "workqueue", "a change that was called off is made all the same",
        "        if not outcome.is_to_begin():  # it was called off\n            return\n",
        "",
        "file/test_writers_interrupted.py::"
        "test_a_change_that_was_interrupted_before_it_began_is_not_made_after_a_later_one",
    ),
    _mutation(
        "outcome", "what comes for a caller who was interrupted is not given back",
        "            self.done.wake()\n        else:\n            self._give_back()\n",
        "            self.done.wake()\n",
        "mm/test_interleavings_of_waits.py::test_ctrl_c_in_shielded_gives_back_what_the_work_returns",
    ),
    _mutation(
        "outcome", "what has come for a caller who was interrupted is not given back",
        "        if not self._once.is_first():\n            self._give_back()\n",
        "        self._once.is_first()\n",
        "mm/test_workqueue.py::test_interrupted_after_the_work_is_done",
    ),
    _mutation(
        "outcome", "work that failed is given back",
        "        if self._undo and self.error is None:\n",
        "        if self._undo:\n",
        "mm/test_workqueue.py::test_work_that_failed_has_nothing_to_give_back",
    ),
    _mutation(
        "outcome", "a change overtakes one whose caller was interrupted",
        "    waiter = make_waiter()\n    outcome.waiters.append(waiter)\n",
        "    return\n    waiter = make_waiter()\n    outcome.waiters.append(waiter)\n",
        "file/test_writers_interrupted.py::"
        "test_a_change_that_was_interrupted_when_it_had_begun_is_made_before_the_next",
    ),
    _mutation(
        "outcome", "whether a change has settled is not looked at again before waiting for it",
        "    if not (outcome.has_settled and _took(outcome.waiters, waiter)):\n        yield waiter\n",
        "    yield waiter\n",
        "mm/test_workqueue.py::test_a_change_that_settles_as_the_next_one_gets_in_line_is_not_waited_for",
    ),
    _mutation(
        "zone", "who waits for memory is not told that the cache was closed",
        "            while self.memory_waiters:\n                self.wake_memory_waiter()\n",
        "",
        "mm/test_reclaim.py::test_memory_of_a_closed_cache_is_not_given",
    ),
    # -- what becomes of a run that a store was given ------------------------------------------------------------
    _mutation(
        "wbc", "a page that was activated stays locked until the rest of its run has been stored",
        "                page.unlock()  # now, and not when the rest of the run has been stored\n",
        "                pass\n",
        "contract/test_writeback.py::test_item_58_a_page_that_is_not_stored_is_unlocked_before_the_next_is",
    ),
    _mutation(
        "wbc", "a page that was activated counts as stored",
        "                self.redirty(page)  # as the operation should have said itself\n",
        "",
        "contract/test_writeback.py::test_item_58_activate_without_redirty_loses_nothing",
    ),
    _mutation(
        "wbc", "what an operation has not taken counts as stored",
        "            if error is None:\n                self.redirty(rest)\n",
        "",
        "contract/test_writeback.py::test_item_58_pages_that_are_not_taken_are_declined",
    ),
    _mutation(
        "page", "what was declined is not told, so that fsync takes it for stored",
        "            writeback.declined = (*writeback.declined, (self.index, self.index + self.page_count))\n",
        "            pass\n",
        "contract/test_writeback.py::test_item_58_fsync_fails_where_everything_is_declined_and_nothing_is_lost",
    ),
    _mutation(
        "wbc", "a page of which an operation returned without unlocking it stays locked",
        "                page.settle_writeback()\n        if page.locked:\n            page.unlock()\n",
        "                page.settle_writeback()\n",
        "contract/test_writeback.py::test_item_58_pages_that_are_not_taken_are_declined",
    ),
    _mutation(
        "wbc", "a page whose operation raised stays locked until the rest of its run has been stored",
        "                page.settle_writeback(error)\n        if page.locked:\n            page.unlock()\n",
        "                page.settle_writeback(error)\n",
        "contract/test_writeback.py::test_item_58_a_page_that_is_not_stored_is_unlocked_before_the_next_is",
    ),
    _mutation(
        "wbc", "what is wrong with one page of a run leaves the others locked",
        "                violation = violation or told\n",
        "                raise\n",
        "contract/test_writeback.py::test_a_store_that_keeps_memory_of_a_page_leaves_no_other_page_locked",
    ),
    _mutation(
        "wbc", "write-back for room goes on after an error",
        "                if self.sync is Sync.NONE:\n                    return\n",
        "",
        "contract/test_writeback.py::test_item_57_write_back_for_room_ends_at_the_first_error",
    ),
    # -- what a store is, and how much is asked of it --------------------------------------------------------------
    _mutation(
        "aops", "a code of readpage may be taken for a count of bytes",
        "AOP_UPDATED_PAGE = 0x80002\n",
        "AOP_UPDATED_PAGE = 2\n",
        "contract/test_return_contract.py::test_item_01_the_code_is_never_a_byte_count",
    ),
    _mutation(
        "aops", "each file has a line of its own before the store",
        "        return id(type(self))\n",
        "        return id(self)\n",
        "device/test_line.py::test_two_files_of_one_store_take_turns",
    ),
    _mutation(
        "aops", "a store that says nothing of it has laundered what is dropped",
        "        Locks: page locked, on return too.  Blocks: yes.  Raises: OSError, and it stays.\n        \"\"\"\n        return False\n",
        "        Locks: page locked, on return too.  Blocks: yes.  Raises: OSError, and it stays.\n        \"\"\"\n        return True\n",
        "contract/test_direct.py::test_item_39_a_dirty_page_is_not_dropped_and_the_others_are",
    ),
    _mutation(
        "pipe", "a fetch that failed is in flight for ever",
        "        self.in_flight -= 1\n        if not size_bytes:\n            return\n",
        "        if not size_bytes:\n            return\n        self.in_flight -= 1\n",
        "mm/test_pipe.py::test_an_error_is_one_less_in_flight_and_no_more",
    ),
    _mutation(
        "pipe", "what was under way when a round began counts for it",
        "        is_whole = start.at_s >= self._round_at_s  #",
        "        is_whole = True  #",
        "mm/test_pipe.py::test_the_window_stays_a_few_pipes_long",
    ),
    _mutation(
        "pipe", "a pause of the reader counts as the store's",
        "        if not self.in_flight:  # nothing",
        "        if False:  # nothing",
        "mm/test_pipe.py::test_a_pause_of_the_reader_is_not_the_store_s",
    ),
    _mutation(
        "populate", "memory is had beyond what was asked for",
        "stop - start, _MADV_POPULATE_WRITE)",
        "stop, _MADV_POPULATE_WRITE)",
        "mm/test_populate.py::test_it_is_no_more_than_was_asked_for_and_zeros",
    ),
    _mutation(
        "victims", "a page that was hit in small leaves from there",
        "        if small.referenced:\n",
        "        if small.referenced and small.read_ahead:\n",
        "mm/test_reclaim.py::test_pages_that_are_used_again_outlive_a_scan",
    ),
    _mutation(
        "victims", "what was read ahead for nobody is spared again and again",
        " and not small.spared else",
        " else",
        "mm/test_reclaim.py::test_s3fifo",
    ),
    _mutation(
        "victims", "small may fill the cache",
        "occupancy.small_pages > occupancy.cap_pages // SMALL_SHARE",
        "occupancy.small_pages > occupancy.cap_pages",
        "mm/test_reclaim.py::test_pages_that_are_used_again_outlive_a_scan",
    ),
    _mutation(
        "openfile", "who opens a file is told what another has heard before",
        "            self.wb_seen: Since = mapping.wb_err.sample()\n",
        "            self.wb_seen: Since = 0\n",
        "contract/test_fsync_errors.py::test_item_56_a_file_that_was_opened_after_somebody_had_heard_hears_nothing",
    ),
    _mutation(
        "openfile", "who has just opened a file is lent nothing",
        "        self.ra_credit: int | None = None\n",
        "        self.ra_credit: int | None = 0\n",
        "mm/test_readahead.py::test_item_44_a_marker_is_hit_once_and_asks_for_the_next_window",
    ),
    # -- fork ------------------------------------------------------------------------------------------------------
    _mutation(
        "fork", "what a view shows is not there in a child",
        "                if uptodate:\n",
        "                if False:\n",
        "test_fork.py::test_a_view_shows_the_same_bytes_in_both_after_a_fork",
    ),
    _mutation(
        "fork", "the parent keeps the lock of a cache",
        "            zone.lock.__exit__(None, None, None)\n        held.leave(None)\n",
        "            pass\n        held.leave(None)\n",
        "test_fork.py::test_a_child_reads_every_byte_through_an_empty_cache_and_the_parent_keeps_its_own",
    ),
    _mutation(
        "fork", "a child goes on with its parent's pages",
        "            zone.start_anew()\n",
        "            pass\n",
        "test_fork.py::test_a_child_keeps_nothing_of_its_parents_memory_open",
    ),
    _mutation(
        "fork", "a child holds what the thread that forked had locked",
        "    held.start_anew()\n",
        "",
        "mm/test_lock_order.py::test_in_a_child_of_a_fork_nothing_is_held",
    ),
    # -- the checks of locks -----------------------------------------------------------------------------------------
    _mutation(
        "held", "a lock that is taken under itself is not seen where another's operation lies between",
        "        elif hold.lock is lock and _is_held(hold):\n",
        "        elif hold.lock is lock and not is_below and _is_held(hold):\n",
        "mm/test_lock_order.py::test_the_very_same_lock_is_found_across_an_operation",
    ),
    _mutation(
        "held", "two of one kind pass under one another",
        "(rank.nests and rank is hold.rank)",
        "rank is hold.rank",
        "mm/test_lock_order.py::test_locks_of_two_caches_are_not_taken_under_one_another",
    ),
    _mutation(
        "held", "a lock that was released counts as held",
        "        released(self)\n        super().__exit__(kind, error, trace)\n",
        "        super().__exit__(kind, error, trace)\n",
        "mm/test_lock_order.py::test_locks_are_taken_in_the_order_of_the_tree_only",
    ),
    _mutation(
        "held", "two files in both orders pass, if a third lies between",
        "        paths += [(after, [*path, order]) for after, order in list(_orders.get(node, {}).items())]\n",
        "        paths += [(after, [order]) for after, order in list(_orders.get(node, {}).items()) if after is goal]\n",
        "mm/test_lock_order.py::test_stores_that_read_each_other_s_files_are_found_before_they_meet",
    ),
    _mutation(
        "held", "a store's operation is compared with what its caller holds",
        "        if hold.rank is None:\n            is_below = True\n",
        "        if hold.rank is None:\n            continue\n",
        "mm/test_lock_order.py::test_a_store_takes_any_lock_of_another_cache_whatever_its_caller_holds",
    ),
    _mutation(
        "held", "a signal in a checked dirty_lock leaves it taken",
        "            if self._is_owned():\n                self.__exit__(None, None, None)\n            raise\n",
        "            raise\n",
        "mm/test_lock_order.py::test_a_signal_in_a_checked_dirty_lock_leaves_it_free",
    ),
    _mutation(
        "debug", "page locks in descending order pass",
        "            elif page.index + page.page_count > index and (",
        "            elif page.index <= index < page.index + page.page_count and (",
        "contract/test_debug_mode.py::test_page_locks_are_taken_in_ascending_order",
    ),
    _mutation(
        "debug", "a page is unlocked that another has locked",
        "        if page.owner not in (None, here) and page not in self._in_operation:\n",
        "        if False:\n",
        "contract/test_debug_mode.py::test_a_page_that_another_has_locked_is_not_unlocked",
    ),
    _mutation(
        "debug", "a store is called under a short lock",
        "            if not hold.rank.across_waits:\n                raise held",
        "            if False:\n                raise held",
        "mm/test_lock_order.py::test_no_store_is_called_under_a_short_lock",
    ),
    _mutation(
        "debug", "a store is called with pages under write-back that must not be",
        "        if stored:\n            clause",
        "        if False:\n            clause",
        "mm/test_lock_order.py::test_an_operation_is_called_with_what_the_table_says",
    ),
    _mutation(
        "lockorder", "memory is waited for under a page lock",
        "    (ZONE_LOCK,),\n    across_waits=True,\n    nests=True,  # in which order",
        "    (ZONE_LOCK, MEMORY),\n    across_waits=True,\n    nests=True,  # in which order",
        "mm/test_lock_order.py::test_nothing_but_the_zone_s_lock_and_below_is_taken_under_a_page_lock",
    ),
    _mutation(
        "lockorder", "a store may be called under the zone's lock",
        'no store code under it", (DIRTY_LOCK,))\n',
        'no store code under it", (DIRTY_LOCK,), across_waits=True)\n',
        "mm/test_lock_order.py::test_no_store_is_called_under_a_short_lock",
    ),
    _mutation(
        "locking", "a hole may be made without i_rwsem",
        '"the same", Held.YES, _LONG, "who makes the hole"\n',
        '"the same", Held.MAY, _LONG, "who makes the hole"\n',
        "mm/test_lock_order.py::test_an_operation_is_called_with_what_the_table_says",
    ),
    _mutation(
        "locking", "a page may be laundered that nobody has locked",
        '"who drops the pages", locked=True\n',
        '"who drops the pages"\n',
        "mm/test_lock_order.py::test_an_operation_is_called_with_what_the_table_says",
    ),
]  # fmt: skip
