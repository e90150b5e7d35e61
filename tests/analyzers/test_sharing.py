"""How stages that are open together share a GPU."""

from __future__ import annotations

from typing import Any

from analysis_builders import GPU, HOST, MS, S, gpu_process, gpu_rows, recording, stage, stages_ns, tenths
from gpucost.analyzers import analyze
from gpucost.analyzers.model import NO_STAGE
from gpucost.manifest import Gpu

TREE = [
    {"t_ns": 0, "pid": pid, "ppid": ppid, "start_time_ns": pid}
    for pid, ppid in ((10, 1), (11, 10), (12, 11), (20, 1), (21, 20))
]


def shared(
    *rows: dict[str, Any], sm: dict[int, float | None] | None = None, seconds: float = 4, process: Any = TREE
) -> dict[str, int]:
    """Nanoseconds under each path of a busy GPU whose processes have this SM utilization at every poll, once a second."""
    polls = [
        gpu_process(t, pid, in_run=True, sm=util)
        for t in range(1, round(seconds) + 1)
        for pid, util in (sm or {}).items()
    ]
    run = recording(
        seconds, gpu_rows(tenths(0, seconds), 100.0, poll=False), stage=rows, gpu_process=polls, process=process
    )
    return stages_ns(analyze(run))


def test_stages_open_together_share_equally_where_activity_is_not_known() -> None:
    """Two seconds alone, two shared by two."""
    assert shared(stage("a", 0, 4), stage("b", 2, 4)) == {"a": 3 * S, "b": S}


def test_three_stages_share_to_the_nanosecond() -> None:
    """A second does not divide by three; nothing is lost."""
    found = shared(stage("a", 0, 1), stage("b", 0, 1), stage("c", 0, 1), seconds=1)
    assert sorted(found.values()) == [333_333_333, 333_333_333, 333_333_334]


def test_two_spans_of_one_path_count_as_two_heads() -> None:
    """Three workers and a reader: three quarters are the workers'."""
    workers = [stage("worker", 0, 4, stage_id=str(i)) for i in range(3)]
    assert shared(*workers, stage("reader", 0, 4)) == {"worker": 3 * S, "reader": S}


def test_stages_share_by_the_activity_of_their_processes() -> None:
    """60 % and 20 %: three to one."""
    found = shared(stage("a", 0, 4, pid=10), stage("b", 0, 4, pid=20), sm={10: 60.0, 20: 20.0})
    assert found == {"a": 3 * S, "b": S}


def test_the_activity_of_a_child_process_is_its_parents_stages() -> None:
    """The stage's own process does nothing on the GPU; its grandchild does."""
    found = shared(stage("a", 0, 4, pid=10), stage("b", 0, 4, pid=20), sm={12: 30.0, 20: 10.0})
    assert found == {"a": 3 * S, "b": S}


def test_activity_goes_to_the_nearest_process_with_a_stage() -> None:
    """The parent's stage waits while its child's stage works; it does not get the work a second time."""
    found = shared(stage("waits", 0, 4, pid=10), stage("works", 0, 4, pid=11), sm={12: 50.0})
    assert found == {"works": 4 * S}


def test_stages_of_one_process_share_its_activity() -> None:
    """Two threads' stages in process 10, one in process 20."""
    found = shared(
        stage("a", 0, 4, pid=10), stage("b", 0, 4, pid=10), stage("c", 0, 4, pid=20), sm={10: 50.0, 20: 50.0}
    )
    assert found == {"a": S, "b": S, "c": 2 * S}


def test_no_activity_at_all_is_shared_equally() -> None:
    """Zeros and nulls decide nothing."""
    found = shared(stage("a", 0, 4, pid=10), stage("b", 0, 4, pid=20), sm={10: 0.0, 20: None})
    assert found == {"a": 2 * S, "b": 2 * S}


def test_a_stage_of_an_unknown_process_takes_its_head_and_the_others_share_the_rest() -> None:
    """Nobody knows its activity, so it is neither zero nor all."""
    found = shared(stage("a", 0, 3, pid=10), stage("b", 0, 3, pid=20), stage("c", 0, 3), sm={10: 50.0}, seconds=3)
    assert found == {"a": 2 * S, "c": S}


def test_activity_of_processes_without_a_stage_decides_nothing() -> None:
    """Process 30 is nobody's."""
    found = shared(stage("a", 0, 4, pid=10), stage("b", 0, 4, pid=20), sm={30: 90.0})
    assert found == {"a": 2 * S, "b": 2 * S}


def test_activity_of_somebody_elses_process_of_the_same_pid_decides_nothing() -> None:
    """Seen from a container, a host's pid may be that of one of our processes."""
    polls = [gpu_process(t, pid, in_run=pid == 10, sm=50.0) for t in (1, 2) for pid in (10, 20)]
    rows = [stage("a", 0, 2, pid=10), stage("b", 0, 2, pid=20)]
    run = recording(2, gpu_rows(tenths(0, 2), 100.0, poll=False), stage=rows, gpu_process=polls, process=TREE)
    assert stages_ns(analyze(run)) == {"a": 2 * S}


def test_activity_is_weighed_in_each_segment_by_itself() -> None:
    """Stage a works in the first two seconds, b in the last two; c, open in the middle, cuts the time there."""
    polls = [gpu_process(t, 10 if t <= 2 else 20, in_run=True, sm=50.0) for t in (1, 2, 3, 4)]
    rows = [stage("a", 0, 4, pid=10), stage("b", 0, 4, pid=20), stage("c", 1, 2, pid=21)]
    run = recording(4, gpu_rows(tenths(0, 4), 100.0, poll=False), stage=rows, gpu_process=polls, process=TREE)
    assert stages_ns(analyze(run)) == {"a": 2 * S, "b": 2 * S}


def test_a_poll_speaks_for_the_time_since_the_one_before() -> None:
    """Stage b opens at 1.5 s; the poll at 2 s says only b's process worked since 1 s."""
    polls = [gpu_process(1, 10, in_run=True, sm=50.0), gpu_process(2, 20, in_run=True, sm=50.0)]
    rows = [stage("a", 0, 2, pid=10), stage("b", 1.5, 2, pid=20)]
    run = recording(2, gpu_rows(tenths(0, 2), 100.0, poll=False), stage=rows, gpu_process=polls, process=TREE)
    assert stages_ns(analyze(run)) == {"a": 1_500 * MS, "b": 500 * MS}


def test_activity_on_one_gpu_says_nothing_of_another() -> None:
    """Stage a works on the first GPU, b on the second."""
    gpus = [Gpu(uuid, "Test GPU", HOST, i) for i, uuid in enumerate((GPU, "GPU-1"))]
    polls = [
        gpu_process(t, pid, in_run=True, sm=50.0, uuid=uuid) for t in (1, 2) for pid, uuid in ((10, GPU), (20, "GPU-1"))
    ]
    rows = [*gpu_rows(tenths(0, 2), 100.0), *gpu_rows(tenths(0, 2), 100.0, uuid="GPU-1")]
    run = recording(
        2, rows, gpus=gpus, stage=[stage("a", 0, 2, pid=10), stage("b", 0, 2, pid=20)], gpu_process=polls, process=TREE
    )
    found = analyze(run).ledger
    assert found[["gpu_uuid", "stage_path", "duration_ns"]].to_numpy().tolist() == [
        [GPU, "a", 2 * S],
        ["GPU-1", "b", 2 * S],
    ]


def test_a_process_tree_with_a_cycle_does_not_hang() -> None:
    """A damaged table."""
    tree = [
        {"t_ns": 0, "pid": 10, "ppid": 11, "start_time_ns": 1},
        {"t_ns": 0, "pid": 11, "ppid": 10, "start_time_ns": 1},
    ]
    found = shared(stage("a", 0, 4, pid=20), stage("b", 0, 4, pid=21), sm={10: 50.0}, process=tree)
    assert found == {"a": 2 * S, "b": 2 * S}


def test_an_orphan_belongs_to_the_parent_it_was_born_to() -> None:
    """Process 11 was given to the recorder when process 10 died; its activity is still stage a's."""
    tree = [*TREE, {"t_ns": 2 * S, "pid": 11, "ppid": 1, "start_time_ns": 11}]
    found = shared(stage("a", 0, 4, pid=10), stage("b", 0, 4, pid=20), sm={11: 30.0, 20: 10.0}, process=tree)
    assert found == {"a": 3 * S, "b": S}


def test_shared_time_keeps_its_uses() -> None:
    """Half busy, half gap, for each of the two."""
    run = recording(2, gpu_rows(tenths(0, 2), 50.0), stage=[stage("a", 0, 1), stage("b", 0, 1)])
    found = analyze(run).ledger
    cells = {(path, use): ns for _, path, use, ns in found.itertuples(index=False)}
    assert cells == {
        ("a", "busy"): 250 * MS,
        ("a", "gap"): 250 * MS,
        ("b", "busy"): 250 * MS,
        ("b", "gap"): 250 * MS,
        (NO_STAGE, "busy"): 500 * MS,
        (NO_STAGE, "gap"): 500 * MS,
    }


def test_thousands_of_overlapping_stages_add_up() -> None:
    """Two thousand open at once, each with its own path and process."""
    rows = [stage(f"s{i}", i / 1000, 4 - i / 1000, pid=1000 + i) for i in range(2000)]
    found = shared(*rows, sm={1000 + i: 1.0 for i in range(0, 2000, 500)})
    assert sum(found.values()) == 4 * S
