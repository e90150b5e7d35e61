"""Stage marks become spans, in whatever order and shape they come."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucost.marks import MAX_LINE_BYTES, MAX_NAME_LENGTH, MAX_PENDING_ENDS, LineBuffer, MarkReader

NOW = (1_000_000_000_000, 5_000_000)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


LINES = (
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {"event": st.sampled_from(["start", "end"]), "id": st.sampled_from(["a", "b"])},
        optional=dict.fromkeys(("name", "time_ns", "mono_ns", "pid", "parent", "attributes", "source"), JSON),
    ).map(lambda mark: json.dumps(mark).encode())
)


def line(**mark: object) -> bytes:
    return json.dumps(mark).encode() + b"\n"


def start(stage_id: str = "a", **mark: object) -> bytes:
    return line(event="start", id=stage_id, **{"name": "plan", **mark})


def end(stage_id: str = "a", **mark: object) -> bytes:
    return line(event="end", id=stage_id, **mark)


def fold(*lines: bytes, now=NOW):
    reader = MarkReader()
    return reader, [row for one in lines if (row := reader.feed(one, *now)) is not None]


def codes(reader: MarkReader) -> dict[str, int]:
    return {problem.code: problem.count for problem in reader.problems}


def test_a_start_and_its_end_are_a_span_with_everything_they_said():
    reader, (row,) = fold(
        start(
            "7f3a",
            parent="root",
            pid=123,
            time_ns=100,
            mono_ns=10,
            attributes={"tokens": 12, "model": "x"},
            source="python",
        ),
        end("7f3a", time_ns=300, mono_ns=210, attributes={"answer": "ok", "model": "y"}),
    )
    assert (row.stage_id, row.name, row.parent_id, row.pid, row.source) == ("7f3a", "plan", "root", 123, "python")
    assert (row.start_time_ns, row.end_time_ns, row.start_mono_ns, row.end_mono_ns) == (100, 300, 10, 210)
    assert json.loads(row.attributes) == {"tokens": 12, "model": "y", "answer": "ok"}
    assert not row.truncated
    assert reader.open_spans() == []
    assert reader.problems == []


def test_an_end_may_come_before_its_start():
    reader, (row,) = fold(end(mono_ns=210, time_ns=300), start(mono_ns=10, time_ns=100))
    assert (row.start_mono_ns, row.end_mono_ns) == (10, 210)
    assert reader.problems == []


def test_without_a_time_a_mark_is_of_when_it_was_read():
    reader = MarkReader()
    reader.feed(start(), 1000, 10)
    assert reader.untimed == {"a"}
    row = reader.feed(end(), 1500, 510)
    assert (row.start_time_ns, row.start_mono_ns, row.end_time_ns, row.end_mono_ns) == (1000, 10, 1500, 510)
    assert reader.untimed == set()


def test_one_clock_is_translated_into_the_other():
    _, (row,) = fold(start(time_ns=NOW[0] - 40), end(mono_ns=NOW[1] - 30))
    assert row.start_mono_ns == NOW[1] - 40
    assert row.end_time_ns == NOW[0] - 30


def test_a_time_written_as_a_float_is_a_time():
    _, (row,) = fold(
        b'{"event":"start","id":"a","name":"n","mono_ns":1.5e3,"time_ns":1e6}', end(mono_ns=2000, time_ns=2)
    )
    assert (row.start_mono_ns, row.start_time_ns) == (1500, 1_000_000)


@pytest.mark.parametrize("wrong", ["now", -1, True, 2**70, [1], 1e400])
def test_a_time_that_is_none_is_counted_and_the_stage_is_kept(wrong):
    reader, (row,) = fold(start(time_ns=wrong), end())
    assert row.start_time_ns == NOW[0]
    assert codes(reader) in ({"bad_mark": 1}, {})  # JSON has no 1e400: it is unknown
    assert bool(codes(reader)) == (wrong != 1e400)


def test_a_span_that_ends_before_it_starts_has_no_length():
    reader, (row,) = fold(start(mono_ns=100, time_ns=100), end(mono_ns=50, time_ns=50))
    assert (row.start_mono_ns, row.end_mono_ns, row.end_time_ns) == (100, 100, 100)
    assert codes(reader) == {"backward_span": 1}


def test_a_stage_that_is_open_cannot_be_started_again():
    reader, (row,) = fold(start(mono_ns=1), start(mono_ns=2, name="other"), end(mono_ns=3))
    assert (row.name, row.start_mono_ns) == ("plan", 1)
    assert codes(reader) == {"duplicate_start": 1}


def test_an_id_may_be_used_again_when_its_span_is_over():
    reader, rows = fold(
        start(),
        start("child", parent="a"),
        end("child"),
        end(),
        start(),
        start("child", parent="a"),
        end("child"),
        end(),
    )
    assert [(row.stage_id, row.parent_id) for row in rows] == [
        ("child", "a"),
        ("a", None),
        ("child#2", "a#2"),
        ("a#2", None),
    ]
    assert reader.problems == []


def test_ids_that_look_like_a_second_use_stay_apart():
    _, rows = fold(start("a#2"), end("a#2"), start("a"), end("a"), start("a"), end("a"))
    assert len({row.stage_id for row in rows}) == 3


def test_ends_without_a_stage_are_counted_and_bounded():
    reader, rows = fold(end("x"), end("x"), start("y"), end("y"), end("y"))
    assert len(rows) == 1
    assert codes(reader) == {"unmatched_end": 3}
    reader, _ = fold(*(end(str(number)) for number in range(MAX_PENDING_ENDS + 5)))
    assert codes(reader) == {"unmatched_end": MAX_PENDING_ENDS + 5}


@pytest.mark.parametrize(
    ("mark", "code"),
    [
        (b"not json", "bad_mark"),
        (b"\xff\xfe\xfd", "bad_mark"),
        (b"[1]", "bad_mark"),
        (b"[" * 4000, "bad_mark"),
        (b"null", "bad_mark"),
        (line(event="start", name="n"), "bad_mark"),
        (line(event="start", name="n", id=5), "bad_mark"),
        (line(event="start", name="n", id=""), "bad_mark"),
        (line(event="start", name="n", id="x" * 200), "bad_mark"),
        (line(event="pause", id="a"), "unknown_event"),
        (line(event=["start"], id="a"), "unknown_event"),
        (line(id="a"), "unknown_event"),
        (line(event="start", id="a"), "nameless_stage"),
        (line(event="start", id="a", name=5), "nameless_stage"),
        (line(event="start", id="a", name="  "), "nameless_stage"),
        (start(text="x" * MAX_LINE_BYTES), "long_mark"),
    ],
)
def test_a_line_that_is_no_mark_is_counted_and_nothing_else(mark, code):
    reader, rows = fold(mark)
    assert rows == []
    assert reader.open_spans() == []
    assert codes(reader) == {code: 1}


@pytest.mark.parametrize(
    "field",
    [
        {"parent": 5},
        {"pid": "7"},
        {"pid": -1},
        {"pid": 2**40},
        {"source": []},
        {"attributes": "x"},
        {"attributes": [1]},
    ],
)
def test_a_detail_of_the_wrong_kind_costs_only_itself(field):
    reader, (row,) = fold(start(**field), end())
    assert (row.parent_id, row.pid, row.source, row.attributes) == (None, None, "file", None)
    assert codes(reader) == {"bad_mark": 1}


def test_blank_lines_and_zeros_around_a_mark_are_nothing():
    reader, rows = fold(b"", b"\n", b"  \r\n", bytes(100), bytes(10) + start(), end())
    assert len(rows) == 1
    assert reader.problems == []


def test_names_and_attributes_are_cut_to_size():
    reader, (row,) = fold(start(name="n" * 300), end(attributes={str(number): "v" * 10 for number in range(150)}))
    assert len(row.name) == MAX_NAME_LENGTH
    assert len(json.loads(row.attributes)) == 64
    assert codes(reader) == {"capped_stage": 2}


def test_text_that_no_terminal_can_show_is_mended():
    _, (row,) = fold(b'{"event":"start","id":"a\\ud800","name":"x\\udcff"}', b'{"event":"end","id":"a\\ud800"}')
    (row.stage_id + row.name).encode()


def test_a_stage_can_be_ended_from_outside_and_says_so():
    reader, _ = fold(start(mono_ns=100, time_ns=100))
    row = reader.truncate("a", 50, 70)
    assert (row.truncated, row.end_mono_ns, row.end_time_ns) == (True, 100, 100)
    assert reader.truncate("a", 1, 1) is None
    assert reader.feed(end(), *NOW) is None
    assert codes(reader) == {"unmatched_end": 1}


@given(st.lists(LINES))
@settings(deadline=None)
def test_no_line_makes_it_fail_and_every_span_is_sound(lines):
    reader, rows = fold(*lines)
    spans = [span.ended(2**62, 2**62) for span in reader.open_spans()]
    assert len({row.stage_id for row in rows + spans}) == len(rows + spans)
    for row in rows + spans:
        assert 0 <= row.start_mono_ns <= row.end_mono_ns <= 2**62
        assert row.name.strip()
        row.name.encode()
        assert row.attributes is None or isinstance(json.loads(row.attributes), dict)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 50), st.integers(0, 50)), max_size=10),
    st.randoms(),
)
@settings(deadline=None)
def test_spans_do_not_depend_on_the_order_of_lines(spans, chance):
    """As long as each id is used once."""
    marks = []
    for number, (name, at, length) in enumerate(spans):
        marks += [
            start(f"{name}{number}", mono_ns=at, time_ns=at),
            end(f"{name}{number}", mono_ns=at + length, time_ns=at + length),
        ]
    _, expected = fold(*marks)
    chance.shuffle(marks)
    reader, found = fold(*marks)
    assert sorted(found) == sorted(expected)
    assert reader.problems == []


@given(st.lists(st.binary(max_size=30).filter(lambda piece: b"\n" not in piece)), st.randoms())
@settings(deadline=None)
def test_lines_are_the_same_however_their_bytes_arrive(lines, chance):
    data = b"".join(one + b"\n" for one in lines) + b"rest"
    buffer, found = LineBuffer(), []
    while data:
        size = chance.randint(1, 20)
        found += buffer.push(data[:size])
        data = data[size:]
    assert found == lines
    assert buffer.rest() == b"rest"


@pytest.mark.parametrize("size", [100, 5000, 100_000])
def test_a_line_without_an_end_is_not_kept_whole_and_shows_once(size):
    buffer = LineBuffer()
    lines = []
    for _ in range(3 * MAX_LINE_BYTES // size + 50):
        lines += buffer.push(b"x" * size)
        assert len(buffer.rest()) <= MAX_LINE_BYTES
    lines += buffer.push(b"\n" + start())
    reader, _ = fold(*lines)
    assert codes(reader) == {"long_mark": 1}
    assert len(reader.open_spans()) == 1
