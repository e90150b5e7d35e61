"""What follows from several results together."""

import numpy as np
import pytest

from benching.profiles import result
from gpucost.bench import derive
from gpucost.bench.model import Result


def test_ceilings_are_the_best_valid_figures():
    found = derive.ceilings(
        [
            result("gemm.bf16", "TFLOP/s", 700.0, dtype="bf16"),
            result("gemm.bf16.best", "TFLOP/s", 720.0, dtype="bf16"),
            result("gemm.bf16.zeros", "TFLOP/s", 950.0, dtype="bf16"),
            result("mem.triad", "GB/s", 3000.0),
            result("mem.read", "GB/s", 3200.0),
            result("link.p2p.GPU-2", "GB/s", 370.0),
            result("link.p2p.GPU-2.latency", "us", 9.0),
        ]
    )
    assert found["gemm_tflops"] == {"bf16": 720.0}
    assert (found["dram_gb_s"], found["dram_test"]) == (3200.0, "mem.read")
    assert found["p2p_gb_s"] == {"GPU-2": 370.0}
    assert found["h2d_gb_s"] is None, "unknown is null"


def test_what_failed_a_gate_is_no_ceiling():
    bad = result("mem.triad", "GB/s", 9000.0)
    bad.ceiling = False
    assert derive.ceilings([bad])["dram_gb_s"] is None


def test_bf16_is_emulated_on_cards_from_before_it():
    one = result("gemm.bf16", "TFLOP/s", 2.4, dtype="bf16")
    derive.flag_emulated([one, result("gemm.fp32", "TFLOP/s", 4.3, dtype="fp32")], "7.5")
    assert one.flags == ["emulated"]


def test_a_dtype_below_a_quarter_of_fp32_is_emulated_but_slow_fp64_is_what_the_card_has():
    fp16, fp64 = result("gemm.fp16", "TFLOP/s", 0.002, dtype="fp16"), result("gemm.fp64", "TFLOP/s", 0.5, dtype="fp64")
    derive.flag_emulated([fp16, fp64, result("gemm.fp32", "TFLOP/s", 30.0, dtype="fp32")], None)
    assert (fp16.flags, fp64.flags) == (["emulated"], [])


def roofline(p0, per_byte, per_flop, *, capped=()):
    """Points whose power follows the model exactly, but for the capped ones."""
    points = []
    for i, (gb_s, tflops) in enumerate([(3000, 3), (2900, 50), (2500, 200), (1500, 500), (800, 700), (400, 720)]):
        power = p0 + per_byte * gb_s * 1e9 / 1e12 + per_flop * tflops
        points.append(
            {
                "moved_gb_s": gb_s,
                "sustained": tflops,
                "power_w": 700.0 if i in capped else power,
                "power_capped": float(i in capped),
            }
        )
    return Result("roofline", "TFLOP/s", dtype="bf16", points=points)


def test_the_power_model_finds_the_coefficients_that_made_the_points():
    model = derive.power_model(roofline(100.0, 118.0, 0.5))
    assert (model.p0_w, model.pj_per_byte, model.pj_per_flop) == pytest.approx((100.0, 118.0, 0.5))
    assert model.mape == pytest.approx(0, abs=1e-9)
    assert model.below_w is None


def test_points_that_the_power_limit_held_are_left_out_of_the_model():
    model = derive.power_model(roofline(100.0, 118.0, 0.5, capped=(4, 5)))
    assert (model.points, model.below_w) == (4, 700.0)
    assert model.pj_per_flop == pytest.approx(0.5)


def test_a_model_that_makes_no_sense_is_none():
    assert derive.power_model(roofline(100.0, -50.0, 0.5)) is None
    assert derive.power_model(Result("roofline", "TFLOP/s", dtype="bf16", points=[])) is None
    assert derive.power_model(None) is None


def test_the_floor_of_energy_leaves_the_idle_power_out():
    zeros = result("gemm.bf16.zeros", "TFLOP/s", 800.0, dtype="bf16", power_w={"median": 470.0, "max": 480.0})
    zeros.energy_j, zeros.time_s, zeros.energy_error, zeros.energy_pj = 4700.0, 10.0, 0.01, 470 / 800
    zeros.work = 800e12 * 10
    floor = derive.energy_floor(zeros, 70.0, "energy.floor.bf16", "pJ/FLOP")
    assert floor.sustained == pytest.approx(400 / 800)
    assert floor.ci95 == pytest.approx([0.495, 0.505])


def test_there_is_no_floor_without_idle_power_or_below_it():
    zeros = result("gemm.bf16.zeros", "TFLOP/s", 800.0, dtype="bf16", power_w={"median": 60.0, "max": 60.0})
    zeros.energy_j, zeros.time_s, zeros.energy_error, zeros.energy_pj = 600.0, 10.0, 0.01, 0.1
    zeros.work = 800e12 * 10
    assert derive.energy_floor(zeros, None, "x", "pJ/FLOP") is None
    assert derive.energy_floor(zeros, 70.0, "x", "pJ/FLOP") is None


def test_a_card_slower_than_the_best_of_its_like_is_named():
    values = {"a": (700.0, (699.0, 701.0)), "b": (660.0, (659.0, 661.0)), "c": (690.0, (689.0, 691.0))}
    assert derive.outliers(values) == ["b"]


def test_a_slow_card_with_a_wide_interval_is_not_named():
    assert derive.outliers({"a": (700.0, None), "b": (660.0, (640.0, 680.0))}) == []
    assert derive.outliers({"a": (1.0, None)}) == []


def test_the_share_that_is_left_when_all_work_is_a_ratio():
    found = derive.together(result("mem.triad", "GB/s", 3000.0), result("x", "GB/s", 2700.0))
    assert (found.id, found.unit, found.sustained) == ("concurrent.mem.triad", "ratio", pytest.approx(0.9))


def test_idle_power_is_unknown_without_a_sensor():
    assert derive.idle_power("power.idle_ctx", []) is None


def test_energy_has_the_interval_of_the_sensor():
    one = result("gemm.bf16", "TFLOP/s", 700.0, dtype="bf16")
    one.energy_pj, one.energy_error = 0.9, 0.04
    found = derive.all_power({one.id: one}, None)
    assert [(f.id, f.ci95) for f in found] == [("energy.per_flop.bf16", pytest.approx([0.864, 0.936]))]
    assert np.isfinite(found[0].sustained)
