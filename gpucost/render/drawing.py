"""Bars and tracks in characters, for terminals and for fixed-width blocks in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gpucost.render.safe import plain

if TYPE_CHECKING:
    from gpucost.report.tracks import Timeline

LEVELS = " ▁▂▃▄▅▆▇█"
SHADES = " ░▒▓█"
NOT_MEASURED = "·"

VISIBLE_PCT = 0.05

_LABEL_WIDTH = 16
_SUFFIX_WIDTH = 7


class Track(NamedTuple):
    """One line of the timeline. `kind` is `util`, `power`, `stage`, `axis` or `ticks`."""

    kind: str
    label: str
    cells: str
    suffix: str


def step(start_pct: float, share_pct: float, width: int) -> str:
    """A step of a waterfall: a bar that starts where the one above ended; what prints as more than nothing is at least one cell."""
    first = min(round(start_pct / 100 * width), width - 1)
    last = max(round((start_pct + share_pct) / 100 * width), first + 1)
    return " " * first + "█" * (min(last, width) - first) if share_pct >= VISIBLE_PCT else ""


def level(value: float | None, top: float) -> str:
    """A value between 0 and `top` as an eighth of a block; only an exact zero is blank."""
    if value is None:
        return NOT_MEASURED
    if value <= 0:
        return LEVELS[0]
    return LEVELS[min(8, 1 + int(value / top * 8))]


def shade(share: float | None) -> str:
    """How much of a cell a stage is open in."""
    if not share or share <= 0:
        return SHADES[0]
    return SHADES[min(4, 1 + int(share * 4))] if share < 0.995 else SHADES[4]  # noqa: PLR2004 (all but a rounding error)


def tracks(timeline: Timeline, width: int) -> list[Track]:
    """The whole timeline in lines of at most `width` characters: GPUs, stages, the axis and its times."""
    labels = [f"{track.label} util" for track in timeline.gpus] + ["  " * t.depth + t.name for t in timeline.stages]
    label_width = min(_LABEL_WIDTH, max((len(label) for label in labels), default=0))
    columns = max(10, min(timeline.buckets, width - label_width - _SUFFIX_WIDTH - 2))
    lines = []
    for gpu in timeline.gpus:
        util = [level(value, 100.0) for value in timeline.columns(gpu.util_pct, columns)]
        lines.append(Track("util", _label(f"{gpu.label} util", label_width), "".join(util), gpu.util_text))
        top = gpu.power_top_w or 1.0
        power = [level(value, top) for value in timeline.columns(gpu.power_w, columns)]
        lines.append(Track("power", _label("power", label_width, right=True), "".join(power), gpu.power_text))
    for stage in timeline.stages:
        open_cells = timeline.columns(list(stage.open_share), columns)
        name = "  " * min(stage.depth, 4) + plain(stage.name)
        lines.append(Track("stage", _label(name, label_width), "".join(shade(value) for value in open_cells), ""))
    lines += _axis(timeline, label_width, columns)
    return lines


def _label(text: str, width: int, *, right: bool = False) -> str:
    from rich.cells import cell_len, set_cell_size

    text = plain(text)
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - cell_len(text)) + text if right else set_cell_size(text, width)


def _axis(timeline: Timeline, label_width: int, columns: int) -> list[Track]:
    axis, times = ["─"] * columns, [" "] * (columns + _SUFFIX_WIDTH)
    free = 0
    for tick in timeline.ticks:
        at = min(round(tick.position * columns), columns - 1)
        axis[at] = "┬"
        if at >= free and at + len(tick.text) <= len(times):
            times[at : at + len(tick.text)] = tick.text
            free = at + len(tick.text) + 1
    blank = " " * label_width
    return [Track("axis", blank, "".join(axis), ""), Track("ticks", blank, "".join(times).rstrip(), "")]
