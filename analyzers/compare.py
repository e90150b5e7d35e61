"""Comparing two sides: whether a figure changed, and which stage of one side is which of the other.

Which rule is taken depends on how many runs there are, because fewer runs can say less (`method_for`). How often each rule is wrong is
simulated in `benchmarks/simulate_gate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpucost.analyzers.model import NO_STAGE
from gpucost.analyzers.statistics import MAD_TO_SIGMA, mad, mann_whitney, median

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_RUNS = 5
"""Runs that a side needs for the rank test, and a history for any verdict: with four against four p is 0.029 at best, and one outlier undoes it."""

MANN_WHITNEY = "mann-whitney"
MEDIAN_MAD = "median-mad"
REPORT_ONLY = "report-only"

MAD_FACTOR = 3.0
"""How many robust standard deviations of the history away a new run has to be."""

_SIMILAR = 0.5
"""The smaller of two shares must be at least this part of the larger one for a stage to count as renamed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a change has to be to count.

    Attributes:
        alpha: of the rank test, two-sided.
        min_effect: of the medians' change, as a share of the base's median.
        min_absolute: of the same change, in the figure's unit.
    """

    alpha: float = 0.05
    min_effect: float = 0.05
    min_absolute: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a figure changed.

    Attributes:
        method: `mann-whitney`, `median-mad` or `report-only`.
        direction: of the head against the base: `higher`, `lower`, `same`, or `undecided` where there are too few runs.
        p: of the rank test, None without one.
        shift: the head's median minus the base's.
        needed: how far the medians had to be apart, None where nothing was decided.
    """

    method: str
    direction: str
    p: float | None
    shift: float
    needed: float | None


def method_for(base_runs: int, head_runs: int) -> str:
    """The rule for so many runs a side."""
    if base_runs < MIN_RUNS or head_runs < 1:
        return REPORT_ONLY
    return MANN_WHITNEY if head_runs >= MIN_RUNS else MEDIAN_MAD


def verdict(base: Sequence[float], head: Sequence[float], rule: Rule) -> Verdict:
    """Whether the head's figures are higher or lower than the base's.

    Args:
        base: a figure per run, at least one.
        head: likewise.
        rule: what counts as a change.
    """
    method = method_for(len(base), len(head))
    middle = median(base)
    shift = median(head) - middle
    if method == REPORT_ONLY:
        return Verdict(method, "undecided", None, shift, None)
    needed = max(rule.min_effect * abs(middle), rule.min_absolute)
    p = None
    if method == MEDIAN_MAD:
        needed = max(needed, MAD_FACTOR * MAD_TO_SIGMA * mad(base))
        changed = abs(shift) > needed
    else:
        p = mann_whitney(base, head).p
        changed = p < rule.alpha and abs(shift) > needed
    return Verdict(method, ("higher" if shift > 0 else "lower") if changed else "same", p, shift, needed)


@dataclass(frozen=True, slots=True)
class StageShape:
    """A stage as matching sees it: `share` is its part of the run (0 to 1), sub-stages included."""

    path: str
    name: str
    parent_path: str | None
    share: float


@dataclass(frozen=True, slots=True)
class StagePair:
    """One stage of both sides; a path is None where the side has no such stage. A renamed one is a guess."""

    base: str | None
    head: str | None
    parent: str | None
    depth: int
    renamed: bool = False

    @property
    def path(self) -> str:
        """Its path in the head, or in the base where the head has none."""
        return self.head if self.head is not None else str(self.base)


def match_stages(base: Sequence[StageShape], head: Sequence[StageShape]) -> list[StagePair]:
    """Match the stages of two sides by path, parents before their children, those that are gone behind their siblings.

    A rename is recognized only where it is safe: under one parent exactly one stage went and exactly one came, between the same neighbours, and
    with a similar share of the run.

    Args:
        base: in the order of a report: siblings by their first start.
        head: likewise.
    """
    trees = _children(base), _children(head)
    pairs: list[StagePair] = []
    waiting: list[tuple[StagePair, StageShape | None, StageShape | None]] = list(
        reversed(_siblings(trees, None, None, None, 0))
    )
    while waiting:
        pair, before, after = waiting.pop()
        pairs.append(pair)
        waiting.extend(reversed(_siblings(trees, before, after, pair.path, pair.depth + 1)))
    return pairs


_Tree = dict[str | None, list[StageShape]]


def _children(stages: Sequence[StageShape]) -> _Tree:
    paths = {stage.path for stage in stages}
    tree: _Tree = {}
    for stage in stages:
        parent = stage.parent_path if stage.parent_path in paths and stage.parent_path != stage.path else None
        tree.setdefault(parent, []).append(stage)
    return tree


def _siblings(
    trees: tuple[_Tree, _Tree], before: StageShape | None, after: StageShape | None, parent: str | None, depth: int
) -> list[tuple[StagePair, StageShape | None, StageShape | None]]:
    """The pairs of the children of one pair (of the roots, without one), `(no stage)` last."""
    root = parent is None
    olds = trees[0].get(before.path if before else None, []) if root or before else []
    news = trees[1].get(after.path if after else None, []) if root or after else []
    by_name = {stage.name: stage for stage in olds}
    matched = [(by_name.get(stage.name), stage) for stage in news]
    known = {stage.name for stage in news}
    gone = [stage for stage in olds if stage.name not in known]
    came = [stage for old, stage in matched if old is None]
    renamed = _renamed(olds, news, gone, came)
    rows: list[tuple[StagePair, StageShape | None, StageShape | None]] = []
    for old, new in matched:
        partner = gone[0] if renamed and new is came[0] else old
        pair = StagePair(partner.path if partner else None, new.path, parent, depth, renamed=renamed and old is None)
        rows.append((pair, partner, new))
    if not renamed:
        rows += [(StagePair(stage.path, None, parent, depth), stage, None) for stage in gone]
    rows.sort(key=lambda row: row[0].path == NO_STAGE)
    return rows


def _renamed(
    olds: Sequence[StageShape], news: Sequence[StageShape], gone: Sequence[StageShape], came: Sequence[StageShape]
) -> bool:
    """Whether the one stage that is gone is the one that came."""
    if len(gone) != 1 or len(came) != 1 or NO_STAGE in (gone[0].path, came[0].path):
        return False
    small, large = sorted((gone[0].share, came[0].share))
    if small <= 0 or small < _SIMILAR * large:
        return False
    return _neighbours(olds, gone[0]) == _neighbours(news, came[0])


def _neighbours(stages: Sequence[StageShape], one: StageShape) -> tuple[str | None, str | None]:
    """The names before and after a stage among its siblings; `(no stage)` is none of them."""
    names = [stage.name for stage in stages if stage.path != NO_STAGE]
    at = names.index(one.name)
    return (names[at - 1] if at else None, names[at + 1] if at + 1 < len(names) else None)
