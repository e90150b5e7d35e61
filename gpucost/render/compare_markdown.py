"""A comparison and a check as GitHub-flavoured Markdown, and the tables of which a pull request's comment is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from gpucost.render.markdown import code, prose, table
from gpucost.render.safe import for_encoding, plain
from gpucost.report.comparison import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gpucost.report.comparison import Change, CheckResult, Comparison, GateResult, RunRef, StageChange

SIMULATED = "**SIMULATED**: these GPUs are not real, and neither are the figures."
MAX_RUNS = 25
_MAX_INDENT = 6
_NAME = 120


def render(comparison: Comparison, file: TextIO, *, width: int = 0, color: bool = False) -> None:  # noqa: ARG001 (Markdown has neither)
    """Write a comparison as Markdown."""
    text = "\n".join(_comparison(comparison)) + "\n"
    file.write(for_encoding(text, getattr(file, "encoding", None)))


def render_check(check: CheckResult, file: TextIO, *, width: int = 0, color: bool = False) -> None:  # noqa: ARG001
    """Write a check as Markdown."""
    text = "\n".join(_check(check)) + "\n"
    file.write(for_encoding(text, getattr(file, "encoding", None)))


def _comparison(comparison: Comparison) -> Iterator[str]:
    if comparison.simulated:
        yield from (SIMULATED, "")
    yield from ("## gpucost: what changed", "", f"{prose(comparison.headline)}.", "")
    yield from run_table(comparison)
    yield from ("### By stage", "")
    yield from stage_table(comparison)
    yield from ("### By GPU", "")
    yield from gpu_table(comparison)
    yield from ("### What the verdicts rest on", "")
    yield from method_lines(comparison)


def _check(check: CheckResult) -> Iterator[str]:
    if check.run.simulated:
        yield from (SIMULATED, "")
    yield from (f"## gpucost: {gates_text(check)}", "", f"Run {run_text(check.run)}", "")
    yield from gate_table(check.gates)
    yield from (f"- {prose(note)}" for note in check.notes)
    if check.comparison:
        yield from ("", f"{prose(check.comparison.headline)}.", "")
        yield from method_lines(check.comparison)


def gates_text(check: CheckResult) -> str:
    """How many gates failed, in a few words."""
    number = len(check.gates)
    if not number:
        return "no gates"
    gates = f"{number} gate{'s' if number > 1 else ''}"
    undecided = sum(gate.status in ("undecided", "missing") and not gate.fails for gate in check.gates)
    rest = f" ({undecided} without a verdict)" if undecided else ""
    if check.failing:
        return f"{len(check.failing)} of {gates} failed{rest}"
    return f"no gate failed of {number}{rest}" if undecided else f"{'all ' if number > 1 else ''}{gates} passed"


def run_text(run: RunRef) -> str:
    """A run in a line."""
    name = f" {code(plain(run.name, 60))}" if run.name else ""
    return f"{code(plain(run.run_id, 60))}{name}"


def run_table(comparison: Comparison) -> Iterator[str]:
    """The whole run, figure by figure."""
    rows = [
        [METRICS[metric], *_texts(one), one.word, one.note if one.direction != "unknown" else ""]
        for metric, one in comparison.run.items()
    ]
    yield from table(["", "baseline", "new", "change", "", "verdict", "basis"], rows, numbers=4, first=1)


def stage_table(comparison: Comparison, limit: int | None = None) -> Iterator[str]:
    """The stages by themselves; with `limit`, the first so many rows of those that are shown, without a total."""
    metric, waste = money_or_time(comparison)
    shown = [row for row in comparison.stages if row.shown]
    rows = [_stage_row(row, metric, waste) for row in shown[:limit]]
    cut = limit is not None and len(shown) > limit
    if cut:
        rows.append([f"{len(shown) - (limit or 0)} more rows left out", *[""] * 7])
    rest = comparison.stages_folded
    if rest and not cut:
        rows.append(
            [f"{rest.count} more stages", *_texts(rest.changes[metric]), "", rest.changes[waste].delta.text, ""]
        )
    run = comparison.run
    rows.append(
        ["**total**", *_texts(run[metric]), run[metric].word, run[waste].delta.text, run["energy_j"].delta.text]
    )
    header = ["stage", "baseline", "new", "change", "", "verdict", "idle", "energy"]
    yield from table(header, rows, numbers=7, first=1)
    yield f"The {METRICS[metric]} of a stage is its own, without its sub-stages: the columns add up to the run."
    yield ""


def gpu_table(comparison: Comparison, limit: int | None = None) -> Iterator[str]:
    """The GPUs; with `limit`, the first so many."""
    metric, waste = money_or_time(comparison)
    rows = [
        [
            code(plain(f"{row.label} {row.name}", _NAME), cell=True) + _presence(row.presence, None),
            *_texts(row.changes[metric]),
            row.changes[metric].word,
            row.changes[waste].delta.text,
            row.changes["energy_j"].delta.text,
        ]
        for row in comparison.gpus[:limit]
    ]
    if limit is not None and len(comparison.gpus) > limit:
        rows.append([f"{len(comparison.gpus) - limit} more left out", *[""] * 7])
    run = comparison.run
    rows.append(
        ["**total**", *_texts(run[metric]), run[metric].word, run[waste].delta.text, run["energy_j"].delta.text]
    )
    yield from table(["GPU", "baseline", "new", "change", "", "verdict", "idle", "energy"], rows, numbers=7, first=1)


def gate_table(gates: Sequence[GateResult], limit: int | None = None) -> Iterator[str]:
    """The gates; with `limit`, the first so many."""
    rows = [
        [
            f"**{gate.status}**" if gate.fails else gate.status,
            code(plain(gate.title, _NAME), cell=True),
            prose(plain(gate.value.text)),
            prose(plain(gate.limit.text)),
            prose(plain(gate.message, 300)),
        ]
        for gate in gates[:limit]
    ]
    if limit is not None and len(gates) > limit:
        rows.append([f"{len(gates) - limit} more left out", "", "", "", ""])
    yield from table(["", "gate", "value", "limit", ""], rows, numbers=2, first=2)


def method_lines(comparison: Comparison) -> Iterator[str]:
    """How the verdicts came about, and which runs are on which side."""
    yield f"- {prose(comparison.method.text)}"
    yield from (f"- {prose(note)}" for note in comparison.notes)
    if comparison.matched_on and "none" not in comparison.matched_on:
        yield f"- matched on {', '.join(code(plain(word, 60)) for word in comparison.matched_on)}"
    for name, side in (("baseline", comparison.base), ("new", comparison.head)):
        more = f" and {len(side.runs) - MAX_RUNS} more" if len(side.runs) > MAX_RUNS else ""
        yield f"- {name}: {', '.join(run_text(run) for run in side.runs[:MAX_RUNS])}{more}"
    left = comparison.base.left_out
    yield from (
        f"- left out: {code(plain(run.run_id, 60))}, {prose(plain(run.reason, 200))}" for run in left[:MAX_RUNS]
    )
    if len(left) > MAX_RUNS:
        yield f"- left out: {len(left) - MAX_RUNS} more runs"
    yield ""


def money_or_time(comparison: Comparison) -> tuple[str, str]:
    """The metrics of tables: money, or GPU time where neither side's money is known."""
    cost = comparison.run["cost_usd"]
    unknown = cost.base.value is None and cost.head.value is None
    return ("gpu_time_s", "waste_s") if unknown else ("cost_usd", "waste_usd")


def _stage_row(row: StageChange, metric: str, waste: str) -> list[str]:
    indent = "&emsp;" * min(row.depth, _MAX_INDENT)
    name = indent + code(plain(row.name, _NAME), cell=True) + _presence(row.presence, row.was)
    one = row.changes[metric]
    return [name, *_texts(one), one.word, row.changes[waste].delta.text, row.changes["energy_j"].delta.text]


def _presence(presence: str, was: str | None) -> str:
    if presence == "renamed" and was is not None:
        return f" (probably {code(plain(was, _NAME), cell=True)} renamed)"
    return "" if presence == "both" else f" ({presence})"


def _texts(one: Change) -> list[str]:
    return [one.base.text, one.head.text, one.delta.text, one.delta_pct.text]


def bullets(lines: Iterable[str]) -> Iterator[str]:
    """A list."""
    yield from (f"- {line}" for line in lines)
