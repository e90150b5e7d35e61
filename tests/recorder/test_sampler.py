"""Collectors are sampled on absolute deadlines, each for itself, and a failing one is reported, retried and left alone."""

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from gpucost.clock import SystemClock
from gpucost.collectors.base import Context, SourceUnavailable, Tier
from gpucost.recorder.sampler import Runner, TierState, backoff_s

SECOND = 1_000_000_000


def test_deadlines_do_not_drift_however_late_each_sample_starts():
    state = TierState(Tier("t", SECOND), origin_ns=0, now_ns=0)
    for tick in range(1000):
        assert state.deadline_ns == tick * SECOND
        state.begin(state.deadline_ns + 300_000_000)
    assert (state.ticks, state.late, state.missed) == (1000, 0, 0)


def test_a_sample_more_than_half_a_period_late_is_counted_as_late():
    state = TierState(Tier("t", SECOND), 0, 0)
    state.begin(600_000_000)
    assert (state.late, state.missed, state.deadline_ns) == (1, 0, SECOND)


def test_deadlines_that_passed_are_missed_and_not_caught_up_with():
    state = TierState(Tier("t", SECOND), 0, 0)
    state.begin(30 * SECOND + 100_000_000)
    assert (state.ticks, state.missed, state.deadline_ns) == (1, 30, 31 * SECOND)


def test_the_first_sample_is_due_at_once_and_all_others_on_the_common_grid():
    state = TierState(Tier("t", SECOND), 0, 2_500_000_000)
    assert state.deadline_ns == 2_500_000_000
    state.begin(2_500_000_000)
    assert state.deadline_ns == 3 * SECOND
    state.begin(3 * SECOND)
    assert state.deadline_ns == 4 * SECOND


@given(st.lists(st.integers(0, 10 * SECOND), max_size=60), st.integers(20_000_000, 10 * SECOND))
def test_every_deadline_is_either_sampled_or_missed(delays, period):
    state = TierState(Tier("t", period), 0, 0)
    now = 0
    for delay in delays:
        now = max(now, state.deadline_ns) + delay
        state.begin(now)
    assert state.ticks + state.missed == state.deadline_ns // period


def test_a_tier_whose_samples_are_too_slow_is_slowed_down_and_recovers():
    state = TierState(Tier("t", 100_000_000), 0, 0)
    told = [state.finish(60_000_000) for _ in range(5)]
    assert told == [False] * 4 + [True]
    assert state.stretch == 2
    assert state.finish(1_000_000)
    assert state.stretch == 1


class Fake:
    """A collector that does what it is told."""

    name = "fake"

    def __init__(self, *, starts=(), samples=()):
        self.starts, self.samples = list(starts), list(samples)
        self.calls: list[str] = []
        self.sampled = threading.Event()

    def start(self, context):
        self.calls.append("start")
        if self.starts and (error := self.starts.pop(0)):
            raise error
        return [Tier("t", 20_000_000)]

    def sample(self, tier):
        self.calls.append("sample")
        error = self.samples.pop(0) if self.samples else None
        if error:
            raise error
        self.sampled.set()

    def stop(self):
        self.calls.append("stop")


def runner_of(collector, events):
    def report(kind, message, *, subject=None):
        events.append((kind, message))

    context = Context(
        clock=SystemClock(), emit=lambda table, row: None, report=report, describe=lambda key, value: None, root_pid=1, command_pid=1,
        hz=10.0, gpus="", bill="visible", environ={}, stage_file="",
    )  # fmt: skip
    return Runner(collector, context, time.monotonic_ns())


def run_until_sampled(collector, events):
    runner = runner_of(collector, events)
    runner.start()
    assert collector.sampled.wait(30)
    runner.ask_to_stop()
    runner.join(30)
    assert not runner.is_alive()
    return runner


def test_a_collector_is_started_sampled_once_more_at_the_end_and_stopped():
    collector = Fake()
    runner = run_until_sampled(collector, [])
    assert collector.calls[0] == "start"
    assert collector.calls[-2:] == ["sample", "stop"]
    assert runner.status["ticks"] == collector.calls.count("sample")


def test_a_failing_sample_is_reported_and_tried_again():
    events = []
    runner = run_until_sampled(Fake(samples=[ValueError("no"), None]), events)
    assert events[0] == ("collector_failed", "fake failed to sample: no")
    assert events[1][0] == "collector_recovered"
    assert runner.status["errors"] == 1


def test_after_a_few_failures_the_next_try_comes_later_and_later():
    """A driver that is reloaded is back within seconds; what stays broken costs a try a minute."""
    assert [backoff_s(failures) for failures in range(1, 14)] == [1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff_s(10**6) == 60


def test_a_failing_start_is_reported_and_tried_again():
    events = []
    run_until_sampled(Fake(starts=[OSError("not yet"), None]), events)
    assert [kind for kind, _ in events] == ["collector_failed", "collector_recovered"]


def test_a_source_that_is_not_there_is_said_once_and_not_tried_again():
    events = []
    collector = Fake(starts=[SourceUnavailable("no driver", permanent=True)])
    runner = runner_of(collector, events)
    runner.start()
    runner.join(30)
    assert events == [("source_unavailable", "no driver")]
    assert collector.calls == ["start", "stop"]


def test_a_call_that_does_not_come_back_is_said_once():
    events = []
    release = threading.Event()
    collector = Fake()
    collector.start = lambda context: (release.wait(60), [])[1]
    runner = runner_of(collector, events)
    runner._busy_since_ns -= 6 * SECOND
    runner.look_after()
    runner.look_after()
    assert [kind for kind, _ in events] == ["collector_stuck"]
    release.set()
