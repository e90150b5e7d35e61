"""A whole benchmark: find the devices, run each, run them together, and make their profiles."""

from __future__ import annotations

import importlib.util
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from gpucost import _version, rundir
from gpucost.bench import derive, host, plan, store
from gpucost.bench.device_run import DeviceRun, Target
from gpucost.bench.model import Profile, Result
from gpucost.bench.progress import Progress, Silent
from gpucost.bench.supervisor import Worker, worker_command, worker_environment
from gpucost.bench.telemetry import Telemetry
from gpucost.collectors.selection import parse_gpus
from gpucost.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpucost.bench.model import Device
    from gpucost.bench.plan import Plan, Test
    from gpucost.schema import GpuRow

T = TypeVar("T")

CPU = "cpu"
_MAX_PEERS = 8
TOGETHER_S = 5.0
"""How long all devices run the same test at once in a full run."""

_COMPUTE = ("gemm", "mem")
_DRIVERS = {
    "cuda": "driver_cuda"
}  # the newest CUDA that the driver serves; `cuda` is the one that torch was built with


@dataclass(slots=True)
class Options:
    """What the user asked for.

    Attributes:
        mode: `quick` or `full`.
        gpus: as typed: `all`, indices, UUIDs, `cpu`, or nothing (the visible GPUs; the CPU where there is none).
        dtypes: as typed; empty means all that make sense.
        allow_shared: measure a device that others are using; nothing of it becomes a ceiling.
    """

    mode: str = plan.QUICK
    gpus: str = ""
    dtypes: list[str] = field(default_factory=list)
    allow_shared: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of one device.

    Attributes:
        label: what to call the device.
        profile: None where it was refused.
        refused: why.
        samples, telemetry: what `gpucost.bench.store.write` takes.
    """

    label: str
    profile: Profile | None = None
    refused: str | None = None
    samples: list[store.Sample] = field(default_factory=list)
    telemetry: list[tuple[str | None, GpuRow]] = field(default_factory=list)


class Session:
    """Runs a benchmark. `plan_maker` and `command` are seams for tests: another plan, another worker."""

    def __init__(
        self,
        options: Options,
        *,
        progress: Progress | None = None,
        telemetry: Telemetry | None = None,
        plan_maker: Callable[[Device], Plan] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self.options = options
        self.look_s = plan.LOOK_S[options.mode]
        self.progress: Progress = progress or Silent()
        self.telemetry = telemetry
        self._plan_maker, self._command = plan_maker, command
        self._spare: Worker | None = None
        self.runs: list[DeviceRun] = []
        self.started_ns = time.time_ns()

    def run(self) -> list[Outcome]:
        """Measure every device that was asked for.

        Raises:
            UsageError: nothing can be measured: torch is missing, or a GPU is asked for that is not there.
        """
        if not self._cpu_wanted and parse_gpus(self.options.gpus).simulated is not None:
            raise UsageError("simulated GPUs cannot be measured", hint="leave --gpus out, or name real ones")
        if importlib.util.find_spec("torch") is None:
            raise UsageError("gpucost bench needs torch, which is not installed", hint="pip install 'gpucost[bench]'")
        telemetry = self.telemetry or Telemetry("" if self._cpu_wanted else self.options.gpus)
        try:
            self.runs = [self._device_run(target, telemetry) for target in self._targets(telemetry)]
            self._measure()
            return [self._outcome(run) for run in self.runs]
        except BaseException:
            self._kill()
            raise
        finally:
            for run in self.runs:
                run.worker.close()
            telemetry.stop()

    def _kill(self) -> None:
        """End every worker now: whoever waits for one gets an answer at once, and nobody starts another."""
        for run in self.runs:
            run.worker.kill()

    def _at_once(self, call: Callable[[DeviceRun], T], runs: Sequence[DeviceRun]) -> list[T]:
        """Call for every run, in a thread each; an interruption ends their workers, so that the threads end too."""
        with ThreadPoolExecutor(len(runs)) as pool:
            try:
                return list(pool.map(call, runs))
            except BaseException:
                self._kill()
                raise

    @property
    def _cpu_wanted(self) -> bool:
        return self.options.gpus.strip().lower() == CPU

    # --- which devices -------------------------------------------------------------------------------------------------------------

    def _targets(self, telemetry: Telemetry) -> list[Target]:
        if self._cpu_wanted:
            telemetry.unavailable = "the CPU is measured"
            return [Target(CPU, CPU)]
        wanted = self.options.gpus.strip()
        if telemetry.start():
            held = {uuid: facts for uuid, facts in telemetry.gpus.items() if facts.get("held", True)}
            if held:
                return [Target("device", uuid, uuid, facts) for uuid, facts in held.items()]
        return self._without_nvml(wanted, telemetry.unavailable)

    def _without_nvml(self, wanted: str, reason: str | None) -> list[Target]:
        """The devices that torch sees where NVML lists none (ROCm, some containers), else the CPU.

        Raises:
            UsageError: GPUs were asked for by name, and there is no driver that knows names.
        """
        if wanted and wanted.lower() != "all":
            raise UsageError(f"--gpus {wanted} cannot be measured: {reason or 'no such GPU is visible'}")
        asker = Worker(self._command or worker_command(CPU), worker_environment(None))
        reply = asker.ask({"kind": "devices"})
        if seen := reply.data.get("devices", []):
            asker.close()
            self.progress.say(f"no NVML ({reason}): power, clocks and other tenants are unknown")
            return [Target("device", _name_of(one, index), _visible(index)) for index, one in enumerate(seen)]
        self.progress.say(f"no GPU ({reason or 'none is visible'}): the CPU is measured")
        self._spare = asker
        return [Target(CPU, CPU)]

    def _device_run(self, target: Target, telemetry: Telemetry) -> DeviceRun:
        known = store.best_for(target.uuid, telemetry.driver.get("driver"))
        idle = None if known is None else known.result("power.idle_no_ctx")
        worker, self._spare = self._spare, None
        if worker is None:
            visible = None if target.visible is None else [target.visible]
            worker = Worker(self._command or worker_command(target.kind), worker_environment(visible))
        return DeviceRun(
            target,
            worker,
            self._plan_maker or self._plan,
            telemetry,
            self.progress,
            known_idle_w=None if idle is None else idle.sustained,
        )

    def _plan(self, device: Device) -> Plan:
        mode = self.options.mode
        if device.kind == CPU:
            return plan.cpu_plan(mode, plan.parse_dtypes(self.options.dtypes, CPU))
        dtypes = plan.parse_dtypes(self.options.dtypes, "device")
        nodes = (host.facts()["numa_nodes"] or 1) > 1 and device.held_numa_node is not None
        return plan.device_plan(mode, dtypes, sm_count=device.sm_count, llc_bytes=device.llc_bytes, several_nodes=nodes)

    # --- in which order ------------------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Quick: all devices at once while they compute, one after the other where they share the host. Full: each alone, then all together."""
        full = self.options.mode == plan.FULL
        if full or len(self.runs) == 1:
            for run in self.runs:
                self._prepare(run)
                self._compute(run, concurrent=False)
                self._rest(run)
        else:
            self._at_once(self._prepare, self.runs)
            self._at_once(partial(self._compute, concurrent=True), self.runs)
            for run in self.runs:
                self._rest(run)
        usable = self._usable()
        if full and len(usable) > 1:
            self._together(usable)
        self._peers(usable, full=full)
        for run in usable:
            run.derive()
        self._outliers(usable)

    def _usable(self) -> list[DeviceRun]:
        return [run for run in self.runs if run.refused is None]

    def _prepare(self, run: DeviceRun) -> None:
        """Everything up to a warm device; a device that others use is refused."""
        look = run.look_before(self.look_s)
        if look.reasons and not self.options.allow_shared:
            run.refused = "; ".join(look.reasons)
            return
        if run.open():
            run.idle()
            run.probe()
            run.warm_up()

    def _compute(self, run: DeviceRun, *, concurrent: bool) -> None:
        if run.refused is None:
            run.run([test for test in run.plan.tests if _is_compute(test)], concurrent=concurrent)

    def _rest(self, run: DeviceRun) -> None:
        """Links, launches, the roofline and the repetitions: alone, since devices share the host's memory and its cores."""
        if run.refused is None:
            run.best_shape()
            run.run([test for test in run.plan.tests if not _is_compute(test)])
            run.repeat()
            run.worker.ask({"kind": "release"})

    def _together(self, runs: Sequence[DeviceRun]) -> None:
        """The main product and triad on all devices at once, against each device alone."""
        for name in (f"gemm.{_main(runs[0])}", "mem.triad"):
            repeated = self._at_once(partial(_again, name=name), runs)
            for run, again in zip(runs, repeated, strict=True):
                alone = run.results.get(name)
                ratio = derive.together(alone, again) if alone is not None and again is not None else None
                if ratio is not None:
                    run.results[ratio.id] = ratio

    def _peers(self, runs: Sequence[DeviceRun], *, full: bool) -> None:
        """Copies between devices, from a worker that sees them all: one pair in a quick run, every ordered pair of up to eight in a full one."""
        physical = [run for run in runs if run.target.kind == "device" and run.device.parent_uuid is None][:_MAX_PEERS]
        if len(physical) < 2:  # noqa: PLR2004
            return
        visible = [run.target.visible or "" for run in physical]
        worker = Worker(self._command or worker_command("device"), worker_environment(visible))
        pairs = [(i, j) for i in range(len(physical)) for j in range(len(physical)) if i != j] if full else [(0, 1)]
        try:
            for source, target in pairs:
                run = physical[source]
                own, run.worker = run.worker, worker
                run.run(plan.peer_tests(source, target, physical[target].target.uuid, full=full))
                run.worker = own
        finally:
            worker.close()

    def _outliers(self, runs: Sequence[DeviceRun]) -> None:
        """Say which device is slower than its like under the same power limit."""
        groups: dict[tuple[str, float | None], dict[str, tuple[float, tuple[float, float] | None]]] = {}
        for run in runs:
            found = run.results.get(f"gemm.{_main(run)}")
            if found is not None and found.ceiling and found.sustained is not None:
                interval = (found.ci95[0], found.ci95[1]) if found.ci95 else None
                groups.setdefault((run.device.name, run.device.power_limit_w), {})[run.target.uuid] = (
                    found.sustained,
                    interval,
                )
        slow = {uuid for group in groups.values() for uuid in derive.outliers(group)}
        for run in runs:
            if run.target.uuid in slow:
                run.warnings.append(
                    "slower than the fastest of its like in this host by more than 5 % and three times its interval"
                )

    # --- profiles ------------------------------------------------------------------------------------------------------------------

    def _outcome(self, run: DeviceRun) -> Outcome:
        if run.refused is not None:
            return Outcome(run.target.label, refused=run.refused)
        profile = self._profile(run)
        return Outcome(run.target.label, profile, None, run.samples, self._labelled(run))

    def _profile(self, run: DeviceRun) -> Profile:
        hello, telemetry = run.worker.hello, run.telemetry
        results = list(run.results.values())
        shared = bool(run.look.reasons)
        if shared:
            for one in results:
                one.ceiling = False
        found = shared or any(run.saw_strangers(start, end) for _, start, end in run.spans)
        lost = telemetry.lost(run.target.uuid)
        return Profile(
            run_id=rundir.new_run_id(self.started_ns),
            started_utc=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started_ns // 1_000_000_000)),
            mode=self.options.mode,
            device=run.device,
            tool={
                "gpucost": _version.__version__,
                **{_DRIVERS.get(name, name): version for name, version in telemetry.driver.items()},
                **hello.get("versions", {}),
                "os": platform.system(),
            },
            host=host.facts(),
            duration_s=run.duration_s,
            import_s=hello.get("import_s"),
            warm_up_s=run.warm_up_s,
            steady=run.steady,
            contention=_contention(run, found=found),
            shared=shared,
            power_scope=_power_scope(run),
            seed=run.plan.seed,
            theoretical=_theoretical(run),
            results=results,
            ceilings=derive.ceilings(results),
            power_model=derive.power_model(run.results.get("roofline")),
            warnings=[*run.warnings, *_losses(run), *([lost] if lost else [])],
        )

    def _labelled(self, run: DeviceRun) -> list[tuple[str | None, GpuRow]]:
        """Every sample of the telemetry with the test that it lies in."""
        spans = sorted(run.spans, key=lambda one: one[1])
        found: list[tuple[str | None, Any]] = []
        for row in run.telemetry.between(run.power_uuid, *run.extent_ns) if spans else ():
            label = next((name for name, start, end in spans if start <= row.mono_ns <= end), None)
            found.append((label, row))
        return found


def _name_of(seen: dict[str, Any], index: int) -> str:
    """NVML's UUID of a device that torch lists, or where it has none, its name and number."""
    if seen["kind"] == "cuda" and seen["uuid"]:
        return f"GPU-{seen['uuid'].removeprefix('GPU-')}"
    return str(seen["uuid"] or f"{seen['name']} {index}")


def _visible(index: int) -> str:
    """What makes a worker see only torch's device number `index`, of those that this process sees."""
    names = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    return names[index] if index < len(names) else str(index)


def _is_compute(test: Test) -> bool:
    return test.id.split(".")[0] in _COMPUTE


def _main(run: DeviceRun) -> str | None:
    return run.plan.warm_up.dtype if run.plan.warm_up is not None else None


def _again(run: DeviceRun, name: str) -> Result | None:
    """One of a plan's tests once more, while the other devices do the same."""
    test = next((one for one in run.plan.tests if one.id == name), None)
    if test is None or name not in run.results:
        return None
    run.progress.begin(run.target.label, f"{name}, all devices at once", TOGETHER_S)
    try:
        return run.measure(replace(test, seconds=TOGETHER_S, id=f"concurrent.{name}"), concurrent=True)
    finally:
        run.progress.end(run.target.label, 0.0)


def _contention(run: DeviceRun, *, found: bool) -> str:
    if found:
        return "found"
    return run.look.verdict if run.telemetry.parentage_known(run.target.uuid) else "unknown"


def _power_scope(run: DeviceRun) -> str | None:
    if run.target.kind == CPU or run.telemetry.unavailable is not None:
        return None
    return "gpu" if run.power_is_ours else "parent_gpu"


def _theoretical(run: DeviceRun) -> dict[str, Any]:
    peaks = run.peaks
    return {
        "gemm_tflops": peaks.tflops,
        "dram_gb_s": peaks.dram_gb_s,
        "book_clock_mhz": peaks.book_clock_mhz,
        "max_clock_mhz": peaks.max_clock_mhz,
        "source": peaks.source,
    }


def _losses(run: DeviceRun) -> list[str]:
    count = run.worker.losses
    return [f"the worker was lost {count} time{'s' if count > 1 else ''}"] if count else []
