"""gpucost: what a GPU run cost, which stage spent it, and how much was paid for GPUs that sat idle.

In a recorded program:

    with gpucost.stage("plan"):
        ...

On what was recorded:

    recording = gpucost.load("latest")
    analysis = gpucost.analyze(recording)
"""

from __future__ import annotations

from gpucost._flops import count_flops
from gpucost._stage import stage
from gpucost._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from gpucost.analyzers.model import Analysis, Settings
    from gpucost.recording import Recording

__all__ = ["__version__", "analyze", "count_flops", "load", "stage"]


def load(run: str | os.PathLike[str] = "latest", *, runs: str | os.PathLike[str] | None = None) -> Recording:
    """Read a recorded run.

    Args:
        run: an id, a unique prefix of one, `latest`, `latest~N`, or the path of a run directory.
        runs: the folder of all runs; the default is what the command line takes (`GPUCOST_RUNS`, the configuration, `.gpucost/runs`).

    Raises:
        GpucostError: no run answers to the name, or it cannot be read.
    """
    import os

    from gpucost import config, rundir
    from gpucost.store import reader

    folder = runs or os.environ.get("GPUCOST_RUNS") or config.load().runs or rundir.DEFAULT_RUNS
    return reader.load(rundir.find(os.fspath(folder), os.fspath(run)))


def analyze(recording: Recording | str | os.PathLike[str] = "latest", settings: Settings | None = None) -> Analysis:
    """Every figure of a run but its money: the ledger of GPUs, stages and uses, energy, timelines.

    Args:
        recording: what `load` gives, or what `load` takes.
        settings: how to analyze; the default is `Settings()`.

    Raises:
        GpucostError: as `load`.
    """
    from gpucost import analyzers
    from gpucost.analyzers.model import Settings as Defaults
    from gpucost.recording import Recording as Loaded

    loaded = recording if isinstance(recording, Loaded) else load(recording)
    return analyzers.analyze(loaded, settings or Defaults())
