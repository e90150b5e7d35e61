"""Run directories made by hand, through the store's own writers, for tests of the commands that read them."""

from pathlib import Path

from gpucost import rundir
from gpucost.manifest import COMPLETE, RECORDING, Gpu, Host, Manifest
from gpucost.schema import GpuProcessRow, GpuRow, RecorderRow, StageRow
from gpucost.store.journal import JournalWriter
from gpucost.store.manifest_io import write_manifest
from gpucost.store.seal import seal_run

S = 1_000_000_000
STARTED_NS = 1_785_001_501_000_000_000  # 2026-07-25T17:45:01Z
STARTED_MONO_NS = 500 * S
H100 = "NVIDIA H100 80GB HBM3"
HOST = "node1"


class FixedClock:
    """Time stands still."""

    def time_ns(self) -> int:
        return STARTED_NS

    def mono_ns(self) -> int:
        return STARTED_MONO_NS


def make_run(
    runs: Path, seconds: int = 60, *, started_ns: int = STARTED_NS, closed: bool = True, gpu_name: str = H100, **fields
) -> Path:
    """A run of one GPU that is busy at 80 % in its first half, under the stage `work`, and held but idle in its second.

    Args:
        runs: the folder of all runs.
        seconds: its length.
        started_ns: UTC; the id follows from it.
        closed: the recorder ended it in order; else it was killed, and the journal lies as it was.
        gpu_name: NVML's name of the GPU.
        fields: of the manifest.
    """
    path = rundir.create(str(runs), rundir.new_run_id(started_ns), HOST)
    gpu = Gpu(
        "GPU-0a1b2c3d-0000-0000-0000-000000000000",
        gpu_name,
        host=HOST,
        index=0,
        memory_reserved_bytes=0,
        power_limit_w=700.0,
    )
    manifest = Manifest(
        Path(path).name,
        ["python", "train.py"],
        started_ns,
        STARTED_MONO_NS,
        hosts={HOST: Host(HOST, started_ns, STARTED_MONO_NS)},
        gpus=[gpu],
        recorder={"hz": 10.0},
    )
    for name, value in fields.items():
        setattr(manifest, name, value)
    if closed:
        manifest.status, manifest.exit_code = COMPLETE, 0 if manifest.exit_code is None else manifest.exit_code
        manifest.end_time_ns, manifest.end_mono_ns = started_ns + seconds * S, STARTED_MONO_NS + seconds * S
    else:
        manifest.status = RECORDING
    write_manifest(path, manifest)
    writer = JournalWriter(rundir.journal_dir(path, HOST), "abcdefgh", FixedClock())
    _samples(writer, gpu.uuid, started_ns, seconds)
    writer.close()
    if closed:
        seal_run(path, HOST, final=True)
    return Path(path)


def _samples(writer: JournalWriter, uuid: str, started_ns: int, seconds: int) -> None:
    gpu, processes = [], []
    for tick in range(seconds * 10 + 1):
        offset = tick * S // 10
        busy = tick <= seconds * 5
        util, power = (80.0, 500.0) if busy else (0.0, 100.0)
        joules = 500.0 * min(tick, seconds * 5) / 10 + 100.0 * max(0, tick - seconds * 5) / 10
        when = (started_ns + offset, STARTED_MONO_NS + offset)
        on_it = (1, 1) if tick % 10 == 0 else (None, None)
        row = GpuRow(
            *when, uuid, util, 10.0, 20 << 30, power, power, joules, processes=on_it[0], run_processes=on_it[1]
        )
        gpu.append(tuple(row))
        if tick % 10 == 0:
            processes.append(
                tuple(GpuProcessRow(*when, uuid, 4242, started_ns, True, "compute", 20 << 30, util, 10.0, 6))
            )
    end = (started_ns + seconds * S, STARTED_MONO_NS + seconds * S)
    half = seconds * S // 2
    stage = StageRow("s1", "work", started_ns, started_ns + half, STARTED_MONO_NS, STARTED_MONO_NS + half, pid=4242)
    recorder = RecorderRow(*end, "recorder", cpu_s=seconds * 0.01, rss_bytes=30 << 20)
    writer.append("gpu", gpu)
    writer.append("gpu_process", processes)
    writer.append("stage", [tuple(stage)])
    writer.append("recorder", [tuple(recorder)])
