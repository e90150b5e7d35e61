"""The host once a second: CPU, memory, swap, disks, network, pressure.

psutil gives what it gives best (CPU shares, memory, network counters that do not wrap). /proc is read where psutil has nothing (pressure
stall information) or counts otherwise than a report needs: whole disks once, without the partitions, RAID and mapper devices that lie upon
them, and swap traffic in pages of this machine's size.
"""

import os
import platform
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from gpucost.collectors._proc import Proc, page_bytes
from gpucost.collectors.base import Context, Tier
from gpucost.schema import MachineRow

_HZ = 1.0
_SECTOR_BYTES = 512  # the unit of /proc/diskstats, whatever the disk's own sectors are
_READ, _WRITTEN = 5, 9  # the fields of a line of it that count sectors


class MachineCollector:
    """One row of `machine` at each tick, and the facts about the host."""

    name = "machine"

    def __init__(self, proc: Proc | None = None, sys_root: str = "/sys") -> None:
        self._proc = proc or Proc()
        self._sys_root = sys_root
        self._context: Context | None = None
        self._psutil: ModuleType | None = None
        self._has_base = False

    def start(self, context: Context) -> Sequence[Tier]:
        """Describe the host."""
        import psutil

        self._context = context
        self._psutil = psutil
        context.describe("host", self._facts(psutil))
        self._has_base = False
        return [Tier("host", round(1e9 / min(_HZ, context.hz)))]

    def sample(self, tier: str) -> None:  # noqa: ARG002 (there is one)
        """Read the host once. CPU shares are those since the last sample, so the first one has none."""
        context, psutil = self._context, self._psutil
        if context is None or psutil is None:
            return
        cores = _attempt(psutil.cpu_percent, percpu=True) or []
        self._emit(context, psutil, cores if self._has_base else [])
        self._has_base = True

    def stop(self) -> None:
        """Nothing is open between ticks."""
        self._psutil = None

    def _emit(self, context: Context, psutil: ModuleType, cores: list[float]) -> None:
        time_ns, mono_ns = context.clock.time_ns(), context.clock.mono_ns()
        memory = _attempt(psutil.virtual_memory)
        load = _attempt(psutil.getloadavg)
        swap_in, swap_out = swap_traffic(self._proc)
        disk_read, disk_write = disk_traffic(self._proc, self._sys_root)
        net_rx, net_tx = network_traffic(_attempt(psutil.net_io_counters, pernic=True) or {}, self._sys_root)
        row = MachineRow(
            time_ns=time_ns,
            mono_ns=mono_ns,
            cpu_util_pct=sum(cores) / len(cores) if cores else None,
            cpu_max_core_util_pct=max(cores, default=None),
            load_1m=load[0] if load else None,
            memory_available_bytes=memory.available if memory else None,
            memory_used_bytes=memory.total - memory.available if memory else None,
            swap_used_bytes=swap_used(self._proc),
            swap_in_bytes=swap_in,
            swap_out_bytes=swap_out,
            disk_read_bytes=disk_read,
            disk_write_bytes=disk_write,
            net_rx_bytes=net_rx,
            net_tx_bytes=net_tx,
            **pressure(self._proc),
        )
        context.emit("machine", row)

    def _facts(self, psutil: ModuleType) -> dict[str, str | int | None]:
        boot_id = self._proc.read("sys/kernel/random/boot_id")
        memory = _attempt(psutil.virtual_memory)
        return {
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            "memory_total_bytes": memory.total if memory else None,
            "boot_id": boot_id.decode("ascii", "replace").strip() if boot_id else None,
        }


def _attempt(call: Callable[..., Any], **options: Any) -> Any:
    """What a call gives, or None where this machine cannot answer it: one missing file must not cost the whole row."""
    try:
        return call(**options)
    except (OSError, RuntimeError, ValueError, LookupError):
        return None


def pressure(proc: Proc) -> dict[str, float | None]:
    """Seconds in which tasks waited so far, by resource; null where the kernel does not keep them."""
    wanted = (("cpu", "some"), ("memory", "some"), ("memory", "full"), ("io", "some"), ("io", "full"))
    content = {resource: proc.read(f"pressure/{resource}") or b"" for resource in ("cpu", "memory", "io")}
    return {f"psi_{resource}_{kind}_s": _stalled_s(content[resource], kind) for resource, kind in wanted}


def _stalled_s(content: bytes, kind: str) -> float | None:
    """The total of a line like `some avg10=0.00 avg60=0.00 avg300=0.00 total=4164485`, which is in microseconds."""
    for line in content.decode("ascii", "replace").splitlines():
        words = line.split()
        total = words[-1].removeprefix("total=") if words else ""
        if words[:1] == [kind] and total.isdecimal():
            return int(total) / 1e6
    return None


def swap_used(proc: Proc) -> int | None:
    """Bytes of swap space in use (psutil warns on stderr where it finds no swap counters)."""
    sizes = {}
    for line in (proc.read_all("meminfo") or b"").splitlines():
        name, _, value = line.partition(b":")
        if name in (b"SwapTotal", b"SwapFree"):
            sizes[name] = int(value.split()[0]) * 1024
    return sizes[b"SwapTotal"] - sizes[b"SwapFree"] if len(sizes) == 2 else None  # noqa: PLR2004 (both lines)


def swap_traffic(proc: Proc) -> tuple[int | None, int | None]:
    """Bytes swapped in and out so far."""
    counts = dict.fromkeys((b"pswpin", b"pswpout"))
    for line in (proc.read_all("vmstat") or b"").splitlines():
        name, _, value = line.partition(b" ")
        if name in counts and value.isdigit():
            counts[name] = int(value) * page_bytes()
    return counts[b"pswpin"], counts[b"pswpout"]


def disk_traffic(proc: Proc, sys_root: str) -> tuple[int | None, int | None]:
    """Bytes read from and written to whole disks so far; null where no disk can be seen."""
    read = written = 0
    seen = False
    for line in (proc.read_all("diskstats") or b"").decode("ascii", "replace").splitlines():
        words = line.split()
        if len(words) > _WRITTEN and _is_disk(words[2], sys_root):
            seen = True
            read += int(words[_READ]) * _SECTOR_BYTES
            written += int(words[_WRITTEN]) * _SECTOR_BYTES
    return (read, written) if seen else (None, None)


def _is_disk(name: str, sys_root: str) -> bool:
    """Whether a block device is hardware of its own: partitions are not listed in /sys/block, and loop, RAID and mapper devices have no device below."""
    is_path = name.startswith("nvme") and "c" in name[4:]  # one of several paths to a disk that is listed itself
    return not is_path and os.path.exists(f"{sys_root}/block/{name.replace('/', '!')}/device")


def network_traffic(counters: dict[str, object], sys_root: str) -> tuple[int | None, int | None]:
    """Bytes received and sent so far by interfaces with hardware behind them, or by all but loopback where there are none (containers).

    Bridges, bonds and virtual pairs carry the same bytes a second time.
    """
    names = [name for name in counters if name != "lo"]
    hardware = [name for name in names if os.path.exists(f"{sys_root}/class/net/{name}/device")]
    chosen = [counters[name] for name in hardware or names]
    if not chosen:
        return None, None
    return sum(one.bytes_recv for one in chosen), sum(one.bytes_sent for one in chosen)  # type: ignore[attr-defined]
