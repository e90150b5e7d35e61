"""`run.json` is whole or it is not there, and what is not a manifest is refused in a line."""

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucost.errors import DamagedRunError, NewerSchemaError
from gpucost.manifest import Gpu, Host, Manifest
from gpucost.store.manifest_io import read_manifest, remove_stale, write_manifest
from store.making import TIME_NS, names_in

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
INTS = st.integers(min_value=0, max_value=2**60)
MANIFESTS = st.builds(
    Manifest,
    run_id=TEXT,
    command=st.lists(TEXT, max_size=3),
    start_time_ns=INTS,
    start_mono_ns=INTS,
    name=st.none() | TEXT,
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    end_time_ns=st.none() | INTS,
    exit_code=st.none() | st.integers(0, 255),
    hosts=st.dictionaries(TEXT, st.builds(Host, TEXT, INTS, INTS, cpu_count=st.none() | INTS), max_size=2),
    gpus=st.lists(st.builds(Gpu, TEXT, TEXT, power_limit_w=st.none() | st.floats(0, 1e6)), max_size=2),
    recorder=st.dictionaries(TEXT, st.none() | TEXT | INTS | st.booleans(), max_size=3),
)


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        "r", ["python", "train.py"], TIME_NS, 5, hosts={"a": Host("a", TIME_NS, 5)}, gpus=[Gpu("GPU-0", "H100")]
    )


@given(MANIFESTS)
@settings(deadline=None)
def test_what_was_written_is_what_is_read(tmp_path_factory, written):
    folder = str(tmp_path_factory.getbasetemp())
    write_manifest(folder, written)
    assert read_manifest(folder) == written


def test_the_manifest_is_for_its_owner_only_and_leaves_nothing_beside_it(tmp_path, manifest):
    write_manifest(str(tmp_path), manifest)
    write_manifest(str(tmp_path), manifest)
    assert names_in(tmp_path) == ["run.json"]
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600


def test_what_json_lacks_is_unknown_and_never_makes_a_file_that_cannot_be_read(tmp_path, manifest):
    manifest.gpus[0].power_limit_w = float("nan")
    manifest.recorder = {"limits": (float("inf"), 1), "path": os.fsdecode(b"\xff"), 3: object()}
    write_manifest(str(tmp_path), manifest)
    found = read_manifest(str(tmp_path))
    assert found.gpus[0].power_limit_w is None
    assert found.recorder["limits"] == [None, 1]
    found.recorder["path"].encode()


def test_a_full_disk_leaves_the_old_manifest_and_no_other_file(small_disk, manifest):
    write_manifest(str(small_disk), manifest)
    before = (small_disk / "run.json").read_bytes()
    manifest.command = ["x" * 2_000_000]
    with pytest.raises(OSError, match="No space left"):
        write_manifest(str(small_disk), manifest)
    assert (small_disk / "run.json").read_bytes() == before
    assert names_in(small_disk) == ["run.json"]


def test_a_directory_that_is_gone_is_an_oserror(tmp_path, manifest):
    with pytest.raises(OSError, match="No such file"):
        write_manifest(str(tmp_path / "gone"), manifest)


def test_what_a_killed_writer_left_is_removed(tmp_path, manifest):
    write_manifest(str(tmp_path), manifest)
    (tmp_path / ".run.json.123-abcd").write_text("{")
    remove_stale(str(tmp_path))
    assert names_in(tmp_path) == ["run.json"]


def test_a_run_without_a_manifest_says_so(tmp_path):
    with pytest.raises(DamagedRunError, match=r"has no run\.json"):
        read_manifest(str(tmp_path))


def test_a_manifest_cut_at_any_byte_is_damaged_and_never_another_manifest(tmp_path, manifest):
    write_manifest(str(tmp_path), manifest)
    path = tmp_path / "run.json"
    data = path.read_bytes().rstrip()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        with pytest.raises(DamagedRunError):
            read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": "1"},
        {"schema_version": None},
        {"start_time_ns": "soon"},
        {"start_time_ns": None},
        {"start_time_ns": True},
        {"start_time_ns": 1.5},
        {"start_time_ns": -1},
        {"start_mono_ns": 2**63},
        {"end_time_ns": 2**62},
        {"command": "python"},
        {"command": [1]},
        {"labels": {"a": 1}},
        {"labels": []},
        {"hosts": {"a": {"name": "a", "start_time_ns": None, "start_mono_ns": 0}}},
        {"hosts": {"a": {"name": "a", "start_time_ns": 2**62, "start_mono_ns": 0}}},
        {"hosts": {"a": 5}},
        {"hosts": [1]},
        {"gpus": [{"uuid": 1, "name": "x"}]},
        {"gpus": {"uuid": "x"}},
        {"gpus": 5},
        {"recorder": None},
        {"run_id": 5},
    ],
)
def test_a_field_of_the_wrong_shape_is_damage(tmp_path, manifest, change):
    (tmp_path / "run.json").write_text(json.dumps({**manifest.to_json(), **change}))
    with pytest.raises(DamagedRunError):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b"{}", b'"run"', bytes(100), b"1" * 5000]
)
def test_a_foreign_run_json_is_damage(tmp_path: Path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(DamagedRunError):
        read_manifest(str(tmp_path))


def test_a_newer_manifest_asks_for_an_upgrade_and_unknown_fields_are_ignored(tmp_path, manifest):
    (tmp_path / "run.json").write_text(json.dumps({**manifest.to_json(), "moon": "full"}))
    assert read_manifest(str(tmp_path)) == manifest
    (tmp_path / "run.json").write_text(json.dumps({**manifest.to_json(), "schema_version": 99}))
    with pytest.raises(NewerSchemaError):
        read_manifest(str(tmp_path))
