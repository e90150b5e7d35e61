"""Simulated GPUs (`--gpus sim:MODEL:N`), for demos and for trying things out where there is no GPU.

The model, in one paragraph: what a process of the run computes on the CPU, it is taken to compute on the simulated GPUs that its own
CUDA_VISIBLE_DEVICES shows it. A second of CPU time is a second of a GPU's utilization; what does not fit on one GPU goes to the next. A
process holds a GPU from its first work on it to its end. Power goes from idle to the board's limit in proportion to utilization, and
energy is its exact integral. What a simulation has nothing to say about (clocks, temperature, bus traffic) is null.
"""

import socket
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpucost.collectors import _proc, selection
from gpucost.collectors.base import Context, SourceUnavailable, Tier
from gpucost.errors import UsageError
from gpucost.schema import GpuProcessRow, GpuRow

if TYPE_CHECKING:
    from gpucost.specs import Spec

_PREFIX = "sim:"
MAX_GPUS = 64

START_UP_CPU_S = 0.05
"""The first CPU seconds of a process on a GPU are its own start-up: they load nothing and hold nothing."""

SLACK_S = 0.02
"""CPU time above what a GPU has room for waits this long before it is taken for work of a second GPU: CPU clocks advance in ticks of 10 ms."""

IDLE_POWER_SHARE = 0.10
"""Of the board's power limit: what an idle data-centre GPU draws, roughly."""

CONTEXT_BYTES = 500 * 1024**2
"""What a process's mere presence takes of a GPU's memory."""

RESERVED_BYTES = 512 * 1024**2
"""What the simulated driver keeps for itself."""

MEMORY_PER_RSS = 32
"""Bytes of GPU memory for each byte of the process's resident memory."""

_PROCESSES_HZ = 1.0
_NOTHING_S = 1e-9  # what is left of a sum of binary fractions

Key = tuple[int, int]
"""A process: its pid, and its start in clock ticks."""


@dataclass(frozen=True, slots=True)
class Load:
    """One process at one step: who it is, its CPU seconds so far, and its resident memory."""

    key: Key
    cpu_s: float
    rss_bytes: int


@dataclass(slots=True)
class SimulatedGpu:
    """One device: what it did in the last step, and its energy so far.

    Attributes:
        memory_bytes: None where the model's is not known; so with `tdp_w`.
        busy: share of the last step in which it was at work (0 to 1).
        energy_j: exact integral of the power since the simulation began.
        holders: the processes on it, and the GPU-seconds that each has used so far.
    """

    uuid: str
    memory_bytes: int | None
    tdp_w: float | None
    busy: float = 0.0
    energy_j: float = 0.0
    holders: dict[Key, float] = field(default_factory=dict)

    @property
    def power_w(self) -> float | None:
        """Between idle and the limit, in proportion to the last step's utilization."""
        if self.tdp_w is None:
            return None
        return self.tdp_w * (IDLE_POWER_SHARE + (1 - IDLE_POWER_SHARE) * self.busy)

    def advance(self, dt_s: float, used_s: float) -> None:
        """Go on by `dt_s` seconds, `used_s` of them at work."""
        self.busy = min(used_s / dt_s, 1.0)
        self.energy_j += (self.power_w or 0.0) * dt_s

    def process_bytes(self, rss_bytes: int) -> int:
        """What a process with this resident memory takes of the device's."""
        wanted = CONTEXT_BYTES + MEMORY_PER_RSS * rss_bytes
        return wanted if self.memory_bytes is None else min(wanted, self.memory_bytes - RESERVED_BYTES)

    def used_bytes(self, rss: Mapping[Key, int]) -> int:
        """Memory in use, the driver's own reserve included."""
        wanted = RESERVED_BYTES + sum(self.process_bytes(rss.get(key, 0)) for key in self.holders)
        return wanted if self.memory_bytes is None else min(wanted, self.memory_bytes)


@dataclass(slots=True)
class _Known:
    """What is remembered of a process between steps.

    Attributes:
        start_up_s: how much of its CPU time was taken for its start-up.
        waiting_s: CPU time that found no room yet.
        home: the GPU that it works on first.
        worked: it had work in the last step.
        arriving_s: by GPU that it does not hold, what has spilled over to it in a row of steps.
    """

    cpu_s: float = 0.0
    start_up_s: float = 0.0
    waiting_s: float = 0.0
    home: int | None = None
    worked: bool = False
    arriving_s: dict[int, float] = field(default_factory=dict)

    def take_work_s(self, cpu_s: float) -> float:
        """The work of one step, now that the process has used so much CPU: what is new or waits, without the start-up."""
        work_s = max(cpu_s - self.cpu_s, 0.0)
        start_up_s = min(work_s, START_UP_CPU_S - self.start_up_s)
        self.cpu_s = cpu_s
        self.start_up_s += start_up_s
        work_s += self.waiting_s - start_up_s
        self.waiting_s = 0.0
        self.worked = work_s > _NOTHING_S
        return work_s if self.worked else 0.0


class Simulation:
    """The devices and the processes on them. Pure: the same steps give the same figures."""

    def __init__(self, gpus: Sequence[SimulatedGpu]) -> None:
        self.gpus = list(gpus)
        self._known: dict[Key, _Known] = {}

    def step(self, dt_s: float, loads: Iterable[Load], visible: Callable[[Load], Sequence[int]]) -> None:
        """Go on by `dt_s` seconds (more than 0).

        Args:
            dt_s: time since the last step.
            loads: every process that is alive.
            visible: the GPUs that a process can see, in its order; asked only about processes that have work.
        """
        by_age = sorted(loads, key=lambda load: (load.key[1], load.key[0]))
        alive = {load.key for load in by_age}
        self._known = {load.key: self._known.get(load.key, _Known()) for load in by_age}
        for gpu in self.gpus:
            gpu.holders = {key: used for key, used in gpu.holders.items() if key in alive}
        room = [dt_s] * len(self.gpus)
        for load in by_age:
            known = self._known[load.key]
            work_s = known.take_work_s(load.cpu_s)
            seen = visible(load) if work_s else ()
            if seen:
                known.waiting_s = self._place(load.key, known, work_s, room, seen)
        for gpu, left in zip(self.gpus, room, strict=True):
            gpu.advance(dt_s, dt_s - left)

    def _place(self, key: Key, known: _Known, work_s: float, room: list[float], seen: Sequence[int]) -> float:
        """Put a process's work on the GPUs it sees, its home first; returns what waits for the next step."""
        home = known.home
        if home is None or home not in seen:
            home = known.home = self._choose_home(room, seen)
        self.gpus[home].holders.setdefault(key, 0.0)
        work_s = self._use(key, work_s, room, home)
        arriving_s: dict[int, float] = {}
        for index in seen:
            if work_s <= SLACK_S:
                break
            if index == home:
                continue
            if key in self.gpus[index].holders:
                work_s = self._use(key, work_s, room, index)
                continue
            arrives_s = min(work_s, room[index])
            arriving_s[index] = known.arriving_s.get(index, 0.0) + arrives_s
            if arriving_s[index] > START_UP_CPU_S:
                self.gpus[index].holders[key] = 0.0  # it works there from the next step on
            work_s -= arrives_s
        known.arriving_s = arriving_s
        return min(work_s, SLACK_S)

    def _use(self, key: Key, work_s: float, room: list[float], index: int) -> float:
        """Work on one GPU as far as there is room; returns what is left over."""
        used_s = min(work_s, room[index])
        room[index] -= used_s
        self.gpus[index].holders[key] += used_s
        return work_s - used_s

    def _choose_home(self, room: Sequence[float], seen: Sequence[int]) -> int:
        """The first GPU that is no working process's home, else the one with the most room."""
        taken = {known.home for known in self._known.values() if known.worked}
        return next((index for index in seen if index not in taken), max(seen, key=lambda index: room[index]))


def parse(gpus: str) -> "tuple[Spec, int]":
    """Read a `--gpus` value of simulated devices, `sim:MODEL` or `sim:MODEL:N`: what the devices are, and how many.

    Raises:
        UsageError: there is no such model, or N is not a number from 1 to 64.
    """
    from gpucost.specs import find

    text = gpus.strip()
    text = text[len(_PREFIX) :] if text.lower().startswith(_PREFIX) else text
    model, colon, number = text.partition(":")
    count = int(number) if number.isascii() and number.isdecimal() and len(number) <= len(str(MAX_GPUS)) else 0
    if colon and not 1 <= count <= MAX_GPUS:
        raise UsageError(
            f"--gpus {gpus}: `{number}` is no number from 1 to {MAX_GPUS}", hint="sim:MODEL:N, as in sim:h100:2"
        )
    return find(model), count if colon else 1


class SimCollector:
    """Rows of `gpu` and `gpu_process` from simulated devices."""

    name = "sim"

    def __init__(self, proc: _proc.Proc | None = None) -> None:
        self._proc = proc or _proc.Proc()
        self._context: Context | None = None
        self._tree: _proc.Tree | None = None
        self._simulation = Simulation(())
        self._identities: list[selection.Identity] = []
        self._stats: dict[Key, _proc.Stat] = {}
        self._stepped_ns = 0
        self._steps = 0
        self._polled: dict[tuple[str, Key], float] = {}
        self._polled_ns = 0
        self._polled_steps = 0

    def start(self, context: Context) -> Sequence[Tier]:
        """Make the devices and describe them.

        Raises:
            SourceUnavailable: there is no /proc that shows the command's processes, or no such model.
        """
        if problem := self._proc.why_not():
            raise SourceUnavailable(f"no GPUs are simulated: {problem}", permanent=True)
        try:
            spec, count = parse(context.gpus)
        except UsageError as error:
            raise SourceUnavailable(str(error), permanent=True, hint=error.hint) from error
        uuids = [_uuid(spec.name, index) for index in range(count)]
        self._context = context
        self._identities = [selection.Identity(one, index, spec.name) for index, one in enumerate(uuids)]
        self._simulation = Simulation([SimulatedGpu(one, spec.memory_bytes, spec.tdp_w) for one in uuids])
        self._tree = _proc.Tree(context.root_pid, own_pids=_proc.own_pids(context.status), proc=self._proc)
        self._stepped_ns = self._polled_ns = context.clock.mono_ns()
        context.describe("gpus", [_description(spec, identity) for identity in self._identities])
        return [
            Tier("devices", round(1e9 / context.hz)),
            Tier("processes", round(1e9 / min(_PROCESSES_HZ, context.hz))),
        ]

    def sample(self, tier: str) -> None:
        """Go on to now and emit a row of each device, or the processes on them since the last poll."""
        context = self._context
        if context is None:
            return
        time_ns, mono_ns = context.clock.time_ns(), context.clock.mono_ns()
        if tier == "devices":
            self._step(mono_ns)
            self._emit_devices(context, time_ns, mono_ns)
        else:
            self._emit_processes(context, time_ns, mono_ns)

    def stop(self) -> None:
        """Nothing is open between ticks."""
        self._context = None

    def _step(self, mono_ns: int) -> None:
        if self._tree is None or mono_ns <= self._stepped_ns:
            return
        self._stats = {(stat.pid, stat.start_ticks): stat for stat in self._tree.refresh() if stat.state not in "ZX"}
        loads = [
            Load(key, stat.cpu_ticks / _proc.ticks_per_second(), stat.rss_pages * _proc.page_bytes())
            for key, stat in self._stats.items()
        ]
        self._simulation.step((mono_ns - self._stepped_ns) / 1e9, loads, self._visible)
        self._stepped_ns = mono_ns
        self._steps += 1

    def _visible(self, load: Load) -> tuple[int, ...]:
        """The simulated GPUs that a process sees, by the environment that its program was started with (or else the command's)."""
        environ: Mapping[str, str] | None = self._proc.environ(load.key[0])
        if environ is None:
            environ = self._context.environ if self._context else {}
        return tuple(identity.index for identity in selection.visible(self._identities, environ)[0])

    def _emit_devices(self, context: Context, time_ns: int, mono_ns: int) -> None:
        rss = {key: stat.rss_pages * _proc.page_bytes() for key, stat in self._stats.items()}
        for gpu in self._simulation.gpus:
            row = GpuRow(
                time_ns,
                mono_ns,
                gpu.uuid,
                gpu_util_pct=100 * gpu.busy,
                memory_used_bytes=gpu.used_bytes(rss),
                power_w=gpu.power_w,
                energy_j=None if gpu.tdp_w is None else gpu.energy_j,
                processes=len(gpu.holders),
                run_processes=len(gpu.holders),
            )
            context.emit("gpu", row)

    def _emit_processes(self, context: Context, time_ns: int, mono_ns: int) -> None:
        elapsed_s = (self._stepped_ns - self._polled_ns) / 1e9
        used = {(gpu.uuid, key): used_s for gpu in self._simulation.gpus for key, used_s in gpu.holders.items()}
        for gpu in self._simulation.gpus:
            for key in gpu.holders:
                since_s = used[gpu.uuid, key] - self._polled.get((gpu.uuid, key), 0.0)
                row = GpuProcessRow(
                    time_ns,
                    mono_ns,
                    gpu.uuid,
                    pid=key[0],
                    start_time_ns=_proc.start_time_ns(key[1]),
                    in_run=True,
                    kind="compute",
                    memory_used_bytes=gpu.process_bytes(self._stats[key].rss_pages * _proc.page_bytes()),
                    sm_util_pct=100 * since_s / elapsed_s if elapsed_s > 0 else None,
                    util_samples=self._steps - self._polled_steps,
                )
                context.emit("gpu_process", row)
        self._polled, self._polled_ns, self._polled_steps = used, self._stepped_ns, self._steps


def _uuid(model: str, index: int) -> str:
    """One UUID for each device of each host, the same in every run."""
    return f"GPU-SIM-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{socket.gethostname()}/{model}/{index}')}"


def _description(spec: "Spec", identity: selection.Identity) -> dict[str, Any]:
    """A device as the manifest holds it."""
    return {
        "uuid": identity.uuid,
        "name": spec.name,
        "index": identity.index,
        "held": True,
        "simulated": True,
        "memory_total_bytes": spec.memory_bytes,
        "memory_reserved_bytes": RESERVED_BYTES,
        "power_limit_w": spec.tdp_w,
        "architecture": spec.architecture,
        "compute_capability": spec.compute_capability,
    }
