"""The journal's writer, and the reader of what it wrote."""

import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucost.errors import DamagedRunError, NewerSchemaError
from gpucost.schema import SCHEMA_VERSION, TABLES, EventRow, GpuRow
from gpucost.store import journal as journal_module
from gpucost.store.journal import MAX_LINE_BYTES, JournalWriter
from gpucost.store.segment import read_segment
from store.making import MONO_NS, TIME_NS, Clock, gpu, mutate, names_in
from store.strategies import rows_of

LIMITED = """
import resource, signal, sys
from gpucost.clock import SystemClock
from gpucost.store.journal import JournalWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
writer = JournalWriter(sys.argv[1], "w", SystemClock())
for number in range(100):
    writer.append("event", [(number, number, "k", "s", None, "x" * 50)])
    writer.flush()
print(writer.rows_dropped, writer.last_error, sep="\\n")
writer.close()
"""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(tmp_path, clock) -> JournalWriter:
    return JournalWriter(str(tmp_path), "w", clock)


def segment(folder, table="gpu", seq=1):
    return folder / f"{table}.w.{seq}.jsonl"


def rows_in(folder, table="gpu"):
    paths = sorted(folder.glob(f"{table}.w.*.jsonl"), key=lambda path: int(path.name.split(".")[2]))
    return [row for path in paths for row in read_segment(str(path))[1]]


def event(number: int, size: int = 0) -> EventRow:
    return EventRow(TIME_NS + number, MONO_NS + number, "k", "s", None, "x" * size)


# --- writing -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TABLES))
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_what_was_appended_is_what_is_read(tmp_path_factory, name, data):
    rows = data.draw(st.lists(rows_of(name), max_size=20))
    folder = tmp_path_factory.mktemp("journal")
    writer = JournalWriter(str(folder), "w", Clock())
    writer.append(name, rows)
    writer.close()
    assert rows_in(folder, name) == [tuple(row) for row in rows]
    assert writer.rows_dropped == 0


def test_nothing_is_on_disk_before_there_is_a_row(tmp_path, writer):
    writer.flush()
    writer.sync()
    assert writer.rotate() == []
    assert names_in(tmp_path) == []


def test_what_was_flushed_is_in_the_file_while_the_writer_lives(tmp_path, writer):
    writer.append("gpu", [gpu(0)])
    assert rows_in(tmp_path) == []
    assert writer.flush()
    assert rows_in(tmp_path) == [gpu(0)]


def test_a_segment_begins_with_a_header_that_says_what_its_columns_are(tmp_path, writer):
    writer.append("gpu", [gpu(0)])
    writer.close()
    assert json.loads(segment(tmp_path).read_text().splitlines()[0]) == {
        "gpucost_journal": 1,
        "table": "gpu",
        "schema_version": SCHEMA_VERSION,
        "columns": list(GpuRow._fields),
        "writer": "w",
        "seq": 1,
    }


def test_what_is_not_a_number_is_unknown(tmp_path, writer):
    writer.append("gpu", [gpu(0, power_w=float("nan"), energy_j=float("inf"), gpu_util_pct=float("-inf"))])
    writer.close()
    assert rows_in(tmp_path) == [gpu(0)]


def test_numbers_of_other_libraries_are_numbers(tmp_path, writer):
    writer.append("gpu", [gpu(0, power_w=np.float32(1.5), memory_used_bytes=np.int64(7), energy_j=np.float32("nan"))])
    writer.close()
    assert rows_in(tmp_path) == [gpu(0, power_w=1.5, memory_used_bytes=7)]


def test_a_row_that_is_none_is_counted_and_harms_no_other(tmp_path, writer):
    loop: list[object] = []
    loop.append(loop)
    bad = [
        (1, 2),
        None,
        5,
        gpu(0, power_w=object()),
        gpu(0, power_w=loop),
        gpu(0, uuid="x" * MAX_LINE_BYTES),
        gpu(0, power_w=b"1"),
    ]
    writer.append("gpu", [gpu(0), *bad, gpu(1)])
    writer.append("no_such_table", [gpu(0)])
    writer.close()
    assert rows_in(tmp_path) == [gpu(0), gpu(1)]
    assert writer.rows_dropped == len(bad) + 1


def test_rotation_closes_every_segment_and_the_next_row_opens_the_next(tmp_path, writer):
    writer.append("gpu", [gpu(0)])
    writer.append("event", [event(0)])
    assert sorted(writer.rotate()) == [str(segment(tmp_path, "event")), str(segment(tmp_path))]
    assert writer.rotate() == []
    writer.append("gpu", [gpu(1)])
    assert writer.close() == [str(segment(tmp_path, seq=2))]
    assert rows_in(tmp_path) == [gpu(0), gpu(1)]


def test_rotation_is_due_by_age_and_by_size(tmp_path, clock):
    writer = JournalWriter(str(tmp_path), "w", clock, max_bytes=2000, max_age_ns=1000)
    clock.now_ns += 5000
    assert not writer.due()
    writer.append("gpu", [gpu(0)])
    writer.flush()
    clock.now_ns += 999
    assert not writer.due()
    clock.now_ns += 1
    assert writer.due()
    writer.rotate()
    assert not writer.due()
    writer.append("gpu", [gpu(0)] * 100)
    writer.flush()
    assert writer.due()


def test_a_file_that_somebody_put_there_is_not_touched(tmp_path, writer):
    segment(tmp_path).write_text("mine")
    writer.append("gpu", [gpu(0)])
    writer.flush()
    writer.close()
    assert segment(tmp_path).read_text() == "mine"
    assert read_segment(str(segment(tmp_path, seq=2)))[1] == [gpu(0)]


# --- disks that fail ---------------------------------------------------------------------------------------------------------------


def test_a_full_disk_loses_no_row_once_there_is_room_again(small_disk):
    fill = small_disk / "fill"
    with fill.open("wb") as file:
        file.write(bytes((1 << 20) - (16 << 10)))
    writer = JournalWriter(str(small_disk), "w", Clock())
    rows = [event(number, 300) for number in range(200)]  # some 70 kB, into 16
    flushed = []
    for start in range(0, 200, 10):
        writer.append("event", rows[start : start + 10])
        flushed.append(writer.flush())
    assert flushed[0]
    assert not flushed[-1]
    assert writer.last_error == "No space left on device"
    on_disk = rows_in(small_disk, "event")
    assert 0 < len(on_disk) < 200
    assert on_disk == rows[: len(on_disk)]
    fill.unlink()
    assert writer.flush()
    assert writer.last_error is None
    assert rows_in(small_disk, "event") == rows
    assert writer.rows_dropped == 0


def test_a_disk_that_stays_full_costs_the_oldest_rows_and_no_more_memory(small_disk, monkeypatch):
    monkeypatch.setattr(journal_module, "MAX_BUFFER_BYTES", 100_000)
    monkeypatch.setattr(journal_module, "_CHUNK_BYTES", 1000)
    fill = small_disk / "fill"
    with fill.open("wb") as file:
        file.write(bytes(1 << 20))
    writer = JournalWriter(str(small_disk), "w", Clock())
    rows = [event(number, 100) for number in range(3000)]
    for row in rows:
        writer.append("event", [row])
    fill.unlink()
    writer.close()
    found = rows_in(small_disk, "event")
    assert 500 < len(found) < 1000
    assert found == rows[-len(found) :]
    assert writer.rows_dropped == 3000 - len(found)


def test_rows_that_waited_too_long_are_let_go(small_disk, clock):
    fill = small_disk / "fill"
    with fill.open("wb") as file:
        file.write(bytes(1 << 20))
    writer = JournalWriter(str(small_disk), "w", clock)
    writer.append("event", [event(0), event(1)])
    writer.flush()
    clock.now_ns += journal_module.MAX_BUFFER_NS + 1
    writer.flush()
    assert writer.rows_dropped == 2


def test_a_line_torn_by_a_full_disk_corrupts_no_other_where_it_cannot_be_cut_off(small_disk, monkeypatch):
    def no_truncate(*_):
        raise OSError(5, "no")

    monkeypatch.setattr(os, "ftruncate", no_truncate)
    fill = small_disk / "fill"
    with fill.open("wb") as file:
        file.write(bytes((1 << 20) - (12 << 10)))
    writer = JournalWriter(str(small_disk), "w", Clock())
    rows = [event(number, 300) for number in range(100)]
    writer.append("event", rows)
    assert not writer.flush()
    assert not segment(small_disk, "event").read_bytes().endswith(b"\n")
    fill.unlink()
    assert writer.flush()
    _, found, problems = read_segment(str(segment(small_disk, "event")))
    assert found == rows
    assert [(problem.code, problem.count) for problem in problems] == [("torn_line", 1)]


@pytest.mark.parametrize("limit", [0, 100, 1000, 3000])
def test_a_limit_on_file_size_opens_further_segments_and_loses_nothing_that_fits(tmp_path, limit):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), tmp_path, str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    dropped, error = done.stdout.splitlines()
    found = [row[0] for row in rows_in(tmp_path, "event")]
    if limit < 300:  # less than a header
        assert error == "File too large"
        assert found == []
        assert len(names_in(tmp_path)) <= 1
    else:
        assert found == list(range(len(found)))
        assert len(found) >= 99
    assert dropped == "0"


def test_a_removed_directory_raises_nothing_and_writing_goes_on_when_it_is_back(tmp_path, clock):
    folder = tmp_path / "journal"
    folder.mkdir()
    writer = JournalWriter(str(folder), "w", clock)
    writer.append("gpu", [gpu(0)])
    assert writer.sync()
    segment(folder).unlink()
    folder.rmdir()
    writer.append("gpu", [gpu(1)])
    assert not writer.flush()
    writer.append("gpu", [gpu(2)])
    assert not writer.sync()
    assert writer.last_error == "No such file or directory"
    folder.mkdir()
    assert writer.sync()
    assert rows_in(folder) == [gpu(1), gpu(2)]


# --- reading ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path, writer):
    """A segment of five rows: its path and its bytes."""
    writer.append("gpu", [gpu(number, power_w=number * 1.5) for number in range(5)])
    (path,) = writer.close()
    return Path(path), Path(path).read_bytes()


def test_a_segment_cut_at_any_byte_gives_every_whole_line_before_the_cut(tmp_path, written):
    path, data = written
    everything = read_segment(str(path))[1]
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        _, rows, problems = read_segment(str(path))
        # A row that lacks nothing but its line's end is whole.
        whole = sum(1 for end in _row_ends(data) if end - 1 <= cut)
        assert rows == everything[:whole]
        assert problems == []


def _row_ends(data: bytes) -> list[int]:
    ends = [place + 1 for place, byte in enumerate(data) if byte == 10]
    return ends[1:]


def test_a_block_of_zeros_costs_only_what_it_covers(written):
    path, data = written
    lines = data.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + bytes(4096) + b"".join(lines[3:]) + bytes(1000))
    _, rows, problems = read_segment(str(path))
    assert [row[0] for row in rows] == [gpu(number).time_ns for number in range(5)]
    assert [problem.code for problem in problems] == ["torn_line"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'[1,2,"GPU-0"]', "wrong_row"),
        (b"[]", "wrong_row"),
        (b"5", "wrong_row"),
        (b'"x"', "wrong_row"),
        (b'{"a":1}', "wrong_row"),
        (b"[1,2", "torn_line"),
        (b"\xff\xfe", "torn_line"),
        (b"[" * 100_000, "torn_line"),
        (b"9" * 5000, "torn_line"),
        (b"x" * (MAX_LINE_BYTES + 5), "long_line"),
        (b"x" * (MAX_LINE_BYTES * 3), "long_line"),
    ],
)
def test_a_line_that_is_no_row_is_passed_over_and_counted(written, line, code):
    path, data = written
    lines = data.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + line + b"\n" + b"".join(lines[3:]))
    _, rows, problems = read_segment(str(path))
    assert len(rows) == 5
    assert [(problem.code, problem.count) for problem in problems] == [(code, 1)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("time_ns", None),
        ("time_ns", "1"),
        ("time_ns", 1.5),
        ("time_ns", True),
        ("time_ns", -1),
        ("mono_ns", 2**63),
        ("gpu_uuid", 5),
        ("gpu_uuid", None),
        ("gpu_uuid", ["a"]),
        ("power_w", "70"),
        ("power_w", True),
        ("power_w", 1e300),
        pytest.param("power_w", 10**400, id="power_w-huge"),
        ("energy_j", {}),
        ("memory_used_bytes", 2**63),
        ("memory_used_bytes", 1.0),
        ("temperature_c", 40_000),
        ("sm_clock_mhz", -(2**40)),
    ],
)
def test_a_value_of_the_wrong_kind_or_range_takes_its_row_out(written, column, value):
    path, data = written
    row = list(gpu(9)._replace(**{column: value}))
    path.write_bytes(data + json.dumps(row).encode() + b"\n")
    _, rows, problems = read_segment(str(path))
    assert len(rows) == 5
    assert [problem.code for problem in problems] == ["wrong_row"]


def test_text_that_no_file_can_hold_is_mended(written):
    path, data = written
    path.write_bytes(data + json.dumps(gpu(9, uuid="GPU-\udcff")).encode() + b"\n")
    _, rows, _ = read_segment(str(path))
    rows[-1][2].encode()
    assert rows[-1][2].startswith("GPU-")


def _written_by_hand(folder: Path, rows: list[list[object]], **header: object) -> str:
    """A segment with a header of our own making."""
    first = {
        "gpucost_journal": 1,
        "table": "gpu",
        "schema_version": 1,
        "columns": GpuRow._fields,
        "writer": "w",
        "seq": 1,
    }
    path = folder / "by-hand"
    path.write_text("".join(json.dumps(line) + "\n" for line in ({**first, **header}, *rows)))
    return str(path)


def test_columns_come_in_any_order_and_those_that_lack_are_unknown(tmp_path):
    path = _written_by_hand(tmp_path, [[7, "GPU-0", 2, 1]], columns=["power_w", "gpu_uuid", "mono_ns", "time_ns"])
    assert read_segment(str(path))[1] == [GpuRow(1, 2, "GPU-0", power_w=7.0)]


def test_a_column_of_a_newer_version_is_passed_over_and_named(tmp_path):
    path = _written_by_hand(tmp_path, [[*gpu(0), 1]], columns=[*GpuRow._fields, "moon\x1b"])
    _, rows, problems = read_segment(str(path))
    assert rows == [gpu(0)]
    assert [problem.code for problem in problems] == ["newer_columns"]
    assert problems[0].message.isprintable()


@pytest.mark.parametrize(
    "header",
    [
        {"columns": ["time_ns", "mono_ns"]},
        {"columns": "time_ns"},
        {"columns": [1]},
        {"columns": ["time_ns", "time_ns", "mono_ns", "gpu_uuid"]},
        {"table": "moon"},
        {"table": ["gpu"]},
        {"writer": 5},
        {"seq": "1"},
        {"schema_version": "1"},
        {"gpucost_journal": "1"},
    ],
)
def test_a_damaged_header_is_damage(tmp_path, header):
    with pytest.raises(DamagedRunError):
        read_segment(_written_by_hand(tmp_path, [], **header))


@pytest.mark.parametrize("header", [{"schema_version": SCHEMA_VERSION + 1}, {"gpucost_journal": 2}])
def test_a_newer_journal_asks_for_an_upgrade(tmp_path, header):
    with pytest.raises(NewerSchemaError):
        read_segment(_written_by_hand(tmp_path, [], **header))


@pytest.mark.parametrize(
    "content", [b"PAR1" + bytes(range(256)) * 4, b"hello\nworld\n", b"[1,2]\n", b"\x7fELF", b"a" * 10**6]
)
def test_a_foreign_file_is_damage(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(DamagedRunError, match="not a journal"):
        read_segment(str(path))


@pytest.mark.parametrize("content", [b"", b"\n\n", bytes(5000), b'{"gpuco', b'{"gpucost_journal":1,"ta'])
def test_a_segment_that_died_with_its_first_write_is_empty(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    header, rows, _ = read_segment(str(path))
    assert (header, rows) == (None, [])


def test_whatever_happens_to_a_segment_reading_it_ends_in_rows_or_in_a_clear_error(written):
    path, data = written
    chance = random.Random(7)
    known = set(read_segment(str(path))[1])
    for _ in range(1500):
        path.write_bytes(mutate(mutate(data, chance), chance))
        try:
            _, rows, _ = read_segment(str(path))
        except (DamagedRunError, NewerSchemaError):
            continue
        for row in set(rows) - known:
            assert [type(value) for value in row[:3]] == [int, int, str]
