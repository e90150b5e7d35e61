"""What GPU models are: memory, power, dense peaks; facts with their sources, keyed by NVML's product name.

Peaks are dense (without sparsity) and, for GeForce cards, with FP32 accumulation. A blank in the table is None: not known, or sources
disagree. `docs/sources.md` says where the figures come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from gpucost._data import rows
from gpucost.errors import UsageError


@dataclass(frozen=True, slots=True)
class Spec:
    """One GPU model.

    Attributes:
        name: NVML's product name.
        family: what the model is called for short.
        memory_gib: the vendor's label (80, 141, ...); the driver reports somewhat less.
        memory_bandwidth_gb_s: decimal gigabytes a second.
        tdp_w: board power; the enforced limit of a device can be lower.
        fp64_tflops: dense peak, like the others; `int8_tops` in operations.
        mig_max_instances: 0 where the model has no MIG.
        source: where the figures come from.
        confidence: `high`, `medium` or `low`.
    """

    name: str
    family: str
    architecture: str
    compute_capability: str | None
    sm_count: int | None
    memory_gib: float | None
    memory_bandwidth_gb_s: float | None
    tdp_w: float | None
    fp64_tflops: float | None
    fp32_tflops: float | None
    tf32_tflops: float | None
    fp16_tflops: float | None
    bf16_tflops: float | None
    fp8_tflops: float | None
    int8_tops: float | None
    mig_max_instances: int | None
    source: str
    confidence: str

    @property
    def memory_bytes(self) -> int | None:
        """The labelled memory in bytes."""
        return None if self.memory_gib is None else int(self.memory_gib * 1024**3)


_NUMBERS = (
    "memory_gib",
    "memory_bandwidth_gb_s",
    "tdp_w",
    "fp64_tflops",
    "fp32_tflops",
    "tf32_tflops",
    "fp16_tflops",
    "bf16_tflops",
    "fp8_tflops",
    "int8_tops",
)


def lookup(nvml_name: str) -> Spec | None:
    """The model that NVML calls exactly `nvml_name`, or None when the table does not know it."""
    return _by_name().get(nvml_name)


def find(model: str) -> Spec:
    """The model with this short name (`h100`, `A100-40GB`, `4090`) or NVML name; case does not matter.

    Raises:
        UsageError: no such model; the hint lists the short names.
    """
    key = model.strip().casefold()
    spec = _by_short_name().get(key)
    if spec is None:
        known = ", ".join(name for name in _by_short_name() if " " not in name)
        raise UsageError(f"no GPU model is called {model!r}", hint=f"known models: {known}")
    return spec


@cache
def _by_name() -> dict[str, Spec]:
    return {row["nvml_name"]: _spec(row) for row in rows("gpu_specs.csv")}


@cache
def _by_short_name() -> dict[str, Spec]:
    specs = _by_name()
    found = {}
    for row in rows("gpu_specs.csv"):
        for short in row["short_names"].split("|"):
            if short:
                found[short] = specs[row["nvml_name"]]
    for name, spec in specs.items():
        found.setdefault(name.casefold(), spec)
    return found


def _spec(row: dict[str, str]) -> Spec:
    numbers = {column: float(row[column]) if row[column] else None for column in _NUMBERS}
    return Spec(
        name=row["nvml_name"],
        family=row["family"],
        architecture=row["architecture"],
        compute_capability=row["compute_capability"] or None,
        sm_count=int(row["sm_count"]) if row["sm_count"] else None,
        mig_max_instances=int(row["mig_max_instances"]) if row["mig_max_instances"] else None,
        source=row["source"],
        confidence=row["confidence"],
        **numbers,
    )
