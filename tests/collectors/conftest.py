"""A fixture for the NVML collector: what it sees of a scenario."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from driver.scenario import Scenario

BENCH = Path(__file__).parent / "nvml_bench.py"


@dataclass(slots=True)
class Observed:
    """What a collector emitted and said.

    Attributes:
        gpu: rows of `gpu`, by column.
        gpu_process: rows of `gpu_process`, by column.
        gpu_sample: rows of `gpu_sample`, by column.
        events: kind, message, subject.
        described: facts for the manifest.
        unavailable: message and permanence of a `SourceUnavailable`.
    """

    gpu: list[dict[str, Any]]
    gpu_process: list[dict[str, Any]]
    gpu_sample: list[dict[str, Any]]
    events: list[tuple[str, str, str | None]]
    described: dict[str, Any]
    out: list[Any]
    pid: int
    calls: int
    wall_ns: int
    tiers: list[tuple[str, int]] = field(default_factory=list)
    unavailable: tuple[str, bool] | None = None

    def column(self, name: str, uuid: str | None = None) -> list[Any]:
        """One column of the `gpu` rows, of one GPU or all."""
        return [row[name] for row in self.gpu if uuid in (None, row["gpu_uuid"])]

    def kinds(self) -> list[str]:
        """Kinds of the events, in order."""
        return [kind for kind, _, _ in self.events]

    def messages(self, kind: str) -> list[str]:
        """Messages of one kind of event."""
        return [message for found, message, _ in self.events if found == kind]


Observe = Callable[..., Observed]


@pytest.fixture
def observe(driver_env: Callable[[Scenario], dict[str, str]], tmp_path: Path) -> Observe:
    """Runs statements with a `bench` (see `nvml_bench.py`) against a scenario, in a new process with the real nvidia-ml-py."""

    def observed(
        scenario: Scenario,
        statements: str,
        *,
        hz: float = 10,
        gpus: str = "",
        bill: str = "visible",
        environ: Mapping[str, str] | None = None,
    ) -> Observed:
        clock = tmp_path / "clock"
        clock.write_bytes(bytes(8))
        settings = {"clock": str(clock), "hz": hz, "gpus": gpus, "bill": bill, "environ": dict(environ or {})}
        environment = {**os.environ, **driver_env(dataclasses.replace(scenario, clock_file=clock))}
        command = [sys.executable, str(BENCH), json.dumps(settings), statements]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        found["events"] = [tuple(event) for event in found["events"]]
        return Observed(**found)

    return observed
