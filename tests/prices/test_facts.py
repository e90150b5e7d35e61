"""The shipped facts: GPU models and grid intensities."""

import pytest

from gpucost import carbon, specs
from gpucost.errors import UsageError


def test_a_model_is_found_by_nvml_s_name():
    spec = specs.lookup("Tesla T4")
    assert (spec.memory_gib, spec.tdp_w, spec.architecture, spec.mig_max_instances) == (16, 70, "Turing", 0)
    assert specs.lookup("tesla t4") is None


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("h100", "NVIDIA H100 80GB HBM3"),
        ("H100", "NVIDIA H100 80GB HBM3"),
        ("a100", "NVIDIA A100-SXM4-80GB"),
        ("h200", "NVIDIA H200"),
        ("l4", "NVIDIA L4"),
        ("t4", "Tesla T4"),
        ("4090", "NVIDIA GeForce RTX 4090"),
        ("nvidia h100 pcie", "NVIDIA H100 PCIe"),
    ],
)
def test_a_model_is_found_by_a_short_name_in_any_case(short, name):
    assert specs.find(short).name == name


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(UsageError, match="'z9'") as caught:
        specs.find("z9")
    assert "h100" in caught.value.hint


def test_no_two_models_share_a_short_name_and_every_row_is_readable():
    shorts = [name for row in specs.rows("gpu_specs.csv") for name in row["short_names"].split("|") if name]
    assert len(shorts) == len(set(shorts))
    for row in specs.rows("gpu_specs.csv"):
        spec = specs.lookup(row["nvml_name"])
        assert spec.source
        assert spec.confidence in ("high", "medium", "low")


def test_peaks_are_dense_and_blank_where_unknown():
    h100 = specs.find("h100")
    assert (h100.bf16_tflops, h100.fp8_tflops) == (989, 1979)
    assert specs.lookup("NVIDIA B300 SXM6 AC").int8_tops is None


@pytest.mark.parametrize("region", ["FRA", "fra", "France"])
def test_a_region_is_found_by_code_or_name(region):
    found = carbon.lookup(region)
    assert (found.code, found.g_per_kwh, found.year) == ("FRA", 56.0, 2023)
    assert "Our World in Data" in found.source


def test_a_cloud_region_is_found_with_and_without_its_provider():
    assert carbon.lookup("us-central1") == carbon.lookup("gcp:us-central1")
    assert carbon.lookup("gcp:us-central1").year is None


def test_an_unknown_region_names_the_nearest():
    with pytest.raises(UsageError, match="'germny'") as caught:
        carbon.lookup("germny")
    assert "germany" in caught.value.hint


def test_co2e_is_energy_times_pue_times_intensity():
    france = carbon.lookup("FRA")
    assert carbon.co2e_g(3.6e6, france, 1.5) == pytest.approx(84.0)
