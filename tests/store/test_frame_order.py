"""Rows that lie in runs already are copied run by run, and come out as if they had been sorted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucost.store import frames

runs_of_one_key = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 6)), min_size=1, max_size=12)


@given(runs=runs_of_one_key, pieces=st.lists(st.integers(1, 9), min_size=1, max_size=60))
@settings(deadline=None)
def test_runs_are_put_in_the_same_order_as_sorting_puts_them(runs, pieces):
    """Each run has a key, a length and a start; where a key's runs overlap in time, there is no such order."""
    keys = np.concatenate([np.full(length, key, np.int16) for key, length, _ in runs])
    times = np.concatenate([3 * start + np.arange(length) for _, length, start in runs]).astype(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "_LONG", 0)
        found = frames._Runs.of(keys, times)
    by_key = [times[keys == key] for key in np.unique(keys)]
    if any((np.diff(one) <= 0).any() for one in by_key):
        assert found is None
        return
    assert found is not None
    expected = np.lexsort([times, keys])
    values = np.arange(len(keys)) * 1.5
    assert found.rows().tolist() == expected.tolist()
    assert found.taken(values).tolist() == values[expected].tolist()
    for order in (found, frames._Rows(expected)):
        into, start = np.full(len(keys), np.nan), 0
        for size in pieces:
            order.put(values[start : start + size], start, into)
            start += len(values[start : start + size])
        order.put(values[start:], start, into)
        assert into.tolist() == values[expected].tolist()


def test_short_runs_are_not_worth_it():
    assert frames._Runs.of(np.array([0, 1] * 100, np.int16), np.arange(200)) is None
