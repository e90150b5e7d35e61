"""What `gpucost.stage` costs: a mark inside a recording, nothing outside of one, and the import. Each against a bare baseline.

    python benchmarks/bench_stage.py [--repeats N]

Every figure is the median over repeats, in processes of its own, with the quartiles as its spread. Marks and spans are told in CPU time (user
and system), so that what else runs on the machine does not count; imports and whole interpreters by the clock.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOOPS = {"inside": 20_000, "outside": 200_000}

BLOCK = """
class Bare:
    __slots__ = ()
    def __init__(self, name, /, **attributes): pass
    def __enter__(self): return self
    def __exit__(self, *error): pass
"""
STAGE = "from gpucost import stage"

# What is measured, with its bare baseline; each is what comes before the loop, and the statement in it.
CASES = {
    "with": ((STAGE, "with stage('plan'): pass"), (BLOCK, "with Bare('plan'): pass")),
    "with attributes": (
        (STAGE, "with stage('plan', tokens=12, model='large'): pass"),
        (BLOCK, "with Bare('plan', tokens=12, model='large'): pass"),
    ),
    "decorated call": ((f"{STAGE}\n@stage('plan')\ndef f(): pass", "f()"), ("def f(): pass", "f()")),
}

PROGRAM = """
import time
{setup}
def run(count):
    start = time.process_time_ns()
    for _ in range(count):
        {statement}
    return time.process_time_ns() - start
run({count} // 20)
print(run({count}) / {count})
"""

IMPORT = """
import time
start = time.perf_counter_ns()
import {module}
print(time.perf_counter_ns() - start)
"""


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, median of {repeats} processes (quartiles)\n")
    print(f"{'what':<46}{'gpucost':>26}{'bare':>26}{'target':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (ours, bare) in CASES.items():
            row(f"inside a recording, {name}, a mark", *alternate(repeats, folder, ours, bare, inside=True), "10 us")
        for name, (ours, bare) in CASES.items():
            row(f"outside a recording, {name}, a span", *alternate(repeats, folder, ours, bare, inside=False), "1 us")
        imports = [run(IMPORT.format(module="gpucost"), folder) for _ in range(repeats + 1)][
            1:
        ]  # the first one compiles
        row(
            "import gpucost (bare: a small module)",
            imports,
            [run(IMPORT.format(module="colorsys"), folder) for _ in imports],
            "10 ms",
        )
        whole = [wall("import gpucost", folder) for _ in imports]
        row("an interpreter, start to end, that imports it", whole, [wall("pass", folder) for _ in imports], "+10 ms")


def alternate(
    repeats: int, folder: str, ours: tuple[str, str], bare: tuple[str, str], *, inside: bool
) -> tuple[list[float], list[float]]:
    """Nanoseconds of a mark (inside: there are two to a span) or of a span; in turns, so that a slow moment of the machine meets both."""
    pairs = [(measure(ours, folder, inside=inside), measure(bare, folder, inside=inside)) for _ in range(repeats)]
    units = 2 if inside else 1
    return [one / units for one, _ in pairs], [other / units for _, other in pairs]


def measure(snippet: tuple[str, str], folder: str, *, inside: bool) -> float:
    """Nanoseconds of one statement, in a process of its own."""
    marks = Path(folder, "stages.jsonl")
    marks.unlink(missing_ok=True)
    setup, statement = snippet
    program = PROGRAM.format(setup=setup, statement=statement, count=LOOPS["inside" if inside else "outside"])
    return run(program, folder, {"GPUCOST_STAGE_FILE": str(marks)} if inside else {})


def run(program: str, folder: str, extra: dict[str, str] | None = None) -> float:
    """The number that a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ(folder) | (extra or {}), capture_output=True, check=True
    )
    return float(done.stdout)


def wall(program: str, folder: str) -> float:
    """Nanoseconds from the start of an interpreter (without `site`) to its end."""
    source = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"
    start = time.perf_counter_ns()
    subprocess.run([sys.executable, "-S", "-c", source], env=environ(folder), check=True)
    return time.perf_counter_ns() - start


def environ(folder: str) -> dict[str, str]:
    """Outside of any recording, and with compiled modules, as an installed package has them."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GPUCOST_")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(Path(folder, "compiled"))}


def row(what: str, ours: list[float], bare: list[float], target: str) -> None:
    """Print one line of the table."""
    print(f"{what:<46}{spread(ours):>26}{spread(bare):>26}{target:>10}")


def spread(values: list[float]) -> str:
    """Median and quartiles, in a unit that suits them."""
    unit, name = next((one for one in ((1e6, "ms"), (1e3, "us")) if statistics.median(values) >= one[0]), (1.0, "ns"))
    low, middle, high = (value / unit for value in statistics.quantiles(values, n=4))
    return f"{middle:.2f} {name} ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    main()
