"""Plans: what is measured, and that it fits the promised time."""

import pytest

from gpucost.bench import plan
from gpucost.errors import UsageError


def device(mode, dtypes=plan.DEVICE_DTYPES):
    return plan.device_plan(mode, dtypes, sm_count=132, llc_bytes=50 << 20)


def test_quick_is_about_twenty_seconds_and_full_under_three_minutes():
    assert 15 <= device("quick").seconds <= 22
    assert 120 <= device("full").seconds <= 165, "the rest is operands and proofs"


def test_every_dtype_is_measured_and_fp32_and_tf32_apart():
    names = {test.id for test in device("quick").tests}
    assert {f"gemm.{dtype}" for dtype in plan.DEVICE_DTYPES} <= names
    assert {"gemm.fp32", "gemm.tf32"} <= names


def test_a_full_run_has_what_a_quick_one_leaves_out():
    quick, full = ({test.id for test in device(mode).tests} for mode in ("quick", "full"))
    assert quick < full
    assert {
        "gemm.bf16.zeros",
        "mem.triad.zeros",
        "gemm.bf16.shapes",
        "mem.sweep",
        "link.h2d.pageable",
        "link.both.pinned",
        "link.pin",
        "roofline",
    } <= full - quick


def test_ids_are_unique_and_units_are_known():
    for mode in ("quick", "full"):
        tests = [
            *device(mode).tests,
            *plan.cpu_plan(mode, plan.CPU_DTYPES).tests,
            *plan.peer_tests(0, 1, "GPU-2", full=True),
        ]
        assert {test.unit for test in tests} <= {"TFLOP/s", "TOP/s", "GB/s", "us"}
        assert len({test.id for test in device(mode).tests}) == len(device(mode).tests)


def test_a_copy_from_the_wrong_node_is_measured_where_there_is_one():
    names = [test.id for test in plan.device_plan("full", ("bf16",), sm_count=1, llc_bytes=1, several_nodes=True).tests]
    assert "link.h2d.pinned.any_node" in names
    assert "link.h2d.pinned.any_node" not in [test.id for test in device("full").tests]


def test_the_sweep_goes_from_a_mebibyte_to_two_gibibytes_in_twelve_steps():
    (sweep,) = [test for test in device("full").tests if test.id == "mem.sweep"]
    sizes = [facts["footprint_bytes"] for facts, _ in sweep.parts]
    assert (len(sizes), sizes[0], sizes[-1]) == (12, 1 << 20, 2 << 30)


def test_dtypes_are_taken_by_their_common_names():
    assert plan.parse_dtypes(["fp8,BF16", "float32"], "device") == ("fp8_e4m3", "bf16", "fp32")
    assert plan.parse_dtypes([], "device") == plan.DEVICE_DTYPES
    assert plan.parse_dtypes([], "cpu") == plan.CPU_DTYPES


def test_an_unknown_dtype_is_a_mistake_of_the_user():
    with pytest.raises(UsageError, match="fp4"):
        plan.parse_dtypes(["fp4"], "device")


def test_a_plan_of_one_dtype_warms_up_with_it():
    assert device("full", ("fp64",)).warm_up.dtype == "fp64"
    assert "gemm.fp64.zeros" in {test.id for test in device("full", ("fp64",)).tests}
