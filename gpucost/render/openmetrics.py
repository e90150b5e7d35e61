"""A run's figures and its gates as OpenMetrics text, for a forge's metrics report and for whatever scrapes files.

A figure that is not known has no sample: it is absent, and never 0. Nothing in the labels changes from run to run, so that the same series
can be compared between two of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TextIO

from gpucost.render.safe import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost.report.comparison import CheckResult
    from gpucost.report.model import Figure, Money, Report

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class _Family(NamedTuple):
    """A gauge: its name (the unit last, where there is one), its unit, what it is, and its samples by labels."""

    name: str
    unit: str
    text: str
    samples: list[tuple[dict[str, str], str | None]]


def render(report: Report, check: CheckResult | None, file: TextIO) -> None:
    """Write every figure that is known.

    Args:
        report: of the run.
        check: its gates.
        file: to write to; all that is written is ASCII, or escaped so that any UTF-8 file takes it.
    """
    for family in _families(report, check):
        known = [(labels, value) for labels, value in family.samples if value is not None]
        if not known:
            continue
        file.write(f"# TYPE {family.name} gauge\n")
        if family.unit:
            file.write(f"# UNIT {family.name} {family.unit}\n")
        file.write(f"# HELP {family.name} {family.text}\n")
        file.writelines(f"{family.name}{_labels(labels)} {value}\n" for labels, value in known)
    file.write("# EOF\n")


def _families(report: Report, check: CheckResult | None) -> Iterator[_Family]:
    total = report.total
    yield _single("gpucost_cost_usd", "usd", "Cost of the run", _money(total.money))
    yield _single("gpucost_idle_cost_usd", "usd", "Cost of gap, idle and empty", _money(total.waste))
    yield _single("gpucost_gpu_time_seconds", "seconds", "GPU time held", _figure(total.gpu_time_s))
    yield _single(
        "gpucost_idle_time_seconds", "seconds", "GPU time in gap, idle and empty", _figure(total.waste_time_s)
    )
    yield _single("gpucost_idle_share_percent", "percent", "Share of gap, idle and empty", _figure(total.waste_pct))
    yield _single("gpucost_energy_joules", "joules", "Energy of the GPUs", _figure(total.energy_j))
    yield _single("gpucost_duration_seconds", "seconds", "Duration of the run", _figure(report.run.duration_s))
    yield _single("gpucost_simulated", "", "Whether the GPUs were simulated", str(int(report.run.simulated)))
    yield from _parts(report)
    if check is not None:
        yield _Family("gpucost_gate_failed", "", "Whether a gate made the check fail", _gates(check))


def _parts(report: Report) -> Iterator[_Family]:
    uses = [({"use": use.use}, use) for use in report.uses]
    yield _Family("gpucost_use_cost_usd", "usd", "Cost by use", [(name, _money(use.money)) for name, use in uses])
    yield _Family(
        "gpucost_use_time_seconds",
        "seconds",
        "GPU time by use",
        [(name, _figure(use.gpu_time_s)) for name, use in uses],
    )
    stages = [({"stage": row.path}, row) for row in report.stages]
    own = [(name, _money(row.self_money)) for name, row in stages]
    yield _Family(
        "gpucost_stage_self_cost_usd", "usd", "Cost by stage, without its sub-stages; adds up to the run", own
    )
    whole = [(name, _money(row.total_money)) for name, row in stages]
    yield _Family("gpucost_stage_total_cost_usd", "usd", "Cost by stage, with its sub-stages", whole)
    time = [(name, _figure(row.total_time_s)) for name, row in stages]
    yield _Family("gpucost_stage_gpu_time_seconds", "seconds", "GPU time by stage, with its sub-stages", time)


def _gates(check: CheckResult) -> list[tuple[dict[str, str], str | None]]:
    samples: dict[tuple[str, str], str | None] = {}
    for gate in check.gates:
        key = (gate.gate, gate.stage or "")
        samples[key] = "1" if gate.fails or samples.get(key) == "1" else "0"
    return [({"gate": gate, "stage": stage}, value) for (gate, stage), value in samples.items()]


def _single(name: str, unit: str, text: str, value: str | None) -> _Family:
    return _Family(name, unit, text, [({}, value)])


def _money(money: Money) -> str | None:
    return money.usd if money.usd is not None and _NUMBER.fullmatch(money.usd) else None


def _figure(figure: Figure) -> str | None:
    return None if figure.value is None else repr(figure.value)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return plain(value).replace("\\", "\\\\").replace('"', '\\"')
