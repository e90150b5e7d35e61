"""How often the gate on a regression is wrong: false alarms without a change, and changes it finds.

Runs `gpucost.analyzers.compare.verdict`, the very function of the gates, on made-up histories: lognormal noise around one level, and now and then
an outlier (a cold cache, a busy neighbour). Prints a Markdown table; `docs/ci/gates.md` has its result.

    python benchmarks/simulate_gate.py [--trials 4000] [--history 20] [--limit 5]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from gpucost.analyzers.compare import Rule, method_for, verdict

SEED = 20_261_124
OUTLIER_RATE = 0.05
OUTLIER_FACTOR = 1.3
NOISE = (0.01, 0.03, 0.08)
NEW_RUNS = (1, 3, 5, 10)
CHANGES = (0.05, 0.10, 0.15, 0.30)


@dataclass(frozen=True)
class Setup:
    """One line of the table."""

    noise: float
    history: int
    new: int


def runs(generator: np.random.Generator, count: int, noise: float, level: float) -> list[float]:
    """Figures of `count` runs: lognormal with this coefficient of variation, one in twenty 30 % higher."""
    sigma = np.sqrt(np.log1p(noise**2))
    values = level * generator.lognormal(0.0, sigma, count)
    return (values * np.where(generator.random(count) < OUTLIER_RATE, OUTLIER_FACTOR, 1.0)).tolist()


def alarms(setup: Setup, change: float, rule: Rule, trials: int) -> float:
    """The share of trials in which the new runs are judged higher."""
    generator = np.random.default_rng([SEED, setup.history, setup.new, round(setup.noise * 1000), round(change * 1000)])
    found = 0
    for _ in range(trials):
        base = runs(generator, setup.history, setup.noise, 1.0)
        head = runs(generator, setup.new, setup.noise, 1.0 + change)
        found += verdict(base, head, rule).direction == "higher"
    return found / trials


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--history", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--limit", type=float, default=5.0, help="the gate's limit on an increase, in percent")
    options = parser.parse_args()
    rule = Rule(min_effect=options.limit / 100)
    found = " | ".join(f"finds +{change:.0%}" for change in CHANGES)
    print(
        f"limit {options.limit:g} %, {options.trials} trials; outliers: {OUTLIER_RATE:.0%} of runs, x {OUTLIER_FACTOR:g}\n"
    )
    print(f"| noise (cv) | history | new runs | rule | false alarms | {found} |")
    print("|---:|---:|---:|---|---:|" + "---:|" * len(CHANGES))
    for noise in NOISE:
        for history in options.history:
            for new in NEW_RUNS:
                setup = Setup(noise, history, new)
                rates = [alarms(setup, change, rule, options.trials) for change in (0.0, *CHANGES)]
                texts = " | ".join(f"{rate:.1%}" for rate in rates)
                print(f"| {noise:.0%} | {history} | {new} | {method_for(history, new)} | {texts} |", flush=True)


if __name__ == "__main__":
    main()
