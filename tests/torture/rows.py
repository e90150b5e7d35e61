"""What every fault of the suite ends in: one row that says what was tried, how often, and what was lost."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Row:
    """One kind of fault.

    Attributes:
        room: the part of the suite it belongs to.
        tried: what was done.
        times: how often.
        lost: what was lost, in a few words.
        failures: what went otherwise than promised; empty when the promise held.
        notes: further lines, such as a distribution.
    """

    room: str
    tried: str
    times: int = 0
    lost: str = ""
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check(self, condition: object, failure: str) -> bool:
        """Note a failure unless the condition holds."""
        if not condition:
            self.failures.append(failure)
        return bool(condition)

    def lines(self) -> Iterable[str]:
        """The row as it is printed."""
        state = "ok  " if not self.failures else "FAIL"
        yield f"{state} {self.room:<11} {self.tried:<78} {self.times:>7}  {self.lost}"
        yield from (f"       {note}" for note in self.notes)
        yield from (f"     ! {failure}" for failure in self.failures[:10])
        if len(self.failures) > 10:
            yield f"     ! and {len(self.failures) - 10} more"


def side_by_side(work: Callable[[Any], Any], items: Iterable[Any], workers: int) -> list[Any]:
    """Do the work on every item, several at a time; the results in the items' order."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))


def distribution(values: Iterable[float], edges: Iterable[float]) -> str:
    """How many values lie below each edge, and the largest."""
    left, parts = sorted(values), []
    if not left:
        return "none"
    top = left[-1]
    for edge in edges:
        count = sum(1 for value in left if value < edge)
        parts.append(f"<{edge:g} s: {count}")
        left = left[count:]
    return "  ".join([*parts, f"more: {len(left)}", f"worst {top:.2f} s"])
