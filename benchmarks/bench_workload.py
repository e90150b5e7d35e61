"""What recording does to the recorded command: a CPU-bound and a syscall-heavy one, with and without gpucost at 10 Hz.

    python benchmarks/bench_workload.py [--pairs N] [--seconds S]

The command times its own fixed work, which begins two seconds after its start, so starting and ending are not in it. It runs in pairs, once with and once without a recorder, in
random order within the pair, so that a slow moment of the machine meets both; the slow-down is the mean over pairs of the logarithm of
their ratio, its interval a bootstrap over pairs (95 %, 10,000 draws). The recorder reads the stand-in driver of 8 GPUs.

The slow-down is told by the clock and by the command's own CPU time, which says what the recorder's traces in caches and interrupts cost
even where others load the machine. Two ways: `free` lets the command and the recorder go where they like (on a machine with cores to spare, as training has), and
`one CPU` binds both to the same CPU, which is the worst case: then the slow-down is at least the recorder's own CPU time.
"""

import argparse
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from driving import compiled, driver_environ, machine, scenario

DRAWS = 10_000
KINDS = ("cpu", "syscalls")
PLACES = ("free", "one CPU")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=4.0, help="about how long one run of a command takes")
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--where", nargs="+", choices=PLACES, default=PLACES)
    options = parser.parse_args()
    print(
        f"{machine()}; {options.pairs} pairs of about {options.seconds:g} s, in random order; recorder at {options.hz:g} Hz, 8 simulated GPUs"
    )
    print(
        f"{'command':<10}{'where':<9}{'slow-down by the clock, % (95 %)':>36}{'of its CPU time, % (95 %)':>36}{'spread of a pair, %':>22}"
    )
    choice = random.Random(11)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compiled(folder, "work")
        environ = driver_environ(folder, scenario(folder / "pid"))
        for kind in options.kinds:
            rounds = calibrate(program, kind, options.seconds, environ)
            for where in options.where:
                cpus = os.sched_getaffinity(0) if where == "free" else {max(os.sched_getaffinity(0))}
                logs = pairs(program, kind, rounds, options, environ, folder, cpus, choice)
                wall, cpu = ([log[which] for log in logs] for which in (0, 1))
                scatter = f"{100 * statistics.stdev(wall):.2f}, {100 * statistics.stdev(cpu):.2f}"
                print(
                    f"{kind:<10}{where:<9}{interval(wall, choice):>36}{interval(cpu, choice):>36}{scatter:>22}",
                    flush=True,
                )


def calibrate(program: Path, kind: str, seconds: float, environ: dict[str, str]) -> int:
    """How many rounds of work take about so long here."""
    rounds = 1 << 10
    while (took := timed([str(program), kind, str(rounds)], environ, set(os.sched_getaffinity(0)))[1]) < seconds / 8:
        rounds *= 2
    return max(1, round(rounds * seconds / took))


def pairs(
    program: Path,
    kind: str,
    rounds: int,
    options: argparse.Namespace,
    environ: dict[str, str],
    folder: Path,
    cpus: set[int],
    choice: random.Random,
) -> list[tuple[float, float]]:
    """The logarithms of with over without, by the clock and of CPU time, one a pair; the first pair is thrown away."""
    bare = [str(program), kind, str(rounds), str(folder / "pid")]
    gpucost = str(Path(sys.executable).with_name("gpucost"))
    recorded = [gpucost, "record", "--quiet", "--runs", str(folder / "runs"), "--hz", f"{options.hz:g}", "--", *bare]
    logs = []
    for _ in range(options.pairs + 1):
        order = [recorded, bare]
        choice.shuffle(order)
        took = {argv is recorded: timed(argv, environ, cpus) for argv in order}
        logs.append((math.log(took[True][0] / took[False][0]), math.log(took[True][1] / took[False][1])))
    return logs[1:]


def timed(argv: Sequence[str], environ: dict[str, str], cpus: set[int]) -> tuple[float, float]:
    """Seconds that the command's work took, by the clock and of CPU, as it says itself."""
    done = subprocess.run(
        argv,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    wall, cpu = done.stdout.split()
    return int(wall) / 1e9, int(cpu) / 1e9


def interval(logs: Sequence[float], choice: random.Random) -> str:
    """Mean slow-down in percent, and the bounds of its interval."""
    means = sorted(sum(choice.choices(logs, k=len(logs))) / len(logs) for _ in range(DRAWS))
    low, middle, high = means[int(0.025 * DRAWS)], sum(logs) / len(logs), means[int(0.975 * DRAWS)]
    low, middle, high = (100 * math.expm1(value) for value in (low, middle, high))
    return f"{middle:+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
