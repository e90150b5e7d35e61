"""The kernels on the CPU with fixed small sizes: that they compute what they say, and that what they did not compute is found."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the benchmark's kernels need torch (pip install 'gpucost[bench]')")

from gpucost.bench import gates  # noqa: E402 (after the skip)
from gpucost.bench.kernels.backend import Cpu, iterations  # noqa: E402
from gpucost.bench.kernels.gemm import Gemm, Shape, precision  # noqa: E402
from gpucost.bench.kernels.handlers import HANDLERS, smaller  # noqa: E402
from gpucost.bench.kernels.memory import MemoryTest, array_bytes  # noqa: E402

DTYPES = ("fp64", "fp32", "bf16", "fp16", "int8", "fp8_e4m3")
N = 96


@pytest.fixture(scope="module")
def backend():
    made = Cpu(threads=1)
    made.llc_bytes = 64 << 10
    return made


def product(backend, dtype, n=N, **fields):
    kernel = Gemm(backend, dtype, Shape(n, n, n), **fields)
    for _ in range(3):
        kernel.launch()
    return kernel


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_right_to_its_own_precision(backend, dtype):
    errors = product(backend, dtype).verify()
    assert gates.numerics(dtype, errors) == []
    if dtype not in ("int8", "fp64"):
        assert errors["error_fp64"] > 0, "the reference must be another computation"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_that_never_happened_is_found(backend, dtype):
    kernel = Gemm(backend, dtype, Shape(N, N, N))
    assert gates.numerics(dtype, kernel.verify()) == ["wrong_result"]


def test_half_a_product_is_found(backend):
    kernel = product(backend, "fp32")
    kernel._sets[0][2][N // 2 :] = float("nan")
    assert math.isnan(kernel.verify()["error_freivalds"])


def test_one_wrong_element_outside_the_sample_is_found(backend):
    kernel = product(backend, "fp32", n=512)
    kernel._sets[1][2][300, 300] += 50
    errors = kernel.verify()
    assert errors["error_fp64"] < 1e-5, "the sampled rows are of the first set"
    assert gates.numerics("fp32", errors) == ["wrong_result"]


def test_operands_are_random_differ_by_set_and_are_the_same_for_the_same_seed(backend):
    one, other, third = (product(backend, "fp32", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one._sets[0][0], other._sets[0][0])
    assert not torch.equal(one._sets[0][0], third._sets[0][0])
    assert not torch.equal(one._sets[0][0], one._sets[1][0])
    assert one._sets[0][0].std() > 0.9


def test_operand_sets_rotate_over_several_times_the_cache(backend):
    kernel = product(backend, "fp32")
    assert kernel.footprint_bytes >= 4 * backend.llc_bytes
    assert kernel.launched == 3


def test_zeros_are_zeros(backend):
    kernel = product(backend, "bf16", data="zeros")
    assert not kernel._sets[0][0].any()
    assert kernel.verify() == {"error_fp64": 0.0, "error_freivalds": 0.0}


def test_a_product_counts_two_flop_a_term():
    assert Shape(2, 3, 5).flop == 60


def test_fp32_is_ieee_while_asked_for_and_the_setting_is_put_back():
    place = torch.backends.cuda.matmul
    before = place.fp32_precision
    with precision("tf32"):
        assert place.fp32_precision == "tf32"
        with precision("fp32"):
            assert place.fp32_precision == "ieee"
        assert place.fp32_precision == "tf32"
    assert place.fp32_precision == before


@pytest.mark.parametrize(("operation", "arrays"), [("triad", 3), ("copy", 2), ("read", 1), ("write", 1)])
def test_streams_count_bytes_as_stream_does_and_are_right(backend, operation, arrays):
    kernel = MemoryTest(backend, operation, 40_000)
    unrun = kernel.verify()["error_fp64"]
    kernel.launch()
    assert kernel.work == arrays * 40_000
    assert kernel.verify()["error_fp64"] <= gates.STREAM_ERROR
    assert not unrun <= gates.STREAM_ERROR, "a stream that never ran is found"


def test_a_corrupted_copy_is_found(backend):
    kernel = MemoryTest(backend, "copy", 40_000)
    kernel.launch()
    kernel._out[77] += 1
    assert math.isnan(kernel.verify()["error_fp64"])


def test_arrays_are_grown_past_the_cache_and_shrunk_to_the_memory(backend, monkeypatch):
    assert array_bytes(backend, 3, 1) == 4 * backend.llc_bytes
    monkeypatch.setattr(backend, "budget_bytes", lambda: 3 << 20)
    assert array_bytes(backend, 3, 8 << 20) == 1 << 20
    monkeypatch.setattr(backend, "budget_bytes", lambda: 1000)
    with pytest.raises(MemoryError):
        array_bytes(backend, 3, 8 << 20)


def test_windows_hold_the_work_of_their_launches(backend):
    found = backend.windows(lambda: None, 7.0, 0.02, 0.002)
    assert found
    assert all(one.work == 7.0 * one.iters and one.duration_ns > 0 for one in found)
    assert [one.end_ns for one in found] == sorted(one.end_ns for one in found)


def test_a_window_is_filled_by_as_many_launches_as_it_takes():
    class Clockwork:
        def once_s(self, launch, count):
            return count * 0.001

    assert iterations(Clockwork(), lambda: None, 0.050) == pytest.approx(50, abs=1)
    assert iterations(Clockwork(), lambda: None, 0.0001) == 1


# --- requests ----------------------------------------------------------------------------------------------------------------------


def asked(backend, kind, **request):
    return HANDLERS[kind](backend, {"seconds": 0.01, "window_s": 0.002, "seed": 1, **request})


def test_a_product_is_halved_until_it_fits_the_window(backend):
    fast = asked(backend, "gemm", dtype="fp32", m=64, n=64, k=64, floor=32)
    slow = asked(backend, "gemm", dtype="fp32", m=4096, n=4096, k=4096, floor=32)
    assert fast["shape"] == [64, 64, 64]
    assert 32 <= slow["shape"][0] < 4096


def test_a_product_that_no_memory_holds_is_out_of_memory_at_once(backend):
    with pytest.raises(MemoryError):
        asked(backend, "gemm", dtype="fp32", m=1 << 20, n=1 << 20, k=64, fit=False)


def test_a_dtype_that_the_device_lacks_is_unsupported(backend):
    assert asked(backend, "probe", dtype="bf16")["flop_per_s"] > 0
    with pytest.raises(NotImplementedError, match="TF32"):
        asked(backend, "probe", dtype="tf32")
    with pytest.raises(NotImplementedError):
        asked(backend, "probe", dtype="fp4")


def test_enqueueing_is_timed_and_every_kernel_is_counted(backend):
    found = asked(backend, "launch", what="enqueue")
    assert found["errors"] == {"error_fp64": 0.0}
    assert all(one.iters == 500 for one in found["windows"])


def test_one_thread_is_one_thread(backend):
    assert asked(backend, "threads", count=1)["threads"] == 1


def test_after_an_out_of_memory_half_is_tried_unless_the_size_is_the_point():
    assert smaller({"kind": "gemm", "m": 8, "n": 8, "k": 8}) == {"kind": "gemm", "m": 4, "n": 4, "k": 4}
    assert smaller({"kind": "memory", "array_bytes": 9})["array_bytes"] == 4
    assert smaller({"kind": "memory", "array_bytes": 9, "exact": True}) is None
    assert smaller({"kind": "probe"}) is None
