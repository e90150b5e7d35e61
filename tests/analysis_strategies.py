"""Hypothesis strategies for recordings: anything that a recorder, a crash or another program could leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from hypothesis import strategies as st

from analysis_builders import GPU, HOST, MIB, MS, S, recording
from gpucost.manifest import Gpu

if TYPE_CHECKING:
    from gpucost.recording import Recording

NAMES = ("plan", "execute", "verify")
SECOND_GPU = "GPU-1"

_any_time = st.one_of(
    st.integers(-2 * S, 14 * S),
    st.integers(0, 140).map(lambda tenths: tenths * 100 * MS),
    st.integers(0, 12).map(lambda seconds: seconds * S),
)
_utils = st.one_of(
    st.sampled_from([0.0, 0.0, 100.0]), st.floats(0, 100, width=32), st.sampled_from([None, -1.0, 140.0])
)
_memories = st.sampled_from([None, 400, 500, 520, 540, 900, 5000]).map(lambda mib: None if mib is None else mib * MIB)


@st.composite
def gpu_rows(draw: st.DrawFn, uuid: str = GPU, most: int = 25) -> list[dict[str, Any]]:
    """Readings of one GPU: on a grid, off it, twice, out of order, with holes; polls of the process list at some."""
    start = draw(st.integers(-5, 80))
    regular = [(start + i) * 100 * MS for i in range(draw(st.integers(0, most)))]
    at = regular + draw(st.lists(_any_time, max_size=8))
    rows = []
    for t in draw(st.permutations(at)) if draw(st.booleans()) else sorted(at):
        row: dict[str, Any] = {
            "t_ns": t,
            "gpu_uuid": uuid,
            "gpu_util_pct": draw(_utils),
            "memory_used_bytes": draw(_memories),
        }
        if draw(st.integers(0, 3)) == 0:
            row["processes"] = draw(st.integers(0, 3))
            row["run_processes"] = draw(st.one_of(st.integers(0, 3), st.none()))
        row["power_w"] = draw(st.one_of(st.none(), st.floats(0, 700, width=32), st.just(-3.0)))
        row["power_average_w"] = draw(st.one_of(st.none(), st.floats(0, 700, width=32)))
        row["energy_j"] = draw(st.one_of(st.none(), st.floats(0, 5000), st.just(max(t, 0) / S * 250)))
        rows.append(row)
    return rows


@st.composite
def process_rows(
    draw: st.DrawFn, uuid: str = GPU, in_run: st.SearchStrategy[bool | None] | None = None
) -> list[dict[str, Any]]:
    """Rows of the table `gpu_process`."""
    belongs = st.sampled_from([True, False, None]) if in_run is None else in_run
    return draw(
        st.lists(
            st.builds(
                lambda t, pid, belongs, sm: {
                    "t_ns": t,
                    "gpu_uuid": uuid,
                    "pid": pid,
                    "in_run": belongs,
                    "sm_util_pct": sm,
                },
                _any_time,
                st.integers(10, 15),
                belongs,
                st.sampled_from([None, 0.0, 25.0, 50.0, 75.0, 150.0]),
            ),
            max_size=10,
        )
    )


@st.composite
def stage_rows(draw: st.DrawFn, *, tame: bool = False) -> list[dict[str, Any]]:
    """Spans that overlap, nest, last no time and come out of order; unless tame also open, reversed, orphaned and in cycles."""
    count = draw(st.integers(0, 7))
    rows = []
    for number in range(count):
        start, end = draw(_any_time), draw(_any_time)
        parents = [
            None,
            *(f"s{earlier}" for earlier in range(number if tame else count)),
            *([] if tame else ["nowhere"]),
        ]
        row: dict[str, Any] = {
            "stage_id": f"s{number}",
            "name": draw(
                st.sampled_from(NAMES)
                if tame
                else st.one_of(st.sampled_from([*NAMES, "a > b", "(no stage)", ""]), st.text(max_size=4))
            ),
            "start_t_ns": min(start, end) if tame else start,
            "end_t_ns": max(start, end) if tame else draw(st.sampled_from([end, None])),
            "parent_id": draw(st.sampled_from(parents)),
            "pid": draw(st.sampled_from([None, 10, 11, 12, 20])),
            "truncated": False,
        }
        rows.append(row)
    return rows


PARENTS = [
    {"t_ns": 0, "pid": pid, "ppid": ppid, "start_time_ns": pid}
    for pid, ppid in ((10, 1), (11, 10), (12, 11), (13, 12), (14, 10), (15, 1), (20, 10))
]


@st.composite
def tame_recordings(draw: st.DrawFn) -> Recording:
    """What the reference ledger understands: one GPU, spans with ends and without cycles, processes that can be placed."""
    reserved = draw(st.sampled_from([500 * MIB, None]))
    return recording(
        draw(st.integers(0, 12_000)) / 1000,
        draw(gpu_rows()),
        gpus=[Gpu(GPU, "Test GPU", HOST, 0, memory_reserved_bytes=reserved)],
        hz=draw(st.sampled_from([10.0, 1.0, None])),
        stage=draw(stage_rows(tame=True)),
        process=PARENTS,
        gpu_process=draw(process_rows(in_run=st.booleans())),
    )


@st.composite
def any_recordings(draw: st.DrawFn) -> Recording:
    """Anything: two GPUs, odd marks, missing tables and columns, runs without length."""
    gpus = [
        Gpu(
            uuid,
            "Test GPU",
            HOST,
            i,
            held=draw(st.booleans()) or i == 0,
            memory_reserved_bytes=draw(st.sampled_from([500 * MIB, None])),
        )
        for i, uuid in enumerate((GPU, SECOND_GPU))
    ]
    events = (
        [{"t_ns": draw(_any_time), "kind": "gpu_lost", "source": "nvml", "subject": GPU}] if draw(st.booleans()) else []
    )
    run = recording(
        draw(st.sampled_from([0, 0.05, 3, 7.123456789, 12])),
        [*draw(gpu_rows(most=12)), *draw(gpu_rows(SECOND_GPU, most=12))],
        gpus=draw(st.sampled_from([gpus, gpus[:1], []])),
        hz=draw(st.sampled_from([10.0, 1.0, 0.1, None, float("nan"), -1.0])),
        end_basis=draw(st.sampled_from(["exit", "last_sample"])),
        stage=draw(stage_rows()),
        process=draw(st.sampled_from([PARENTS, []])),
        gpu_process=draw(process_rows()),
        event=events,
    )
    for table in draw(st.lists(st.sampled_from([*run.frames]), max_size=2)):
        if draw(st.booleans()):
            run.frames[table] = draw(st.sampled_from([run.frames[table].iloc[:0], pd.DataFrame()]))
        else:
            missing = draw(st.lists(st.sampled_from([*run.frames[table].columns] or [""]), max_size=3))
            run.frames[table] = run.frames[table].drop(columns=missing, errors="ignore")
    return run
