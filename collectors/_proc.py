"""Reading /proc: processes, their identity, and the tree below the recorder.

Processes come and go while they are read, so every reader gives None for what is gone or may not be read, and never raises for it.
Field positions are those of proc(5).
"""

import functools
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

_READ_LIMIT = 4 << 20
_STAT_FIELDS = 22  # as far as rss, counted from the state
_RECHECK_PASSES = 16
_RETRIES = 5
_KERNEL_PID = 2
_NAME_LENGTH = 15  # the kernel keeps no more of a program's name


class Stat(NamedTuple):
    """What /proc/PID/stat says of one process.

    `name` is whatever the process calls itself: not to be trusted. `state` is that of its main thread; the other fields are the whole
    process's. Ticks are those of `ticks_per_second`.
    """

    pid: int
    name: str
    state: str
    ppid: int
    cpu_ticks: int
    threads: int
    start_ticks: int
    rss_pages: int


class Status(NamedTuple):
    """What /proc/PID/status says of one process, beyond its stat.

    The resident memory is more exact here: the stat's is a sum that every CPU keeps a part of, and lags by megabytes on large machines. The
    context switches are the main thread's.
    """

    rss_bytes: int | None
    voluntary_switches: int | None
    involuntary_switches: int | None


@functools.cache
def ticks_per_second() -> int:
    """The unit of the kernel's process times (100 practically everywhere)."""
    return os.sysconf("SC_CLK_TCK")


@functools.cache
def page_bytes() -> int:
    """Bytes of a memory page."""
    return os.sysconf("SC_PAGE_SIZE")


@functools.cache
def boot_time_ns() -> int:
    """UTC at which the machine's boot-time clock was zero, in whole clock ticks.

    The wall clock minus CLOCK_BOOTTIME: /proc/stat's `btime` is this very difference, cut to whole seconds. Read once, so that a step of
    the wall clock gives no process a second identity; cut to ticks, so that two recorders agree on it.
    """
    readings = []
    for _ in range(3):  # the shortest of three readings is the one that was not interrupted
        before_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        wall_ns = time.time_ns()
        after_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        readings.append((after_ns - before_ns, wall_ns - before_ns))
    tick_ns = 1_000_000_000 // ticks_per_second()
    return min(readings)[1] // tick_ns * tick_ns


def start_time_ns(start_ticks: int) -> int:
    """UTC nanoseconds at which a process started; with its pid, the identity of the process."""
    return boot_time_ns() + start_ticks * 1_000_000_000 // ticks_per_second()


def parse_stat(data: bytes) -> Stat | None:
    """Read the content of /proc/PID/stat, or None when it is cut or damaged.

    The name stands in parentheses and may itself hold spaces, parentheses and line breaks: the last `)` ends it.
    """
    opening, closing = data.find(b"("), data.rfind(b")")
    rest = data[closing + 1 :].split()
    if opening < 1 or closing < opening or len(rest) < _STAT_FIELDS:
        return None
    try:
        return Stat(
            pid=int(data[:opening]),
            name=data[opening + 1 : closing].decode(errors="replace"),
            state=rest[0].decode(errors="replace"),
            ppid=int(rest[1]),
            cpu_ticks=int(rest[11]) + int(rest[12]),
            threads=int(rest[17]),
            start_ticks=int(rest[19]),
            rss_pages=int(rest[21]),
        )
    except ValueError:
        return None


class Proc:
    """The /proc of this machine, or of a test."""

    def __init__(self, root: str = "/proc") -> None:
        self.root = root

    def read(self, name: str, limit: int = 4096) -> bytes | None:
        """The first `limit` bytes of a file below the root, in one call; None when it is gone or may not be read.

        One call is enough for the files of a process, which the kernel makes whole; `read_all` is for those that grow with the machine.
        """
        try:
            fd = os.open(f"{self.root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.read(fd, limit)
        except OSError:
            return None
        finally:
            os.close(fd)

    def read_all(self, name: str, limit: int = _READ_LIMIT) -> bytes | None:
        """The whole of a file below the root, but no more than `limit` bytes; None when it is gone or may not be read."""
        try:
            with open(f"{self.root}/{name}", "rb") as file:
                return file.read(limit)
        except OSError:
            return None

    def pids(self) -> list[int]:
        """Every process that can be seen."""
        try:
            return [int(name) for name in os.listdir(self.root) if name.isdecimal()]
        except OSError:
            return []

    def stat(self, pid: int) -> Stat | None:
        """What /proc/PID/stat says."""
        data = self.read(f"{pid}/stat")
        return parse_stat(data) if data else None

    def storage_bytes(self, pid: int) -> tuple[int | None, int | None]:
        """Bytes that the process caused to be read from and written to storage so far; None where that may not be read."""
        data = self.read(f"{pid}/io") or b""
        return _field(data, b"\nread_bytes:"), _field(data, b"\nwrite_bytes:")

    def status(self, pid: int) -> Status:
        """What only /proc/PID/status says; None where it says nothing."""
        data = self.read(f"{pid}/status") or b""
        rss_kib = _field(data, b"\nVmRSS:")
        return Status(
            rss_bytes=None if rss_kib is None else rss_kib * 1024,
            voluntary_switches=_field(data, b"\nvoluntary_ctxt_switches:"),
            involuntary_switches=_field(data, b"\nnonvoluntary_ctxt_switches:"),
        )

    def environ(self, pid: int) -> dict[str, str] | None:
        """The environment that the process's program was started with; None when it may not be read."""
        data = self.read_all(f"{pid}/environ")
        if data is None:
            return None
        pairs = (entry.partition(b"=") for entry in data.split(b"\0"))
        return {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals}

    def why_not(self) -> str:
        """Why the processes of this machine cannot be read here, or an empty string."""
        if not sys.platform.startswith("linux"):
            return f"processes are read from /proc, which {sys.platform} does not have"
        try:
            seen = os.readlink(f"{self.root}/self")
        except OSError:
            return f"{self.root} is not mounted"
        if seen != str(os.getpid()):
            return f"{self.root} belongs to another PID namespace"
        return ""

    def outer_pid(self) -> int | None:
        """Our own pid in the host's namespace, where this is the host's /proc and we live in another namespace; else None.

        Only there is the kernel's own process 2, a child of nobody.
        """
        here = self.inner_pid("self")
        try:
            seen = int(os.readlink(f"{self.root}/self"))
        except (OSError, ValueError):
            return None
        kernel = self.stat(_KERNEL_PID)
        if kernel is None or (kernel.name, kernel.ppid) != ("kthreadd", 0) or here != os.getpid() or seen == here:
            return None
        return seen

    def inner_pid(self, pid: int | str) -> int | None:
        """What a process is called in the innermost namespace that it lives in (NSpid); None when that cannot be read."""
        data = self.read(f"{pid}/status") or b""
        _, label, rest = data.partition(b"\nNSpid:")
        words = rest.split(b"\n", 1)[0].split()
        return int(words[-1]) if label and words and words[-1].isdigit() else None


def _field(data: bytes, label: bytes) -> int | None:
    start = data.find(label)
    if start < 0:
        return None
    words = data[start + len(label) : start + len(label) + 32].split(None, 1)
    return int(words[0]) if words and words[0].isdigit() else None


def own_pids(status: Mapping[str, Mapping[str, Any]]) -> Callable[[], Collection[int]]:
    """Who gives the recorder's own short-lived children, which are not the command's: `own_pids` of what the recorder tells of itself."""

    def give() -> Collection[int]:
        pids: Collection[int] = status.get("recorder", {}).get("own_pids", ())
        return tuple(pids)

    return give


class Attached:
    """Processes outside the command's tree that belong to the run: a server that was there before, say.

    A pid is remembered with its start, so a process that gets the pid later is not taken for it.
    """

    def __init__(self, pids: Collection[int] = (), names: Collection[str] = (), proc: Proc | None = None) -> None:
        """Take pids that are alive now, and names of programs."""
        stats = [(proc or Proc()).stat(pid) for pid in pids]
        self._starts = {stat.pid: stat.start_ticks for stat in stats if stat is not None}
        self._names = {name[:_NAME_LENGTH] for name in names}

    def __bool__(self) -> bool:
        return bool(self._starts or self._names)

    def covers(self, stat: Stat) -> bool:
        """Whether this process is one of them; what lies below them is found by climbing."""
        return self._starts.get(stat.pid) == stat.start_ticks or stat.name in self._names


class Tree:
    """The processes below the recorder, at a cost that follows the tree and not the host.

    One pass lists /proc and reads only the processes that are in the tree or were not there before. Those known to be outside stay so
    (only a reused pid could change that, so each is looked at again every few passes); those inside stay inside, because the recorder
    adopts the tree's orphans. The kernel's own list of children is not used: it is missing from many kernels, is kept by thread, and may
    leave out a child while another exits.
    """

    def __init__(
        self,
        root_pid: int,
        *,
        own_pids: Callable[[], Collection[int]] = tuple,
        proc: Proc | None = None,
        attached: Attached | None = None,
    ) -> None:
        """Take the root's pid (no part of the tree), who gives the recorder's own pids below it, and what belongs to it from outside."""
        self._attached = attached or Attached()
        self._root_pid = root_pid
        self._own_pids = own_pids
        self._proc = proc or Proc()
        self._inside: dict[int, int] = {}
        self._outside: set[int] = set()
        self._passes = 0

    def refresh(self) -> list[Stat]:
        """Read every process of the tree once."""
        self._passes += 1
        own = set(self._own_pids())
        listed = set(self._proc.pids())
        self._outside &= listed
        found = self._read_known(listed, own)
        fresh = _Fresh(self._proc, self._unknown(listed, own))
        for pid in list(fresh.stats):
            where = self._place(pid, fresh, own)
            if where:
                self._outside.discard(pid)
                stat = fresh.stats[pid]
                self._inside[pid] = stat.start_ticks
                found.append(stat)
            elif where is not None:
                self._outside.add(pid)
        return found

    def _read_known(self, listed: set[int], own: set[int]) -> list[Stat]:
        found = []
        for pid, start_ticks in list(self._inside.items()):
            stat = self._proc.stat(pid) if pid in listed and pid not in own else None
            if stat is None or stat.start_ticks != start_ticks:
                del self._inside[pid]  # gone; if its pid is in use again, it is looked at like any new one
            else:
                found.append(stat)
        return found

    def _unknown(self, listed: set[int], own: set[int]) -> Iterable[int]:
        turn = self._passes % _RECHECK_PASSES
        known = self._inside.keys() | own | {self._root_pid}
        return sorted(pid for pid in listed - known if pid not in self._outside or pid % _RECHECK_PASSES == turn)

    def _place(self, pid: int, fresh: "_Fresh", own: set[int]) -> bool | None:
        """Whether a new process is in the tree: climb from parent to parent. None when that cannot be told, because processes vanish."""
        for _ in range(_RETRIES):
            above, below = pid, pid
            for _ in range(len(fresh.stats) + 1):
                stat = fresh.get(above)
                if stat is None:
                    break
                if self._attached.covers(stat):
                    return True
                above, below = stat.ppid, above
                if above == self._root_pid or above in self._inside:
                    return True
                if above in own or above <= 1 or (above in self._outside and above not in fresh.stats):
                    return False
            fresh.reread(below)  # its parent went away: by now it has another, or is gone itself
            if pid not in fresh.stats:
                return None
        return None


class _Fresh:
    """The processes that one pass sees for the first time."""

    def __init__(self, proc: Proc, pids: Iterable[int]) -> None:
        self._proc = proc
        self.stats = {pid: stat for pid in pids if (stat := proc.stat(pid)) is not None}

    def get(self, pid: int) -> Stat | None:
        """The process as read in this pass; read now when it appeared after the listing."""
        stat = self.stats.get(pid)
        if stat is None and (stat := self._proc.stat(pid)) is not None:
            self.stats[pid] = stat
        return stat

    def reread(self, pid: int) -> None:
        """Read a process again."""
        stat = self._proc.stat(pid)
        if stat is None:
            self.stats.pop(pid, None)
        else:
            self.stats[pid] = stat
