"""The quality footer in words, for every format that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost.report.model import Carbon, Overhead, Quality, Report


class Line(NamedTuple):
    """One line of the footer; `warns` when it is something to look at. The text may hold anything that was recorded."""

    label: str
    text: str
    warns: bool = False


def footer(report: Report) -> list[Line]:
    """All lines, the most important first."""
    return [*_lines(report)]


def _lines(report: Report) -> Iterator[Line]:
    quality = report.quality
    if report.gpus:
        yield _coverage(report)
    for price in quality.prices:
        note = f" ({price.note})" if price.note else ""
        whom = f"{', '.join(price.gpus)}: " if len(quality.prices) > 1 else ""
        yield Line("price", f"{whom}{price.text}{note}", price.stale or price.amount_usd is None)
    for basis in quality.bases:
        yield Line(basis.figure, f"{basis.basis}: {basis.text}", basis.basis == "unknown")
    if report.carbon:
        yield Line("carbon", _carbon(report.carbon))
    yield _recorder(quality.overhead)
    yield from _happened(quality)


def _coverage(report: Report) -> Line:
    quality = report.quality
    text = f"{quality.coverage_pct.text} of GPU time is measured"
    if quality.gaps:
        text += f"; {quality.gaps} gap{'s' if quality.gaps > 1 else ''}, the longest {quality.longest_gap_s.text}"
    if quality.unknown_time_s.value:
        money = f", {report.total.unknown.text}" if report.total.unknown.usd is not None else ""
        text += f"; unknown: {quality.unknown_time_s.text}{money}"
    reasons = ", ".join(f"{unknown.gpu_time_s.text} {unknown.meaning}" for unknown in quality.unknown)
    return Line("coverage", f"{text} ({reasons})" if reasons else text, quality.uncertain)


def _carbon(carbon: Carbon) -> str:
    year = carbon.year or "year not stated"
    assumed = " (assumed)" if carbon.pue_assumed else ""
    grid = f"{carbon.intensity_g_per_kwh:g} g/kWh in {carbon.region_name} ({year}; {carbon.source})"
    return f"{carbon.co2e_g.text} = energy of the GPUs × PUE {carbon.pue:g}{assumed} × {grid}"


def _recorder(overhead: Overhead) -> Line:
    if overhead.cpu_pct.value is None and overhead.ticks is None:
        return Line("recorder", "its own cost was not recorded")
    parts = [f"{overhead.cpu_pct.text} of one core", overhead.memory_bytes.text]
    if overhead.ticks is not None:
        parts.append(
            f"{overhead.ticks_late or 0:,} late and {overhead.ticks_missed or 0:,} missed of {overhead.ticks:,} ticks"
        )
    if overhead.driver_calls:
        parts.append(f"{overhead.driver_s.text} in {overhead.driver_calls:,} driver calls")
    if overhead.rows_dropped:
        parts.append(f"{overhead.rows_dropped:,} rows could not be written")
    return Line("recorder", ", ".join(parts), bool(overhead.rows_dropped))


def _happened(quality: Quality) -> Iterator[Line]:
    for event in quality.events:
        times = f", {event.count} times" if event.count > 1 else ""
        about = f", {event.about}" if event.about else ""
        yield Line(
            "event",
            f"{event.kind} after {event.first_s.text}{times} ({event.source}{about}): {event.message}",
            warns=True,
        )
    if quality.events_left_out:
        yield Line(
            "event",
            f"{quality.events_left_out} more kinds of events are in --format json and in the event table",
            warns=True,
        )
    for problem in quality.problems:
        times = f" ({problem.count} times)" if problem.count > 1 else ""
        yield Line("problem", f"{problem.message}{times}", warns=True)
    for note in quality.notes:
        yield Line("note", note)
