"""What other tools make of a scenario: run by the interpreter of an environment in which they are installed, on the same clock and driver.

Each is asked through its own interface, at the instants at which gpucost sampled; a reading of power or utilization stands for the time
since the one before, as their own integrations do. Prints one JSON object: tool to figures, or to why there are none.
"""

import json
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

NS = 10**9
MOST_QUERIES = 60
"""gpustat sleeps in every query; at more instants than this it is left out."""

Read = Callable[[], list[tuple[float | None, float | None]]]
"""Power (W) and utilization (percent) of every GPU."""


def integrated(read: Read, instants: list[int], move: Callable[[int], None], begin_ns: int) -> dict[str, float]:
    """Sum what a tool reads, each reading times the time since the one before."""
    sums, before = {"energy_j": 0.0, "busy_s": 0.0}, begin_ns
    for t_ns in instants:
        move(t_ns)
        for power, util in read():
            sums["energy_j"] += (power or 0.0) * (t_ns - before) / NS
            sums["busy_s"] += (util or 0.0) / 100 * (t_ns - before) / NS
        before = t_ns
    return sums


def nvitop() -> Read:
    from nvitop import Device

    devices = Device.all()

    def number(value: Any) -> float | None:
        return float(value) if isinstance(value, (int, float)) else None

    return lambda: [((number(one.power_usage()) or 0.0) / 1000, number(one.gpu_utilization())) for one in devices]


def gpustat() -> Read:
    import gpustat as tool

    def number(value: Any) -> float | None:
        return float(value) if isinstance(value, (int, float)) else None

    return lambda: [(number(one.power_draw), number(one.utilization)) for one in tool.new_query()]


def codecarbon(instants: list[int], move: Callable[[int], None], begin_ns: int) -> dict[str, float]:
    from codecarbon.core.gpu import AllGPUDevices
    from codecarbon.core.units import Time

    move(begin_ns)
    devices, joules, before = AllGPUDevices(), 0.0, begin_ns
    devices.start()
    for t_ns in instants:
        move(t_ns)
        for one in devices.get_delta(Time(seconds=(t_ns - before) / NS)):
            joules += one["delta_energy_consumption"].kWh * 3.6e6
        before = t_ns
    return {"energy_j": joules}


def zeus(instants: list[int], move: Callable[[int], None], begin_ns: int) -> dict[str, float]:
    from zeus.monitor import ZeusMonitor

    move(begin_ns)
    monitor = ZeusMonitor(approx_instant_energy=False)
    monitor.begin_window("run", sync_execution=False)
    move(instants[-1])
    return {"energy_j": float(sum(monitor.end_window("run", sync_execution=False).gpu_energy.values()))}


def main(folder: str) -> None:
    """Let every tool see the scenario whose clock and instants lie in this folder."""
    place = Path(folder)
    given = json.loads((place / "instants.json").read_text())
    instants, begin_ns = given["instants"], given["begin_ns"]

    def move(t_ns: int) -> None:
        with (place / "clock").open("r+b") as file:
            file.write(struct.pack("q", t_ns))

    found: dict[str, Any] = {}
    for name, tool in (("nvitop", nvitop), ("gpustat", gpustat), ("CodeCarbon", codecarbon), ("Zeus", zeus)):
        if tool is gpustat and len(instants) > MOST_QUERIES:
            found[name] = "left out: it sleeps in every query"
            continue
        try:
            move(begin_ns)
            whole = tool in (codecarbon, zeus)
            found[name] = tool(instants, move, begin_ns) if whole else integrated(tool(), instants, move, begin_ns)
        except BaseException as error:
            found[name] = f"{type(error).__name__}: {error}".splitlines()[0][:100]
    sys.__stdout__.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
