"""The configuration: `gpucost.toml`, or `[tool.gpucost]` in `pyproject.toml`, the nearest one upward from the working directory.

    price = 2.49              # USD per GPU-hour, for every GPU
    runs = ".gpucost/runs"    # relative to the file
    hz = 10
    call_budget = 1           # percent of a tick that calls into the GPU driver may take
    idle_after = 1.0          # seconds
    idle_split = "owner"      # owner, equal or none
    [prices]                  # by NVML name or UUID; goes before `price`
    "NVIDIA H100 80GB HBM3" = 2.10
    [carbon]
    region = "SWE"            # a code or a name of the table of grid intensities
    pue = 1.2
    [check]                   # gates: see gpucost.gates.settings

A mistake in the file is one line that names the file and the key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost._config_file import Config

FILE_NAME = "gpucost.toml"


def exists(start: str | os.PathLike[str] | None = None) -> bool:
    """Whether a configuration file may apply to `start` (default: the working directory); costs a few system calls."""
    return next(_candidates(start), None) is not None


def load(start: str | os.PathLike[str] | None = None) -> Config:
    """The configuration that applies to `start` (default: the working directory); empty when there is none.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown key or a value of the wrong kind.
    """
    from gpucost._config_file import Config, read

    for path in _candidates(start):
        config = read(path)
        if config is not None:
            return config
    return Config()


def _candidates(start: str | os.PathLike[str] | None) -> Iterator[str]:
    """Files that could hold the configuration, nearest first; a pyproject.toml only when it speaks of gpucost."""
    try:
        folder = os.path.abspath(os.getcwd() if start is None else start)  # noqa: PTH100, PTH109 (pathlib costs start-up time)
    except OSError:
        return  # the working directory is gone
    while True:
        own = os.path.join(folder, FILE_NAME)  # noqa: PTH118
        if os.path.lexists(own):
            yield own
        project = os.path.join(folder, "pyproject.toml")  # noqa: PTH118
        if _speaks_of_gpucost(project):
            yield project
        parent = os.path.dirname(folder)  # noqa: PTH120
        if parent == folder:
            return
        folder = parent


def _speaks_of_gpucost(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return b"gpucost" in file.read()
    except OSError:
        return False
