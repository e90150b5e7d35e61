"""One device's benchmark, step by step: look, open, idle, warm up, test, close."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gpucost.bench import assess, book, derive, gates, host, nvml
from gpucost.bench.model import CONTENDED, FAILED, OK, TIMEOUT, UNSUPPORTED, Device, Result
from gpucost.bench.plan import Plan, Test
from gpucost.bench.statistics import unsteady
from gpucost.bench.store import Sample
from gpucost.bench.supervisor import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpucost.bench.model import Window
    from gpucost.bench.progress import Progress
    from gpucost.bench.supervisor import Worker
    from gpucost.bench.telemetry import Telemetry

    PlanMaker = Callable[[Device], Plan]

PROBE_LIMIT_S = 10.0
"""A probe is one small product; the first of a dtype also loads its kernels, which a cold disk makes slow."""

_REWARM_S = 2.0
_POLL_LIMIT_S = 1.5
_RECENT_NS = 2_000_000_000
_POLL_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """A device to be measured.

    Attributes:
        kind: `device` or `cpu`.
        uuid: NVML's UUID, or a name where there is no NVML.
        visible: what its worker's CUDA_VISIBLE_DEVICES is; None leaves the environment as it is.
        facts: fields of `gpucost.manifest.Gpu` from the collector, as far as known.
    """

    kind: str
    uuid: str
    visible: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What to call it in a line for a person."""
        index = self.facts.get("index")
        return "CPU" if self.kind == "cpu" else f"GPU {self.uuid[:12] if index is None else index}"


class DeviceRun:
    """Measures one device with one worker. Steps are called in order; every test leaves a result, whatever becomes of it.

    Attributes:
        results: by id, in order.
        samples: every window of every test.
        spans: (test id, start, end) on the monotonic clock, for labelling telemetry.
        look: what was seen before anything was started.
        refused: why the device was not measured, or None.
    """

    def __init__(
        self,
        target: Target,
        worker: Worker,
        plan_maker: PlanMaker,
        telemetry: Telemetry,
        progress: Progress,
        *,
        known_idle_w: float | None = None,
    ) -> None:
        self.target, self.telemetry, self.progress = target, telemetry, progress
        self._plan_maker, self._known_idle_w = plan_maker, known_idle_w
        self.worker = worker
        worker.on_restart(self._restarted)
        self.power_uuid = target.facts.get("mig_parent_uuid") or target.uuid
        self.power_is_ours = target.facts.get("mig_parent_uuid") is None
        self.device = Device(kind=target.kind, uuid=target.uuid, name=str(target.facts.get("name") or target.uuid))
        self.peaks = book.Peaks()
        self.plan = Plan(mode="", kind=target.kind, dtypes=(), tests=())
        self.results: dict[str, Result] = {}
        self.samples: list[Sample] = []
        self.spans: list[tuple[str, int, int]] = []
        self.warm_up_windows: list[Window] = []
        self.warm_up_s: float | None = None
        self.steady: bool | None = None
        self.supported: set[str] = set()
        self.look = gates.Look(known=False)
        self.strangers: set[int] = set()
        self.refused: str | None = None
        self.warnings: list[str] = []
        self._cold = False

    @property
    def extent_ns(self) -> tuple[int, int]:
        """From the start of the first measurement to the end of the last, on the monotonic clock; both 0 before the first."""
        return min((start for _, start, _ in self.spans), default=0), max((end for *_, end in self.spans), default=0)

    @property
    def duration_s(self) -> float:
        """How long all of it took."""
        start, end = self.extent_ns
        return (end - start) / 1e9

    # --- before the tests ----------------------------------------------------------------------------------------------------------

    def look_before(self, seconds: float) -> gates.Look:
        """Look at the device while nothing of ours runs on it."""
        if self.target.kind == "cpu" or self.telemetry.unavailable is not None:
            return self.look
        self.progress.begin(self.target.label, "looking whether it is free", seconds)
        start = time.monotonic_ns()
        time.sleep(seconds)
        latest = time.monotonic() + _POLL_LIMIT_S
        while not self.telemetry.processes_known(self.target.uuid) and time.monotonic() < latest:
            time.sleep(0.05)  # process lists are polled once a second, and one must have been seen
        end = time.monotonic_ns()
        self.progress.end(self.target.label, seconds)
        self.spans.append(("power.idle_no_ctx", start, end))
        rows = self.telemetry.between(self.power_uuid, start, end)
        self.strangers = self.telemetry.foreign(self.target.uuid, start - _RECENT_NS, end, none_is_ours=True)
        self.look = gates.before(
            rows,
            self.strangers,
            listed=self.telemetry.processes_known(self.target.uuid),
            known_idle_w=self._known_idle_w,
        )
        self._add(derive.idle_power("power.idle_no_ctx", rows))
        return self.look

    def open(self) -> bool:
        """Start the worker and learn what the device is; whether it can be used."""
        reply = self.worker.start()
        if reply.status != OK:
            self.refused = reply.message
            return False
        self.device = self._describe(reply.data["device"])
        self.peaks = book.peaks(self.device)
        self.warnings += self.peaks.warnings
        if self.device.held_numa_node is not None:
            bound = self.worker.setup({"kind": "bind", "node": self.device.held_numa_node})
            if bound.status != OK:
                self.device.held_numa_node = None
        self.plan = self._plan_maker(self.device)
        self.progress.planned(self.target.label, self.plan.seconds - self.plan.look_s)
        return True

    def _describe(self, seen: dict[str, Any]) -> Device:
        """What torch and NVML say of the device, together."""
        known = self.target.facts
        told = (
            nvml.facts(self.power_uuid)
            if self.target.kind == "device" and self.telemetry.unavailable is None
            else nvml.Facts()
        )
        seen = {
            **seen,
            "uuid": self.target.uuid,
            "sm_clock_max_mhz": told.sm_clock_max_mhz or seen.get("sm_clock_max_mhz"),
        }
        names = Device.__dataclass_fields__
        device = Device(**{name: value for name, value in seen.items() if name in names})
        if device.kind == "cpu":
            device.uuid = host.cpu_uuid(device.name, device.threads)
            return device
        if known:
            device.name = str(known.get("name") or device.name)
        device.parent_uuid, device.mig_profile = known.get("mig_parent_uuid"), known.get("mig_profile")
        device.pci_bus_id = known.get("pci_bus_id")
        device.memory_clock_max_mhz = told.memory_clock_max_mhz
        device.power_limit_w, device.power_limit_default_w, device.ecc = (
            told.power_limit_w,
            told.power_limit_default_w,
            told.ecc,
        )
        device.held_numa_node = nvml.numa_node(device.pci_bus_id)
        return device

    def idle(self) -> None:
        """Power with a context and nothing running."""
        if self.plan.idle_s and self.telemetry.unavailable is None:
            self.progress.begin(self.target.label, "idle power", self.plan.idle_s)
            start = time.monotonic_ns()
            time.sleep(self.plan.idle_s)
            end = time.monotonic_ns()
            self.spans.append(("power.idle_ctx", start, end))
            self._add(derive.idle_power("power.idle_ctx", self.telemetry.between(self.power_uuid, start, end)))
        self.progress.end(self.target.label, self.plan.idle_s)

    def probe(self) -> None:
        """Find out which dtypes the device can multiply; what it cannot is a result that says so."""
        for dtype in self.plan.dtypes:
            reply = self.worker.ask({"kind": "probe", "dtype": dtype}, limit_s=PROBE_LIMIT_S)
            if reply.status == OK:
                self.supported.add(dtype)
                continue
            status = UNSUPPORTED if reply.status == TIMEOUT else reply.status
            unit = "TOP/s" if dtype == "int8" else "TFLOP/s"
            self._add(Result(id=f"gemm.{dtype}", unit=unit, status=status, message=reply.message, dtype=dtype))

    def warm_up(self, limit_s: float | None = None) -> None:
        """Run the plan's warm-up until rate, clock, temperature and power are steady, or its time is over."""
        test = self._warm_up_test()
        limit = self.plan.warm_up_s if limit_s is None else limit_s
        if test is None:
            self.progress.end(self.target.label, self.plan.warm_up_s if limit_s is None else 0.0)
            return
        self.progress.begin(self.target.label, "warming up", limit)
        windows: list[Window] = []
        began = time.monotonic()
        steady = False
        while not steady and time.monotonic() - began < limit:
            reply = self.worker.ask(self._request(test.request, self.plan.warm_up_step_s, verify=False))
            if reply.status != OK:
                break
            windows += reply.windows
            steady = not unsteady(self._warm_up_series(test, windows), self.plan.steady)
        if limit_s is None:
            self.warm_up_windows, self.warm_up_s, self.steady = windows, time.monotonic() - began, steady
            self.progress.end(self.target.label, self.plan.warm_up_s)
        if windows:
            self.spans.append(("warm_up", *assess.span(windows)))
        self._cold = False

    def _warm_up_test(self) -> Test | None:
        """The plan's warm-up, or another product where the device lacks its dtype."""
        if self.plan.warm_up is None:
            return None
        products = [test for test in self.plan.tests if test.request.get("kind") == "gemm"]
        return next((test for test in (self.plan.warm_up, *products) if test.dtype in self.supported), None)

    def _warm_up_series(self, test: Test, windows: Sequence[Window]) -> dict[str, tuple[list[float], list[float]]]:
        rows = self.telemetry.between(self.power_uuid, *assess.span(windows))
        series = {"rate": ([one.end_ns / 1e9 for one in windows], [assess.rate(one, test.unit) for one in windows])}
        for name, column in (("clock", "sm_clock_mhz"), ("temperature", "temperature_c"), ("power", "power_w")):
            points = [(row.mono_ns / 1e9, float(value)) for row in rows if (value := getattr(row, column)) is not None]
            series[name] = ([t for t, _ in points], [v for _, v in points])
        return series

    # --- tests ---------------------------------------------------------------------------------------------------------------------

    def run(self, tests: Sequence[Test], *, concurrent: bool = False) -> None:
        """Run tests in order and keep their results."""
        for test in tests:
            if (
                test.dtype is not None
                and test.id.startswith(("gemm.", "roofline"))
                and test.dtype not in self.supported
            ):
                self.progress.end(self.target.label, test.seconds)
                continue
            self.progress.begin(self.target.label, test.id, test.seconds)
            self._add(self.measure(test, concurrent=concurrent))
            self.progress.end(self.target.label, test.seconds)

    def measure(self, test: Test, *, concurrent: bool = False) -> Result:
        """Run one test, or the points of one sweep."""
        if self._cold:
            self.warm_up(_REWARM_S)
        if test.setup is not None:
            ready = self.worker.ask(self._resolved(test.setup))
            if ready.status != OK:
                return Result(id=test.id, unit=test.unit, status=ready.status, message=ready.message, dtype=test.dtype)
        try:
            return self._sweep(test) if test.parts else self._single(test, concurrent=concurrent)[0]
        finally:
            if test.undo is not None:
                self.worker.ask(self._resolved(test.undo))

    def _sweep(self, test: Test) -> Result:
        each = test.seconds / len(test.parts)
        replies, points = [], []
        for facts, request in test.parts:
            label = ",".join(f"{name}={value}" for name, value in facts.items())
            part = replace(
                test, id=f"{test.id}/{label}", request=request, seconds=each, parts=(), setup=None, undo=None
            )
            point, reply = self._single(part)
            replies.append((facts, reply))
            points.append(point)
        return assess.sweep(test, replies, points)

    def _single(self, test: Test, *, concurrent: bool = False) -> tuple[Result, Reply]:
        pressure_before, began = host.psi_cpu_some_s(), time.monotonic_ns()
        reply = self.worker.ask(self._request(test.request, test.seconds))
        ended, pressure_after = time.monotonic_ns(), host.psi_cpu_some_s()
        if reply.status == OK and not reply.windows:
            reply = Reply(FAILED, "no window came back")
        start, end = assess.span(reply.windows) if reply.status == OK else (began, ended)
        self.spans.append((test.id, start, end))
        rows = self.telemetry.between(self.power_uuid, start, end)
        waited = None if pressure_before is None or pressure_after is None else pressure_after - pressure_before
        around = assess.Surroundings(
            device=self.target.kind == "device",
            peaks=self.peaks,
            rows=rows,
            pressure=None if waited is None else waited * 1e9 / max(1, ended - began),
            warm_up=self.warm_up_windows if self._is_warm_up(test) else (),
            power_is_ours=self.power_is_ours,
            concurrent=concurrent,
        )
        found = assess.result(test, reply, around)
        if reply.status == OK:
            self._keep(test, reply.windows, rows)
            self._note_link(found, test)
        return found, reply

    def _is_warm_up(self, test: Test) -> bool:
        return self.plan.warm_up is not None and test.id == self.plan.warm_up.id

    def _note_link(self, found: Result, test: Test) -> None:
        """The PCIe link slows down when idle, so it is asked for right after a copy test, while it is still fast."""
        if test.request.get("kind") != "link" or self.telemetry.unavailable is not None:
            return
        told = nvml.facts(self.power_uuid)
        most = nvml.link_gb_s(told.pcie_generation, told.pcie_width)
        if most is None or found.sustained is None or test.request["direction"] == "both":
            return
        found.efficiency_book = found.sustained / most
        found.message = f"PCIe generation {told.pcie_generation} x{told.pcie_width}: {most:.1f} GB/s one way"
        found.flags += [
            flag for flag in gates.plausible(found.sustained, most, slow_by_nature=True) if flag not in found.flags
        ]

    def _request(self, request: dict[str, Any], seconds: float, *, verify: bool = True) -> dict[str, Any]:
        return {"seed": self.plan.seed, **request, "seconds": seconds, "window_s": self.plan.window_s, "verify": verify}

    def _resolved(self, request: dict[str, Any]) -> dict[str, Any]:
        return {**request, "node": self.device.held_numa_node} if request.get("node") == "own" else request

    def _keep(self, test: Test, windows: Sequence[Window], rows: Sequence[Any]) -> None:
        """Every window, with the clock beside it and the union of the clock-event reasons inside it."""
        for index, window in enumerate(windows):
            start = window.end_ns - window.duration_ns
            inside = [row for row in rows if start <= row.mono_ns <= window.end_ns]
            near = inside or sorted(rows, key=lambda row: abs(row.mono_ns - (start + window.end_ns) // 2))[:1]
            bits = [row.clocks_event_reasons for row in near if row.clocks_event_reasons is not None]
            reasons = None
            for one in bits:
                reasons = one if reasons is None else reasons | one
            clock = derive.middle(near, "sm_clock_mhz")
            self.samples.append(Sample(test.id, index, window, assess.rate(window, test.unit), clock, reasons))

    def _add(self, result: Result | None) -> None:
        if result is not None:
            self.results[result.id] = result

    def _restarted(self) -> None:
        """The worker was replaced: the device has cooled down meanwhile."""
        self._cold = True

    # --- after the tests -----------------------------------------------------------------------------------------------------------

    def best_shape(self) -> None:
        """Run the scan's fastest shape long enough for a sustained figure, so that the ceiling does not depend on one shape."""
        main = self.plan.warm_up.dtype if self.plan.warm_up is not None else None
        scan = self.results.get(f"gemm.{main}.shapes")
        good = [
            one
            for one in (scan.points or [] if scan is not None else [])
            if one.get("sustained") and not one.get("flags")
        ]
        if self.plan.best_s and good and main is not None:
            best = max(good, key=lambda one: one["sustained"])
            request = {"kind": "gemm", "dtype": main, **{side: best[side] for side in ("m", "n", "k")}, "fit": False}
            self.run([Test(f"gemm.{main}.best", "TFLOP/s", request, self.plan.best_s, dtype=main)])
        else:
            self.progress.end(self.target.label, self.plan.best_s)

    def repeat(self) -> None:
        """Run some tests once more, and see whether the device is still the one that it was."""
        for name in self.plan.repeats:
            first = self.results.get(name)
            test = next((one for one in self.plan.tests if one.id == name), None)
            if test is None or first is None or first.status != OK:
                self.progress.end(self.target.label, self.plan.repeat_s)
                continue
            self.progress.begin(self.target.label, f"{name} again", self.plan.repeat_s)
            again = self.measure(replace(test, seconds=self.plan.repeat_s, id=f"{name}.repeat"))
            assess.repeated(first, again)
            self.progress.end(self.target.label, self.plan.repeat_s)

    def _flag_strangers(self) -> None:
        """Flag what was measured while somebody else was on the device; the lists are a second apart, so a second on either side counts."""
        for name, start, end in self.spans:
            found = self.results.get(name.partition("/")[0])
            if found is None or CONTENDED in found.flags:
                continue
            if self.saw_strangers(start - _POLL_NS, end + _POLL_NS):
                found.flags.append(CONTENDED)

    def saw_strangers(self, start_ns: int, end_ns: int) -> bool:
        """Whether somebody else computed on the device then."""
        return bool(self.telemetry.foreign(self.target.uuid, start_ns, end_ns, strangers=self.strangers))

    def derive(self) -> None:
        """What follows from all results together."""
        device = self.target.kind == "device"
        self._flag_strangers()
        derive.flag_emulated(list(self.results.values()), self.device.compute_capability)
        gates.close(list(self.results.values()), device=device)
        main = self.plan.warm_up.dtype if self.plan.warm_up is not None else None
        for one in derive.all_power(self.results, main):
            self._add(one)
        gates.close(list(self.results.values()), device=device)
