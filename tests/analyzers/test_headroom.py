"""Headroom: from the performance monitor, or as a bound from energy, or not at all; never a percentage from power alone."""

import pandas as pd
import pytest

from benching.profiles import profile, result
from gpucost.analyzers import headroom as rooms
from gpucost.analyzers.model import Analysis
from gpucost.manifest import Manifest
from gpucost.recording import Recording

UUID = "GPU-1111"
S = 1_000_000_000
CLOCK = 1755.0


def a_profile(*, gpm=True, floor=True):
    """A card that sustains 700 TFLOP/s at 1755 MHz with its tensor pipes 90 % busy, and 3000 GB/s with its memory 80 % busy."""
    clocks = {"min": CLOCK, "median": CLOCK, "max": CLOCK}
    product = result(
        "gemm.bf16", "TFLOP/s", 700.0, dtype="bf16", sm_clock_mhz=clocks, gpm={rooms.TENSOR: 90.0} if gpm else None
    )
    triad = result("mem.triad", "GB/s", 3000.0, sm_clock_mhz=clocks, gpm={rooms.DRAM: 80.0} if gpm else None)
    idle = [result("power.idle_no_ctx", "W", 70.0), result("power.idle_ctx", "W", 90.0)]
    floors = [
        result("energy.floor.bf16", "pJ/FLOP", 0.5, width=0.0, sm_clock_mhz=clocks),
        result("energy.floor.byte", "pJ/B", 100.0, width=0.0, sm_clock_mhz=clocks),
    ]
    return profile(uuid=UUID, results=[product, triad, *idle, *(floors if floor else [])])


def a_run(*, seconds=100, busy=1.0, energy_j=30_000.0, covered=1.0, clock=CLOCK, **gpm):
    """A run at 10 Hz on one card, busy to this share all the time."""
    ticks = [round(i * S / 10) for i in range(1, seconds * 10 + 1)]
    columns = {"gpu_uuid": UUID, "t_ns": ticks, "gpu_util_pct": 100.0 * busy, "sm_clock_mhz": clock, **gpm}
    frames = {"gpu": pd.DataFrame(columns)}
    recording = Recording(Manifest("r", [], 0, 0, recorder={"hz": 10.0}), frames, seconds * S)
    gpus = pd.DataFrame(
        {"held_ns": [seconds * S], "busy_ns": [int(busy * seconds * S)]}, index=pd.Index([UUID], name="gpu_uuid")
    )
    energy = pd.DataFrame({"energy_j": [energy_j], "covered_ns": [covered * seconds * S]}, index=gpus.index)
    empty = pd.DataFrame()
    return recording, Analysis(empty, gpus, empty, empty, energy, empty, empty, empty, empty, empty)


def found(run, made):
    recording, analysis = run
    (one,) = rooms.headroom(recording, analysis, {} if made is None else {UUID: made})
    return one


def test_a_run_that_does_what_the_profile_did_uses_all_of_the_card():
    one = found(a_run(**{rooms.TENSOR: 90.0, rooms.DRAM: 20.0}), a_profile())
    assert (one.basis, one.used, one.high) == ("gpm", pytest.approx(1.0), 1.0)
    assert one.low == pytest.approx(0.95)


def test_half_the_tensor_rate_at_half_the_clock_is_a_quarter():
    one = found(a_run(clock=CLOCK / 2, **{rooms.TENSOR: 45.0, rooms.DRAM: 0.0}), a_profile())
    assert one.used == pytest.approx(0.25)
    assert (one.compute, one.memory) == (pytest.approx(0.25), 0)


def test_a_program_bound_by_memory_uses_the_card_by_its_memory():
    one = found(a_run(**{rooms.TENSOR: 9.0, rooms.DRAM: 60.0}), a_profile())
    assert one.used == pytest.approx(0.75)
    assert (one.compute, one.memory) == (pytest.approx(0.1), pytest.approx(0.75))


def test_headroom_is_inside_busy_and_not_of_the_gaps():
    """Half of the time no kernel runs; in the other half the card does all it can."""
    one = found(a_run(busy=0.5, **{rooms.TENSOR: 45.0, rooms.DRAM: 0.0}), a_profile())
    assert one.used == pytest.approx(1.0)


def test_a_program_of_plain_fp32_uses_the_card_by_its_fp32_pipes():
    made = a_profile()
    clocks = {"min": CLOCK, "median": CLOCK, "max": CLOCK}
    made.results.append(result("gemm.fp32", "TFLOP/s", 50.0, dtype="fp32", sm_clock_mhz=clocks, gpm={rooms.FP32: 80.0}))
    one = found(a_run(**{rooms.TENSOR: 0.0, rooms.FP32: 40.0, rooms.DRAM: 10.0}), made)
    assert one.used == pytest.approx(0.5)


def test_a_pipe_that_the_profile_hardly_used_calibrates_nothing():
    made = a_profile()
    clocks = {"min": CLOCK, "median": CLOCK, "max": CLOCK}
    made.results.append(result("gemm.fp64", "TFLOP/s", 60.0, dtype="fp64", sm_clock_mhz=clocks, gpm={rooms.FP64: 1.0}))
    one = found(a_run(**{rooms.TENSOR: 9.0, rooms.FP64: 1.0, rooms.DRAM: 0.0}), made)
    assert one.used == pytest.approx(0.1)


def test_a_monitor_that_covers_little_does_not_speak_for_the_run():
    tensor = [90.0 if i < 300 else None for i in range(1000)]
    assert found(a_run(**{rooms.TENSOR: tensor, rooms.DRAM: 0.0}), a_profile()).basis == "energy"


def test_a_window_of_the_monitor_stands_for_its_own_length():
    """Every third tick ends a window of 300 ms: half of them full, half empty."""
    tensor = [(90.0 if i % 2 else 0.0) if i % 3 == 0 else None for i in range(1000)]
    window = [300_000_000 if i % 3 == 0 else None for i in range(1000)]
    one = found(a_run(**{rooms.TENSOR: tensor, rooms.DRAM: 0.0, "activity_window_ns": window}), a_profile())
    assert one.used == pytest.approx(0.5, abs=0.01)


def test_ticks_without_the_monitor_are_left_out():
    tensor = [90.0 if i % 2 else None for i in range(1000)]
    one = found(a_run(**{rooms.TENSOR: tensor, rooms.DRAM: 0.0}), a_profile())
    assert one.used == pytest.approx(1.0)


def test_without_columns_or_without_calibration_energy_bounds_it():
    assert found(a_run(), a_profile()).basis == "energy"
    assert found(a_run(**{rooms.TENSOR: 90.0, rooms.DRAM: 0.0}), a_profile(gpm=False)).basis == "energy"


def test_the_bound_from_energy_can_be_worked_out_by_hand():
    """100 s at 300 W: 1.05 x 30 kJ - 7 kJ = 24.5 kJ above idle pay for 49 PFLOP at 0.5 pJ, where 70 PFLOP were possible."""
    one = found(a_run(energy_j=30_000.0), a_profile())
    assert one.used is None, "a bound is not an estimate"
    assert one.compute == pytest.approx(49 / 70)
    assert one.memory == pytest.approx(24_500 / 100e-12 / (3000e9 * 100))
    assert (one.low, one.high) == (0.0, pytest.approx(max(one.compute, one.memory)))


def test_at_a_lower_clock_the_same_energy_could_pay_for_more():
    slow, fast = (
        found(a_run(energy_j=15_000.0, clock=CLOCK / 2), a_profile()),
        found(a_run(energy_j=15_000.0), a_profile()),
    )
    assert slow.compute == pytest.approx(4 * fast.compute)


def test_a_run_that_drew_as_much_as_full_use_is_not_bounded():
    one = found(a_run(energy_j=70_000.0), a_profile())
    assert one.high == 1.0
    assert "says nothing" in one.why


@pytest.mark.parametrize(
    ("run", "made", "word"),
    [
        (a_run(), None, "gpucost bench"),
        (a_run(), a_profile(floor=False), "--full"),
        (a_run(energy_j=float("nan")), a_profile(), "energy is not known"),
        (a_run(covered=0.5), a_profile(), "energy is not known"),
        (a_run(busy=0.0), a_profile(), "no kernel ran"),
        (a_run(clock=None), a_profile(), "not usable"),
    ],
)
def test_where_nothing_can_be_said_the_reason_is(run, made, word):
    one = found(run, made)
    assert (one.basis, one.used, one.low, one.high) == ("none", None, None, None)
    assert word in one.why


def test_what_failed_a_gate_calibrates_nothing():
    bad = a_profile()
    bad.result("gemm.bf16").ceiling = False
    assert found(a_run(**{rooms.TENSOR: 90.0, rooms.DRAM: 0.0}), bad).basis == "none"


def test_another_cards_profile_is_not_this_cards():
    recording, analysis = a_run()
    (one,) = rooms.headroom(recording, analysis, {"GPU-2222": a_profile()})
    assert one.basis == "none"
