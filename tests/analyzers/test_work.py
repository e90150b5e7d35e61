"""What stages say of their work: MFU against the book and against the card, with nothing taken on trust."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpucost.analyzers import analyze
from gpucost.analyzers.work import Rates, stated_work
from gpucost.manifest import Gpu, Manifest
from gpucost.recording import Recording

UUID = "GPU-1111"
S = 1_000_000_000
RATES = {UUID: Rates({"bf16": 1000.0, "fp32": 60.0}, {"bf16": (690.0, 700.0, 710.0)})}


def a_run(spans, *, seconds=100, gpus=1):
    """A run on busy GPUs; spans are (name, start s, end s, attributes, parent or None), an end of None stays open."""
    rows = [
        {
            "stage_id": str(i),
            "name": name,
            "start_t_ns": start * S,
            "end_t_ns": None if end is None else end * S,
            "parent_id": parent,
            "attributes": attributes if isinstance(attributes, str) else json.dumps(attributes),
            "truncated": False,
        }
        for i, (name, start, end, attributes, parent) in enumerate(spans)
    ]
    stage = pd.DataFrame(rows).astype({"end_t_ns": "Int64"})
    held = [Gpu(f"GPU-{n}" * 1 if n else UUID, "x", host="h") for n in range(gpus)]
    ticks = [i * S // 10 for i in range(seconds * 10 + 1)]
    gpu = pd.concat(
        [
            pd.DataFrame(
                {
                    "gpu_uuid": one.uuid,
                    "t_ns": ticks,
                    "gpu_util_pct": 100.0,
                    "host": "h",
                    "processes": 1,
                    "run_processes": 1,
                }
            )
            for one in held
        ]
    )
    manifest = Manifest("r", [], 0, 0, gpus=held, recorder={"hz": 10.0})
    return Recording(manifest, {"gpu": gpu, "stage": stage}, seconds * S)


def work_of(recording, rates=RATES):
    return stated_work(recording, analyze(recording), rates)


def test_mfu_is_stated_flop_over_what_the_gpu_time_could_have_held():
    """35 PFLOP in 100 s are 350 TFLOP/s: 35 % of the book's 1000, half of the measured 700."""
    (one,) = work_of(a_run([("train", 0, 100, {"flops": 35e15, "dtype": "bf16"}, None)]))
    assert one.tflops == pytest.approx(350)
    assert one.mfu_book == pytest.approx(0.35)
    assert one.mfu_measured == pytest.approx((350 / 710, 0.5, 350 / 690))
    assert (one.dtype, one.dtype_assumed) == ("bf16", False)


def test_the_spans_of_a_stage_add_up_and_an_unsaid_dtype_is_assumed():
    spans = [("step", i * 10, i * 10 + 10, {"flops": 1e15, "tokens": 500}, None) for i in range(5)]
    (one,) = work_of(a_run(spans))
    assert (one.flops, one.tokens, one.spans, one.stated) == (5e15, 2500, 5, 5)
    assert (one.dtype, one.dtype_assumed) == ("bf16", True)
    assert one.mfu_book == pytest.approx(5e15 / (1000e12 * 50))


def test_a_stage_pays_for_its_sub_stages_time_and_claims_only_its_own_work():
    spans = [("train", 0, 100, {"flops": 10e15}, None), ("eval", 50, 100, {"flops": 99e15}, "0")]
    train, evaluation = work_of(a_run(spans))
    assert train.flops == 10e15
    assert train.gpu_time_ns == {UUID: 100 * S}
    assert evaluation.gpu_time_ns == {UUID: 50 * S}


def test_gpus_that_are_held_count_whether_they_help_or_not():
    rates = {UUID: RATES[UUID], "GPU-1": RATES[UUID]}
    (one,) = work_of(a_run([("train", 0, 100, {"flops": 35e15}, None)], gpus=2), rates)
    assert one.mfu_book == pytest.approx(0.175)


def test_a_card_whose_peak_is_not_known_leaves_the_share_unknown():
    (one,) = work_of(a_run([("train", 0, 100, {"flops": 35e15}, None)], gpus=2))
    assert (one.mfu_book, one.mfu_measured) == (None, None)
    assert one.tflops == pytest.approx(175)


def test_a_dtype_that_the_profile_lacks_has_the_book_alone():
    (one,) = work_of(a_run([("train", 0, 100, {"flops": 3e15, "dtype": "float32"}, None)]))
    assert one.dtype == "fp32"
    assert one.mfu_book == pytest.approx(0.5)
    assert one.mfu_measured is None


def test_a_span_that_was_cut_off_states_what_it_meant_to_do_and_is_left_out():
    spans = [("train", 0, 50, {"flops": 1e15}, None), ("train", 50, None, {"flops": 9e15}, None)]
    (one,) = work_of(a_run(spans))
    assert (one.flops, one.spans) == (1e15, 1)


def test_spans_that_state_nothing_are_counted_as_such():
    (one,) = work_of(a_run([("train", 0, 50, {"flops": 1e15}, None), ("train", 50, 100, {}, None)]))
    assert (one.spans, one.stated) == (2, 1)


def test_tokens_alone_are_work_too():
    (one,) = work_of(a_run([("generate", 0, 100, {"tokens": 5000}, None)]))
    assert (one.tokens, one.flops, one.mfu_book) == (5000, None, None)


def test_a_run_that_states_nothing_has_no_work():
    assert work_of(a_run([("plan", 0, 10, {"answer": 42}, None)])) == []


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True),
    st.text(max_size=4),
    st.lists(st.integers(), max_size=2),
)


@given(
    st.one_of(
        st.text(max_size=20), st.dictionaries(st.sampled_from(["flops", "tokens", "dtype"]), values).map(json.dumps)
    )
)
def test_whatever_an_attribute_holds_it_is_a_positive_amount_or_nothing(attributes):
    found = work_of(a_run([("x", 0, 1, attributes, None)], seconds=1))
    assert all((one.flops or 1) > 0 and (one.tokens or 1) > 0 and one.dtype for one in found)
