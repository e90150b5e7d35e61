"""Renderers: one report, printed in several formats. A renderer computes nothing.

To add one: write a module with a function `render` that satisfies `Renderer`, and name it in `RENDERERS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TextIO, cast

if TYPE_CHECKING:
    from gpucost.report.model import Report

RENDERERS: dict[str, str] = {
    "terminal": "gpucost.render.terminal",
    "markdown": "gpucost.render.markdown",
    "json": "gpucost.render.json_",
}
"""Format to the module that renders it; a module is imported when its format is asked for."""

PIPE_WIDTH = 80


class Renderer(Protocol):
    """Prints a report. Names and messages in it come from anywhere and must not act on whatever shows them."""

    def __call__(self, report: Report, file: TextIO, *, width: int = PIPE_WIDTH, color: bool = False) -> None:
        """Write `report` to `file`, in at most `width` columns where the format has columns."""
        ...


def renderer(name: str) -> Renderer:
    """The renderer of a format of `RENDERERS`."""
    from importlib import import_module

    return cast("Renderer", import_module(RENDERERS[name]).render)
