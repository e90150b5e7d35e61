"""From stage rows to paths and spans."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis_builders import GPU, HOST, MS, S, gpu_rows, recording, stage, stages_ns, tenths
from gpucost.analyzers import Analysis, analyze
from gpucost.analyzers.model import NO_STAGE, PATH_SEPARATOR
from gpucost.analyzers.stages import MAX_DEPTH, written


def found_of(end_s: float, *rows: dict[str, Any], **tables: Any) -> Analysis:
    """A fully busy GPU with these stages."""
    return analyze(recording(end_s, gpu_rows(tenths(0, end_s), 100.0), stage=rows, **tables))


def row_of(found: Analysis, path: str) -> dict[str, Any]:
    """One row of the frame of stages."""
    return found.stages[found.stages["stage_path"] == path].iloc[0].to_dict()


def test_without_stages_all_time_is_no_stage() -> None:
    """One row, always there."""
    found = found_of(2)
    assert found.stages["stage_path"].tolist() == [NO_STAGE]
    assert row_of(found, NO_STAGE)["self_ns"] == 2 * S


def test_a_parent_has_what_its_children_leave_and_its_total_has_both() -> None:
    """A train stage from 1 s to 9 s, epoch inside it 2 s to 5 s."""
    found = found_of(10, stage("train", 1, 9), stage("epoch", 2, 5, parent="train"))
    assert stages_ns(found) == {"train": 5 * S, "train > epoch": 3 * S, NO_STAGE: 2 * S}
    train = row_of(found, "train")
    assert (train["self_ns"], train["total_ns"], train["wall_ns"]) == (5 * S, 8 * S, 8 * S)
    assert (train["self_busy_ns"], train["total_busy_ns"]) == (5 * S, 8 * S)
    epoch = row_of(found, "train > epoch")
    assert (epoch["name"], epoch["parent_path"], epoch["depth"]) == ("epoch", "train", 1)
    assert (epoch["first_start_ns"], epoch["last_end_ns"]) == (2 * S, 5 * S)


def test_spans_of_one_path_are_one_stage_in_order_of_first_start() -> None:
    """Three spans, two of them overlapping; no stage comes last."""
    found = found_of(
        10,
        stage("b", 6, 8, stage_id="3"),
        stage("b", 1, 3, stage_id="1"),
        stage("a", 2, 2.5, stage_id="x"),
        stage("b", 7, 9, stage_id="2", truncated=True),
    )
    assert found.stages["stage_path"].tolist() == ["b", "a", NO_STAGE]
    b = row_of(found, "b")
    assert (b["spans"], b["truncated"], b["wall_ns"]) == (3, 1, 5 * S)


def test_a_parent_comes_before_a_child_that_starts_with_it() -> None:
    """Spans are written when they end, so the child's row comes first."""
    found = found_of(3, stage("child", 1, 2, parent="p"), stage("p", 1, 3), stage("other", 0, 1))
    assert found.stages["stage_path"].tolist() == ["other", "p", "p > child", NO_STAGE]


def test_a_span_of_no_length_is_counted_and_costs_nothing() -> None:
    """It has a row, and no time."""
    found = found_of(2, stage("mark", 1, 1))
    mark = row_of(found, "mark")
    assert (mark["spans"], mark["self_ns"], mark["wall_ns"]) == (1, 0, 0)


def test_a_span_that_ends_before_it_starts_lasts_no_time() -> None:
    """And a note says so."""
    found = found_of(3, stage("odd", 2, 1))
    assert row_of(found, "odd")["self_ns"] == 0
    assert any("end before they start: 1" in note for note in found.notes)


def test_spans_are_clipped_to_the_run() -> None:
    """From before its start to after its end."""
    found = found_of(2, stage("early", -5, 1), stage("late", 1.5, 60), stage("never", 70, 80))
    assert stages_ns(found) == {"early": S, "late": 500 * MS, NO_STAGE: 500 * MS}
    assert row_of(found, "never")["spans"] == 1


def test_a_parent_that_is_not_there_makes_a_top_stage() -> None:
    """And a note counts them."""
    found = found_of(2, stage("child", 0, 2, parent="gone"))
    assert stages_ns(found) == {"child": 2 * S}
    assert any("not in the recording: 1" in note for note in found.notes)


def test_a_cycle_is_cut_at_its_earliest_span() -> None:
    """Here a is within b, within c, within a."""
    found = found_of(4, stage("a", 0, 4, parent="c"), stage("b", 1, 4, parent="a"), stage("c", 2, 4, parent="b"))
    assert stages_ns(found) == {"a": S, "a > b": S, "a > b > c": 2 * S}
    assert any("1 cycles cut" in note for note in found.notes)


def test_a_span_that_is_its_own_parent_is_a_top_stage() -> None:
    """The shortest cycle."""
    assert stages_ns(found_of(1, stage("a", 0, 1, parent="a"))) == {"a": S}


def test_a_child_may_start_before_and_outlive_its_parent() -> None:
    """Outside its parent's time it is a leaf like any other; inside it, the parent is none."""
    found = found_of(6, stage("child", 1, 5, parent="p"), stage("p", 2, 3))
    assert stages_ns(found) == {"p > child": 4 * S, NO_STAGE: 2 * S}


def test_a_grandchild_that_outlives_its_parent_still_takes_the_time_from_its_grandparent() -> None:
    """The grandparent is open and has an open descendant, so it is no leaf."""
    found = found_of(6, stage("a", 0, 6), stage("b", 1, 2, parent="a"), stage("c", 1, 5, parent="b"))
    assert stages_ns(found) == {"a": 2 * S, "a > b > c": 4 * S}


def test_an_id_used_twice_makes_two_spans_and_the_first_is_the_parent() -> None:
    """Nothing is lost."""
    found = found_of(4, stage("x", 0, 1, stage_id="1"), stage("y", 2, 4, stage_id="1"), stage("z", 0, 1, parent="1"))
    assert stages_ns(found) == {"x > z": S, "y": 2 * S, NO_STAGE: S}


def sightings(pid: int, seconds: list[float], **columns: Any) -> list[dict[str, Any]]:
    """Rows of the table `process` of one process."""
    return [{"t_ns": round(t * S), "pid": pid, "start_time_ns": 1, "state": "S", **columns} for t in seconds]


def test_an_open_span_ends_with_the_last_sighting_of_its_process() -> None:
    """Seen until 4 s; the command itself lived to the end."""
    process = [*sightings(7, [1, 2, 3, 4]), *sightings(1, [*range(1, 10)])]
    found = found_of(10, stage("open", 2, None, pid=7), process=process)
    assert stages_ns(found) == {"open": 2 * S, NO_STAGE: 8 * S}
    assert row_of(found, "open")["truncated"] == 1
    assert any("left open: 1" in note for note in found.notes)


def test_an_open_span_of_a_process_seen_to_the_end_lasts_to_the_end() -> None:
    """The last poll was 0.6 s before it; nobody looked again."""
    found = found_of(10, stage("open", 2, None, pid=7), process=sightings(7, [i + 0.4 for i in range(10)]))
    assert stages_ns(found)["open"] == 8 * S


def test_an_open_span_of_a_process_nobody_saw_lasts_to_the_end() -> None:
    """There is nothing better to go by."""
    assert stages_ns(found_of(10, stage("open", 2, None, pid=7)))["open"] == 8 * S
    assert stages_ns(found_of(10, stage("open", 2, None)))["open"] == 8 * S


def test_a_pid_that_is_used_again_does_not_keep_an_open_span_open() -> None:
    """The first process of that pid was last seen at 3 s; another one had it from 6 s on."""
    process = [*sightings(7, [1, 2, 3]), *sightings(7, [6, 7, 8, 9], start_time_ns=2)]
    assert stages_ns(found_of(10, stage("open", 2, None, pid=7), process=process))["open"] == S


def test_a_zombie_is_not_a_sighting() -> None:
    """It was dead from 3 s on, and nobody had waited for it."""
    process = [*sightings(7, [1, 2]), *sightings(7, [*range(3, 10)], state="Z"), *sightings(1, [*range(1, 10)])]
    assert stages_ns(found_of(10, stage("open", 1, None, pid=7), process=process))["open"] == S


def test_a_process_of_the_same_pid_on_another_host_is_another_process() -> None:
    """Pids are per host."""
    process = [{**row, "host": "node2"} for row in sightings(7, [1, 2, 3])]
    assert stages_ns(found_of(10, stage("open", 2, None, pid=7), process=process))["open"] == 8 * S


def test_a_name_with_the_separator_is_one_stage_and_not_two() -> None:
    """Names come from any program; a path must not be forged."""
    found = found_of(3, stage("a", 0, 1), stage("b", 0.5, 1, parent="a"), stage("a > b", 2, 3))
    assert stages_ns(found) == {"a": 500 * MS, "a > b": 500 * MS, r"a \> b": S, NO_STAGE: S}
    forged = row_of(found, r"a \> b")
    assert (forged["name"], forged["parent_path"], forged["depth"]) == ("a > b", None, 0)


def test_a_stage_called_no_stage_is_a_stage() -> None:
    """It is not mixed up with the time that has none."""
    found = found_of(2, stage(NO_STAGE, 0, 1))
    assert stages_ns(found) == {rf"\{NO_STAGE}": S, NO_STAGE: S}


@pytest.mark.parametrize("name", ["", None])
def test_a_span_without_a_name_has_a_row_of_its_own(name: str | None) -> None:
    """Empty paths could not be told apart."""
    found = found_of(1, {**stage("x", 0, 1), "name": name})
    assert stages_ns(found) == {"(unnamed)": S}


@given(
    st.lists(st.text(alphabet=[">", " ", "\\", "a"], max_size=6), min_size=1, max_size=4),
    st.lists(st.text(alphabet=[">", " ", "\\", "a"], max_size=6), min_size=1, max_size=4),
)
def test_two_lists_of_names_never_make_the_same_path(one: list[str], other: list[str]) -> None:
    """Joining written names can be undone."""
    paths = [PATH_SEPARATOR.join(map(written, names)) for names in (one, other)]
    assert (paths[0] == paths[1]) == (one == other)


@given(st.text())
def test_no_name_can_be_taken_for_no_stage(name: str) -> None:
    """Whatever the name, also one that has been escaped before."""
    assert written(name) != NO_STAGE
    assert written("\\" + NO_STAGE) != written(NO_STAGE)


def test_ordinary_names_stand_in_a_path_as_they_are() -> None:
    """Arrows and backslashes inside words are left alone."""
    for name in ("tool:search", "train/epoch", "a->b", "x>y", r"C:\tmp", "[bold]", "日本", "<b>"):
        assert written(name) == name


def test_a_name_that_nothing_can_print_is_made_printable() -> None:
    """A lone surrogate from somebody's JSON."""
    assert stages_ns(found_of(1, stage("x\ud800", 0, 1))) == {"x\N{REPLACEMENT CHARACTER}": S}


def test_a_runaway_recursion_counts_to_its_ancestor() -> None:
    """Five thousand levels make MAX_DEPTH paths, and no time is lost."""
    rows = [stage("f", i * 1e-4, 1, stage_id=str(i), parent=str(i - 1) if i else None) for i in range(5000)]
    found = found_of(1, *rows)
    assert found.stages["depth"].max() == MAX_DEPTH - 1
    assert sum(stages_ns(found).values()) == S
    assert any("too deeply" in note for note in found.notes)


def test_the_total_of_a_stage_has_its_grandchildren() -> None:
    """One second each, three deep."""
    found = found_of(3, stage("a", 0, 3), stage("b", 1, 3, parent="a"), stage("c", 2, 3, parent="b"))
    assert [row_of(found, path)["total_ns"] for path in ("a", "a > b", "a > b > c")] == [3 * S, 2 * S, S]


def test_one_long_span_does_not_make_many_short_ones_resolvable() -> None:
    """The median counts, not the longest."""
    lengths = (0.1, 0.15, 5)
    found = found_of(9, *[stage("a", i, i + length, stage_id=str(i)) for i, length in enumerate(lengths)])
    assert row_of(found, "a")["short"]


def test_a_stage_shorter_than_two_sampling_periods_is_marked_short() -> None:
    """At 10 Hz: a median of 0.15 s is, one of 0.25 s is not."""
    rows = [stage("a", i, i + 0.15, stage_id=f"a{i}") for i in range(3)] + [
        stage("b", i, i + 0.25, stage_id=f"b{i}") for i in range(3)
    ]
    found = found_of(4, *rows)
    assert [row_of(found, path)["short"] for path in ("a", "b", NO_STAGE)] == [True, False, False]


def test_the_timeline_of_stages_is_the_share_of_each_bucket_that_is_open() -> None:
    """Ten buckets of one second; two spans that overlap count once."""
    from gpucost.analyzers import Settings

    run = recording(
        10,
        gpu_rows([], 0.0),
        stage=[stage("a", 0.5, 2.25, stage_id="1"), stage("a", 2, 2.5, stage_id="2"), stage("b", 9, 10)],
    )
    found = analyze(run, Settings(timeline_buckets=10)).stage_timeline
    shares = found.pivot_table(index="stage_path", columns="bucket", values="open_share").to_dict("index")
    assert list(shares["a"].values()) == [0.5, 1, 0.5, 0, 0, 0, 0, 0, 0, 0]
    assert list(shares["b"].values()) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_stages_are_over_all_gpus() -> None:
    """One second of a stage on two GPUs is two seconds of GPU time."""
    from gpucost.manifest import Gpu

    gpus = [Gpu(uuid, "Test GPU", HOST, i) for i, uuid in enumerate((GPU, "GPU-1"))]
    run = recording(
        2,
        [*gpu_rows(tenths(0, 2), 100.0), *gpu_rows(tenths(0, 2), 0.0, uuid="GPU-1")],
        gpus=gpus,
        stage=[stage("a", 0, 1)],
    )
    row = row_of(analyze(run), "a")
    assert (row["wall_ns"], row["self_ns"], row["self_busy_ns"], row["self_idle_ns"]) == (S, 2 * S, S, S)
