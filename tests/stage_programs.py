"""Running programs that use `gpucost.stage`, and reading the marks they leave."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

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


def run_program(folder: Path, program: str, *, recording: bool = True, **extra: str) -> Marks:
    """Run a program in a folder, inside a recording (or, on demand, outside); `extra` is added to its environment."""
    path = folder / "stages.jsonl"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GPUCOST_")}
    if recording:
        environ["GPUCOST_STAGE_FILE"] = str(path)
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(program)]
    done = subprocess.run(command, env={**environ, **extra}, capture_output=True, text=True, check=False, cwd=folder)
    marks = Marks(path, done)
    assert marks.problems == []
    return marks


def ok(marks: Marks) -> Marks:
    """The marks of a program that ended well and said nothing on stderr."""
    assert marks.code == 0, marks.err
    assert marks.err == ""
    return marks
