"""On a real GPU (`pytest -m gpu`): every probe of `make gpu-check`, of which no check may fail. `make gpu-check` makes the page of them."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "benchmarks"))

probes = importlib.import_module("gpu_probes")
gpu_site = importlib.import_module("gpu_site")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The first GPU; without one these tests are skipped."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        pytest.skip(f"no NVIDIA GPU: {error}")
    uuid = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0))
    works = [sys.executable, "-c", "import torch; raise SystemExit(not torch.cuda.is_available())"]
    has_load = subprocess.run(works, stderr=subprocess.DEVNULL, check=False).returncode == 0
    yield gpu_site.Site(uuid, tmp_path_factory.mktemp("gpu"), has_load)
    pynvml.nvmlShutdown()


@pytest.mark.parametrize("probe", probes.PROBES, ids=lambda probe: probe.__name__)
def test_no_check_of_a_probe_fails(site, probe):
    if probe in probes.NEEDS_LOAD and not site.has_load:
        pytest.skip("torch cannot use the GPU")
    before = len(site.checks)
    print("\n".join(probes.sections(site, [probe])))
    assert [check for check in site.checks[before:] if check.passed is False] == []
