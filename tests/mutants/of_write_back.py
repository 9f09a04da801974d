"""Mistakes of write-back, truncation and invalidation."""

from tests.mutants.mutation import mutation

WRITE_BACK = [
    # -- write-back --------------------------------------------------------------------------------------------
    mutation(
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
    mutation(
        "size_owed", "the store is told of a new size while it is being given more",
        "            if first is None:\n",
        "            if True:\n",
        "mm/test_interleavings_of_writes.py::test_a_file_that_is_cut_and_grows_again_while_it_is_stored",
    ),
    mutation(
        "walk", "a page is stored although the store is owed a size",
        "            if mapping.size_owed is not None:  # cut meanwhile\n",
        "            if False:\n",
        "contract/test_truncate_dirty.py::test_a_cut_that_comes_as_a_page_is_locked_to_be_stored_is_told_first",
    ),
    mutation(
        "sizes", "another size that has come meanwhile is taken for told",
        "        if self.size_owed == size_bytes:\n",
        "        if True:\n",
        "contract/test_truncate_dirty.py::"
        "test_a_cut_that_comes_while_the_store_is_told_of_another_is_told_though_the_file_grows_again",
    ),
    mutation(
        "writeback", "the store makes durable what is not whole",
        "    if error is None and durable:  #",
        "    if durable:  #",
        "contract/test_writeback.py::test_item_57_fsync_does_not_make_durable_what_is_not_whole",
    ),
    mutation(
        "writeback", "an error is told to the same open file again and again",
        "        earlier, file.wb_seen = file.mapping.wb_err.check_and_advance(file.wb_seen)\n",
        "        earlier, _ = file.mapping.wb_err.check_and_advance(file.wb_seen)\n",
        "contract/test_fsync_errors.py::test_item_56_two_files_that_were_open_before_hear_once_each",
    ),
    mutation(
        "writeback", "an error that is to be told is not where the store declines by then",
        "    if error is None or isinstance(error, Declined):  #",
        "    if error is None:  #",
        "contract/test_fsync_errors.py::test_item_56_an_error_is_told_though_the_store_declines_when_it_is_asked_again",
    ),
    mutation(
        "walk", "fsync does not wait for what another has begun to store since it looked",
        "                self._others.update(begun_in(mapping, index, stop_index if frame < 0 else frame - base))\n",
        "                pass\n",
        "contract/test_writeback.py::"
        "test_item_58_what_another_has_been_declined_before_the_fsync_is_at_its_end_is_asked_for_again",
    ),
    mutation(
        "walk", "fsync passes over a page that is dirty again while it is stored",
        "            if self.sync is Sync.ALL:\n                return None, wait",
        "            if False:\n                return None, wait",
        "contract/test_writeback.py::test_item_54_a_page_that_becomes_dirty_while_it_is_stored_is_stored_again",
    ),
    mutation(
        "walk", "whether a write-back has ended is not looked at before waiting for it",
        "        if writeback.has_ended:\n            return\n        waiter",
        "        waiter",
        "contract/test_writeback.py::test_a_page_is_handed_over_locked_uptodate_and_clean",
    ),
    mutation(
        "walk", "an operation that has returned wakes nobody who waits for his turn",
        "            for waiter, _ in waiting:\n                waiter.wake()\n",
        "",
        "contract/test_writeback.py::test_a_page_is_handed_over_locked_uptodate_and_clean",
    ),
    mutation(
        "walk", "who has stored a run goes on with the next although others wait for a turn",
        "any(walk not in (self, None) for _, walk in self.mapping.store_waiters):\n",
        "False:\n",
        "contract/test_writeback.py::test_who_stores_one_run_after_the_other_makes_way_for_another_walk",
    ),
    mutation(
        "walk", "who has stored a run goes on with the next although something else waits for a worker",
        "            if self.zone.io.is_short or any(",
        "            if any(",
        "contract/test_writeback.py::"
        "test_who_stores_one_run_after_the_other_makes_way_for_what_waits_for_a_worker",
    ),
    mutation(
        "walk", "workers go on with a walk that was interrupted",
        "                self._left.clear()  # an interrupted one ends here for the workers, too\n",
        "                pass\n",
        "contract/test_writeback.py::test_a_walk_that_was_interrupted_ends_with_what_it_has_begun",
    ),
    mutation(
        "walk", "what another was about to store and the store declines is taken for stored",
        "            declined += writeback.declined\n        return declined\n",
        "            declined += writeback.declined if writeback in self._begun else ()\n        return declined\n",
        "contract/test_writeback.py::"
        "test_item_58_what_another_was_about_to_store_and_the_store_declines_is_not_taken_for_stored",
    ),
    mutation(
        "writeback", "fsync asks again for what others have written, too",
        "        ranges = _joined(walk.declined)\n",
        "",
        "contract/test_writeback.py::"
        "test_item_58_fsync_asks_for_what_was_declined_no_more_often_because_others_write",
    ),
    mutation(
        "walk", "a dirty page beyond the end is given up and stays counted",
        "        mapping.zone.dirty.cancelled(count)\n        page.release_in_zone()\n",
        "        page.release_in_zone()\n",
        "mm/test_interleavings_of_writes.py::test_a_file_that_is_cut_and_grows_again_while_it_is_stored",
    ),
    mutation(
        "errseq", "an error that nobody has heard of is not told to who opens the file now",
        "        return self._count if self._seen else self._count - 1\n",
        "        return self._count\n",
        "mm/test_errseq.py::test_item_56_who_is_told_what",
    ),
    mutation(
        "errseq", "an error that was told counts as untold",
        "            self._seen = True\n        return error",
        "            pass\n        return error",
        "mm/test_errseq.py::test_item_56_who_is_told_what",
    ),
    mutation(
        "flusher", "a file whose pass has ended counts as busy for ever",
        "                self._rests_s.pop(mapping, None)\n                self._busy.discard(mapping)\n",
        "                self._rests_s.pop(mapping, None)\n",
        "mm/test_dirty_limits.py::test_eight_threads_write_four_files_in_a_small_cache",
    ),
    mutation(
        "flusher", "a file does not rest of which the store declines everything",
        "_Rest(now_s + rest_s,",
        "_Rest(now_s,",
        "mm/test_resting_files.py::test_a_store_that_declines_everything_for_a_second_is_asked_four_times",
    ),
    mutation(
        "flusher", "a file does not rest whose pass has failed",
        "            if failure is None or self._is_closed:\n",
        "            if not is_declined or self._is_closed:\n",
        "mm/test_resting_files.py::"
        "test_a_store_that_fails_is_tried_again_less_and_less_often_and_found_when_it_is_well[inline]",
    ),
    mutation(
        "flusher", "rests do not become longer",
        "min(max(2 * last_s, REST_S), longest_s)",
        "REST_S",
        "mm/test_resting_files.py::"
        "test_a_store_that_fails_is_tried_again_less_and_less_often_and_found_when_it_is_well[inline]",
    ),
    mutation(
        "flusher", "a file rests though something of it has been stored since it failed",
        "self.until_s <= now_s or has_healed\n",
        "self.until_s <= now_s\n",
        "mm/test_resting_files.py::test_a_file_of_which_an_fsync_has_stored_something_rests_no_more[inline]",
    ),
    mutation(
        "flusher", "who finds nothing but what has failed waits until it has rested",
        " or (tries_again and not rest.is_declined):\n",
        ":\n",
        "mm/test_resting_files.py::test_who_finds_nothing_but_what_has_failed_has_it_tried_again_at_once[inline]",
    ),
    mutation(
        "flusher", "who has leave waits until a file has rested",
        "(self._busy.difference(self._resting))\n",
        "(self._busy)\n",
        "mm/test_resting_files.py::test_who_has_leave_does_not_wait_until_a_file_has_rested[inline]",
    ),
    mutation(
        "flusher", "files that rest stay when their cache is closed",
        "            self._resting.clear()\n",
        "",
        "mm/test_resting_files.py::test_a_cache_that_is_closed_while_a_file_rests_keeps_nothing_of_it",
    ),
    mutation(
        "flusher", "what was declined is not tried again where memory is short",
        " or mapping in due_before:",
        ":",
        "mm/test_resting_files.py::test_what_a_store_declines_is_tried_again_where_only_memory_is_short",
    ),
    mutation(
        "flusher", "what has failed and rested is not tried again where memory is short",
        " or self._zone.memory_waiters:",
        ":",
        "mm/test_resting_files.py::"
        "test_who_waits_for_memory_is_served_as_soon_as_a_file_that_has_failed_and_rested_is_well[inline]",
    ),
    mutation(
        "flusher", "a kick while the flusher works is lost",
        "            self._is_kicked = True\n            self._is_memory_short |= for_memory\n",
        "            self._is_memory_short |= for_memory\n",
        "mm/test_dirty_limits.py::test_eight_threads_write_four_files_in_a_small_cache",
    ),
    mutation(
        "reclaim", "a reader has no memory where one store fails, though another is about to store what is in it",
        "    if zone.dirty.may_be_cleaned():\n        return True\n",
        "",
        "mm/test_resting_files.py::"
        "test_a_reader_waits_for_what_may_be_cleaned_though_another_file_s_store_fails[inline]",
    ),
    mutation(
        "reclaim", "a reader waits for ever for what fails again and again",
        "    return zone.dirty.failures == failures and any(",
        "    return any(",
        "mm/test_resting_files.py::test_who_finds_nothing_but_what_has_failed_has_it_tried_again_at_once[inline]",
    ),
    # -- what becomes of a run that a store was given ----------------------------------------------------------
    mutation(
        "wbc", "a page that was activated stays locked until the rest of its run has been stored",
        "                page.unlock()  # now, and not when the rest of the run has been stored\n",
        "                pass\n",
        "contract/test_writeback.py::test_item_58_a_page_that_is_not_stored_is_unlocked_before_the_next_is",
    ),
    mutation(
        "wbc", "a page that was activated counts as stored",
        "                self.redirty(page)  # as the operation should have said itself\n",
        "",
        "contract/test_writeback.py::test_item_58_activate_without_redirty_loses_nothing",
    ),
    mutation(
        "wbc", "what an operation has not taken counts as stored",
        "            if error is None:\n                self.redirty(rest)\n",
        "",
        "contract/test_writeback.py::test_item_58_pages_that_are_not_taken_are_declined",
    ),
    mutation(
        "page", "what was declined is not told, so that fsync takes it for stored",
        "            writeback.declined = (*writeback.declined, (self.index, self.index + self.page_count))\n",
        "            pass\n",
        "contract/test_writeback.py::test_item_58_fsync_fails_where_everything_is_declined_and_nothing_is_lost",
    ),
    mutation(
        "wbc", "a page of which an operation returned without unlocking it stays locked",
        "                page.settle_writeback()\n        if page.locked:\n            page.unlock()\n",
        "                page.settle_writeback()\n",
        "contract/test_writeback.py::test_item_58_pages_that_are_not_taken_are_declined",
    ),
    mutation(
        "wbc", "a page whose operation raised stays locked until the rest of its run has been stored",
        "                page.settle_writeback(error)\n        if page.locked:\n            page.unlock()\n",
        "                page.settle_writeback(error)\n",
        "contract/test_writeback.py::test_item_58_a_page_that_is_not_stored_is_unlocked_before_the_next_is",
    ),
    mutation(
        "wbc", "what is wrong with one page of a run leaves the others locked",
        "                violation = violation or told\n",
        "                raise\n",
        "contract/test_writeback.py::test_a_store_that_keeps_memory_of_a_page_leaves_no_other_page_locked",
    ),
    mutation(
        "wbc", "write-back for room goes on after an error",
        "                if self.sync is Sync.NONE:\n                    return\n",
        "",
        "contract/test_writeback.py::test_item_57_write_back_for_room_ends_at_the_first_error",
    ),
    # -- truncation and invalidation ---------------------------------------------------------------------------
    mutation(
        "truncate", "the pages of a file that becomes shorter go before its size",
        "    _set_size(mapping, size_bytes, size_bytes)\n"
        "    invalidate_inode_pages2(mapping, page_count_for(size_bytes), page_count_for(old_bytes))\n",
        "    invalidate_inode_pages2(mapping, page_count_for(size_bytes), page_count_for(old_bytes))\n"
        "    _set_size(mapping, size_bytes, size_bytes)\n",
        "contract/test_eof_and_truncate.py::test_item_25_bytes_by_the_new_size",
    ),
    mutation(
        "truncate", "a file becomes longer before its last page has gone",
        "    page = mapping.lock_page(old_bytes >> PAGE_SHIFT)\n",
        "    _set_size(mapping, size_bytes, size_bytes)\n    page = mapping.lock_page(old_bytes >> PAGE_SHIFT)\n",
        "mm/test_interleavings_of_changes.py::test_a_file_that_becomes_longer_shows_no_zeros",
    ),
    mutation(
        "truncate", "the tail of a page is zeroed under a reader that does not hear of it",
        "                mapping.arena.bump_generation(run.frame, 1)\n",
        "",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[shorter_and_read_again]",
    ),
    mutation(
        "truncate", "the tail of a page is zeroed that a view shows",
        "                if removal.is_pinned(run):\n                    raise busy(mapping.name, 1)\n",
        "",
        "mm/test_interleavings_of_changes.py::test_what_a_view_shows_stays_when_the_file_becomes_shorter",
    ),
    mutation(
        "truncate", "an invalidation does not count",
        "    # Also what has no page now: a reader whose own read failed before this must ask again, not fail.\n"
        "    mapping.invalidations += 1\n",
        "",
        "contract/test_invalidate_and_reclaim.py::test_item_40_a_reader_whose_page_was_invalidated_looks_again",
    ),
    mutation(
        "truncate", "the last page of a file that is cut goes with what it holds",
        "    first = page_count_for(mapping.i_size)\n    invalidate_mapping",
        "    first = mapping.i_size >> PAGE_SHIFT\n    invalidate_mapping",
        "contract/test_truncate_dirty.py::test_item_29_what_was_cut_off_within_a_dirty_page_reads_as_zeros",
    ),
    mutation(
        "truncate", "a page is zeroed while it is stored",
        "                wait_until_stored(page)  # it is stored as it was, or as it will be: not in between\n",
        "",
        "contract/test_truncate_dirty.py::test_item_30_a_truncation_waits_for_the_write_back_of_what_it_cuts",
    ),
    mutation(
        "sizes", "a cut leaves what the store has behind it to be read again",
        "        self.disk_size = min(self.disk_size, size_bytes)\n",
        "",
        "contract/test_truncate_dirty.py::test_item_29_what_was_cut_off_in_a_page_that_is_not_here_reads_as_zeros",
    ),
    mutation(
        "truncate", "what a write that failed has left in the store beyond the end comes back when the file grows",
        "        if mapping.store_end > mapping.i_size:\n",
        "        if False:\n",
        "contract/test_direct.py::"
        "test_item_41_what_a_direct_write_leaves_beyond_the_end_as_it_fails_is_zeros_when_the_file_grows",
        "contract/test_discard.py::test_or_before_the_file_grows_over_it",
    ),
    mutation(
        "sizes", "a cut that is given up makes forget what a write has left beyond the end",
        "        self.store_end = max(self.store_end, size_bytes) if may_have_tail else size_bytes\n",
        "        self.store_end = size_bytes\n",
        "contract/test_discard_in_part.py::test_what_lies_behind_the_end_is_cut_off_though_a_cut_was_given_up",
    ),
    mutation(
        "truncate", "a page that a reader brought while a hole was made stays",
        "        # What a reader has brought meanwhile is from before.\n        invalidate_inode_pages2(mapping, first, stop)\n",
        "",
        "contract/test_truncate_dirty.py::"
        "test_item_35_a_page_that_a_reader_brings_while_the_hole_is_made_is_gone_afterwards",
    ),
    mutation(
        "truncate", "a dirty page that was laundered stays counted",
        "            zone.dirty.cancelled(mapping.clear_dirty(page.index, page.page_count))\n",
        "            mapping.clear_dirty(page.index, page.page_count)\n",
        "contract/test_direct.py::test_item_39_a_dirty_page_is_dropped_if_the_store_launders_it",
    ),
    mutation(
        "truncate", "a page that the store did not have is a hole once it was laundered",
        "            mapping.note_stored(end_bytes)\n            zone.dirty.cancelled",
        "            zone.dirty.cancelled",
        "contract/test_direct.py::"
        "test_item_39_what_the_store_did_not_have_is_laundered_up_to_the_end_of_the_file",
    ),
    mutation(
        "truncate", "a page is laundered although the store is owed a size",
        "        if not mapping.arena.dirty[page.run.frame] or mapping.size_owed is not None:\n",
        "        if not mapping.arena.dirty[page.run.frame]:\n",
        "contract/test_direct.py::test_item_39_a_page_is_not_laundered_before_the_store_is_told_of_a_cut",
    ),
    mutation(
        "sizes", "a cut that is given up is one still",
        "        self.disk_size = self.uncut_size\n",
        "",
        "contract/test_discard.py::test_a_size_that_the_store_was_not_told_is_given_up_with_the_rest",
    ),
    mutation(
        "size_owed", "a cut that the store is being told is given up",
        "            if mapping.size_waiters is None:\n",
        "            if True:\n",
        "contract/test_discard.py::test_a_cut_that_the_store_is_being_told_is_made",
    ),
    mutation(
        "discard", "clean pages that end in the zeros of a cut stay when it is given up",
        "    goes_back = mapping.uncut_size > min(mapping.disk_size, mapping.i_size)\n",
        "    goes_back = False\n",
        "contract/test_discard.py::test_a_size_that_the_store_was_not_told_is_given_up_with_the_rest",
    ),
    mutation(
        "discard", "what was staged is given up although a view shows some of it",
        "goes_back or loses or",
        "goes_back or",
        "contract/test_discard.py::test_nothing_that_was_staged_is_given_up_while_a_view_shows_some_of_it",
    ),
    mutation(
        "discard", "what a reader brought while it was given up stays",
        "        if goes_back or object_bytes is not None:\n",
        "        if goes_back:\n",
        "contract/test_discard.py::test_what_a_reader_brings_while_it_is_given_up_goes_too",
    ),
    mutation(
        "discard", "what a view shows of what was given up counts as the store's",
        "                    if keeps_dirty:\n",
        "                    if False:\n",
        "contract/test_discard.py::test_what_was_staged_and_a_view_shows_as_it_is_given_up_is_given_up_by_the_next_try",
    ),
    mutation(
        "truncate", "a direct write behind the last page needs that page, which is dirty, or shown",
        " or from_bytes >= end_index << PAGE_SHIFT:\n",
        ":\n",
        "contract/test_direct.py::test_a_direct_write_behind_the_last_page_leaves_that_as_it_is",
    ),
    mutation(
        "truncate", "a direct write behind zeros that a view shows needs their pages",
        "max(end_index, from_bytes >> PAGE_SHIFT), page_count_for(size_bytes), own=own)\n",
        "end_index, page_count_for(size_bytes), own=own)\n",
        "contract/test_direct.py::test_a_direct_write_behind_zeros_that_a_view_shows_leaves_them_there",
    ),
    mutation(
        "direct", "what a view shows from before a direct write stays",
        "    except OSError:\n        return False\n    return True\n",
        "    except OSError:\n        pass\n    return True\n",
        "contract/test_direct.py::test_what_a_view_shows_that_comes_during_a_direct_write_is_what_was_written",
    ),
    mutation(
        "writeback", "fsync leaves what a write that failed has left beyond the end",
        "                is_cut = not is_refused and mapping.owe_tail()\n",
        "                is_cut = False\n",
        "contract/test_direct.py::"
        "test_item_41_what_a_direct_write_leaves_beyond_the_end_as_it_fails_is_cut_off_by_fsync_and_close",
    ),
    mutation(
        "sizes", "fsync takes what is being written directly for what a write that failed has left",
        "        return not any(stored.direct_stop > end_bytes for stored in self.under_writeback.values())\n",
        "        return True\n",
        "mm/test_interleavings_of_writes.py::test_a_direct_write_at_the_end_or_behind_a_hole_and_an_fsync",
    ),
    mutation(
        "discard", "of what was given up in part the rest is committed",
        "mapping.given_up = given_up(mapping.name) if mapping.ops.commits else None",
        "mapping.given_up = None",
        "contract/test_discard_in_part.py::test_of_what_the_store_could_not_give_up_nothing_is_committed",
    ),
    mutation(
        "writeback", "who has waited until it was given up for good stores what a view has kept of it",
        "            if mapping.given_up is not None:  # what",
        "            if False:  # what",
        "contract/test_discard_in_part.py::test_in_place_what_was_given_up_for_good_is_not_stored_by_who_waits",
    ),
    mutation(
        "truncate", "a file that was made empty is no whole, if it was given up in part before",
        "                    mapping.given_up = None  # what",
        "                    pass  # what",
        "contract/test_discard_in_part.py::test_what_is_written_once_the_file_was_made_empty_is_a_whole",
    ),
    mutation(
        "discard", "what a reader has brought stays where the store lost it and failed",
        " or mapping.given_up is not None\n",
        "\n",
        "contract/test_discard_in_part.py::"
        "test_what_a_reader_has_brought_before_the_store_lost_it_and_failed_goes_with_the_next_try",
    ),
    mutation(
        "discard", "what was given up for good, but for what a view shows, is committed by who waits",
        "            if not shown_stays:\n                mapping.given_up",
        "            if True:\n                mapping.given_up",
        "contract/test_discard_in_part.py::test_nor_by_who_waits_for_the_end_of_it",
    ),
    mutation(
        "direct", "what was refused of what one write has left is taken for what the next has left",
        "        mapping.still_refused()  # of",
        "        # of",
        "contract/test_discard_in_part.py::"
        "test_a_close_tells_of_what_it_could_not_have_cut_off_though_a_pass_has_stored_what_has_grown_over_another",
    ),
    mutation(
        "writeback", "an fsync that was refused does not ask again where another has left something since",
        "                is_refused = is_refused and refusal is not None  # else",
        "                # else",
        "contract/test_discard_in_part.py::"
        "test_an_fsync_asks_again_where_another_has_left_something_since_it_was_refused",
    ),
    mutation(
        "writeback", "of a store that never cuts anything off what lies behind the end is committed",
        "(mapping.ops.commits or not isinstance",
        "(not isinstance",
        "contract/test_discard_in_part.py::test_a_store_that_never_cuts_anything_off_commits_nothing_with_it",
    ),
    mutation(
        "sizes", "what lies behind a hole that the store was told is content",
        "            content_bytes = min(size_bytes, max(self.hole_end, self.uncut_size))\n",
        "            pass\n",
        "contract/test_discard_in_part.py::"
        "test_what_lies_behind_a_hole_is_none_though_the_file_changes_as_the_hole_is_told",
    ),
    mutation(
        "sizes", "what was written directly behind a hole is none once the hole was told",
        "max(self.hole_end, self.uncut_size)",
        "self.hole_end",
        "mm/test_interleavings_of_writes.py::test_a_direct_write_at_the_end_or_behind_a_hole_and_an_fsync",
    ),
    mutation(
        "sizes", "a direct write within the file keeps fsync from having cut off what another has left behind it",
        "stored.direct_stop > end_bytes for",
        "stored.direct_stop for",
        "contract/test_discard.py::test_nor_is_it_while_another_is_written_directly_to_the_last_page",
    ),
    mutation(
        "direct", "a direct write makes a file longer over what another has left that failed",
        " or stop > mapping.i_size < mapping.store_end:",
        ":",
        "contract/test_discard.py::test_nor_is_it_while_another_is_written_directly_to_the_last_page",
    ),
    mutation(
        "discard", "pages go until one is met that a view shows",
        "    if pinned_pages:\n        for run, before",
        "    if pinned_pages:\n        for run, before in zip(runs, flags, strict=True):\n"
        "            mapping.clear_dirty(run.frame - mapping.base, run.page_count)\n        for run, before",
        "contract/test_discard.py::test_of_what_a_view_shows_a_part_of_nothing_is_given_up",
    ),
    mutation(
        "discard", "pins are looked for before Uptodate is cleared",
        "    for run in runs:\n        arena.uptodate[run.frame : run.frame + run.page_count] = bytes(run.page_count)\n"
        "    pinned_pages = removal.pinned_pages(runs)\n",
        "    pinned_pages = removal.pinned_pages(runs)\n"
        "    for run in runs:\n        arena.uptodate[run.frame : run.frame + run.page_count] = bytes(run.page_count)\n",
        "mm/test_interleavings_of_writes.py::test_a_view_of_what_is_given_up",
    ),
    mutation(
        "discard", "what was stored while it was looked what goes stays",
        "            if (mapping.dirty_pages, mapping.write_failures) == before and _under_way(mapping) is None:\n",
        "            if True:\n",
        "mm/test_interleavings_of_writes.py::test_a_flusher_while_all_is_given_up",
    ),
    mutation(
        "discard", "a cut that stays because a view shows what was cut is owed by nobody",
        "                mapping.owe_size(mapping.i_size)  # the cut",
        "                pass  # the cut",
        "contract/test_discard.py::test_a_cut_that_a_view_keeps_from_being_given_up_is_owed",
    ),
    mutation(
        "sizes", "who gives up on a store that is down owes it a size",
        "        self.size_owed, self.is_owed_for_tail = None, False\n        self.tail_refusal",
        "        self.tail_refusal",
        "contract/test_discard.py::test_who_gives_up_on_a_store_that_is_down_is_free",
    ),
    mutation(
        "sizes", "a size that comes while a store refuses to cut off what a write has left is forgotten with that",
        "        self.is_owed_for_tail = False\n\n",
        "\n",
        "contract/test_discard.py::test_a_size_that_comes_while_it_is_refused_is_owed_all_the_same",
    ),
    mutation(
        "writeback", "fsync asks a store that refuses for as long as another writes",
        "not is_refused and mapping.owe_tail()",
        "mapping.owe_tail()",
        "contract/test_discard.py::test_it_is_asked_once_by_who_stores_all_while_another_goes_on_writing",
    ),
    mutation(
        "writeback", "what a store has refused to cut off once it is never asked to again",
        "not is_refused and mapping.owe_tail()",
        "mapping.tail_refusal is None and mapping.owe_tail()",
        "contract/test_discard.py::test_or_by_the_next_fsync_or_close",
    ),
    mutation(
        "writeback", "a close commits what lies behind the end",
        "    is_told = tells_again or mapping.ops.commits",
        "    is_told = tells_again",
        "contract/test_discard.py::test_what_a_direct_write_has_left_beyond_the_end_is_not_committed",
    ),
    mutation(
        "writeback", "a part of what is being given up is committed by an fsync meanwhile",
        "            if waits and mapping.discard_waiters is not None:\n"
        "                mapping.discard_waiters.append(waiter := make_waiter())\n"
        "            elif mapping.given_up",
        "            if mapping.given_up",
        "contract/test_discard.py::test_nothing_is_committed_by_another_while_it_is_given_up",
    ),
    mutation(
        "writeback", "of two who close none is told what the store would not cut off",
        "                    is_told = is_told or refusal is None  # else",
        "                    pass  # else",
        "mm/test_interleavings_of_writes.py::"
        "test_of_those_who_close_at_once_one_is_told_what_could_not_be_cut_off",
    ),
    mutation(
        "sizes", "what was refused long ago keeps a close from telling what is refused now",
        "        if self.store_end <= self.i_size:\n            self.tail_refusal = None\n",
        "",
        "contract/test_discard.py::"
        "test_a_close_tells_of_what_it_could_not_have_cut_off_whatever_was_refused_long_ago",
    ),
    mutation(
        "sizes", "what a write has left beneath what is not stored yet counts as content",
        "        if self.disk_size < self.size_owed < self.store_end:\n",
        "        if False:\n",
        "contract/test_discard.py::test_what_a_write_has_left_beneath_what_is_given_up_is_no_content",
    ),
    mutation(
        "direct", "what covers a failed write's bytes may be given up once more is written directly behind it",
        " if covers else first\n",
        " if False else first\n",
        "contract/test_discard.py::test_nor_once_another_is_written_directly_behind_it",
    ),
    mutation(
        "direct", "what a reader brings while a direct write fails stays",
        "            invalidate_inode_pages2(mapping, first, first + page_count, own=writeback)\n        raise\n",
        "            pass\n        raise\n",
        "contract/test_direct.py::test_what_readers_bring_while_a_direct_write_fails_is_dropped",
    ),
    mutation(
        "discard", "what is another's by now is cut off by who has discarded what he wrote",
        "        if _is_stale(mapping.last_failure):",
        "        if False:",
        "contract/test_discard.py::test_what_a_store_has_taken_that_is_another_s_by_now_is_left_to_him",
    ),
    mutation(
        "write", "a hole over what the store does not have is stored as zeros",
        "        hole = max(start, min(page_count_for(store_end) << PAGE_SHIFT, stop))\n",
        "        hole = stop\n",
        "contract/test_truncate_dirty.py::"
        "test_item_34_nothing_is_stored_for_a_hole_where_the_store_has_nothing",
    ),
    mutation(
        "write", "what is dirty beyond what the store has stays where a hole is made",
        "        yield max(hole, first << PAGE_SHIFT), min(stop, first + count << PAGE_SHIFT)\n",
        "        pass\n",
        "contract/test_truncate_dirty.py::"
        "test_item_34_nothing_is_stored_for_a_hole_where_the_store_has_nothing",
    ),
    mutation(
        "write", "what is being stored beyond what the store has stays where a hole is made",
        "        store_end = mapping.store_end if mapping.size_owed is None",
        "        store_end = mapping.disk_size if mapping.size_owed is None",
        "contract/test_truncate_dirty.py::"
        "test_item_34_a_hole_over_what_is_being_stored_beyond_the_end_of_the_store_is_zeros",
    ),
    mutation(
        "direct", "what was written directly into a hole stays a hole",
        "        mapping.note_stored(min(end, mapping.i_size))\n",
        "        pass\n",
        "contract/test_direct.py::"
        "test_a_direct_write_into_a_hole_is_read_and_kept_by_what_is_written_beside_it",
    ),
    mutation(
        "direct", "a reader that comes before the file has grown by a direct write takes what it wrote for a hole",
        "        mapping.note_stored(min(end, mapping.i_size))\n",
        "        mapping.note_stored(end if end <= mapping.i_size else 0)\n",
        "contract/test_direct.py::"
        "test_a_reader_that_comes_as_the_pages_of_a_direct_write_over_the_end_were_dropped_keeps_no_zeros",
    ),
    mutation(
        "direct", "what a reader brought while it was written directly stays",
        "        invalidate_inode_pages2(mapping, offset >> PAGE_SHIFT, page_count_for(end), own=own)\n",
        "",
        "contract/test_direct.py::test_item_41_a_reader_that_comes_meanwhile_keeps_nothing_old",
    ),
    mutation(
        "direct", "the store may be told a size between a direct write and the growth of the file",
        "        if written and not _is_coherent(mapping, offset, written, writeback):\n            return 0\n"
        "        return written\n    except Exception:\n"
        "        # It may have stored a part: what a reader has brought meanwhile may be from before.\n"
        "        with suppress(OSError):  # a view shows some of that\n"
        "            invalidate_inode_pages2(mapping, first, first + page_count, own=writeback)\n        raise\n"
        "    finally:\n        with zone.lock:\n            writeback.piece_ended(mapping, first, page_count, None)\n",
        "    finally:\n        with zone.lock:\n            writeback.piece_ended(mapping, first, page_count, None)\n"
        "    if written and not _is_coherent(mapping, offset, written, writeback):\n        return 0\n"
        "    return written\n",
        "mm/test_interleavings_of_writes.py::test_an_fsync_between_a_direct_write_and_the_growth_of_the_file",
    ),
]  # fmt: skip
