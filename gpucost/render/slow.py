"""The parts of a report on why the GPUs were slow and on what to look into, for the formats that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpucost.render.safe import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gpucost.report.model import Report
    from gpucost.report.slowness import Finding, GpuSlow, HeldBack

MAX_SHOWN = 16

_COLUMNS = ("GPU", "power cap", "thermal", "power brake", "sync boost")


def terminal(report: Report, table: Callable[..., Any]) -> Iterable[Any]:
    """A table of the times, and below it links, events and what it all rests on."""
    from rich.text import Text

    shown = _shown(report)
    made = table(*_COLUMNS)
    for one in shown:
        made.add_row(*(Text(plain(cell)) for cell in _row(one)))
    yield made
    for line in _lines(report, shown):
        yield Text(plain(line, 600), style="bright_black")


def terminal_findings(report: Report) -> Iterable[Any]:
    """A finding in a few lines each."""
    from rich.text import Text

    for one in report.findings:
        yield Text.assemble((f"{one.code} {one.name}", "bold yellow"), f"  {plain(_what(one), 600)}")
        yield Text(f"  {plain(f'{one.evidence}; try: {one.advice}', 600)}", style="bright_black")


def markdown(
    report: Report, table: Callable[..., Iterable[str]], code: Callable[..., str], prose: Callable[[str], str]
) -> Iterator[str]:
    """Both parts as Markdown."""
    shown = _shown(report)
    if shown:
        yield "### What slowed the GPUs"
        yield ""
        rows = [[code(label, cell=True), *cells] for label, *cells in map(_row, shown)]
        yield from table(list(_COLUMNS), rows, numbers=len(_COLUMNS) - 1, first=1)
        for line in _lines(report, shown):
            yield f"* {prose(line)}"
        yield ""
    if report.findings:
        yield "### Findings"
        yield ""
        for one in report.findings:
            yield f"* **{one.code}** {one.name}: {prose(_what(one))} ({prose(one.evidence)}). Try: {prose(one.advice)}."
        yield ""


def _shown(report: Report) -> list[GpuSlow]:
    return [one for one in report.slow if one.known][:MAX_SHOWN]


def any_known(report: Report) -> bool:
    """Whether there is anything to show of why the GPUs were slow."""
    return bool(_shown(report))


def _row(one: GpuSlow) -> list[str]:
    return [one.label, *(_cell(cause) for cause in one.held_back)]


def _cell(cause: HeldBack) -> str:
    if cause.time_s.value is None:
        return cause.time_s.text
    return f"{cause.time_s.text} ({cause.share_pct.text.removeprefix('≥ ')})"


def _lines(report: Report, shown: list[GpuSlow]) -> Iterator[str]:
    """What is the same of several GPUs, once."""
    yield from _together("PCIe link under load", [(one.label, one.link.text) for one in shown])
    yield from _together("based on", [(one.label, one.basis_text) for one in shown if one.basis_text])
    for one in shown:
        for event in one.events:
            times = f", {event.count} times" if event.count > 1 else ""
            yield f"{one.label}: {event.kind} after {event.first_s.text}{times}: {event.message}"
    left = sum(1 for one in report.slow if one.known) - len(shown)
    if left:
        yield f"{left} more GPUs are in --format json"


def _together(what: str, texts: list[tuple[str, str]]) -> Iterator[str]:
    said: dict[str, list[str]] = {}
    for label, text in texts:
        said.setdefault(text, []).append(label)
    for text, labels in said.items():
        yield f"{what}, {', '.join(labels)}: {text}"


def _what(one: Finding) -> str:
    price = f" ({one.money.text} of GPU time)" if one.money.usd is not None else ""
    return f"{one.gpu}: {one.seen}{price}"
