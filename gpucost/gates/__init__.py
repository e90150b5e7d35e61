"""Gates: what a run may cost, and by how much it may cost more than before.

`check_runs` does everything from the words that a user types; `gpucost.gates.run.judge` judges runs already in memory. To add a gate: a function
in a module of this package, named in that module's `GATES` (`gpucost.gates.registry` has them all).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpucost.report.comparison import CheckResult
    from gpucost.report.model import Report


def check_runs(
    runs: str,
    head: Sequence[str],
    baseline: Sequence[str] | None = None,
    gates: Sequence[str] = (),
    *,
    price: str | None = None,
) -> tuple[Report, CheckResult]:
    """Judge a run by the gates of the configuration and of `gates`: its report (of the first of several repeats) and the verdicts.

    Args:
        runs: the folder of all runs.
        head: words for the run, or for several repeats of it: an id, the beginning of one, `latest`, a path, a glob, `label:KEY=VALUE`.
        baseline: likewise for the runs to compare with; None takes the configuration's, an empty list none.
        gates: more gates, as on the command line: `cost=2.50`, `cost@plan=1`, `cost_increase=10%`. They replace the configuration's of the same name.
        price: USD per GPU-hour, for every run.

    Raises:
        GpucostError: a run, a word or the configuration cannot be read.
    """
    from gpucost.gates.run import check_runs as run

    return run(runs, head, baseline, gates, price=price)
