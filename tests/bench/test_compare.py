"""Two cards, or today and last month: which differences are real."""

import numpy as np
import pytest

from benching.profiles import profile, result
from gpucost.bench.compare import between_runs, compare


def noisy(level, *, seed, n=100, noise=0.003):
    rng = np.random.default_rng(seed)
    return list(level * (1 + noise * rng.normal(size=n)))


def compared(a_levels, b_levels, history=(), **changes):
    """Compare two profiles whose windows are noise around these levels."""
    units = {"gemm.bf16": "TFLOP/s", "mem.triad": "GB/s", "launch.enqueue": "us", "power.idle_ctx": "W"}
    a = profile(results=[result(name, units[name], level) for name, level in a_levels.items()])
    b = profile(
        run_id="20260201-000000-bbbbbb",
        results=[result(name, units[name], level) for name, level in b_levels.items()],
        **changes,
    )
    rates = [
        {name: noisy(level, seed=i * 100 + j) for j, (name, level) in enumerate(levels.items())}
        for i, levels in enumerate((a_levels, b_levels))
    ]
    found = compare(a, b, lambda name: rates[0].get(name, []), lambda name: rates[1].get(name, []), history)
    return found, {row.id: row for row in found.rows}


def test_a_card_that_lost_five_per_cent_is_slower_and_the_rest_is_the_same():
    _, rows = compared({"gemm.bf16": 700.0, "mem.triad": 3000.0}, {"gemm.bf16": 665.0, "mem.triad": 3000.0})
    assert rows["gemm.bf16"].verdict == "slower"
    assert rows["gemm.bf16"].ratio == pytest.approx(0.95, abs=0.01)
    assert rows["gemm.bf16"].p_value < 0.01
    assert rows["mem.triad"].verdict == "same"


def test_for_times_less_is_faster_and_power_is_neither():
    _, rows = compared({"launch.enqueue": 4.0, "power.idle_ctx": 70.0}, {"launch.enqueue": 3.0, "power.idle_ctx": 90.0})
    assert rows["launch.enqueue"].verdict == "faster"
    assert rows["power.idle_ctx"].verdict == "higher"


def test_half_a_per_cent_may_be_significant_and_is_still_the_same():
    _, rows = compared({"gemm.bf16": 700.0}, {"gemm.bf16": 703.5})
    assert rows["gemm.bf16"].verdict == "same"


def test_what_varies_from_run_to_run_is_not_called_a_difference():
    history = [
        profile(run_id=f"2025010{i}-000000-aaaaaa", results=[result("gemm.bf16", "TFLOP/s", level)])
        for i, level in enumerate((700.0, 650.0, 740.0, 690.0))
    ]
    assert between_runs(history, "gemm.bf16") == pytest.approx(2 * np.std([700, 650, 740, 690], ddof=1) / 695)
    _, rows = compared({"gemm.bf16": 700.0}, {"gemm.bf16": 665.0}, history)
    assert rows["gemm.bf16"].verdict == "same"


def test_too_few_windows_cannot_tell():
    a, b = profile(), profile(run_id="x")
    for one in (*a.results, *b.results):
        one.ci95 = None
    found = compare(a, b, lambda _: [1.0] * 3, lambda _: [2.0] * 3)
    assert {row.verdict for row in found.rows} == {"unclear"}


def test_without_windows_the_intervals_decide():
    a, b = profile(), profile(run_id="x")
    b.results[0] = result("gemm.bf16", "TFLOP/s", 600.0, shape=[8192, 8192, 8192])
    found = compare(a, b, lambda _: [], lambda _: [])
    assert found.rows[0].verdict == "slower"
    assert found.rows[0].note == "by their intervals alone"


def test_what_failed_a_gate_or_had_another_shape_is_not_compared():
    a, b = profile(), profile(run_id="x")
    b.results[0].flags = ["contended"]
    b.results[1].shape = [1, 2, 3]
    b.results[2].status = "failed"
    del b.results[3]
    rows = compare(a, b, lambda _: [], lambda _: []).rows
    assert {row.verdict for row in rows} == {"not compared"}
    assert [row.note for row in rows] == ["B: contended", "another shape or unit", "B: failed", "B does not have it"]


def test_what_is_not_the_same_around_them_is_said():
    found, _ = compared({"gemm.bf16": 1.0}, {"gemm.bf16": 1.0}, uuid="GPU-2222", driver="9.9")
    assert "card: GPU-1111 and GPU-2222" in found.differs
    assert "driver: 1.2.3 and 9.9" in found.differs
    assert not any(line.startswith("power limit") for line in found.differs)


def test_many_tests_of_one_card_seldom_find_a_difference():
    levels = {"gemm.bf16": 700.0, "mem.triad": 3000.0, "launch.enqueue": 4.0, "power.idle_ctx": 70.0}
    _, rows = compared(levels, levels)
    assert {row.verdict for row in rows.values()} == {"same"}
