"""Which GPUs a run holds: what `--gpus` asks for, and what `CUDA_VISIBLE_DEVICES` leaves visible.

Pure functions over identities; nothing here opens a driver, so the command line can check `--gpus` before anything heavy is imported.

`CUDA_VISIBLE_DEVICES` is read as CUDA reads it: unset shows every GPU, empty none; a list is of integers or of UUIDs, by its first entry;
it ends at the first entry that is no GPU; a GPU named twice leaves none visible; a UUID may be cut short while it stays unique; an integer
is the number a text begins with. Integers count in CUDA's order, which is the bus order (NVML's) only under `CUDA_DEVICE_ORDER=PCI_BUS_ID`
or while all GPUs are of one model.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpucost.errors import UsageError

_SIMULATED = "sim:"
_INDEX_DIGITS = 18
_HINT = "`nvidia-smi -L` lists indices and UUIDs"


@dataclass(frozen=True, slots=True)
class Selection:
    """What `--gpus` asks for.

    Attributes:
        text: as typed.
        everything: `all`.
        entries: indices and UUIDs (or their beginnings), as typed; empty when nothing was asked for.
        simulated: the text after `sim:` (`MODEL:N`), or null. The simulating collector reads it.
    """

    text: str = ""
    everything: bool = False
    entries: tuple[str, ...] = ()
    simulated: str | None = None

    @property
    def given(self) -> bool:
        """Whether the user asked for anything."""
        return bool(self.text)


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one device from another.

    Attributes:
        uuid: of the GPU or MIG device.
        index: NVML's index of the GPU, or of the GPU a MIG device is part of.
        name: product name of the GPU.
        mig_enabled: a GPU in MIG mode; CUDA then sees its MIG devices, never the GPU.
        parent_uuid: of a MIG device the GPU's UUID, else null.
        gpu_instance: of a MIG device, its GPU instance.
        compute_instance: of a MIG device, its compute instance.
    """

    uuid: str
    index: int
    name: str = ""
    mig_enabled: bool = False
    parent_uuid: str | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which devices a run holds, and what a reader should know about how that was found.

    Attributes:
        held: UUIDs of the devices whose time is billed, in NVML's order.
        sampled: those, and the GPUs that held MIG devices are part of (power and energy exist only there).
        notes: one line each.
    """

    held: tuple[str, ...]
    sampled: tuple[str, ...]
    notes: tuple[str, ...] = ()


def parse_gpus(text: str) -> Selection:
    """Read a `--gpus` value without knowing the machine.

    Raises:
        UsageError: it is none of `all`, indices, UUIDs, or `sim:MODEL:N`.
    """
    text = text.strip()
    if text.lower().startswith(_SIMULATED):
        return Selection(text, simulated=text[len(_SIMULATED) :])
    if text.lower() == "all":
        return Selection(text, everything=True)
    entries = tuple(entry.strip() for entry in text.split(",")) if text else ()
    for entry in entries:
        if entry.lower() == "all" or entry.lower().startswith(_SIMULATED):
            raise UsageError(f"--gpus {text}: `{entry}` stands alone or not at all")
        if not entry.isdecimal() and not entry.upper().startswith(("GPU-", "MIG-")):
            what = f"`{entry}` is no GPU" if entry else "an entry is empty"
            raise UsageError(
                f"--gpus {text}: {what}",
                hint="use all, indices (0,2), UUIDs or their beginnings (GPU-8932f937), or sim:MODEL:N",
            )
    return Selection(text, entries=entries)


def choose(devices: Sequence[Identity], selection: Selection, environ: Mapping[str, str], bill: str) -> Choice:
    """Which of a host's devices a run holds.

    Args:
        devices: every GPU and MIG device of the host; a GPU before its MIG devices.
        selection: what `--gpus` asks for.
        environ: the command's environment.
        bill: `visible`, or `node`: everything is held.

    Raises:
        UsageError: `--gpus` names a device that is not here.
    """
    notes: list[str] = []
    if selection.entries:
        held = _asked_for(devices, selection)
    elif selection.everything or bill == "node":
        held = _whole(devices)
    else:
        held, notes = visible(devices, environ)
    if bill == "node" and selection.entries:
        held = _whole(devices)
        notes.append(f"--bill node: every GPU of this machine is billed, whatever --gpus {selection.text} says")
    chosen = {device.uuid for device in held}
    parents = {device.parent_uuid for device in held}
    in_order = [device.uuid for device in devices]
    return Choice(
        tuple(uuid for uuid in in_order if uuid in chosen),
        tuple(uuid for uuid in in_order if uuid in chosen or uuid in parents),
        tuple(notes),
    )


def visible(devices: Sequence[Identity], environ: Mapping[str, str]) -> tuple[list[Identity], list[str]]:
    """Which devices a CUDA program with this environment can see, and what is to be said about it."""
    text = environ.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        found = [device for device in devices if not device.mig_enabled]
        return found, _single_mig_note(found, "CUDA_VISIBLE_DEVICES is not set")
    variable = f"CUDA_VISIBLE_DEVICES={text}"
    entries = text.split(",")
    by_uuid = entries[0].startswith(("GPU-", "MIG-"))
    found = []
    notes: list[str] = []
    cut = False
    for entry in entries:
        named = _by_uuid(devices, entry, entries[0][:4]) if by_uuid else _by_integer(devices, entry)
        device = _shown(devices, named) if named else None
        if device is None:
            notes.append(f"{variable}: CUDA stops reading at `{entry}`, which is no GPU here")
            break
        if device in found:
            return [], [f"{variable} names a GPU twice: CUDA then shows none"]
        found.append(device)
        cut = cut or device is not named
    if not found:
        return [], [f"{variable} hides every GPU from the command"]
    if not by_uuid:
        notes += _order_note(devices, found, environ, variable)
    if cut:
        notes.append(f"{variable} names a GPU in MIG mode: CUDA uses its first MIG device")
    return found, notes + _single_mig_note(found, variable)


def _whole(devices: Sequence[Identity]) -> list[Identity]:
    """Everything that can be held: a GPU cut into MIG devices is held as those."""
    cut = {device.parent_uuid for device in devices}
    return [device for device in devices if device.uuid not in cut]


def _parts(devices: Sequence[Identity], gpu: Identity) -> list[Identity]:
    """The GPU itself, or the MIG devices it is cut into."""
    return [device for device in devices if device.parent_uuid == gpu.uuid] or [gpu]


def _asked_for(devices: Sequence[Identity], selection: Selection) -> list[Identity]:
    found: list[Identity] = []
    gpus = [device for device in devices if device.parent_uuid is None]
    for entry in selection.entries:
        matches = (
            [gpu for gpu in gpus if gpu.index == _number(entry)] if entry.isdecimal() else _matching(devices, entry)
        )
        if not matches:
            here = ", ".join(str(gpu.index) for gpu in gpus) or "none"
            raise UsageError(
                f"--gpus {selection.text}: no GPU `{entry}` on this machine (there are: {here})", hint=_HINT
            )
        if len(matches) > 1:
            raise UsageError(f"--gpus {selection.text}: `{entry}` is the beginning of {len(matches)} UUIDs", hint=_HINT)
        found += _parts(devices, matches[0])
    return found


def _matching(devices: Iterable[Identity], entry: str) -> list[Identity]:
    """The devices whose UUID is, or begins with, the entry, in any case; a MIG device also by its GPU and instances."""
    wanted = entry.lower()
    exact = [device for device in devices if wanted in (device.uuid.lower(), _instance_name(device))]
    return exact or [device for device in devices if device.uuid.lower().startswith(wanted)]


def _instance_name(device: Identity) -> str | None:
    """The older name of a MIG device."""
    if device.parent_uuid is None:
        return None
    return f"mig-{device.parent_uuid}/{device.gpu_instance}/{device.compute_instance}".lower()


def _by_uuid(devices: Sequence[Identity], entry: str, kind: str) -> Identity | None:
    """The one device that a UUID, or the beginning of one, names."""
    matches = _matching(devices, entry) if entry.startswith(kind) else []
    return matches[0] if len(matches) == 1 else None


def _by_integer(devices: Sequence[Identity], entry: str) -> Identity | None:
    number = re.match(r"\s*\+?(\d+)", entry, re.ASCII)
    position = _number(number.group(1)) if number else -1
    gpus = [device for device in devices if device.parent_uuid is None]
    return gpus[position] if 0 <= position < len(gpus) else None


def _number(digits: str) -> int:
    """The index that digits stand for; more of them than an index can have are no index."""
    return int(digits) if len(digits) <= _INDEX_DIGITS else -1


def _shown(devices: Sequence[Identity], device: Identity) -> Identity | None:
    """The device as CUDA shows it: for a GPU in MIG mode its first MIG device, if it has one."""
    if not device.mig_enabled:
        return device
    return next((part for part in devices if part.parent_uuid == device.uuid), None)


def _order_note(
    devices: Sequence[Identity], found: Sequence[Identity], environ: Mapping[str, str], variable: str
) -> list[str]:
    """Integers may mean other GPUs than NVML's when CUDA sorts by speed and there is something to sort."""
    gpus = [device for device in devices if device.parent_uuid is None]
    alike = len({gpu.name for gpu in gpus}) == 1
    complete = {device.index for device in found} == {gpu.index for gpu in gpus}
    if environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or alike or complete:
        return []
    differ = f"{variable} counts the fastest GPU first, and the GPUs differ: these may be others than the run's"
    return [f"{differ}. Set CUDA_DEVICE_ORDER=PCI_BUS_ID, name UUIDs, or give --gpus"]


def _single_mig_note(found: Sequence[Identity], variable: str) -> list[str]:
    migs = sum(device.parent_uuid is not None for device in found)
    if migs == 0 or len(found) == 1:
        return []
    return [f"{variable}: a CUDA process uses one MIG device at a time; all {len(found)} devices count as held"]
