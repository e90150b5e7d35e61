"""Why the GPUs were slow, and what somebody should look into."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gpucost.analyzers.rules import findings_of as found_by_rules
from gpucost.analyzers.slow import CAUSES, COUNTER, SAMPLED
from gpucost.analyzers.slow import UNKNOWN as NOT_READ
from gpucost.report.model import UNKNOWN, Figure, Money
from gpucost.report.slowness import Finding, GpuSlow, HardwareEvent, HeldBack, Link
from gpucost.report.text import TimeScale, absent, count, duration, known, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpucost.manifest import Gpu
    from gpucost.report.material import Material

_ENOUGH = 0.99
"""A time that was looked at for less of the held time than this is a lower bound."""


def slow_of(material: Material) -> list[GpuSlow]:
    """Why each held GPU was slow."""
    return [_gpu(material, gpu) for gpu in material.held]


def _gpu(material: Material, gpu: Gpu) -> GpuSlow:
    frame = material.analysis.held_back
    rows = {str(row["cause"]): row for row in frame[frame["gpu_uuid"] == gpu.uuid].to_dict("records")}
    held_ns = known(material.gpu(gpu.uuid).get("held_ns")) or 0.0
    held_back = [_held_back(cause, rows.get(cause, {}), held_ns) for cause in CAUSES]
    links = material.analysis.links
    link = _link(links.loc[gpu.uuid].to_dict() if gpu.uuid in links.index else {})
    events = _events(material, gpu.uuid)
    return GpuSlow(
        uuid=gpu.uuid,
        label=material.labels[gpu.uuid],
        held_back=held_back,
        link=link,
        events=events,
        known=bool(events or link.readings or any(one.basis != NOT_READ for one in held_back)),
        basis_text=_basis(held_back),
    )


def _held_back(cause: str, row: Mapping[Any, Any], held_ns: float) -> HeldBack:
    ns, basis = known(row.get("held_back_ns")), str(row.get("basis", NOT_READ))
    if ns is None:
        return HeldBack(cause, Figure(None, UNKNOWN), Figure(None, UNKNOWN), basis, 0)
    partly = (known(row.get("covered_ns")) or 0.0) < _ENOUGH * held_ns
    time = TimeScale.of(round(held_ns)).figure(round(ns))
    return HeldBack(
        cause,
        Figure(time.value, f"≥ {time.text}") if partly else time,
        percent(ns / held_ns if held_ns else None, at_least=partly),
        basis,
        int(row["samples"]),
    )


def _basis(held_back: list[HeldBack]) -> str:
    """What the times rest on, the same basis once."""
    samples = max((one.samples for one in held_back if one.basis == SAMPLED), default=0)
    parts = []
    if any(one.basis == COUNTER for one in held_back):
        parts.append("time by the driver's counters")
    if samples:
        parts.append(f"{count(samples, 'sample')} of the clocks' reasons")
    return "; ".join(parts)


def _link(row: Mapping[Any, Any]) -> Link:
    gen, gen_max, width, width_max = (_whole(row.get(name)) for name in ("gen", "gen_max", "width", "width_max"))
    readings = _whole(row.get("readings")) or 0
    shares = [share for share in (known(row.get("gen_below")), known(row.get("width_below"))) if share is not None]
    below = percent(max(shares)) if shares else Figure(None, UNKNOWN)
    now, best = _speed(gen, width), _speed(gen_max, width_max)
    if not readings:
        text = UNKNOWN
    elif below.value:
        text = f"{now} of {best}, {below.text} of the readings below"
    else:
        text = f"{now} of {best}"
    return Link(gen, gen_max, width, width_max, below, readings, text)


def _speed(gen: int | None, width: int | None) -> str:
    if gen is None and width is None:
        return UNKNOWN
    return f"gen {'?' if gen is None else gen} x{'?' if width is None else width}"


def _whole(value: Any) -> int | None:
    number = known(value)
    return None if number is None else int(number)


def _events(material: Material, uuid: str) -> list[HardwareEvent]:
    frame = material.analysis.hardware
    return [
        HardwareEvent(str(row["kind"]), str(row["message"]), int(row["count"]), duration(int(row["first_ns"])))
        for row in frame[frame["gpu_uuid"] == uuid].to_dict("records")
    ]


def findings_of(material: Material) -> list[Finding]:
    """What the rules found, ranked by money, then by GPU time, then by code."""
    found = [
        (_pico(material, finding.gpu_uuid, finding.affected_ns), rule, finding)
        for rule, finding in found_by_rules(material.analysis)
    ]
    found.sort(key=lambda one: (-(one[0] or 0), -(one[2].affected_ns or 0), one[1].code))
    return [
        Finding(
            code=rule.code,
            name=rule.name,
            gpu=material.labels.get(finding.gpu_uuid, finding.gpu_uuid),
            gpu_uuid=finding.gpu_uuid,
            seen=finding.seen,
            evidence=finding.evidence,
            gpu_time_s=absent() if finding.affected_ns is None else duration(finding.affected_ns),
            money=Money(None, absent().text) if finding.affected_ns is None else material.money.money(pico),
            advice=rule.advice,
        )
        for pico, rule, finding in found
    ]


def _pico(material: Material, uuid: str, ns: int | None) -> int | None:
    """What so much time of a GPU cost; None where it has no price."""
    uses = material.cube.gpus.get(uuid)
    whole = uses.of() if uses else None
    pico = material.cube.pico(whole) if whole else None
    if ns is None or pico is None or whole is None or not whole.ns:
        return None
    return round(Fraction(pico * ns, whole.ns))
