"""NVIDIA GPUs, through NVML: utilization, memory, power, energy, clocks, and the processes on each.

One session for the whole run. Three tiers: `fast`, at the rate that the user asked for, one row a GPU; `processes`, once a second but no faster
than that, one row a process on a GPU; and `samples`, once a second whatever the rate is, what the driver kept between ticks, before its rings
overflow. The driver's events are waited for in a thread. A GPU that is lost is reported once, the others go on, and it is tried again each
second, then more and more rarely.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gpucost.collectors import _nvml_devices, _nvml_trial, _proc
from gpucost.collectors._nvml_counters import Tally
from gpucost.collectors._nvml_devices import Device
from gpucost.collectors._nvml_events import EventWatcher
from gpucost.collectors._nvml_library import (
    UNINITIALIZED,
    CallFailedError,
    GpuGoneError,
    Nvml,
    SessionLostError,
    describe,
)
from gpucost.collectors._nvml_limits import MPS_TEXTS, limits
from gpucost.collectors._nvml_pacing import Paced, Pacer, Retry
from gpucost.collectors._nvml_periods import PeriodFinder
from gpucost.collectors._nvml_processes import Family, ProcessPoller, Trust, in_inner_namespace, trust
from gpucost.collectors._nvml_reader import COLUMN, GpuReader
from gpucost.collectors._nvml_samples import SampleDrain
from gpucost.collectors.base import Context, SourceUnavailable, Tier
from gpucost.collectors.selection import choose, parse_gpus
from gpucost.errors import UsageError
from gpucost.schema import GpuProcessRow, GpuRow

FAST = "fast"
PROCESSES = "processes"
SAMPLES = "samples"

_NS = 1_000_000_000
_SAMPLES_NS = _NS  # rings of some cards hold 2.4 s of power
_TALLY_EVERY_NS = 60 * _NS
_PUBLISH_FIRST, _PUBLISH_EVERY = 10, 60  # drains of the samples tier, which are a second apart
_STRAYS_EVERY = 10  # polls between two looks at the GPUs that the run does not hold
_PROCESSES_AT = COLUMN["processes"]
_RUN_PROCESSES_AT = COLUMN["run_processes"]


class _Sampled:
    """One device that is sampled: its readers while it answers, and when to try it again while it does not."""

    def __init__(self, device: Device, context: Context, tally: Tally) -> None:
        self.device = device
        self.tally = tally
        self.reader: GpuReader | None = None
        self.poller: ProcessPoller | None = None
        self.drain: SampleDrain | None = None
        self.counts: tuple[int | None, int | None] | None = None  # from the last poll, for the next row
        self.away = False
        self.losses = 0
        self.mps_told: set[str] = set()
        self.retry = Retry(context.call_budget_pct / 100)
        self.tallied_ns: int | None = None

        def failed(what: str, code: int) -> None:
            context.report("driver_call_failed", f"{device.title}: {what}: {describe(code)}", subject=device.uuid)

        self.failed: Callable[[str, int], None] = failed


class NvmlCollector:
    """Rows of `gpu` and `gpu_process` for the GPUs that the run holds."""

    name = "nvml"

    def __init__(self) -> None:
        self._context: Context | None = None
        self._nvml: Nvml | None = None
        self._sampled: list[_Sampled] = []
        self._strays: list[ProcessPoller] = []
        self._watcher: EventWatcher | None = None
        self._finder: PeriodFinder | None = None
        self._sensors: dict[str, dict[str, int]] = {}
        self._tallies: dict[str, Tally] = {}  # by UUID; they outlive a lost GPU and a lost session
        self._polls = self._drains = 0

    def start(self, context: Context) -> Sequence[Tier]:
        """Open the session and find the GPUs; may hang as long as the driver does.

        Raises:
            SourceUnavailable: there is no driver, it refuses, it lists no GPU, or `--gpus` names one that is not there.
        """
        self.stop()
        self._context = context
        self._fast_ns = round(_NS / context.hz)
        self._processes_ns = max(_NS, self._fast_ns)
        if parse_gpus(context.gpus).simulated is not None:
            return []
        self._open(context)
        if not self._sampled:
            return []
        # In this order, so that what the processes tier counts goes into the row after it.
        return [Tier(PROCESSES, self._processes_ns), Tier(FAST, self._fast_ns), Tier(SAMPLES, _SAMPLES_NS)]

    def sample(self, tier: str) -> None:
        """Read every GPU, or every process list, once.

        Raises:
            SessionLostError: the driver closed the session; the next sample opens another.
        """
        context = self._context
        if context is None:
            return
        try:
            if self._nvml is None:
                self._open(context)
            if tier == PROCESSES:
                self._sample_processes(context)
            elif tier == SAMPLES:
                self._drain_samples(context)
            else:
                self._sample_fast(context)
        except SessionLostError:
            self._nvml = None
            raise

    def stop(self) -> None:
        """Say what was still to be said, and close the session."""
        if self._context is not None:
            for one in self._sampled:
                self._tell_tally(self._context, one, 0)
                if one.reader is not None:
                    one.reader.close()
            self._publish_tallies(self._context)
            if self._nvml is not None:
                self._publish(self._context, self._nvml)
        waiting = [thread for thread in (self._watcher, self._finder) if thread is not None and not thread.end()]
        if self._nvml is not None and not waiting:  # a session is not closed under a call that is under way
            self._nvml.close()
        self._nvml = self._watcher = self._finder = None
        self._sampled = []
        self._strays = []

    # Opening.

    def _open(self, context: Context) -> None:
        nvml = Nvml.open(context.meter)
        self._nvml = nvml
        versions = nvml.versions()
        context.describe("driver", versions)
        devices = _nvml_devices.discover(nvml, context.report)
        if not devices:
            raise SourceUnavailable(
                "the NVIDIA driver lists no GPU that can be opened: GPUs are not recorded", permanent=True
            )
        held, sampled = self._choose(context, devices)
        chosen = [device for device in devices if device.uuid in sampled]
        context.describe("gpus", [{**device.facts, "held": device.uuid in held} for device in chosen])
        self._trust = trust(versions.get("driver", ""), inner_namespace=in_inner_namespace())
        # A pid to attach is one of ours, and is not looked for among the host's.
        attached = _proc.Attached(context.attached_pids if self._trust.pids else (), context.attached_names)
        self._family = Family(context.root_pid, visible=self._trust.pids, attached=attached)
        if self._family.outer:
            self._trust = Trust()
        periods = {FAST: self._fast_ns, PROCESSES: self._processes_ns, SAMPLES: _SAMPLES_NS}
        self._pacers = {tier: Pacer(period_ns, context.call_budget_pct / 100) for tier, period_ns in periods.items()}
        self._sampled = [_Sampled(one, context, self._tallies.setdefault(one.uuid, Tally())) for one in chosen]
        for one in self._sampled:
            self._open_device(context, nvml, one)
        self._start_threads(context, nvml, devices)
        self._strays = self._open_strays(nvml, [device for device in devices if device.uuid not in sampled])
        if self._family.unknown:
            context.report(
                "processes_unknown", f"{self._family.unknown}: which processes on the GPUs are the run's is unknown"
            )

    def _start_threads(self, context: Context, nvml: Nvml, devices: Sequence[Device]) -> None:
        """What waits or takes its time goes on beside the sampling."""
        wanted = {one.device.identity.parent_uuid or one.device.uuid for one in self._sampled}
        whole = [device for device in devices if device.uuid in wanted]
        self._watcher = EventWatcher(nvml, whole, context.report)
        if self._watcher.watched:
            self._watcher.start()

        def found(uuid: str, period_ns: int) -> None:
            self._sensors.setdefault(uuid, {})["energy_j"] = period_ns

        self._finder = PeriodFinder(
            nvml, [(device.identity.name, device.uuid, device.handle) for device in whole], found
        )
        self._finder.start()

    def _choose(self, context: Context, devices: Sequence[Device]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        identities = [device.identity for device in devices]
        try:
            choice = choose(identities, parse_gpus(context.gpus), context.environ, context.bill)
        except UsageError as error:
            raise SourceUnavailable(f"{error}: GPUs are not recorded", permanent=True, hint=error.hint) from error
        if choice.notes:
            context.report("gpu_selection", "; ".join(choice.notes))
        return choice.held, choice.sampled

    def _open_device(self, context: Context, nvml: Nvml, one: _Sampled) -> bool:
        """Find out what a device can tell; whether it answers at all."""
        device = one.device
        try:
            one.reader = _nvml_trial.open_reader(nvml, device, self._fast_ns, one.tally)
            seen_ns = _NS if "power_w" in one.reader.unavailable else self._fast_ns
            one.drain = SampleDrain(nvml, device, one.tally, power_every_ns=seen_ns)
            if not device.identity.mig_enabled:  # a GPU in MIG mode has no processes of its own
                one.poller = ProcessPoller(nvml, device, self._trust, one.tally)
        except GpuGoneError as error:
            self._lost(context, one, error)
            return False
        self._tell_limits(context, one)
        return True

    def _tell_limits(self, context: Context, one: _Sampled) -> None:
        """Say what this device cannot tell, and why."""
        if one.reader is None:
            return
        for kind, text in limits(one.device, one.reader, one.poller, one.drain):
            context.report(kind, f"{one.device.title}: {text}", subject=one.device.uuid)

    def _open_strays(self, nvml: Nvml, devices: Sequence[Device]) -> list[ProcessPoller]:
        """The GPUs that the run does not hold, in case it uses one all the same."""
        found = []
        for device in devices:
            if device.identity.mig_enabled:
                continue
            try:
                poller = ProcessPoller(nvml, device, Trust(samples=False), Tally())
            except CallFailedError:
                continue
            if not poller.unavailable:
                found.append(poller)
        return found

    # The fast tier.

    def _sample_fast(self, context: Context) -> None:
        clock, emit = context.clock, context.emit
        pacer, spent_ns = self._pacers[FAST], 0
        for one in self._sampled:
            if one.reader is None and not self._try_again(context, one):
                continue
            reader = one.reader
            if reader is None:
                continue
            try:
                row, took_ns = reader.read(clock.time_ns(), clock.mono_ns(), one.failed, watch=pacer.watching)
            except GpuGoneError as error:
                self._lost(context, one, error)
                continue
            spent_ns += took_ns
            if row is not None:
                if one.counts is not None:
                    row[_PROCESSES_AT], row[_RUN_PROCESSES_AT] = one.counts
                    one.counts = None
                emit("gpu", GpuRow._make(row))
            if reader.happened:
                self._tell_happened(context, one, reader)
            if one.tally.changed:
                self._tell_tally(context, one, _TALLY_EVERY_NS)
        if pacer.wants_review(spent_ns):
            self._review(context, FAST, [probe for one in self._sampled if one.reader for probe in one.reader.probes])

    def _review(self, context: Context, tier: str, asked: Sequence[Paced]) -> None:
        """The driver takes too much of a tier's time: ask less often for what costs much, and say so."""
        for one in self._pacers[tier].review(asked):
            what = f"{one.label} takes {one.cost_ns / 1e6:.1f} ms"
            context.report(
                "driver_call_slow", f"{what}: asked at every {one.every}th {tier} sample from now on", subject=one.label
            )

    def _tell_happened(self, context: Context, one: _Sampled, reader: GpuReader) -> None:
        for kind, message in reader.happened:
            context.report(kind, f"{one.device.title}: {message}", subject=one.device.uuid)
        reader.happened.clear()

    def _tell_tally(self, context: Context, one: _Sampled, at_most_every_ns: int) -> None:
        """Say how many values were impossible: at once, then once a minute while there are more."""
        if not one.tally.changed:
            return
        now_ns = context.clock.mono_ns()
        if one.tallied_ns is None or now_ns - one.tallied_ns >= at_most_every_ns:
            one.tallied_ns = now_ns
            context.report("garbage_value", f"{one.device.title}: {one.tally.text()}", subject=one.device.uuid)

    # Lost, and back.

    def _lost(self, context: Context, one: _Sampled, error: GpuGoneError) -> None:
        if not one.away:
            one.away = True
            one.losses += 1
            one.retry.lost(context.clock.mono_ns())
            again = f" (for the {one.losses}. time)" if one.losses > 1 else ""
            context.report("gpu_lost", f"{one.device.title}: {error}{again}; the others go on", subject=one.device.uuid)
        one.reader = one.poller = one.drain = one.counts = None

    def _try_again(self, context: Context, one: _Sampled) -> bool:
        """Whether a lost device answers again, if it is time to ask."""
        nvml = self._nvml
        if nvml is None or not one.retry.is_due(context.clock.mono_ns()):
            return False
        spent_ns = nvml.meter.wall_ns
        if not self._reopen(context, nvml, one):
            one.retry.failed(context.clock.mono_ns(), nvml.meter.wall_ns - spent_ns)
            return False
        one.away = False
        seconds = one.retry.seconds_away(context.clock.mono_ns())
        context.report("gpu_back", f"{one.device.title} answers again after {seconds:.0f} s", subject=one.device.uuid)
        return True

    def _reopen(self, context: Context, nvml: Nvml, one: _Sampled) -> bool:
        try:
            one.device.handle = nvml.ask("nvmlDeviceGetHandleByUUID", one.device.uuid)
        except CallFailedError as error:
            if error.code == UNINITIALIZED:
                raise SessionLostError(error.code) from error
            return False
        return self._open_device(context, nvml, one)

    # The samples tier.

    def _drain_samples(self, context: Context) -> None:
        """Empty the driver's rings; at a low rate, this is also when a lost GPU is tried again."""
        spent_ns = 0
        for one in self._sampled:
            if one.reader is None and not self._try_again(context, one):
                continue
            try:
                spent_ns += self._drain(context, one)
            except GpuGoneError as error:
                self._lost(context, one, error)
        self._drains += 1
        if self._nvml is not None and (self._drains == _PUBLISH_FIRST or self._drains % _PUBLISH_EVERY == 0):
            self._publish(context, self._nvml)
        if self._pacers[SAMPLES].wants_review(spent_ns):
            usages = [one.poller.usage for one in self._sampled if one.poller and one.poller.usage]
            self._review(context, SAMPLES, [*(one.drain for one in self._sampled if one.drain), *usages])

    def _drain(self, context: Context, one: _Sampled) -> int:
        """Empty the rings of one device; the nanoseconds spent in the driver."""
        clock, spent_ns = context.clock, 0
        if one.drain and one.drain.is_due():
            for row in one.drain.drain(clock.time_ns(), clock.mono_ns()):
                context.emit("gpu_sample", row)
            spent_ns += one.drain.spent_ns
        usage = one.poller.usage if one.poller else None
        if usage is not None and usage.is_overdue(clock.mono_ns()):
            usage.gather(clock.mono_ns())
            usage.took(usage.entries.spent_ns)
            spent_ns += usage.entries.spent_ns
        return spent_ns

    def _publish(self, context: Context, nvml: Nvml) -> None:
        """What the driver's calls cost so far, and how often its sensors are renewed, for the manifest."""
        for one in self._sampled:
            if one.drain:
                self._sensors.setdefault(one.device.uuid, {}).update(one.drain.periods_ns())
        context.describe("driver_calls", nvml.costs.facts())
        context.describe("sensor_periods_ns", {uuid: dict(periods) for uuid, periods in self._sensors.items()})
        self._publish_tallies(context)

    def _publish_tallies(self, context: Context) -> None:
        """What was left out, and how much of it, for the manifest."""
        left_out = {uuid: facts for uuid, tally in self._tallies.items() if (facts := tally.facts())}
        if left_out:
            context.describe("left_out", left_out)

    # The processes tier.

    def _sample_processes(self, context: Context) -> None:
        clock, spent_ns = context.clock, 0
        seen: set[int] = set()
        pollers = [(one, one.poller) for one in self._sampled if one.poller is not None]
        for one, poller in pollers:
            if not poller.is_due():
                continue
            try:
                rows, complete = poller.poll(clock.time_ns(), clock.mono_ns(), self._family)
            except GpuGoneError as error:
                self._lost(context, one, error)
                continue
            spent_ns += poller.spent_ns
            one.counts = _count(rows) if complete else None
            self._tell_mps(context, one, poller)
            seen.update(row.pid for row in rows)
            for row in rows:
                context.emit("gpu_process", row)
        self._polls += 1
        if self._polls % _STRAYS_EVERY == 1:
            seen |= self._look_for_strays(context)
        self._family.forget_all_but(seen)
        if self._pacers[PROCESSES].wants_review(spent_ns):
            self._review(context, PROCESSES, [poller for _, poller in pollers])

    def _tell_mps(self, context: Context, one: _Sampled, poller: ProcessPoller) -> None:
        """Say once that work goes through MPS, and what that hides."""
        if poller.mps and poller.mps not in one.mps_told:
            one.mps_told.add(poller.mps)
            kind, text = MPS_TEXTS[poller.mps]
            context.report(kind, f"{one.device.title}: {text}", subject=one.device.uuid)

    def _look_for_strays(self, context: Context) -> set[int]:
        """A process of the run on a GPU that is not held: then the bill does not say what the run used, and the user must know."""
        seen: set[int] = set()
        for poller in self._strays:
            try:
                listed, _ = poller.listed()
            except GpuGoneError:
                continue
            seen |= listed.keys()
            for pid in listed:
                if self._family.member(pid).in_run:
                    message = f"process {pid} of the run is on {poller.device.title}, which is not billed; see --gpus"
                    context.report("gpu_not_held", message, subject=poller.device.uuid)
        return seen


def _count(rows: Sequence[GpuProcessRow]) -> tuple[int | None, int | None]:
    """How many processes there are, and how many are the run's (null when one of them cannot be told)."""
    known = [row.in_run for row in rows]
    mine: Any = None if None in known else sum(map(bool, known))
    return len(rows), mine
