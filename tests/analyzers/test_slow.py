"""Why a GPU was slow, by hand: counters, samples of the reasons, the link under load, what the hardware said; and the rules on them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis_builders import GPU, HOST, S, gpu_rows, recording, tenths
from gpucost.analyzers import Analysis, Settings, analyze
from gpucost.analyzers.rules import RULES, findings_of
from gpucost.manifest import Gpu

if TYPE_CHECKING:
    from collections.abc import Mapping

POWER_CAP, SW_THERMAL, HW_THERMAL, SLOWDOWN = 0x4, 0x20, 0x40, 0x8
X16 = Gpu(GPU, "Test GPU", HOST, 0, pcie_gen_max=5, pcie_width_max=16)


def analyzed(seconds: float, *, util: Any = 50.0, gpus=None, events: list[dict] = (), **columns: Any) -> Analysis:
    rows = gpu_rows(tenths(0, seconds), util, **columns)
    return analyze(recording(seconds, rows, gpus=gpus, event=list(events)), Settings())


def cause(found: Analysis, name: str) -> Mapping[str, Any]:
    return found.held_back.set_index("cause").loc[name].to_dict()


def codes(found: Analysis) -> list[str]:
    return [rule.code for rule, _ in findings_of(found)]


def counted(seconds: float, share: float) -> list[int]:
    """A counter that grows for this share of the time."""
    return [round(share * t * S) for t in tenths(0, seconds)]


def test_the_drivers_counter_says_how_long_the_clocks_were_held_down() -> None:
    found = cause(analyzed(10, sw_power_cap_ns=counted(10, 0.25), clocks_event_reasons=0), "power_cap")
    assert found["held_back_ns"] == pytest.approx(0.25 * 9.9 * S)
    assert found["covered_ns"] == round(9.9 * S)  # from the first reading to the last
    assert found["basis"] == "counter"


def test_without_a_counter_the_reasons_at_each_tick_are_samples_of_it() -> None:
    reasons = [POWER_CAP if t > 5 else 0 for t in tenths(0, 10)]
    found = analyzed(10, clocks_event_reasons=reasons)
    assert cause(found, "power_cap") == {
        "gpu_uuid": GPU,
        "held_back_ns": 5 * S,
        "covered_ns": 10 * S,
        "basis": "sampled",
        "samples": 100,
    }
    assert cause(found, "thermal")["held_back_ns"] == 0


def test_reasons_that_are_no_bits_are_unknown() -> None:
    """A driver's garbage, larger than any integer that it could be."""
    found = cause(analyzed(10, clocks_event_reasons=2**63 - 1), "power_cap")
    assert (found["basis"], math.isnan(found["held_back_ns"])) == ("unknown", True)


def test_what_nothing_was_read_of_is_unknown_and_not_zero() -> None:
    found = cause(analyzed(10), "thermal")
    assert math.isnan(found["held_back_ns"])
    assert found["basis"] == "unknown"


def test_two_counters_of_heat_that_count_the_same_time_count_it_once() -> None:
    found = cause(analyzed(10, sw_thermal_ns=counted(10, 0.3), hw_thermal_ns=counted(10, 0.1)), "thermal")
    assert found["held_back_ns"] == pytest.approx(0.3 * 9.9 * S)


def test_one_counter_of_heat_is_enough() -> None:
    assert cause(analyzed(10, hw_thermal_ns=counted(10, 0.1)), "thermal")["basis"] == "counter"


def test_a_counter_that_starts_again_covers_nothing_between_those_two_readings() -> None:
    values = [9_000_000_000 + v if v < S else v for v in counted(10, 0.5)]
    found = cause(analyzed(10, sw_power_cap_ns=values), "power_cap")
    assert found["held_back_ns"] == pytest.approx(0.5 * 9.8 * S)
    assert found["covered_ns"] == round(9.8 * S)


def test_slow_down_of_the_hardware_alone_is_no_cause_because_changes_of_clocks_set_it_too() -> None:
    found = analyzed(10, clocks_event_reasons=SLOWDOWN)
    assert set(found.held_back["held_back_ns"]) == {0}


def test_heat_for_more_than_a_hundredth_of_the_work_is_a_finding_and_the_power_cap_is_none() -> None:
    found = analyzed(100, sw_thermal_ns=counted(100, 0.02), sw_power_cap_ns=counted(100, 0.9), temperature_c=88)
    ((rule, finding),) = findings_of(found)
    assert (rule.code, finding.gpu_uuid) == ("GC301", GPU)
    assert finding.affected_ns == pytest.approx(0.02 * 99.9 * S)
    assert "4.0% of the time in which kernels ran" in finding.seen
    assert "88 °C" in finding.evidence
    assert codes(analyzed(100, sw_thermal_ns=counted(100, 0.004))) == []


def test_a_few_hot_ticks_among_samples_are_no_finding() -> None:
    assert codes(analyzed(10, clocks_event_reasons=[HW_THERMAL] * 3 + [0] * 97)) == []
    assert codes(analyzed(10, clocks_event_reasons=[HW_THERMAL] * 30 + [0] * 70)) == ["GC301"]


def test_a_link_is_judged_under_load_only() -> None:
    """Half of the time the GPU waits, and its link sleeps at generation 1."""
    times = tenths(0, 20)
    columns = {"util": [80.0 if t > 10 else 0.0 for t in times], "pcie_link_gen": [5 if t > 10 else 1 for t in times]}
    found = analyzed(20, gpus=[X16], pcie_link_width=16, **columns)
    link = found.links.loc[GPU]
    assert (link["gen"], link["width"], link["gen_below"], link["width_below"]) == (5, 16, 0, 0)
    assert link["readings"] == 99  # all under load but the last, which nothing follows
    assert codes(found) == []


def test_a_link_narrower_than_it_can_be_is_a_finding() -> None:
    found = analyzed(20, gpus=[X16], pcie_link_width=8, pcie_link_gen=5)
    ((rule, finding),) = findings_of(found)
    assert rule.code == "GC302"
    assert finding.seen == "the PCIe link ran at gen 5 x8 under load, and card and slot can do gen 5 x16"


def test_a_link_whose_maximum_is_not_known_is_not_judged() -> None:
    found = analyzed(20, pcie_link_width=8, pcie_link_gen=1)
    assert math.isnan(found.links.loc[GPU, "width_below"])
    assert codes(found) == []


def event(t_s: float, kind: str, message: str, subject: str | None = GPU) -> dict[str, Any]:
    return {"t_ns": round(t_s * S), "kind": kind, "source": "nvml", "subject": subject, "message": message}


def test_what_the_hardware_reported_is_counted_by_what_it_said() -> None:
    said = [event(3, "xid", "gpu0: XID 31: memory page fault"), event(4, "xid", "gpu0: XID 79: fell off the bus")]
    found = analyzed(10, events=[*said, event(5, "xid", said[0]["message"]), event(6, "stage_started", "plan")])
    assert found.hardware[["message", "count", "first_ns"]].to_numpy().tolist() == [
        [said[0]["message"], 2, 3 * S],
        [said[1]["message"], 1, 4 * S],
    ]
    assert codes(found) == ["GC303", "GC303"]


def test_corrected_errors_and_other_gpus_are_no_finding() -> None:
    corrected = event(3, "ecc_error", "gpu0: a single-bit memory error was corrected (ECC)")
    elsewhere = event(3, "xid", "gpu9: XID 79", subject="GPU-9")
    assert codes(analyzed(10, events=[corrected, elsewhere])) == []
    bad = event(3, "ecc_error", "gpu0: a double-bit memory error could not be corrected (ECC)")
    assert codes(analyzed(10, events=[bad])) == ["GC303"]


def test_every_rule_has_a_file_a_code_of_its_own_and_a_section_in_the_documents() -> None:
    root = Path(__file__).parent.parent.parent
    files = {path.stem for path in (root / "analyzers" / "rules").glob("*.py")} - {"__init__", "contract"}
    assert {rule.find.__module__.rpartition(".")[2] for rule in RULES} == files
    codes_of_rules = [rule.code for rule in RULES]
    assert codes_of_rules == sorted(set(codes_of_rules))
    text = (root / "docs" / "findings.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"## {rule.code} {rule.name}" in text
