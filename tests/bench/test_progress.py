"""The bar tells the truth: it never runs ahead of the measuring, and never backwards."""

from hypothesis import given
from hypothesis import strategies as st

from gpucost.bench.progress import Ledger


def test_the_bar_follows_the_clock_and_waits_at_the_end_of_a_test():
    ledger = Ledger()
    ledger.planned("GPU 0", 10)
    ledger.begin("GPU 0", "gemm.bf16", 4, now_s=100)
    assert ledger.done(102) == (2, 10, "gemm.bf16")
    assert ledger.done(150)[0] == 4, "operands and proofs are no measuring"


def test_what_was_saved_or_skipped_counts_as_done():
    ledger = Ledger()
    ledger.planned("GPU 0", 10)
    ledger.begin("GPU 0", "warming up", 6, now_s=0)
    ledger.end("GPU 0", 6)
    assert ledger.done(1.5) == (6, 10, "")


def test_devices_are_added_up_and_named():
    ledger = Ledger()
    for name in ("GPU 0", "GPU 1"):
        ledger.planned(name, 10)
        ledger.begin(name, "mem.triad", 5, now_s=0)
    assert ledger.done(1) == (2, 20, "GPU 0: mem.triad; GPU 1: mem.triad")


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 20)), max_size=12))
def test_the_bar_never_runs_backwards_nor_beyond_its_end(steps):
    ledger = Ledger()
    ledger.planned("GPU", sum(planned for planned, _ in steps))
    now, last = 0.0, 0.0
    for planned, took in steps:
        ledger.begin("GPU", "test", planned, now_s=now)
        for moment in (now, now + took / 2, now + took):
            done, total, _ = ledger.done(moment)
            assert last - 1e-9 <= done <= total + 1e-9
            last = done
        now += took
        ledger.end("GPU", planned)
        assert ledger.done(now)[0] >= last - 1e-9
