"""A bad record is skipped, counted and told once; too many stop the run."""

import concurrent.futures

import pytest

from videodit.core.errors import UserError
from videodit.data.bad_records import BadRecords


def fail():
    raise OSError("no such block")


def test_a_bad_record_is_skipped_counted_and_told_once_with_its_key():
    bad = BadRecords()
    assert bad.attempt(lambda: "a", lambda: 7) == 7
    assert [bad.attempt(lambda: "clip-3", fail) for _ in range(3)] == [None] * 3
    assert (bad.read, bad.count) == (4, 3)
    assert bad.lines() == ["skipped a record that cannot be read: clip-3: OSError: no such block"] and bad.lines() == []


def test_beyond_its_share_the_run_stops_and_says_why():
    bad = BadRecords(share=0.02)
    for _ in range(198):
        bad.attempt(lambda: "good", lambda: 1)
    for _ in range(4):
        bad.attempt(lambda: "bad", fail)
    with pytest.raises(UserError, match="5 of 203 records could not be read, more than the share train.bad_share=0.02; the last: bad:"):
        bad.attempt(lambda: "bad", fail)


def test_a_few_of_the_very_first_do_not_stop_it():
    bad = BadRecords(share=0.0)
    assert [bad.attempt(lambda: "bad", fail) for _ in range(99)] == [None] * 99


def test_threads_lose_no_count():
    bad = BadRecords(share=1.0)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: bad.attempt(lambda: str(i), fail if i % 2 else lambda: 1), range(2000)))
    assert (bad.read, bad.count) == (2000, 1000) and len(bad.lines()) == 1000
