"""What a gate is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gpucost.analyzers.compare import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from fractions import Fraction

    from gpucost.report.comparison import GateResult
    from gpucost.report.facts import Facts


@dataclass(frozen=True, slots=True)
class Limit:
    """What is allowed.

    Attributes:
        value: in what the metric is counted in (picodollars, nanoseconds, joules, a share of 0 to 1); for a relative limit, a share of the baseline.
        relative: `value` is a share of the baseline.
        text: as the user gave it, tidied up.
    """

    value: Fraction
    relative: bool
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """A gate that the user asked for: its name, its limit, and the stage path (or a glob of paths) it is for, None for the run."""

    gate: str
    limit: Limit
    stage: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What gates judge by.

    Attributes:
        head: the run, or several repeats, whose mean is judged.
        base: the baseline's runs; empty when there are none.
        rule: what counts as a change.
        missing_fails: a figure that is not known makes the check fail.
    """

    head: Sequence[Facts]
    base: Sequence[Facts] = ()
    rule: Rule = field(default_factory=Rule)
    missing_fails: bool = True


class Judge(Protocol):
    """A gate's function: a verdict for each part of the run that the request means (a glob of stages means several)."""

    def __call__(self, request: Request, evidence: Evidence) -> list[GateResult]:
        """Judge; what cannot be judged is `missing` or `undecided`, never `passed`."""
        ...


class Gate(NamedTuple):
    """A registered gate.

    Attributes:
        judge: its function.
        read: how its limit is read from what a user typed; raises ValueError with what it takes.
        about: one line for the list of gates.
    """

    judge: Judge
    read: Callable[[object], Limit]
    about: str
