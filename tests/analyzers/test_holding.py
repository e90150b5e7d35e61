"""When the run holds a GPU, and what that rests on."""

from __future__ import annotations

from analysis_builders import GPU, HOST, MIB, MS, S, gpu_process, gpu_rows, recording, stage, tenths, uses_ns
from gpucost.analyzers import analyze
from gpucost.manifest import Gpu

BARE, TAKEN = 500 * MIB, 2500 * MIB


def polled(seconds: list[int], *, ticks: int) -> list[int | None]:
    """A column that is known once a second, at the ticks 0, 10, 20, ..."""
    return [seconds[i // 10] if i % 10 == 0 else None for i in range(ticks)]


def rows(own: list[int], ticks: int, others: list[int] | None = None, **columns: object) -> list[dict[str, object]]:
    """A 10 Hz series from 0.1 s with the run's processes at every poll."""
    total = [a + b for a, b in zip(own, others or [0] * len(own), strict=True)]
    lists = {"processes": polled(total, ticks=ticks), "run_processes": polled(own, ticks=ticks)}
    return gpu_rows(tenths(0, ticks / 10), **{"util": 0.0, **lists, **columns})


def test_between_polls_that_agree_their_answer_counts() -> None:
    """Memory that falls and rises between them changes nothing."""
    memory = [TAKEN] * 5 + [BARE] * 4 + [TAKEN] * 12
    found = analyze(recording(2.1, rows([1, 1, 1], 21, memory_used_bytes=memory)))
    assert uses_ns(found) == {"idle": 2_100 * MS}
    assert found.gpus.loc[GPU, "holding_basis"] == "processes"


def test_a_gpu_is_taken_when_memory_rises_between_the_polls() -> None:
    """Free at 0.1 s, held at 1.1 s, memory up at 0.6 s."""
    memory = [BARE] * 5 + [TAKEN] * 16
    found = analyze(recording(2.1, rows([0, 1, 1], 21, memory_used_bytes=memory)))
    assert uses_ns(found) == {"empty": 500 * MS, "idle": 1_600 * MS}


def test_a_gpu_is_taken_when_a_kernel_runs_between_the_polls() -> None:
    """Without memory, utilization tells: first at 0.8 s."""
    util = [0.0] * 7 + [50.0] * 14
    found = analyze(recording(2.1, rows([0, 1, 1], 21, util=util)))
    assert uses_ns(found) == {"empty": 700 * MS, "busy": 700 * MS, "gap": 700 * MS}


def test_a_gpu_is_taken_at_the_poll_that_says_so_if_nothing_else_does() -> None:
    """Neither memory nor a kernel before 1.1 s; the poll's own interval counts."""
    found = analyze(recording(2.1, rows([0, 1, 1], 21, memory_used_bytes=BARE)))
    assert uses_ns(found) == {"empty": S, "idle": 1_100 * MS}


def test_a_gpu_is_released_after_the_last_sign_of_use_between_the_polls() -> None:
    """Held at 1.1 s, free at 2.1 s, memory down after 1.5 s, last kernel at 1.7 s."""
    memory = [TAKEN] * 15 + [BARE] * 16
    util = [50.0] * 17 + [0.0] * 14
    found = analyze(recording(3.1, rows([1, 1, 0, 0], 31, memory_used_bytes=memory, util=util)))
    assert uses_ns(found) == {"busy": 850 * MS, "gap": 850 * MS, "empty": 1_400 * MS}


def test_memory_that_wavers_by_little_is_no_sign() -> None:
    """The driver's own use moves by a few MiB; a CUDA context takes a hundred."""
    memory = [BARE] * 5 + [BARE + 20 * MIB] * 5 + [TAKEN] * 11
    found = analyze(recording(2.1, rows([0, 1, 1], 21, memory_used_bytes=memory)))
    assert uses_ns(found)["empty"] == S


def test_ticks_that_show_nothing_between_polls_that_differ_are_unknown() -> None:
    """No memory and no utilization: nobody knows when the GPU was taken."""
    util = [0.0] + [None] * 9 + [0.0] * 11
    found = analyze(recording(2.1, rows([0, 1, 1], 21, util=util)))
    assert uses_ns(found) == {"empty": 100 * MS, "unknown": 900 * MS, "idle": 1_100 * MS}
    assert found.unknown_intervals["reason"].tolist() == ["holding"]


def test_a_poll_that_finds_the_gpu_free_says_so_even_if_its_tick_shows_nothing_else() -> None:
    """Held at 0.1 s, free at 1.1 s, and no other column is known."""
    found = analyze(recording(1.1, rows([1, 0], 11, util=[0.0] + [None] * 10)))
    assert uses_ns(found) == {"gap": 100 * MS, "unknown": 900 * MS, "empty": 100 * MS}


def test_the_last_poll_counts_for_three_seconds_and_then_memory_does() -> None:
    """The list cannot be read any more after 0.1 s; without memory the rest is unknown."""
    polls = [1] + [None] * 59
    dark = analyze(recording(6, gpu_rows(tenths(0, 6), 0.0, processes=polls, run_processes=polls)))
    assert uses_ns(dark) == {"idle": 3_100 * MS, "unknown": 2_900 * MS}
    seen = analyze(
        recording(6, gpu_rows(tenths(0, 6), 0.0, processes=polls, run_processes=polls, memory_used_bytes=BARE))
    )
    assert uses_ns(seen) == {"idle": 3_100 * MS, "empty": 2_900 * MS}


def test_the_first_poll_counts_backwards_for_three_seconds() -> None:
    """The list was first read at 4 s."""
    polls = [None] * 39 + [1] + [None] * 10
    found = analyze(recording(5, gpu_rows(tenths(0, 5), 0.0, processes=polls, run_processes=polls)))
    assert uses_ns(found) == {"unknown": 900 * MS, "idle": 4_100 * MS}


def test_a_neighbour_at_the_first_poll_was_there_for_three_seconds_before_it() -> None:
    """First polled at 4 s; what ran before 1 s is the run's as far as anybody knows."""

    def found(processes: int, run_processes: int) -> dict[str, int]:
        total, own = ([None] * 39 + [count] + [None] * 10 for count in (processes, run_processes))
        return uses_ns(analyze(recording(5, gpu_rows(tenths(0, 5), 50.0, processes=total, run_processes=own))))

    assert found(1, 0) == {"busy": 450 * MS, "gap": 450 * MS, "foreign": 2_050 * MS, "empty": 2_050 * MS}
    assert found(2, 1) == {"busy": 450 * MS + 1_025 * MS, "gap": 2_500 * MS, "foreign": 1_025 * MS}


def test_without_process_lists_memory_above_the_reserve_is_holding() -> None:
    """And the basis says so."""
    memory = [BARE] * 10 + [TAKEN] * 10 + [BARE + 10 * MIB] * 10
    found = analyze(recording(3, gpu_rows(tenths(0, 3), 0.0, poll=False, memory_used_bytes=memory)))
    assert uses_ns(found) == {"empty": 2 * S, "idle": S}
    assert found.gpus.loc[GPU, "holding_basis"] == "memory"
    assert any("cannot be read" in note for note in found.notes)


def test_where_the_reserve_is_not_known_the_least_memory_seen_stands_for_it() -> None:
    """700 MiB are nobody's, 900 are somebody's."""
    gpus = [Gpu(GPU, "Test GPU", HOST, 0)]
    memory = [700 * MIB] * 10 + [900 * MIB] * 10
    found = analyze(recording(2, gpu_rows(tenths(0, 2), 0.0, poll=False, memory_used_bytes=memory), gpus=gpus))
    assert uses_ns(found) == {"empty": S, "idle": S}


def test_a_gpu_full_from_first_to_last_is_held_although_its_reserve_is_not_known() -> None:
    """No driver keeps 40 GiB for itself."""
    gpus = [Gpu(GPU, "Test GPU", HOST, 0)]
    found = analyze(recording(2, gpu_rows(tenths(0, 2), 0.0, poll=False, memory_used_bytes=40960 * MIB), gpus=gpus))
    assert uses_ns(found) == {"idle": 2 * S}


def test_without_lists_and_memory_it_is_held_while_kernels_run_and_otherwise_unknown() -> None:
    """A guess would be either idle or empty; unknown is neither."""
    util = [0.0] * 10 + [40.0] * 10
    found = analyze(recording(2, gpu_rows(tenths(0, 2), util, poll=False)))
    assert uses_ns(found) == {"unknown": S, "busy": 400 * MS, "gap": 600 * MS}
    assert found.gpus.loc[GPU, "holding_basis"] == "none"


def test_a_list_that_stays_empty_while_the_gpu_works_is_not_believed() -> None:
    """A container that cannot see the host's pids: memory decides, and a note says so."""
    util, memory = [0.0] * 10 + [100.0] * 10, [BARE] * 10 + [TAKEN] * 10
    found = analyze(recording(2, gpu_rows(tenths(0, 2), util, processes=0, run_processes=0, memory_used_bytes=memory)))
    assert uses_ns(found) == {"empty": S, "busy": S}
    assert found.gpus.loc[GPU, "holding_basis"] == "memory"
    assert any("stayed empty" in note for note in found.notes)


def unplaced(t: float, *, pid: int = 99, **columns: object) -> dict[str, object]:
    """A process whose pid nobody can see."""
    return {**gpu_process(t, pid, in_run=None), **columns}


def test_pids_nobody_can_see_are_foreign_if_the_runs_own_can_be_seen() -> None:
    """A hidden /proc hides other people's processes, not ours."""
    series = gpu_rows(tenths(0, 2), 80.0, processes=2, run_processes=1, memory_used_bytes=TAKEN)
    lists = [row for t in tenths(0, 2) for row in (gpu_process(t, 7, in_run=True), unplaced(t))]
    found = analyze(recording(2, series, gpu_process=lists))
    assert uses_ns(found) == {"busy": 800 * MS, "foreign": 800 * MS, "gap": 400 * MS}
    assert any("count as foreign" in note for note in found.notes)


def test_process_rows_without_a_time_say_nothing() -> None:
    """Damage: the list was never polled at a time that is known, and stages that are open together share without it."""
    lost = {**gpu_process(0, 7, in_run=True, sm=50.0), "t_ns": None}
    spans = [stage(name, 0, 1, pid=pid) for name, pid in (("plan", 7), ("execute", 8))]
    found = analyze(recording(1, gpu_rows(tenths(0, 1), 80.0, poll=False), gpu_process=[lost], stage=spans))
    assert sum(uses_ns(found).values()) == S


def test_pids_of_another_namespace_count_as_the_runs_and_memory_decides() -> None:
    """No process of the run was ever recognised: the driver lists the host's pids inside a container."""
    memory = [BARE] * 10 + [TAKEN] * 10
    util = [0.0] * 10 + [80.0] * 10
    series = gpu_rows(tenths(0, 2), util, processes=1, run_processes=0, memory_used_bytes=memory)
    found = analyze(recording(2, series, gpu_process=[unplaced(t) for t in tenths(0, 2)]))
    assert uses_ns(found) == {"empty": S, "busy": 800 * MS, "gap": 200 * MS}
    assert found.gpus.loc[GPU, "holding_basis"] == "memory"
    assert any("another namespace" in note for note in found.notes)


def test_what_goes_through_a_server_of_mps_is_not_somebody_elses() -> None:
    """Its clients cannot be told, also where the run's own processes are seen on another GPU: they count as the run's."""
    gpus = [Gpu(uuid, "Test GPU", HOST, i, memory_reserved_bytes=BARE) for i, uuid in enumerate((GPU, "GPU-1"))]
    ours = gpu_rows(tenths(0, 1), 80.0, memory_used_bytes=TAKEN)
    served = gpu_rows(tenths(0, 1), 80.0, uuid="GPU-1", run_processes=None, memory_used_bytes=TAKEN)
    lists = [gpu_process(t, 7, in_run=True) for t in tenths(0, 1)]
    lists += [gpu_process(t, 8, in_run=None, uuid="GPU-1") for t in tenths(0, 1)]
    event = {"t_ns": 0, "kind": "mps_clients_hidden", "source": "nvml", "subject": "GPU-1", "message": ""}
    found = analyze(recording(1, [*ours, *served], gpus=gpus, gpu_process=lists, event=[event]))
    assert uses_ns(found, "GPU-1") == {"busy": 800 * MS, "gap": 200 * MS}
    assert any("MPS" in note for note in found.notes)


def test_pids_nobody_can_see_are_foreign_if_the_runs_own_can_be_seen_on_another_gpu() -> None:
    """The host shows us our pids, so those it does not show are not ours."""
    gpus = [Gpu(uuid, "Test GPU", HOST, i, memory_reserved_bytes=BARE) for i, uuid in enumerate((GPU, "GPU-1"))]
    ours = gpu_rows(tenths(0, 1), 80.0, memory_used_bytes=TAKEN)
    theirs = gpu_rows(tenths(0, 1), 80.0, uuid="GPU-1", run_processes=0, memory_used_bytes=TAKEN)
    lists = [row for t in tenths(0, 1) for row in (gpu_process(t, 7, in_run=True), unplaced(t, gpu_uuid="GPU-1"))]
    found = analyze(recording(1, [*ours, *theirs], gpus=gpus, gpu_process=lists))
    assert uses_ns(found) == {"busy": 800 * MS, "gap": 200 * MS}
    assert uses_ns(found, "GPU-1") == {"foreign": 800 * MS, "empty": 200 * MS}


def test_a_poll_that_could_not_place_all_of_its_processes_counts_those_it_could() -> None:
    """How many are the run's is null then, and the rows of the list say that one is."""
    series = gpu_rows(tenths(0, 2), 80.0, processes=2, run_processes=None)
    lists = [row for t in tenths(0, 2) for row in (gpu_process(t - 0.004, 7, in_run=True), unplaced(t - 0.004))]
    found = analyze(recording(2, series, gpu_process=lists))
    assert uses_ns(found) == {"busy": 800 * MS, "foreign": 800 * MS, "gap": 400 * MS}
    assert found.gpus.loc[GPU, "holding_basis"] == "processes"


def test_a_count_without_its_list_is_no_poll() -> None:
    """There are processes, and nothing says whose: memory decides."""
    found = analyze(recording(1, gpu_rows(tenths(0, 1), 0.0, processes=1, run_processes=None, memory_used_bytes=TAKEN)))
    assert uses_ns(found) == {"idle": S}
    assert found.gpus.loc[GPU, "holding_basis"] == "memory"


def test_memory_that_is_asked_for_seldom_stays_what_it_was() -> None:
    """Once in two seconds, without process lists."""
    memory = [BARE, *[None] * 19, TAKEN, *[None] * 19, TAKEN]
    found = analyze(recording(4.1, gpu_rows(tenths(0, 4.1), 0.0, poll=False, memory_used_bytes=memory)))
    assert uses_ns(found) == {"empty": 2 * S, "idle": 2_100 * MS}


def test_pids_of_another_namespace_are_foreign_if_memory_is_not_known_either() -> None:
    """There is nothing left to infer from."""
    series = gpu_rows(tenths(0, 2), 80.0, processes=1, run_processes=0)
    found = analyze(recording(2, series, gpu_process=[unplaced(t) for t in tenths(0, 2)]))
    assert uses_ns(found) == {"foreign": 1_600 * MS, "empty": 400 * MS}
    assert any("count as foreign" in note for note in found.notes)


def test_the_list_may_be_stamped_a_little_apart_from_the_tick() -> None:
    """Rows 3 ms after the tick still belong to it."""
    series = rows([1, 1], 11, others=[1, 1], util=100.0)
    lists = [
        gpu_process(t + 0.003, pid, in_run=pid == 7, sm=sm) for t in (0.1, 1.1) for pid, sm in ((7, 75.0), (8, 25.0))
    ]
    found = analyze(recording(1.1, series, gpu_process=lists))
    assert uses_ns(found) == {"busy": 825 * MS, "foreign": 275 * MS}


def test_a_neighbours_kernels_are_no_sign_of_the_run() -> None:
    """A neighbour works all the time; the run comes between 0.1 s and 1.1 s, which memory tells: at 0.6 s."""
    memory = [TAKEN] * 5 + [2 * TAKEN] * 6
    found = analyze(recording(1.1, rows([0, 1], 11, others=[1, 1], util=100.0, memory_used_bytes=memory)))
    assert uses_ns(found) == {"foreign": 500 * MS + 300 * MS, "busy": 300 * MS}


def test_until_the_run_leaves_a_shared_gpu_its_share_is_that_of_the_last_poll_that_saw_it() -> None:
    """One of two at 0.1 s, gone at 1.1 s; its memory went at 0.5 s."""
    memory = [2 * TAKEN] * 5 + [TAKEN] * 6
    found = analyze(recording(1.1, rows([1, 0], 11, others=[1, 1], util=100.0, memory_used_bytes=memory)))
    assert uses_ns(found) == {"busy": 250 * MS, "foreign": 250 * MS + 600 * MS}


def test_a_neighbour_that_left_between_the_polls_was_there_before() -> None:
    """Nobody of the run; a neighbour at 0.1 s, nobody at 1.1 s, kernels until 0.6 s."""
    util = [50.0] * 6 + [0.0] * 5
    found = analyze(recording(1.1, rows([0, 0], 11, others=[1, 0], util=util)))
    assert uses_ns(found) == {"foreign": 300 * MS, "empty": 800 * MS}


def test_impossible_counts_never_make_more_processes_of_the_run_than_there_are() -> None:
    """Two of one: the run's is the one."""
    found = analyze(recording(1, gpu_rows(tenths(0, 1), 50.0, processes=1, run_processes=2)))
    assert uses_ns(found) == {"busy": 500 * MS, "gap": 500 * MS}
