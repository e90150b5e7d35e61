"""From the words that a user types to the reports of both sides of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpucost.choose import DEFAULT_MATCH, LAST, choose, match
from gpucost.errors import RunNotFoundError
from gpucost.rundir import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpucost.report.comparison import LeftOut
    from gpucost.report.model import Report


@dataclass(frozen=True, slots=True)
class LoadedSides:
    """The reports of both sides, and the runs of the baseline that do not match."""

    head: list[Report]
    base: list[Report]
    left_out: list[LeftOut]


def load_sides(
    runs: str,
    head: Sequence[str],
    base: Sequence[str],
    *,
    on: Sequence[str] = DEFAULT_MATCH,
    last: int = LAST,
    price: str | None = None,
    baseline_may_be_empty: bool = False,
) -> LoadedSides:
    """Read, analyze and price the runs of both sides.

    Args:
        runs: the folder of all runs.
        head: words for the new runs (see `gpucost.choose`).
        base: words for the baseline.
        on: what a baseline run must have in common with the first new one.
        last: at most so many runs of the baseline.
        price: USD per GPU-hour, for every run.
        baseline_may_be_empty: no run that matches is no failure.

    Raises:
        GpucostError: a run cannot be found or read, or nothing of the baseline matches.
    """
    from gpucost.report.load import load_report

    heads = choose(runs, head)
    bases = choose(runs, base, patterns_may_fail=baseline_may_be_empty)
    matched = match(heads, bases, on, last=last)
    if not matched.paths and not baseline_may_be_empty:
        why = "; ".join(f"{run.run_id}: {printable(run.reason)}" for run in matched.left_out[:3])
        raise RunNotFoundError(
            f"no run of the baseline can be compared: {why}", hint="--match none compares whatever is named"
        )
    return LoadedSides(
        [load_report(path, price=price) for path in heads],
        [load_report(path, price=price) for path in matched.paths],
        matched.left_out,
    )
