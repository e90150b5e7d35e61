"""What commands do, and what is done to them: each with and without gpucost, and the two compared."""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gpucost.store.reader import load
from recording_tools import command_line, manifest, run_folders, with_environment
from torture.rows import Row, side_by_side

MARK = "GPUCOST_TORTURE"
SIGNALS = ("INT", "TERM", "HUP", "QUIT", "USR1", "PIPE", "TSTP")
TARGETS = ("recorder", "command", "group")
STARTERS = ("terminal", "supervisor")
_WAITS = "import sys, time\nprint('ready', flush=True)\ntime.sleep({0})\nprint('slept', flush=True)\nsys.exit(5)\n"
_CATCHES = "import signal\nfor name in ('INT', 'TERM', 'HUP', 'QUIT', 'USR1', 'PIPE'):\n    signal.signal(getattr(signal, 'SIG' + name), lambda *a: sys.exit(40))\n"


class Seen(NamedTuple):
    """How it ended, as its parent sees it, and how many of its processes were alive a moment later."""

    ended: str
    survivors: int
    said: str


class Case(NamedTuple):
    """One cell of the matrix; `catches`: the command handles the signal itself."""

    signal: str
    target: str
    starter: str
    catches: bool


def signal_matrix(folder: Path, *, every: int = 1, workers: int = 4) -> Row:
    """Each signal, to each target, from a terminal and from a supervisor, with and without gpucost."""
    row = Row("commands", "signals x (recorder, command, group) x (terminal, supervisor) x (caught, not)")
    cases = [
        Case(*c) for c in ((s, t, o, k) for s in SIGNALS for t in TARGETS for o in STARTERS for k in (False, True))
    ]
    cases = [case for case in cases if not (case.signal == "TSTP" and case.catches)][::every]

    def work(case: Case) -> tuple[Case, Seen, Seen]:
        place = folder / "-".join(map(str, case))
        plain, recorded = (_one(place / name, case, recorded=name == "recorded") for name in ("plain", "recorded"))
        return case, plain, recorded

    different = 0
    for case, plain, recorded in side_by_side(work, cases, workers):
        row.times += 1
        if plain != recorded:
            different += 1
            row.check(False, f"{' '.join(map(str, case))}: without gpucost {plain}, with it {recorded}")
    row.lost = f"differences in exit code, survivors or output: {different}"
    return row


def _one(place: Path, case: Case, *, recorded: bool) -> Seen:
    place.mkdir(parents=True)
    seconds = 1.5 if case.signal == "TSTP" else 5
    code = _WAITS.format(seconds).replace(
        "import sys, time\n", "import sys, time\n" + (_CATCHES if case.catches else "")
    )
    note = f"import os; open({str(place / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    line = [sys.executable, "-S", "-E", "-c", note + code]
    if recorded:
        line = command_line(place / "runs", *line, options=["-q"])
    environ = {**os.environ, MARK: str(place)}
    return _watch(place, case, line, environ)


def _watch(place: Path, case: Case, line: list[str], environ: dict[str, str]) -> Seen:
    """Start, wait for the command, send, wait for the end."""
    pid, fd = pty.fork() if case.starter == "terminal" else _supervised(line, environ)
    if pid == 0:
        os.execvpe(line[0], line, environ)
    said = _read_until(fd, b"ready", 60)
    command = int((place / "pid").read_text())
    _send(case, pid, command)
    status, rest = _end_of(pid, fd, 60)
    time.sleep(0.2)
    left = with_environment(f"{MARK}={place}")
    for one in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    os.close(fd)
    code = "still there" if status is None else os.waitstatus_to_exitcode(status)
    # As a shell gives it: a command that a signal killed is 128+N to whoever asks a shell, with gpucost and without.
    ended = str(128 - code) if isinstance(code, int) and code < 0 else str(code)
    words = re.sub(r"\^[C\\]|\r|line \d+", "", (said + rest).decode(errors="replace"))
    return Seen(ended, len(left), words)


def _supervised(line: list[str], environ: dict[str, str]) -> tuple[int, int]:
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    )
    process.returncode = 0  # we wait for it ourselves
    os.close(theirs)
    return process.pid, ours


def _send(case: Case, pid: int, command: int) -> None:
    number = getattr(signal, f"SIG{case.signal}")
    if case.target == "group":
        os.killpg(pid, number)
    else:
        os.kill(pid if case.target == "recorder" else command, number)
    if case.signal == "TSTP":
        time.sleep(0.4)
        if case.target == "group":
            os.killpg(pid, signal.SIGCONT)
        else:
            os.kill(pid if case.target == "recorder" else command, signal.SIGCONT)


def _read_until(fd: int, word: bytes, seconds: float) -> bytes:
    data, deadline = b"", time.monotonic() + seconds
    while word not in data and time.monotonic() < deadline:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                piece = os.read(fd, 4096)
            except OSError:
                break
            if not piece:
                break
            data += piece
    return data


def _end_of(pid: int, fd: int, seconds: float) -> tuple[int | None, bytes]:
    rest, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        rest += _read_until(fd, b"\0never", 0.05 if not ended else 0.1)
        if ended:
            return status, rest
    return None, rest


# --- commands that are not well behaved -------------------------------------------------------------------------------------------

_DOUBLE_FORK = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2): os.close(fd)
        time.sleep(1.5); open(sys.argv[1], "w").write("daemon"); os._exit(0)
    os._exit(0)
os.wait(); print("parent done")
"""
_MANY = """
import os
n = 0
for _ in range({0}):
    if os.fork() == 0:
        os._exit(0)
while True:
    try: os.wait(); n += 1
    except ChildProcessError: break
print(n)
"""
_CLOSES_ALL = "import os, time\nos.closerange(0, 1024)\ntime.sleep(0.6)\nos._exit(9)\n"
_LINES = "import sys\nprint(sum(len(line) for line in sys.stdin.buffer))\n"


def odd_commands(folder: Path, *, children: int = 200, output_mib: int = 16, every: int = 1) -> Row:
    """Commands that exec, daemonize, end at once, have very many children, close everything, read, and print a lot."""
    row = Row(
        "commands",
        f"exec, daemon, double fork, at once, {children} children, closed files, stdin, {output_mib} MiB out",
    )
    python = [sys.executable, "-S", "-E", "-c"]
    cases: dict[str, tuple[list[str], bytes]] = {
        "execs": (["sh", "-c", "exec sh -c 'exec sh -c \"echo execd; exit 4\"'"], b""),
        "ends at once": (["true"], b""),
        "fails at once": (["false"], b""),
        "spawns children": ([*python, _MANY.format(children)], b""),
        "closes every descriptor": ([*python, _CLOSES_ALL], b""),
        "reads stdin": ([*python, _LINES], b"line\n" * 200_000),
        "dies of its own signal": (["sh", "-c", "kill -SEGV $$"], b""),
        "unlinks its directory": (["sh", "-c", "d=$(mktemp -d); cd $d; rmdir $d; echo gone"], b""),
        "has its own session": (["setsid", "-w", "sh", "-c", "echo session; exit 6"], b""),
    }
    for name, (line, data) in list(cases.items())[::every]:
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True)
        plain = subprocess.run(line, input=data, capture_output=True, check=False, timeout=200)
        full = command_line(place / "runs", *line, options=["-q"])
        recorded = subprocess.run(full, input=data, capture_output=True, check=False, timeout=200)
        code = plain.returncode if plain.returncode >= 0 else 128 - plain.returncode
        row.times += 1
        row.check(
            (recorded.returncode, recorded.stdout) == (code, plain.stdout),
            f"{name}: {recorded.returncode}, {recorded.stderr[-200:]!r}",
        )
        _check_run(row, place / "runs", name)
    _daemon(folder / "daemon", row)
    _much_output(folder / "output", row, output_mib)
    row.lost = "nothing: exit codes and every byte as without gpucost"
    return row


def _check_run(row: Row, runs: Path, name: str) -> None:
    for run in run_folders(runs):
        recording = load(str(run))
        row.check(recording.manifest.status == "complete" and not recording.problems, f"{name}: {recording.problems}")


def _daemon(place: Path, row: Row) -> None:
    place.mkdir(parents=True)
    note = place / "note"
    line = command_line(place / "runs", sys.executable, "-S", "-E", "-c", _DOUBLE_FORK, str(note), options=["-q"])
    began = time.monotonic()
    done = subprocess.run(line, capture_output=True, check=False, timeout=100)
    row.times += 1
    row.check(done.stdout == b"parent done\n", f"daemon: {done.stdout!r}")
    deadline = began + 30
    while not note.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    row.check(note.exists(), "a daemon did not live on")
    _check_run(row, place / "runs", "daemon")


def _much_output(place: Path, row: Row, mib: int) -> None:
    line = command_line(place / "runs", "head", "-c", str(mib << 20), "/dev/zero", options=["-q"])
    counted = 0
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout
        while piece := process.stdout.read(1 << 20):
            counted += len(piece)
    row.times += 1
    row.check(counted == mib << 20 and process.returncode == 0, f"{counted} bytes of {mib << 20} came out")


def editor(folder: Path) -> Row:
    """A full-screen editor in a terminal multiplexer: what is typed ends in the file, and the terminal is as it was."""
    row = Row("commands", "an editor (vim) in tmux")
    if not shutil.which("tmux") or not shutil.which("vim"):
        row.lost = "skipped: no tmux or no vim"
        return row
    folder.mkdir(parents=True)
    text, socket = folder / "text", str(folder / "tmux")
    line = " ".join(command_line(folder / "runs", "vim", "-u", "NONE", str(text), options=["-q"]))

    def tmux(*words: str) -> str:
        return subprocess.run(["tmux", "-S", socket, *words], capture_output=True, text=True, check=False).stdout

    def shows(word: str) -> bool:
        return _eventually(lambda: word in tmux("capture-pane", "-p"))

    tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "bash --norc --noprofile")
    try:
        row.times = 1
        tmux("send-keys", f"{line}; echo code=$?", "Enter")
        row.check(shows("~"), "the editor did not come up")
        tmux("send-keys", "ihello from a recording", "Escape")
        row.check(shows("hello from a recording"), "what was typed is not shown")
        tmux("send-keys", "C-z")
        row.check(shows("topped") or shows("uspended"), "Ctrl-Z did not stop the job")
        tmux("send-keys", "clear", "Enter")
        row.check(_eventually(lambda: "~" not in tmux("capture-pane", "-p")), "the shell did not come back")
        tmux("send-keys", "fg", "Enter")
        row.check(shows("~"), "the editor did not come back")
        tmux("send-keys", "Escape", ":wq", "Enter")
        row.check(_eventually(text.exists), f"the editor did not end: {tmux('capture-pane', '-p')[-300:]!r}")
        ended = _eventually(lambda: all(manifest(run)["status"] == "complete" for run in run_folders(folder / "runs")))
        row.check(ended, "the run was not closed")
        row.check(text.exists() and text.read_text() == "hello from a recording\n", "the text is not there")
        row.lost = "nothing"
    finally:
        tmux("kill-server")
    return row


def _eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


__all__ = ["editor", "odd_commands", "signal_matrix"]
