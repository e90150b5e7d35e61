"""Who is on a GPU, how much memory each holds, what share of the SMs each used, and who of them belongs to the run."""

import ctypes
import os
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gpucost.collectors import _proc
from gpucost.collectors._nvml_counters import Tally
from gpucost.collectors._nvml_devices import Device
from gpucost.collectors._nvml_entries import Entries
from gpucost.collectors._nvml_library import (
    NO_PERMISSION,
    SUCCESS,
    Nvml,
    as_pointer,
    check_alive,
    describe,
    refuses,
)
from gpucost.collectors._nvml_pacing import Paced
from gpucost.collectors._nvml_usage import Usage, UsageSamples
from gpucost.schema import GpuProcessRow

INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # the kernel's fixed number for it

MPS = "mps"
MPS_SERVER = "nvidia-cuda-mps-server"[:15]
"""What the kernel calls the server of MPS, CUDA's multi-process service."""

_PROCESS = struct.Struct("=IxxxxQII")  # pid, memory, GPU instance, compute instance
_KINDS = (("MPSCompute", MPS), ("Compute", "compute"), ("Graphics", "graphics"))  # the most telling first
_UNKNOWN_MEMORY = (1 << 64) - 1
_CLIMBS = 3


class Trust(NamedTuple):
    """What of a driver's process data can be believed from where we are.

    Attributes:
        pids: pids in the lists are pids here.
        memory: memory in the lists is real.
        samples: pids of utilization samples are pids here.
    """

    pids: bool = True
    memory: bool = True
    samples: bool = True


def trust(driver_version: str, *, inner_namespace: bool) -> Trust:
    """What can be believed, by the driver's version, in a PID namespace that is not the host's.

    Before 535.113 a container was shown the host's pids; since then its lists hold its own, since 565.57 with their memory, and since
    570.86 the samples too.
    """
    if not inner_namespace:
        return Trust()
    parts = [int(part) for part in driver_version.split(".")[:2] if part.isdecimal()]
    version = tuple(parts) if parts else (0,)
    return Trust(pids=version >= (535, 113), memory=version >= (565, 57), samples=version >= (570, 86))


def in_inner_namespace() -> bool:
    """Whether this process sees other pids than the host does."""
    try:
        return os.readlink("/proc/self/ns/pid") != INITIAL_PID_NAMESPACE
    except OSError:
        return False


class Member(NamedTuple):
    """A process: when it started (UTC), and whether it belongs to the run; null where that cannot be told.

    A server of MPS works for its clients, whoever they are, so by itself it belongs to nobody. Where the driver tells the host's pids, `pid`
    is what a process of the run is called here.
    """

    start_time_ns: int | None = None
    in_run: bool | None = None
    serves_mps: bool = False
    pid: int | None = None


class Family:
    """Tells which processes descend from the recorder, by climbing from parent to parent in /proc.

    A pid and its start are remembered: a process stays in the tree, because the recorder adopts its orphans, and a reused pid has another
    start.

    Attributes:
        unknown: why it cannot be told whose any process is, or an empty string.
        outer: the driver's pids are the host's, and so is /proc, in which they are found.
    """

    def __init__(
        self,
        root_pid: int,
        *,
        visible: bool = True,
        proc: _proc.Proc | None = None,
        attached: _proc.Attached | None = None,
    ) -> None:
        """Take the recorder's pid, whether the driver's pids are pids here, and what belongs to the run from outside."""
        self._proc = proc or _proc.Proc()
        outer_pid = None if visible else self._proc.outer_pid()
        self.outer = outer_pid is not None
        self.unknown = ""
        if not visible and not self.outer:
            self.unknown = "this driver shows containers the host's pids"
        elif not self.outer:
            self.unknown = self._proc.why_not()
        self._attached = attached or _proc.Attached()
        self._root_pid = root_pid if outer_pid is None else outer_pid
        self._known: dict[int, tuple[int, Member]] = {}

    def member(self, pid: int) -> Member:
        """What is known of a process at this moment."""
        if self.unknown:
            return Member()
        stat = self._proc.stat(pid)
        known = self._known.get(pid)
        if stat is None:
            return known[1] if known else Member()  # it has just ended, or cannot be seen from here
        if known and known[0] == stat.start_ticks:
            return known[1]
        in_run = self._descends(stat)
        here = self._proc.inner_pid(pid) if self.outer and in_run else None
        member = Member(_proc.start_time_ns(stat.start_ticks), in_run, stat.name == MPS_SERVER, here)
        if member.in_run is not None:
            self._known[pid] = (stat.start_ticks, member)
        return member

    def forget_all_but(self, pids: set[int]) -> None:
        """Drop what is remembered of processes that are on no GPU any more."""
        gone = [pid for pid, (_, member) in self._known.items() if pid not in pids and member.pid not in pids]
        for pid in gone:
            del self._known[pid]

    def _descends(self, stat: _proc.Stat) -> bool | None:
        for _ in range(_CLIMBS):
            above: _proc.Stat | None = stat
            while above is not None:
                if above.ppid == self._root_pid or self._attached.covers(above):
                    return True
                if above.ppid <= 1:
                    return False
                above = self._proc.stat(above.ppid)
            again = self._proc.stat(stat.pid)  # a parent went away meanwhile: by now somebody adopted its child
            if again is None or again.start_ticks != stat.start_ticks:
                return None
            stat = again
        return None


class _List(NamedTuple):
    kind: str
    function: Callable[..., int]


class ProcessPoller(Paced):
    """Polls the process lists of one device, and what its processes did.

    Attributes:
        device: the device.
        unavailable: why nothing can be listed, or an empty string.
        tally: impossible values, counted.
        usage: what the processes did, or null where that cannot be told.
        mps: whether work goes through MPS: `clients` (the driver lists them), `server` (and nobody else is told), or an empty string.
        spent_ns: what the last poll took of the driver's time.
    """

    __slots__ = (
        "_entries", "_handle", "_lists", "_nvml", "_trust", "device", "mps", "spent_ns", "tally", "unavailable", "usage",
    )  # fmt: skip

    def __init__(self, nvml: Nvml, device: Device, trusted: Trust, tally: Tally) -> None:
        """Try every list once.

        Raises:
            GpuGoneError: the GPU is not there.
        """
        super().__init__("process list")
        self.device = device
        self.unavailable = ""
        self.tally = tally
        self.spent_ns = 0
        self.mps = ""
        self._nvml = nvml
        self._handle = as_pointer(device.handle)
        self._trust = trusted
        self._entries = Entries(nvml)
        self._lists = [found for name, kind in _KINDS if (found := self._try(name, kind))]
        if not any(found.kind == "compute" for found in self._lists):
            self.unavailable = self.unavailable or describe(3)
        tells = trusted.samples and not self.unavailable
        self.usage = (UsageSamples(nvml, self._handle, tally) or None) if tells else None

    def poll(self, time_ns: int, mono_ns: int, family: Family) -> tuple[list[GpuProcessRow], bool]:
        """A row for every process on the device, and whether the lists were complete.

        Raises:
            GpuGoneError: the GPU is not there any more.
            SessionLostError: the session is closed.
        """
        listed, complete = self.listed()
        usage = None
        if self.usage is not None:
            answered = self.usage.gather(mono_ns)
            self.spent_ns += self.usage.entries.spent_ns
            usage = self.usage.of_listed(listed, complete=complete) if answered else None
        self.took(self.spent_ns)
        rows = []
        members = {pid: family.member(pid) for pid in listed}
        clients = [members[pid] for pid, (kind, _) in listed.items() if kind == MPS and not members[pid].serves_mps]
        self.mps = "clients" if clients else "server" if any(one.serves_mps for one in members.values()) else ""
        for pid, (kind, memory) in listed.items():
            member = members[pid]
            used = usage.get(pid, Usage(0, 0, 0)) if usage is not None else None
            rows.append(
                GpuProcessRow(
                    time_ns,
                    mono_ns,
                    self.device.uuid,
                    pid if member.pid is None else member.pid,
                    member.start_time_ns,
                    _served(clients) if member.serves_mps else member.in_run,
                    kind,
                    memory,
                    used.sm_pct if used and used.samples else None,
                    used.memory_pct if used and used.samples else None,
                    used.samples if used else None,
                )
            )
        return rows, complete

    def listed(self) -> tuple[dict[int, tuple[str, int | None]], bool]:
        """Kind and memory of every process on the device by pid, and whether every list answered."""
        self._entries.spent_ns = 0
        found: dict[int, tuple[str, int | None]] = {}
        complete = not self.unavailable
        for one in self._lists:
            code = self._list(one.function)
            check_alive(code)
            if code != SUCCESS:
                complete = False
                continue
            for pid, memory, _, _ in self._entries.read(_PROCESS):
                if pid not in found:  # in several lists: the first says what it is, all say the same memory
                    found[pid] = (one.kind, self._memory(memory))
        self.spent_ns = self._entries.spent_ns
        return found, complete

    def _memory(self, value: int) -> int | None:
        if value == _UNKNOWN_MEMORY or not self._trust.memory:
            return None
        total = self.device.facts.get("memory_total_bytes")
        if value > (total or _UNKNOWN_MEMORY):
            self.tally.counter("process memory_used_bytes")()
            return None
        return value

    # Calling.

    def _list(self, function: Callable[..., int]) -> int:
        entries = self._entries
        return entries.fill(
            _PROCESS.size, lambda: function(self._handle, ctypes.byref(entries.count), entries.buffer), "process lists"
        )

    def _try(self, name: str, kind: str) -> _List | None:
        """The newest form of a list that the driver has."""
        for version in _versions(self._nvml):
            function = self._nvml.bind(f"nvmlDeviceGet{name}RunningProcesses_{version}")
            if function is None:
                continue
            code = self._list(function)
            check_alive(code)
            if not refuses(code):
                return _List(kind, function)
            if code == NO_PERMISSION:  # then there may be processes that nobody tells of
                self.unavailable = describe(code)
                return None
        return None


def _served(clients: Sequence[Member]) -> bool | None:
    """Whom a server of MPS works for: the run, if one of the clients is the run's; unknown where the driver lists none of them."""
    if any(client.in_run for client in clients):
        return True
    return False if clients and all(client.in_run is False for client in clients) else None


def _versions(nvml: Nvml) -> tuple[str, ...]:
    """The forms of the process list to try. Some drivers of the 535 branch have a longer entry in the third form than all others."""
    longer = nvml.bind("nvmlDeviceGetConfComputeMemSizeInfo") and not nvml.bind("nvmlDeviceGetRunningProcessDetailList")
    return ("v2",) if longer else ("v3", "v2")
