"""The part of a report on what the cards could have done, for the formats that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpucost.render.safe import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gpucost.report.model import Efficiency, GpuEfficiency, WorkRow

MAX_SHOWN = 16

_GPUS = ("GPU", "used while busy", "headroom", "least $/PFLOP", "least $/TB")
_WORK = ("stage", "work", "per GPU", "MFU book", "MFU measured", "$/PFLOP")
_TOKENS = ("stage", "tokens", "per second", "$/million", "energy")


def terminal(efficiency: Efficiency, table: Callable[..., Any]) -> Iterable[Any]:
    """Tables, and under each what it rests on."""
    from rich.text import Text

    for number, (columns, rows) in enumerate(_tables(efficiency)):
        if number:
            yield Text()
        made = table(*columns)
        for row in rows:
            made.add_row(*(Text(plain(cell)) for cell in row))
        yield made
    for line in _lines(efficiency):
        yield Text(plain(line, 600), style="bright_black")


def markdown(
    efficiency: Efficiency, table: Callable[..., Iterable[str]], code: Callable[..., str], prose: Callable[[str], str]
) -> Iterator[str]:
    """The same as Markdown."""
    yield "### What the cards could do"
    yield ""
    for columns, rows in _tables(efficiency):
        made = [[code(row[0], cell=True), *row[1:]] for row in rows]
        yield from table(list(columns), made, numbers=len(columns) - 1, first=1)
    for line in _lines(efficiency):
        yield f"* {prose(line)}"
    yield ""


def _tables(efficiency: Efficiency) -> Iterator[tuple[tuple[str, ...], list[list[str]]]]:
    if efficiency.gpus:
        yield _GPUS, [_gpu(one) for one in efficiency.gpus[:MAX_SHOWN]]
    stated = [one for one in efficiency.work if one.flops.value is not None]
    if stated:
        yield _WORK, [_work(one) for one in stated]
    counted = [one for one in efficiency.work if one.tokens.value is not None]
    if counted:
        yield _TOKENS, [_tokens(one) for one in counted]


def _gpu(one: GpuEfficiency) -> list[str]:
    prices = {f"{price.what} {price.unit}": price.money.text for price in one.prices}
    per_pflop = next(
        (
            f"{prices[name]} {name.split()[0]}"
            for name in ("bf16 PFLOP", *prices)
            if name in prices and name.endswith("PFLOP")
        ),
        "–",
    )
    return [one.label, one.used_text, one.headroom_text, per_pflop, prices.get("memory TB", "–")]


def _work(one: WorkRow) -> list[str]:
    measured = one.mfu_measured_text
    return [one.path, one.flops.text, one.tflops.text, one.mfu_book_pct.text, measured, one.per_pflop.text]


def _tokens(one: WorkRow) -> list[str]:
    return [one.path, one.tokens.text, one.tokens_per_s.text, one.per_million_tokens.text, one.joules_per_token.text]


def _lines(efficiency: Efficiency) -> Iterator[str]:
    """What the figures rest on; the same sentence about several cards once."""
    said: dict[str, list[str]] = {}
    for one in efficiency.gpus[:MAX_SHOWN]:
        said.setdefault(f"{one.basis_text}; {one.profile_text}", []).append(one.label)
    for text, labels in said.items():
        yield f"{', '.join(labels)}: {text}"
    for one in efficiency.gpus[:MAX_SHOWN]:
        if one.moved_text:
            yield f"{one.label}: {one.moved_text}"
    if len(efficiency.gpus) > MAX_SHOWN:
        yield f"{len(efficiency.gpus) - MAX_SHOWN} more GPUs are in --format json"
    for row in efficiency.work:
        if row.note:
            yield f"{row.path}: {row.note}"
    if any(row.flops.value is not None for row in efficiency.work):
        yield "MFU = stated FLOP / (GPU time of the stage and its sub-stages x peak), idle time included"
