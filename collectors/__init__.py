"""Sources of samples: one file each, behind one protocol (`gpucost.collectors.base`).

A collector is imported when it is created, so that a run pays for those it uses. Other distributions add collectors under the entry point
group `gpucost.collectors`: name = "module:Class", where the class is called without arguments.
"""

from __future__ import annotations

import importlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpucost.collectors.base import Collector

GROUP = "gpucost.collectors"
"""The entry point group under which other distributions offer collectors."""

REGISTRY: dict[str, str] = {
    "nvml": "gpucost.collectors.nvml:NvmlCollector",
    "sim": "gpucost.collectors.sim:SimCollector",
    "process": "gpucost.collectors.process:ProcessCollector",
    "machine": "gpucost.collectors.machine:MachineCollector",
    "stages": "gpucost.collectors.stages:StagesCollector",
    "recorder": "gpucost.collectors.recorder:RecorderCollector",
}
"""Our own collectors: name to `module:Class`."""


def names(gpus: str = "") -> list[str]:
    """Our own collectors for a run with this `--gpus`: simulated devices take the place of the driver's."""
    absent = "nvml" if gpus.strip().lower().startswith("sim:") else "sim"
    return [name for name in REGISTRY if name != absent]


def create(gpus: str = "", which: Iterable[str] | None = None) -> tuple[list[Collector], list[str]]:
    """Make the collectors of a run.

    Args:
        gpus: the user's `--gpus`.
        which: names of collectors, our own or from entry points; None means `names(gpus)` and everything that other distributions offer.

    Returns:
        The collectors, and one line for each that could not be made: a broken one must not keep the others from working.
    """
    offered: dict[str, str] = {}
    broken: list[str] = []
    if which is None:
        offered = third_party()
        broken += [
            f"collector {name!r} ({offered[name]}) is ignored: the name is one of gpucost's own"
            for name in offered
            if name in REGISTRY
        ]
        wanted = names(gpus) + [name for name in offered if name not in REGISTRY]
    else:
        wanted = list(which)
        if not REGISTRY.keys() >= set(wanted):
            offered = third_party()
    made: list[Collector] = []
    for name in wanted:
        target = REGISTRY.get(name) or offered.get(name)
        try:
            made.append(_make(name, target))
        except Exception as error:  # noqa: BLE001 (importing foreign code can raise anything)
            broken.append(f"collector {name!r} cannot be used: {str(error) or type(error).__name__}")
    return made, broken


def third_party() -> dict[str, str]:
    """Collectors that other installed distributions offer: name to `module:Class`."""
    if not _advertised():
        return {}
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=GROUP)}


def _make(name: str, target: str | None) -> Collector:
    from gpucost.collectors.base import Collector

    if target is None:
        raise LookupError(f"there is no such collector; there are {', '.join(REGISTRY)}")
    module, _, attribute = target.partition(":")
    collector = getattr(importlib.import_module(module), attribute)()
    if not isinstance(collector, Collector):
        raise TypeError(f"{target} does not satisfy gpucost.collectors.base.Collector")
    if collector.name != name:
        raise ValueError(f"{target} calls itself {collector.name!r}")
    return collector


def _advertised() -> bool:
    """Whether any installed distribution mentions our group.

    Asking `importlib.metadata` straight away costs some 30 ms, which nearly every run would pay for nothing.
    """
    header = f"[{GROUP}]".encode()
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            if entry.endswith((".dist-info", ".egg-info")) and header in _content(
                f"{folder or '.'}/{entry}/entry_points.txt"
            ):
                return True
    return False


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
