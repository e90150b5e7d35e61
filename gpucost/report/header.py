"""The head of a report: what was recorded, and the figures that matter most."""

from __future__ import annotations

import shlex
import signal
from collections import Counter
from typing import TYPE_CHECKING

from gpucost.analyzers.model import USES, WASTE
from gpucost.manifest import RECORDING, RECOVERED
from gpucost.report.model import NONE, Money, Run, Total, Use
from gpucost.report.text import absent, clock, duration, gpu_hours, utc

if TYPE_CHECKING:
    from gpucost.recording import Recording
    from gpucost.report.material import Material
    from gpucost.report.split import Split

STATES = {
    "complete": "complete",
    "live": "still being recorded: these are the figures so far",
    "crashed": "its recorder never closed this run: the figures end where the samples end (gpucost recover closes it)",
    "recovered": "its recorder never closed this run; it was recovered afterwards",
}

_SIGNALLED = 128
_EXITS = {126: "exit 126 (not executable)", 127: "exit 127 (not found)"}


def state_of(recording: Recording) -> str:
    """`live`, `crashed`, `recovered` or `complete`."""
    if recording.live:
        return "live"
    return {RECORDING: "crashed", RECOVERED: "recovered"}.get(recording.manifest.status, "complete")


def exit_text(exit_code: int | None, state: str) -> str:
    """How the command ended, in words."""
    if exit_code is None:
        return "running" if state == "live" else "exit code unknown"
    if exit_code > _SIGNALLED:
        try:
            return f"exit {exit_code} ({signal.Signals(exit_code - _SIGNALLED).name})"
        except ValueError:
            pass  # an exit code of the command's own
    return _EXITS.get(exit_code, f"exit {exit_code}")


def run_of(material: Material) -> Run:
    """The header."""
    recording, manifest = material.recording, material.recording.manifest
    state = state_of(recording)
    counts = Counter(gpu.name for gpu in material.held)
    return Run(
        run_id=manifest.run_id,
        name=manifest.name or None,
        command=list(manifest.command),
        command_text=shlex.join(manifest.command),
        labels=dict(manifest.labels),
        state=state,
        state_text=STATES[state],
        exit_code=manifest.exit_code,
        exit_text=exit_text(manifest.exit_code, state),
        simulated=manifest.simulated,
        started=utc(manifest.start_time_ns),
        ended=None if manifest.end_time_ns is None else utc(manifest.end_time_ns),
        duration_s=duration(recording.end_ns),
        end_basis=recording.end_basis,
        hosts=sorted(manifest.hosts) or sorted({gpu.host for gpu in manifest.gpus if gpu.host}),
        gpus=", ".join(f"{number} × {name}" for name, number in counts.items()) or "no GPU",
        bill=manifest.bill,
        parent_run_id=manifest.parent_run_id,
        driver=dict(manifest.driver),
    )


def uses_of(material: Material, split: Split) -> list[Use]:
    """The waterfall: every use in its order."""
    meanings = _meanings(material.settings.idle_after_ns)
    return [
        Use(
            use=use,
            meaning=meanings[use],
            gpu_time_s=split.time(use),
            share_pct=split.percent(use),
            start_pct=round(float(split.share(*USES[:number])) * 100, 6),
            money=split.money(use),
            waste=use in WASTE,
        )
        for number, use in enumerate(USES)
    ]


def total_of(material: Material, split: Split, note: str) -> Total:
    """The headline, in the very digits of the waterfall."""
    held = bool(material.held)
    energy = material.energy.figure(material.energy_j, at_least=material.energy_partial)
    return Total(
        money=_money(material, split),
        partial=material.cube.partial,
        gpu_time_s=split.time() if held else absent(),
        gpu_hours=gpu_hours(material.cube.run.of().ns) if held else absent(),
        busy_pct=split.percent("busy", least=True),
        busy=_money(material, split, "busy"),
        waste_pct=split.percent(*WASTE, least=True),
        waste_time_s=split.time(*WASTE) if held else absent(),
        waste=_money(material, split, *WASTE),
        foreign=_money(material, split, "foreign"),
        unknown=_money(material, split, "unknown"),
        unknown_time_s=split.time("unknown") if held else absent(),
        energy_j=energy if held else absent(),
        note=note,
    )


def _money(material: Material, split: Split, *uses: str) -> Money:
    """An amount of the headline; a lower bound where some of its GPUs have no price."""
    if not material.held:
        return Money(None, NONE)
    money = split.money(*uses)
    return Money(money.usd, f"≥ {money.text}") if material.cube.partial and money.usd is not None else money


def _meanings(idle_after_ns: int) -> dict[str, str]:
    after = f"{idle_after_ns / 1e9:g} s" if idle_after_ns < 60_000_000_000 else clock(idle_after_ns // 1_000_000_000)  # noqa: PLR2004
    return {
        "busy": "kernels of the run were executing",
        "gap": "between kernels: bound by launches, the host or waiting",
        "idle": f"held by the run, no kernel for {after} or longer",
        "empty": "no process of the run was on the GPU",
        "foreign": "only processes outside the run were executing",
        "unknown": "no valid measurement",
    }
