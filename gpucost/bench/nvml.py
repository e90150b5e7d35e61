"""Facts of a GPU that do not change while it is sampled, and its PCIe link while it is loaded: asked once or a few times, read only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Facts:
    """What NVML says of a device (of a MIG device's parent, where only the whole GPU has it); None where it does not say.

    Attributes:
        pcie_generation, pcie_width: now. The link slows down when it is idle, so ask under load.
    """

    sm_clock_max_mhz: int | None = None
    memory_clock_max_mhz: int | None = None
    power_limit_w: float | None = None
    power_limit_default_w: float | None = None
    ecc: bool | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    pcie_generation_max: int | None = None
    pcie_width_max: int | None = None


def facts(uuid: str) -> Facts:
    """Ask the driver; without one, every field is None. Never raises."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Facts()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return _facts(pynvml, handle)
    except pynvml.NVMLError:
        return Facts()
    finally:
        pynvml.nvmlShutdown()


def _facts(nvml: Any, handle: Any) -> Facts:
    def ask(name: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, name)(handle, *arguments)
        except nvml.NVMLError:
            return None

    ecc = ask("nvmlDeviceGetEccMode")
    return Facts(
        sm_clock_max_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        memory_clock_max_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM),
        power_limit_w=_watts(ask("nvmlDeviceGetEnforcedPowerLimit")),
        power_limit_default_w=_watts(ask("nvmlDeviceGetPowerManagementDefaultLimit")),
        ecc=None if ecc is None else bool(ecc[0]),
        pcie_generation=ask("nvmlDeviceGetCurrPcieLinkGeneration"),
        pcie_width=ask("nvmlDeviceGetCurrPcieLinkWidth"),
        pcie_generation_max=ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_width_max=ask("nvmlDeviceGetMaxPcieLinkWidth"),
    )


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


# What one lane of a PCIe generation carries, bytes a second, after line coding (PCI-SIG: 2.5, 5, 8, 16, 32 and 64 GT/s).
_LANE_GB_S = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}


def link_gb_s(generation: int | None, width: int | None) -> float | None:
    """What a PCIe link carries one way, before protocol overhead."""
    lane = _LANE_GB_S.get(generation or 0)
    return None if lane is None or not width else lane * width


def numa_node(pci_bus_id: str | None) -> int | None:
    """The NUMA node that a PCIe device hangs on; None where the machine has one node, or does not say."""
    from pathlib import Path

    if not pci_bus_id or len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) < 2:  # noqa: PLR2004 (no choice)
        return None
    domain, _, rest = pci_bus_id.lower().partition(":")
    path = Path("/sys/bus/pci/devices") / f"{domain[-4:]}:{rest}" / "numa_node"
    try:
        node = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None
