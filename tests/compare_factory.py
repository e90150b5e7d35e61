"""Comparisons and checks made up for tests: reports by `report_factory`, a few seconds or cents apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.analyzers.model import NO_STAGE
from gpucost.gates.registry import GATES
from gpucost.gates.run import judge
from gpucost.gates.settings import CheckSettings
from gpucost.report.compare import compare
from gpucost.report.comparison import CheckResult, Comparison, LeftOut
from report_factory import S, Scenario, a_gpu, demo, report_of

if TYPE_CHECKING:
    from gpucost.report.model import Report


def a_report(number: int = 0, *, train_s: float = 60.0, stage: str = "train", **changes) -> Report:
    """A run of one GPU: `plan` for 20 s (half of it idle), then a stage of `train_s` seconds, busy but for a tenth, then 5 s without a stage."""
    gpu = a_gpu(0)
    train = round(train_s * S)
    cube = {
        (gpu.uuid, "plan", "busy"): 10 * S,
        (gpu.uuid, "plan", "idle"): 10 * S,
        (gpu.uuid, stage, "busy"): train - train // 10,
        (gpu.uuid, stage, "gap"): train // 10,
        (gpu.uuid, NO_STAGE, "empty"): 5 * S,
    }
    end = 25 * S + train
    fields = {
        "gpus": [gpu],
        "cube": cube,
        "end_ns": end,
        "spans": {"plan": [(0, 20 * S)], stage: [(20 * S, end - 5 * S)]},
        **changes,
    }
    manifest = {
        "run_id": f"20260725-1745{number:02d}-abcdef",
        "driver": {"driver": "570.86"},
        **fields.pop("manifest", {}),
    }
    return report_of(Scenario(**fields, manifest=manifest))


def history(count: int = 6, *, spread_s: float = 0.6) -> list[Report]:
    """Runs that differ by noise alone."""
    return [a_report(number, train_s=60.0 + spread_s * ((number * 7) % 5 - 2)) for number in range(count)]


def slower(count: int, train_s: float = 90.0, **more) -> list[Report]:
    """New runs whose second stage takes longer."""
    return [a_report(30 + number, train_s=train_s + number / 10, **more) for number in range(count)]


def compared(base: int = 6, head: int = 5) -> Comparison:
    """A slower head against a history."""
    left_out = [LeftOut("20260101-000000-zzzzzz", "its driver is 535.1, not 570.86")]
    return compare(history(base), slower(head), left_out=left_out, matched_on=["gpu", "count", "driver", "outcome"])


def renamed(**changes) -> Comparison:
    """One run against one, in which `train` became `fit` and `verify` came."""
    other = demo()
    gpu = other.gpus[0].uuid
    cube = {(uuid, path.replace("train", "fit"), use): ns for (uuid, path, use), ns in other.cube.items()}
    cube[gpu, "publish", "idle"] = 3 * S
    spans = {path.replace("train", "fit"): times for path, times in other.spans.items()}
    head = demo(cube=cube, spans={**spans, "publish": [(148 * S, 151 * S)]}, short=(), **changes)
    return compare([report_of(demo(**changes))], [report_of(head)])


def settings_for(**gates) -> CheckSettings:
    """Settings with gates as on the command line: `cost="2.50"`, or `{"cost@plan": "1"}`."""
    return CheckSettings().with_gates([f"{name}={limit}" for name, limit in gates.items()])


def checked(head: list[Report] | None = None, base: list[Report] | None = None, **gates) -> CheckResult:
    """A check of these runs by these gates."""
    return judge(head or slower(5), history() if base is None else base, settings_for(**gates))


def every_gate() -> CheckResult:
    """One verdict of each kind."""
    return checked(
        slower(1),
        None,
        **{
            "cost": "0.10",
            "cost@plan": "1",
            "idle_share": "30%",
            "cost_increase": "10%",
            "duration_increase": "60s",
            "energy@nowhere": "1kWh",
        },
    )


ALL_GATES = list(GATES)
