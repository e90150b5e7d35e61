"""Stages of decorated functions, threads, tasks and processes: what nests under what."""

import json
import os
import subprocess
import sys
import textwrap
from functools import partial

import pytest

from stage_programs import Marks, ok, run_program


@pytest.fixture
def run(tmp_path):
    """Runs a program (see `run_program`) in a folder of the test's own."""
    return partial(run_program, tmp_path)


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
