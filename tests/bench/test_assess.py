"""From windows and telemetry to a result."""

import pytest

from gpucost.bench import assess, book
from gpucost.bench.model import Device, Result, Window
from gpucost.bench.plan import Test as Plan
from gpucost.bench.supervisor import Reply
from gpucost.schema import GpuRow

MS = 1_000_000
S = 1_000_000_000
GOOD = {"error_fp64": 1e-4, "error_freivalds": 1e-4}


def windows(rates, *, unit=1e12, ms=50, clean=True, gap_ms=0.0):
    """Windows of `ms` each at these rates."""
    found, now = [], 0
    for rate in rates:
        now += round((ms + gap_ms) * MS)
        found.append(Window(now, ms * MS, 10, rate * unit * ms / 1000, clean))
    return found


def telemetry(seconds, *, power_w=500.0, step_ms=100, hz=20, **columns):
    """Samples of a device that draws constant power, with a counter that moves in steps."""
    rows = []
    for i in range(int(seconds * hz) + 1):
        t_ms = 1000 * i // hz
        counted = 1000 + power_w * (t_ms // step_ms * step_ms) / 1000
        rows.append(GpuRow(0, t_ms * MS, "GPU-1", power_w=power_w, energy_j=counted, **columns))
    return rows


def assessed(test, found, **around):
    fields = {"device": True, "peaks": book.Peaks(), **around}
    reply = Reply("ok", data={"windows": [list(one) for one in found], "errors": GOOD, "shape": [8, 8, 8]})
    return assess.result(test, reply, assess.Surroundings(**fields))


GEMM = Plan("gemm.bf16", "TFLOP/s", {"kind": "gemm", "data": "randn"}, 1.0, dtype="bf16")
TRIAD = Plan("mem.triad", "GB/s", {"kind": "memory"}, 1.0)
LAUNCH = Plan("launch.enqueue", "us", {"kind": "launch"}, 1.0, host_bound=True)


def test_rates_come_out_in_their_units():
    assert assessed(GEMM, windows([700.0] * 20)).sustained == pytest.approx(700)
    assert assessed(TRIAD, windows([3.0] * 20, unit=1e12)).sustained == pytest.approx(3000)
    assert assessed(LAUNCH, [Window(i * S, 500 * 3000, 500, 0.0) for i in range(1, 20)]).sustained == pytest.approx(3.0)


def test_a_part_that_throttles_has_two_figures_and_keeps_every_window():
    found = assessed(GEMM, windows([90.0] * 10 + [58.0] * 90))
    assert found.sustained == pytest.approx(58)
    assert found.burst == pytest.approx(90)
    assert found.n == 100


def test_burst_is_the_first_second_where_the_kernel_warmed_the_device_up():
    cold = windows([91.0] * 20 + [58.0] * 60)
    assert assessed(GEMM, windows([58.0] * 50), warm_up=cold).burst == pytest.approx(91)


def test_the_burst_of_a_time_is_the_short_end():
    times = [Window(i * S, 500 * us * 1000, 500, 0.0) for i, us in enumerate([2, *[3] * 30, 9], 1)]
    found = assessed(LAUNCH, times)
    assert found.burst <= found.sustained == 3


def test_unsteady_windows_are_reported_and_flagged_not_dropped():
    found = assessed(GEMM, windows([100.0, 120.0] * 20))
    assert "unstable" in found.flags
    assert found.valid


def test_a_device_that_waited_for_its_host_is_contended():
    assert assessed(GEMM, windows([700.0] * 20)).host_share == pytest.approx(1)
    starved = assessed(GEMM, windows([700.0] * 20, gap_ms=20))
    assert starved.host_share == pytest.approx(50 / 70)
    assert "contended" in starved.flags


def test_the_headline_of_a_cpu_is_the_median_of_its_clean_windows():
    mixed = windows([40.0] * 60, clean=False) + windows([90.0] * 10)
    found = assessed(GEMM, mixed, device=False)
    assert found.sustained == pytest.approx(90)
    assert found.median == pytest.approx(40)
    assert "contended" not in found.flags


def test_a_very_steady_wrong_rate_on_a_busy_cpu_is_contended():
    found = assessed(GEMM, windows([4.2] * 60, clean=False), device=False)
    assert found.rel_iqr == 0
    assert "unstable" not in found.flags
    assert found.flags == ["contended"]


def test_efficiency_is_told_against_the_book_and_against_the_clock_that_was_measured():
    peaks = book.peaks(Device("cuda", "GPU-1", "NVIDIA L4", sm_count=58, sm_clock_max_mhz=2040))
    found = assessed(GEMM, windows([57.0] * 60), peaks=peaks, rows=telemetry(3, power_w=72, sm_clock_mhz=1005))
    assert found.efficiency_book == pytest.approx(57 / 121)
    assert found.efficiency_measured_clock == pytest.approx(57 / (121 * 1005 / 2037.3), rel=1e-3)
    assert found.sm_clock_mhz["median"] == 1005


def test_a_rate_above_what_the_highest_clock_allows_is_implausible():
    peaks = book.peaks(Device("cuda", "GPU-1", "NVIDIA L4", sm_count=58, sm_clock_max_mhz=2040))
    assert "implausible_high" in assessed(GEMM, windows([242.0] * 60), peaks=peaks).flags


def test_clock_event_reasons_are_shares_of_the_samples():
    rows = [GpuRow(0, i, "GPU-1", clocks_event_reasons=0x4 if i % 4 else 0x24) for i in range(100)]
    assert assess.reasons(rows) == {"sw_power_cap": 1.0, "sw_thermal": 0.25}
    assert assess.reasons([GpuRow(0, 0, "GPU-1")]) is None


def test_energy_is_read_at_the_edges_of_the_counter():
    power, seconds = assess.counter_power(telemetry(10.0, power_w=512.0))
    assert power == pytest.approx(512, rel=1e-6)
    assert seconds == pytest.approx(9.9, abs=0.1)


def test_without_a_counter_power_is_integrated():
    rows = [row._replace(energy_j=None) for row in telemetry(5.0, power_w=300.0)]
    assert assess.counter_power(rows) is None
    assert assess.integrated_power(rows) == (pytest.approx(300), pytest.approx(5))


def test_energy_per_flop_is_power_over_rate():
    found = assessed(GEMM, windows([700.0] * 200), rows=telemetry(10.0, power_w=616.0))
    assert found.energy_pj == pytest.approx(616 / 700, rel=1e-3)
    assert (found.energy_basis, found.energy_j) == ("counter", pytest.approx(6160, rel=1e-3))
    assert found.energy_error == pytest.approx(0.01, rel=0.05), "1 % from a window of 10 s"


def test_the_power_of_a_whole_gpu_is_not_put_down_to_a_mig_device():
    found = assessed(GEMM, windows([90.0] * 200), rows=telemetry(10.0), power_is_ours=False)
    assert found.energy_pj is None
    assert found.power_w is not None


def test_the_performance_monitor_is_kept_where_there_is_one():
    rows = telemetry(1.0, tensor_active_pct=93.0, dram_active_pct=21.0)
    assert assessed(GEMM, windows([700.0] * 20), rows=rows).gpm == {"tensor_active_pct": 93.0, "dram_active_pct": 21.0}
    assert assessed(GEMM, windows([700.0] * 20), rows=telemetry(1.0)).gpm is None


@pytest.mark.parametrize("status", ["skipped_unsupported", "skipped_oom", "failed", "timeout"])
def test_a_test_that_did_not_end_well_has_a_status_and_no_figure(status):
    around = assess.Surroundings(device=True, peaks=book.Peaks())
    found = assess.result(GEMM, Reply(status, "why"), around)
    assert (found.status, found.message, found.sustained, found.n) == (status, "why", None, 0)


def test_a_repetition_that_differs_flags_the_first_figure_and_widens_its_interval():
    first = Result("gemm.bf16", "TFLOP/s", sustained=100.0, ci95=[99.0, 101.0])
    assess.repeated(first, Result("gemm.bf16.repeat", "TFLOP/s", sustained=95.0))
    assert (first.flags, first.ci95, first.repeat) == (["drifted"], [95.0, 101.0], 95.0)


def test_a_repetition_within_three_per_cent_is_only_noted():
    first = Result("gemm.bf16", "TFLOP/s", sustained=100.0)
    assess.repeated(first, Result("gemm.bf16.repeat", "TFLOP/s", sustained=98.0))
    assert (first.flags, first.repeat) == ([], 98.0)


def test_a_skinny_product_may_be_slow():
    peaks = book.Peaks(tflops={"bf16": 1000.0})
    skinny = Plan("roofline/m=1", "TFLOP/s", {"kind": "gemm", "fit": False}, 1.0, dtype="bf16")
    assert "implausible_low" not in assessed(skinny, windows([2.0] * 20), peaks=peaks).flags
    assert "implausible_low" in assessed(GEMM, windows([2.0] * 20), peaks=peaks).flags
