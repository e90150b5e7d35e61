"""The book: peaks at the clocks that a card really has, and ranges that others have published."""

import pytest

from gpucost import specs
from gpucost._data import rows
from gpucost.bench import book
from gpucost.bench.model import Device


def device(name, sm_count, clock, **fields):
    return Device("cuda", "GPU-1", name, sm_count=sm_count, sm_clock_max_mhz=clock, **fields)


@pytest.mark.parametrize(
    ("name", "sm_count", "clock", "book_clock"),
    [
        ("NVIDIA H100 80GB HBM3", 132, 1980, 1830),
        ("NVIDIA A100-SXM4-80GB", 108, 1410, 1410),
        ("NVIDIA L4", 58, 2040, 2040),
        ("Tesla T4", 40, 1590, 1590),
        ("NVIDIA GeForce RTX 4090", 128, 3105, 2520),
    ],
)
def test_the_clock_of_the_vendors_peak_is_found(name, sm_count, clock, book_clock):
    assert book.peaks(device(name, sm_count, clock)).book_clock_mhz == pytest.approx(book_clock, rel=0.005)


def test_a_card_that_clocks_higher_than_the_vendor_says_may_be_faster_than_the_vendor_says():
    peaks = book.peaks(device("NVIDIA GeForce RTX 4090", 128, 3105))
    assert peaks.tflops["bf16"] == 165.2
    assert peaks.limit("bf16") == pytest.approx(165.2 * 3105 / 2520, rel=0.005)


def test_at_the_clock_of_a_power_limit_the_peak_is_lower():
    peaks = book.peaks(device("NVIDIA L4", 58, 2040))
    assert peaks.at("bf16", 1000) == pytest.approx(121 * 1000 / 2040, rel=0.005)


def test_a_mig_device_has_the_peaks_of_its_share():
    whole = book.peaks(device("NVIDIA H100 80GB HBM3", 132, 1980))
    part = book.peaks(device("NVIDIA H100 80GB HBM3", 16, 1980, parent_uuid="GPU-1"))
    assert part.tflops["bf16"] == pytest.approx(whole.tflops["bf16"] * 16 / 132)
    assert part.book_clock_mhz == pytest.approx(whole.book_clock_mhz)


def test_tensor_cores_that_multiply_fp64_count_twice():
    assert book.peaks(device("NVIDIA A100-SXM4-80GB", 108, 1410)).tflops["fp64"] == pytest.approx(19.4)
    assert book.peaks(device("NVIDIA L4", 58, 2040)).tflops["fp64"] == pytest.approx(0.47)


def test_bandwidths_that_disagree_are_said():
    seen = book.peaks(device("NVIDIA B200", 148, 1965, memory_bandwidth_props_gb_s=7672.0))
    assert "7672" in seen.warnings[0]
    assert seen.dram_gb_s == 8000


def test_an_unknown_model_has_no_peaks_and_fails_nothing():
    seen = book.peaks(device("Somebody's GPU", 10, 1000))
    assert (seen.tflops, seen.limit("bf16"), seen.at("bf16", 900)) == ({}, None, None)


def test_a_cpu_has_no_peaks():
    assert book.peaks(Device("cpu", "CPU-1", "A processor")).tflops == {}


def test_is_my_number_normal():
    known = book.reference("NVIDIA H200", "gemm.bf16")
    assert (known.low, known.high) == (790.3, 794.5)
    assert known.verdict(785) == "normal"
    assert known.verdict(600) == "low"
    assert known.verdict(900) == "high"
    assert book.reference("NVIDIA H200", "gemm.fp64") is None


def test_every_range_names_models_of_the_book_has_a_source_and_is_a_range():
    for row in rows("gpu_reference.csv"):
        assert float(row["low"]) <= float(row["high"])
        assert row["source"]
        for name in row["nvml_names"].split("|"):
            assert specs.lookup(name) is not None, name


def test_no_range_lies_above_what_the_book_says_is_possible():
    for row in rows("gpu_reference.csv"):
        for name in row["nvml_names"].split("|"):
            dtype = row["test"].removeprefix("gemm.")
            peak = book.peaks(Device("cuda", "GPU-1", name)).tflops.get(dtype)
            if row["test"].startswith("gemm.") and peak is not None:
                assert float(row["high"]) <= 1.1 * peak, (name, row["test"])
