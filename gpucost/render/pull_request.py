"""A run, what changed and which gates failed, as Markdown for a pull request: short first, the rest folded, never over its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpucost.render import compare_markdown as tables
from gpucost.render.footer import footer
from gpucost.render.markdown import code, prose, table
from gpucost.render.safe import plain
from gpucost.report.comparison import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gpucost.report.comparison import Change, CheckResult, Comparison
    from gpucost.report.model import Report, StageRow

COMMENT_CHARS = 65_000
"""Of a comment: forges take 65,536 characters."""
SUMMARY_BYTES = 1_000_000
"""Of a job's summary: GitHub drops the whole of one that is over 1,024 kB."""

_FEW = 3
_SOME = 10
_MANY = 25
_ALL = 2000
_NAME = 80


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the comment and its shorter versions, the longest first; the last resort is to leave it out."""

    what: str
    versions: list[Callable[[], str]]


def comment(
    report: Report,
    comparison: Comparison | None = None,
    check: CheckResult | None = None,
    *,
    marker: str = "",
    link: str | None = None,
    max_chars: int = COMMENT_CHARS,
    max_bytes: int = SUMMARY_BYTES,
) -> str:
    """The Markdown of a comment or a job's summary.

    Whatever comes from a recording can neither be markup, nor link, nor mention, nor end the folded part it is in. What does not fit is left
    out in a fixed order, whole parts at a time, so that the result is always valid; the headline and the marker always fit.

    Args:
        report: the run.
        comparison: with its baseline; default: that of `check`.
        check: the gates.
        marker: the first line, by which the comment is found again (`<!-- gpucost:NAME -->`); given back to the letter.
        link: an https address of the full report (an artifact); anything else is not linked.
        max_chars: at most this many characters.
        max_bytes: and at most this many bytes of UTF-8.

    Raises:
        ValueError: the limits leave no room for the headline (4,000 characters, 16,000 bytes and the marker always do).
    """
    against = comparison if comparison is not None else check.comparison if check else None
    head = "\n".join(_head(report, against, check, marker))
    tail = _link(link)
    parts = [*_short(report, against, check), *_folded(report, against, check)]
    level = [0] * len(parts)
    made = [part.versions[0]() for part in parts]
    while True:
        left_out = [part.what for part, number in zip(parts, level, strict=True) if number]
        text = _joined([head, *made, _left_out(left_out), tail])
        if len(text) <= max_chars and len(text.encode("utf-8")) <= max_bytes:
            return text
        # The last part gives way first, and completely, before the one above it is touched.
        number = next((at for at in reversed(range(len(parts))) if made[at]), None)
        if number is None:
            raise ValueError(f"{max_chars} characters and {max_bytes} bytes are too few for a comment")
        level[number] += 1
        versions = parts[number].versions
        made[number] = versions[level[number]]() if level[number] < len(versions) else ""


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _left_out(what: list[str]) -> str:
    return f"<sub>Shortened or left out, because it would be too long here: {', '.join(what)}.</sub>" if what else ""


def _link(link: str | None) -> str:
    """A link, only where it is an address that can neither be code nor break out of its brackets."""
    if not link or not link.startswith("https://") or len(link) > 1000:  # noqa: PLR2004
        return ""
    if not link.isascii() or any(char.isspace() or char in "<>()[]\"'`\\|" or not char.isprintable() for char in link):
        return ""
    return f"[The whole report]({link})"


def _head(report: Report, comparison: Comparison | None, check: CheckResult | None, marker: str) -> Iterator[str]:
    """What always stands there: a title, the figures of the run, and what they were."""
    if marker:
        yield from (marker, "")
    if report.run.simulated or (comparison is not None and comparison.simulated):
        yield from (tables.SIMULATED, "")
    total = report.total
    if check and check.gates:
        yield f"### gpucost: {tables.gates_text(check)}"
    elif report.gpus:
        priced = total.money.usd is not None
        what = f"{total.money.text}" if priced else total.gpu_hours.text
        yield f"### gpucost: {what}, {total.waste_pct.text} idle"
    else:
        yield "### gpucost: no GPU was held"
    yield ""
    name = f" {code(plain(report.run.name, _NAME))}" if report.run.name else ""
    facts = f"{report.run.duration_s.text} on {code(plain(report.run.gpus, _NAME))}, {report.run.exit_text}"
    yield f"Run {code(plain(report.run.run_id, _NAME))}{name}: {facts}"
    yield ""
    if comparison is not None:
        yield from _figures_changed(comparison)
    elif report.gpus:
        yield from _figures(report)


def _figures(report: Report) -> Iterator[str]:
    total = report.total
    waste = total.waste.text if total.money.usd is not None else total.waste_time_s.text
    cells = [
        f"**{total.money.text}**",
        f"**{waste}** ({total.waste_pct.text})",
        total.gpu_hours.text,
        total.energy_j.text,
    ]
    yield from table(["cost", "idle waste", "GPU time", "energy"], [cells], numbers=4)


def _figures_changed(comparison: Comparison) -> Iterator[str]:
    metrics = ("cost_usd", "waste_usd", "waste_pct", "gpu_time_s", "energy_j", "duration_s")
    rows = []
    for metric in metrics:
        one = comparison.run[metric]
        word = f"**{one.word}**" if one.worse else one.word
        rows.append([METRICS[metric], one.base.text, f"**{one.head.text}**", _changed(one), word])
    yield from table(["", "baseline", "this run", "change", ""], rows, numbers=3, first=1)
    yield f"<sub>{prose(comparison.method.text)}.</sub>"


def _changed(one: Change) -> str:
    return f"{one.delta.text} ({one.delta_pct.text})" if one.delta_pct.value is not None else one.delta.text


def _short(report: Report, comparison: Comparison | None, check: CheckResult | None) -> Iterator[_Part]:
    """The parts that are not folded."""
    if report.total.note:
        yield _Part("a note", [lambda: f"> {prose(report.total.note)}"])
    if check and check.failing:
        yield _Part(
            "failed gates", [lambda: _failing(check, _SOME), lambda: _failing(check, _FEW), lambda: _failing(check, 1)]
        )
    if comparison is not None and _movers(comparison):
        yield _Part("what changed most", [lambda: _moved(comparison)])
    elif report.marked_stages and report.gpus and _idlest(report):
        yield _Part("where the idle waste is", [lambda: _idle(report)])


def _failing(check: CheckResult, limit: int) -> str:
    lines = [f"- **{gate.status}**: {prose(plain(gate.message, 300))}" for gate in check.failing[:limit]]
    if len(check.failing) > limit:
        lines.append(f"- and {len(check.failing) - limit} more")
    return "\n".join(lines)


def _movers(comparison: Comparison) -> list[tuple[str, Change]]:
    """The stages whose own figure changed most; those that changed by nothing that prints are none."""
    metric, _ = tables.money_or_time(comparison)
    known = [(row.path, row.changes[metric]) for row in comparison.stages if row.changes[metric].delta.value]
    moved = [(path, one) for path, one in known if one.delta.text[:1] in "+-"]
    return sorted(moved, key=lambda item: -abs(item[1].delta.value or 0.0))[:_FEW]


def _moved(comparison: Comparison) -> str:
    metric, _ = tables.money_or_time(comparison)
    lines = [f"Stages whose own {METRICS[metric]} changed most:", ""]
    for path, one in _movers(comparison):
        word = f", {one.word}" if one.word else ""
        lines.append(f"- {code(plain(path, _NAME))}: {one.base.text} to {one.head.text} ({_changed(one)}{word})")
    return "\n".join(lines)


def _idlest(report: Report) -> list[StageRow]:
    """The stages without sub-stages whose idle waste costs most."""
    parents = {row.parent_path for row in report.stages}
    leaves = [row for row in report.stages if row.path not in parents and row.waste.usd is not None]
    return sorted(leaves, key=lambda row: -float(row.waste.usd or 0))[:_FEW]


def _idle(report: Report) -> str:
    rows = [f"{code(plain(row.path, _NAME))} {row.waste.text} ({row.waste_pct.text})" for row in _idlest(report)]
    return f"Most idle waste: {', '.join(rows)}"


def _folded(report: Report, comparison: Comparison | None, check: CheckResult | None) -> Iterator[_Part]:
    """The folded parts, the most important first."""
    if check and check.gates:
        yield _Part("gates", _cut("Gates", lambda limit: tables.gate_table(check.gates, limit)))
    if comparison is not None:
        yield _Part("changes by stage", _cut("Changes by stage", lambda limit: tables.stage_table(comparison, limit)))
        yield _Part("changes by GPU", _cut("Changes by GPU", lambda limit: tables.gpu_table(comparison, limit)))
    if report.gpus:
        yield _Part("where the money went", [lambda: _fold("Where the money went", _uses(report))])
    if report.marked_stages:
        yield _Part("this run by stage", _cut("This run by stage", lambda limit: _stages(report, limit)))
    if report.gpus:
        yield _Part("this run by GPU", _cut("This run by GPU", lambda limit: _gpus(report, limit)))
    yield _Part(
        "what the figures rest on", [lambda: _fold("What the figures rest on", _basis(report, comparison, check))]
    )


def _cut(title: str, lines: Callable[[int], Iterable[str]]) -> list[Callable[[], str]]:
    """A table in full, and with fewer and fewer rows."""
    return [lambda limit=limit: _fold(title, lines(limit)) for limit in (_ALL, _MANY, _SOME)]  # type: ignore[misc]


def _fold(title: str, lines: Iterable[str]) -> str:
    """A folded part. The blank line behind the summary makes what follows Markdown again."""
    body = "\n".join(lines).strip("\n")
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _uses(report: Report) -> Iterator[str]:
    rows = [[use.use, use.gpu_time_s.text, use.share_pct.text, use.money.text, use.meaning] for use in report.uses]
    rows.append(["**total**", report.total.gpu_time_s.text, "100.0 %", report.total.money.text, ""])
    yield from table(["use", "GPU time", "share", "cost", "meaning"], rows, numbers=3, first=1)


def _stages(report: Report, limit: int) -> Iterator[str]:
    shown = [row for row in report.stages if row.shown]
    rows = [
        [
            "&emsp;" * min(row.depth, 6) + code(plain(row.name, _NAME), cell=True),
            row.wall_s.text if row.spans else "",
            row.self_time_s.text,
            row.self_money.text,
            row.total_money.text,
            row.waste_pct.text,
        ]
        for row in shown[:limit]
    ]
    rest = report.stages_folded
    if len(shown) > limit:
        rows.append([f"{len(shown) - limit} more rows left out", "", "", "", "", ""])
    elif rest:
        rows.append([f"{rest.count} more stages", "", rest.time_s.text, rest.money.text, "", ""])
    total = report.total
    rows.append(
        [
            "**total**",
            report.run.duration_s.text,
            total.gpu_time_s.text,
            total.money.text,
            total.money.text,
            total.waste_pct.text,
        ]
    )
    yield from table(["stage", "wall", "own GPU time", "own cost", "with sub-stages", "idle"], rows, numbers=5, first=1)


def _gpus(report: Report, limit: int) -> Iterator[str]:
    shown = [row for row in report.gpus if row.shown]
    rows = [
        [
            code(plain(f"{row.label} {row.name}", _NAME), cell=True),
            row.held_s.text,
            row.busy_pct.text,
            row.waste_pct.text,
            row.energy_j.text,
            row.money.text,
        ]
        for row in shown[:limit]
    ]
    rest, total = report.gpus_folded, report.total
    if len(shown) > limit:
        rows.append([f"{len(shown) - limit} more rows left out", "", "", "", "", ""])
    elif rest:
        rows.append([f"{rest.count} more", rest.time_s.text, "", "", rest.energy_j.text, rest.money.text])
    texts = (total.gpu_time_s, total.busy_pct, total.waste_pct, total.energy_j, total.money)
    rows.append(["**total**", *(figure.text for figure in texts)])
    yield from table(["GPU", "held", "busy", "idle", "energy", "cost"], rows, numbers=5, first=1)


def _basis(report: Report, comparison: Comparison | None, check: CheckResult | None) -> Iterator[str]:
    yield f"- command: {code(report.run.command_text)}"
    for line in footer(report)[:_MANY]:
        yield f"- {line.label}: {prose(line.text)}"
    if check:
        yield from (f"- {prose(note)}" for note in check.notes[:_MANY])
    if comparison is not None:
        yield from tables.method_lines(comparison)
