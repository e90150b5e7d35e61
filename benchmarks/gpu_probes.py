"""What `gpu_check.py` asks of a real GPU and its driver: each probe is a function that gives a section of the page, and checks.

A probe says what it saw, also where that is an error code or nothing at all. Those that need a load say so in `NEEDS_LOAD` and are left out
where torch cannot use the GPU. Add a probe by writing a function and naming it in `PROBES`.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from gpu_site import Site, asked, load_of, recorder, table, value_of

FIELDS = (185, 186, 191, 83, 197, 198, 138, 139, 140, 141, 74, 75, 76, 77, 78, 79, 81, 269, 270, 271)
ALL_LINKS = 0xFFFFFFFF
SAMPLE_TYPES = {0: "power", 1: "utilization", 5: "SM clock", 6: "memory clock"}
GPM_METRICS = {1: "graphics", 2: "SM activity", 3: "occupancy", 5: "tensor", 10: "DRAM"}
GPM_WINDOWS_MS = (50, 100, 150, 200, 500, 1000)
DCGM_FIELDS = {1001: "graphics", 1002: "SM activity", 1003: "occupancy", 1004: "tensor", 1005: "DRAM"}
RATES_HZ = (1, 5, 10, 20)
DUTIES = (0.25, 0.5, 0.9)
DUTY_WITHIN = 0.05
ENERGY_WITHIN_PCT = 5.0
"""Counter and integral come from one sensor, whose gain error they share: what is left is what sampling lost."""


def doctor(site: Site) -> list[str]:
    """What `gpucost doctor` says of this machine."""
    argv = [sys.executable, "-m", "gpucost", "doctor", "--format", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    found = json.loads(done.stdout)
    site.check(
        "doctor's exit is what it found", done.returncode == (0 if found["complete"] else 1), f"{done.returncode}"
    )
    lines = table(
        ["state", "about", "text"], [[one[key] for key in ("state", "about", "text")] for one in found["findings"]]
    )
    return [*lines, "", *(f"Update periods of {gpu['uuid']}: {gpu['update_periods_ms']}" for gpu in found["gpus"])]


def fields(site: Site) -> list[str]:
    """Which fields answer the user who runs this."""
    import pynvml

    wanted = [(one, ALL_LINKS if 138 <= one <= 141 else 0) for one in FIELDS]
    answers, error = asked(pynvml.nvmlDeviceGetFieldValues, site.handle, wanted)
    site.check("some fields answer", None if answers is None else any(a.nvmlReturn == 0 for a in answers), error)
    rows = [
        [a.fieldId, a.nvmlReturn, a.valueType, value_of(a) if a.nvmlReturn == 0 else "-", a.latencyUsec]
        for a in answers or ()
    ]
    return [
        f"Asked as root: {os.geteuid() == 0}. {error}",
        "",
        *table(["field", "code", "type", "value", "latency us"], rows),
    ]


def gpm_idle(site: Site) -> list[str]:
    """GPM at rest: which windows give what."""
    return _gpm(site)


def gpm_loaded(site: Site) -> list[str]:
    """GPM under load, at windows shorter and longer than the driver's own."""
    with site.loaded(0.9):
        return _gpm(site)


def _gpm(site: Site) -> list[str]:
    import pynvml

    support, error = asked(pynvml.nvmlGpmQueryDeviceSupport, site.handle)
    if support is None or not support.isSupportedDevice:
        return [f"GPM is not there: {error or 'the driver says that this device does not support it'}"]
    samples = [pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()]
    try:
        rows = [_gpm_window(site.handle, samples, window) for window in GPM_WINDOWS_MS]
    finally:
        for sample in samples:
            pynvml.nvmlGpmSampleFree(sample)
    return [
        f"Asked as root: {os.geteuid() == 0}.",
        "",
        *table(["window ms", "measured ms", *GPM_METRICS.values()], rows),
    ]


def _gpm_window(handle: Any, samples: list[Any], window_ms: int) -> list[object]:
    """One window: the metrics in percent, NaN and codes as they come."""
    import pynvml

    began = time.monotonic()
    _, failed = asked(pynvml.nvmlGpmSampleGet, handle, samples[0])
    time.sleep(window_ms / 1000)
    _, failed_too = asked(pynvml.nvmlGpmSampleGet, handle, samples[1])
    took = (time.monotonic() - began) * 1000
    query = pynvml.c_nvmlGpmMetricsGet_t()
    query.version, query.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, len(GPM_METRICS)
    query.sample1, query.sample2 = samples
    for place, metric in enumerate(GPM_METRICS):
        query.metrics[place].metricId = metric
    _, error = (None, failed or failed_too) if failed or failed_too else asked(pynvml.nvmlGpmMetricsGet, query)
    metrics = [query.metrics[place] for place in range(len(GPM_METRICS))]
    cells = [error or (f"{one.value:.1f}" if one.nvmlReturn == 0 else f"code {one.nvmlReturn}") for one in metrics]
    return [window_ms, f"{took:.0f}", *cells]


def buffered_samples(site: Site) -> list[str]:
    """What the driver keeps between ticks: how much, how fine, how old, on which clock."""
    import pynvml

    rows = []
    for kind, name in SAMPLE_TYPES.items():
        answer, error = asked(pynvml.nvmlDeviceGetSamples, site.handle, kind, 0)
        stamps = sorted(sample.timeStamp for sample in answer[1]) if answer else []
        if not stamps:
            rows.append([name, error or "none", "", "", "", ""])
            continue
        apart = [(b - a) / 1000 for a, b in itertools.pairwise(stamps)]
        period = f"{statistics.median(apart):.1f}" if apart else "-"
        ages = [f"{clock() - stamps[-1] / 1e6:.3f}" for clock in (time.time, time.monotonic)]
        rows.append([name, len(stamps), period, f"{(stamps[-1] - stamps[0]) / 1e6:.1f}", *ages])
    return table(["samples", "count", "period ms", "reach s", "age by UTC s", "age by monotonic clock s"], rows)


def energy_steps(site: Site) -> list[str]:
    """The energy counter: how often it moves, and by how much."""
    import pynvml

    seen: list[tuple[float, int]] = []
    until = time.monotonic() + max(1.0, site.seconds / 6)
    while time.monotonic() < until:
        value, error = asked(pynvml.nvmlDeviceGetTotalEnergyConsumption, site.handle)
        if value is None:
            return [f"There is no energy counter: {error}"]
        if not seen or value != seen[-1][1]:
            seen.append((time.monotonic(), value))
        time.sleep(0.001)
    if len(seen) < 3:
        return [f"The counter moved {len(seen) - 1} times."]
    periods = [(b[0] - a[0]) * 1000 for a, b in itertools.pairwise(seen[1:])]
    steps = [(b[1] - a[1]) / 1000 for a, b in itertools.pairwise(seen[1:])]
    return table(
        ["moves", "period ms, median (least to most)", "step J, median (least to most)"],
        [
            [
                len(periods),
                *(f"{statistics.median(all_):.1f} ({min(all_):.1f} to {max(all_):.1f})" for all_ in (periods, steps)),
            ]
        ],
    )


def energy_idle(site: Site) -> list[str]:
    """Energy by the counter against the integral of power, while nothing runs."""
    return _energy(site, "idle", "sleep", f"{site.seconds:g}")


def energy_loaded(site: Site) -> list[str]:
    """Energy by the counter against the integral of power, under a load that comes and goes."""
    return _energy(site, "energy", *load_of("duty"), "0.5", f"{2 * site.seconds:g}")


def _energy(site: Site, name: str, *argv: str) -> list[str]:
    from gpucost.analyzers import analyze

    row = analyze(site.record(name, *argv)).energy_gpus.iloc[0]
    apart = float(row["difference_pct"])
    known = math.isfinite(apart)
    site.check(
        f"energy by counter and by power within {ENERGY_WITHIN_PCT:g} % ({name})",
        abs(apart) <= ENERGY_WITHIN_PCT if known else None,
        f"{apart:+.2f} %" if known else "one of the two is not there",
    )
    header = ["basis", "counter J", "integral J", "difference %", "idle power W", "idle power of"]
    figures = [f"{float(row[column]):.2f}" for column in ("counter_j", "integral_j", "difference_pct", "idle_power_w")]
    return table(header, [[row["basis"], *figures, row["idle_power_basis"]]])


def latency_idle(site: Site) -> list[str]:
    """What a driver call takes while nothing runs."""
    return _latencies(site)


def latency_loaded(site: Site) -> list[str]:
    """What a driver call takes under load."""
    with site.loaded(0.9):
        return _latencies(site)


def _latencies(site: Site) -> list[str]:
    import pynvml as p

    handle = site.handle
    calls: dict[str, Callable[[], Any]] = {
        "UtilizationRates": lambda: p.nvmlDeviceGetUtilizationRates(handle),
        "MemoryInfo_v2": lambda: p.nvmlDeviceGetMemoryInfo(handle, p.nvmlMemory_v2),
        "FieldValues (all above)": lambda: p.nvmlDeviceGetFieldValues(handle, list(FIELDS)),
        "PowerUsage": lambda: p.nvmlDeviceGetPowerUsage(handle),
        "TotalEnergyConsumption": lambda: p.nvmlDeviceGetTotalEnergyConsumption(handle),
        "ClockInfo": lambda: p.nvmlDeviceGetClockInfo(handle, p.NVML_CLOCK_SM),
        "CurrentClocksEventReasons": lambda: p.nvmlDeviceGetCurrentClocksEventReasons(handle),
        "ComputeRunningProcesses": lambda: p.nvmlDeviceGetComputeRunningProcesses(handle),
        "GraphicsRunningProcesses": lambda: p.nvmlDeviceGetGraphicsRunningProcesses(handle),
        "ProcessUtilization": lambda: p.nvmlDeviceGetProcessUtilization(handle, 0),
        "Samples (power)": lambda: p.nvmlDeviceGetSamples(handle, 0, 0),
        "CurrPcieLinkGeneration": lambda: p.nvmlDeviceGetCurrPcieLinkGeneration(handle),
    }
    rows = []
    for name, call in calls.items():
        took, error = [], ""
        for _ in range(site.calls):
            began = time.perf_counter_ns()
            _, error = asked(call)
            took.append((time.perf_counter_ns() - began) / 1000)
        took.sort()
        rows.append([name, *(f"{took[int(share * (len(took) - 1))]:.0f}" for share in (0.5, 0.99, 1.0)), error])
    return [
        f"{site.calls} calls each, the binding's own time included.",
        "",
        *table(["call", "median us", "99 % us", "longest us", "error"], rows),
    ]


def process_samples(site: Site) -> list[str]:
    """`ProcessUtilization` with no, one and two processes, asked from the beginning and from where it was left."""
    rows = []
    for shares in ((), (0.5,), (0.6, 0.2)):
        with site.loaded(*shares) as pids:
            rows += [
                [len(shares), mode, *_process_samples(site, pids, keep=keep)]
                for mode, keep in (("0", False), ("kept", True))
            ]
    return table(
        ["processes", "last seen", "answers", "samples", "of the loads' pids", "mean SM % of each", "above 100"], rows
    )


def _process_samples(site: Site, pids: list[int], *, keep: bool) -> list[object]:
    import pynvml

    handle, last, answers, found = site.handle, 0, 0, []
    for _ in range(max(2, int(site.seconds / 6))):
        time.sleep(min(1.0, site.seconds / 6))
        samples, _error = asked(pynvml.nvmlDeviceGetProcessUtilization, handle, last)
        answers += samples is not None
        found += [(int(one.pid), int(one.smUtil)) for one in samples or ()]
        if keep and samples:
            last = max(int(one.timeStamp) for one in samples)
    means = [statistics.fmean([sm for pid, sm in found if pid == mine] or [0]) for mine in pids]
    ours = sum(1 for pid, _ in found if pid in pids)
    return [
        answers,
        len(found),
        ours,
        " ".join(f"{mean:.1f}" for mean in means) or "-",
        sum(sm > 100 for _, sm in found),
    ]


def two_processes(site: Site) -> list[str]:
    """Two processes that share the GPU, and their shares of its activity."""
    recording = site.record("pair", *load_of("pair"), "0.6", "0.2", f"{2 * site.seconds:g}")
    frame = recording.frames["gpu_process"]
    activity = {int(pid): float(rows["sm_util_pct"].fillna(0).sum()) for pid, rows in frame.groupby("pid")}
    samples, total = int(frame["util_samples"].fillna(0).sum()), sum(activity.values())
    seen = sum(1 for value in activity.values() if value > 0)
    site.check(
        "two processes that share the GPU are told apart",
        seen == 2 if total else None,
        f"{seen} seen in {samples} samples",
    )
    rows = [
        [
            pid,
            f"{value / total:.3f}" if total else "-",
            f"±{_share_error(value / total, samples):.3f}" if total else "-",
        ]
        for pid, value in activity.items()
    ]
    return [
        f"Duties 0.6 and 0.2; {samples} samples of the driver.",
        "",
        *table(["pid", "share", "three standard deviations"], rows),
    ]


def _share_error(share: float, samples: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / max(1, samples))


def pid_namespace(site: Site) -> list[str]:
    """Whose pids the driver gives to a process in a PID namespace of its own."""
    inside = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    rows = []
    for name, before in (("the machine's own", []), ("its own", inside)):
        argv = [*before, *load_of("listed"), f"{min(5.0, site.seconds / 3):g}"]
        try:
            done = subprocess.run(argv, env=site.environ, capture_output=True, text=True, check=False, timeout=300)
        except OSError as error:
            rows.append([name, "-", str(error), "-"])
            continue
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        last = (done.stderr.strip().splitlines() or [""])[-1][:200]
        rows.append([name, found.get("pid", "-"), found.get("list", last or "not allowed"), found.get("samples", "-")])
        if not before and found:
            site.check(
                "a process finds itself in the driver's list",
                found["pid"] in found["list"],
                f"{found['pid']} in {found['list']}",
            )
    return table(["PID namespace", "its pid", "pids in the process list", "pids in the samples"], rows)


def idle_power(site: Site) -> list[str]:
    """Power with nothing on the GPU, with a context, and with a context and most of its memory."""
    import pynvml

    memory, _ = asked(pynvml.nvmlDeviceGetMemoryInfo, site.handle)
    most = int(memory.free * 0.8) if memory else 0
    rows = [["nothing", *_power(site)]]
    for name, size in (("a context", 0), ("a context and memory", most)):
        argv = [*load_of("hold"), "100000", str(size)]
        with subprocess.Popen(argv, env=site.environ, stdout=subprocess.PIPE, text=True) as child:
            stands = child.stdout is not None and child.stdout.readline().strip() == "ready"
            rows.append([name, *(_power(site) if stands else ("the load failed", "", ""))])
            child.terminate()
    return table(["on the GPU", "mean W", "least W", "P-state"], rows)


def _power(site: Site) -> tuple[str, str, str]:
    """Mean and least power once it has settled, and the P-state."""
    import pynvml

    time.sleep(min(10.0, site.seconds / 3))
    seen, handle = [], site.handle
    for _ in range(max(5, int(site.seconds / 3 * 10))):
        value, error = asked(pynvml.nvmlDeviceGetPowerUsage, handle)
        if value is None:
            return error, "", ""
        seen.append(value / 1000)
        time.sleep(0.1)
    state, error = asked(pynvml.nvmlDeviceGetPerformanceState, handle)
    return f"{statistics.fmean(seen):.1f}", f"{min(seen):.1f}", error or f"P{state}"


def duty_cycles(site: Site) -> list[str]:
    """Loads of known duty cycle: how busy the recording says the GPU was."""
    from gpucost.analyzers import analyze

    rows = []
    for share, hz in itertools.product(DUTIES, (1, 10)):
        recording = site.record(f"duty-{share:g}", *load_of("duty"), f"{share:g}", f"{site.seconds:g}", hz=hz)
        analysis = analyze(recording)
        gpu, energy = analysis.gpus.iloc[0], analysis.energy_gpus.iloc[0]
        busy = float(gpu["busy_ns"]) / 1e9 / site.seconds
        site.check(f"a duty of {share:g} is busy for it at {hz} Hz", abs(busy - share) <= DUTY_WITHIN, f"{busy:.3f}")
        joules = [f"{float(energy[column]):.0f}" for column in ("counter_j", "integral_j")]
        rows.append(
            [
                share,
                hz,
                f"{busy:.3f}",
                f"{float(gpu['coverage']):.3f}",
                *joules,
                f"{float(energy['difference_pct']):+.2f}",
            ]
        )
    return table(["duty", "Hz", "busy share", "measured", "counter J", "integral J", "difference %"], rows)


def dcgm(site: Site) -> list[str]:
    """NVIDIA's DCGM beside the recording, on the same load."""
    if shutil.which("dcgmi") is None:
        return ["`dcgmi` is not installed here."]
    import pynvml

    count = max(3, int(site.seconds / 2))
    index = str(pynvml.nvmlDeviceGetIndex(site.handle))
    argv = ["dcgmi", "dmon", "-i", index, "-e", ",".join(map(str, DCGM_FIELDS)), "-d", "1000", "-c", str(count)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as beside:
        recording = site.record("dcgm", *load_of("duty"), "0.9", f"{count + 2:g}")
        output = beside.communicate(timeout=120)[0]
    theirs = _dcgm_means(output)
    columns = ("gr_active_pct", "sm_active_pct", "sm_occupancy_pct", "tensor_active_pct", "dram_active_pct")
    frame = recording.frames["gpu"]
    ours = [float(frame[column].astype("float64").mean()) for column in columns]
    if not theirs:
        return ["`dcgmi dmon` gave no figures:", "", "```text", *output.splitlines()[-5:], "```"]
    rows = [
        [name, f"{mine:.1f}", f"{their:.1f}"]
        for name, mine, their in zip(DCGM_FIELDS.values(), ours, theirs, strict=True)
    ]
    return table(["metric", "recording, mean %", "dcgmi, mean %"], rows)


def _dcgm_means(output: str) -> list[float]:
    """Means of the columns of `dcgmi dmon` in percent; empty where it has no line of figures."""
    rows = []
    for line in output.splitlines():
        words = line.split()
        if len(words) == len(DCGM_FIELDS) + 2 and words[0] == "GPU":
            try:
                rows.append([100 * float(word) for word in words[2:]])
            except ValueError:  # N/A
                continue
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def slow_down(site: Site) -> list[str]:
    """How much recording slows the work down, in pairs of runs with and without it, in random order."""
    from bench_workload import interval

    bare = load_of("work")
    rounds = _rounds(site, bare)
    choice, rows = random.Random(11), []
    for hz in RATES_HZ:
        logs = []
        for _ in range(site.pairs):
            argv = {True: [*recorder(site.folder / "slow-down", site.uuid, hz), *bare], False: bare}
            order = [True, False]
            choice.shuffle(order)
            took = {recorded: _seconds(site, [*argv[recorded], str(rounds)]) for recorded in order}
            logs.append(math.log(took[True] / took[False]))
        rows.append([hz, len(logs), interval(logs, choice), f"{100 * statistics.pstdev(logs):.2f}"])
    return [
        f"Work of {rounds} rounds.",
        "",
        *table(["Hz", "pairs", "slow-down, % (95 %)", "spread of a pair, %"], rows),
    ]


def _rounds(site: Site, bare: list[str]) -> int:
    """How many rounds of work take about a third of a recording."""
    rounds, wanted = 16, site.seconds / 3
    while (took := _seconds(site, [*bare, str(rounds)])) < wanted / 8 and rounds < 1 << 24:
        rounds *= 4
    return max(1, round(rounds * wanted / took))


def _seconds(site: Site, argv: list[str]) -> float:
    done = subprocess.run(argv, env=site.environ, stdout=subprocess.PIPE, text=True, check=True, timeout=1200)
    return max(float(done.stdout.split()[-1]), 1e-9)


Probe = Callable[[Site], list[str]]

PROBES: tuple[Probe, ...] = (
    doctor,
    fields,
    gpm_idle,
    buffered_samples,
    energy_steps,
    energy_idle,
    latency_idle,
    gpm_loaded,
    energy_loaded,
    latency_loaded,
    process_samples,
    two_processes,
    pid_namespace,
    idle_power,
    duty_cycles,
    dcgm,
    slow_down,
)
"""In the order of the page: first what needs no load."""

NEEDS_LOAD = frozenset(PROBES[PROBES.index(gpm_loaded) :])


def sections(site: Site, probes: Sequence[Probe] = PROBES) -> list[str]:
    """The page's sections; a probe that breaks says so in its place, and is a check that failed."""
    lines: list[str] = []
    for probe in probes:
        title = (probe.__doc__ or probe.__name__).splitlines()[0]
        lines += ["", f"## {probe.__name__.replace('_', ' ').capitalize()}", "", title, ""]
        if probe in NEEDS_LOAD and not site.has_load:
            lines.append("Not run: it needs a load, and torch cannot use this GPU here.")
            continue
        try:
            lines += probe(site)
        except Exception as error:  # noqa: BLE001 (the other probes go on, and the page says which one did not)
            site.check(f"{probe.__name__} runs", False, f"{type(error).__name__}: {error}"[:300].replace("\n", " "))
            lines.append(f"It broke: {type(error).__name__}.")
    return lines
