"""The NVML collector and GPUs that are cut into MIG devices."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from driver.scenario import GIB, MIB, NS, Gpu, Mig, Process, Scenario, gpu_lost
from gpucost.collectors._nvml_devices import mig_fraction, mig_profile

Observe = Callable[..., Any]

PARENT = Scenario().uuid(0)
SMALL = Mig(
    uuid="MIG-small",
    gi=7,
    memory_bytes=9856 * MIB,
    used_bytes=[(0, 0), (1, GIB)],
    processes=[Process(pid=os.getpid(), memory_bytes=GIB)],
)
LARGE = Mig(uuid="MIG-large", gi=2, gi_slices=3, ci_slices=3, memory_bytes=40192 * MIB)
CUT = Gpu(mig_enabled=True, power_w=[(0, 100), (1, 300)], migs=[SMALL, LARGE])


def test_each_mig_device_is_a_gpu_of_its_own(observe: Observe) -> None:
    """Own UUID, parent, share and profile; the parent is described and not held."""
    seen = observe(Scenario(gpus=[CUT, Gpu()]), "bench.start()")
    parent, small, large, whole = seen.described["gpus"]
    assert [gpu["held"] for gpu in (parent, small, large, whole)] == [False, True, True, True]
    assert [(gpu["uuid"], gpu["mig_parent_uuid"], gpu["mig_profile"]) for gpu in (small, large)] == [
        ("MIG-small", PARENT, "1g.10gb"),
        ("MIG-large", PARENT, "3g.40gb"),
    ]
    assert small["mig_fraction"] == pytest.approx(1 / 7)
    assert large["mig_fraction"] == pytest.approx(40192 / (80 * 1024 - 512))  # more than 3 / 7
    assert small["name"] == "NVIDIA H100 80GB HBM3"
    assert small["memory_total_bytes"] == 9856 * MIB
    assert small["power_limit_w"] is None
    assert "mig_fraction" not in whole


def test_power_and_energy_are_the_parents_and_memory_is_the_devices(observe: Observe) -> None:
    """What exists once for the whole GPU is null on its parts."""
    seen = observe(Scenario(gpus=[CUT]), "bench.start()\nbench.processes(1)\nbench.fast(1)")
    rows = {row["gpu_uuid"]: row for row in seen.gpu}
    assert [rows[PARENT][name] for name in ("power_w", "energy_j", "gpu_util_pct", "memory_used_bytes")] == [
        300,
        100,
        None,
        None,
    ]
    assert [rows["MIG-small"][name] for name in ("power_w", "energy_j", "gpu_util_pct")] == [None] * 3
    assert rows["MIG-small"]["memory_used_bytes"] == GIB + 16 * MIB
    assert [rows[uuid]["processes"] for uuid in (PARENT, "MIG-small", "MIG-large")] == [None, 1, 0]
    (process,) = seen.gpu_process
    assert [process[name] for name in ("gpu_uuid", "memory_used_bytes", "util_samples")] == ["MIG-small", GIB, None]


def test_a_privileged_recorder_still_keeps_processes_with_their_device(observe: Observe) -> None:
    """Where the parent would tell of all processes, they are not counted twice."""
    gpu = Gpu(mig_enabled=True, privileged=True, migs=[SMALL])
    seen = observe(Scenario(gpus=[gpu]), "bench.start()\nbench.processes(1)\nbench.fast(1)")
    assert [row["gpu_uuid"] for row in seen.gpu_process] == ["MIG-small"]
    assert seen.column("memory_used_bytes", PARENT) == [GIB + 512 * MIB]


def test_only_the_mig_device_that_cuda_sees_is_held(observe: Observe) -> None:
    """And its parent is sampled, for the power."""
    seen = observe(
        Scenario(gpus=[CUT, Gpu()]), "bench.start()\nbench.fast(1)", environ={"CUDA_VISIBLE_DEVICES": "MIG-large"}
    )
    assert [(gpu["uuid"], gpu["held"]) for gpu in seen.described["gpus"]] == [(PARENT, False), ("MIG-large", True)]
    assert seen.column("gpu_uuid") == [PARENT, "MIG-large"]


def test_a_gpu_in_mig_mode_without_devices_is_told(observe: Observe) -> None:
    """It cannot be used, so it is visible to nobody; whoever pays the node pays it."""
    scenario = Scenario(gpus=[Gpu(mig_enabled=True), Gpu()])
    seen = observe(scenario, "bench.start()\nbench.fast(1)")
    assert seen.column("gpu_uuid") == [scenario.uuid(1)]
    assert "is in MIG mode and has no MIG devices" in seen.messages("gpu_unreadable")[0]
    assert observe(scenario, "bench.start()\nbench.fast(1)", bill="node").column("gpu_uuid") == [
        scenario.uuid(0),
        scenario.uuid(1),
    ]


def test_a_lost_parent_takes_its_devices_with_it_and_brings_them_back(observe: Observe) -> None:
    """Each is told of; a MIG device is found again by its own UUID."""
    ticks = list(range(6))
    seen = observe(Scenario(gpus=[CUT], faults=[gpu_lost(0, 1, 2)]), f"bench.start()\nbench.fast(*{ticks})")
    assert sorted(seen.kinds()) == ["gpu_back"] * 3 + ["gpu_lost"] * 3 + ["gpu_selection"] + ["metric_unavailable"] * 6
    assert [instant // NS for instant in seen.column("mono_ns", "MIG-small")] == [0, 2, 3, 4, 5]


def test_a_device_that_shares_its_gpu_instance_has_its_part_of_it(observe: Observe) -> None:
    """Three compute instances in one GPU instance do not sum to more than it."""
    migs = [Mig(uuid=f"MIG-{ci}", gi=2, ci=ci, gi_slices=3, ci_slices=1, memory_bytes=40960 * MIB) for ci in range(3)]
    seen = observe(Scenario(gpus=[Gpu(mig_enabled=True, privileged=True, migs=migs)]), "bench.start()")
    fractions = [gpu["mig_fraction"] for gpu in seen.described["gpus"][1:]]
    assert sum(fractions) == pytest.approx(0.5)  # half the memory, which is more than 3 of 7 compute slices
    assert {gpu["mig_profile"] for gpu in seen.described["gpus"][1:]} == {"1c.3g.40gb"}


def attributes(gi: int, ci: int, memory_mb: int) -> SimpleNamespace:
    """NVML's attributes of a MIG device."""
    return SimpleNamespace(gpuInstanceSliceCount=gi, computeInstanceSliceCount=ci, memorySizeMB=memory_mb)


@pytest.mark.parametrize(
    ("parent_mib", "gi", "ci", "memory_mb", "profile"),
    [
        (40536, 1, 1, 4864, "1g.5gb"),
        (40536, 3, 3, 19968, "3g.20gb"),
        (40536, 3, 2, 19968, "2c.3g.20gb"),
        (81559, 1, 1, 9728, "1g.10gb"),
        (81559, 1, 1, 19968, "1g.20gb"),
        (81559, 7, 7, 80896, "7g.80gb"),
        (143771, 1, 1, 16384, "1g.18gb"),
        (183359, 1, 1, 22528, "1g.23gb"),
        (24258, 2, 2, 11968, "2g.12gb"),
    ],
)
def test_a_profile_has_nvidias_name(parent_mib: int, gi: int, ci: int, memory_mb: int, profile: str) -> None:
    """Slices, and memory in eighths of the GPU's whole GiB; the driver's own name comes first."""
    assert mig_profile("NVIDIA GPU", attributes(gi, ci, memory_mb), parent_mib * MIB) == profile
    assert mig_profile("NVIDIA A100 MIG 1g.5gb+me", attributes(gi, ci, memory_mb), parent_mib * MIB) == "1g.5gb+me"


@pytest.mark.parametrize(
    ("given", "slots", "parent_mib", "fraction"),
    [
        (attributes(1, 1, 9728), 7, 81559, 1 / 7),
        (attributes(1, 1, 19968), 7, 81559, 19968 / 81559),
        (attributes(7, 7, 80896), 7, 81559, 1),
        (attributes(4, 4, 23552), 4, 24258, 1),
        (attributes(1, 1, 19968), 7, None, 1 / 7),
        (attributes(0, 0, 0), 7, 81559, None),
        (None, 7, 81559, None),
        (attributes(1, 1, 9728), 0, 81559, None),
    ],
)
def test_a_fraction_is_the_larger_of_compute_and_memory(
    given: Any, slots: int, parent_mib: int | None, fraction: float | None
) -> None:
    """Unknown stays null; without the GPU's memory, compute alone counts."""
    found = mig_fraction(given, slots, parent_mib * MIB if parent_mib else None)
    assert found == (None if fraction is None else pytest.approx(fraction))
