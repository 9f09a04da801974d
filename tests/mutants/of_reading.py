"""Mistakes of reading, and of what is asked for ahead of it."""

from tests.mutants.mutation import mutation

READING = [
    # -- reading -----------------------------------------------------------------------------------------------
    mutation(
        "filemap", "the generation is not looked at again after the copy",
        "    if arena.generations[region] != generation:  # (d)\n",
        "    if False:  # (d)\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[copy]",
    ),
    mutation(
        "filemap", "the generation is taken after Uptodate is tested",
        "    generation = arena.generations[region]  # (a)\n"
        "    stop_frame = min(base + page_count_for(stop), (region + 1) << REGION_SHIFT)\n"
        '    hole = arena.uptodate.find(b"\\0", frame, stop_frame)  # (b)\n',
        "    stop_frame = min(base + page_count_for(stop), (region + 1) << REGION_SHIFT)\n"
        '    hole = arena.uptodate.find(b"\\0", frame, stop_frame)  # (b)\n'
        "    generation = arena.generations[region]  # (a)\n",
        "torture/test_orders.py::test_the_right_order_passes_every_schedule[copy]",
    ),
    mutation(
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
    mutation(
        "filemap", "whether the file was closed is not looked at after the copy",
        "    mapping.check_usable()  # else closed meanwhile, and the frames may be another file's\n",
        "",
        "mm/test_interleavings_of_changes.py::test_a_reader_of_a_closed_file_never_reads_another_file",
    ),
    mutation(
        "filemap", "a page that was copied under its lock is not unlocked",
        "return (take(shift + offset, shift + stop), stop) if stop > offset else None\n    finally:\n        page.unlock()\n",
        "return (take(shift + offset, shift + stop), stop) if stop > offset else None\n    finally:\n        pass\n",
        "mm/test_reclaim.py::test_a_reader_that_loses_again_and_again_takes_the_page_lock",
    ),
    mutation(
        "filemap", "a copy under the page's lock goes beyond i_size",
        "        stop = min(stop, (index + 1) << PAGE_SHIFT, mapping.i_size)\n",
        "        stop = min(stop, (index + 1) << PAGE_SHIFT)\n",
        "mm/test_reclaim.py::"
        "test_a_reader_that_takes_the_page_lock_reads_to_the_end_of_the_file_and_no_further",
    ),
    mutation(
        "filemap", "an error at the first page of a read is swallowed",
        "            if pieces:\n                break\n            raise\n",
        "            break\n",
        "contract/test_return_contract.py::test_item_10_a_synchronous_error_reaches_its_reader_unchanged",
    ),
    mutation(
        "filemap", "a failed view leaves its pin",
        "    except BaseException:\n        pin.put()\n        raise\n",
        "    except BaseException:\n        raise\n",
        "mm/test_pin.py::test_a_view_that_fails_leaves_no_pin",
    ),
    mutation(
        "filemap", "read_cache_page leaves its pin beyond the end of the file",
        "    if index >= file.mapping.page_count:\n        pin.put()\n",
        "    if index >= file.mapping.page_count:\n",
        "contract/test_eof_and_truncate.py::test_item_25_bytes_by_the_new_size_where_the_page_is_pinned",
    ),
    mutation(
        "bring", "a page that was read for the sake of its lock is not unlocked",
        "    if page is not None:\n        page.unlock()\n    return 1\n",
        "    return 1\n",
        "contract/test_concurrent_reads.py::test_item_19_the_first_success_serves_the_rest",
    ),
    mutation(
        "bring", "who gets the lock does not look whether the page was filled meanwhile",
        "        if page.uptodate or (yield from _readpage(file, page, make_waiter)):\n",
        "        if (yield from _readpage(file, page, make_waiter)):\n",
        "contract/test_concurrent_reads.py::test_item_20_who_gets_the_lock_after_a_fill_does_not_read_again",
    ),
    mutation(
        "bring", "who gets the lock does not look whether the page was cut off meanwhile",
        "        if index >= mapping.page_count:  # cut off while we waited\n",
        "        if False:  # cut off while we waited\n",
        "contract/test_eof_and_truncate.py::test_item_27_in_line_before_the_truncation_came",
    ),
    mutation(
        "bring", "a marker in flight is not taken off, and fires twice",
        "        page.marker_index = -1\n        return marker_index\n",
        "        return marker_index\n",
        "mm/test_readahead.py::test_item_44_a_marker_in_flight_fires_before_the_reader_waits",
    ),
    mutation(
        "bring", "the error of a page that was invalidated meanwhile is raised",
        " or mapping.invalidations != invalidations:\n",
        ":\n",
        "contract/test_invalidate_and_reclaim.py::test_item_40_a_reader_whose_page_was_invalidated_looks_again",
    ),
    mutation(
        "readpage", "a page is not unlocked if readpage raises",
        "            mapping.device.failed(request)\n        if page.locked:\n            page.unlock()\n",
        "            mapping.device.failed(request)\n",
        "contract/test_return_contract.py::test_item_10_a_synchronous_error_reaches_its_reader_unchanged",
    ),
    mutation(
        "rac", "a page for which readahead's fallback got AOP_UPDATED_PAGE is not unlocked (the patch's first version)",
        "            if outcome is Outcome.UPDATED:\n                page.unlock()\n",
        "",
        "contract/test_return_contract.py::test_item_06_readahead_without_an_operation_leaves_no_page_locked",
    ),
    mutation(
        "rac", "what an operation left of a window stays locked",
        "    finally:\n        rac.unlock_rest()\n",
        "    finally:\n",
        "mm/test_readahead.py::test_item_46_what_an_operation_leaves_of_a_window_is_unlocked_and_had_later",
    ),
    mutation(
        "rac", "what an operation had taken stays locked if it raises",
        "            if taken.locked:\n                taken.unlock()\n",
        "            pass\n",
        "mm/test_readahead.py::test_what_an_operation_took_is_released_when_it_raises",
    ),
    mutation(
        "fault", "a page is not unlocked by a fault that has let go of its lock",
        "    if let_go:\n        _unlock(page)\n        return",
        "    if let_go:\n        return",
        "contract/test_return_contract.py::test_item_05_a_fault_that_let_go_of_its_lock_is_tried_again",
    ),
    mutation(
        "fault", "i_size is not looked at again under the page's lock",
        "    if page is None or vmf.index >= mapping.page_count:  #",
        "    if page is None:  #",
        "contract/test_eof_and_truncate.py::test_item_27_a_fault_that_gets_its_lock_at_once_looks_at_the_size_again",
    ),
    mutation(
        "fault", "an interrupted fault does not take its lock again",
        "                if let_go:\n                    vmf.lock.acquire()\n                raise\n",
        "                raise\n",
        "contract/test_interrupt.py::test_item_21_an_interrupted_fault_has_its_lock_again_and_no_page",
    ),
    # -- readahead and the line before the store ---------------------------------------------------------------
    mutation(
        "readahead", "windows that are too small for a marker stay so",
        "index):\n        _grow_again(file)",
        "index):\n        pass",
        "mm/test_readahead.py::test_after_errors_windows_grow_again_also_where_they_are_too_small_for_a_marker",
    ),
    mutation(
        "readahead", "a marker that is taken off is not looked at again under the lock",
        "        if arena.uptodate[frame] != MARKED:  #",
        "        if False:  #",
        "mm/test_readahead.py::test_item_44_a_marker_whose_page_goes_as_it_is_found_is_not_taken",
    ),
    mutation(
        "readahead", "a window ends a page early",
        "        _submit_ahead(file, start, window.start + window.page_count, window.marker_index)\n\n\ndef _start",
        "        _submit_ahead(file, start, window.start + window.page_count - 1, window.marker_index)\n\n\ndef _start",
        "mm/test_readahead.py::test_item_44_a_marker_is_hit_once_and_asks_for_the_next_window",
    ),
    mutation(
        "readahead", "populate does not wait for what is on its way",
        "        if last is not None:\n            yield from last.steps()\n",
        "",
        "mm/test_readahead.py::test_populate_waits_for_pages_that_an_operation_has_taken_one_by_one",
        "mm/test_readahead.py::test_populate_waits_for_a_run_to_its_last_page_while_an_operation_takes_it_one_by_one",
    ),
    mutation(
        "readahead", "what many have said they will need is not bounded together",
        "    wishes = file.brings or Wishes()  # with others of the same user, or alone\n",
        "    wishes = Wishes()\n",
        "device/test_line.py::test_what_many_have_said_they_will_need_locks_no_more_of_the_cache_than_a_stream_and_a_little_of_each",
    ),
    mutation(
        "credit", "a reader is lent three pages for each that he uses",
        "    return min(file.ra_credit + 2 * used_pages, CREDIT_PAGES_MAX)\n",
        "    return min(file.ra_credit + 3 * used_pages, CREDIT_PAGES_MAX)\n",
        "mm/test_readahead.py::"
        "test_whatever_a_reader_does_no_more_is_fetched_than_twice_what_he_reads_and_an_allowance",
    ),
    mutation(
        "lru", "a reader earns by a page each time that he comes by",
        "    arena.lru[place] = paid.to_bytes(run.page_count, \"little\")\n",
        "",
        "mm/test_readahead.py::"
        "test_after_a_few_jumps_no_more_is_fetched_than_twice_what_is_read_however_long_the_store_takes",
    ),
    mutation(
        "readahead", "who jumps keeps what he was lent in advance",
        "        file.ra_credit = jumped(file, credit)\n",
        "        pass\n",
        "mm/test_readahead.py::"
        "test_after_a_few_jumps_no_more_is_fetched_than_twice_what_is_read_however_long_the_store_takes",
    ),
    mutation(
        "credit", "the budget of a reader is not charged for what is fetched ahead of him",
        "    file.ra_credit = min(file.ra_credit + wanted_pages - ahead_pages, CREDIT_PAGES_MAX)\n",
        "    file.ra_credit = min(file.ra_credit + wanted_pages, CREDIT_PAGES_MAX)\n",
        "mm/test_readahead.py::"
        "test_whatever_a_reader_does_no_more_is_fetched_than_twice_what_he_reads_and_an_allowance",
    ),
    mutation(
        "credit", "who has jumped owes what he was lent of his allowance",
        "    return max(credit - (allowance - file.ra_allowance), min(credit, 0))\n",
        "    return credit - (allowance - file.ra_allowance)\n",
        "mm/test_readahead.py::"
        "test_a_reader_who_has_jumped_is_lent_as_much_as_he_has_read_since_whatever_he_was_lent_before",
    ),
    mutation(
        "credit", "what a read still wants counts again for each piece in which it is brought",
        "    wanted_pages = max(0, min(page.page_count, wanted_stop - page.index))\n",
        "    wanted_pages = max(0, wanted_stop - page.index)\n",
        "mm/test_readahead.py::test_a_read_that_is_brought_in_several_pieces_earns_once_for_each_page",
    ),
    mutation(
        "ondemand", "windows grow from where they are, not from their end",
        "        return _read_it(state.start + state.size, size, size, access)\n",
        "        return _read_it(index, size, size, access)\n",
        "mm/test_ondemand.py::test_item_44_the_windows_of_a_sequential_reader_are_those_of_linux",
    ),
    mutation(
        "ondemand", "the marker lies a page late",
        "    marker_index = start + size - async_size if async_size else -1\n",
        "    marker_index = start + size - async_size + 1 if async_size else -1\n",
        "mm/test_ondemand.py::test_item_44_the_windows_of_a_sequential_reader_are_those_of_linux",
    ),
    mutation(
        "ondemand", "a window that its reader skipped through is followed by a larger one",
        "    if is_expected and 2 * access.unused_pages <= index - state.start:\n",
        "    if is_expected:\n",
        "mm/test_ondemand.py::test_the_window_of_one_access",
    ),
    mutation(
        "device", "a store gets a request more than it said",
        "        if self.in_flight + self.rests >= self.requests_max:\n",
        "        if self.in_flight + self.rests > self.requests_max:\n",
        "device/test_line.py::test_no_more_requests_are_in_flight_than_the_store_takes_and_every_reader_is_served",
    ),
    mutation(
        "rest", "who was called before his turn is not called again",
        "            self._ready = [one for one in self._ready if one not in following]\n",
        "            following.clear()\n",
        "mm/test_interleavings_of_rests.py::test_who_goes_on_alone_asks_for_nothing_more",
    ),
    mutation(
        "rest", "after a part that did not come the next is taken for it",
        "            with self._device.zone.lock:\n                self._has_failed = True\n            if isinstance",
        "            if isinstance",
        "mm/test_interleavings_of_rests.py::test_readers_of_one_file_share_the_rest",
    ),
    mutation(
        "page", "a run that takes in its neighbour is filled to its old end",
        "        self._release_buffer()  # it may have been filled in vain; the next one goes to the new end\n",
        "",
        "mm/test_interleavings_of_rests.py::test_parts_that_did_not_come_stand_in_the_line_with_all_others",
    ),
    mutation(
        "readahead", "what another reader is about to ask for is left to him",
        "    if rest is None or window.start != behind.start + behind.size:\n",
        "    if True:\n",
        "mm/test_interleavings_of_rests.py::test_readers_who_go_on_together_ask_for_nothing_more",
    ),
    mutation(
        "readahead", "a window far off begins where the opening goes on",
        "    if rest is None or window.start != behind.start + behind.size:\n",
        "    if rest is None:\n",
        "stores/test_http_rest.py::test_of_two_who_read_one_file_far_apart_neither_is_brought_what_lies_between",
    ),
    mutation(
        "readahead", "a window ends where much of it is on its way",
        "        elif index < piece_stop:\n",
        "        elif index < stop_index:\n",
        "mm/test_readahead.py::test_what_is_on_its_way_already_does_not_end_a_window",
    ),
    mutation(
        "readahead", "what is to be brought ends where much of it is here",
        "        has_no_memory = page is None and index < piece_stop\n",
        "        has_no_memory = page is None and index < stop_index\n",
        "mm/test_readahead.py::test_what_is_here_already_does_not_end_what_is_to_be_brought",
    ),
    mutation(
        "rest", "an answer is closed while somebody receives it",
        "        return None if self._line else self._ended()\n",
        "        return self._ended()\n",
        "mm/test_interleavings_of_rests.py::test_who_reads_elsewhere_lets_go_of_nothing_that_another_receives",
    ),
    mutation(
        "rest", "an answer that has come keeps its place at the store",
        "        self._device.rests -= answer is not None\n",
        "",
        "mm/test_interleavings_of_rests.py::test_who_goes_on_alone_asks_for_nothing_more",
    ),
    mutation(
        "rest", "an answer may be gone on with however old it is",
        "            if not watcher.wait(REST_S):\n",
        "            if not watcher.wait(1e9):\n",
        "stores/test_http_rest.py::test_nobody_holds_an_answer_for_long",
    ),
    mutation(
        "rest", "who reads no further counts as one who does",
        "        if is_wanted or self._claim_count or page_stop >= self._file_stop:\n",
        "        if True:\n",
        "stores/test_http_rest.py::test_who_reads_no_more_than_the_first_bytes_is_not_one_who_reads_on",
    ),
    mutation(
        "rest", "any number of answers are left open",
        "        has_place = device.rests_asked < min(RESTS_MAX, device.requests_max // 4)\n",
        "        has_place = True\n",
        "stores/test_http_rest.py::test_however_many_are_opened_at_once_the_others_are_served",
    ),
    mutation(
        "rest", "an answer is taken for faster than it is",
        "            self._stream_bytes_s = self._received_bytes / took_s\n",
        "            self._stream_bytes_s = 100 * self._received_bytes / took_s\n",
        "mm/test_rest_measured.py::test_an_answer_is_as_fast_as_it_comes_and_one_that_was_waited_with_is_not_measured",
    ),
    mutation(
        "rest", "a reader who takes his time makes an answer slow",
        " and self._idle_s <= IDLE_SHARE_MAX * took_s:\n",
        ":\n",
        "mm/test_rest_measured.py::test_an_answer_is_as_fast_as_it_comes_and_one_that_was_waited_with_is_not_measured",
    ),
    mutation(
        "known", "what was asked of several is what they could bring",
        "        if not self._stream_bytes_s >= AS_GOOD * several.several_bytes_s > 0:\n",
        "        if not self._stream_bytes_s >= AS_GOOD * several.bandwidth_bytes_s > 0:\n",
        "mm/test_known.py::test_one_is_compared_with_several_that_were_at_once",
    ),
    mutation(
        "known", "several are always better",
        "        if not self._asks_one(self._pipe):\n",
        "        if True:\n",
        "stores/test_http_rest.py::test_where_one_connection_is_as_good_as_several_a_file_comes_by_one_answer",
    ),
    mutation(
        "device", "a request ahead that has ended keeps its place in the pipe",
        "            if not request.wanted:\n                self._ahead_in_flight -= 1\n",
        "            if not request.wanted:\n",
        "device/test_line.py::test_what_is_ahead_takes_as_many_requests_as_fill_the_pipe",
    ),
    mutation(
        "openfile", "each piece of advice is a stream of its own",
        "        return self.brings or self\n",
        "        return self\n",
        "device/test_line.py::"
        "test_however_much_a_reader_has_said_that_he_will_need_what_he_reads_is_asked_for_as_before",
        "device/test_line.py::"
        "test_what_is_ahead_of_a_reader_does_not_stand_behind_all_that_he_has_said_he_will_need",
    ),
    mutation(
        "device", "whoever reads ahead first may fill the pipe alone",
        "        return -(-(self.pipe.width - kept) // max(len(asking), 1))\n",
        "        return self.pipe.width\n",
        "device/test_line.py::test_a_stream_that_begins_later_has_its_share_of_what_is_in_flight",
    ),
    mutation(
        "device", "who has a single request ahead has as large a share as who has a line of them",
        "        return -(-(self.pipe.width - kept) // max(len(asking), 1))\n",
        "        return -(-self.pipe.width // len(asking | self._ahead_in_flight_of.keys()))\n",
        "device/test_line.py::test_who_asks_for_no_more_leaves_all_the_rest_of_the_pipe_to_who_does",
        "testing/test_simulated.py::test_a_request_ahead_that_hangs_does_not_keep_a_stream_of_its_store_from_filling_the_pipe",
    ),
    mutation(
        "device", "what those have in flight who ask for no more is shared once more",
        "        return -(-(self.pipe.width - kept) // max(len(asking), 1))\n",
        "        return -(-self.pipe.width // max(len(asking), 1))\n",
        "device/test_line.py::test_what_those_keep_who_ask_for_no_more_is_not_shared_once_more",
    ),
    mutation(
        "device", "a page whose reader has given up stays locked",
        "            is_kept = request.keeps_lock and not request.given_up and outcome is Outcome.UPDATED\n",
        "            is_kept = request.keeps_lock and outcome is Outcome.UPDATED\n",
        "device/test_giving_up.py::test_who_is_interrupted_while_the_operation_runs_leaves_the_unlocking_to_who_called_it",
    ),
    mutation(
        "device", "a page whose reader was interrupted as it came stays locked",
        "                is_ours = request.outcome is Outcome.UPDATED\n",
        "                is_ours = False\n",
        "device/test_giving_up.py::test_who_is_interrupted_when_the_page_has_come_gives_its_lock_back",
    ),
    mutation(
        "device", "what a reader gave up is not asked for though another waits for the page",
        "        if self.zone.closed or not (is_needed or page.waiter_count):\n",
        "        if self.zone.closed or not is_needed:\n",
        "device/test_giving_up.py::"
        "test_what_was_wanted_with_its_lock_by_who_was_interrupted_is_asked_for_only_if_another_wants_it",
    ),
    mutation(
        "device", "a page stays locked for which no thread is to be had",
        "            request.error = error\n            self._let_go(request)\n",
        "            request.error = error\n            request.returned()\n",
        "device/test_calls.py::test_no_thread_to_be_had_for_it_is_the_reader_s_error_and_leaves_nothing",
    ),
    mutation(
        "device", "the end of a request does not start who stands in line",
        "                start = self._begin_next(first)\n",
        "                return\n",
        "mm/test_interleavings_of_requests.py::test_no_request_is_left_in_the_line_with_nobody_to_start_it",
    ),
    mutation(
        "request", "whether the operation has returned is not looked at before waiting for it",
        "            if self._last()._has_returned:\n                return\n",
        "",
        "mm/test_interleavings_of_requests.py::test_the_end_of_a_page_against_the_return_of_its_operation",
    ),
]  # fmt: skip
