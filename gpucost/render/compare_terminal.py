"""A comparison and a check in a terminal: readable at 80 columns, without colour, and in a pipe."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TextIO

from rich.table import Table
from rich.text import Text

from gpucost.render.compare_markdown import gates_text, money_or_time
from gpucost.render.safe import for_encoding, plain
from gpucost.render.terminal import MIN_WIDTH, WIDE, console_for
from gpucost.report.comparison import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import JustifyMethod, RenderableType

    from gpucost.report.comparison import Change, CheckResult, Comparison, GateResult, Side, StageChange

STATUS_STYLES = {"passed": "green", "failed": "red", "missing": "yellow", "undecided": "bright_black"}
WORD_STYLES = {"worse": "red", "better": "green"}
_MAX_INDENT = 6
_MAX_RUNS = 4
_SIMULATED = Text.assemble((" SIMULATED ", "bold reverse"), " these GPUs are not real, and neither are the figures")


def render(comparison: Comparison, file: TextIO, *, width: int = 80, color: bool = False) -> None:
    """Write a comparison to `file`, in `width` columns (at least 40)."""
    _write(_comparison(comparison, max(MIN_WIDTH, width)), file, width=width, color=color)


def render_check(check: CheckResult, file: TextIO, *, width: int = 80, color: bool = False) -> None:
    """Write a check to `file`, in `width` columns (at least 40)."""
    _write(_check(check), file, width=width, color=color)


def _write(parts: Iterable[RenderableType], file: TextIO, *, width: int, color: bool) -> None:
    buffer = io.StringIO()
    console = console_for(buffer, width=max(MIN_WIDTH, width), color=color)
    for part in parts:
        console.print(part)
    lines = (line.rstrip() for line in buffer.getvalue().splitlines())
    file.write(for_encoding("\n".join(lines) + "\n", getattr(file, "encoding", None)))


def _comparison(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    if comparison.simulated:
        yield _SIMULATED
    yield Text.assemble(("gpucost", "bold"), "  what changed")
    yield _side("baseline", comparison.base)
    yield _side("new", comparison.head)
    yield Text()
    yield _run(comparison, width)
    yield _title("By stage", width)
    yield from _stages(comparison, width)
    yield _title("By GPU", width)
    yield _gpus(comparison, width)
    yield _title("What the verdicts rest on", width)
    yield Text(plain(comparison.method.text, 600))
    for note in comparison.notes:
        yield Text(plain(note, 600), style="yellow")
    if comparison.matched_on and "none" not in comparison.matched_on:
        yield Text(f"matched on {plain(', '.join(comparison.matched_on))}", style="bright_black")
    yield from _left_out(comparison.base)


def _side(name: str, side: Side) -> Text:
    runs = ", ".join(
        plain(run.run_id, 60) + (f" {plain(run.name, 40)}" if run.name else "") for run in side.runs[:_MAX_RUNS]
    )
    more = f" and {len(side.runs) - _MAX_RUNS} more" if len(side.runs) > _MAX_RUNS else ""
    return Text.assemble((f"{name:<9}", "bright_black"), runs, more)


def _left_out(side: Side) -> Iterator[Text]:
    for run in side.left_out[:_MAX_RUNS]:
        yield Text(f"left out: {plain(run.run_id, 60)}, {plain(run.reason, 200)}", style="bright_black")
    if len(side.left_out) > _MAX_RUNS:
        yield Text(f"left out: {len(side.left_out) - _MAX_RUNS} more runs", style="bright_black")


def _title(text: str, width: int) -> Text:
    line = f"─ {text} "
    return Text(f"\n{line}{'─' * max(0, width - len(line))}", style="bold")


def _table(first: str, columns: Iterable[str]) -> Table:
    table = Table(
        box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black", expand=True
    )
    table.add_column(Text(first), no_wrap=True, overflow="ellipsis", ratio=1)
    for name in columns:
        justify: JustifyMethod = "left" if name == "verdict" else "right"
        table.add_column(Text(name), justify=justify, no_wrap=True, overflow="ellipsis")
    return table


def _cells(one: Change) -> list[Text]:
    style = WORD_STYLES.get(one.word, "")
    texts = (one.base.text, one.head.text, one.delta.text, one.delta_pct.text)
    return [Text(texts[0]), Text(texts[1]), *(Text(text, style=style) for text in (*texts[2:], one.word))]


def _run(comparison: Comparison, width: int) -> Table:
    wide = width >= WIDE
    table = _table("", ["baseline", "new", "change", "", "verdict", *(["basis"] if wide else [])])
    for metric, one in comparison.run.items():
        table.add_row(Text(METRICS[metric]), *_cells(one), *([Text(one.note)] if wide else []))
    return table


def _stages(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    metric, waste = money_or_time(comparison)
    more = (waste, "energy_j") if width >= WIDE else ()
    table = _table("stage", ["baseline", "new", "change", "", "verdict", *(METRICS[name] for name in more)])
    for row in comparison.stages:
        if row.shown:
            table.add_row(
                _stage_name(row), *_cells(row.changes[metric]), *(row.changes[name].delta.text for name in more)
            )
    rest = comparison.stages_folded
    if rest:
        table.add_row(
            f"{rest.count} more stages",
            *_cells(rest.changes[metric]),
            *(rest.changes[name].delta.text for name in more),
        )
    whole = comparison.run
    table.add_row(Text("total", style="bold"), *_cells(whole[metric]), *(whole[name].delta.text for name in more))
    yield table
    yield Text(
        f"{METRICS[metric]} of each stage by itself, without its sub-stages: the columns add up", style="bright_black"
    )
    for row in comparison.stages:
        if row.presence == "renamed" and row.shown:
            yield Text(f"{plain(row.path, 100)} is probably {plain(row.was or '', 100)}, renamed", style="bright_black")


def _stage_name(row: StageChange) -> Text:
    mark = {"added": " (new)", "removed": " (gone)", "renamed": " (renamed?)"}.get(row.presence, "")
    return Text("  " * min(row.depth, _MAX_INDENT) + plain(row.name, 100) + mark)


def _gpus(comparison: Comparison, width: int) -> Table:
    metric, waste = money_or_time(comparison)
    more = (waste, "energy_j") if width >= WIDE else ()
    table = _table("GPU", ["baseline", "new", "change", "", "verdict", *(METRICS[name] for name in more)])
    for row in comparison.gpus:
        mark = {"added": " (new)", "removed": " (gone)"}.get(row.presence, "")
        name = f"{row.label} {row.name.removeprefix('NVIDIA ')}"
        table.add_row(
            Text(plain(name, 100) + mark),
            *_cells(row.changes[metric]),
            *(row.changes[name].delta.text for name in more),
        )
    return table


def _check(check: CheckResult) -> Iterator[RenderableType]:
    if check.run.simulated:
        yield _SIMULATED
    name = f"  {plain(check.run.name, 60)}" if check.run.name else ""
    repeats = f" and {check.repeats - 1} repeats of it" if check.repeats > 1 else ""
    yield Text.assemble(("gpucost", "bold"), "  ", (plain(check.run.run_id, 60), "bold"), name, repeats)
    table = Table(box=None, show_edge=False, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for gate in check.gates:
        table.add_row(_status(gate), Text(plain(gate.message, 600)))
    yield table
    for note in check.notes:
        yield Text(plain(note, 600), style="bright_black")
    if check.comparison:
        yield Text(plain(check.comparison.method.text, 600), style="bright_black")
    yield Text(gates_text(check), style="bold green" if check.passed else "bold red")


def _status(gate: GateResult) -> Text:
    return Text(gate.status, style="red" if gate.fails else STATUS_STYLES[gate.status])
