"""What keeps recording cheap: what the recorder holds in memory, how often it asks the driver, and that its threads can be told apart."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from driver.scenario import Gpu, Scenario
from gpucost.store.reader import load
from recording_tools import only_run, record, started, wait_until

HEAVY = {
    "numpy",
    "pandas",
    "pyarrow",
    "rich",
    "typer",
    "click",
    "asyncio",
    "email",
    "http",
    "multiprocessing",
    "urllib.request",
}
GPUS = 4
CALLS_A_READING = 8

# A collector that another distribution brings: it runs inside the recorder, so it can tell what is loaded there.
PROBE = """
import sys
from gpucost.collectors.base import Tier

class Probe:
    name = "probe"
    def start(self, context):
        return [Tier("probe", 200_000_000)]
    def sample(self, tier):
        with open({path!r}, "w") as file:
            file.write("\\n".join(sorted(sys.modules)))
    def stop(self):
        pass
"""


@pytest.fixture
def probed(tmp_path):
    """The environment with the probe installed, and the file that it writes."""
    folder, path = tmp_path / "plugins", tmp_path / "modules.txt"
    info = folder / "probe-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text("[gpucost.collectors]\nprobe = gpucost_probe:Probe\n")
    folder.joinpath("gpucost_probe.py").write_text(PROBE.format(path=str(path)))
    search = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": search}, path


def test_the_recorder_never_loads_what_only_reports_need(probed, tmp_path, driver_env):
    environ, path = probed
    line = [sys.executable, "-c", "import time; time.sleep(2.5)"]
    done = record(tmp_path / "runs", *line, options=["--quiet"], env={**environ, **driver_env(Scenario())})
    assert done.returncode == 0, done.stderr
    loaded = set(path.read_text().splitlines())
    assert {"gpucost.collectors.nvml", "gpucost.collectors.machine", "gpucost.store.journal", "pynvml"} <= loaded
    # What this interpreter loads by itself (path configuration files of its environment) is not the recorder's doing.
    assert not (HEAVY & loaded) - bare(environ)


def bare(environ: dict[str, str]) -> set[str]:
    """What an interpreter loads by itself, and what finding another distribution's collector costs."""
    program = (
        "import importlib.metadata, sys; importlib.metadata.entry_points(group='none'); print('\\n'.join(sys.modules))"
    )
    return set(
        subprocess.run(
            [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_no_library_of_arrays_or_tables_is_mapped_into_the_recorder(tmp_path):
    process = started(tmp_path / "runs", "sleep", "60", options=["--quiet", "--gpus", "sim:h100:2"])
    try:
        wait_until(lambda: list((tmp_path / "runs").glob("*/host=*/journal/gpu.*")))
        mapped = Path(f"/proc/{process.pid}/maps").read_text()
        assert not [name for name in ("/numpy", "/pyarrow", "/pandas") if name in mapped]
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_reading_takes_eight_calls_to_the_driver_and_a_poll_of_processes_five(tmp_path, driver_env):
    """Whatever else is recorded, and however long: what is left over is the opening, and once a second what the driver kept between ticks."""
    calls = tmp_path / "calls.txt"
    environ = {**os.environ, **driver_env(Scenario(gpus=[Gpu()] * GPUS)), "GPUCOST_DRIVER_CALLS": str(calls)}
    done = record(tmp_path / "runs", "sleep", "3", options=["--quiet", "--hz", "20"], env=environ)
    assert done.returncode == 0, done.stderr
    counted: Counter[str] = Counter()
    for line in calls.read_text().splitlines():
        _, symbol, count = line.split()
        counted[symbol] += int(count)
    frames = load(only_run(tmp_path / "runs")).frames
    readings = len(frames["gpu"])
    polls = GPUS * (readings // GPUS // 20 + 2)  # one a second, one at once, and the last
    opening = 60 * GPUS
    seldom = 15 * polls  # buffered samples, links, counters of time held down, events
    assert readings > 20 * GPUS
    assert sum(counted.values()) <= CALLS_A_READING * readings + 5 * polls + seldom + opening
    assert counted["nvmlDeviceGetFieldValues"] >= readings, "the counts are of this recording"


def test_the_recorders_threads_have_names_that_the_system_shows(tmp_path):
    process = started(tmp_path / "runs", "sleep", "60", options=["--quiet", "--gpus", "sim:h100:2"])

    def names() -> set[str]:
        return {path.read_text().strip() for path in Path(f"/proc/{process.pid}/task").glob("*/comm")}

    try:
        wait_until(lambda: {"gpucost-writer", "gpucost-sim", "gpucost-machine"} <= names())
    finally:
        process.terminate()
        process.communicate(timeout=60)
