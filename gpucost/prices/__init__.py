"""Prices: what a GPU-hour costs, who says so, and as of when. No price found is None, never zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpucost.prices.parse import parse_price

if TYPE_CHECKING:
    from gpucost.prices.quote import Quote
    from gpucost.prices.sources import SOURCES, Question, resolve, why_unpriced

__all__ = ["SOURCES", "Question", "Quote", "parse_price", "resolve", "why_unpriced"]


def __getattr__(name: str) -> Any:
    """Everything but `parse_price` is imported when it is asked for, so that checking an option costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("gpucost.prices.quote" if name == "Quote" else "gpucost.prices.sources"), name)
