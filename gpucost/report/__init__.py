"""The report of a run: one model that every format prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpucost.report.assemble import build
    from gpucost.report.load import load_report, report_of, summary_lines
    from gpucost.report.model import Report

__all__ = ["Report", "build", "load_report", "report_of", "summary_lines"]

_HOMES = {"Report": "model", "build": "assemble", "load_report": "load", "report_of": "load", "summary_lines": "load"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: a report needs pandas, its name does not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"gpucost.report.{_HOMES[name]}"), name)
