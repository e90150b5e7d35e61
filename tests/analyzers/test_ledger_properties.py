"""What holds for every recording, however broken."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import analysis_reference as reference
from analysis_builders import GPU, S, frame_of
from analysis_strategies import any_recordings, stage_rows, tame_recordings
from gpucost.analyzers import Settings, analyze, cost
from gpucost.analyzers.model import NO_STAGE, USES

if TYPE_CHECKING:
    from gpucost.recording import Recording

PHASES = [phase for phase in Phase if phase is not Phase.explain]  # explaining takes minutes and explains little here
RATES = {GPU: Decimal("2.4999999"), "GPU-1": Decimal("0.3333333333333333333333333333")}


@given(any_recordings(), st.sampled_from([0, S, 3 * S]), st.sampled_from(["owner", "equal", "none"]))
@settings(max_examples=80, deadline=None, phases=PHASES)
def test_the_ledger_closes_over_every_axis_for_any_recording(run: Recording, idle_after: int, split: str) -> None:
    """For each GPU the cells add up to the held time, to the nanosecond; so do uses, stages, and stages with their children."""
    found = analyze(run, Settings(idle_after_ns=idle_after, idle_split=split))
    held = sorted({gpu.uuid for gpu in run.manifest.gpus if gpu.held})
    assert sorted(found.gpus.index) == held
    assert (found.ledger["duration_ns"] > 0).all()
    assert set(found.ledger["use"]) <= set(USES)
    assert not found.ledger.duplicated(["gpu_uuid", "stage_path", "use"]).any()
    by_gpu = found.ledger.groupby("gpu_uuid")["duration_ns"].sum()
    for uuid, row in found.gpus.iterrows():
        assert row["held_ns"] == run.end_ns == by_gpu.get(uuid, 0) == sum(row[f"{use}_ns"] for use in USES)
    by_path = found.ledger.groupby("stage_path")["duration_ns"].sum()
    stages = found.stages.set_index("stage_path")
    assert stages["self_ns"].sum() == run.end_ns * len(held)
    assert all(stages.loc[path, "self_ns"] == value for path, value in by_path.items())
    top = stages[stages["parent_path"].isna()]
    assert top["total_ns"].sum() == run.end_ns * len(held)
    for use in USES:
        assert top[f"total_{use}_ns"].sum() == stages[f"self_{use}_ns"].sum() == found.gpus[f"{use}_ns"].sum()


@given(any_recordings())
@settings(max_examples=30, deadline=None, phases=PHASES)
def test_money_closes_to_the_last_digit_for_any_recording(run: Recording) -> None:
    """Price x time is the total, and the total is the sum of the cells, as fractions."""
    found = analyze(run)
    costs = cost(found, RATES)
    held = len(found.gpus)
    if not held:
        assert costs.total_usd is None
        return
    expected = sum((Fraction(RATES[str(uuid)]) * run.end_ns / (3600 * S) for uuid in found.gpus.index), Fraction(0))
    assert costs.total_usd == expected == sum(costs.ledger["cost_usd"], Fraction(0))


@given(any_recordings())
@settings(max_examples=40, deadline=None, phases=PHASES)
def test_unknown_intervals_add_up_to_unknown_time(run: Recording) -> None:
    """They are disjoint, in order, inside the run, and as long as the ledger's unknown time."""
    found = analyze(run)
    for uuid, row in found.gpus.iterrows():
        own = found.unknown_intervals[found.unknown_intervals["gpu_uuid"] == uuid]
        assert (own["end_ns"] - own["start_ns"]).sum() == row["unknown_ns"]
        edges = own[["start_ns", "end_ns"]].to_numpy().ravel()
        assert (np.diff(edges) >= 0).all()
        assert not len(edges) or (edges[0] >= 0 and edges[-1] <= run.end_ns)


@given(any_recordings())
@settings(max_examples=40, deadline=None, phases=PHASES)
def test_energy_is_conserved_for_any_recording(run: Recording) -> None:
    """Stages add up to their GPU, parts add up to the whole, nothing is negative, and unknown is not zero."""
    for split in ("owner", "equal", "none"):
        found = analyze(run, Settings(idle_split=split))
        energy = found.energy
        parts = energy[["active_j", "idle_j", "foreign_j"]]
        assert np.allclose(parts.sum(axis=1, skipna=False), energy["energy_j"], rtol=1e-9, atol=1e-9, equal_nan=True)
        assert not (energy[["energy_j", "active_j", "idle_j", "foreign_j"]] < -1e-9).any(axis=None)
        for uuid, row in found.energy_gpus.iterrows():
            own = energy.loc[energy["gpu_uuid"] == uuid, "energy_j"]
            if np.isnan(row["energy_j"]):
                assert own.isna().all()
                assert row["covered_ns"] == 0
                assert row["basis"] == "unknown"
            else:
                assert own.sum() == pytest.approx(row["energy_j"], rel=1e-9, abs=1e-9)
                assert 0 < row["covered_ns"] <= run.end_ns


@given(tame_recordings(), st.sampled_from([S // 2, S]))
@settings(max_examples=100, deadline=None, phases=PHASES)
def test_the_ledger_agrees_with_one_made_slowly_by_the_rules(run: Recording, idle_after: int) -> None:
    """Cell by cell, but for the rounding of each piece to whole nanoseconds."""
    expected, pieces = reference.ledger(run, GPU, run.manifest.gpus[0].memory_reserved_bytes, idle_after)
    found = analyze(run, Settings(idle_after_ns=idle_after)).ledger
    cells = {(g, p, u): ns for g, p, u, ns in found.itertuples(index=False)}
    for cell in expected.keys() | cells.keys():
        assert abs(cells.get(cell, 0) - expected.get(cell, 0)) <= pieces + 2, cell


@given(any_recordings(), st.integers(1, 5 * S))
@settings(max_examples=30, deadline=None, phases=PHASES)
def test_a_longer_window_never_costs_less(run: Recording, more: int) -> None:
    """Neither the run nor any of its GPUs, and what was known to be busy stays so."""
    before = analyze(run)
    was = cost(before, RATES)
    run.end_ns += more
    after = analyze(run)
    now = cost(after, RATES)
    assert (now.total_usd or 0) >= (was.total_usd or 0)
    # Spans that ended with the window end elsewhere now, and each end cuts a piece that is rounded by itself.
    rounding = 4 * len(run.frames["stage"]) + 2
    assert (after.gpus["busy_ns"] >= before.gpus["busy_ns"] - rounding).all()


@given(tame_recordings(), st.data())
@settings(max_examples=40, deadline=None, phases=PHASES)
def test_more_utilization_is_never_less_busy(run: Recording, data: st.DataObject) -> None:
    """Raising a reading adds busy time or leaves it."""
    before = analyze(run).gpus["busy_ns"].sum()
    util = run.frames["gpu"]["gpu_util_pct"]
    places = np.flatnonzero(util.between(0, 100) & ~run.frames["gpu"].duplicated("t_ns", keep=False))
    if len(places):
        place = data.draw(st.sampled_from(places.tolist()))
        run.frames["gpu"].loc[place, "gpu_util_pct"] = data.draw(st.floats(float(util[place]), 100, width=32))
    assert analyze(run).gpus["busy_ns"].sum() >= before


@given(any_recordings(), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None, phases=PHASES)
def test_the_order_of_rows_does_not_matter(run: Recording, random: object) -> None:
    """Readings that are shuffled give the same ledger."""
    expected = analyze(run).ledger
    frame = run.frames["gpu"]
    order = list(range(len(frame)))
    random.shuffle(order)  # type: ignore[attr-defined]
    run.frames["gpu"] = frame.iloc[order].reset_index(drop=True)
    assert analyze(run).ledger.equals(expected)


@given(stage_rows(), any_recordings())
@settings(max_examples=25, deadline=None, phases=PHASES)
def test_stages_never_change_what_the_gpus_did(rows: list[dict[str, object]], run: Recording) -> None:
    """Whatever the marks say, each GPU's uses move by no more than the rounding at the stages' edges."""
    run.frames["stage"] = frame_of("stage", [])
    bare = analyze(run).gpus
    assert set(analyze(run).ledger["stage_path"]) <= {NO_STAGE}
    run.frames["stage"] = frame_of("stage", rows)
    marked = analyze(run).gpus
    for use in USES:
        assert ((bare[f"{use}_ns"] - marked[f"{use}_ns"]).abs() <= 4 * len(rows) + 2).all()
