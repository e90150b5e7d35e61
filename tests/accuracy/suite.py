"""The accuracy suite: every scenario at 1 and 10 Hz, ours beside naive polling and beside other tools, as a table; exit 1 when a bound is missed.

python tests/accuracy/suite.py [--peers PYTHON] [--write docs/accuracy.md]
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from accuracy.scenarios import BEGIN_S, PLAYS, Play
from driver.build import build
from driver.scenario import ns

RATES = (1, 10)
ENERGY_PCT, BUSY_PCT, EDGE_S = 0.5, 1.0, 0.2
"""The bounds: energy where there is a counter, busy seconds of phases over 1 s, ends of work (one update period of utilization; a tick at
10 Hz is not added, because the driver's own samples decide)."""

SHARE_SIGMAS = 3.0
TOOLS = ("nvitop", "gpustat", "CodeCarbon", "Zeus")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scenario gave at one rate."""

    play: Play
    hz: int
    found: dict[str, Any]
    peers: dict[str, Any]

    @property
    def has_counter(self) -> bool:
        """Whether any GPU's energy was asked for: MIG devices have none of their own."""
        return bool(self.found["true_energy_j"])

    def error_pct(self, what: str) -> float | None:
        """Ours against the truth, over the time that we say we know."""
        return percent(self.found[f"{what}"], self.found[f"true_{what}"])

    def naive_pct(self, what: str) -> float | None:
        """Naive polling against the whole truth: it does not know what it does not know."""
        return percent(
            self.found["naive"][what], self.found["true_energy_j" if what == "energy_j" else "naive_true_busy_s"]
        )

    def peer_pct(self, tool: str, what: str) -> float | None:
        """Another tool against the whole truth."""
        figures = self.peers.get(tool)
        if not isinstance(figures, dict) or what not in figures:
            return None
        return percent(figures[what], self.found["true_energy_j" if what == "energy_j" else "naive_true_busy_s"])

    @property
    def share_bound(self) -> float:
        """Three standard deviations of a share that rests on so many samples (binomial)."""
        share, count = self.play.shares or 0.5, max(self.found["share_samples"], 1)
        return SHARE_SIGMAS * math.sqrt(share * (1 - share) / count)

    def misses(self) -> Iterator[str]:
        """Every bound that does not hold, in a line."""
        energy, busy = self.error_pct("energy_j"), self.error_pct("busy_s")
        if self.has_counter and (energy is None or abs(energy) > ENERGY_PCT):
            yield f"energy is off by {energy} %"
        if self.play.exact_busy and busy is not None and abs(busy) > BUSY_PCT:
            yield f"busy seconds are off by {busy} %"
        if self.play.edges and self.found["edge_s"] > EDGE_S:
            yield f"an end of work is off by {self.found['edge_s']} s"
        if self.play.shares is not None and abs(self.found["share"] - self.play.shares) > self.share_bound:
            yield f"the share is {self.found['share']} and not {self.play.shares} ± {self.share_bound}"
        for mig in self.play.gpus[0].migs:
            seen = self.found["mig"].get(mig.uuid)
            if seen is None or abs(seen - float(mig.activity.sm)) > BUSY_PCT:  # type: ignore[union-attr,arg-type]
                yield f"activity of {mig.uuid} is {seen}"


def percent(value: float, truth: float) -> float | None:
    """Relative error, None where the truth is zero."""
    return (value - truth) / truth * 100 if truth else None


def play(one: Play, hz: int, library: Path, peers: str | None = None) -> Outcome:
    """Play one scenario at one rate in a process of its own, and to the peers in another."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        environ = {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(library), os.environ.get("LD_LIBRARY_PATH")])),
            "GPUCOST_DRIVER_SCENARIO": str(place / "scenario.txt"),
        }
        found = _run([sys.executable, str(HERE / "play.py"), one.name, str(hz), folder], environ)
        (place / "instants.json").write_text(json.dumps({"instants": found.pop("instants"), "begin_ns": ns(BEGIN_S)}))
        others = _run([peers, str(HERE / "peers.py"), folder], environ) if peers else {}
    return Outcome(one, hz, found, others)


def _run(command: Sequence[str], environ: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[1]} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}" if abs(value) < 1000 else f"{value:+.0f}"


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as Markdown: errors in percent."""
    tools = [tool for tool in TOOLS if any(tool in one.peers for one in outcomes)]
    columns = ["scenario", "Hz", "energy: gpucost", "naive", *tools, "busy: gpucost", "naive"]
    columns += [f"{tool}" for tool in tools if tool in ("nvitop", "gpustat")] + [
        "unknown s",
        "end of work s",
        "share (bound)",
    ]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for one in outcomes:
        edge, share = one.found["edge_s"], one.found["share"]
        cells = [one.play.name, str(one.hz)]
        cells += [_cell(one.error_pct("energy_j")), _cell(one.naive_pct("energy_j") if one.has_counter else None)]
        cells += [_cell(one.peer_pct(tool, "energy_j") if one.has_counter else None) for tool in tools]
        cells += [_cell(one.error_pct("busy_s")), _cell(one.naive_pct("busy_s"))]
        cells += [_cell(one.peer_pct(tool, "busy_s")) for tool in tools if tool in ("nvitop", "gpustat")]
        cells += [f"{one.found['unknown_s']:.2f}", "-" if edge is None else f"{edge:.3f}"]
        cells += ["-" if one.play.shares is None else f"{share - one.play.shares:+.3f} (±{one.share_bound:.3f})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", help="a Python in whose environment nvitop, gpustat, CodeCarbon and Zeus are installed"
    )
    parser.add_argument("--write", type=Path, help="put the table into this page, between its markers")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        library = build(Path(cache))
        outcomes = [play(one, hz, library, chosen.peers) for one in PLAYS for hz in RATES]
    text = table(outcomes)
    print(text)
    if chosen.write:
        page = chosen.write.read_text(encoding="utf-8")
        head, _, rest = page.partition("<!-- table -->\n")
        _, _, tail = rest.partition("<!-- end -->")
        chosen.write.write_text(f"{head}<!-- table -->\n{text}\n<!-- end -->{tail}", encoding="utf-8")
    missed = [f"{one.play.name} at {one.hz} Hz: {line}" for one in outcomes for line in one.misses()]
    failed = sorted(
        {f"{tool}: {figures}" for one in outcomes for tool, figures in one.peers.items() if isinstance(figures, str)}
    )
    print("\n".join(["", *missed, *failed]), file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
