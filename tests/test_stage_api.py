"""`gpucost.stage`, in real programs: each test runs one and reads the marks it left."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpucost
from gpucost import _stage
from stage_programs import ok, run_program


@pytest.fixture
def run(tmp_path):
    """Runs a program (see `run_program`) in a folder of the test's own."""
    return partial(run_program, tmp_path)


# --- blocks ------------------------------------------------------------------------------------------------------------------------


def test_a_block_is_a_span_with_its_attributes_and_what_is_set_in_it(run):
    marks = ok(run('with stage("plan", tokens=12) as s: s.set(answer="ok"); s.set(tokens=13)'))
    (span,) = marks.spans
    assert (span.name, span.source, span.parent_id, span.truncated) == ("plan", "python", None, False)
    assert json.loads(span.attributes) == {"tokens": 13, "answer": "ok"}
    assert 0 < span.end_mono_ns - span.start_mono_ns < 60 * 10**9
    assert marks.lines[0].endswith(b"\n")


def test_a_mark_is_written_when_it_happens_and_not_at_the_end(run):
    marks = ok(run('s = stage("plan"); s.__enter__(); os._exit(0)'))
    assert [span.name for span in marks.open] == ["plan"]


def test_blocks_nest(run):
    marks = ok(
        run("""
        with stage("a"):
            with stage("b"):
                with stage("c"): pass
            with stage("d"): pass
        with stage("e"): pass
    """)
    )
    assert marks.tree() == [("a", None), ("b", "a"), ("c", "b"), ("d", "a"), ("e", None)]


def test_an_exception_passes_through_and_is_named(run):
    marks = ok(
        run("""
        try:
            with stage("bad"):
                raise KeyError("secret")
        except KeyError as error:
            assert error.args == ("secret",)
        with stage("after"): pass
    """)
    )
    assert marks.attributes("bad") == {"error": "KeyError"}
    assert marks.tree() == [("bad", None), ("after", None)]
    assert not any(b"secret" in line for line in marks.lines)


@pytest.mark.parametrize(("code", "expected"), [("0", {}), ("3", {"error": "SystemExit"})])
def test_leaving_the_program_with_success_is_no_error(run, code, expected):
    marks = run(f'with stage("s"): sys.exit({code})')
    assert marks.code == int(code)
    assert marks.attributes("s") == expected


def test_one_object_can_be_used_again_and_within_itself(run):
    marks = ok(
        run("""
        s = stage("s")
        with s:
            with s:
                s.set(depth=2)
            s.set(depth=1)
        with s: pass
    """)
    )
    assert marks.tree() == [("s", None), ("s", "s"), ("s", None)]
    assert [json.loads(span.attributes or "{}") for span in marks.spans] == [{"depth": 1}, {"depth": 2}, {}]


def test_what_is_set_before_a_block_is_for_the_spans_to_come(run):
    marks = ok(
        run("""
        s = stage("s", a=1)
        s.set(b=2)
        with s: pass
    """)
    )
    assert marks.attributes("s") == {"a": 1, "b": 2}


def test_blocks_may_be_left_out_of_order(run):
    marks = ok(
        run("""
        a, b = stage("a"), stage("b")
        a.__enter__(); b.__enter__()
        a.__exit__(None, None, None)
        with stage("c"): pass
        b.__exit__(None, None, None)
        with stage("d"): pass
        a.__exit__(None, None, None)
    """)
    )
    assert marks.tree() == [("a", None), ("b", "a"), ("c", "b"), ("d", None)]


def test_any_name_is_an_attribute(run):
    marks = ok(
        run("""
        with stage("s", name="n", self="x", function="f") as s: s.set(self=1, name=2)
    """)
    )
    assert marks.attributes("s") == {"name": 2, "self": 1, "function": "f"}


# --- what is written ---------------------------------------------------------------------------------------------------------------


def test_values_keep_their_kind_and_others_are_shown(run):
    marks = ok(
        run("""
        import enum
        class Colour(enum.Enum): RED = 1
        class Word(str, enum.Enum): YES = "yes"
        class Number(enum.IntEnum): TWO = 2
        class Bad:
            def __repr__(self): raise RuntimeError
        with stage("s", s="é\\n\\x1b", i=-3, f=0.1, b=True, n=None, l=[1, "x"], nan=float("nan"), inf=float("-inf"),
                   big=1 << 80, huge=10 ** 5000, c=Colour.RED, w=Word.YES, t=Number.TWO, bad=Bad(), half="a\\ud800b"): pass
    """)
    )
    assert marks.attributes("s") == {
        "s": "é\n\x1b", "i": -3, "f": 0.1, "b": True, "n": None, "l": "[1, 'x']", "nan": "nan", "inf": "-inf",
        "big": str(1 << 80), "huge": "int", "c": "<Colour.RED: 1>", "w": "yes", "t": 2, "bad": "Bad", "half": "a?b",
    }  # fmt: skip


def test_a_name_may_be_anything_that_can_be_shown(run):
    marks = ok(
        run("""
        with stage(""): pass
        with stage(5): pass
        with stage("x" * 10_000): pass
    """)
    )
    names = [span.name for span in marks.spans]
    assert names[:2] == ["(unnamed)", "5"]
    assert names[2] == "x" * 199 + "…"


text = st.text(st.characters(exclude_categories=()), max_size=600)
values = st.one_of(
    text, st.integers(), st.floats(), st.booleans(), st.none(), st.binary(max_size=50), st.lists(st.integers())
)


@given(text, st.dictionaries(text, values, max_size=50))
def test_whatever_is_said_a_mark_is_one_short_line_of_json(name, attributes):
    head = f'{{"event":"start","id":"a","name":{_stage._text(name, 200)}'
    line = _stage._line(head, attributes).encode("ascii")
    assert len(line) < 4096
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    mark = json.loads(line)
    assert len(mark["name"]) <= 200
    kept = mark.get("attributes", {})
    for key, value in kept.items():
        assert key == "attributes_dropped" or isinstance(value, str | int | float | bool | None)
    if len(attributes) <= 3:
        for key, value in attributes.items():
            if key.isascii() and key.isprintable() and len(key) < 60 and isinstance(value, bool | None):
                assert kept[key] is value


def test_attributes_that_do_not_fit_are_counted(run):
    marks = ok(run('with stage("s", **{f"k{n}": "x" * 300 for n in range(40)}): pass'))
    kept = marks.attributes("s")
    assert kept["attributes_dropped"] + len(kept) - 1 == 40
    assert len(marks.lines[0]) < 4096


# --- outside a recording, and starting fast ----------------------------------------------------------------------------------------


def test_outside_a_recording_nothing_happens(run):
    marks = ok(
        run(
            """
        def f(): return 1
        assert stage("f")(f) is f
        with stage("a", x=1) as s:
            s.set(y=2)
            assert s.id is None
        assert "GPUCOST_STAGE_ID" not in os.environ
        try:
            with stage("b"): raise KeyError
        except KeyError:
            print("passed through")
    """,
            recording=False,
        )
    )
    assert marks.out == "passed through\n"
    assert marks.lines == []


def test_importing_gpucost_brings_in_next_to_nothing():
    code = "import sys; before = set(sys.modules); import gpucost; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    allowed = {
        "gpucost",
        "gpucost._flops",
        "gpucost._stage",
        "gpucost._version",
        "_contextvars",
        "contextvars",
        "_json",
        "itertools",
        "__future__",
    }
    assert set(done.stdout.split()) <= allowed | {"stat", "os", "time", "_thread"}


def test_gpucost_has_a_version_and_the_two_readers():
    assert gpucost.__version__.count(".") == 2
    assert callable(gpucost.load)
    assert callable(gpucost.analyze)


TYPED = """
import gpucost
from collections.abc import AsyncIterator, Iterator

@gpucost.stage("f")
def f(x: int, *, y: str = "") -> float: return 1.0

@gpucost.stage("co", k=1)
async def co(x: int) -> str: return ""

@gpucost.stage("gen")
def gen() -> Iterator[int]: yield 1

@gpucost.stage("agen")
async def agen() -> AsyncIterator[bytes]: yield b""

def use() -> int:
    with gpucost.stage("a", tokens=1) as s:
        s.set(answer="ok")
        return 1

reveal_type(f)
reveal_type(co)
reveal_type(gen)
reveal_type(agen)
reveal_type(gpucost.stage("a").id)
f("wrong")
"""


@pytest.mark.slow
def test_decorated_functions_keep_their_types(tmp_path):
    (tmp_path / "typed.py").write_text(TYPED, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        str(tmp_path / "c"),
        "typed.py",
    ]
    environ = {**os.environ, "MYPYPATH": str(Path(gpucost.__file__).parent.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    revealed = [line.split('"')[1] for line in done.stdout.splitlines() if "Revealed type" in line]
    assert [text.replace("builtins.", "") for text in revealed] == [
        "def (x: int, *, y: str =) -> float",
        "def (x: int) -> typing.Coroutine[Any, Any, str]",
        "def () -> typing.Iterator[int]",
        "def () -> typing.AsyncIterator[bytes]",
        "str | None",
    ]
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "arg-type" in errors[0]
