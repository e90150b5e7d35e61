"""Profiles and comparisons as lines of text, ready for any renderer: what is shown, in which order, with which words. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpucost.bench import book
from gpucost.bench.model import GATES, OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpucost.bench.compare import Comparison, Row
    from gpucost.bench.model import Profile, Result
    from gpucost.bench.store import Stored

NONE = "-"

_WORDS = {
    "implausible_high": "more than is possible",
    "implausible_low": "far too little",
    "not_monotone": "out of order",
    "wrong_result": "wrong result",
    "few_windows": "few windows",
}


@dataclass(slots=True)
class Table:
    """A table: a title, column names, which columns hold numbers, rows of text, and which rows deserve attention (by index: `bad` or `note`)."""

    title: str
    columns: tuple[str, ...]
    numeric: frozenset[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    marks: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Page:
    """What is printed: a head line, facts, tables, and lines at the end."""

    head: str
    facts: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    footer: list[str] = field(default_factory=list)


# --- a profile ---------------------------------------------------------------------------------------------------------------------


def profile_page(profile: Profile) -> Page:
    """Everything of a profile that fits a page."""
    page = Page(f"{profile.device.name}, {profile.mode}, {profile.started_utc}", _facts(profile))
    page.tables.append(_results(profile))
    page.tables += [_sweep(one) for one in profile.results if one.points]
    page.footer = _footer(profile)
    return page


def _facts(profile: Profile) -> list[str]:
    device, tool = profile.device, profile.tool
    facts = [f"profile {profile.run_id}  {device.uuid}"]
    if device.kind != "cpu":
        limit = f", power limit {device.power_limit_w:.0f} W" if device.power_limit_w else ""
        clock = f", SM clock up to {device.sm_clock_max_mhz} MHz" if device.sm_clock_max_mhz else ""
        facts.append(
            f"{device.sm_count or '?'} SMs{clock}{limit}{f', MIG {device.mig_profile}' if device.mig_profile else ''}"
        )
        facts.append(
            f"driver {tool.get('driver') or 'unknown'}, CUDA {tool.get('cuda') or 'none'}, torch {tool.get('torch')}"
        )
    else:
        facts.append(f"{device.threads} threads, torch {tool.get('torch')}")
    if profile.shared:
        facts.append("SHARED with other processes: none of these figures is a ceiling")
    elif profile.contention == "unknown" and device.kind != "cpu":
        facts.append("whether others used the device is unknown: the driver was not there to be asked")
    return facts


def _results(profile: Profile) -> Table:
    table = Table(
        "Sustained figures",
        ("test", "sustained", "unit", "95 % interval", "burst", "of book", "of clock", "usual", "remark"),
        frozenset({"sustained", "95 % interval", "burst", "of book", "of clock"}),
    )
    for one in profile.results:
        if one.points is not None:
            continue
        if set(one.flags) & set(GATES) or one.status not in (OK, "skipped_unsupported"):
            table.marks[len(table.rows)] = "bad"
        elif one.flags or one.status != OK:
            table.marks[len(table.rows)] = "note"
        table.rows.append(
            (
                one.id,
                number(one.sustained),
                one.unit,
                interval(one.ci95),
                number(one.burst) if one.id.split(".")[0] in ("gemm", "mem", "link", "launch") else NONE,
                percent(one.efficiency_book),
                percent(one.efficiency_measured_clock),
                usual(profile, one),
                remark(one),
            )
        )
    return table


def usual(profile: Profile, one: Result) -> str:
    """Whether a figure is what others have published for this model: `normal`, `low`, `high`, or nothing where there is no range."""
    known = book.reference(profile.device.name, one.id)
    if known is None or one.sustained is None or not one.valid or known.unit != one.unit or profile.device.parent_uuid:
        return NONE
    return f"{known.verdict(one.sustained)} ({number(known.low)}-{number(known.high)})"


def remark(one: Result) -> str:
    """What to know of a result: why there is no figure, or what is wrong with it."""
    if one.status != OK:
        return f"{one.status.replace('_', ' ')}: {one.message or 'no reason given'}"
    words = [_WORDS.get(flag, flag) for flag in one.flags]
    if one.reasons:
        held = {name: share for name, share in one.reasons.items() if name not in ("gpu_idle", "applications_clocks")}
        words += [f"{name.replace('_', ' ')} {share:.0%} of the time" for name, share in held.items() if share >= 0.005]  # noqa: PLR2004
    if one.repeat is not None and one.sustained:
        words.append(f"at the end {one.repeat / one.sustained - 1:+.1%}")
    if one.concurrent and one.unit != "ratio":
        words.append("all devices at once")
    return ", ".join(words)


def _sweep(one: Result) -> Table:
    facts = [name for name in (one.points or [{}])[0] if name in ("m", "n", "k", "footprint_bytes", "size_bytes")]
    extra = [
        name for name in ("moved_gb_s", "power_w", "sm_clock_mhz") if any(name in point for point in one.points or [])
    ]
    columns = (*facts, one.unit, "95 % interval", *extra, "remark")
    table = Table(one.id, columns, frozenset(columns[:-1]))
    for point in one.points or []:
        flags = point.get("flags")
        note = point.get("message") or (", ".join(map(str, flags)) if isinstance(flags, list) else "")
        cells = [f"{point.get(name, NONE)}" for name in facts]
        cells += [number(_plain(point.get("sustained"))), interval(_ends(point.get("ci95")))]
        cells += [number(_plain(point.get(name))) for name in extra]
        table.rows.append((*cells, str(note)))
    return table


def _plain(value: object) -> float | None:
    """A number of a point, or None: points have no schema, and may come from anybody."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e300 else None  # type: ignore[arg-type]  # noqa: PLR2004


def _ends(value: object) -> list[float] | None:
    ends = [one for one in map(_plain, value) if one is not None] if isinstance(value, list) else []
    return ends if len(ends) == 2 else None  # noqa: PLR2004


def _footer(profile: Profile) -> list[str]:
    lines = []
    if profile.power_model is not None:
        model = profile.power_model
        lines.append(
            f"power = {model.p0_w:.0f} W + {model.pj_per_byte:.0f} pJ/B + {model.pj_per_flop:.2f} pJ/FLOP ({model.dtype}; "
            f"{model.points} points, mean error {model.mape:.1%})"
        )
    if profile.warm_up_s is not None:
        state = "steady" if profile.steady else "not steady when its time was over"
        lines.append(f"warm-up {profile.warm_up_s:.1f} s, {state}")
    source = profile.theoretical.get("source")
    if source:
        lines.append(f"book peaks: {source}")
    lines += [f"warning: {line}" for line in profile.warnings]
    took = f"took {profile.duration_s:.0f} s"
    return [*lines, took if profile.import_s is None else f"{took}, of which importing torch {profile.import_s:.1f} s"]


# --- lists and comparisons ---------------------------------------------------------------------------------------------------------


def list_page(stored: Sequence[Stored], broken: Sequence[str]) -> Page:
    """Every profile that is kept, newest first."""
    table = Table(
        "", ("profile", "device", "uuid", "mode", "driver", "figures", "flagged"), frozenset({"figures", "flagged"})
    )
    for one in reversed(stored):
        profile = one.profile
        valid = [result for result in profile.results if result.status == OK]
        flagged = sum(1 for result in valid if not result.valid)
        driver = profile.tool.get("driver") or NONE
        table.rows.append(
            (
                profile.run_id,
                profile.device.name,
                profile.device.uuid,
                profile.mode,
                driver,
                str(len(valid)),
                str(flagged),
            )
        )
    return Page("", tables=[table], footer=list(broken))


def comparison_page(found: Comparison) -> Page:
    """B against A."""
    head = f"B {found.b.run_id} against A {found.a.run_id}"
    table = Table(
        "",
        ("test", "A", "B", "unit", "B/A", "95 % interval", "p", "verdict", "remark"),
        frozenset({"A", "B", "B/A", "95 % interval", "p"}),
    )
    for row in found.rows:
        if row.verdict not in ("same", "unclear", "not compared"):
            table.marks[len(table.rows)] = "bad" if row.verdict in ("slower", "hungrier") else "note"
        table.rows.append(
            (
                row.id,
                number(row.a),
                number(row.b),
                row.unit,
                NONE if row.ratio is None else f"{row.ratio:.4f}",
                NONE if row.ci95 is None else f"{row.ci95[0]:.4f}-{row.ci95[1]:.4f}",
                NONE if row.p_value is None else f"{row.p_value:.3f}" if row.p_value >= 0.001 else "<0.001",  # noqa: PLR2004
                row.verdict,
                row.note,
            )
        )
    return Page(head, [f"differs: {line}" for line in found.differs], [table], [conclusion(found.rows)])


def conclusion(rows: Sequence[Row]) -> str:
    """What a comparison comes to, in a line."""
    compared = [row for row in rows if row.verdict != "not compared"]
    if not compared:
        return "nothing could be compared"
    counts: dict[str, int] = {}
    for row in compared:
        counts[row.verdict] = counts.get(row.verdict, 0) + 1
    return f"of {len(compared)} tests: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


# --- words -------------------------------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    if value is None:
        return NONE
    if value != 0 and abs(value) < 0.001:  # noqa: PLR2004 (below this, zeros hide the digits)
        return f"{value:.3g}"
    digits = max(0, 3 - len(str(int(abs(value)))) + (1 if abs(value) < 1 else 0))
    return f"{value:.{digits}f}"


def interval(bounds: Sequence[float] | None) -> str:
    """Both ends, or a dash."""
    return NONE if bounds is None else f"{number(bounds[0])}-{number(bounds[1])}"


def percent(share: float | None) -> str:
    """A share in whole per cent, or a dash."""
    return NONE if share is None else f"{share:.0%}"
