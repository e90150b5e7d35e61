"""Recordings, analyses and reports made up for tests of the report and the renderers: no file, no clock, no driver.

The cube of the ledger is given by hand, so every expected figure can be worked out on paper.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

import pandas as pd

from gpucost.analyzers.model import NO_STAGE, PATH_SEPARATOR, USES, Analysis, Costs, Settings
from gpucost.manifest import COMPLETE, Gpu, Host, Manifest
from gpucost.prices import Quote, resolve
from gpucost.recording import Recording
from gpucost.report import build
from gpucost.report.model import Report
from gpucost.schema import TABLES

S = 1_000_000_000
STARTED_NS = 1_785_001_501_000_000_000  # 2026-07-25T17:45:01Z
H100 = "NVIDIA H100 80GB HBM3"

HELD_BACK = ["gpu_uuid", "cause", "held_back_ns", "covered_ns", "basis", "samples"]
LINKS = ["gpu_uuid", "readings", "gen", "width", "gen_below", "width_below", "gen_max", "width_max"]

HARDWARE = ["gpu_uuid", "kind", "message", "count", "first_ns"]

Cube = dict[tuple[str, str, str], int]
"""(GPU UUID, stage path, use) to nanoseconds."""


def a_gpu(number: int = 0, **fields) -> Gpu:
    given = {"name": H100, "host": "node1", "index": number, "power_limit_w": 700.0, **fields}
    return Gpu(f"GPU-{number:08x}-0000-0000-0000-000000000000", **given)


@dataclass
class Scenario:
    """A run made up by hand; see `demo` for one with everything in it."""

    gpus: list[Gpu] = field(default_factory=lambda: [a_gpu()])
    cube: Cube = field(default_factory=dict)
    end_ns: int = 100 * S
    spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    power_w: float | None = 400.0
    manifest: dict = field(default_factory=dict)
    recording: dict = field(default_factory=dict)
    events: list[tuple] = field(default_factory=list)
    recorder: list[tuple] = field(default_factory=list)
    unknown: list[tuple] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    short: tuple[str, ...] = ()
    held_back: list[tuple] = field(default_factory=list)  # GPU UUID, cause, nanoseconds, covered, basis, samples
    links: list[tuple] = field(
        default_factory=list
    )  # GPU UUID, readings, gen, width, gen_below, width_below, gen_max, width_max
    hardware: list[tuple] = field(default_factory=list)  # GPU UUID, kind, message, count, first nanosecond
    energy_errors: dict[str, float] = field(
        default_factory=dict
    )  # stage path to percent; above 50 it is too short to tell
    settings: Settings = field(default_factory=lambda: Settings(timeline_buckets=120))


def report_of(scenario: Scenario, *, price: str | None = None, environ=None, config=None, **more) -> Report:
    recording = recording_of(scenario)
    quotes = resolve(recording.manifest, price, environ, config)
    analysis = analysis_of(scenario)
    return build(recording, analysis, costs_of(analysis, quotes), quotes, scenario.settings, **more)


def recording_of(scenario: Scenario) -> Recording:
    fields = {
        "name": None,
        "status": COMPLETE,
        "exit_code": 0,
        "end_time_ns": STARTED_NS + scenario.end_ns,
        "hosts": {"node1": Host("node1", STARTED_NS, 0)},
        "recorder": {"hz": 10.0},
        **scenario.manifest,
    }
    manifest = Manifest(
        fields.pop("run_id", "20260725-174501-a1b2c3"),
        fields.pop("command", ["python", "agent.py"]),
        STARTED_NS,
        0,
        gpus=scenario.gpus,
        **fields,
    )
    frames = {name: _empty(name) for name in TABLES}
    if scenario.events:
        frames["event"] = pd.DataFrame(scenario.events, columns=["kind", "source", "subject", "message", "t_ns"])
    if scenario.recorder:
        frames["recorder"] = _recorder(scenario.recorder)
    return Recording(manifest, frames, scenario.end_ns, **scenario.recording)


def costs_of(analysis: Analysis, quotes: dict[str, Quote | None]) -> Costs:
    rates = {uuid: quote.amount for uuid, quote in quotes.items() if quote is not None}
    ledger = analysis.ledger.copy()
    amounts = [
        Fraction(rates[uuid]) * int(ns) / (3600 * S) if uuid in rates else None
        for uuid, ns in zip(ledger["gpu_uuid"], ledger["duration_ns"], strict=True)
    ]
    ledger["cost_usd"] = pd.Series(amounts, index=ledger.index, dtype=object)
    total = sum((amount for amount in amounts if amount is not None), Fraction(0))
    unpriced = [uuid for uuid in analysis.gpus.index if uuid not in rates]
    exact = Decimal(total.numerator) / Decimal(total.denominator)
    return Costs(ledger, exact if rates else None, unpriced)


def analysis_of(scenario: Scenario) -> Analysis:
    cube = [(*key, ns) for key, ns in scenario.cube.items() if ns > 0]
    ledger = pd.DataFrame(cube, columns=["gpu_uuid", "stage_path", "use", "duration_ns"]).astype(
        {"duration_ns": "int64"}
    )
    return Analysis(
        ledger=ledger,
        gpus=_gpus(scenario),
        stages=_stages(scenario),
        energy=_energy(scenario),
        energy_gpus=_energy_gpus(scenario),
        timeline=_timeline(scenario),
        stage_timeline=_stage_timeline(scenario),
        unknown_intervals=pd.DataFrame(scenario.unknown, columns=["gpu_uuid", "start_ns", "end_ns", "reason"]),
        idle_intervals=pd.DataFrame(columns=["gpu_uuid", "use", "start_ns", "end_ns"]),
        host=pd.DataFrame(columns=["host"]),
        held_back=pd.DataFrame(_of_held(scenario, scenario.held_back), columns=HELD_BACK),
        links=pd.DataFrame(_of_held(scenario, scenario.links), columns=LINKS).set_index("gpu_uuid"),
        hardware=pd.DataFrame(_of_held(scenario, scenario.hardware), columns=HARDWARE),
        notes=list(scenario.notes),
    )


def _of_held(scenario: Scenario, rows: list[tuple]) -> list[tuple]:
    uuids = {gpu.uuid for gpu in _held(scenario)}
    return [row for row in rows if row[0] in uuids]


def _held(scenario: Scenario) -> list[Gpu]:
    return [gpu for gpu in scenario.gpus if gpu.held]


def _ns(scenario: Scenario, *, gpu=None, path=None, use=None) -> int:
    wanted = (gpu, path, use)
    return sum(
        ns for key, ns in scenario.cube.items() if all(w is None or w == k for w, k in zip(wanted, key, strict=True))
    )


def _gpus(scenario: Scenario) -> pd.DataFrame:
    rows = []
    for gpu in _held(scenario):
        held, unknown = _ns(scenario, gpu=gpu.uuid), _ns(scenario, gpu=gpu.uuid, use="unknown")
        known = held - unknown
        busy = _ns(scenario, gpu=gpu.uuid, use="busy")
        gaps = [end - start for uuid, start, end, _ in scenario.unknown if uuid == gpu.uuid]
        rows.append(
            {
                "gpu_uuid": gpu.uuid,
                "held_ns": held,
                **{f"{use}_ns": _ns(scenario, gpu=gpu.uuid, use=use) for use in USES},
                "coverage": known / held if held else float("nan"),
                "util_mean_pct": 100 * busy / known if known else float("nan"),
                "memory_peak_bytes": 21.3 * 2**30,
                "power_mean_w": float("nan") if scenario.power_w is None else scenario.power_w,
                "power_max_w": float("nan") if scenario.power_w is None else 612.0,
                "temperature_max_c": 61.0,
                "samples": known // (S // 10),
                "holding_basis": "processes",
                "longest_gap_ns": max(gaps, default=0),
                "gaps": len(gaps),
            }
        )
    columns = ["gpu_uuid", "held_ns", "coverage", "samples"]
    return pd.DataFrame(rows, columns=None if rows else columns).set_index("gpu_uuid")


def _stages(scenario: Scenario) -> pd.DataFrame:
    rows = []
    for path in _paths(scenario):
        parent, _, name = path.rpartition(PATH_SEPARATOR)
        spans = scenario.spans.get(path, [])
        inside = [p for p in _paths(scenario) if p == path or p.startswith(path + PATH_SEPARATOR)]
        rows.append(
            {
                "stage_path": path,
                "name": name or path,
                "parent_path": parent or None,
                "depth": path.count(PATH_SEPARATOR),
                "spans": len(spans),
                "truncated": 0,
                "wall_ns": sum(end - start for start, end in spans),
                "first_start_ns": min((start for start, _ in spans), default=0),
                "last_end_ns": max((end for _, end in spans), default=scenario.end_ns),
                **{f"self_{use}_ns": _ns(scenario, path=path, use=use) for use in USES},
                **{f"total_{use}_ns": sum(_ns(scenario, path=p, use=use) for p in inside) for use in USES},
                "self_ns": _ns(scenario, path=path),
                "total_ns": sum(_ns(scenario, path=p) for p in inside),
                "short": path in scenario.short,
                **_error(scenario, path),
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["stage_path", "name", "parent_path"])


def _error(scenario: Scenario, path: str) -> dict:
    pct = scenario.energy_errors.get(path, 0.4)
    return {
        "energy_error_pct": pct,
        "energy_too_short": pct > 50,
        "self_energy_error_pct": pct,
        "self_energy_too_short": pct > 50,
    }


def _paths(scenario: Scenario) -> list[str]:
    paths = list(scenario.spans)
    paths += [path for _, path, _ in scenario.cube if path not in paths]
    return [path for path in dict.fromkeys(paths) if path != NO_STAGE] + [NO_STAGE]


def _energy(scenario: Scenario) -> pd.DataFrame:
    rows = []
    for gpu in _held(scenario):
        for path in _paths(scenario):
            unknown = scenario.power_w is None
            joules = float("nan") if unknown else scenario.power_w * _ns(scenario, gpu=gpu.uuid, path=path) / S
            rows.append((gpu.uuid, path, joules, joules, 0.0, 0.0))
    return pd.DataFrame(rows, columns=["gpu_uuid", "stage_path", "energy_j", "active_j", "idle_j", "foreign_j"])


def _energy_gpus(scenario: Scenario) -> pd.DataFrame:
    rows = []
    for gpu in _held(scenario):
        held = _ns(scenario, gpu=gpu.uuid)
        unknown = scenario.power_w is None
        joules = float("nan") if unknown else scenario.power_w * held / S
        rows.append(
            {
                "gpu_uuid": gpu.uuid,
                "energy_j": joules,
                "counter_j": joules,
                "integral_j": joules * 0.992,
                "basis": "unknown" if unknown else "counter",
                "difference_pct": float("nan") if unknown else 0.8,
                "idle_power_w": 95.0,
                "idle_power_basis": "measured",
                "covered_ns": 0 if unknown else held,
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["gpu_uuid", "energy_j", "covered_ns"]).set_index("gpu_uuid")


def _timeline(scenario: Scenario) -> pd.DataFrame:
    """Utilization follows the spans of the first stages: high in every second one; nothing is measured in unknown stretches."""
    count = scenario.settings.timeline_buckets
    rows = []
    for number, gpu in enumerate(_held(scenario)):
        gaps = [(start, end) for uuid, start, end, _ in scenario.unknown if uuid == gpu.uuid]
        for bucket in range(count):
            start, end = bucket * scenario.end_ns // count, (bucket + 1) * scenario.end_ns // count
            lost = any(gap_start <= start and end <= gap_end for gap_start, gap_end in gaps)
            util = float("nan") if lost else float((bucket * 7 + number * 31) % 101 if (bucket // 15) % 2 else 4)
            power = float("nan") if lost or scenario.power_w is None else 95 + util * 5
            rows.append((gpu.uuid, bucket, start, end, util, power, 2e10))
    return pd.DataFrame(
        rows, columns=["gpu_uuid", "bucket", "start_ns", "end_ns", "util_pct", "power_w", "memory_used_bytes"]
    )


def _stage_timeline(scenario: Scenario) -> pd.DataFrame:
    count = scenario.settings.timeline_buckets
    width = scenario.end_ns / count
    rows = []
    for path, spans in scenario.spans.items():
        for bucket in range(count):
            low, high = bucket * width, (bucket + 1) * width
            open_ns = sum(max(0.0, min(high, end) - max(low, start)) for start, end in spans)
            if open_ns > 0:
                rows.append((path, bucket, min(1.0, open_ns / width)))
    return pd.DataFrame(rows, columns=["stage_path", "bucket", "open_share"])


def _empty(table: str) -> pd.DataFrame:
    return pd.DataFrame(columns=[*TABLES[table].columns, "host", "t_ns"])


def _recorder(rows: list[tuple]) -> pd.DataFrame:
    columns = [
        "host",
        "collector",
        "t_ns",
        "cpu_s",
        "rss_bytes",
        "ticks",
        "ticks_late",
        "ticks_missed",
        "driver_s",
        "driver_calls",
        "rows_dropped",
        "errors",
    ]
    return pd.DataFrame(rows, columns=columns)


def demo(**changes) -> Scenario:
    """An agent on two GPUs for 151.4 s: nested stages, a second without samples, an event, a problem."""
    first, second = a_gpu(0), a_gpu(1)
    plan, search, execute, train, verify = "plan", "plan > tool:search", "execute", "execute > train", "verify"
    spans = {
        plan: [(2 * S, 32 * S)],
        search: [(6 * S, 14 * S), (16 * S, 30 * S)],
        execute: [(32 * S, 118 * S)],
        train: [(40 * S, 110 * S)],
        verify: [(118 * S, 148 * S)],
    }
    cube: Cube = {
        (first.uuid, NO_STAGE, "empty"): 2 * S,
        (first.uuid, NO_STAGE, "idle"): 3_400_000_000,
        (first.uuid, plan, "busy"): 4_200_000_001,
        (first.uuid, plan, "gap"): 3_799_999_999,
        (first.uuid, search, "idle"): 22 * S,
        (first.uuid, execute, "busy"): 5 * S,
        (first.uuid, execute, "gap"): 11 * S,
        (first.uuid, train, "busy"): 58_333_333_333,
        (first.uuid, train, "gap"): 11_666_666_667,
        (first.uuid, verify, "busy"): 9 * S,
        (first.uuid, verify, "idle"): 20 * S,
        (first.uuid, verify, "unknown"): 1 * S,
        (second.uuid, NO_STAGE, "empty"): 5_400_000_000,
        (second.uuid, plan, "empty"): 8 * S,
        (second.uuid, search, "empty"): 22 * S,
        (second.uuid, execute, "gap"): 16 * S,
        (second.uuid, train, "busy"): 41 * S,
        (second.uuid, train, "gap"): 17 * S,
        (second.uuid, train, "foreign"): 12 * S,
        (second.uuid, verify, "idle"): 30 * S,
    }
    fields = {
        "gpus": [first, second],
        "cube": cube,
        "end_ns": 151_400_000_000,
        "spans": spans,
        "manifest": {
            "name": "nightly agent",
            "command": ["python", "agent.py", "--steps", "3"],
            "labels": {"git_branch": "main"},
        },
        "events": [
            ("gpu_lost", "nvml", second.uuid, "the driver lost the GPU", 125 * S),
            ("gpu_lost", "nvml", second.uuid, "the driver lost the GPU", 126 * S),
        ],
        "recorder": [
            ("node1", "recorder", 10 * S, 0.4, 40 * 2**20, None, None, None, None, None, 0, None),
            ("node1", "recorder", 150 * S, 2.85, 43 * 2**20, None, None, None, None, None, 0, None),
            ("node1", "nvml", 150 * S, None, None, 1500, 3, 1, 1.52, 21_000, None, 0),
            ("node1", "process", 150 * S, None, None, 150, 0, 0, None, None, None, 0),
        ],
        "unknown": [(first.uuid, 130 * S, 131 * S, "no_sample")],
        "short": (search,),
        "energy_errors": {search: 61.0, plan: 8.3},
        "held_back": [
            (first.uuid, "power_cap", 31.24 * S, 151_300_000_000, "counter", 152),
            (first.uuid, "thermal", 2.5 * S, 151_300_000_000, "counter", 152),
            (first.uuid, "power_brake", 0.0, 151_300_000_000, "counter", 152),
            (first.uuid, "sync_boost", float("nan"), 0, "unknown", 0),
            (second.uuid, "power_cap", 4.0 * S, 120 * S, "sampled", 1200),
            (second.uuid, "thermal", 0.0, 120 * S, "sampled", 1200),
            (second.uuid, "power_brake", 0.0, 120 * S, "sampled", 1200),
            (second.uuid, "sync_boost", 0.0, 120 * S, "sampled", 1200),
        ],
        "links": [
            (first.uuid, 70, 5.0, 16.0, 0.0, 0.0, 5.0, 16.0),
            (second.uuid, 40, 5.0, 8.0, 0.0, 1.0, 5.0, 16.0),
        ],
        "hardware": [
            (second.uuid, "xid", "GPU 1 (H100): XID 31: memory page fault, usually the program's own", 2, 124 * S)
        ],
    }
    return Scenario(**{**fields, **changes})
