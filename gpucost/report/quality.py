"""What the figures rest on: coverage, bases, prices, the recorder's own cost, and what happened on the way."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gpucost.report.left_out import left_out_notes
from gpucost.report.model import (
    UNKNOWN,
    Basis,
    Event,
    Figure,
    Overhead,
    Price,
    Quality,
    Trouble,
    UnknownTime,
)
from gpucost.report.text import TimeScale, absent, count, duration, known, percent, size

if TYPE_CHECKING:
    from pandas import DataFrame

    from gpucost.prices import Quote
    from gpucost.report.material import Material
    from gpucost.report.model import GpuRow, StageRow

MAX_EVENTS = 10

_NOT_OF_NOTE = frozenset({"stage_started"})
"""Kinds of events that are bookkeeping of the recorder."""

_REASONS = {
    "no_sample": "no sample: the recorder was late, stopped or gone",
    "gpu_lost": "the driver had lost the GPU",
    "unsupported": "the driver does not report utilization",
    "not_closed": "after the last sample of a recording that was never closed",
    "invalid": "the driver's reading was not valid",
    "holding": "neither process lists nor memory say who held the GPU",
    "unlisted": "the GPU was at work, and no process list says for whom",
}

_ENDS = {
    "exit": "price × held time, from the command's start to its exit",
    "last_sample": "price × held time, up to the last sample: nobody saw the command end",
    "last_mark": "price × held time, up to the last stage mark: nobody saw the command end",
}

_HOLDING = {
    "processes": "the driver's process lists",
    "memory": "memory above the driver's reserve, because process lists could not be read",
    "none": "neither process lists nor memory could be read",
}

_ENERGY = {
    "counter": "the GPU's energy counter",
    "integrated": "power, integrated over the samples",
    "unknown": "neither a counter nor power was reported",
}


def quality_of(material: Material, gpus: list[GpuRow], stages: list[StageRow]) -> Quality:
    """The footer."""
    events, left_out = _events(material)
    return Quality(
        coverage_pct=_coverage(gpus),
        gaps=sum(gpu.gaps for gpu in gpus),
        longest_gap_s=max((gpu.longest_gap_s for gpu in gpus if gpu.gaps), key=_seconds_of, default=absent()),
        unknown_time_s=duration(material.cube.run.of("unknown").ns) if gpus else absent(),
        unknown=_unknown(material),
        uncertain=material.cube.run.uncertain,
        bases=_bases(material, gpus, stages),
        prices=prices_of(material),
        overhead=_overhead(material),
        events=events,
        events_left_out=left_out,
        problems=[Trouble(problem.code, problem.message, problem.count) for problem in material.recording.problems],
        notes=[*material.analysis.notes, *left_out_notes(material)],
    )


def prices_of(material: Material) -> list[Price]:
    """Each price once, with the GPUs it is for."""
    from gpucost.prices import why_unpriced

    groups: dict[tuple[Quote | None, str], list[str]] = {}
    for gpu in material.held:
        quote = material.quotes.get(gpu.uuid)
        why = why_unpriced(gpu) if quote is None else ""
        groups.setdefault((quote, why), []).append(material.labels[gpu.uuid])
    return [_price(quote, why, labels) for (quote, why), labels in groups.items()]


def _price(quote: Quote | None, why: str, labels: list[str]) -> Price:
    if quote is None:
        return Price(labels, None, UNKNOWN, None, None, None, None, None, None, stale=False, note=why)
    amount = format(quote.amount.normalize(), "f")
    where = " ".join(part for part in (quote.provider, quote.instance_type, quote.region) if part)
    parts = [
        f"{quote.amount.normalize():.6g} USD per GPU-hour",
        quote.basis if quote.basis == "list price" else quote.source,
        where,
    ]
    if quote.as_of:
        parts.append(f"{quote.as_of}, STALE" if quote.stale else quote.as_of)
    return Price(
        gpus=labels,
        amount_usd=amount,
        text=", ".join(part for part in parts if part),
        basis=quote.basis,
        source=quote.source,
        provider=quote.provider,
        instance_type=quote.instance_type,
        region=quote.region,
        as_of=quote.as_of,
        stale=quote.stale,
        note=quote.note,
    )


def _seconds_of(figure: Figure) -> float:
    return figure.value or 0.0


def _coverage(gpus: list[GpuRow]) -> Figure:
    """Of all held time, weighted by each GPU's."""
    known_rows = [(row.coverage_pct.value, row.held_s.value or 0) for row in gpus if row.coverage_pct.value is not None]
    held = sum(seconds for _, seconds in known_rows)
    return percent(sum(share * seconds for share, seconds in known_rows) / held / 100 if held else None)


def _unknown(material: Material) -> list[UnknownTime]:
    frame = material.analysis.unknown_intervals
    sums: Counter[str] = Counter()
    for reason, start, end in zip(
        frame["reason"].tolist(), frame["start_ns"].tolist(), frame["end_ns"].tolist(), strict=True
    ):
        sums[str(reason)] += int(end) - int(start)
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    figures = TimeScale.of(sum(sums.values())).column([ns for _, ns in ordered])
    return [
        UnknownTime(reason, _REASONS.get(reason, reason), figure)
        for (reason, _), figure in zip(ordered, figures, strict=True)
    ]


def _bases(material: Material, gpus: list[GpuRow], stages: list[StageRow]) -> list[Basis]:
    if not material.held:
        return []
    simulated = all(gpu.simulated for gpu in material.held)
    end = material.recording.end_basis
    samples = sum(row.samples for row in gpus)
    hz = known(material.recording.manifest.recorder.get("hz"))
    rate = f" at {hz:g} Hz" if hz else ""
    rows = [
        Basis("cost", "measured" if end == "exit" else "estimated", _ENDS.get(end, end)),
        Basis(
            "uses",
            "simulated" if simulated else "sampled",
            f"{samples:,} readings of utilization{rate}; a reading is a mean over the driver's own period",
        ),
        Basis(
            "holding", "simulated" if simulated else "sampled", _listed([row.holding_basis for row in gpus], _HOLDING)
        ),
        _energy_basis(material, gpus, simulated=simulated),
    ]
    spans = sum(row.spans for row in stages)
    if spans:
        rows.append(Basis("stages", "measured", _stage_text(stages, spans)))
    return rows


def _energy_basis(material: Material, gpus: list[GpuRow], *, simulated: bool) -> Basis:
    kinds = [row.energy_basis for row in gpus]
    text = _listed(kinds, _ENERGY)
    differences = [known(material.gpu_energy(row.uuid).get("difference_pct")) for row in gpus]
    apart = [abs(value) for value in differences if value is not None]
    if apart:
        text += f"; counter and integral differ by {max(apart):.1f} %"
    if "power_of_module" in set(material.recording.frames["event"]["kind"]):
        text += "; of the whole module, CPU included, where the GPU has none of its own"
    basis = kinds[0] if len(set(kinds)) == 1 else "mixed"
    return Basis("energy", "simulated" if simulated and basis != "unknown" else basis, text)


def _stage_text(stages: list[StageRow], spans: int) -> str:
    parts = [f"{count(spans, 'span')} marked by the command itself"]
    truncated = sum(row.truncated for row in stages)
    short = sum(1 for row in stages if row.short)
    if truncated:
        parts.append(f"{truncated:,} closed by the end of their process (marked cut)")
    if short:
        parts.append(f"{count(short, 'stage')} too short for the samples (marked ~)")
    return "; ".join(parts)


def _listed(kinds: list[str], texts: dict[str, str]) -> str:
    """What the GPUs rest on; with how many of them, where they differ."""
    counts = Counter(kinds)
    if len(counts) == 1:
        return texts.get(kinds[0], kinds[0])
    return "; ".join(f"{count(number, 'GPU')}: {texts.get(kind, kind)}" for kind, number in counts.items())


def _overhead(material: Material) -> Overhead:
    frame = material.recording.frames["recorder"]
    if frame.empty:
        nothing = Figure(None, UNKNOWN)
        return Overhead(nothing, nothing, None, None, None, nothing, None, None, None)
    whole = frame[frame["collector"] == "recorder"]
    return Overhead(
        cpu_pct=_cpu(whole),
        memory_bytes=size(known(whole["rss_bytes"].max())),
        ticks=_total(frame, "ticks"),
        ticks_late=_total(frame, "ticks_late"),
        ticks_missed=_total(frame, "ticks_missed"),
        driver_s=_seconds(_last_sum(frame, "driver_s")),
        driver_calls=_total(frame, "driver_calls"),
        rows_dropped=_total(frame, "rows_dropped"),
        errors=_total(frame, "errors"),
    )


def _cpu(whole: DataFrame) -> Figure:
    """CPU of the recorder in percent of one core, its start included, on the host where it is highest."""
    shares = []
    for _, rows in whole.groupby("host"):
        cpu_s, last_ns = known(rows["cpu_s"].max()), known(rows["t_ns"].max())
        if cpu_s is not None and last_ns is not None and last_ns > 0:
            shares.append(cpu_s / (last_ns / 1e9))
    return percent(max(shares) if shares else None)


def _last_sum(frame: DataFrame, column: str) -> float | None:
    """The sum of a cumulative column's last values, over collectors and hosts."""
    values = frame[column].astype("float64")
    last = values.groupby([frame["host"], frame["collector"]]).max().dropna()
    return None if last.empty else float(last.sum())


def _total(frame: DataFrame, column: str) -> int | None:
    value = _last_sum(frame, column)
    return None if value is None else round(value)


def _seconds(value: float | None) -> Figure:
    return duration(None if value is None else round(value * 1e9))


def _events(material: Material) -> tuple[list[Event], int]:
    """What happened, the same thing once; the earliest first."""
    frame = material.recording.frames["event"]
    found: dict[tuple[str, str, str | None], Event] = {}
    columns = [frame[name].tolist() for name in ("kind", "source", "subject", "message", "t_ns")]
    for kind, source, subject, message, t_ns in sorted(
        zip(*columns, strict=True), key=lambda row: known(row[4]) or 0.0
    ):
        if kind in _NOT_OF_NOTE:
            continue
        subject_text = subject if isinstance(subject, str) else None
        key = (str(kind), str(source), subject_text)
        before = found.get(key)
        first = before.first_s if before else duration(round(known(t_ns) or 0))
        text = before.message if before else message if isinstance(message, str) else ""
        about = material.labels.get(subject_text, subject_text) if subject_text else None
        found[key] = Event(key[0], key[1], subject_text, about, text, before.count + 1 if before else 1, first)
    events = list(found.values())
    return events[:MAX_EVENTS], max(0, len(events) - MAX_EVENTS)
