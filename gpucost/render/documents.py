"""Comparisons and checks by format, each as one document."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

if TYPE_CHECKING:
    from gpucost.report.comparison import CheckResult, Comparison

COMPARISON_FORMATS = {
    "terminal": ("gpucost.render.compare_terminal", "render"),
    "markdown": ("gpucost.render.compare_markdown", "render"),
    "json": ("gpucost.render.documents", "render_json"),
}
"""Format of a comparison to the module and the function that write it."""

CHECK_FORMATS = {
    "terminal": ("gpucost.render.compare_terminal", "render_check"),
    "markdown": ("gpucost.render.compare_markdown", "render_check"),
    "json": ("gpucost.render.documents", "render_json"),
    "junit": ("gpucost.render.junit", "render"),
}
"""Format of a check to the module and the function that write it."""


class Writer(Protocol):
    """Writes one document."""

    def __call__(self, document: Any, file: TextIO, *, width: int = 80, color: bool = False) -> None:
        """Write it to `file`, in at most `width` columns where the format has columns."""
        ...


def writer(formats: dict[str, tuple[str, str]], name: str) -> Writer:
    """The writer of one of the formats."""
    module, function = formats[name]
    return cast("Writer", getattr(import_module(module), function))


def render_json(document: Comparison | CheckResult, file: TextIO, *, width: int = 0, color: bool = False) -> None:  # noqa: ARG001 (JSON has neither)
    """Write the model as JSON in ASCII; `gpucost/data/comparison.schema.json` and `check.schema.json` describe it."""
    json.dump(document.to_json(), file, indent=2, ensure_ascii=True, allow_nan=False)
    file.write("\n")
