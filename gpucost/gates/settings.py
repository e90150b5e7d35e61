"""The configuration of checks, `[check]` in gpucost.toml or `[tool.gpucost.check]` in pyproject.toml, and gates from the command line.

[check]
baseline = ["label:git.branch=main"]     # runs to compare with
match = ["gpu", "count", "driver", "outcome", "label:suite"]
last = 20                                # of the baseline, the newest
alpha = 0.05
missing = "fail"                         # or "pass": what a figure that is not known does
[check.run]                              # gates on the whole run
cost = 2.50
idle_share = "30 %"
cost_increase = "10 %"
[check.stages."plan > search"]           # gates on a stage with its sub-stages; a glob means every stage it fits
cost = 0.40
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gpucost.analyzers.compare import Rule
from gpucost.choose import DEFAULT_MATCH, LAST, check_match
from gpucost.errors import UsageError
from gpucost.gates.model import Request
from gpucost.gates.registry import GATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from gpucost._config_file import Config
    from gpucost.gates.model import Limit

_KEYS = ("baseline", "match", "last", "alpha", "missing", "run", "stages")
_MAX_LAST = 1000


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How to check.

    Attributes:
        baseline: words for the runs to compare with (see `gpucost.choose`).
        match: what they must have in common with the run.
        last: at most so many of them.
        missing_fails: a figure that is not known makes the check fail.
    """

    baseline: tuple[str, ...] = ()
    match: tuple[str, ...] = DEFAULT_MATCH
    last: int = LAST
    rule: Rule = field(default_factory=Rule)
    missing_fails: bool = True
    gates: tuple[Request, ...] = ()

    def with_gates(self, more: Sequence[str]) -> CheckSettings:
        """The same with gates from the command line, which replace those of the same name and stage."""
        added = [read_gate(text) for text in more]
        taken = {(request.gate, request.stage) for request in added}
        kept = [request for request in self.gates if (request.gate, request.stage) not in taken]
        return replace(self, gates=(*kept, *added))


def settings_of(config: Config) -> CheckSettings:
    """What the configuration says of checks.

    Raises:
        UsageError: a key is not known, or a value is of the wrong kind; the message names the file and the key.
    """
    table = config.check
    where = config.path or "configuration"
    for key in table:
        if key not in _KEYS:
            raise UsageError(f"{where}: unknown key 'check.{key}'", hint=f"keys here: {', '.join(_KEYS)}")
    made = CheckSettings(
        baseline=_words(where, "baseline", table.get("baseline", [])),
        match=_words(where, "match", table.get("match", list(DEFAULT_MATCH))),
        last=_last(where, table.get("last", LAST)),
        rule=Rule(alpha=_alpha(where, table.get("alpha", Rule().alpha))),
        missing_fails=_missing(where, table.get("missing", "fail")),
        gates=tuple(_gates(where, table)),
    )
    check_match(made.match)
    return made


def read_gate(text: str) -> Request:
    """A gate as it is typed: `cost=2.50`, `cost@plan > search=0.40`, `cost_increase=10%`.

    Raises:
        UsageError: it is not one.
    """
    head, equals, value = text.rpartition("=")
    name, at, stage = head.partition("@")
    if not equals or not name or (at and not stage.strip()):
        raise UsageError(f"--gate {text!r} is not a gate", hint="for example cost=2.50, idle_share=30%, cost@plan=1")
    return Request(name.strip(), _limit("--gate", name.strip(), value), stage.strip() or None)


def _gates(where: str, table: Mapping[str, Any]) -> list[Request]:
    found = _table(where, "check.run", table.get("run", {}))
    requests = [Request(name, _limit(f"{where}: check.run", name, value)) for name, value in found.items()]
    for stage, gates in _table(where, "check.stages", table.get("stages", {})).items():
        place = f"check.stages.{stage!r}"
        for name, value in _table(where, place, gates).items():
            requests.append(Request(name, _limit(f"{where}: {place}", name, value), stage))
    return requests


def _limit(where: str, name: str, value: object) -> Limit:
    if name not in GATES:
        from difflib import get_close_matches

        near = get_close_matches(name, GATES, n=1, cutoff=0.0)
        raise UsageError(
            f"{where}: there is no gate {name!r}; did you mean {near[0]!r}?", hint=f"gates: {', '.join(GATES)}"
        )
    try:
        return GATES[name].read(value)
    except ValueError as error:
        raise UsageError(f"{where}: {name} is {str(value)!r}, but {error}") from error


def _table(where: str, key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {key} is {value!r}, but is a table")
    return value


def _words(where: str, key: str, value: object) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise UsageError(f"{where}: check.{key} is {value!r}, but takes texts")
    return tuple(words)


def _last(where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_LAST:
        raise UsageError(f"{where}: check.last is {value!r}, but takes a number from 1 to {_MAX_LAST}")
    return value


def _alpha(where: str, value: float | Decimal | str) -> float:
    if isinstance(value, (bool, str)) or not 0 < value < 1:
        raise UsageError(f"{where}: check.alpha is {value!s}, but takes a number between 0 and 1")
    return float(value)


def _missing(where: str, value: object) -> bool:
    if value not in ("fail", "pass"):
        raise UsageError(f"{where}: check.missing is {value!r}, but takes 'fail' or 'pass'")
    return value == "fail"
