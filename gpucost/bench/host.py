"""Facts of the machine that a benchmark runs on, and the pressure on it."""

from __future__ import annotations

import os
import platform
import uuid
from pathlib import Path
from typing import Any

from gpucost.collectors._proc import Proc
from gpucost.collectors.machine import pressure


def facts() -> dict[str, Any]:
    """What the machine is: kernel, processors, NUMA nodes, virtualization as the processor's flags show it."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        flags = ""
    nodes = len(list(Path("/sys/devices/system/node").glob("node[0-9]*")))
    return {
        "name": platform.node(),
        "kernel": platform.release(),
        "cpu_count": os.cpu_count(),
        "numa_nodes": nodes or None,
        "virtual": " hypervisor" in flags if flags else None,
    }


def psi_cpu_some_s() -> float | None:
    """Cumulative time in which some task waited for a core; None where the kernel does not keep it."""
    return pressure(Proc())["psi_cpu_some_s"]


def cpu_uuid(name: str, threads: int | None) -> str:
    """A stable name for a processor, which has no UUID: made of what it is and of the machine it is in."""
    return f"CPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{platform.node()}/{name}/{threads}')}"
