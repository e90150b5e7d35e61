"""Pages of the benchmark (a profile, a comparison, a list) in a terminal and as Markdown."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TextIO

from gpucost.render.safe import for_encoding, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost.bench.view import Page, Table

FORMATS = ("terminal", "markdown", "json")

_STYLES = {"bad": "red", "note": "yellow"}
_NARROW = ("of clock", "burst", "uuid", "p")
"""Columns that a narrow terminal does without."""

_WIDE = 120
_CELL = 300


def render(page: Page, file: TextIO, *, output: str, width: int, color: bool) -> None:
    """Write a page to `file` as `terminal` or `markdown`."""
    text = "\n".join(_markdown(page)) + "\n" if output == "markdown" else _terminal(page, width=width, color=color)
    file.write(for_encoding(text, getattr(file, "encoding", None)))


def _terminal(page: Page, *, width: int, color: bool) -> str:
    from rich.text import Text

    from gpucost.render.terminal import MIN_WIDTH, console_for

    buffer = io.StringIO()
    console = console_for(buffer, width=max(MIN_WIDTH, width), color=color)
    if page.head:
        console.print(Text(plain(page.head, _CELL), style="bold"))
    for line in page.facts:
        console.print(Text(plain(line, _CELL)))
    for table in page.tables:
        if table.title:
            console.print(Text(f"\n{plain(table.title, _CELL)}", style="bold"))
        console.print(_rich(table, wide=width >= _WIDE))
    if page.footer:
        console.print()
    for line in page.footer:
        console.print(Text(plain(line, 1000), style="bright_black"))
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def _rich(table: Table, *, wide: bool) -> object:
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(box=None, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black")
    said = [i for i in range(len(table.columns)) if i == 0 or any(row[i].strip("- ") for row in table.rows)]
    shown = [i for i in said if wide or table.columns[i] not in _NARROW]
    for i in shown:
        right = table.columns[i] in table.numeric
        made.add_column(
            Text(table.columns[i]), justify="right" if right else "left", no_wrap=right or i == 0, overflow="fold"
        )
    for index, row in enumerate(table.rows):
        style = _STYLES.get(table.marks.get(index, ""), "")
        made.add_row(*(Text(plain(row[i], _CELL), style=style) for i in shown))
    return made


def _markdown(page: Page) -> Iterator[str]:
    from gpucost.render.markdown import code, prose

    if page.head:
        yield f"## {prose(page.head)}"
        yield ""
    for line in page.facts:
        yield f"* {prose(line)}"
    for table in page.tables:
        yield ""
        if table.title:
            yield f"### {prose(table.title)}"
            yield ""
        yield "| " + " | ".join(table.columns) + " |"
        yield "|" + "|".join(" --: " if name in table.numeric else " :-- " for name in table.columns) + "|"
        for row in table.rows:
            yield "| " + " | ".join(code(cell, cell=True) for cell in row) + " |"
    if page.footer:
        yield ""
    for line in page.footer:
        yield f"* {prose(line)}"
