"""What a device cannot tell, in words: one event for each sort of limit, however many metrics it concerns."""

from collections.abc import Iterator

from gpucost.collectors._nvml_devices import Device
from gpucost.collectors._nvml_processes import ProcessPoller
from gpucost.collectors._nvml_reader import GpuReader
from gpucost.collectors._nvml_samples import SampleDrain

VGPU_GUEST = 2
"""NVML's virtualization mode of a virtual GPU, seen from the machine that it was given to."""

MPS_TEXTS = {
    "server": (
        "mps_clients_hidden",
        "it is shared through MPS, and the driver lists the server alone: whose work it does is unknown",
    ),
    "clients": ("mps_seen", "it is shared through MPS; its server works for the clients that are listed"),
}
"""Kind and text of the event, by `ProcessPoller.mps`."""


def limits(
    device: Device, reader: GpuReader, poller: ProcessPoller | None, drain: SampleDrain | None
) -> Iterator[tuple[str, str]]:
    """Kind and text of each event.

    Args:
        device: the device.
        reader: its reader.
        poller: of its processes; null where it has none of its own.
        drain: of its buffered samples.
    """
    tells = bool(reader.probes or reader.apart or drain) or (poller is not None and not poller.unavailable)
    if not tells:
        yield "gpu_silent", "the driver tells nothing of it but that it is there: what it did is unknown"
        return
    reasons: dict[str, list[str]] = {}
    for column, reason in reader.unavailable.items():
        kept = drain is not None and column in drain.columns
        reasons.setdefault(f"{reason}, but for the driver's buffered samples" if kept else reason, []).append(column)
    if poller is not None and poller.unavailable:
        reasons.setdefault(poller.unavailable, []).append("processes")
    if reasons:
        yield "metric_unavailable", "; ".join(f"{', '.join(columns)}: {reason}" for reason, columns in reasons.items())
    if reader.of_module:
        yield "power_of_module", module_note(reader)
    if device.virtualization == VGPU_GUEST:
        yield "virtual_gpu", "a virtual GPU: others may be at work on the same card, and nothing here shows them"


def module_note(reader: GpuReader) -> str:
    """Which of its metrics are those of a module that holds CPU and GPU."""
    verb = "is" if len(reader.of_module) == 1 else "are"
    return f"{', '.join(reader.of_module)} {verb} of the whole module, CPU included"
