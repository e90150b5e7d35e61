"""Profiles as files: what is written is read, and what is not a profile harms nothing."""

import json

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benching.profiles import profile, result, samples
from gpucost.bench import store
from gpucost.bench.compare import compare
from gpucost.bench.model import PowerModel, Profile
from gpucost.bench.view import profile_page
from gpucost.errors import DamagedRunError, GpucostError, NewerSchemaError, RunNotFoundError, UsageError
from gpucost.schema import GpuRow


def kept(root, **fields):
    made = profile(**fields)
    store.write(store.place(root, made), made, [], [])
    return made


def test_a_profile_comes_back_as_it_was(tmp_path):
    made = profile(power_model=PowerModel(100.0, 118.0, 0.5, "bf16", 0.01, 6))
    path = store.write(tmp_path / "one", made, [], [])
    assert store.read(path) == made
    assert store.read(path / "profile.json") == made


def test_the_tables_hold_every_window_and_every_sample(tmp_path):
    rows = [(None, GpuRow(1, 2, "GPU-1111", power_w=70.0)), ("mem.triad", GpuRow(3, 4, "GPU-1111"))]
    path = store.write(tmp_path / "one", profile(), samples("mem.triad", [1.0, 2.0, 3.0]), rows)
    table = pq.read_table(path / "samples.parquet")
    assert table["rate"].to_pylist() == [1.0, 2.0, 3.0]
    assert set(table.column_names) >= {
        "run_id",
        "device_uuid",
        "test_id",
        "window_index",
        "start_mono_ns",
        "duration_ns",
        "clean",
    }
    telemetry = pq.read_table(path / "telemetry.parquet")
    assert telemetry["test_id"].to_pylist() == [None, "mem.triad"]
    assert {one.schema.metadata[b"gpucost.bench_version"] for one in (table, telemetry)} == {b"1"}
    assert telemetry["power_w"].to_pylist() == [70.0, None]


def test_the_rates_of_a_test_are_read_back_without_the_disturbed_windows(tmp_path):
    made = samples("gemm.bf16", [700.0] * 10) + samples("mem.triad", [1.0])
    dirty = [one._replace(clean=False) for one in (s.window for s in samples("gemm.bf16", [90.0] * 5))]
    made += [store.Sample("gemm.bf16", 10 + i, window, 90.0, None, None) for i, window in enumerate(dirty)]
    path = store.write(tmp_path / "one", profile(), made, [])
    assert store.samples(path, "gemm.bf16") == [700.0] * 10
    assert store.samples(tmp_path / "nowhere", "gemm.bf16") == []


def test_a_profile_is_never_overwritten(tmp_path):
    store.write(tmp_path / "one", profile(), [], [])
    with pytest.raises(UsageError, match="cannot write"):
        store.write(tmp_path / "one", profile(mode="quick"), [], [])
    assert store.read(tmp_path / "one").mode == "full"
    assert [path.name for path in tmp_path.iterdir()] == ["one"], "nothing half-written stays behind"


def test_profiles_lie_by_device_and_driver_and_no_name_leaves_the_folder(tmp_path):
    made = profile(uuid="../../etc/passwd", driver="../x")
    path = store.place(tmp_path, made)
    assert tmp_path in path.resolve().parents
    assert len(path.relative_to(tmp_path).parts) == 3


def test_the_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("GPUCOST_PROFILES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert store.folder() == tmp_path / "gpucost" / "profiles"
    monkeypatch.setenv("GPUCOST_PROFILES", str(tmp_path / "mine"))
    assert store.folder() == tmp_path / "mine"


# --- finding -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    kept(tmp_path, run_id="20260101-000000-aaaaaa")
    kept(tmp_path, run_id="20260201-000000-bbbbbb")
    kept(tmp_path, run_id="20260301-000000-cccccc", uuid="GPU-2222")
    return tmp_path


@pytest.mark.parametrize(
    ("word", "run_id"),
    [
        ("latest", "20260301-000000-cccccc"),
        ("latest~2", "20260101-000000-aaaaaa"),
        ("20260201", "20260201-000000-bbbbbb"),
        ("GPU-1111", "20260201-000000-bbbbbb"),
        ("gpu-11~1", "20260101-000000-aaaaaa"),
    ],
)
def test_words_for_a_profile(root, word, run_id):
    assert store.find(word, root).profile.run_id == run_id


@pytest.mark.parametrize("word", ["", "2026", "GPU-", "GPU-1111~9", "latest~x", "nothing"])
def test_words_that_mean_none_or_several(root, word):
    with pytest.raises(RunNotFoundError, match="answer"):
        store.find(word, root)


def test_a_path_is_a_word_too(tmp_path):
    path = store.write(tmp_path / "one", profile(), [], [])
    assert store.find(str(path)).profile == store.find(str(path / "profile.json")).profile == profile()


def test_the_profile_that_speaks_for_a_device(tmp_path):
    kept(tmp_path, run_id="20260101-000000-aaaaaa", mode="full")
    kept(tmp_path, run_id="20260201-000000-bbbbbb", mode="quick")
    kept(tmp_path, run_id="20260301-000000-cccccc", mode="quick", driver="9.9")
    kept(tmp_path, run_id="20260401-000000-dddddd", mode="full", shared=True)
    best = store.best_for("GPU-1111", "1.2.3", tmp_path)
    assert best.run_id == "20260101-000000-aaaaaa", (
        "full before quick, of the driver that runs, never of a shared device"
    )
    assert store.best_for("GPU-1111", "9.9", tmp_path).run_id == "20260301-000000-cccccc"
    assert store.best_for("GPU-9999", "1.2.3", tmp_path) is None, "one card's profile does not speak for its model"


def test_a_profile_without_a_ceiling_speaks_for_nothing(tmp_path):
    bad = result("mem.triad", "GB/s", 1.0)
    bad.ceiling = False
    kept(tmp_path, results=[bad])
    assert store.best_for("GPU-1111", "1.2.3", tmp_path) is None


# --- bad input ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "nonsense", '{"schema": "gpucost.bench/1"}', '{"schema": "other/1"}', '{"x": NaN}', "[" * 100_000],
)
def test_a_file_that_is_no_profile_is_one_clear_line(tmp_path, text):
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(DamagedRunError):
        store.read(tmp_path)


def test_a_newer_profile_says_so(tmp_path):
    (tmp_path / "profile.json").write_text(json.dumps({**profile().to_json(), "schema": "gpucost.bench/99"}))
    with pytest.raises(NewerSchemaError, match="99"):
        store.read(tmp_path)


def test_fields_of_another_version_are_ignored_and_missing_ones_have_their_default():
    data = profile().to_json()
    data["invented"] = 1
    del data["warnings"]
    assert Profile.from_json(data) == profile()


def test_a_damaged_profile_does_not_hide_the_others(root):
    bad = root / "GPU-3333" / "1" / "x"
    bad.mkdir(parents=True)
    (bad / "profile.json").write_text("{")
    found, broken = store.every(root)
    assert len(found) == 3
    assert len(broken) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(profile().to_json())), json_values)
def test_a_field_of_the_wrong_type_is_damage_and_never_a_crash(name, value):
    try:
        read = Profile.from_json({**profile().to_json(), name: value})
    except GpucostError:
        return
    assert isinstance(read.results, list)
    assert all(isinstance(one.id, str) for one in read.results)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(profile().to_json()["results"][0])), json_values)
def test_whatever_a_result_holds_it_can_be_shown_or_is_damage(name, value):
    data = profile().to_json()
    data["results"][0][name] = value
    _shown_or_damaged(data)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["m", "footprint_bytes", "sustained", "ci95", "flags", "message", "power_w"]), json_values
        ),
        max_size=3,
    )
)
def test_whatever_a_point_holds_it_can_be_shown(points):
    data = profile().to_json()
    data["results"][0]["points"] = points
    _shown_or_damaged(data)


def _shown_or_damaged(data):
    try:
        read = Profile.from_json(data)
    except GpucostError:
        return
    profile_page(read)
    compare(read, profile(), lambda _: [], lambda _: [])
