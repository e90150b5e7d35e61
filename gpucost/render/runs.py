"""The list of runs, in a terminal or as JSON."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, TextIO

from gpucost.render.safe import for_encoding, plain

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from gpucost.report.runs import RunLine

FORMATS = ("terminal", "json")

_STARTED = "started (UTC)"
_COLUMNS = {
    "run": False,
    _STARTED: False,
    "what": False,
    "duration": True,
    "GPU-hours": True,
    "exit": True,
    "state": False,
}
"""Columns, and whether they hold numbers. A run's id begins with its start, which narrow terminals have no other room for."""

_STATE_STYLES = {"complete": "", "live": "cyan", "crashed": "yellow", "recovered": "yellow", "damaged": "red"}


def render(lines: list[RunLine], file: TextIO, *, output: str, width: int, color: bool) -> None:
    """Write the list to `file` in one of `FORMATS`."""
    if output == "json":
        json.dump([line.to_json() for line in lines], file, indent=2, ensure_ascii=True, allow_nan=False)
        file.write("\n")
        return
    file.write(for_encoding(_table(lines, width=width, color=color), getattr(file, "encoding", None)))


def _table(lines: list[RunLine], *, width: int, color: bool) -> str:
    from rich.table import Table
    from rich.text import Text

    from gpucost.render.terminal import MIN_WIDTH, WIDE, console_for

    wide = width >= WIDE
    table = Table(
        box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black", expand=True
    )
    for name, right in _COLUMNS.items():
        if wide or name != _STARTED:
            what = name == "what"
            justify: JustifyMethod = "right" if right else "left"
            table.add_column(Text(name), justify=justify, no_wrap=True, overflow="ellipsis", ratio=1 if what else None)
    for line in lines:
        simulated = ", simulated" if line.simulated else ""
        started = [(line.started or "").replace("T", " ")[:16]] if wide else []
        table.add_row(
            Text(plain(line.run_id, 60)),
            *started,
            Text(plain(line.problem or line.name or line.command, 200)),
            line.duration_s.text,
            line.gpu_hours.text.removesuffix(" GPU-h"),
            "" if line.exit_code is None else str(line.exit_code),
            Text(f"{line.state}{simulated}", style=_STATE_STYLES[line.state]),
        )
    buffer = io.StringIO()
    console_for(buffer, width=max(MIN_WIDTH, width), color=color).print(table)
    return "".join(f"{row.rstrip()}\n" for row in buffer.getvalue().splitlines())
