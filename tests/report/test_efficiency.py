"""The report's section on what the cards could have done: every figure worked out by hand, and nothing where nothing is known."""

import io
import json

import pandas as pd
import pytest

from benching.profiles import profile, result
from gpucost.analyzers.headroom import DRAM, TENSOR
from gpucost.analyzers.model import Settings
from gpucost.bench import derive, store
from gpucost.manifest import Gpu, Host, Manifest
from gpucost.recording import Recording
from gpucost.render import renderer
from gpucost.report.load import report_of
from report_factory import Scenario, recording_of

UUID = "GPU-1111"
H100 = "NVIDIA H100 80GB HBM3"
S = 1_000_000_000
CLOCK = 1755.0


def a_profile(**fields):
    clocks = {"min": CLOCK, "median": CLOCK, "max": CLOCK}
    results = [
        result("gemm.bf16", "TFLOP/s", 800.0, width=0.01, dtype="bf16", sm_clock_mhz=clocks, gpm={TENSOR: 90.0}),
        result("mem.triad", "GB/s", 3000.0, width=0.01, gpm={DRAM: 80.0}),
    ]
    made = profile(uuid=UUID, name=H100, results=results, **fields)
    made.ceilings = derive.ceilings(results)
    return made


def a_report(*, price="3.6", profiles=None, attributes=None, monitored=True, seconds=100):
    ticks = [i * S // 10 for i in range(seconds * 10 + 1)]
    gpu = pd.DataFrame(
        {
            "gpu_uuid": UUID,
            "host": "h",
            "t_ns": ticks,
            "gpu_util_pct": 100.0,
            "sm_clock_mhz": CLOCK,
            "processes": 1,
            "run_processes": 1,
        }
    )
    if monitored:
        gpu[TENSOR], gpu[DRAM] = 45.0, 20.0
    frames = {"gpu": gpu}
    if attributes is not None:
        frames["stage"] = pd.DataFrame(
            [
                {
                    "stage_id": "1",
                    "name": "train",
                    "start_t_ns": 0,
                    "end_t_ns": seconds * S,
                    "attributes": json.dumps(attributes),
                    "truncated": False,
                }
            ]
        )
    manifest = Manifest(
        "20260725-174501-a1b2c3", ["train.py"], 1_785_001_501 * S, 0, status="complete", exit_code=0,
        hosts={"h": Host("h", 1_785_001_501 * S, 0)}, gpus=[Gpu(UUID, H100, host="h", index=0)], recorder={"hz": 10.0}, driver={"driver": "1.2.3"},
    )  # fmt: skip
    recording = Recording(manifest, {**recording_of(Scenario()).frames, **frames}, seconds * S)
    return report_of(recording, Settings(timeline_buckets=120), price=price, environ={}, profiles=profiles or {})


def printed(report, form):
    file = io.StringIO()
    renderer(form)(report, file, width=100)
    return file.getvalue()


def test_headroom_is_a_range_of_the_busy_cost_with_its_basis():
    """100 s at $3.60 an hour are $0.10; half of the tensor rate at the same clock is used."""
    (card,) = a_report(profiles={UUID: a_profile()}).efficiency.gpus
    assert card.basis == "gpm"
    assert card.used_text == "50% (45%–55%)"
    assert (card.headroom_low.usd, card.headroom_high.usd) == ("0.045", "0.055")
    assert "performance monitor" in card.basis_text
    assert card.profile_text == "profile 20260101-000000-aaaaaa (full, 2026-01-01)"


def test_the_least_price_of_work_is_the_price_over_the_measured_rate():
    """$3.60 an hour are a tenth of a cent a second, in which 0.8 PFLOP or 3 TB are possible."""
    (card,) = a_report(profiles={UUID: a_profile()}).efficiency.gpus
    product, memory = card.prices
    assert (product.what, product.unit, float(product.money.usd)) == ("bf16", "PFLOP", pytest.approx(0.001 / 0.8))
    assert (memory.what, memory.unit, float(memory.money.usd)) == ("memory", "TB", pytest.approx(0.001 / 3))
    assert float(product.low.usd) == pytest.approx(0.001 / 0.808)
    assert float(product.high.usd) == pytest.approx(0.001 / 0.792)


def test_what_went_through_memory_has_a_price():
    """A quarter of the triad's rate of 3 TB/s for 100 s are 75 TB, for $0.10."""
    (card,) = a_report(profiles={UUID: a_profile()}).efficiency.gpus
    assert card.moved_bytes.value == pytest.approx(75e12)
    assert float(card.per_tb.usd) == pytest.approx(0.1 / 75)
    assert card.moved_text == "about 75 TB went through its memory, at $0.00133 a TB"


def test_the_work_of_a_stage_has_a_price_and_two_utilizations():
    report = a_report(profiles={UUID: a_profile()}, attributes={"flops": 40e15, "tokens": 2_000_000, "dtype": "bf16"})
    (stage,) = report.efficiency.work
    assert stage.tflops.value == pytest.approx(400)
    assert stage.mfu_book_pct.value == pytest.approx(100 * 400 / 989)
    assert stage.mfu_measured_pct.value == pytest.approx(50)
    assert stage.mfu_measured_low_pct.value == pytest.approx(100 * 400 / 808)
    assert float(stage.per_pflop.usd) == pytest.approx(0.1 / 40)
    assert float(stage.per_million_tokens.usd) == pytest.approx(0.05)
    assert stage.tokens_per_s.value == pytest.approx(20_000)
    assert stage.joules_per_token.text == "unknown"
    assert stage.note == ""


def test_stated_work_is_held_against_the_book_without_any_profile():
    report = a_report(attributes={"flops": 40e15})
    assert report.efficiency.gpus == []
    (stage,) = report.efficiency.work
    assert stage.mfu_book_pct.value == pytest.approx(100 * 400 / 989)
    assert stage.mfu_measured_text == "unknown"
    assert stage.note == "bf16 assumed"


def test_more_work_than_is_possible_says_so():
    (stage,) = a_report(attributes={"flops": 400e15, "dtype": "bf16"}).efficiency.work
    assert "cannot all have been done" in stage.note


def test_without_a_price_money_is_unknown_and_the_rest_is_there(monkeypatch):
    monkeypatch.setattr("gpucost.prices.resolve", lambda manifest, *_: {gpu.uuid: None for gpu in manifest.gpus})
    report = a_report(profiles={UUID: a_profile()}, attributes={"flops": 40e15})
    (card,) = report.efficiency.gpus
    assert (card.headroom_low.usd, card.headroom_text, card.prices) == (None, "45%–55%", [])
    assert report.efficiency.work[0].per_pflop.usd is None
    assert report.efficiency.work[0].mfu_book_pct.value is not None


def test_without_profile_and_stated_work_there_is_no_such_section():
    report = a_report(attributes={"answer": 42})
    assert report.efficiency is None
    assert "What the cards could do" not in printed(report, "terminal")


def test_headroom_never_touches_the_ledger():
    with_it, without = a_report(profiles={UUID: a_profile()}), a_report()
    assert with_it.ledger == without.ledger
    assert with_it.total == without.total


@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_people_see_the_figures_and_what_they_rest_on(form):
    report = a_report(profiles={UUID: a_profile()}, attributes={"flops": 40e15, "tokens": 2_000_000})
    text = " ".join(printed(report, form).split())
    for piece in (
        "What the cards could do",
        "50% (45%–55%)",
        "$0.0450–$0.0550",
        "$0.00125 bf16",
        "$0.000333",
        "40 PFLOP",
        "40.4 %",
        "50.0% (49.5%–50.5%)",
        "$0.05",
        "bf16 assumed",
        "20260101-000000-aaaaaa",
    ):
        assert piece in text, piece


def test_a_profile_made_with_another_driver_says_so():
    (card,) = a_report(profiles={UUID: a_profile(driver="9.9")}).efficiency.gpus
    assert "made with driver 9.9 while the run had 1.2.3" in card.profile_text


def test_a_report_finds_the_profile_of_its_own_card(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUCOST_PROFILES", str(tmp_path))
    made = a_profile()
    store.write(store.place(tmp_path, made), made, [], [])
    report = report_of(_recording_of_one_second(), Settings(), price="3.6", environ={})
    assert report.efficiency.gpus[0].profile == made.run_id


def _recording_of_one_second():
    manifest = Manifest(
        "r",
        ["x"],
        0,
        0,
        status="complete",
        hosts={"h": Host("h", 0, 0)},
        gpus=[Gpu(UUID, H100, host="h")],
        driver={"driver": "1.2.3"},
    )
    return Recording(manifest, recording_of(Scenario()).frames, S)
