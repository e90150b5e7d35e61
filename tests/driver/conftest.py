"""A fixture for questions to the stand-in driver."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driver.scenario import Scenario

DriverEnv = Callable[[Scenario], dict[str, str]]

PROLOGUE = """
import json, struct, sys
import pynvml as p

def at(seconds):
    with open(sys.argv[1], "r+b") as file:
        file.write(struct.pack("q", round(seconds * 10**9)))

def code(call, *args):
    try:
        return call(*args)
    except p.NVMLError as error:
        return {"error": error.value}

def field(handle, *ids):
    return [[v.nvmlReturn, v.value.uiVal if v.valueType == 1 else v.value.ullVal] if v.nvmlReturn == 0 else [v.nvmlReturn, None]
            for v in p.nvmlDeviceGetFieldValues(handle, list(ids))]
"""


@pytest.fixture
def ask(driver_env: DriverEnv, tmp_path: Path) -> Callable[..., Any]:
    """Runs statements against a scenario in a new process, with the real nvidia-ml-py; gives back what they put into `out`."""

    def asked(scenario: dict[str, Any], body: str) -> Any:
        clock = tmp_path / "clock"
        clock.write_bytes(bytes(8))
        script = f"{PROLOGUE}\nout = []\n{body}\nprint(json.dumps(out))"
        environment = {**os.environ, **driver_env(Scenario(**scenario, clock_file=clock))}
        done = subprocess.run(
            [sys.executable, "-c", script, str(clock)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return asked
