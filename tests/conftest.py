"""Fixtures for everybody: the stand-in driver, and the environment in which a process finds it."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from driver.build import NoCompilerError, build
from driver.scenario import Scenario


@pytest.fixture(scope="session")
def driver_build(request: pytest.FixtureRequest) -> Callable[[Sequence[str]], Path]:
    """Builds the stand-in driver, without the symbols named; what was built once is kept in pytest's cache."""
    cache = request.config.cache
    assert cache is not None

    def built(absent: Sequence[str] = ()) -> Path:
        try:
            return build(Path(cache.mkdir("stand-in-driver")), absent)
        except NoCompilerError as error:
            pytest.skip(str(error))

    return built


@pytest.fixture(scope="session")
def stand_in_driver(driver_build: Callable[[Sequence[str]], Path]) -> Path:
    """The directory of the stand-in `libnvidia-ml.so.1`, for `LD_LIBRARY_PATH`."""
    return driver_build(())


@pytest.fixture
def driver_env(driver_build: Callable[[Sequence[str]], Path], tmp_path: Path) -> Callable[[Scenario], dict[str, str]]:
    """Makes the environment variables with which a new process finds a driver that plays the scenario: `{**os.environ, **driver_env(s)}`."""
    made: list[Path] = []

    def environment(scenario: Scenario) -> dict[str, str]:
        path = tmp_path / f"scenario-{len(made)}.txt"
        made.append(scenario.write(path))
        search = [str(driver_build(scenario.absent)), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {"LD_LIBRARY_PATH": os.pathsep.join(search), "GPUCOST_DRIVER_SCENARIO": str(path)}

    return environment


@pytest.fixture(scope="session")
def mps_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A process that the kernel calls what the server of MPS is called; its pid."""
    program = tmp_path_factory.mktemp("mps") / "nvidia-cuda-mps-server"
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o700)
    process = subprocess.Popen([program], stdin=subprocess.PIPE)
    while Path(f"/proc/{process.pid}/comm").read_text().strip() != "nvidia-cuda-mps":
        time.sleep(0.01)
    yield process.pid
    process.communicate()
