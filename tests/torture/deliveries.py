"""Signals that reach the recorder and its command together: the command counts, and must get each of them once."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from recording_tools import children, command_line, of_session, wait_until, with_environment
from torture.rows import Row, side_by_side

MARK = "GPUCOST_TORTURE"
SHORT = (
    "timeout --foreground",
    "each of the session, backwards",
    "group, nested",
    "group, recorder, group",
    "many at once",
    "a child of the command's to the group",
    "Ctrl-C",
    "INT to the group, terminal",
)
COUNTED = ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "CONT")
EXIT_CODE = 7
# Not handlers: two signals on the heels of one another would be one call of Python's.
_COUNTS = """
import os, signal, sys
numbers = {getattr(signal, "SIG" + name) for name in sys.argv[2].split(",")}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers | {signal.SIGRTMAX})
if sys.argv[3] == "itself" and os.fork() == 0:
    signal.sigwait({signal.SIGRTMAX})
    os.killpg(0, signal.SIGTERM)
    os._exit(0)
note = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(note, b"ready %d\\n" % os.getpid())
while (number := signal.sigwaitinfo(numbers | {signal.SIGRTMAX}).si_signo) != signal.SIGRTMAX:
    os.write(note, signal.Signals(number).name.encode() + b"\\n")
sys.exit(7)
"""


class Place(NamedTuple):
    """A recording whose command counts."""

    pid: int
    command: int
    note: Path
    send: Callable[[bytes], object]

    def counts(self) -> Counter[str]:
        """What the command got so far."""
        return Counter(self.note.read_text().split()[2:])


class Case(NamedTuple):
    """A way to send signals; `wanted` is what the command must get, and `before` stands before `gpucost record` on the command line."""

    name: str
    wanted: dict[str, int]
    send: Callable[[Place], object]
    before: tuple[str, ...] = ()
    terminal: bool = False
    depth: int = 1
    forks: bool = False


def _number(name: str) -> signal.Signals:
    return getattr(signal, f"SIG{name}")


def _to_group(*names: str) -> Callable[[Place], None]:
    def send(place: Place) -> None:
        for name in names:
            os.killpg(os.getpgid(place.pid), _number(name))

    return send


def _to_each(name: str, *, backwards: bool = False) -> Callable[[Place], None]:
    """As a supervisor does that reads the pids of a cgroup; here, of the session."""

    def send(place: Place) -> None:
        for pid in sorted(of_session(place.pid), reverse=backwards):
            os.kill(pid, _number(name))

    return send


def _twice(place: Place) -> None:
    for number in (1, 2):
        os.killpg(place.pid, signal.SIGTERM)
        wait_until(lambda number=number: place.counts()["SIGTERM"] >= number)
        time.sleep(0.5)


def _mixed(place: Place) -> None:
    """To the group, then to the recorder alone, then to the group: the second is passed on although the group has just had one."""
    for number, send in enumerate((os.killpg, os.kill, os.killpg), 1):
        send(place.pid, signal.SIGTERM)
        wait_until(lambda number=number: place.counts()["SIGTERM"] >= number)
        time.sleep(0.5)


def _after_a_stop(place: Place) -> None:
    os.killpg(place.pid, signal.SIGSTOP)
    time.sleep(0.1)
    os.killpg(place.pid, signal.SIGCONT)
    wait_until(lambda: place.counts()["SIGCONT"])
    os.killpg(place.pid, signal.SIGTERM)


def _without_its_witness(place: Place) -> None:
    for pid in children(place.pid):
        if pid != place.command:
            os.kill(pid, signal.SIGKILL)
    os.kill(place.pid, signal.SIGTERM)


def _stray(place: Place) -> None:
    """The witness alone gets a signal; once that has been noticed the recorder does, and that one is meant for the command."""
    before = set(children(place.pid))
    for pid in before - {place.command}:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: len(after := set(children(place.pid))) == 2 and after != before)
    os.kill(place.pid, signal.SIGTERM)


def cases() -> list[Case]:
    """Every way."""
    once = {"SIGTERM": 1}
    found = [
        Case("timeout", {"SIGTERM": 1, "SIGCONT": 1}, lambda p: None, before=("timeout", "4")),
        Case("timeout -s INT", {"SIGINT": 1, "SIGCONT": 1}, lambda p: None, before=("timeout", "-s", "INT", "4")),
        Case("timeout --foreground", once, lambda p: None, before=("timeout", "--foreground", "4")),
        Case("each of the session", once, _to_each("TERM")),
        Case("each of the session, backwards", once, _to_each("TERM", backwards=True)),
        Case("each of the session, nested", once, _to_each("TERM"), depth=2),
        Case("group, nested", once, _to_group("TERM"), depth=2),
        Case("group, nested, terminal", once, _to_group("TERM"), depth=2, terminal=True),
        Case("recorder alone, nested", once, lambda p: os.kill(p.pid, signal.SIGTERM), depth=2),
        Case("Ctrl-C", {"SIGINT": 1}, lambda p: p.send(b"\x03"), terminal=True),
        Case("Ctrl-\\", {"SIGQUIT": 1}, lambda p: p.send(b"\x1c"), terminal=True),
        Case("group twice", {"SIGTERM": 2}, _twice),
        Case("group, recorder, group", {"SIGTERM": 3}, _mixed),
        Case("many at once", dict.fromkeys(("SIGTERM", "SIGUSR1", "SIGHUP"), 1), _to_group("TERM", "USR1", "HUP")),
        Case("stopped, continued, group", {"SIGCONT": 1, "SIGTERM": 1}, _after_a_stop),
        Case("a child of the command's to the group", once, _from_a_child, forks=True),
        Case("witness killed, recorder alone", once, _without_its_witness),
        Case("witness alone, then recorder alone", once, _stray),
    ]
    for terminal in (False, True):
        place = "terminal" if terminal else "supervisor"
        for name in COUNTED:
            wanted = {f"SIG{name}": 1}
            found += [
                Case(f"{name} to the group, {place}", wanted, _to_group(name), terminal=terminal),
                Case(f"{name} to the recorder, {place}", wanted, _direct(name, "pid"), terminal=terminal),
                Case(f"{name} to the command, {place}", wanted, _direct(name, "command"), terminal=terminal),
            ]
    return found


def _direct(name: str, whom: str) -> Callable[[Place], None]:
    return lambda place: os.kill(getattr(place, whom), _number(name))


def _from_a_child(place: Place) -> None:
    (child,) = children(place.command)
    os.kill(child, signal.SIGRTMAX)


def deliveries(folder: Path, *, every: int = 1, workers: int = 4, names: tuple[str, ...] = ()) -> Row:
    """Each way of sending; what the command got must be what was sent, no less and no more."""
    row = Row("commands", "signals to group, session, recorder, command, by timeout: counted by the command")
    chosen = [case for case in cases() if case.name in names] if names else cases()[::every]
    wrong = 0
    for case, got, code, left in side_by_side(lambda case: _one(folder / case.name, case), chosen, workers):
        row.times += 1
        right = row.check(got == case.wanted, f"{case.name}: wanted {case.wanted}, got {got}")
        wrong += not right
        row.check(code == (124 if case.before else EXIT_CODE) and not left, f"{case.name}: exit {code}, left: {left}")
    row.lost = f"not delivered exactly once: {wrong}"
    return row


def _one(folder: Path, case: Case) -> tuple[Case, dict[str, int], int, int]:
    folder.mkdir(parents=True)
    note = folder / "note"
    counted = ",".join(COUNTED)
    line = [sys.executable, "-S", "-E", "-c", _COUNTS, str(note), counted, "itself" if case.forks else ""]
    for _ in range(case.depth):
        line = command_line(folder / "runs", *line, options=["-q"])
    environ = {**os.environ, MARK: str(folder)}
    process, fd = _begin([*case.before, *line], environ, terminal=case.terminal)
    try:
        wait_until(lambda: note.exists() and note.read_text().endswith("\n"))
        command = int(note.read_text().split()[1])
        # What runs first may be `timeout`; the recorder is the command's parent, or that one's.
        place = Place(process, command, note, lambda data: os.write(fd, data))
        wait_until(lambda: _witnessed(command, case.depth))
        case.send(place)
        _soon(lambda: not Counter(case.wanted) - place.counts())
        time.sleep(0.4)  # for one too many
        os.kill(command, signal.SIGRTMAX)
        code = _end(process, fd)
    finally:
        os.close(fd)
    got = dict(place.counts())
    left = with_environment(f"{MARK}={folder}")
    return case, got, code, len(left) + (0 if case.before else len(of_session(process)))


def _soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def _witnessed(command: int, depth: int) -> bool:
    """Whether each recorder has its witness by now."""
    pid = command
    for _ in range(depth):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if len(children(pid)) < 2:
            return False
    return True


def _begin(line: list[str], environ: dict[str, str], *, terminal: bool) -> tuple[int, int]:
    if terminal:
        pid, fd = pty.fork()
        if pid == 0:
            os.execvpe(line[0], line, environ)
        return pid, fd
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    )
    process.returncode = 0  # we wait for it ourselves
    os.close(theirs)
    return process.pid, ours


def _end(pid: int, fd: int) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if select.select([fd], [], [], 0.05)[0]:
            try:
                os.read(fd, 4096)
            except OSError:
                time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1
