"""The report as GitHub-flavoured Markdown, for pull requests and notes.

Whatever comes from a recording stands in a code span, where it can neither be markup nor mention anybody; what cannot (a sentence that
quotes it) has every character escaped that Markdown or a forge would act on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TextIO

from gpucost.render import slow
from gpucost.render.drawing import tracks
from gpucost.render.efficiency import markdown as efficiency_lines
from gpucost.render.footer import footer
from gpucost.render.safe import for_encoding, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpucost.report.model import Report

_DRAWING_WIDTH = 80
_ZERO_WIDTH_SPACE = "\u200b"
_ACTIVE = re.compile(r"([\\`*_\[\]~$|])")
_LINKED = re.compile(r"@|#|:(?=//)|(?i:www|gh)(?=[.-])")
"""What a forge makes mentions, references and links of."""


def render(report: Report, file: TextIO, *, width: int = _DRAWING_WIDTH, color: bool = False) -> None:  # noqa: ARG001 (Markdown has neither)
    """Write the report as Markdown."""
    text = "\n".join(_lines(report)) + "\n"
    file.write(for_encoding(text, getattr(file, "encoding", None)))


def code(text: str, *, cell: bool = False) -> str:
    """Any text as a code span; in a table's cell, where no escape of a pipe works everywhere, a pipe becomes a broken bar."""
    visible = plain(text).strip() or "-"
    if cell:
        visible = visible.replace("|", "¦")
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", visible)), default=0))
    pad = " " if visible.startswith("`") or visible.endswith("`") else ""
    return f"{fence}{pad}{visible}{pad}{fence}"


def prose(text: str) -> str:
    """A sentence that may quote anything, to stand inside a line: neither markup, nor link, nor mention."""
    escaped = _ACTIVE.sub(r"\\\1", plain(text, 600).replace("&", "&amp;").replace("<", "&lt;"))
    # A forge looks for mentions and links in what is already rendered, where an escape is gone: they are broken up instead.
    return _LINKED.sub(lambda found: found.group() + _ZERO_WIDTH_SPACE, escaped)


def _lines(report: Report) -> Iterator[str]:
    yield from _head(report)
    yield from _headline(report)
    if report.gpus:
        yield from _uses(report)
        yield from _gpus(report)
    yield from _stages(report)
    yield from slow.markdown(report, table, code, prose)
    if report.efficiency is not None:
        yield from efficiency_lines(report.efficiency, table, code, prose)
    yield from _timeline(report)
    yield from _footer(report)


def _head(report: Report) -> Iterator[str]:
    run = report.run
    if run.simulated:
        yield "**SIMULATED**: these GPUs are not real, and neither are the figures."
        yield ""
    name = f" {code(run.name)}" if run.name else ""
    yield f"## gpucost: {code(run.run_id)}{name}"
    yield ""
    if run.state != "complete":
        yield f"**{run.state.upper()}**: {run.state_text}."
        yield ""
    facts = [run.started.replace("T", " ").replace("Z", " UTC"), run.duration_s.text, run.exit_text]
    facts += [code(host) for host in run.hosts[:4]] + [code(run.gpus)]
    yield ", ".join(facts)
    yield ""
    yield f"Command: {code(run.command_text)}"
    if run.labels:
        yield ""
        yield "Labels: " + ", ".join(code(f"{key}={value}") for key, value in sorted(run.labels.items()))
    yield ""


def _headline(report: Report) -> Iterator[str]:
    total = report.total
    if report.gpus:
        priced = total.money.usd is not None
        waste = total.waste.text if priced else total.waste_time_s.text
        columns = {
            "cost": f"**{total.money.text}**",
            "busy": total.busy_pct.text,
            "idle waste": f"**{waste}** ({total.waste_pct.text})",
            "unknown": total.unknown.text if priced else total.unknown_time_s.text,
            "GPU-hours": total.gpu_hours.text.removesuffix(" GPU-h"),
            "energy": total.energy_j.text,
        }
        yield from table(list(columns), [list(columns.values())], numbers=len(columns))
    if total.note:
        yield f"> {prose(total.note)}"
        yield ""


def _uses(report: Report) -> Iterator[str]:
    yield "### Where the money went" if report.total.money.usd is not None else "### Where the GPU time went"
    yield ""
    total = report.total
    rows = [[use.use, use.gpu_time_s.text, use.share_pct.text, use.money.text, use.meaning] for use in report.uses]
    rows.append(["**total**", total.gpu_time_s.text, "100.0 %", f"**{total.money.text}**", ""])
    yield from table(["use", "GPU time", "share", "cost", "meaning"], rows, numbers=3, first=1)


def _gpus(report: Report) -> Iterator[str]:
    yield "### By GPU"
    yield ""
    rows = [
        [
            code(f"{row.label} {row.name}", cell=True),
            row.held_s.text,
            row.busy_pct.text,
            row.waste_pct.text,
            row.power_mean_w.text,
            row.energy_j.text,
            row.memory_peak_bytes.text,
            row.money.text,
        ]
        for row in report.gpus
        if row.shown
    ]
    rest, total = report.gpus_folded, report.total
    if rest:
        rows.append([f"{rest.count} more", rest.time_s.text, "", "", "", rest.energy_j.text, "", rest.money.text])
    rows.append(
        [
            "**total**",
            total.gpu_time_s.text,
            total.busy_pct.text,
            total.waste_pct.text,
            "",
            total.energy_j.text,
            "",
            f"**{total.money.text}**",
        ]
    )
    yield from table(
        ["GPU", "held", "busy", "idle", "mean power", "energy", "peak memory", "cost"], rows, numbers=7, first=1
    )


def _stages(report: Report) -> Iterator[str]:
    yield "### By stage"
    yield ""
    if not report.marked_stages:
        yield "No stage was marked."
        yield ""
        return
    priced = report.total.money.usd is not None
    rows = []
    for row in report.stages:
        if row.shown:
            own, total = (row.self_money, row.total_money) if priced else (row.self_time_s, row.total_time_s)
            marks = (" (too short for the samples)" if row.short else "") + (" (cut off)" if row.truncated else "")
            name = "&emsp;" * min(row.depth, 6) + code(row.name, cell=True) + marks
            wall = row.wall_s.text if row.spans else ""
            rows.append(
                [name, str(row.spans or ""), wall, own.text, total.text, row.waste_pct.text, row.total_energy_j.text]
            )
    rest, run = report.stages_folded, report.total
    if rest:
        rows.append([f"{rest.count} more stages", "", "", rest.money.text if priced else rest.time_s.text, "", "", ""])
    whole = run.money.text if priced else run.gpu_time_s.text
    rows.append(
        [
            "**total**",
            "",
            report.run.duration_s.text,
            f"**{whole}**",
            f"**{whole}**",
            run.waste_pct.text,
            run.energy_j.text,
        ]
    )
    yield from table(["stage", "spans", "wall", "self", "total", "idle", "energy"], rows, numbers=6, first=1)
    yield "The column *self* adds up to the run; *total*, *idle* and *energy* include the sub-stages."
    yield ""


def _timeline(report: Report) -> Iterator[str]:
    timeline = report.timeline
    if not (timeline.gpus or timeline.stages):
        return
    yield "### Timeline"
    yield ""
    yield "```text"
    for track in tracks(timeline, _DRAWING_WIDTH):
        # A line that begins with three backticks would end the block.
        yield f"{track.label} {track.cells} {track.suffix}".rstrip().replace("`", "'")
    yield "```"
    yield ""


def _footer(report: Report) -> Iterator[str]:
    yield "### What the figures rest on"
    yield ""
    for line in footer(report):
        text = prose(line.text)
        yield f"- {line.label}: {f'**{text}**' if line.warns and line.label == 'price' else text}"


def table(header: list[str], rows: Iterable[list[str]], *, numbers: int, first: int = 0) -> Iterator[str]:
    """A table in which `numbers` columns from the `first` on are aligned to the right."""
    yield f"| {' | '.join(header)} |"
    aligned = ("---:" if first <= column < first + numbers else "---" for column in range(len(header)))
    yield f"| {' | '.join(aligned)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
