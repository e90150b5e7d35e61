"""What a device should reach: dense peaks of the vendors, scaled to its clocks and its share of a GPU, and ranges that others have published."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from gpucost import specs
from gpucost._data import rows

if TYPE_CHECKING:
    from gpucost.bench.model import Device

SPREAD = 0.08
"""Cards of one model differ by 8 % on average, by 22 % at most (arXiv 2208.11035, four clusters); a reference range is widened by this."""

_PROPS_DIFFER = 0.03
_FP64_TENSOR = (
    "8.0",
    "9.0",
)  # their tensor cores multiply fp64 at twice the vector rate (A100: 9.7 and 19.5; H100: 34 and 67 TFLOP/s)
_CLOCK_SHARE = (
    0.70,
    1.02,
)  # a vendor's clock for the peak lies in this part of the highest clock that the driver allows


@dataclass(frozen=True, slots=True)
class Peaks:
    """Dense peaks of one device.

    Attributes:
        tflops: dtype to TFLOP/s (int8: TOP/s) at the vendor's clock; a MIG device has its share of SMs.
        dram_gb_s: memory bandwidth; None for a MIG device, whose share is not known.
        book_clock_mhz: the SM clock that those peaks hold at, or None where it cannot be told.
        max_clock_mhz: the highest SM clock that the driver allows, or None.
        source: where the peaks come from, or None when the book does not know the model.
        warnings: what a reader must know.
    """

    tflops: dict[str, float] = field(default_factory=dict)
    dram_gb_s: float | None = None
    book_clock_mhz: float | None = None
    max_clock_mhz: float | None = None
    source: str | None = None
    warnings: tuple[str, ...] = ()

    def at(self, dtype: str, clock_mhz: float | None) -> float | None:
        """The peak of a dtype at an SM clock; None where the book has no peak or no clock for it."""
        peak = self.tflops.get(dtype)
        if peak is None or not clock_mhz or not self.book_clock_mhz:
            return None
        return peak * clock_mhz / self.book_clock_mhz

    def limit(self, dtype: str) -> float | None:
        """The most that a dtype can reach: at the highest clock, or at the book's where the clocks are not known."""
        return self.at(dtype, self.max_clock_mhz) or self.tflops.get(dtype)


def peaks(device: Device) -> Peaks:
    """The peaks of a device; empty for a CPU and for a model that the book does not know."""
    spec = specs.lookup(device.name) if device.kind == "cuda" else None
    props = device.memory_bandwidth_props_gb_s
    if spec is None:
        return Peaks(dram_gb_s=props, max_clock_mhz=device.sm_clock_max_mhz)
    share = _sm_share(device, spec)
    found = {
        "fp64": spec.fp64_tflops,
        "fp32": spec.fp32_tflops,
        "tf32": spec.tf32_tflops,
        "fp16": spec.fp16_tflops,
        "bf16": spec.bf16_tflops,
        "fp8_e4m3": spec.fp8_tflops,
        "int8": spec.int8_tops,
    }
    if found["fp64"] is not None and spec.compute_capability in _FP64_TENSOR:
        found["fp64"] *= 2
    book = spec.memory_bandwidth_gb_s
    warnings = []
    if book and props and abs(props / book - 1) > _PROPS_DIFFER:
        warnings.append(f"memory bandwidth: the book says {book:.0f} GB/s, the device's properties {props:.0f} GB/s")
    return Peaks(
        tflops={dtype: peak * share for dtype, peak in found.items() if peak is not None},
        dram_gb_s=None if device.parent_uuid else max(filter(None, (book, props)), default=None),
        book_clock_mhz=_book_clock(device, spec.fp16_tflops or spec.bf16_tflops, share),
        max_clock_mhz=device.sm_clock_max_mhz,
        source=f"{spec.source} (confidence {spec.confidence})",
        warnings=tuple(warnings),
    )


def _sm_share(device: Device, spec: specs.Spec) -> float:
    """A MIG device has the peaks of its SMs; a whole GPU all of them, also where the table counts SMs that this part lacks."""
    if device.parent_uuid is None or not device.sm_count or not spec.sm_count:
        return 1.0
    return min(1.0, device.sm_count / spec.sm_count)


def _book_clock(device: Device, peak: float | None, share: float) -> float | None:
    """The SM clock at which the book's 16-bit peak holds.

    Tensor cores do a power of two of FLOP per SM and cycle (512 to 8192 in known parts), and the vendor's clock is a little under the highest one
    the driver allows; so of all powers of two at most one gives a clock in that range.
    """
    if not peak or not device.sm_count or not device.sm_clock_max_mhz:
        return None
    for exponent in range(7, 16):
        clock = peak * share * 1e6 / float(2**exponent * device.sm_count)
        if _CLOCK_SHARE[0] < clock / device.sm_clock_max_mhz <= _CLOCK_SHARE[1]:
            return clock
    return None


@dataclass(frozen=True, slots=True)
class Reference:
    """What others have published for a model and a test.

    Attributes:
        low, high: of the published figures, in `unit`.
        published: the figures themselves.
        notes: how they were made where it differs from here.
    """

    test: str
    unit: str
    low: float
    high: float
    published: str
    source: str
    notes: str

    def verdict(self, value: float) -> str:
        """`normal`, `low` or `high`: against the published range, widened by `SPREAD`."""
        if value < self.low * (1 - SPREAD):
            return "low"
        return "high" if value > self.high * (1 + SPREAD) else "normal"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "published": self.published,
            "source": self.source,
        }


def reference(nvml_name: str, test: str) -> Reference | None:
    """The published range for a model and a test, or None. All `link.p2p.*` tests share one."""
    key = "link.p2p" if test.startswith("link.p2p") and not test.endswith(".both") else test
    return _references().get((nvml_name, key))


@cache
def _references() -> dict[tuple[str, str], Reference]:
    found = {}
    for row in rows("gpu_reference.csv"):
        one = Reference(
            row["test"],
            row["unit"],
            float(row["low"]),
            float(row["high"]),
            row["published"],
            row["source"],
            row["notes"],
        )
        for name in row["nvml_names"].split("|"):
            found[name, row["test"]] = one
    return found
