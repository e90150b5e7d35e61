"""The report in a terminal: readable at 80 columns, without colour, and in a pipe."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpucost.render import slow
from gpucost.render.drawing import step, tracks
from gpucost.render.efficiency import terminal as efficiency_parts
from gpucost.render.footer import footer
from gpucost.render.safe import for_encoding, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpucost.report.model import GpuRow, Report, StageRow

MIN_WIDTH = 40
WIDE = 120
"""From this width up, tables have more columns."""

USE_STYLES = {
    "busy": "green",
    "gap": "yellow",
    "idle": "red",
    "empty": "magenta",
    "foreign": "blue",
    "unknown": "bright_black",
}
TRACK_STYLES = {"util": "green", "power": "cyan", "stage": "blue", "axis": "bright_black", "ticks": "bright_black"}
MAX_HOSTS = 4
_MAX_INDENT = 6


def render(report: Report, file: TextIO, *, width: int = 80, color: bool = False) -> None:
    """Write the report to `file`, in `width` columns (at least 40), with the terminal's own colours or with none."""
    buffer = io.StringIO()
    console = console_for(buffer, width=max(MIN_WIDTH, width), color=color)
    for part in _parts(report, console.width):
        console.print(part)
    lines = (line.rstrip() for line in buffer.getvalue().splitlines())
    file.write(for_encoding("\n".join(lines) + "\n", getattr(file, "encoding", None)))


def console_for(file: TextIO, *, width: int, color: bool) -> Console:
    """A console that takes nothing for markup and asks nothing of its surroundings."""
    return Console(
        file=file,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )


def _parts(report: Report, width: int) -> Iterable[Any]:
    yield from _head(report)
    yield from _headline(report)
    if report.gpus:
        yield _title("Where the money went" if report.total.money.usd is not None else "Where the GPU time went", width)
        yield _waterfall(report, width)
        yield _waste(report)
        yield _title("By GPU", width)
        yield _gpus(report, width)
    yield _title("By stage", width)
    yield from _stages(report, width)
    if slow.any_known(report):
        yield _title("What slowed the GPUs", width)
        yield from slow.terminal(report, _table)
    if report.findings:
        yield _title("Findings", width)
        yield from slow.terminal_findings(report)
    if report.efficiency is not None:
        yield _title("What the cards could do", width)
        yield from efficiency_parts(report.efficiency, _table)
    if report.timeline.gpus or report.timeline.stages:
        yield _title("Timeline", width)
        yield from _timeline(report, width)
    yield _title("What the figures rest on", width)
    yield _footer(report)


def _head(report: Report) -> Iterable[Text]:
    run = report.run
    if run.simulated:
        yield Text.assemble((" SIMULATED ", "bold reverse"), " these GPUs are not real, and neither are the figures")
    title = Text.assemble(("gpucost", "bold"), "  ", (plain(run.run_id), "bold"))
    if run.name:
        title.append(f"  {plain(run.name, 60)}")
    title.append(f"  {run.exit_text}", style="green" if run.exit_code == 0 else "red")
    yield title
    if run.state != "complete":
        yield Text.assemble((run.state.upper(), "bold yellow"), f"  {run.state_text}")
    yield Text(f"$ {plain(run.command_text, 300)}", style="cyan")
    hosts = ", ".join(plain(host, 60) for host in run.hosts[:MAX_HOSTS])
    if len(run.hosts) > MAX_HOSTS:
        hosts += f" and {len(run.hosts) - MAX_HOSTS} more"
    when = run.started.replace("T", " ").replace("Z", " UTC")
    yield Text("  ".join(part for part in (when, run.duration_s.text, hosts, plain(run.gpus)) if part))
    if run.labels:
        yield Text(
            "  ".join(f"{plain(key, 40)}={plain(value, 80)}" for key, value in sorted(run.labels.items())),
            style="bright_black",
        )


def _headline(report: Report) -> Iterable[Any]:
    total = report.total
    priced = total.money.usd is not None
    waste = total.waste.text if priced else total.waste_time_s.text
    cells = [
        (total.money.text, "cost", "bold"),
        (total.busy_pct.text, "busy", "bold green"),
        (f"{waste} ({total.waste_pct.text})", "idle waste", "bold red"),
        (total.gpu_hours.text.removesuffix(" GPU-h"), "GPU-hours", "bold"),
        (total.energy_j.text, "energy", "bold"),
    ]
    if report.quality.uncertain:
        cells.insert(3, (total.unknown.text if priced else total.unknown_time_s.text, "unknown", "bold"))
    if report.gpus:
        grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        for _ in cells:
            grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_row(*(Text(value, style=style) for value, _, style in cells))
        grid.add_row(*(Text(label, style="bright_black") for _, label, _ in cells))
        yield Text()
        yield grid
    if total.note:
        yield Text(plain(total.note), style="yellow")


def _title(text: str, width: int) -> Text:
    line = f"─ {text} "
    return Text(f"\n{line}{'─' * max(0, width - len(line))}", style="bold")


def _table(*columns: str) -> Table:
    """A table whose first column is text and gives way, and whose other columns are numbers and do not."""
    table = Table(
        box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black", expand=True
    )
    for number, name in enumerate(columns):
        first = number == 0
        table.add_column(
            Text(name),
            justify="left" if first else "right",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if first else None,
        )
    return table


def _waterfall(report: Report, width: int) -> Table:
    wide = width >= WIDE
    rows = [_use_texts(report, use.gpu_time_s.text, use.share_pct.text, use.money.text) for use in report.uses]
    rows.append(_use_texts(report, report.total.gpu_time_s.text, "100.0 %", report.total.money.text))
    numbers = sum(max(len(text) for text in column) + 2 for column in zip(*rows, strict=True))
    meanings = max(len(use.meaning) for use in report.uses) + 2 if wide else 0
    bar_width = max(8, width - len("unknown") - numbers - meanings - 2)
    table = Table(box=None, show_edge=False, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for justify in ("left", "left", *("right" for _ in rows[0]), *(("left",) if wide else ())):
        table.add_column(justify=justify, no_wrap=True, overflow="ellipsis")
    for use, texts in zip(report.uses, rows, strict=False):
        style = USE_STYLES[use.use]
        bar = step(use.start_pct, use.share_pct.value or 0.0, bar_width).ljust(bar_width)
        meaning = [Text(use.meaning, style="bright_black")] if wide else []
        table.add_row(Text(use.use, style=style), Text(bar, style=style), *texts, *meaning)
    table.add_row(Text("total", style="bold"), "", *(Text(text, style="bold") for text in rows[-1]))
    return table


def _use_texts(report: Report, *texts: str) -> list[str]:
    """Time, share and, where there is any, money."""
    return list(texts if report.total.money.usd is not None else texts[:-1])


def _waste(report: Report) -> Text:
    total = report.total
    what = "cost" if report.shares_of == "cost" else "GPU time"
    money = f"{total.waste.text}, " if total.money.usd is not None else ""
    return Text(f"idle waste = gap + idle + empty: {money}{total.waste_pct.text} of the {what}", style="bright_black")


def _gpus(report: Report, width: int) -> Table:
    wide = width >= WIDE
    more = ("util", "power", "max power", "max temp", "measured") if wide else ()
    table = _table("GPU", "held", "busy", "idle", *more, "energy", "peak mem", "cost")
    for row in report.gpus:
        if row.shown:
            extra = (
                (row.util_mean_pct, row.power_mean_w, row.power_max_w, row.temperature_max_c, row.coverage_pct)
                if wide
                else ()
            )
            table.add_row(
                _gpu_name(row, wide=wide),
                row.held_s.text,
                row.busy_pct.text,
                row.waste_pct.text,
                *(figure.text for figure in extra),
                row.energy_j.text,
                row.memory_peak_bytes.text,
                row.money.text,
            )
    blank = [""] * len(more)
    rest = report.gpus_folded
    if rest:
        table.add_row(f"{rest.count} more", rest.time_s.text, "", "", *blank, rest.energy_j.text, "", rest.money.text)
    total = report.total
    if len(report.gpus) > 1:
        row_texts = (total.gpu_time_s, total.busy_pct, total.waste_pct)
        table.add_row(
            Text("total", style="bold"),
            *(figure.text for figure in row_texts),
            *blank,
            total.energy_j.text,
            "",
            Text(total.money.text, style="bold"),
        )
    return table


def _gpu_name(row: GpuRow, *, wide: bool) -> Text:
    name = f"{row.label} {row.name.removeprefix('NVIDIA ')}"
    return Text(plain(f"{name} {row.uuid}" if wide else name))


def _stages(report: Report, width: int) -> Iterable[Any]:
    if not report.marked_stages:
        yield Text(
            'No stage was marked; "with gpucost.stage(NAME):" or "gpucost stage NAME -- COMMAND" marks one.',
            style="bright_black",
        )
        return
    priced = report.total.money.usd is not None
    wide = width >= WIDE
    table = _table("stage", *(("spans",) if wide else ()), "wall", "self", "total", "idle", "energy")
    for row in report.stages:
        if row.shown:
            own = row.self_money.text if priced else row.self_time_s.text
            total = row.total_money.text if priced else row.total_time_s.text
            spans = (f"{row.spans}" if row.spans else "",) if wide else ()
            wall = row.wall_s.text if row.spans else ""
            table.add_row(
                _stage_name(row, wide=wide), *spans, wall, own, total, row.waste_pct.text, row.total_energy_j.text
            )
    pad = ("",) if wide else ()
    rest = report.stages_folded
    if rest:
        table.add_row(
            f"{rest.count} more stages", *pad, "", rest.money.text if priced else rest.time_s.text, "", "", ""
        )
    run = report.total
    sums = (run.money.text, run.money.text) if priced else (run.gpu_time_s.text, run.gpu_time_s.text)
    table.add_row(
        Text("total", style="bold"),
        *pad,
        report.run.duration_s.text,
        *(Text(text, style="bold") for text in sums),
        run.waste_pct.text,
        run.energy_j.text,
    )
    yield table
    yield Text("self adds up to the run; total, idle and energy include the sub-stages", style="bright_black")


def _stage_name(row: StageRow, *, wide: bool) -> Text:
    times = f" ×{row.spans}" if row.spans > 1 and not wide else ""
    marks = (" ~" if row.short else "") + (" (cut)" if row.truncated else "")
    return Text("  " * min(row.depth, _MAX_INDENT) + plain(row.name) + times + marks)


def _timeline(report: Report, width: int) -> Iterable[Text]:
    for track in tracks(report.timeline, width):
        line = Text(track.label + " ")
        line.append(track.cells, style=TRACK_STYLES[track.kind])
        line.append(f" {track.suffix}" if track.suffix else "")
        line.no_wrap = True
        yield line
    left_out = [
        f"{number} more {what}"
        for number, what in ((report.timeline.gpus_left_out, "GPUs"), (report.timeline.stages_left_out, "stages"))
        if number
    ]
    if left_out:
        yield Text(f"not drawn: {', '.join(left_out)}", style="bright_black")


def _footer(report: Report) -> Table:
    table = Table(box=None, show_edge=False, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bright_black", no_wrap=True)
    table.add_column(overflow="fold")
    for line in footer(report):
        table.add_row(plain(line.label), Text(plain(line.text, 600), style="yellow" if line.warns else ""))
    return table
