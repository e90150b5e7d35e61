"""Matrix products C = A x B^T (the layout that libraries are tuned for: both operands contiguous along K), and the proof that they were computed.

Operands are random: constant data makes tensor cores draw less power and run faster than any program's data would. Several sets of operands are used
in turn, so that nothing is found in the cache, and every output starts as NaN, so that a product that never happened is seen.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost.bench.kernels.backend import Backend

DTYPES: dict[str, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "int8": torch.int8,
}

SAMPLED_ROWS = 16
SAMPLED_COLUMNS = 256
FREIVALDS_VECTORS = 8
_CHUNK_ROWS = 1024
_LLC_FACTOR = 4
_MAX_SETS = 64
_NEVER_WRITTEN = -(2**31)  # an int32 that no product of int8 operands can reach
_FP8_MAX = 448.0


@dataclass(frozen=True, slots=True)
class Shape:
    """C is m x n, the products run along k."""

    m: int
    n: int
    k: int

    @property
    def flop(self) -> float:
        """A multiplication and an addition for each of m x n x k."""
        return 2.0 * self.m * self.n * self.k

    def halved(self) -> Shape:
        """Half of every side."""
        return Shape(max(1, self.m // 2), max(1, self.n // 2), max(1, self.k // 2))


class Gemm:
    """A matrix product, ready to be launched again and again over rotating operand sets."""

    def __init__(self, backend: Backend, dtype: str, shape: Shape, *, data: str = "randn", seed: int = 0) -> None:
        self.backend, self.dtype, self.shape, self.data = backend, dtype, shape, data
        one = self.set_bytes(dtype, shape)
        wanted = max(2, -(-_LLC_FACTOR * backend.llc_bytes // one))
        count = int(max(1, min(wanted, _MAX_SETS, backend.budget_bytes() // one)))
        generator = torch.Generator(device=backend.device).manual_seed(seed)
        self._sets = [self._operands(generator) for _ in range(count)]
        self._one = torch.ones((), device=backend.device)
        self.launched = 0
        self.work = shape.flop
        self.footprint_bytes = one * count

    @staticmethod
    def set_bytes(dtype: str, shape: Shape) -> int:
        """Memory of one set of operands and its output."""
        size, out = DTYPES[dtype].itemsize, _out_dtype(dtype).itemsize
        return int(size * (shape.m * shape.k + shape.n * shape.k) + out * shape.m * shape.n)

    def _operands(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shape = self.shape
        a = self._random((shape.m, shape.k), generator)
        b = self._random((shape.n, shape.k), generator)
        out = _out_dtype(self.dtype)
        poison = _NEVER_WRITTEN if out is torch.int32 else float("nan")
        c = torch.full((shape.m, shape.n), poison, dtype=out, device=self.backend.device)
        return a, b, c

    def _random(self, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
        device, dtype = self.backend.device, DTYPES[self.dtype]
        if self.data == "zeros":
            return torch.zeros(size, dtype=dtype, device=device)
        if dtype is torch.int8:
            return torch.randint(-128, 128, size, dtype=dtype, device=device, generator=generator)
        plain = torch.float64 if dtype is torch.float64 else torch.float32
        values = torch.randn(size, dtype=plain, device=device, generator=generator)
        return values.clamp_(-_FP8_MAX, _FP8_MAX).to(dtype) if dtype is torch.float8_e4m3fn else values.to(dtype)

    def launch(self) -> None:
        """One product, with the next set of operands."""
        a, b, c = self._sets[self.launched % len(self._sets)]
        self.launched += 1
        if self.dtype == "int8":
            torch._int_mm(a, b.t(), out=c)  # noqa: SLF001 (torch has no public product of int8)
        elif self.dtype == "fp8_e4m3":
            torch._scaled_mm(a, b.t(), self._one, self._one, out_dtype=torch.bfloat16, out=c)  # noqa: SLF001 (nor of fp8)
        else:
            torch.mm(a, b.t(), out=c)

    def precision(self) -> str:
        """How the product is computed, as far as torch can be asked."""
        matmul = torch.backends.cuda.matmul
        if self.dtype in ("fp32", "tf32"):
            return "ieee" if self.dtype == "fp32" else "tf32"
        if self.dtype == "fp8_e4m3":
            return "bf16 output, scale 1, fast accumulation off"
        if self.dtype == "int8":
            return "int32 output"
        if self.dtype == "fp16":
            return f"reduced-precision reduction {_on(matmul.allow_fp16_reduced_precision_reduction)}"
        if self.dtype == "bf16":
            return f"reduced-precision reduction {_on(matmul.allow_bf16_reduced_precision_reduction)}"
        return "default"

    # --- proof ---------------------------------------------------------------------------------------------------------------------

    def verify(self, seed: int = 0) -> dict[str, float]:
        """Errors of what was computed, against fp64 of the same rounded inputs; NaN where an output was never written.

        Returns:
            `error_fp64`: relative Frobenius error of 16 rows by 256 columns of the first set, computed on the host;
            `error_freivalds`: the largest error of a row of C x against A (B^T x), relative to the rows' mean square, over all of C and all sets
            that were used, with 8 random vectors of +-1, in fp64 on the device.
        """
        used = self._sets[: max(1, self.launched)]
        unwritten = not all(self._written(c) for _, _, c in used)
        freivalds = float("nan") if unwritten else max(self._freivalds(*one, seed=seed) for one in used)
        return {"error_fp64": self._sampled(*used[0], seed=seed), "error_freivalds": freivalds}

    @staticmethod
    def _written(c: torch.Tensor) -> bool:
        missing = c == _NEVER_WRITTEN if c.dtype is torch.int32 else torch.isnan(c)
        return not bool(missing.any())

    def _sampled(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, *, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(self.shape.m, generator=generator)[:SAMPLED_ROWS]
        columns = torch.randperm(self.shape.n, generator=generator)[:SAMPLED_COLUMNS]
        device = self.backend.device
        some_a, some_b = (_wide(x, index.to(device)).cpu() for x, index in ((a, rows), (b, columns)))
        got = c[rows.to(device)][:, columns.to(device)].cpu().double()
        wanted = some_a @ some_b.t()
        return _relative(torch.linalg.norm(got - wanted), torch.linalg.norm(wanted))

    def _freivalds(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, *, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed + 1)
        signs = torch.randint(0, 2, (self.shape.n, FREIVALDS_VECTORS), generator=generator)
        x = (2 * signs - 1).to(device=self.backend.device, dtype=torch.float64)
        wanted = _times(a, _times_transposed(b, x))
        got = _times(c, x)
        worst = (got - wanted).abs().max()
        return _relative(worst, wanted.square().mean().sqrt())


def _out_dtype(dtype: str) -> torch.dtype:
    return {"int8": torch.int32, "fp8_e4m3": torch.bfloat16}.get(dtype, DTYPES[dtype])


def _on(flag: Any) -> str:
    """Torch keeps these as a bool, or, in newer versions, as a pair."""
    first = flag[0] if isinstance(flag, tuple) else flag
    return "on" if first else "off"


def _relative(error: torch.Tensor, size: torch.Tensor) -> float:
    """Error over size; of an all-zero reference, the error itself."""
    whole = float(size)
    return float(error) / whole if whole else float(error)


def _wide(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Some rows in fp64; fp8 has no indexing of its own, so it is indexed as bytes."""
    if x.dtype is torch.float8_e4m3fn:
        return x.view(torch.uint8)[rows].view(x.dtype).float().double()
    return x[rows].double()


def _chunks(x: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Blocks of rows in fp64, so that no fp64 copy of all of it is needed."""
    for start in range(0, x.shape[0], _CHUNK_ROWS):
        part = x[start : start + _CHUNK_ROWS]
        yield start, (part.float().double() if part.dtype is torch.float8_e4m3fn else part.double())


def _times(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([part @ x for _, part in _chunks(a)])


def _times_transposed(b: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """B^T x for B of n x k and x of n x v."""
    total = torch.zeros((b.shape[1], x.shape[1]), dtype=torch.float64, device=b.device)
    for start, part in _chunks(b):
        total += part.t() @ x[start : start + part.shape[0]]
    return total


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Compute fp32 products as `ieee` or in TF32 while it is open, whatever the process's default is."""
    if dtype not in ("fp32", "tf32"):
        yield
        return
    wanted = "ieee" if dtype == "fp32" else "tf32"
    places = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
    restore: list[tuple[Any, str, Any]] = []
    for place in places:
        name = "fp32_precision" if hasattr(place, "fp32_precision") else "allow_tf32"
        if place is None or not hasattr(place, name):
            continue
        restore.append((place, name, getattr(place, name)))
        setattr(place, name, wanted if name == "fp32_precision" else wanted == "tf32")
    try:
        yield
    finally:
        for place, name, before in restore:
            setattr(place, name, before)
