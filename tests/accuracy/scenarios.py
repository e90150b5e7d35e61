"""What the accuracy suite plays: loads whose truth is known in closed form, and what goes wrong meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from driver.scenario import GIB, Activity, Fault, Gpu, Mig, Process, Steps, energy_reset, gpu_lost

BEGIN_S = 100.03
"""When a run begins on the driver's clock: at no multiple of any sensor's period."""

IDLE_W, BUSY_W = 75.0, 525.0
PIDS = (1, 2)
"""Stand for the processes that the player starts; it puts their real pids in their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One scenario of the suite; times are seconds since its begin.

    Attributes:
        about: in a few words, for the table.
        shares: what the first process's share of the activity is, where two share.
        away: from when to when the recorder does not run.
        exact_busy: busy seconds are held to the bound of 1 %; shorter phases than the sensors see are not.
        edges: instants at which work ends for at least a second.
    """

    name: str
    about: str
    gpus: Sequence[Gpu]
    seconds: float = 20.0
    faults: Sequence[Fault] = ()
    shares: float | None = None
    away: tuple[float, float] | None = None
    exact_busy: bool = True
    edges: Sequence[float] = field(default=())


def at(steps: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Steps since the begin, on the driver's clock."""
    return [(BEGIN_S + second, value) for second, value in steps]


def working(
    util: Steps, processes: Sequence[Process] = (Process(pid=PIDS[0], memory_bytes=4 * GIB, sm_util_pct=50),)
) -> Gpu:
    """A GPU whose power follows its load."""
    if isinstance(util, int | float):
        power: Steps = IDLE_W + (BUSY_W - IDLE_W) * util / 100
    else:
        power = [(second, IDLE_W + (BUSY_W - IDLE_W) * value / 100) for second, value in util]
    return Gpu(util_pct=util, power_w=power, power_period_s=0.1, activity=Activity(sm=util), processes=processes)


def square(period_s: float, *, high: float = 100, duty: float = 0.5, seconds: float = 20, phase: float = 0.013) -> Gpu:
    """A load that is on for a part of every period."""
    steps, second = [(0.0, 0.0)], phase
    while second < seconds:
        steps += [(second, high), (second + period_s * duty, 0.0)]
        second += period_s
    return working(at(steps))


def _ramp() -> Gpu:
    return working(at([(k / 2, 2.5 * k) for k in range(41)]))


def _bursts() -> Gpu:
    return working(at([(0.0, 0.0)] + [step for k in range(20) for step in ((k + 0.31, 100.0), (k + 0.36, 0.0))]))


def _two() -> Gpu:
    processes = [Process(pid=pid, memory_bytes=4 * GIB, sm_util_pct=sm) for pid, sm in zip(PIDS, (60, 20), strict=True)]
    return replace(working(80, processes), process_ring=True)


def _mig() -> Gpu:
    devices = [
        Mig(
            uuid=f"MIG-{gi}",
            gi=gi,
            index=gi - 1,
            gi_slices=3,
            ci_slices=3,
            activity=Activity(graphics=level, sm=level),
            processes=[Process(pid=PIDS[0], memory_bytes=GIB)],
        )
        for gi, level in ((1, 30.0), (2, 70.0))
    ]
    return Gpu(mig_enabled=True, power_w=400, power_period_s=0.1, migs=devices)


def _staircase() -> list[Gpu]:
    return [working(at([(0, 0.0), (2.0 * k + 1, 100.0), (2.0 * k + 3, 0.0)])) for k in range(8)]


PLAYS = (
    Play(name="idle", about="nothing runs", gpus=[working(0)]),
    Play(name="steady", about="80 % throughout", gpus=[working(80)]),
    Play(name="square-5s", about="on and off, 5 s period", gpus=[square(5)], edges=[2.513 + 5 * k for k in range(4)]),
    Play(name="square-2s", about="on and off, 2 s period", gpus=[square(2)]),
    Play(name="square-1s", about="on and off, 1 s period", gpus=[square(1)], exact_busy=False),
    Play(name="square-200ms", about="on and off, 0.2 s period", gpus=[square(0.2)], exact_busy=False),
    Play(name="square-50ms", about="on and off, 0.05 s period", gpus=[square(0.05)], exact_busy=False),
    Play(name="ramp", about="0 to 100 % in steps of 0.5 s", gpus=[_ramp()]),
    Play(name="bursts", about="50 ms of work a second", gpus=[_bursts()], exact_busy=False),
    Play(name="two-processes", about="two processes, 3 to 1", gpus=[_two()], seconds=60, shares=0.75),
    Play(name="mig", about="two MIG devices, 30 and 70 %", gpus=[_mig()]),
    Play(
        name="gpu-lost",
        about="the GPU is lost for 4 s",
        gpus=[working(at([(0, 60.0), (14, 0.0)]))],
        faults=[gpu_lost(0, BEGIN_S + 8, BEGIN_S + 12)],
    ),
    Play(
        name="driver-reload",
        about="the energy counter starts again",
        gpus=[working(60)],
        faults=[energy_reset(BEGIN_S + 10)],
    ),
    Play(name="staircase", about="8 GPUs, one after the other", gpus=_staircase(), edges=[3.0]),
    Play(
        name="suspended",
        about="the recorder is stopped for 5 s",
        gpus=[square(3)],
        away=(6.0, 11.0),
        edges=[1.513 + 3 * k for k in range(6)],
    ),
    Play(
        name="partial-sensor",
        about="a power sensor that sees 25 of 100 ms",
        gpus=[replace(square(0.7), power_window_s=0.025)],
        exact_busy=False,
    ),
)
