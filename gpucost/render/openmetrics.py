"""A run and its gates as OpenMetrics text, for GitLab's metrics report and for anything else that reads Prometheus' format.

https://prometheus.io/docs/specs/om/open_metrics_spec/: gauges, units in the names, labels escaped, ended by `# EOF`. A figure that is not known has
no line, because the format has no such value; a bound is not a figure either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TextIO

from gpucost.render.safe import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost.report.comparison import CheckResult
    from gpucost.report.model import Figure, Money, Report

MAX_STAGES = 200
"""Stages with lines of their own, the first of the report; a metrics report of thousands of lines is read by nobody."""

_GATES = "gpucost_gate_passed"


class _Line(NamedTuple):
    """One sample: labels, and the value as it is written."""

    labels: dict[str, str]
    value: str


def render(report: Report, check: CheckResult | None, file: TextIO, *, width: int = 0, color: bool = False) -> None:  # noqa: ARG001 (it has neither)
    """Write the text to `file`."""
    file.write(openmetrics(report, check))


def openmetrics(report: Report, check: CheckResult | None = None) -> str:
    """The text. Labels hold nothing that differs from run to run, so that the metrics of two runs can be compared line by line."""
    lines: list[str] = []
    for name, unit, about, samples in _families(report, check):
        found: dict[str, str] = {}
        for sample in samples:
            if sample is not None:
                # One series may come once only: of two verdicts on one gate the worse one, of two names that look alike the first.
                labels = _labels(sample.labels)
                kept = found.setdefault(labels, sample.value)
                found[labels] = "0" if name == _GATES and sample.value == "0" else kept
        if found:
            lines += [f"# TYPE {name} gauge", *([f"# UNIT {name} {unit}"] if unit else []), f"# HELP {name} {about}"]
            lines += [f"{name}{labels} {value}" for labels, value in found.items()]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _families(report: Report, check: CheckResult | None) -> Iterator[tuple[str, str, str, list[_Line | None]]]:
    total = report.total
    simulated = [_Line({}, "1")] if report.run.simulated else []
    yield "gpucost_run_simulated", "", "SIMULATED: these GPUs are not real, and neither are the figures.", [*simulated]
    money = [] if total.partial else [_money({}, total.money)]
    yield "gpucost_run_cost_usd", "usd", "What the run cost.", [*money]
    yield (
        "gpucost_run_use_cost_usd",
        "usd",
        "What the run cost, by use.",
        [] if total.partial else [_money({"use": use.use}, use.money) for use in report.uses if report.gpus],
    )
    yield (
        "gpucost_run_use_gpu_seconds",
        "seconds",
        "Held GPU time, by use.",
        [_figure({"use": use.use}, use.gpu_time_s) for use in report.uses if report.gpus],
    )
    yield "gpucost_run_gpu_seconds", "seconds", "Held GPU time.", [_figure({}, total.gpu_time_s)]
    yield "gpucost_run_idle_ratio", "ratio", "Gap, idle and empty as a share of the run.", [_ratio({}, total.waste_pct)]
    yield "gpucost_run_energy_joules", "joules", "Energy of the GPUs.", [_figure({}, total.energy_j)]
    yield "gpucost_run_duration_seconds", "seconds", "How long the run took.", [_figure({}, report.run.duration_s)]
    stages = report.stages[:MAX_STAGES] if report.marked_stages else []
    yield (
        "gpucost_stage_cost_usd",
        "usd",
        "What each stage cost by itself.",
        [] if total.partial else [_money({"stage": row.path}, row.self_money) for row in stages],
    )
    yield (
        "gpucost_stage_gpu_seconds",
        "seconds",
        "GPU time of each stage by itself.",
        [_figure({"stage": row.path}, row.self_time_s) for row in stages],
    )
    gates = check.gates if check else []
    yield (
        _GATES,
        "",
        "1 where the gate passed, 0 where it makes the check fail; no line where it was not decided.",
        [
            _Line({"gate": gate.gate, "stage": gate.stage or ""}, str(int(not gate.fails)))
            for gate in gates
            if gate.fails or gate.status == "passed"
        ],
    )


def _money(labels: dict[str, str], money: Money) -> _Line | None:
    return None if money.usd is None else _Line(labels, money.usd)


def _figure(labels: dict[str, str], figure: Figure) -> _Line | None:
    if figure.value is None or figure.text.startswith("≥"):
        return None
    return _Line(labels, repr(round(float(figure.value), 9)))


def _ratio(labels: dict[str, str], figure: Figure) -> _Line | None:
    line = _figure(labels, figure)
    return None if line is None or figure.value is None else _Line(labels, repr(round(float(figure.value) / 100, 9)))


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return plain(value).replace("\\", "\\\\").replace('"', '\\"')
