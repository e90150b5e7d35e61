"""Host-device and device-device copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from gpucost.bench.kernels.backend import Backend


_RANDOM_BYTES = 1 << 20


class LinkTest:
    """Copies of `size` bytes in one direction (`h2d`, `d2h`) or in both at once (`both`), from pinned or pageable memory."""

    def __init__(self, backend: Backend, direction: str, size: int, *, pinned: bool, seed: int = 0) -> None:
        self.backend, self.direction, self.pinned = backend, direction, pinned
        generator = torch.Generator().manual_seed(seed)
        self._host = [self._host_buffer(size) for _ in range(2)]
        block = torch.randint(0, 256, (min(size, _RANDOM_BYTES),), dtype=torch.uint8, generator=generator)
        self._host[0].copy_(block.repeat(-(-size // len(block)))[:size])  # all of it at random would take seconds
        self._device = [torch.zeros(size, dtype=torch.uint8, device=backend.device) for _ in range(2)]
        self._device[1].copy_(self._host[0].flip(0))
        self._streams = [torch.cuda.Stream(backend.device) for _ in range(2)] if direction == "both" else []
        self.work = float(size * (2 if direction == "both" else 1))
        self.footprint_bytes = 4 * size
        self.launched = 0
        backend.synchronize()

    def _host_buffer(self, size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.uint8, pin_memory=self.pinned)

    def launch(self) -> None:
        """One copy (or one each way)."""
        self.launched += 1
        if self.direction == "both":
            self._launch_both()
        elif self.direction == "h2d":
            self._device[0].copy_(self._host[0], non_blocking=self.pinned)
        else:
            self._host[1].copy_(self._device[1], non_blocking=self.pinned)

    def _launch_both(self) -> None:
        current = torch.cuda.current_stream(self.backend.device)
        pairs = ((self._device[0], self._host[0]), (self._host[1], self._device[1]))
        for stream, (to, source) in zip(self._streams, pairs, strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                to.copy_(source, non_blocking=self.pinned)
        for stream in self._streams:
            current.wait_stream(stream)

    def precision(self) -> str:
        """What kind of host memory."""
        return "pinned" if self.pinned else "pageable"

    def verify(self, seed: int = 0) -> dict[str, float]:  # noqa: ARG002 (every byte is compared)
        """`error_fp64`: 0 where every byte arrived in a destination that had been all zero, else NaN."""
        self.backend.synchronize()
        good = True
        if self.direction in ("h2d", "both"):
            good &= torch.equal(self._device[0].cpu(), self._host[0])
        if self.direction in ("d2h", "both"):
            good &= torch.equal(self._host[1], self._host[0].flip(0))
        return {"error_fp64": 0.0 if good else float("nan")}


class PeerTest:
    """Copies from the backend's device to another one (`to`), or both ways at once (`both`)."""

    def __init__(self, backend: Backend, other: int, direction: str, size: int, *, seed: int = 0) -> None:
        self.backend, self.direction = backend, direction
        self.here, self.there = backend.device, torch.device("cuda", other)
        self.access = bool(torch.cuda.can_device_access_peer(self.here, self.there))
        self._buffers = {}
        for device in (self.here, self.there):
            generator = torch.Generator(device=device).manual_seed(seed)
            source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device, generator=generator)
            self._buffers[device] = (source, torch.zeros_like(source))
        self._streams = [torch.cuda.Stream(device) for device in (self.here, self.there)] if direction == "both" else []
        self.work = float(size * (2 if direction == "both" else 1))
        self.footprint_bytes = 4 * size
        self.launched = 0
        for device in (self.here, self.there):
            torch.cuda.synchronize(device)

    def _routes(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Sources and where they go."""
        ways = [(self.here, self.there), (self.there, self.here)]
        return [(self._buffers[source][0], self._buffers[to][1]) for source, to in ways[: 2 if self._streams else 1]]

    def launch(self) -> None:
        """One copy (or one each way)."""
        self.launched += 1
        if not self._streams:
            ((source, to),) = self._routes()
            to.copy_(source, non_blocking=True)
            return
        current = torch.cuda.current_stream(self.here)
        for stream, (source, to) in zip(self._streams, self._routes(), strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                to.copy_(source, non_blocking=True)
        for stream in self._streams:
            current.wait_stream(stream)

    def precision(self) -> str:
        """Which way the bytes take."""
        return "peer access" if self.access else "staged through the host"

    def verify(self, seed: int = 0) -> dict[str, float]:  # noqa: ARG002 (every byte is compared)
        """`error_fp64`: 0 where every byte arrived in a destination that had been all zero, else NaN."""
        for device in (self.here, self.there):
            torch.cuda.synchronize(device)
        good = all(torch.equal(source.cpu(), arrived.cpu()) for source, arrived in self._routes())
        return {"error_fp64": 0.0 if good else float("nan")}
