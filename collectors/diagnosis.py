"""What this machine can measure, what it cannot, and why: everything that a recording would ask is asked once, and timed.

Plain values come out, for a person and for a support ticket alike.
"""

import ctypes
import os
import platform
import time
from collections.abc import Iterator
from typing import Any

from gpucost.collectors import _nvml_devices, _nvml_trial
from gpucost.collectors._nvml_counters import Tally
from gpucost.collectors._nvml_devices import Device
from gpucost.collectors._nvml_events import EventWatcher
from gpucost.collectors._nvml_gpm import Gpm
from gpucost.collectors._nvml_library import (
    NO_PERMISSION,
    CallFailedError,
    GpuGoneError,
    Nvml,
    SessionLostError,
    describe,
)
from gpucost.collectors._nvml_limits import MPS_TEXTS, VGPU_GUEST, module_note
from gpucost.collectors._nvml_periods import changes_apart_ns, number_reader
from gpucost.collectors._nvml_processes import Family, ProcessPoller, in_inner_namespace, trust
from gpucost.collectors._nvml_reader import GpuReader, Seldom
from gpucost.collectors._nvml_samples import SampleDrain
from gpucost.collectors.base import DriverMeter, SourceUnavailable

_TICK_NS = 100_000_000
_TIMES = 20  # that each call is made
_SETTLE_S = 0.65  # in which the driver collects samples to tell their period from
_VIRTUAL = {1: "passed through to this virtual machine", VGPU_GUEST: "vGPU guest", 3: "vGPU host", 4: "vSGA host"}
_NOT_FOR_US = describe(NO_PERMISSION)

OK, MISSING, NOTE = "ok", "missing", "note"


def diagnose() -> dict[str, Any]:
    """Ask everything once.

    Returns:
        `complete` (nothing is missing), `system`, `findings` (each with `state`: ok, missing or note; `about`, `text`, `advice`), `gpus` (each
        with `measured`, `missing` and `absent` metrics, and `update_periods_ms`) and `calls` (latencies by driver call, microseconds).
    """
    findings: list[dict[str, str]] = []
    report: dict[str, Any] = {"complete": False, "system": system(), "findings": findings, "gpus": [], "calls": {}}
    try:
        nvml = Nvml.open(DriverMeter())
    except SourceUnavailable as error:
        findings.append(_finding(MISSING, "driver", str(error), error.hint))
        return report
    try:
        _look(nvml, report)
    except (CallFailedError, SourceUnavailable) as error:
        findings.append(_finding(MISSING, "driver", str(error)))
    finally:
        nvml.close()
    report["complete"] = not any(one["state"] == MISSING for one in findings)
    return report


def system() -> dict[str, Any]:
    """The machine, as far as it matters to measuring."""
    release = platform.release()
    return {
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "pid_namespace": "inner" if in_inner_namespace() else "host",
        "wsl": "microsoft" in release.lower(),
        "jetson": os.path.exists("/etc/nv_tegra_release"),
        "root": hasattr(os, "geteuid") and os.geteuid() == 0,
    }


def _finding(state: str, about: str, text: str, advice: str = "") -> dict[str, str]:
    return {"state": state, "about": about, "text": text, "advice": advice}


def _look(nvml: Nvml, report: dict[str, Any]) -> None:
    findings, versions = report["findings"], nvml.versions()
    report["system"].update({f"{name}_version": version for name, version in versions.items()})
    findings.append(_finding(OK, "driver", f"version {versions.get('driver', 'unknown')}"))

    def unreadable(kind: str, message: str, *, subject: str | None = None) -> None:  # noqa: ARG001 (a Report)
        findings.append(_finding(MISSING, "driver", message))

    devices = _nvml_devices.discover(nvml, unreadable)
    if not devices:
        findings.append(_finding(MISSING, "driver", "the driver lists no GPU that can be opened"))
    findings.extend(_namespace(versions.get("driver", "")))
    for device in devices:
        try:
            report["gpus"].append(_gpu(nvml, device, versions.get("driver", ""), findings))
        except (GpuGoneError, SessionLostError) as error:
            findings.append(_finding(MISSING, device.title, str(error), "reset the GPU, or restart the machine"))
    whole = [device for device in devices if not device.is_mig]
    watcher = EventWatcher(nvml, whole, unreadable)
    if whole and watcher.watched < len(whole):
        findings.append(_finding(NOTE, "events", "XID and ECC events cannot be waited for on every GPU"))
    report["calls"] = nvml.costs.facts()


def _namespace(version: str) -> Iterator[dict[str, str]]:
    """What a container hides of processes, by the driver's generation."""
    if not in_inner_namespace():
        return
    seen = trust(version, inner_namespace=True)
    family = Family(os.getpid(), visible=seen.pids)
    advice = "run with the host's PID namespace (--pid=host), or with driver 570.86 or newer"
    if family.outer:
        yield _finding(
            NOTE, "processes", "this driver shows containers the host's pids; they are found in the host's /proc"
        )
    elif not seen.pids:
        yield _finding(MISSING, "processes", family.unknown, advice)
    elif family.unknown:
        text = f"{family.unknown}: whose the processes on the GPUs are cannot be told"
        yield _finding(MISSING, "processes", text, "mount the /proc of this PID namespace (unshare --mount-proc)")
    elif not (seen.samples and seen.memory):
        text = "in a container this driver gives process lists, but not each process's share of the work"
        yield _finding(MISSING, "processes", text, advice)
    else:
        yield _finding(NOTE, "processes", "in a container: processes outside it are not seen")


def _gpu(nvml: Nvml, device: Device, version: str, findings: list[dict[str, str]]) -> dict[str, Any]:
    reader = _nvml_trial.open_reader(nvml, device, _TICK_NS, Tally())
    drain = SampleDrain(nvml, device, Tally())
    settled = time.monotonic() + _SETTLE_S
    for turn in range(_TIMES):
        reader.read(0, turn * 2 * _TICK_NS, lambda what, code: None, watch=True)  # noqa: ARG005 (what fails now was told by the trial)
    missing = dict(reader.unavailable)
    mps = _processes(nvml, device, version, missing)
    periods = _periods(nvml, device, drain, settled)
    absent = {name: why for name, why in reader.absent.items() if why != _NOT_FOR_US}
    missing |= {name: why for name, why in reader.absent.items() if why == _NOT_FOR_US}
    if not drain:
        absent["buffered samples"] = "not kept by this driver"
    reader.close()
    findings.extend(_of_gpu(nvml, device, reader, missing, absent))
    if mps:
        findings.append(_finding(NOTE, device.title, MPS_TEXTS[mps][1]))
    measured = sorted({column for label in _labels(reader) for column in label.split(", ")} - set(missing))
    return {
        **{
            key: device.facts.get(key)
            for key in ("uuid", "name", "index", "architecture", "mig_profile", "mig_parent_uuid")
        },
        "mig_mode": device.identity.mig_enabled,
        "measured": measured,
        "missing": missing,
        "absent": absent,
        "update_periods_ms": {name: round(ns / 1e6, 1) for name, ns in periods.items()},
    }


def _processes(nvml: Nvml, device: Device, version: str, missing: dict[str, str]) -> str:
    """Ask for the process lists, and add why there are none to what is missing; whether work goes through MPS, as `ProcessPoller.mps` says it."""
    if device.identity.mig_enabled:
        return ""
    seen = trust(version, inner_namespace=in_inner_namespace())
    poller = ProcessPoller(nvml, device, seen, Tally())
    for _ in range(_TIMES):
        poller.listed()
    if poller.unavailable:
        missing["processes"] = poller.unavailable
    poller.poll(time.time_ns(), time.monotonic_ns(), Family(os.getpid(), visible=seen.pids))
    return poller.mps


def _labels(reader: GpuReader) -> Iterator[str]:
    """What a reader asks for."""
    yield from (probe.label for probe in reader.probes)
    for apart in reader.apart:
        if isinstance(apart, Seldom):
            yield from _labels(apart.reader)
        elif isinstance(apart, Gpm):
            yield apart.label


def _periods(nvml: Nvml, device: Device, drain: SampleDrain, settled: float) -> dict[str, int]:
    """Update periods of the sensors: energy by watching its counter, the others from the stamps of the driver's own samples."""
    found: dict[str, int] = {}
    read = number_reader(nvml, device.handle, "nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)
    if not device.is_mig and read() is not None and (period := changes_apart_ns(read)):
        found["energy_j"] = period
    if drain:
        time.sleep(max(0.0, settled - time.monotonic()))
        drain.drain(time.time_ns(), time.monotonic_ns())
        found |= drain.periods_ns()
    return found


def _of_gpu(
    nvml: Nvml, device: Device, reader: GpuReader, missing: dict[str, str], absent: dict[str, str]
) -> Iterator[dict[str, str]]:
    title = device.title
    if missing:
        for why in dict.fromkeys(missing.values()):
            names = ", ".join(name for name, reason in missing.items() if reason == why)
            advice = "run as root, or give the container more capabilities" if why == _NOT_FOR_US else ""
            yield _finding(MISSING, title, f"{names}: {why}", advice)
    else:
        yield _finding(OK, title, "utilization, memory, power, energy, clocks and processes can be measured")
    for name, why in absent.items():
        yield _finding(NOTE, title, f"{name}: {why}")
    if reader.of_module:
        yield _finding(NOTE, title, module_note(reader))
    if device.identity.mig_enabled:
        yield _finding(NOTE, title, "in MIG mode: utilization, processes and memory are those of its MIG devices")
    if nvml.attempt("nvmlDeviceGetPersistenceMode", device.handle) == 0:
        text = "persistence mode is off: the first recorder wakes the GPU, which takes seconds and power"
        yield _finding(NOTE, title, text, "nvidia-smi -pm 1, or run nvidia-persistenced")
    virtual = _VIRTUAL.get(device.virtualization or 0)
    if virtual:
        yield _finding(NOTE, title, virtual)
