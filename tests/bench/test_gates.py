"""Validity is not stability: each gate, with the cases that it is there for."""

import pytest

from gpucost.bench import gates
from gpucost.bench.model import Result
from gpucost.schema import GpuRow


def rows(**columns):
    return [GpuRow(i, i, "GPU-1", **columns) for i in range(20)]


def result(name, rate, **fields):
    return Result(id=name, unit="TFLOP/s", sustained=rate, **fields)


def test_an_idle_device_is_free():
    look = gates.before(rows(gpu_util_pct=0, power_w=70), set(), listed=True, known_idle_w=69)
    assert (look.verdict, look.reasons, look.idle_w) == ("none", [], 70)


@pytest.mark.parametrize(
    ("columns", "foreign", "word"),
    [
        ({"gpu_util_pct": 0, "power_w": 70}, {4711}, "4711"),
        ({"gpu_util_pct": 30, "power_w": 70}, set(), "busy"),
    ],
)
def test_processes_or_activity_of_others_are_found(columns, foreign, word):
    look = gates.before(rows(**columns), foreign, listed=True, known_idle_w=70)
    assert look.verdict == "found"
    assert word in look.reasons[0]


def test_power_counts_where_processes_or_activity_cannot_be_seen():
    assert "120 W" in gates.before(rows(power_w=120), set(), listed=True, known_idle_w=70).reasons[0]
    assert "120 W" in gates.before(rows(gpu_util_pct=0, power_w=120), set(), listed=False, known_idle_w=70).reasons[0]
    warm = gates.before(rows(gpu_util_pct=0, power_w=120), set(), listed=True, known_idle_w=70)
    assert warm.verdict == "none", "a card that has just worked is still warm"


def test_a_device_that_cannot_be_asked_is_unknown_and_not_free():
    assert gates.before([], set(), listed=False, known_idle_w=None).verdict == "unknown"


def test_more_than_possible_and_far_too_little_are_implausible():
    assert gates.plausible(1003, 1000) == []
    assert gates.plausible(1100, 1000) == ["implausible_high"]
    assert gates.plausible(100, 1000) == ["implausible_low"]
    assert gates.plausible(100, 1000, slow_by_nature=True) == []
    assert gates.plausible(1e9, None) == []


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("bf16", {"error_fp64": 1.7e-3, "error_freivalds": 8.3e-3}, {"error_fp64": 0.2}),
        ("fp32", {"error_fp64": 2.6e-7}, {"error_fp64": 3e-4}),  # what TF32 would give
        ("int8", {"error_fp64": 0.0}, {"error_fp64": 1e-9}),
        ("stream", {"error_fp64": 1e-7}, {"error_fp64": None}),
        ("fp64", {"error_freivalds": 1e-14}, {"error_freivalds": float("nan")}),
    ],
)
def test_what_was_computed_wrongly_is_wrong_however_steady(kind, good, bad):
    assert gates.numerics(kind, good) == []
    assert gates.numerics(kind, bad) == ["wrong_result"]


def test_a_device_that_waits_for_its_host_is_contended():
    assert gates.disturbed_device(0.99, host_bound=False, pressure=0.9) == []
    assert gates.disturbed_device(0.7, host_bound=False, pressure=0.0) == ["contended"]
    assert gates.disturbed_device(None, host_bound=True, pressure=0.5) == ["contended"]
    assert gates.disturbed_device(None, host_bound=True, pressure=None) == []


def test_a_cpu_without_clean_windows_is_contended():
    assert gates.disturbed_cpu(4) == ["contended"]
    assert gates.disturbed_cpu(5) == []


def test_both_of_a_pair_that_is_out_of_order_fail():
    pair = [result("gemm.bf16", 100.0), result("gemm.tf32", 200.0), result("gemm.fp32", 50.0)]
    gates.close(pair, device=True)
    assert [one.ceiling for one in pair] == [False, False, True]
    assert "gemm.bf16 should not be slower than gemm.tf32" in pair[0].message


def test_equals_and_emulated_dtypes_are_in_order():
    tie = [result("gemm.tf32", 29.0), result("gemm.fp32", 29.8)]
    gates.close(tie, device=True)
    old = [result("gemm.bf16", 2.4, flags=["emulated"]), result("gemm.tf32", 25.0)]
    gates.close(old, device=True)
    assert all(one.ceiling for one in [*tie, *old])


def test_the_order_of_dtypes_is_no_law_on_a_cpu():
    pair = [result("gemm.bf16", 0.1), result("gemm.fp32", 0.2)]
    gates.close(pair, device=False)
    assert all(one.ceiling for one in pair)


def test_a_product_of_zeros_is_never_a_ceiling():
    zeros = result("gemm.bf16.zeros", 900.0, data="zeros")
    gates.close([zeros], device=True)
    assert not zeros.ceiling


@pytest.mark.parametrize("flag", ["contended", "implausible_high", "implausible_low", "not_monotone", "wrong_result"])
def test_a_result_that_failed_a_gate_is_never_a_ceiling(flag):
    one = result("gemm.bf16", 700.0, flags=[flag])
    gates.close([one], device=True)
    assert not one.ceiling


@pytest.mark.parametrize("flag", ["unstable", "drifted", "emulated", "few_windows"])
def test_an_unsteady_result_is_kept_as_what_it_is(flag):
    one = result("gemm.fp16", 50.0, flags=[flag])
    gates.close([one], device=True)
    assert one.ceiling
