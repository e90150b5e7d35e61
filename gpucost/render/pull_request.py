"""A run, what changed and which gates failed, as Markdown for a pull request: short first, the rest folded, never over its limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpucost.report.comparison import CheckResult, Comparison
    from gpucost.report.model import Report

COMMENT_CHARS = 65_000
"""Of a comment: forges take 65,536 characters."""
SUMMARY_BYTES = 1_000_000
"""Of a job's summary: GitHub drops the whole of one that is over 1,024 kB."""


def comment(
    report: Report,
    comparison: Comparison | None = None,
    check: CheckResult | None = None,
    *,
    marker: str = "",
    link: str | None = None,
    max_chars: int = COMMENT_CHARS,
    max_bytes: int = SUMMARY_BYTES,
) -> str:
    """The Markdown of a comment or a job's summary.

    Whatever comes from a recording can neither be markup, nor link, nor mention, nor end the folded part it is in. What does not fit is left
    out in a fixed order, whole parts at a time, so that the result is always valid; the headline and the marker always fit.

    Args:
        report: the run.
        comparison: with its baseline; default: that of `check`.
        check: the gates.
        marker: the first line, by which the comment is found again (`<!-- gpucost:NAME -->`); given back to the letter.
        link: an https address of the full report (an artifact); anything else is not linked.
        max_chars: at most this many characters.
        max_bytes: and at most this many bytes of UTF-8.

    Raises:
        ValueError: the limits leave no room for the headline (2,000 characters and the marker always do).
    """
    raise NotImplementedError
