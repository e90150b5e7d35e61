"""Following the stage file, and closing the spans of processes that died."""

import json
import os
import signal
import subprocess

import pytest

from collector_harness import SECOND, FakeProc, Lent
from gpucost.collectors import _proc, stages
from gpucost.collectors.stages import StagesCollector

PID = 4242


class Recording:
    """A stage file, a collector that follows it, and processes that live and die at a word."""

    def __init__(self, folder):
        self.path = folder / "stages.jsonl"
        self.proc = FakeProc(folder / "proc")
        self.lent = Lent(stage_file=str(self.path))
        self.collector = StagesCollector(self.proc)
        (self.tier,) = self.collector.start(self.lent.context)

    def alive(self, pid=PID, **options):
        self.proc.process(pid, 1, **{"start": 0, **options})

    def write(self, text):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)

    def mark(self, event, span_id, **fields):
        clock = self.lent.clock
        mark = {"event": event, "id": span_id, "time_ns": clock.time_ns(), "mono_ns": clock.mono_ns(), **fields}
        self.write(json.dumps(mark) + "\n")

    def start(self, span_id, pid=PID, **fields):
        self.mark("start", span_id, **{"name": f"stage {span_id}", "pid": pid, **fields})

    def end(self, span_id, **fields):
        self.mark("end", span_id, **fields)

    def tick(self, seconds=0.2):
        """Time passes, and then a sample is taken; the spans that it closed."""
        self.lent.clock.advance(seconds)
        self.collector.sample(self.tier.name)
        return self.lent.take("stage")

    def stop(self):
        self.collector.stop()
        return self.lent.take("stage")

    def at(self, seconds):
        """A moment of the recording on the monotonic clock."""
        return 5000 * SECOND + round(seconds * SECOND)


@pytest.fixture
def recording(tmp_path):
    # Processes of the made-up /proc start long before the made-up clock.
    return Recording(tmp_path)


@pytest.fixture(autouse=True)
def _old_boot(monkeypatch):
    monkeypatch.setattr(_proc, "boot_time_ns", lambda: 1_700_000_000 * SECOND)


# --- reading -----------------------------------------------------------------------------------------------------------------------


def test_a_span_is_emitted_when_it_has_ended(recording):
    recording.alive()
    recording.start("a", name="plan", attributes={"tokens": 12})
    assert recording.tick() == []
    recording.end("a", attributes={"answer": "ok"})
    (row,) = recording.tick()
    assert (row.stage_id, row.name, row.pid, row.truncated) == ("a", "plan", PID, False)
    assert (row.start_mono_ns, row.end_mono_ns) == (recording.at(0), recording.at(0.2))
    assert json.loads(row.attributes) == {"tokens": 12, "answer": "ok"}


def test_a_recording_without_a_stage_file_is_not_remarkable(recording):
    assert recording.tick() == []
    assert recording.stop() == []
    assert recording.lent.events == []


def test_a_line_that_is_not_whole_waits_for_its_end(recording):
    recording.start("a")
    line = json.dumps({"event": "end", "id": "a"}) + "\n"
    recording.write(line[:9])
    assert recording.tick() == []
    recording.write(line[9:-1])
    assert recording.tick() == []
    recording.write("\n")
    assert [row.stage_id for row in recording.tick()] == ["a"]


def test_a_last_line_without_an_end_counts_when_the_run_is_over(recording):
    recording.alive()
    recording.start("a")
    recording.write('{"event": "end", "id": "a"}')
    assert recording.tick() == []
    (row,) = recording.stop()
    assert not row.truncated


def test_a_mark_without_a_time_gets_the_time_at_which_it_was_read(recording):
    recording.write('{"event": "start", "id": "a", "name": "plan"}\n')
    recording.tick(0.2)
    recording.write('{"event": "end", "id": "a"}\n')
    (row,) = recording.tick(0.2)
    assert (row.start_mono_ns, row.end_mono_ns) == (recording.at(0.2), recording.at(0.4))
    assert row.end_time_ns - row.start_time_ns == 0.2 * SECOND


def test_lines_that_are_no_marks_are_passed_over_and_told_of_once(recording):
    recording.write("not JSON\n[1]\n\n")
    recording.start("a")
    recording.end("a")
    assert [row.stage_id for row in recording.tick()] == ["a"]
    recording.stop()
    assert [(kind, subject) for kind, _, subject in recording.lent.events] == [("stage_marks", "bad_mark")]


def test_a_truncated_file_is_read_again_from_its_start(recording):
    recording.start("a")
    recording.end("a")
    assert len(recording.tick()) == 1
    os.truncate(recording.path, 0)
    recording.start("b")
    recording.tick()
    recording.end("b")
    assert [row.stage_id for row in recording.tick()] == ["b"]
    assert [kind for kind, _, _ in recording.lent.events] == ["stage_file_replaced"]


def test_a_replaced_file_is_followed(recording):
    recording.start("a")
    recording.tick()
    recording.path.rename(recording.path.with_suffix(".old"))
    recording.end("a")
    rows = [row for _ in range(3) for row in recording.tick()]
    assert [row.stage_id for row in rows] == ["a"]


def test_what_is_still_written_to_a_deleted_file_is_read(recording):
    recording.start("a")
    recording.tick()
    with recording.path.open("a", encoding="utf-8") as file:
        recording.path.unlink()
        file.write('{"event": "end", "id": "a"}\n')
    assert [row.stage_id for row in recording.tick()] == ["a"]


def test_one_sample_reads_no_more_than_its_share_and_nothing_is_lost(recording, monkeypatch):
    monkeypatch.setattr(stages, "_BYTES_PER_SAMPLE", 100)
    for number in range(20):
        recording.start(f"{number}")
        recording.end(f"{number}")
    first = recording.tick()
    assert len(first) < 3
    rows = first + recording.stop()
    assert [row.stage_id for row in rows] == [f"{number}" for number in range(20)]


def test_a_stage_file_that_is_no_file_does_not_hang_the_collector(recording):
    os.mkfifo(recording.path)
    assert recording.tick() == []
    assert recording.stop() == []


# --- spans of processes that died --------------------------------------------------------------------------------------------------


def test_a_span_of_a_dead_process_is_closed_when_it_was_last_seen_alive(recording):
    recording.alive()
    recording.start("a")
    recording.tick(0.2)
    recording.tick(0.2)
    recording.proc.remove(PID)
    assert recording.tick(0.2) == [], "one look is not enough"
    (row,) = recording.tick(0.2)
    assert row.truncated
    assert (row.start_mono_ns, row.end_mono_ns) == (recording.at(0), recording.at(0.4))
    assert recording.stop() == []


def test_a_zombie_is_dead(recording):
    recording.alive()
    recording.start("a")
    recording.tick()
    recording.alive(state="Z")
    rows = recording.tick() + recording.tick()
    assert [row.truncated for row in rows] == [True]


def test_another_process_with_the_same_pid_does_not_keep_a_span_open(recording):
    recording.alive(start=5)
    recording.start("a")
    recording.tick()
    recording.alive(start=9000)
    rows = recording.tick() + recording.tick()
    assert [row.truncated for row in rows] == [True]


def test_an_end_written_just_before_death_is_honoured(recording):
    recording.alive()
    recording.start("a")
    recording.tick()
    recording.proc.remove(PID)
    assert recording.tick() == []
    recording.end("a")  # it became visible after the first look
    (row,) = recording.tick()
    assert not row.truncated


def test_all_spans_of_a_dead_process_are_closed_and_none_of_another(recording):
    recording.alive()
    recording.alive(4343)
    recording.start("a")
    recording.start("b", parent="a")
    recording.start("c", pid=4343, parent="b")
    recording.tick()
    recording.proc.remove(PID)
    rows = recording.tick() + recording.tick()
    assert sorted(row.stage_id for row in rows) == ["a", "b"]
    recording.end("c")
    (row,) = recording.tick()
    assert (row.stage_id, row.parent_id, row.truncated) == ("c", "b", False)


def test_a_span_does_not_end_before_the_last_mark_of_its_process(recording):
    recording.alive()
    recording.start("a")
    recording.tick(0.2)
    recording.lent.clock.advance(0.15)
    recording.start("b", parent="a")
    recording.end("b")
    recording.proc.remove(PID)
    rows = recording.tick(0.05) + recording.tick(0.2)
    spans = {row.stage_id: row for row in rows}
    assert spans["a"].truncated
    assert spans["a"].end_mono_ns == recording.at(0.35)


def test_a_mark_from_the_future_does_not_stretch_a_truncated_span(recording):
    recording.alive()
    recording.start("a")
    recording.tick()
    recording.start("b", mono_ns=recording.at(3600))
    recording.proc.remove(PID)
    rows = recording.tick() + recording.tick()
    assert {row.stage_id: row.end_mono_ns for row in rows}["a"] == recording.at(0.2)


def test_a_process_that_was_never_seen_is_given_the_benefit_of_the_doubt_until_the_run_ends(recording):
    """It died at once, or lives in another PID namespace under this number."""
    recording.start("a")
    recording.start("b")
    assert [row for _ in range(10) for row in recording.tick()] == []
    recording.end("b")
    assert [row.stage_id for row in recording.tick()] == ["b"]
    (row,) = recording.stop()
    assert (row.stage_id, row.truncated) == ("a", True)
    assert row.end_mono_ns == recording.at(2.0), "its last mark"


def test_a_process_that_ends_with_the_run_has_its_spans_closed_then(recording):
    recording.alive()
    recording.start("a")
    recording.tick(0.2)
    recording.proc.remove(PID)
    recording.lent.clock.advance(0.15)
    (row,) = recording.stop()
    assert row.truncated
    assert row.end_mono_ns == recording.at(0.35)


def test_a_span_of_a_process_that_outlives_the_run_stays_open(recording):
    recording.alive()
    recording.start("a")
    recording.tick()
    assert recording.stop() == []


def test_a_span_without_a_process_is_closed_with_the_run(recording):
    recording.start("a", pid=None)
    assert [row for _ in range(5) for row in recording.tick()] == []
    (row,) = recording.stop()
    assert row.truncated
    assert row.end_mono_ns == recording.at(1.0)


def test_nobody_is_declared_dead_while_there_is_more_to_read(recording, monkeypatch):
    recording.alive()
    recording.start("a")
    recording.tick()
    monkeypatch.setattr(stages, "_BYTES_PER_SAMPLE", 150)
    for number in range(8):
        recording.start(f"{number}")
        recording.end(f"{number}")
    recording.end("a")
    recording.proc.remove(PID)
    rows = [row for _ in range(40) for row in recording.tick()]
    assert len(rows) == 9
    assert not any(row.truncated for row in rows)


def test_a_real_process_that_is_killed_leaves_a_truncated_span(tmp_path, monkeypatch):
    monkeypatch.undo()
    path = tmp_path / "stages.jsonl"
    script = 'printf \'{"event":"start","id":"a","name":"train","pid":%d}\\n\' $$ >>"$0"; exec sleep 60'
    process = subprocess.Popen(["sh", "-c", script, str(path)])
    try:
        while not path.exists() or not path.read_text(encoding="utf-8").endswith("\n"):
            assert process.poll() is None
        lent = Lent(stage_file=str(path))
        collector = StagesCollector()
        lent.clock.elapsed_ns = 10**18  # well after the start of any process
        (tier,) = collector.start(lent.context)
        collector.sample(tier.name)
        alive_ns = lent.clock.mono_ns()
        process.send_signal(signal.SIGKILL)
        process.wait()
        for _ in range(2):
            lent.clock.advance(0.2)
            collector.sample(tier.name)
        (row,) = lent.take("stage")
        assert (row.name, row.truncated, row.end_mono_ns) == ("train", True, alive_ns)
    finally:
        process.kill()
        process.wait()
