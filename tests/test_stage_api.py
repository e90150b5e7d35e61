"""`gpucost.stage`, in real programs: each test runs one and reads the marks it left."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpucost
from gpucost import _stage
from gpucost.marks import MarkReader

PRELUDE = "import asyncio, os, subprocess, sys, threading, time\nimport gpucost\nfrom gpucost import stage\n"


class Marks:
    """What a program left in its stage file."""

    def __init__(self, path, done):
        self.out = done.stdout
        self.err = done.stderr
        self.code = done.returncode
        self.lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        reader = MarkReader()
        rows = [reader.feed(line, 10**18, 10**12) for line in self.lines]
        self.spans = sorted((row for row in rows if row is not None), key=lambda row: row.start_mono_ns)
        self.open = reader.open_spans()
        self.problems = reader.problems
        self._names = {row.stage_id: row.name for row in [*self.spans, *self.open]}

    def tree(self):
        """Every span's name with its parent's, in order of start."""
        return [(span.name, self._names.get(span.parent_id)) for span in self.spans]

    def named(self, name):
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def attributes(self, name):
        return json.loads(self.named(name).attributes or "{}")


@pytest.fixture
def run(tmp_path):
    """Runs a program inside a recording (or, on demand, outside) and returns its marks."""

    def running(program, *, recording=True, **extra):
        path = tmp_path / "stages.jsonl"
        environ = {key: value for key, value in os.environ.items() if not key.startswith("GPUCOST_")}
        if recording:
            environ["GPUCOST_STAGE_FILE"] = str(path)
        code = PRELUDE + textwrap.dedent(program)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environ, **extra},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        marks = Marks(path, done)
        assert marks.problems == []
        return marks

    return running


def ok(marks):
    assert marks.code == 0, marks.err
    assert marks.err == ""
    return marks


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


# --- decorated functions -----------------------------------------------------------------------------------------------------------


def test_every_call_of_a_decorated_function_is_a_span_recursion_included(run):
    marks = ok(
        run("""
        @stage("f", kind="test")
        def f(n, *, m=1):
            "Doc."
            return f(n - 1) + m if n else 0
        assert f(2) == 2
        assert (f.__name__, f.__doc__) == ("f", "Doc.")
    """)
    )
    assert marks.tree() == [("f", None), ("f", "f"), ("f", "f")]
    assert json.loads(marks.spans[0].attributes) == {"kind": "test"}


def test_a_coroutine_is_open_while_it_runs(run):
    marks = ok(
        run("""
        import inspect
        @stage("co")
        async def co():
            with stage("inside"):
                await asyncio.sleep(0.01)
            return 5
        assert inspect.iscoroutinefunction(co)
        coroutine = co()
        with stage("before"): pass
        assert asyncio.run(coroutine) == 5
    """)
    )
    assert marks.tree() == [("before", None), ("co", None), ("inside", "co")]
    assert marks.named("co").end_mono_ns - marks.named("co").start_mono_ns >= 10**7


def test_tasks_side_by_side_each_have_their_own_nesting(run):
    marks = ok(
        run("""
        async def tool(n):
            with stage(f"tool{n}"):
                await asyncio.sleep(0.001 * n)
                with stage(f"step{n}"):
                    await asyncio.sleep(0.001 * (5 - n))
        async def main():
            with stage("execute"):
                await asyncio.gather(*(tool(n) for n in range(5)))
        asyncio.run(main())
    """)
    )
    tree = dict(marks.tree())
    assert tree.pop("execute") is None
    assert all(parent == "execute" for name, parent in tree.items() if name.startswith("tool"))
    assert all(parent == f"tool{name[4:]}" for name, parent in tree.items() if name.startswith("step"))


def test_a_generator_is_open_from_its_first_step_to_its_end_and_lends_no_parent_to_its_consumer(run):
    marks = ok(
        run("""
        import inspect
        @stage("gen")
        def gen():
            with stage("inside"):
                got = yield 1
            assert got == "sent"
            try:
                yield 2
            except ValueError:
                pass
            return 3
        assert inspect.isgeneratorfunction(gen)
        g = gen()
        with stage("before"): pass
        assert next(g) == 1
        with stage("between"): pass
        assert g.send("sent") == 2
        try:
            g.throw(ValueError())
        except StopIteration as stop:
            assert stop.value == 3
        with stage("after"): pass
    """)
    )
    assert marks.tree() == [("before", None), ("gen", None), ("inside", "gen"), ("between", None), ("after", None)]
    assert marks.named("between").end_mono_ns < marks.named("gen").end_mono_ns < marks.named("after").start_mono_ns
    assert marks.attributes("gen") == {}


def test_a_generator_that_is_dropped_or_fails_ends_its_span(run):
    marks = ok(
        run("""
        @stage("dropped")
        def dropped():
            try:
                yield 1
            finally:
                with stage("cleanup"): pass
        next(dropped())
        @stage("failing")
        def failing():
            yield 1
            raise ValueError
        try:
            list(failing())
        except ValueError:
            pass
        with stage("after"): pass
    """)
    )
    assert marks.tree() == [("dropped", None), ("cleanup", "dropped"), ("failing", None), ("after", None)]
    assert marks.attributes("dropped") == {}
    assert marks.attributes("failing") == {"error": "ValueError"}


def test_an_async_generator_is_open_while_it_is_consumed(run):
    marks = ok(
        run("""
        import inspect
        @stage("agen")
        async def agen():
            with stage("inside"):
                await asyncio.sleep(0.001)
            got = yield 1
            assert got == "sent"
            yield 2
        assert inspect.isasyncgenfunction(agen)
        async def main():
            g = agen()
            assert await anext(g) == 1
            with stage("between"): pass
            assert await g.asend("sent") == 2
            await g.aclose()
            async for _ in agen():
                break
            with stage("after"): pass
        try:
            asyncio.run(main())
        except AssertionError:
            raise
    """)
    )
    assert marks.tree()[:3] == [("agen", None), ("inside", "agen"), ("between", None)]
    assert [span.name for span in marks.spans].count("agen") == 2
    assert ("after", None) in marks.tree()
    assert marks.open == []


def test_methods_of_every_kind_can_be_decorated(run):
    marks = ok(
        run("""
        import functools
        class Agent:
            @stage("method")
            def method(self): return self
            @classmethod
            @stage("class")
            def make(cls): return cls()
            @staticmethod
            @stage("static")
            def static(): return 1
            @property
            @stage("property")
            def value(self): return 2
        agent = Agent.make()
        assert agent.method() is agent and Agent.static() == 1 and agent.value == 2
        async def two(a, b): return a + b
        import inspect
        half = stage("partial")(functools.partial(two, 1))
        assert inspect.iscoroutinefunction(half) and asyncio.run(half(2)) == 3
    """)
    )
    assert [span.name for span in marks.spans] == ["class", "method", "static", "property", "partial"]


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("misuse", ["stage(print)", "stage('c')(int)", "stage('x')(5)"])
def test_misuse_is_told_at_once_in_a_recording_and_outside(run, recording, misuse):
    marks = run(misuse, recording=recording)
    assert "TypeError" in marks.err
    assert "stage" in marks.err.splitlines()[-1]


# --- threads and processes ---------------------------------------------------------------------------------------------------------


def test_a_thread_nests_under_what_is_open_in_the_main_thread_and_not_under_another_thread(run):
    marks = ok(
        run("""
        opened, both = threading.Event(), threading.Barrier(2)
        def tool(n):
            both.wait()
            with stage(f"tool{n}"):
                both.wait()
                with stage(f"step{n}"): both.wait()
        with stage("execute"):
            threads = [threading.Thread(target=tool, args=(n,)) for n in range(2)]
            for t in threads: t.start()
            for t in threads: t.join()
        t = threading.Thread(target=lambda: stage("alone").__enter__()); t.start(); t.join()
    """)
    )
    tree = dict(marks.tree())
    assert tree == {"execute": None, "tool0": "execute", "tool1": "execute", "step0": "tool0", "step1": "tool1"}
    assert [(span.name, span.parent_id) for span in marks.open] == [("alone", None)]


def test_a_context_that_is_carried_into_a_thread_keeps_its_nesting(run):
    marks = ok(
        run("""
        async def main():
            with stage("task"):
                await asyncio.to_thread(stage("work")(lambda: None))
        asyncio.run(main())
    """)
    )
    assert marks.tree() == [("task", None), ("work", "task")]


def test_many_threads_write_whole_marks_with_different_ids(run):
    marks = ok(
        run("""
        def work():
            for _ in range(200):
                with stage("s", text="x" * 100): pass
        threads = [threading.Thread(target=work) for _ in range(8)]
        for t in threads: t.start()
        for t in threads: t.join()
    """)
    )
    assert len(marks.lines) == 3200
    assert len({span.stage_id for span in marks.spans}) == 1600


CHILD = "import gpucost\\nwith gpucost.stage('child'): pass"


@pytest.mark.parametrize("environ", ["None", "os.environ.copy()"])
def test_a_child_process_nests_under_what_is_open_where_it_is_started(run, environ):
    marks = ok(
        run(f"""
        with stage("a"):
            with stage("b"):
                subprocess.run([sys.executable, "-c", "{CHILD}"], env={environ}, check=True)
        subprocess.run([sys.executable, "-c", "{CHILD}"], env={environ}, check=True)
    """)
    )
    assert marks.tree() == [("a", None), ("b", "a"), ("child", "b"), ("child", None)]


def test_the_environment_names_the_innermost_open_span_and_is_restored(run):
    marks = ok(
        run("""
        assert "GPUCOST_STAGE_ID" not in os.environ
        with stage("a") as a:
            assert os.environ["GPUCOST_STAGE_ID"] == a.id
            with stage("b") as b:
                assert os.environ["GPUCOST_STAGE_ID"] == b.id != a.id
            assert os.environ["GPUCOST_STAGE_ID"] == a.id and b.id is None
        assert os.environ["GPUCOST_STAGE_ID"] == ""
    """)
    )
    assert len(marks.spans) == 2


def test_a_program_started_within_a_stage_nests_under_it(run):
    marks = ok(run('with stage("a"): pass\nassert os.environ["GPUCOST_STAGE_ID"] == "outer"', GPUCOST_STAGE_ID="outer"))
    assert marks.named("a").parent_id == "outer"


def test_a_span_can_be_handed_to_a_child_by_its_id(run):
    marks = ok(
        run(f"""
        async def tool(n):
            with stage(f"tool{{n}}") as s:
                await asyncio.sleep(0.01)
                environ = {{**os.environ, "GPUCOST_STAGE_ID": s.id}}
                child = await asyncio.create_subprocess_exec(sys.executable, "-c", "{CHILD}", env=environ)
                await child.wait()
        async def main():
            await asyncio.gather(tool(0), tool(1))
        asyncio.run(main())
    """)
    )
    assert sorted(parent for name, parent in marks.tree() if name == "child") == ["tool0", "tool1"]


def test_a_forked_child_nests_under_the_fork_and_does_not_end_its_parents_span(run):
    marks = ok(
        run("""
        with stage("parent") as p:
            if os.fork() == 0:
                with stage("forked"): pass
                p.set(lost=1)
            else:
                os.wait()
                p.set(kept=1)
        with stage("both"): pass
    """)
    )
    forked, parent = marks.named("forked"), marks.named("parent")
    assert forked.parent_id == parent.stage_id
    assert forked.pid != parent.pid
    assert json.loads(parent.attributes) == {"kept": 1}
    assert [span.name for span in marks.spans].count("both") == 2
    assert len({span.stage_id for span in marks.spans}) == 4


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_make_stages(tmp_path, method):
    path = tmp_path / "stages.jsonl"
    (tmp_path / "program.py").write_text(
        textwrap.dedent(f"""
        import multiprocessing, warnings
        import gpucost
        @gpucost.stage("work")
        def work(n):
            return n
        if __name__ == "__main__":
            with gpucost.stage("pool"):
                with multiprocessing.get_context("{method}").Pool(2) as pool:
                    assert pool.map(work, range(4), chunksize=1) == [0, 1, 2, 3]
                    pool.close()
                    pool.join()
        """),
        encoding="utf-8",
    )
    environ = {**os.environ, "GPUCOST_STAGE_FILE": str(path), "GPUCOST_STAGE_ID": ""}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], env=environ, capture_output=True, text=True, check=False
    )
    marks = ok(Marks(path, done))
    assert [parent for name, parent in marks.tree() if name == "work"] == ["pool"] * 4


def test_endless_stages_do_not_fill_the_memory_with_environment(run):
    marks = ok(
        run(
            """
        from gpucost import _stage
        _stage._process.unpublished = 2
        with stage("a") as a:
            assert os.environ["GPUCOST_STAGE_ID"] == a.id
        with stage("b") as b, stage("c"):
            assert os.environ["GPUCOST_STAGE_ID"] == "outer"
        assert os.environ["GPUCOST_STAGE_ID"] == "outer"
    """,
            GPUCOST_STAGE_ID="outer",
        )
    )
    assert marks.tree() == [("a", None), ("b", None), ("c", "b")]


# --- failures of our own -----------------------------------------------------------------------------------------------------------


def test_a_stage_file_that_cannot_be_made_is_nothing_to_the_program(run, tmp_path):
    ok(
        run(
            'with stage("a") as s: s.set(x=1)\nprint("went on")',
            GPUCOST_STAGE_FILE=str(tmp_path / "no" / "such" / "file"),
        )
    )
    ok(run('with stage("a"): pass', GPUCOST_STAGE_FILE=str(tmp_path)))


def test_a_pipe_in_place_of_the_file_does_not_hang_the_program(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    ok(run('with stage("a"): pass', GPUCOST_STAGE_FILE=str(tmp_path / "pipe")))


def test_a_full_disk_loses_marks_and_nothing_else(run):
    marks = ok(run('with stage("a"):\n with stage("b"): pass\nprint("went on")', GPUCOST_STAGE_FILE="/dev/full"))
    assert marks.out == "went on\n"


def test_a_file_size_limit_of_the_program_is_survived(run):
    marks = ok(
        run("""
            import resource
            with stage("a"): pass
            size = os.path.getsize(os.environ["GPUCOST_STAGE_FILE"])
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            with stage("lost"): pass
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            with stage("b"): pass
        """)
    )
    assert [span.name for span in marks.spans] == ["a", "b"]


def test_a_program_that_closes_our_descriptor_gets_no_marks_into_its_own_files(run, tmp_path):
    marks = ok(
        run("""
        with stage("a"): pass
        os.closerange(3, 100)
        own = [os.open(f"own{n}", os.O_CREAT | os.O_WRONLY) for n in range(5)]
        with stage("b"): pass
        assert [os.fstat(fd).st_size for fd in own] == [0] * 5
    """)
    )
    assert [span.name for span in marks.spans] == ["a", "b"]


def test_when_the_file_is_gone_it_is_not_made_again(run, tmp_path):
    marks = ok(
        run("""
        with stage("a"): pass
        os.unlink(os.environ["GPUCOST_STAGE_FILE"])
        with stage("b"): pass
        os.closerange(3, 100)
        with stage("c"): pass
    """)
    )
    assert marks.lines == []
    assert not (tmp_path / "stages.jsonl").exists()


def test_a_torn_mark_does_not_take_the_next_one_with_it(tmp_path, monkeypatch):
    path = tmp_path / "stages.jsonl"
    file = _stage._MarkFile(str(path))
    file.append("whole\n")
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    file.append("torn\n")
    monkeypatch.undo()
    file.append("next\n")
    assert path.read_text(encoding="utf-8") == "whole\ntor\nnext\n"


def test_a_program_that_freezes_time_does_not_freeze_ours(run):
    marks = ok(
        run("""
        time.time_ns = time.monotonic_ns = lambda: 5
        with stage("a"): pass
    """)
    )
    (span,) = marks.spans
    assert span.start_mono_ns > 5
    assert span.start_time_ns > 10**18


def test_a_program_that_destroys_its_environment_goes_on(run):
    marks = ok(
        run("""
        os.environ = None
        with stage("a"): pass
        with stage("b"): pass
        print("went on")
    """)
    )
    assert marks.out == "went on\n"


def test_a_signal_handler_may_make_stages_at_any_moment(run):
    marks = ok(
        run("""
        import signal
        def handler(*_):
            with stage("handler"): pass
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            with stage("main"): pass
        signal.setitimer(signal.ITIMER_REAL, 0)
    """)
    )
    assert {span.name for span in marks.spans} == {"main", "handler"}
    assert marks.open == []


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
