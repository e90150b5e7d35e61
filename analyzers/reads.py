"""Which columns the analyses read, so that a report of a long run loads those and no others.

A frame's keys and its times on the run's axis always come. An analysis that reads another column adds it here; a test compares the
analysis of these columns with the analysis of all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "gpu": (
        "gpu_util_pct",
        "memory_used_bytes",
        "power_w",
        "power_average_w",
        "energy_j",
        "temperature_c",
        "processes",
        "run_processes",
        "clocks_event_reasons",
        "sw_power_cap_ns",
        "sw_thermal_ns",
        "hw_thermal_ns",
        "hw_power_brake_ns",
        "sync_boost_ns",
        "pcie_link_gen",
        "pcie_link_width",
    ),
    "gpu_sample": ("power_w", "module_power_w", "gpu_util_pct"),
    "gpu_process": ("in_run", "sm_util_pct"),
    "process": ("ppid", "state", "rss_bytes", "cpu_s"),
    "machine": ("cpu_util_pct", "memory_used_bytes"),
}
"""Columns by table; of a table that is not named, all."""

HEADROOM = (
    "sm_clock_mhz",
    "tensor_active_pct",
    "fp32_active_pct",
    "fp64_active_pct",
    "dram_active_pct",
    "activity_window_ns",
)
"""Columns of `gpu` that only the headroom reads, so only where a card has a profile."""
