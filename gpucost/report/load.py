"""From a run directory to its report, and the four lines that close a recording."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gpucost.errors import UsageError
from gpucost.report.assemble import build

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpucost._config_file import Config
    from gpucost.analyzers.model import Settings
    from gpucost.bench.model import Profile
    from gpucost.manifest import Manifest
    from gpucost.recording import Recording
    from gpucost.report.model import Report

_COLUMNS = {
    "recorder": (
        "cpu_s",
        "rss_bytes",
        "ticks",
        "ticks_late",
        "ticks_missed",
        "errors",
        "driver_s",
        "driver_calls",
        "rows_dropped",
    )
}
"""What the report itself reads of the recording, besides what the analyses do."""

BUCKETS = 120
"""Into how many parts the run is cut for drawing, whatever the width of a terminal."""


def load_report(
    path: str | os.PathLike[str],
    *,
    price: str | None = None,
    region: str | None = None,
    idle_after_s: float | None = None,
    idle_split: str | None = None,
    environ: Mapping[str, str] | None = None,
    config: Config | None = None,
) -> Report:
    """Read a run, analyze it, price it, and put it into a report.

    Args:
        path: the run directory.
        price: USD per GPU-hour; goes before everything else that knows a price.
        region: of the electricity grid, for CO2e; default: the configuration's.
        idle_after_s: seconds without a kernel after which a held GPU is idle; default: the configuration's, or 1.
        idle_split: who is charged for idle power: `owner`, `equal` or `none`; default: the configuration's, or `owner`.
        environ: default: the process's.
        config: default: the configuration that applies to the working directory.

    Raises:
        GpucostError: the run, an option or the configuration cannot be read.
    """
    from gpucost.analyzers.reads import COLUMNS, HEADROOM
    from gpucost.config import load as load_config
    from gpucost.store.manifest_io import read_manifest
    from gpucost.store.reader import load

    if config is None:
        config = load_config()
    settings = _settings(config, idle_after_s, idle_split)
    columns = {**COLUMNS, **_COLUMNS}
    if _profiles(read_manifest(os.fspath(path))):
        columns["gpu"] = (*columns["gpu"], *HEADROOM)
    return report_of(
        load(os.fspath(path), columns=columns, grouped=("gpu", "gpu_sample", "gpu_process")),
        settings,
        config=config,
        price=price,
        region=region,
        environ=os.environ if environ is None else environ,
    )


def report_of(
    recording: Recording,
    settings: Settings,
    *,
    config: Config | None = None,
    price: str | None = None,
    region: str | None = None,
    environ: Mapping[str, str] | None = None,
    profiles: Mapping[str, Profile] | None = None,
) -> Report:
    """The report of a recording already in memory; see `load_report`.

    Args:
        recording: the run.
        settings: how to analyze it.
        config: the configuration, if any.
        price: as in `load_report`, like `region` and `environ`.
        region: of the electricity grid.
        environ: for the price.
        profiles: benchmark profiles by UUID; default: those that are kept in the user's data folder.
    """
    from gpucost.analyzers import analyze, cost
    from gpucost.carbon import lookup
    from gpucost.prices import resolve

    quotes = resolve(recording.manifest, price, environ, config)
    place = region or (config.region if config else None)
    intensity = lookup(place) if place else None
    analysis = analyze(recording, settings)
    costs = cost(analysis, {uuid: None if quote is None else quote.amount for uuid, quote in quotes.items()})
    return build(
        recording,
        analysis,
        costs,
        quotes,
        settings,
        intensity=intensity,
        pue=config.pue if config else None,
        profiles=_profiles(recording.manifest) if profiles is None else profiles,
    )


def _profiles(manifest: Manifest) -> dict[str, Profile]:
    """The profiles that are kept of the run's own cards."""
    from gpucost.bench.store import best_for

    driver = manifest.driver.get("driver")
    found = {gpu.uuid: best_for(gpu.uuid, driver) for gpu in manifest.gpus if gpu.held and not gpu.simulated}
    return {uuid: profile for uuid, profile in found.items() if profile is not None}


def _settings(config: Config, idle_after_s: float | None, idle_split: str | None) -> Settings:
    from gpucost._config_file import IDLE_SPLITS, check_idle_after_s
    from gpucost.analyzers.model import Settings

    usual = Settings()
    after_s = idle_after_s if idle_after_s is not None else config.idle_after_s
    split = idle_split or config.idle_split or usual.idle_split
    try:
        after_ns = usual.idle_after_ns if after_s is None else round(check_idle_after_s(after_s) * 1e9)
    except ValueError as error:
        raise UsageError(f"--idle-after is {after_s:g}, but {error}") from error
    if split not in IDLE_SPLITS:
        raise UsageError(f"--idle-split is {split!r}, but takes one of {', '.join(IDLE_SPLITS)}")
    return Settings(idle_after_ns=after_ns, idle_split=split, timeline_buckets=BUCKETS)


def summary_lines(report: Report) -> list[str]:
    """The four lines that close a recording: what, what it cost, how it was used, where the report is."""
    run, total = report.run, report.total
    simulated = "SIMULATED, " if run.simulated else ""
    head = f"{simulated}run {run.run_id}, {run.duration_s.text}, {run.exit_text}"
    if report.gpus:
        partial = " (not all GPUs have a price)" if total.partial else ""
        waste = total.waste.text if total.money.usd is not None else total.waste_time_s.text
        middle = [
            f"cost {total.money.text}{partial}, {total.gpu_hours.text}",
            f"busy {total.busy_pct.text}, idle waste {waste} ({total.waste_pct.text})",
        ]
    else:
        middle = [
            "no GPU was held, so there is no GPU cost",
            "recorded all the same: processes, stages and the machine",
        ]
    return [f"gpucost: {line}" for line in (head, *middle, f"report: gpucost report {run.run_id}")]
