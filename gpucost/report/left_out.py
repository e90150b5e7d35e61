"""What the recorder left out of the samples because it cannot be, or is nobody's, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpucost.report.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost.report.material import Material


def left_out_notes(material: Material) -> Iterator[str]:
    """A note for each sort of what was left out of each GPU's samples; the manifest may be anybody's, so what makes no sense says nothing."""
    found = material.recording.manifest.recorder.get("left_out")
    for uuid, facts in found.items() if isinstance(found, dict) else ():
        if not isinstance(facts, dict):
            continue
        label = material.labels.get(uuid, str(uuid))
        if impossible := _counts(facts.get("impossible")):
            parts = ", ".join(f"{column} {number:,}" for column, number in impossible.items())
            yield f"{label}: {count(sum(impossible.values()), 'impossible reading')} left out ({parts})"
        unlisted = _number(facts.get("unlisted_samples"))
        if unlisted:
            yield f"{label}: {count(unlisted, 'utilization sample')} of processes that are in no process list left out"


def _counts(given: Any) -> dict[str, int]:
    pairs = given.items() if isinstance(given, dict) else ()
    return {str(name): number for name, value in pairs if (number := _number(value))}


def _number(given: Any) -> int:
    return given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else 0
