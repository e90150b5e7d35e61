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
        table: the same as a table, with its head first, for the page that tells of it.
        took_s: how long it took.
    """

    room: str
    tried: str
    times: int = 0
    lost: str = ""
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    table: list[list[str]] = field(default_factory=list)
    took_s: float = 0.0

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


def markdown(table: list[list[str]], *, words: int) -> Iterable[str]:
    """A table's lines; the first so many columns are words, the others figures."""
    head, *rest = table
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join("---" if number < words else "---:" for number in range(len(head))) + "|"
    yield from ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in rest)


def distribution(values: Iterable[float], edges: Iterable[float]) -> str:
    """How many values lie below each edge, and the largest."""
    found, steps = list(values), list(edges)
    if not found:
        return "none"
    *counts, more = counted(found, steps)
    parts = [f"<{edge:g} s: {count}" for edge, count in zip(steps, counts, strict=True)]
    return "  ".join([*parts, f"more: {more}", f"worst {max(found):.2f} s"])


def counted(values: Iterable[float], edges: Iterable[float]) -> list[int]:
    """How many values lie below each edge and not below the one before, and how many beyond the last."""
    left, counts = sorted(values), []
    for edge in edges:
        count = sum(1 for value in left if value < edge)
        counts.append(count)
        left = left[count:]
    return [*counts, len(left)]
