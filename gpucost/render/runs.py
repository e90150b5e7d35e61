"""The list of runs, in a terminal or as JSON."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, TextIO

from gpucost.render.safe import for_encoding, plain

if TYPE_CHECKING:
    from gpucost.report.runs import RunLine

FORMATS = ("terminal", "json")

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

    from gpucost.render.terminal import console_for

    table = Table(
        box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black", expand=True
    )
    columns = {
        "run": "left",
        "started (UTC)": "left",
        "what": "left",
        "duration": "right",
        "GPU-hours": "right",
        "exit": "right",
        "state": "left",
    }
    for name, justify in columns.items():
        what = name == "what"
        table.add_column(Text(name), justify=justify, no_wrap=True, overflow="ellipsis", ratio=1 if what else None)  # type: ignore[arg-type]
    for line in lines:
        simulated = ", simulated" if line.simulated else ""
        table.add_row(
            Text(plain(line.run_id, 60)),
            (line.started or "").replace("T", " ")[:16],
            Text(plain(line.problem or line.name or line.command, 200)),
            line.duration_s.text,
            line.gpu_hours.text.removesuffix(" GPU-h"),
            "" if line.exit_code is None else str(line.exit_code),
            Text(f"{line.state}{simulated}", style=_STATE_STYLES[line.state]),
        )
    buffer = io.StringIO()
    console_for(buffer, width=width, color=color).print(table)
    return "".join(f"{row.rstrip()}\n" for row in buffer.getvalue().splitlines())
