"""Events are folded, and the clocks are watched."""

from gpucost.recorder.events import EventLog

SECOND = 1_000_000_000


class Clock:
    """Two clocks set by hand."""

    def __init__(self):
        self.time, self.mono = 10**18, 5 * SECOND

    def time_ns(self):
        return self.time

    def mono_ns(self):
        return self.mono

    def pass_(self, seconds, *, stepped=0.0):
        self.mono += int(seconds * SECOND)
        self.time += int((seconds + stepped) * SECOND)


def log():
    rows, clock = [], Clock()
    return EventLog(lambda table, row: rows.append(row), clock), rows, clock


def test_the_same_event_is_written_at_most_once_a_minute():
    events, rows, clock = log()
    for _ in range(100):
        events.report("nvml", "failed", "x", subject="a")
        clock.pass_(1)
    assert len(rows) == 2
    events.report("nvml", "failed", "x", subject="b")
    assert len(rows) == 3


def test_different_things_said_of_one_subject_are_all_kept_but_not_without_end():
    events, rows, clock = log()
    events.report("nvml", "gpu_lost", "lost", subject="a")
    events.report("nvml", "gpu_lost", "lost again", subject="a")
    assert len(rows) == 2
    for number in range(1000):
        events.report("nvml", "slow", f"took {number} ms")
    assert len(rows) == 22
    clock.pass_(61)
    events.report("nvml", "slow", "took 5 ms")
    assert len(rows) == 23


def test_events_about_ever_new_subjects_do_not_pile_up_in_memory():
    events, rows, _ = log()
    for number in range(10_000):
        events.report("stages", "stage_started", "x", subject=str(number))
    assert len(rows) == 10_000
    assert len(events._recent) <= 2001


def test_a_step_of_the_wall_clock_is_an_event_and_ordinary_drift_is_not():
    events, rows, clock = log()
    clock.pass_(10, stepped=0.2)
    events.watch_clocks()
    assert rows == []
    clock.pass_(1, stepped=-3600.0)
    events.watch_clocks()
    events.watch_clocks()
    assert [(row.kind, row.source) for row in rows] == [("clock_stepped", "recorder")]
    assert "-3599.8 s" in rows[0].message


def test_a_long_message_is_cut():
    events, rows, _ = log()
    events.report("a", "b", "x" * 10_000)
    assert len(rows[0].message) == 500
