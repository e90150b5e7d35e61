"""Starting a command as if gpucost were not there, and standing between it and its parent.

The command stays in the recorder's process group, so the terminal's own signals (Ctrl-C, Ctrl-Z, hang-up) reach it exactly as they would
without gpucost, pipelines and job control included. Signals that somebody sends to the recorder alone are passed on. The two are told
apart by `si_code`, since the kernel's own signals (SI_KERNEL) went to the whole group; and, for signals that a process sent, by a witness
in the recorder's group, which has those that the group got.

Everything here runs before and while the command runs, so it imports only what it cannot do without.
"""

import errno
import os
import signal
import sys

from gpucost.recorder.witness import Witness

_SI_KERNEL = 0x80
_JOB_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_NEVER_FORWARDED = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGCHLD,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGTRAP,
    signal.SIGSYS,
}
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


class CommandNotStartedError(Exception):
    """The command could not be started; `exit_code` is what a shell would give (127 not found, 126 not executable)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Command:
    """A started command: its pid, and how it ended once it has."""

    __slots__ = ("ended_mono_ns", "ended_time_ns", "pid", "started_mono_ns", "started_time_ns", "status")

    def __init__(self, pid: int, started_time_ns: int, started_mono_ns: int) -> None:
        self.pid = pid
        self.started_time_ns = started_time_ns
        self.started_mono_ns = started_mono_ns
        self.status: int | None = None
        self.ended_time_ns: int | None = None
        self.ended_mono_ns: int | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code as a shell gives it (128+N when signal N killed it), or None while it runs."""
        if self.status is None:
            return None
        code = os.waitstatus_to_exitcode(self.status)
        return code if code >= 0 else 128 - code


def forwarded_signals() -> set[int]:
    """Every signal that may be meant for the command.

    Those that the parent has ignored are among them (a shell does that to INT and QUIT for what it starts in the background): the command
    begins with them ignored too, but may have asked for them since.
    """
    return {int(number) for number in signal.valid_signals()} - {int(number) for number in _NEVER_FORWARDED}


def ignored_signals() -> set[int]:
    """Signals that the parent wants ignored, so that they neither end the recorder nor hurry it."""
    ignored = {int(number) for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    # Python itself ignores SIGPIPE and SIGXFSZ at start, so their being ignored says nothing about the parent's wish.
    return ignored - {int(signal.SIGPIPE), int(signal.SIGXFSZ)}


def become_subreaper() -> bool:
    """Adopt the command's orphans, so that its whole tree stays below the recorder (Linux)."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def name_thread(name: str) -> bool:
    """Give the calling thread a name that `top -H` and /proc show, cut to the kernel's 15 bytes (Linux)."""
    return _prctl(_PR_SET_NAME, name.encode()[:15])


def _prctl(option: int, argument: int | bytes) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def spawn(argv: list[str], environ: dict[str, str], mask: set[signal.Signals] | set[int]) -> int:
    """Start `argv` with the signal mask it would have had without gpucost; return its pid.

    Raises:
        CommandNotStartedError: with 127 when there is no such command, 126 when it cannot be executed.
    """
    try:
        return _spawn_once(argv[0], argv, environ, mask)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise _not_started(argv[0], error) from error
    # A script without a "#!" line: what execvp(3) does, and so every shell.
    path = _on_path(argv[0], environ)
    try:
        return _spawn_once("/bin/sh", ["sh", path, *argv[1:]], environ, mask)
    except OSError as error:
        raise _not_started(argv[0], error) from error


def _spawn_once(file: str, argv: list[str], environ: dict[str, str], mask: set[signal.Signals] | set[int]) -> int:
    reset = [signal.SIGPIPE, signal.SIGXFSZ]
    return os.posix_spawnp(file, argv, environ, setsigmask=mask, setsigdef=reset)


def _on_path(name: str, environ: dict[str, str]) -> str:
    if "/" in name:
        return name
    for folder in environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder or ".", name)
        if os.access(path, os.X_OK):
            return path
    return name


def _not_started(name: str, error: OSError) -> CommandNotStartedError:
    if error.errno == errno.ENOENT:
        if "/" in name and os.path.exists(name):
            return CommandNotStartedError(f"cannot run {name!r}: its interpreter does not exist", 126)
        return CommandNotStartedError(f"cannot run {name!r}: no such command", 127)
    return CommandNotStartedError(f"cannot run {name!r}: {error.strerror}", 126)


class Supervisor:
    """Waits for the command, passes signals on, and reaps the orphans that the subreaper adopts.

    Usage: create it (signals are blocked from then on, in every thread started later), spawn with `original_mask`, then call `wait`
    until the command has ended.
    """

    def __init__(self) -> None:
        self.forwarded = forwarded_signals()
        self._ignored = ignored_signals()
        self._waited = self.forwarded | {int(signal.SIGCHLD), int(signal.SIGALRM)}
        self.original_mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._waited)
        self._ended_others: dict[int, int] = {}
        self._own: set[int] = set()
        self.command: Command | None = None
        self.witness = Witness()

    def die_if_asked_already(self) -> None:
        """End now if a deadly signal arrived before the command was started: nobody would pass it on."""
        pending = {int(number) for number in signal.sigpending()}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            if int(number) in pending - self._ignored:
                signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})

    def start(self, argv: list[str], environ: dict[str, str]) -> Command:
        """Start the command. See `spawn`."""
        import time

        time_ns, mono_ns = time.time_ns(), time.monotonic_ns()
        self.command = Command(spawn(argv, environ, self.original_mask), time_ns, mono_ns)
        self.witness.start()  # after the command, so that it costs it no time
        return self.command

    def adopt(self, pid: int) -> None:
        """Remember a child of the recorder's own, whose end is asked for with `ended`."""
        self._own.add(pid)

    def ended(self, pid: int) -> int | None:
        """The wait status of an adopted child that has ended, else None."""
        return self._ended_others.get(pid)

    def wait(self, seconds: float) -> int | None:
        """Serve signals for up to `seconds`; return as soon as something happened.

        Returns:
            The number of a signal that was passed on (or would have been, had the command not ended), or None.
        """
        self.witness.sweep()
        # Not sigtimedwait: when a stop and a continuation interrupt it, CPython hands back whatever was on the stack.
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
        info = signal.sigwaitinfo(self._waited)
        if info.si_signo == signal.SIGCHLD:
            self.reap()
            return None
        if info.si_signo == signal.SIGALRM and info.si_code == _SI_KERNEL:
            return None  # our own timer
        return self._serve(info) if info.si_signo in self.forwarded else None

    def _serve(self, info: signal.struct_siginfo) -> int | None:
        number = info.si_signo
        if number in (signal.SIGPIPE, signal.SIGXFSZ) and info.si_pid in (0, os.getpid()):
            return None  # raised by a write of our own
        command = self.command
        if command is None or command.status is not None:
            return None if number in self._ignored else number
        if not self._has_it_already(command, info):
            try:
                os.kill(command.pid, number)
            except ProcessLookupError:
                self.reap()
        return number

    def _has_it_already(self, command: Command, info: signal.struct_siginfo) -> bool:
        """Whether the command got the signal too, from whoever sent it."""
        # The terminal sends to the whole group. The command itself, an editor that stops for example, has whom it means.
        if info.si_code == _SI_KERNEL or info.si_pid == command.pid:
            self.witness.settle(info.si_signo)
            return True
        # A command that has left the group was not among those who got it.
        return self.witness.got(info.si_signo, info.si_pid) and _group_of(command.pid) == os.getpgrp()

    def reap(self) -> None:
        """Collect every child that ended or stopped."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._note(pid, status)

    def _note(self, pid: int, status: int) -> None:
        command = self.command
        if command is not None and pid == command.pid:
            if os.WIFSTOPPED(status):
                self._stop_like_command(os.WSTOPSIG(status))
            else:
                import time

                command.status = status
                command.ended_time_ns, command.ended_mono_ns = time.time_ns(), time.monotonic_ns()
                self.witness.stop()
        elif pid in self._own and not os.WIFSTOPPED(status):
            self._own.discard(pid)
            self._ended_others[pid] = status
        elif not os.WIFSTOPPED(status):
            self.witness.ended(pid)

    def _stop_like_command(self, number: int) -> None:
        """Stop as the command did, so that the shell's job control sees what it would see without gpucost."""
        if number not in _JOB_STOPS:
            return  # a SIGSTOP meant for the command alone: whoever sent it will continue the command, not us
        stop = {signal.Signals(number)}
        signal.signal(
            number, signal.SIG_IGN
        )  # forget one that waits already: to stop twice would take two continuations
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop)
        os.kill(os.getpid(), number)  # returns when the shell continues the group
        signal.pthread_sigmask(signal.SIG_BLOCK, stop)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def detach_stdio(*, keep_stderr: bool) -> None:
    """Let go of the command's stdin and stdout (and stderr), so that the other end sees them close when the command closes them."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for fd in (0, 1) if keep_stderr else (0, 1, 2):
            try:
                os.fstat(fd)
            except OSError:
                continue  # it was closed before we came
            os.dup2(null, fd, inheritable=True)
    finally:
        os.close(null)


def run(argv: list[str], environ: dict[str, str]) -> tuple[int, Command]:
    """Run a command to its end with nothing beside it; return its exit code and the command.

    Raises:
        CommandNotStartedError: it could not be started.
    """
    supervisor = Supervisor()
    supervisor.die_if_asked_already()
    command = supervisor.start(argv, environ)
    while command.status is None:
        supervisor.wait(1.0)
    code = command.exit_code
    return (1 if code is None else code), command
