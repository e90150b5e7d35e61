"""Where a price can come from, in order of precedence.

1. the report's own command line (`--price`): a question asked now;
2. what was said when the run was recorded (`record --price`, or `GPUCOST_PRICE` then): it belongs to the run, so an environment variable
   or a configuration of another day does not quietly reprice old runs;
3. `GPUCOST_PRICE` now;
4. the configuration now: a price for the GPU's UUID, then for its name, then for every GPU;
5. the quote kept in the run's manifest when it was closed: the price as it was known then, whatever the book says by now;
6. the book of list prices.

The first that answers wins, for each GPU on its own. None: the price is unknown, which is never zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpucost.errors import UsageError
from gpucost.prices.parse import parse_price
from gpucost.prices.quote import Quote

if TYPE_CHECKING:
    from decimal import Decimal

    from gpucost._config_file import Config
    from gpucost.manifest import Gpu, Manifest


@dataclass(frozen=True, slots=True)
class Question:
    """What is the price of `gpu`, and where may one look?"""

    gpu: Gpu
    manifest: Manifest
    cli_price: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    config: Config | None = None


PriceSource = Callable[[Question], Quote | None]


def from_command_line(question: Question) -> Quote | None:
    """`--price` of this command."""
    return _said(question, question.cli_price, "--price")


def from_recording(question: Question) -> Quote | None:
    """What was said when the run was recorded."""
    try:
        return _said(question, question.manifest.price_request, "price given when recording")
    except UsageError:
        return None  # a manifest from elsewhere may say anything; a bad price there is none


def from_environment(question: Question) -> Quote | None:
    """`GPUCOST_PRICE`, now."""
    return _said(question, question.environ.get("GPUCOST_PRICE") or None, "GPUCOST_PRICE")


def from_configuration(question: Question) -> Quote | None:
    """`[prices]` by UUID or name, then `price`."""
    config = question.config
    if config is None:
        return None
    from gpucost.prices.book import physical_name

    gpu = question.gpu
    for key in (gpu.uuid, gpu.name, physical_name(gpu.name)):
        if key in config.prices:
            # A price for this very name or UUID is for this very device; one for the GPU it is part of is shared out.
            whole = key == physical_name(gpu.name) != gpu.name
            return _quote(
                question, config.prices[key], f"{config.file_name} [prices]", basis="config", of_whole_gpu=whole
            )
    if config.price is None:
        return None
    return _quote(question, config.price, f"{config.file_name} price", basis="config")


def from_closed_run(question: Question) -> Quote | None:
    """The quote that was resolved when the run was closed."""
    return Quote.from_json(question.manifest.quotes.get(question.gpu.uuid))


def from_book(question: Question) -> Quote | None:
    """The lowest list price of the GPU."""
    from gpucost.prices.book import quote

    return _shared_out(question.gpu, quote(question.gpu.name))


SOURCES: dict[str, PriceSource] = {
    "command line": from_command_line,
    "recording": from_recording,
    "environment": from_environment,
    "configuration": from_configuration,
    "closed run": from_closed_run,
    "book": from_book,
}
"""Every source by name, in order of precedence."""


def _said(question: Question, text: str | None, source: str) -> Quote | None:
    return None if text is None else _quote(question, parse_price(text), source, basis="user")


def _quote(question: Question, amount: Decimal, source: str, *, basis: str, of_whole_gpu: bool = True) -> Quote | None:
    note = "a price of exactly zero was given" if amount == 0 else ""
    quote = Quote(amount=amount, source=source, basis=basis, note=note)
    return _shared_out(question.gpu, quote) if of_whole_gpu else quote


def _shared_out(gpu: Gpu, quote: Quote | None) -> Quote | None:
    """A MIG device costs its fraction of the GPU; of unknown fraction, an unknown price."""
    if quote is None or gpu.mig_parent_uuid is None:
        return quote
    if gpu.mig_fraction is None or not 0 < gpu.mig_fraction <= 1:
        return None
    return quote.times(gpu.mig_fraction)


def resolve(
    manifest: Manifest,
    cli_price: str | None = None,
    environ: Mapping[str, str] | None = None,
    config: Config | None = None,
) -> dict[str, Quote | None]:
    """The price of every GPU of a run, by UUID; None where no source knows one.

    Raises:
        UsageError: a price on the command line or in the environment cannot be read.
    """
    found: dict[str, Quote | None] = {}
    for gpu in manifest.gpus:
        question = Question(gpu, manifest, cli_price, environ or {}, config)
        quote = next((answer for source in SOURCES.values() if (answer := source(question)) is not None), None)
        found[gpu.uuid] = None if quote is None else quote.at(manifest.start_time_ns)
    return found


def why_unpriced(gpu: Gpu) -> str:
    """Why no source knew a price for `gpu`, in one line."""
    if gpu.mig_parent_uuid is not None and gpu.mig_fraction is None:
        return "which fraction of its GPU this MIG device is was not recorded"
    return f"no list price is known for {gpu.name}; give one with --price"
