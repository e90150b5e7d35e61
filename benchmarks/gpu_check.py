"""Proves gpucost on a real GPU: the recorder against the driver, and the benchmark against itself, as one page in Markdown for each model.

    make gpu-check                       # prints the pages
    make gpu-check ARGUMENTS=--save      # also keeps pages, recordings and profiles: docs/validation/, sample_data/

The recorder: `gpu_probes.py`, on the first GPU of each model. The benchmark, quick and full, each twice: that the second run of each mode repeats the
first (sustained figures of valid tests within 1 %), that bf16 products lie within 3 % of what others have published for the model, and that the device
copy lies within 5 % of a plain torch copy loop. On a machine without a GPU it has not been run, says so, and fails: nothing was checked.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu_site import Check, Site

ROOT = Path(__file__).resolve().parent.parent
REPEATS_WITHIN = 0.01
BF16_WITHIN = 0.03
COPY_WITHIN = 0.05
REPEATED = ("gemm.", "mem.", "link.h2d.pinned", "link.d2h.pinned")

PLAIN_COPY = """
import torch
count = 256 << 20
source, target = torch.randn(count, device="cuda"), torch.empty(count, device="cuda")
start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
for _ in range(50):
    target.copy_(source)
best = []
for _ in range(10):
    start.record()
    for _ in range(50):
        target.copy_(source)
    end.record()
    end.synchronize()
    best.append(50 * 2 * 4 * count / (start.elapsed_time(end) / 1e3) / 1e9)
print(sorted(best)[len(best) // 2])
"""


@dataclass
class Card:
    """One GPU: its profiles by mode, in order, what was checked, what its probes saw, and the recordings they made, by name."""

    uuid: str
    name: str
    profiles: dict[str, list] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    recordings: dict[str, Path] = field(default_factory=dict)


NOT_RUN = "gpu-check has not been run: there is no GPU here that NVML lists."


def main() -> int:
    """Run everything; 0 where every check passed, 1 where one failed or none could be made."""
    options = _options()
    cards = _cards()
    if not cards:
        print(NOT_RUN)
        return 1
    if options.look:
        return 0
    has_load = _torch_works()
    with tempfile.TemporaryDirectory() as folder:
        _probe(cards, Path(folder), options, has_load=has_load)
        kept = _bench(cards, options.gpus) if has_load and not (options.without_bench or options.only) else []
        for card in cards.values():
            if not (card.sections or card.checks):
                continue
            page = "\n".join(_page(card)) + "\n"
            print(page)
            if options.save:
                _save(card, page, kept, ROOT)
    checks = [check for card in cards.values() for check in card.checks]
    return 0 if all(check.passed is not False for check in checks) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", default="", help="what to benchmark, as gpucost bench --gpus")
    parser.add_argument("--save", action="store_true", help="keep pages, recordings and profiles in the repository")
    parser.add_argument("--look", action="store_true", help="only see whether there is a GPU")
    parser.add_argument("--only", nargs="+", metavar="PROBE", help="only these probes, by name, and no benchmark")
    parser.add_argument("--without-bench", action="store_true", help="only hold the recorder against the driver")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of one recording")
    parser.add_argument("--pairs", type=int, default=5, help="runs with and without a recorder, at each rate")
    parser.add_argument("--calls", type=int, default=1000, help="how often each driver call is timed")
    return parser.parse_args()


def _cards() -> dict[str, Card]:
    """Every GPU that NVML lists, by UUID; none where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        found = [(pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError:
        return {}
    return {uuid: Card(uuid, name) for uuid, name in found}


def _torch_works() -> bool:
    asked = [sys.executable, "-c", "import torch; raise SystemExit(not torch.cuda.is_available())"]
    return subprocess.run(asked, stderr=subprocess.DEVNULL, check=False).returncode == 0


def _probe(cards: dict[str, Card], folder: Path, options: argparse.Namespace, *, has_load: bool) -> None:
    """The recorder against the driver, on the first GPU of each model."""
    from gpu_probes import PROBES, sections

    probes = [probe for probe in PROBES if not options.only or probe.__name__ in options.only]
    for card in {card.name: card for card in reversed(cards.values())}.values():
        place = folder / card.uuid
        site = Site(card.uuid, place, has_load, options.seconds, options.pairs, options.calls)
        card.sections = sections(site, probes)
        card.checks += site.checks
        card.recordings = site.kept


def _bench(cards: dict[str, Card], gpus: str) -> list:
    """The benchmark, quick and full, each twice."""
    kept = []
    for mode in ("quick", "full"):
        for _ in range(2):
            kept += _measure(mode, gpus, cards)
    for card in cards.values():
        if card.profiles:
            card.checks += [*_repeatability(card), _bf16(card), _copy(card)]
    return kept


def _measure(mode: str, gpus: str, cards: dict[str, Card]) -> list:
    from gpucost.bench.session import Options, Session

    outcomes = Session(Options(mode=mode, gpus=gpus)).run()
    for one in outcomes:
        if one.profile is None:
            print(f"{one.label} was not measured: {one.refused}", file=sys.stderr)
            continue
        device = one.profile.device
        card = cards.setdefault(device.uuid, Card(device.uuid, device.name))
        card.profiles.setdefault(mode, []).append(one.profile)
    return [one for one in outcomes if one.profile is not None]


def _repeatability(card: Card) -> list[Check]:
    checks = []
    for mode, profiles in card.profiles.items():
        if len(profiles) < 2:
            checks.append(Check(f"{mode} repeats", None, "was not run twice"))
            continue
        first, second = profiles[:2]
        apart = {}
        for one in first.results:
            again = second.result(one.id)
            if one.id.startswith(REPEATED) and one.ceiling and again is not None and again.ceiling:
                apart[one.id] = again.sustained / one.sustained - 1
        worst = max(apart, key=lambda name: abs(apart[name]), default=None)
        text = "nothing valid in both" if worst is None else f"{len(apart)} tests, worst {worst} {apart[worst]:+.2%}"
        checks.append(
            Check(
                f"{mode} repeats within {REPEATS_WITHIN:.0%}",
                worst is not None and abs(apart[worst]) <= REPEATS_WITHIN,
                text,
            )
        )
    return checks


def _bf16(card: Card) -> Check:
    from gpucost.bench.book import reference

    what = f"bf16 within {BF16_WITHIN:.0%} of what is published"
    known = reference(card.name, "gemm.bf16")
    found = card.profiles["full"][-1].result("gemm.bf16") if card.profiles.get("full") else None
    if known is None:
        return Check(what, None, "nothing is published for this model")
    if found is None or found.sustained is None:
        return Check(what, False, "there is no figure")
    good = known.low * (1 - BF16_WITHIN) <= found.sustained <= known.high * (1 + BF16_WITHIN)
    return Check(what, good, f"{found.sustained:.1f} TFLOP/s; published {known.published}")


def _copy(card: Card) -> Check:
    import os

    what = f"device copy within {COPY_WITHIN:.0%} of a plain loop"
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": card.uuid}
    done = subprocess.run([sys.executable, "-c", PLAIN_COPY], env=environ, capture_output=True, text=True, check=False)
    found = card.profiles["full"][-1].result("mem.copy") if card.profiles.get("full") else None
    if done.returncode != 0 or found is None or found.sustained is None:
        return Check(what, False, "one of the two has no figure")
    plain = float(done.stdout)
    return Check(
        what, abs(found.sustained / plain - 1) <= COPY_WITHIN, f"{found.sustained:.0f} GB/s; the loop {plain:.0f} GB/s"
    )


def _page(card: Card) -> list[str]:
    import io

    from gpucost.bench.view import profile_page
    from gpucost.render.bench import render

    lines = [f"# {card.name}", "", f"Made by `make gpu-check`.{_driver()}", ""]
    lines += ["| check | result | figures |", "| :-- | :-- | :-- |"]
    words = {True: "passed", False: "**failed**", None: "not made"}
    lines += [f"| {check.what} | {words[check.passed]} | {check.text} |" for check in card.checks]
    lines += card.sections
    if card.profiles:
        lines += ["", "## Benchmark", "", "`gpucost bench` quick and full, each twice; the last of each:"]
    for mode, profiles in card.profiles.items():
        text = io.StringIO()
        render(profile_page(profiles[-1]), text, output="markdown", width=120, color=False)
        lines += ["", f"<details><summary>{mode}</summary>", "", text.getvalue(), "</details>"]
    return lines


def _driver() -> str:
    import pynvml

    try:
        return f" Driver {pynvml.nvmlSystemGetDriverVersion()}, NVML {pynvml.nvmlSystemGetNVMLVersion()}."
    except pynvml.NVMLError:
        return ""


def _save(card: Card, page: str, kept: list, root: Path) -> None:
    """The page, the recordings, and the newest full profile with its windows and telemetry."""
    from gpucost.bench import store

    slug = re.sub(r"[^a-z0-9]+", "-", card.name.lower()).strip("-")
    target = root / "docs" / "validation" / f"{slug}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    for name, run in card.recordings.items():
        place = root / "sample_data" / "gpus" / slug / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(run, place / run.name)
    full = [one for one in kept if one.profile.device.uuid == card.uuid and one.profile.mode == "full"]
    if full:
        newest = full[-1]
        store.write(root / "sample_data" / "profiles" / slug, newest.profile, newest.samples, newest.telemetry)


if __name__ == "__main__":
    sys.exit(main())
