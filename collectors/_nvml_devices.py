"""The GPUs and MIG devices that NVML lists, and who they are. Asked once, when the session is opened."""

import re
from dataclasses import dataclass, field
from typing import Any

from gpucost.collectors._nvml_library import CallFailedError, Nvml
from gpucost.collectors.base import Report
from gpucost.collectors.selection import Identity

ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada",
    9: "Hopper",
    10: "Blackwell",
    13: "Rubin",
}

# What one lane of a PCIe generation carries, bytes a second, after line coding.
LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}
_FASTEST_LINK_BYTES_PER_S = 16 * LANE_BYTES_PER_S[6]  # what an unknown link is taken for

_MIB = 1 << 20
_GIB = 1 << 30
_MEMORY_SLICES = 8
_WHOLE_PROFILES = (3, 4, 5, 6)  # NVML's profiles of 4, 7, 8 and 6 slices: one of them is the whole GPU
_UNKNOWN_U32 = 0xFFFFFFFF


@dataclass(slots=True)
class Device:
    """One GPU or MIG device, open.

    Attributes:
        handle: the binding's handle.
        facts: the fields of `gpucost.manifest.Gpu`, but for the host.
        capability: CUDA compute capability, or null.
        link_bytes_per_s: the most that its PCIe link can carry one way.
        parent_handle: of a MIG device, its GPU's handle.
        shares_memory: it has no memory of its own, but the host's.
        virtualization: NVML's mode (0 none), or null.
    """

    identity: Identity
    handle: Any
    facts: dict[str, Any] = field(default_factory=dict)
    capability: tuple[int, int] | None = None
    link_bytes_per_s: float = _FASTEST_LINK_BYTES_PER_S
    parent_handle: Any = None
    shares_memory: bool = False
    virtualization: int | None = None

    @property
    def uuid(self) -> str:
        """UUID of the GPU or MIG device."""
        return self.identity.uuid

    @property
    def is_mig(self) -> bool:
        """Whether it is a MIG device."""
        return self.identity.parent_uuid is not None

    @property
    def title(self) -> str:
        """What to call it in a line for a person."""
        profile = self.facts.get("mig_profile")
        return f"GPU {self.identity.index} ({self.identity.name}{f' MIG {profile}' if profile else ''})"


def discover(nvml: Nvml, report: Report) -> list[Device]:
    """Every device that can be opened, a GPU before its MIG devices; what cannot be opened is reported and left out."""
    found: list[Device] = []
    for index in range(nvml.ask("nvmlDeviceGetCount")):
        try:
            gpu = _open_gpu(nvml, index)
        except CallFailedError as error:
            report("gpu_unreadable", f"GPU {index} cannot be opened: {error}", subject=str(index))
            continue
        found.append(gpu)
        if gpu.identity.mig_enabled:
            found += _mig_devices(nvml, gpu, report)
    return found


def _open_gpu(nvml: Nvml, index: int) -> Device:
    handle = nvml.ask("nvmlDeviceGetHandleByIndex", index)
    uuid = nvml.ask("nvmlDeviceGetUUID", handle)
    name = nvml.attempt("nvmlDeviceGetName", handle) or "unknown GPU"
    mode = nvml.attempt("nvmlDeviceGetMigMode", handle)
    capability = nvml.attempt("nvmlDeviceGetCudaComputeCapability", handle)
    limit_mw = nvml.attempt("nvmlDeviceGetEnforcedPowerLimit", handle)
    architecture = nvml.attempt("nvmlDeviceGetArchitecture", handle)
    pci = nvml.attempt("nvmlDeviceGetPciInfo", handle)
    total, reserved = _memory(nvml, handle)
    facts = {
        "uuid": uuid,
        "name": name,
        "index": index,
        "memory_total_bytes": total or None,
        "memory_reserved_bytes": reserved if total else None,
        "power_limit_w": limit_mw / 1000 if limit_mw and limit_mw != _UNKNOWN_U32 else None,
        "pci_bus_id": _text(pci.busId) if pci else None,
        "architecture": ARCHITECTURES.get(architecture) if architecture else None,
        "compute_capability": f"{capability[0]}.{capability[1]}" if capability else None,
    }
    identity = Identity(uuid, index, name, mig_enabled=bool(mode and mode[0] == 1))
    return Device(
        identity,
        handle,
        facts,
        tuple(capability) if capability else None,
        _link_bytes_per_s(nvml, handle),
        shares_memory=total == 0,
        virtualization=nvml.attempt("nvmlDeviceGetVirtualizationMode", handle),
    )


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _memory(nvml: Nvml, handle: Any) -> tuple[int | None, int | None]:
    """Total bytes, and those that the driver keeps for itself; null where unknown. A device that shares the host's memory says 0."""
    info = nvml.attempt("nvmlDeviceGetMemoryInfo", handle, nvml.binding.nvmlMemory_v2)
    if info is not None:
        return int(info.total), int(info.reserved)
    info = nvml.attempt("nvmlDeviceGetMemoryInfo", handle)
    return (None if info is None else int(info.total)), None


def _link_bytes_per_s(nvml: Nvml, handle: Any) -> float:
    generation = nvml.attempt("nvmlDeviceGetMaxPcieLinkGeneration", handle)
    width = nvml.attempt("nvmlDeviceGetMaxPcieLinkWidth", handle)
    lane = LANE_BYTES_PER_S.get(generation) if generation else None
    return lane * width if lane and width else _FASTEST_LINK_BYTES_PER_S


def _mig_devices(nvml: Nvml, gpu: Device, report: Report) -> list[Device]:
    slots = nvml.attempt("nvmlDeviceGetMaxMigDeviceCount", gpu.handle) or 0
    memory = gpu.facts["memory_total_bytes"] or _largest_instance(nvml, gpu.handle)
    found = []
    for slot in range(slots):
        handle = nvml.attempt("nvmlDeviceGetMigDeviceHandleByIndex", gpu.handle, slot)
        uuid = nvml.attempt("nvmlDeviceGetUUID", handle) if handle else None
        if uuid:
            found.append(_open_mig(nvml, gpu, handle, uuid, (slots, memory)))
    if not found:
        report("gpu_unreadable", f"{gpu.title} is in MIG mode and has no MIG devices", subject=gpu.uuid)
    return found


def _largest_instance(nvml: Nvml, handle: Any) -> int | None:
    """Memory of a GPU instance that takes the whole GPU: the unprivileged are not told the GPU's own when it is in MIG mode."""
    profiles = [nvml.attempt("nvmlDeviceGetGpuInstanceProfileInfo", handle, profile, 1) for profile in _WHOLE_PROFILES]
    return max((int(profile.memorySizeMB) * _MIB for profile in profiles if profile is not None), default=None)


def _open_mig(nvml: Nvml, gpu: Device, handle: Any, uuid: str, whole: tuple[int, int | None]) -> Device:
    """Open one MIG device of a GPU that can be cut into so many slices and has so much memory."""
    attributes = nvml.attempt("nvmlDeviceGetAttributes", handle)
    name = nvml.attempt("nvmlDeviceGetName", handle) or ""
    total, reserved = _memory(nvml, handle)
    slots, parent_total = whole
    identity = Identity(
        uuid,
        gpu.identity.index,
        gpu.identity.name,
        parent_uuid=gpu.uuid,
        gpu_instance=nvml.attempt("nvmlDeviceGetGpuInstanceId", handle),
        compute_instance=nvml.attempt("nvmlDeviceGetComputeInstanceId", handle),
    )
    facts = {
        **gpu.facts,
        "uuid": uuid,
        "memory_total_bytes": total or None,
        "memory_reserved_bytes": reserved if total else None,
        "power_limit_w": None,
        "mig_parent_uuid": gpu.uuid,
        "mig_fraction": mig_fraction(attributes, slots, parent_total),
        "mig_profile": mig_profile(name, attributes, parent_total),
    }
    return Device(identity, handle, facts, gpu.capability, gpu.link_bytes_per_s, gpu.handle)


def mig_fraction(attributes: Any, slots: int, parent_total_bytes: int | None) -> float | None:
    """The larger of a MIG device's compute and memory share of its GPU (0 to 1); null where the driver does not say.

    A compute instance that is part of a GPU instance has the same part of that instance's memory, so that the devices of one GPU
    instance never sum to more than it.

    Args:
        attributes: NVML's device attributes of the MIG device.
        slots: how many slices the GPU can be cut into, which is how many MIG devices it can have.
        parent_total_bytes: the GPU's memory, or null: then compute alone counts.
    """
    if attributes is None or slots < 1 or not attributes.computeInstanceSliceCount:
        return None
    compute: float = attributes.computeInstanceSliceCount / slots
    if not parent_total_bytes or not attributes.gpuInstanceSliceCount:
        return min(1.0, compute)
    part = attributes.computeInstanceSliceCount / attributes.gpuInstanceSliceCount
    memory: float = attributes.memorySizeMB * _MIB / parent_total_bytes * part
    return min(1.0, max(compute, memory))


def mig_profile(name: str, attributes: Any, parent_total_bytes: int | None) -> str | None:
    """NVIDIA's name of a MIG device's size, such as `3g.40gb` or `1c.3g.40gb`: from the driver's name, else from its slices.

    Memory in the name is the share of the GPU in eighths, times the GPU's memory in whole GiB (the MIG user guide's naming).
    """
    if named := re.search(r"\bMIG\s+(\S+)", name):
        return named.group(1)
    if attributes is None or not attributes.gpuInstanceSliceCount or not parent_total_bytes:
        return None
    eighths = -(-attributes.memorySizeMB * _MIB * _MEMORY_SLICES // parent_total_bytes)
    gib = int(eighths / _MEMORY_SLICES * -(-parent_total_bytes // _GIB) + 0.5)
    compute, whole = attributes.computeInstanceSliceCount, attributes.gpuInstanceSliceCount
    return f"{f'{compute}c.' if compute and compute != whole else ''}{whole}g.{gib}gb"
