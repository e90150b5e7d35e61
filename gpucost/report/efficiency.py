"""What the cards could have done: headroom inside busy, the least price of work, and the work that stages state."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gpucost.analyzers.headroom import ENERGY, GPM, NOTHING, Headroom, headroom
from gpucost.analyzers.model import PATH_SEPARATOR
from gpucost.analyzers.work import Rates, Work, stated_work
from gpucost.report.model import TOO_SHORT, UNKNOWN, Efficiency, Figure, GpuEfficiency, Money, UnitPrice, WorkRow
from gpucost.report.rounding import PICO, exact_usd
from gpucost.report.tally import Uses
from gpucost.report.text import absent, error_text, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpucost.bench.model import Profile, Result
    from gpucost.manifest import Gpu
    from gpucost.report.material import Material

_SECONDS_PER_HOUR = 3600
_MOST_TFLOPS = 1e9
_PREFIXES = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0))

_BASES = {
    GPM: "estimated from the performance monitor's rates and the SM clock, against the profile",
    ENERGY: "bounded by the energy above idle, against the least that the profile's work of zeros needs",
    NOTHING: "no estimate",
}


def efficiency_of(material: Material, profiles: Mapping[str, Profile]) -> Efficiency | None:
    """Everything that profiles and stated work allow to say; None where there is neither."""
    known = {gpu.uuid: profiles[gpu.uuid] for gpu in material.held if gpu.uuid in profiles}
    rates = {gpu.uuid: _rates(gpu, known.get(gpu.uuid)) for gpu in material.held}
    work = stated_work(material.recording, material.analysis, rates)
    if not known and not work:
        return None
    rooms = {room.gpu_uuid: room for room in headroom(material.recording, material.analysis, known)} if known else {}
    gpus = [_gpu(material, gpu, known.get(gpu.uuid), rooms[gpu.uuid]) for gpu in material.held] if known else []
    return Efficiency(gpus=gpus, work=[_work(material, one) for one in work])


def _rates(gpu: Gpu, profile: Profile | None) -> Rates:
    """What a card can do by the book, and by its profile. Without a profile, a MIG device's share of its GPU is not known."""
    from gpucost.bench import book
    from gpucost.bench.model import Device

    device = profile.device if profile is not None else Device("cuda", gpu.uuid, gpu.name)
    if profile is None and gpu.mig_parent_uuid is not None:
        return Rates({}, {})
    measured = {}
    stated = profile.ceilings.get("gemm_tflops") if profile is not None else None
    for dtype, rate in stated.items() if isinstance(stated, dict) else ():
        if not isinstance(rate, int | float) or not 0 < rate < _MOST_TFLOPS:
            continue
        found = _ceiling(profile, dtype, rate)
        low, high = found.ci95 if found is not None and found.ci95 else (rate, rate)
        measured[dtype] = (min(low, rate), rate, max(high, rate))
    return Rates(book.peaks(device).tflops, measured)


def _ceiling(profile: Profile | None, dtype: str, rate: float) -> Result | None:
    """The result that a ceiling of the profile is of."""
    if profile is None:
        return None
    candidates = [profile.ceiling(name) for name in (f"gemm.{dtype}", f"gemm.{dtype}.best")]
    return next((one for one in candidates if one is not None and one.sustained == rate), None)


# --- cards -------------------------------------------------------------------------------------------------------------------------


def _gpu(material: Material, gpu: Gpu, profile: Profile | None, room: Headroom) -> GpuEfficiency:
    busy = material.cube.gpus.get(gpu.uuid, Uses()).of("busy")
    pico = material.cube.pico(busy)
    low, high = (None if share is None else 1 - share for share in (room.high, room.low))
    moneys = [_part(material, pico, share) for share in (low, high)]
    return GpuEfficiency(
        uuid=gpu.uuid,
        label=material.labels[gpu.uuid],
        profile=None if profile is None else profile.run_id,
        profile_text=_profile_text(material, profile),
        basis=room.basis,
        basis_text=f"{_BASES[room.basis]}: {room.why}" if room.why else _BASES[room.basis],
        used_pct=percent(room.used),
        used_low_pct=percent(room.low),
        used_high_pct=percent(room.high),
        used_text=_used_text(room),
        compute_pct=percent(room.compute),
        memory_pct=percent(room.memory),
        headroom_low=moneys[0],
        headroom_high=moneys[1],
        headroom_text=_headroom_text(room, moneys),
        **_moved(material, gpu, room),
        prices=_prices(material, gpu, profile),
    )


def _moved(material: Material, gpu: Gpu, room: Headroom) -> dict[str, Any]:
    """What went through the card's memory, and what a TB of it cost."""
    if not room.moved_gb:
        return {"moved_bytes": Figure(None, UNKNOWN), "per_tb": Money(None, UNKNOWN), "moved_text": ""}
    figure = _amount(room.moved_gb * 1e9, "B")
    pico = material.cube.pico(material.cube.gpus.get(gpu.uuid, Uses()).of())
    money = _per(pico, room.moved_gb * 1e9, 1e12)
    text = f"about {figure.text} went through its memory, at {money.text} a TB"
    return {
        "moved_bytes": figure,
        "per_tb": money,
        "moved_text": text if money.usd is not None else text.partition(",")[0],
    }


def _part(material: Material, pico: int | None, share: float | None) -> Money:
    if pico is None or share is None:
        return Money(None, UNKNOWN)
    return material.money.money(round(Fraction(share) * pico))


def _used_text(room: Headroom) -> str:
    if room.basis == GPM and room.used is not None and room.low is not None and room.high is not None:
        return f"{room.used:.0%} ({room.low:.0%}–{room.high:.0%})"
    if room.basis == ENERGY and room.high is not None:
        return f"at most {room.high:.0%}"
    return UNKNOWN


def _headroom_text(room: Headroom, moneys: list[Money]) -> str:
    """Headroom in money, or in shares where there is no price."""
    if room.low is None or room.high is None:
        return UNKNOWN
    if room.basis == ENERGY:
        return f"at least {moneys[0].text if moneys[0].usd is not None else f'{1 - room.high:.0%}'}"
    if moneys[0].usd is None:
        return f"{1 - room.high:.0%}–{1 - room.low:.0%}"
    return f"{moneys[0].text}–{moneys[1].text}"


def _profile_text(material: Material, profile: Profile | None) -> str:
    if profile is None:
        return "no profile"
    driver, ran = profile.tool.get("driver"), material.recording.manifest.driver.get("driver")
    other = f", made with driver {driver} while the run had {ran}" if driver != ran else ""
    return f"profile {profile.run_id} ({profile.mode}, {profile.started_utc[:10]}{other})"


def _prices(material: Material, gpu: Gpu, profile: Profile | None) -> list[UnitPrice]:
    quote = material.quotes.get(gpu.uuid)
    if profile is None or quote is None:
        return []
    per_second = Fraction(quote.amount) / _SECONDS_PER_HOUR
    rates = _rates(gpu, profile).measured
    found = [
        _price(dtype, "PFLOP", [per_second * 1000 / Fraction(one) for one in reversed(ends)], rate, "TFLOP/s")
        for dtype, ends in rates.items()
        if (rate := ends[1]) > 0 and ends[0] > 0
    ]
    memory = profile.ceiling(str(profile.ceilings.get("dram_test")))
    if memory is not None and memory.sustained:
        low, high = memory.ci95 or (memory.sustained, memory.sustained)
        ends = [per_second * 1000 / Fraction(one) for one in (high, memory.sustained, low) if one > 0]
        if len(ends) == 3:  # noqa: PLR2004 (an interval that reaches zero bounds nothing)
            found.append(_price("memory", "TB", ends, memory.sustained, "GB/s"))
    return found


def _price(what: str, unit: str, per_unit: list[Fraction], rate: float, rate_unit: str) -> UnitPrice:
    low, middle, high = (_small_money(one) for one in per_unit)
    return UnitPrice(what, unit, Figure(rate, f"{rate:.4g} {rate_unit}"), middle, low, high)


def _small_money(usd: Fraction) -> Money:
    """Money of a unit price, with three digits however small."""
    return Money(exact_usd(round(usd * PICO)), f"${float(usd):.3g}")


# --- stages ------------------------------------------------------------------------------------------------------------------------


def _work(material: Material, work: Work) -> WorkRow:
    pico = _stage_pico(material, work.stage_path)
    seconds = work.wall_ns / 1e9
    low, middle, high = work.mfu_measured or (None, None, None)
    return WorkRow(
        path=work.stage_path,
        flops=_amount(work.flops, "FLOP"),
        tokens=_amount(work.tokens, "tokens"),
        dtype=work.dtype,
        dtype_assumed=work.dtype_assumed,
        tflops=absent() if work.flops is None else _rate(work.tflops, "TFLOP/s"),
        mfu_book_pct=absent() if work.flops is None else percent(work.mfu_book),
        mfu_measured_pct=absent() if work.flops is None else percent(middle),
        mfu_measured_low_pct=absent() if work.flops is None else percent(low),
        mfu_measured_high_pct=absent() if work.flops is None else percent(high),
        mfu_measured_text=_mfu_text(work),
        per_pflop=_per(pico, work.flops, 1e15),
        tokens_per_s=absent() if work.tokens is None else _rate(work.tokens / seconds if seconds else None, "tokens/s"),
        per_million_tokens=_per(pico, work.tokens, 1e6),
        joules_per_token=_joules_per_token(work),
        note=_note(work),
    )


def _stage_pico(material: Material, path: str) -> int | None:
    """Cost of a stage with its sub-stages, None where any of it has no price."""
    picos = [
        entry.pico
        for entry in material.cube.entries
        if entry.stage_path == path or entry.stage_path.startswith(path + PATH_SEPARATOR)
    ]
    return None if None in picos or not picos else sum(pico for pico in picos if pico is not None)


def _per(pico: int | None, amount: float | None, unit: float) -> Money:
    if amount is None:
        return Money(None, absent().text)
    if pico is None:
        return Money(None, UNKNOWN)
    return _small_money(Fraction(pico, PICO) * Fraction(unit) / Fraction(amount))


def _joules_per_token(work: Work) -> Figure:
    if work.tokens is None:
        return absent()
    if work.energy_too_short:
        return Figure(None, TOO_SHORT)
    figure = _rate(None if work.energy_j is None else work.energy_j / work.tokens, "J/token")
    return Figure(figure.value, f"{figure.text} {error}") if (error := error_text(work.energy_error_pct)) else figure


def _amount(value: float | None, unit: str) -> Figure:
    if value is None:
        return absent()
    prefix, scale = next((one for one in _PREFIXES if value >= one[1]), _PREFIXES[-1])
    number = f"{value / scale:.4g}"
    return Figure(value, f"{number}{prefix} {unit}" if unit == "tokens" else f"{number} {prefix}{unit}")


def _rate(value: float | None, unit: str) -> Figure:
    if value is None:
        return Figure(None, UNKNOWN)
    return Figure(value, f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.4g} {unit}")  # noqa: PLR2004 (four digits)


def _mfu_text(work: Work) -> str:
    """The share and the range that the ceiling's interval leaves."""
    if work.flops is None:
        return absent().text
    if work.mfu_measured is None:
        return UNKNOWN
    low, middle, high = work.mfu_measured
    return f"{middle:.1%} ({low:.1%}–{high:.1%})"


def _note(work: Work) -> str:
    notes = []
    if work.mfu_book is not None and work.mfu_book > 1:
        notes.append("more than these GPUs can do in that time: the stated FLOP cannot all have been done on them")
    if work.flops is not None and work.dtype_assumed:
        notes.append(f"{work.dtype} assumed")
    if work.stated < work.spans:
        notes.append(f"{work.stated} of {work.spans} spans state their work, so the shares are lower bounds")
    return "; ".join(notes)
