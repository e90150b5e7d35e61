"""Takes readings of one GPU: calls and their memory prepared once, one unpacking and one row a reading."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, NamedTuple, Protocol

from gpucost.collectors._nvml_answers import Answers
from gpucost.collectors._nvml_costs import Histogram
from gpucost.collectors._nvml_counters import Tally
from gpucost.collectors._nvml_library import NOTHING_NEW, SUCCESS, Nvml, check_alive
from gpucost.collectors._nvml_pacing import Paced
from gpucost.schema import GpuRow

COLUMN = {name: position for position, name in enumerate(GpuRow._fields)}

VALUE_LETTERS = {0: "d", 1: "I4x", 2: "Q", 3: "Q", 4: "q", 5: "i4x", 6: "H6x"}
"""NVML's types of a field value, as `struct` reads the eight bytes of its union (of a short one, the rest is not written)."""

_TRIES = 3  # failures in a row before a call is left out for a while
_LONGEST_WAIT = 64  # ticks
_PSTATE = COLUMN["pstate"]
_UNKNOWN_PSTATE = 32
_WATCH_EVERY = 16  # readings: then the calls are timed one by one
_STEP = 3  # numbers that are read of one field: its type, its code, its value


class Plain(NamedTuple):
    """A column that is a number as it was answered.

    Attributes:
        position: of the column in a row.
        at: of the number among the answers.
        highest: above this, and below 0, it is nonsense.
        divide: how many of the driver's units make one of the column's; 0 leaves it a whole number.
    """

    position: int
    at: int
    highest: int
    divide: int = 0


class Special(Protocol):
    """A column that takes more than one look."""

    def store(self, row: list[Any], answers: tuple[Any, ...]) -> None:
        """Write the column, or leave it null."""
        ...


@dataclass(slots=True)
class Slot:
    """One field of a batch: where its type is among the answers (code and value follow), which type it had, and how it is stored."""

    column: str
    index: int
    kind: int
    column_of: Plain | Special


@dataclass(slots=True)
class Stores:
    """What one call, or all of them, fill."""

    plain: list[Plain] = field(default_factory=list)
    special: list[Special] = field(default_factory=list)

    def add(self, columns: Iterable[Plain | Special]) -> None:
        """Add columns of either sort."""
        for column in columns:
            if isinstance(column, Plain):
                self.plain.append(column)
            else:
                self.special.append(column)


class Probe(Paced):
    """One call and the columns it fills.

    Attributes:
        call: makes the call and returns NVML's code.
        stores: the columns.
        slots: of a call for several fields, those; then `stores` is empty.
        failures: calls in a row without an answer.
        histogram: where its durations are counted.
    """

    __slots__ = ("call", "failures", "histogram", "slots", "stores")

    def __init__(
        self,
        columns: Sequence[str],
        call: Callable[[], int],
        stores: Iterable[Plain | Special] = (),
        slots: Sequence[Slot] = (),
        least_every: int = 1,
    ) -> None:
        super().__init__(", ".join(columns), least_every)
        self.call = call
        self.stores = Stores()
        self.stores.add(stores)
        self.slots = slots
        self.failures = 0
        self.histogram = Histogram()

    def took(self, cost_ns: int) -> None:
        """It was asked, at this cost."""
        super().took(cost_ns)
        self.histogram.add(cost_ns)

    def failed(self) -> None:
        """The call did not answer: after a few times in a row, leave it out for longer and longer."""
        self.failures += 1
        if self.failures >= _TRIES:
            self.wait = max(self.wait, min(1 << (self.failures - _TRIES), _LONGEST_WAIT))


Failed = Callable[[str, int], None]
"""Is told what did not answer, and NVML's code."""


class Apart(Protocol):
    """Something of a device that has a rhythm of its own."""

    def add(self, row: list[Any], failed: Failed) -> int:
        """Write what is due into a row; the nanoseconds spent in the driver.

        Raises:
            GpuGoneError: the GPU is not there any more.
        """
        ...


class Seldom:
    """Readings that lose nothing by being taken at every n-th tick."""

    def __init__(self, reader: "GpuReader", every: int) -> None:
        self.reader = reader
        self._every = every
        self._wait = 0

    def add(self, row: list[Any], failed: Failed) -> int:
        """Write what is due into a row; the nanoseconds spent in the driver."""
        if self._wait > 0:
            self._wait -= 1
            return 0
        self._wait = self._every - 1
        mine, spent_ns = self.reader.read(row[0], row[1], failed)
        for position, value in enumerate(mine or ()):
            if value is not None:
                row[position] = value
        return spent_ns


class GpuReader:
    """Readings of one device.

    While every call answers and none is left out, a reading is as short as it can be: all calls, one unpacking, one loop. Otherwise it goes
    call by call.

    Attributes:
        answers: what the calls write into.
        probes: what is asked.
        apart: what is asked more rarely, each when it is due, and writes into the row by itself.
        unavailable: column to the reason why it is null on this device.
        absent: the same of what many devices do not have, and no report misses.
        of_module: columns that are of a module that holds CPU and GPU, not of the GPU alone.
        tally: impossible values, counted.
        happened: kind and message of what should become an event; whoever reports it clears it.
        on_close: what to call when the device is not read any more.
    """

    def __init__(self, nvml: Nvml, uuid: str, tally: Tally) -> None:
        self.answers = Answers()
        self.probes: list[Probe] = []
        self.apart: list[Apart] = []
        self.unavailable: dict[str, str] = {}
        self.absent: dict[str, str] = {}
        self.on_close: list[Callable[[], None]] = []
        self._turn = 0
        self.of_module: list[str] = []
        self.tally = tally
        self.happened: list[tuple[str, str]] = []
        self._nvml = nvml
        self._blank: list[Any] = [0, 0, uuid, *[None] * (len(GpuRow._fields) - 3)]
        self._discard = {position: self.tally.counter(name) for name, position in COLUMN.items()}
        self._calls: tuple[Callable[[], int], ...] = ()
        self._all = Stores()
        self._slots: list[Slot] = []
        self._kinds: tuple[int, ...] = ()
        self._troubled = False

    def compile(self) -> None:
        """Prepare the short way, once all probes are there."""
        self.answers.compile()
        self._calls = tuple(probe.call for probe in self.probes)
        self._slots = [slot for probe in self.probes for slot in probe.slots]
        self._all = Stores()
        for probe in self.probes:
            self._all.add([*probe.stores.plain, *probe.stores.special, *(slot.column_of for slot in probe.slots)])
        self._kinds = tuple(slot.kind for slot in self._slots)
        self._troubled = any(probe.least_every > 1 for probe in self.probes)

    def read(self, time_ns: int, mono_ns: int, failed: Failed, *, watch: bool = False) -> tuple[list[Any] | None, int]:
        """One reading: a row in the schema's order, null but for what answered, and the nanoseconds spent in the driver.

        Args:
            time_ns: UTC of the reading.
            mono_ns: its monotonic time.
            failed: is told what did not answer.
            watch: find out what each call costs.

        Returns:
            The row, or null when nothing at all answered.

        Raises:
            GpuGoneError: the GPU is not there any more.
            SessionLostError: the driver does not know of the session.
        """
        self._turn += 1
        if watch or self._troubled or self._turn % _WATCH_EVERY == 1:
            row, spent_ns = self._read_one_by_one(time_ns, mono_ns, failed)
        else:
            row, spent_ns = self._read_all(time_ns, mono_ns, failed)
        if self.apart:
            given = self._blank.copy() if row is None else row
            given[0], given[1] = time_ns, mono_ns
            spent_ns += sum([one.add(given, failed) for one in self.apart])
            row = given if any(value is not None for value in given[3:]) else None
        return row, spent_ns

    def _read_all(self, time_ns: int, mono_ns: int, failed: Failed) -> tuple[list[Any] | None, int]:
        row = self._blank.copy()
        row[0], row[1] = time_ns, mono_ns
        began_ns = perf_counter_ns()
        codes = [call() for call in self._calls]
        spent_ns = perf_counter_ns() - began_ns
        self._nvml.count(len(codes), spent_ns)
        answers = self.answers.read()
        if any(codes) or not self._fields_are_well(answers):
            self._troubled = True
            return self._sort_out(row, self.probes, codes, failed), spent_ns
        self._store(row, answers, self._all)
        return row if codes else None, spent_ns

    def _fields_are_well(self, answers: tuple[Any, ...]) -> bool:
        """Whether every field answered, in the type it always had. Slots lie behind one another, in the order of the probes."""
        if not self._slots:
            return True
        first = self._slots[0].index
        last = first + _STEP * len(self._slots)
        return answers[first:last:_STEP] == self._kinds and not any(answers[first + 1 : last : _STEP])

    def _read_one_by_one(self, time_ns: int, mono_ns: int, failed: Failed) -> tuple[list[Any] | None, int]:
        row = self._blank.copy()
        row[0], row[1] = time_ns, mono_ns
        due = [probe for probe in self.probes if probe.is_due()]
        codes = []
        began_ns = before_ns = perf_counter_ns()
        for probe in due:
            codes.append(probe.call())
            now_ns = perf_counter_ns()
            probe.took(now_ns - before_ns)
            before_ns = now_ns
        self._nvml.count(len(due), before_ns - began_ns)
        return self._sort_out(row, due, codes, failed), before_ns - began_ns

    def _sort_out(
        self, row: list[Any], asked: Sequence[Probe], codes: Sequence[int], failed: Failed
    ) -> list[Any] | None:
        """Store what answered, and see to what did not."""
        answers = self.answers.read()
        for probe, code in zip(asked, codes, strict=True):
            if code == SUCCESS:
                probe.failures = 0
                self._store(row, answers, probe.stores)
                for slot in probe.slots:
                    self._store_field(row, answers, slot, failed)
            else:
                check_alive(code)
                if code not in NOTHING_NEW:
                    probe.failed()
                    failed(probe.label, code)
        self._troubled = any(probe.wait or probe.every > 1 or probe.failures for probe in self.probes)
        return row if any(value is not None for value in row[3:]) else None

    def _store_field(self, row: list[Any], answers: tuple[Any, ...], slot: Slot, failed: Failed) -> None:
        kind, code = answers[slot.index], answers[slot.index + 1]
        if code != SUCCESS:
            check_alive(code)
            if code not in NOTHING_NEW:
                failed(slot.column, code)
            return
        if kind != slot.kind:  # only now is it known what it is
            slot.kind = kind
            self.answers.change(slot.index + 2, VALUE_LETTERS.get(kind, "Q"))
            self._kinds = tuple(one.kind for one in self._slots)
            answers = self.answers.read()
        stores = Stores()
        stores.add([slot.column_of])
        self._store(row, answers, stores)

    def _store(self, row: list[Any], answers: tuple[Any, ...], stores: Stores) -> None:
        for position, at, highest, divide in stores.plain:
            value = answers[at]
            if 0 <= value <= highest:
                row[position] = value / divide if divide else value
            elif position != _PSTATE or value != _UNKNOWN_PSTATE:
                self._discard[position]()
        for special in stores.special:
            special.store(row, answers)

    def close(self) -> None:
        """Give back what the device's calls were lent."""
        for call in self.on_close:
            call()
        self.on_close.clear()
