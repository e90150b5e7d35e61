"""What holds for every collector, ours or anybody's."""

import os
import subprocess
import sys
import threading

import pytest

from collector_harness import FakeClock, Lent
from driver.scenario import Gpu, Scenario
from gpucost import collectors
from gpucost.clock import SystemClock
from gpucost.collectors.base import Collector, SourceUnavailable, Tier

SHORT_LIVED = "import subprocess\nfor _ in range(40): subprocess.run(['sh', '-c', 'true & true'])"


def make(name):
    (collector,), broken = collectors.create(which=[name])
    assert broken == []
    return collector


def lent(name, tmp_path, **options):
    """A context for this collector: simulated GPUs for the one that makes them."""
    gpus = "sim:h100:2" if name == "sim" else ""
    return Lent(**{"clock": SystemClock(), "gpus": gpus, "stage_file": str(tmp_path / "stages.jsonl"), **options})


@pytest.fixture(params=collectors.REGISTRY)
def name(request):
    return request.param


def started(collector, place):
    """The tiers of a started collector; a source that is not there skips the test."""
    try:
        return collector.start(place.context)
    except SourceUnavailable as error:
        collector.stop()
        pytest.skip(str(error))


def test_it_satisfies_the_protocol_under_its_registered_name(name):
    collector = make(name)
    assert isinstance(collector, Collector)
    assert collector.name == name


def test_it_asks_for_named_tiers_of_which_none_is_faster_than_the_user_wants(name, tmp_path):
    """But for the one that empties the driver's rings, which overflow whatever the user wants: that one keeps to once a second."""
    for hz in (0.1, 2.0, 50.0):
        collector = make(name)
        tiers = started(collector, lent(name, tmp_path, hz=hz))
        assert tiers
        for tier in tiers:
            fastest = 1.0 if (name, tier.name) == ("nvml", "samples") else hz
            assert isinstance(tier, Tier)
            assert tier.period_ns >= 1e9 / fastest - 1
        assert len({tier.name for tier in tiers}) == len(tiers)
        collector.stop()


def test_its_rows_fit_their_tables(name, tmp_path):
    """The harness checks every row that is emitted: width, types, what is never null."""
    place = lent(name, tmp_path)
    collector = make(name)
    tiers = started(collector, place)
    process = subprocess.Popen([sys.executable, "-c", SHORT_LIVED])
    try:
        (tmp_path / "stages.jsonl").write_text(
            '{"event": "start", "id": "a", "name": "plan"}\n{"event": "end", "id": "a"}\n', encoding="utf-8"
        )
        while process.poll() is None:
            for tier in tiers:
                collector.sample(tier.name)
        for tier in tiers:
            collector.sample(tier.name)
        collector.stop()
    finally:
        process.kill()
        process.wait()
    assert place.rows


def test_its_times_are_those_of_the_clock_it_was_lent(name, tmp_path):
    place = lent(name, tmp_path, clock=FakeClock())
    (tmp_path / "stages.jsonl").write_text(
        '{"event": "start", "id": "a", "name": "plan"}\n{"event": "end", "id": "a"}\n', encoding="utf-8"
    )
    collector = make(name)
    process = subprocess.Popen(["sleep", "60"])
    try:
        for tier in started(collector, place):
            collector.sample(tier.name)
        collector.stop()
    finally:
        process.kill()
        process.wait()
    moments = {
        getattr(row, column)
        for _, row in place.rows
        for column in row._fields
        if column.endswith("mono_ns") and getattr(row, column) is not None
    }
    assert moments == {place.clock.mono_ns()}


def test_it_can_be_stopped_without_having_been_started_and_twice(name):
    collector = make(name)
    collector.stop()
    collector.stop()


def test_it_works_in_a_thread_of_its_own(name, tmp_path):
    place = lent(name, tmp_path)
    failures = []

    def live():
        collector = make(name)
        try:
            for tier in collector.start(place.context):
                collector.sample(tier.name)
        except SourceUnavailable:
            pass
        except Exception as error:
            failures.append(error)
        collector.stop()

    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    assert failures == []


@pytest.mark.skipif("GPUCOST_DRIVER_SCENARIO" in os.environ, reason="this is the inner run")
def test_all_of_this_holds_for_nvml_with_a_driver(driver_env):
    environ = {**os.environ, **driver_env(Scenario(gpus=[Gpu(), Gpu()]))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "nvml and not driver", __file__]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


# --- the registry ------------------------------------------------------------------------------------------------------------------


def test_simulated_gpus_take_the_place_of_the_drivers():
    assert "sim" not in collectors.names("")
    assert "sim" not in collectors.names("all")
    assert "nvml" not in collectors.names("sim:h100:2")
    assert "nvml" not in collectors.names(" SIM:h100")
    assert set(collectors.names("")) == set(collectors.REGISTRY) - {"sim"}


def test_a_run_gets_its_collectors_by_default():
    made, broken = collectors.create("sim:h100")
    assert [collector.name for collector in made] == collectors.names("sim:h100")
    assert broken == []


def test_an_unknown_name_is_a_line_and_not_an_end():
    made, broken = collectors.create(which=["machine", "nosuch"])
    assert [collector.name for collector in made] == ["machine"]
    (line,) = broken
    assert "nosuch" in line
    assert "machine" in line


def test_importing_the_registry_imports_no_collector():
    code = "import sys, gpucost.collectors; print([m for m in sys.modules if m.startswith('gpucost.collectors.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Installs a distribution that offers collectors: a module's source, and its entry points."""

    def install(source, **points):
        (tmp_path / "third_party_source.py").write_text(source, encoding="utf-8")
        info = tmp_path / "third_party-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{name} = {target}" for name, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{collectors.GROUP}]", *lines]), encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    sys.modules.pop("third_party_source", None)


GOOD = """
class Thermometer:
    name = "thermometer"
    def start(self, context): return []
    def sample(self, tier): pass
    def stop(self): pass
class Liar(Thermometer):
    pass
class Broken:
    def __init__(self): raise RuntimeError("no sensor")
"""


def test_another_distribution_can_add_a_collector(distribution):
    distribution(GOOD, thermometer="third_party_source:Thermometer")
    made, broken = collectors.create("sim:h100")
    assert made[-1].name == "thermometer"
    assert broken == []
    (by_name,), _ = collectors.create(which=["thermometer"])
    assert by_name.name == "thermometer"


def test_a_broken_one_is_a_line_and_the_others_work(distribution):
    distribution(GOOD, thermometer="third_party_source:Broken", a="third_party_source:Nothing", b="no_such_module:X")
    made, broken = collectors.create("sim:h100")
    assert [collector.name for collector in made] == collectors.names("sim:h100")
    assert len(broken) == 3
    assert any("no sensor" in line for line in broken)


def test_one_that_is_no_collector_or_calls_itself_otherwise_is_refused(distribution):
    distribution(GOOD, other="third_party_source:Liar", text="builtins:str")
    _, broken = collectors.create("sim:h100")
    assert len(broken) == 2


def test_nobody_can_take_the_place_of_one_of_ours(distribution):
    distribution(GOOD, machine="third_party_source:Thermometer")
    made, broken = collectors.create("sim:h100")
    assert type(next(one for one in made if one.name == "machine")).__module__ == "gpucost.collectors.machine"
    assert len(broken) == 1
