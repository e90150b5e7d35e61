"""The page that shows what a report in CI looks like is what `gpucost ci` makes of the sample runs.

To write the page anew after an intended change: `GPUCOST_UPDATE_GOLDEN=1 pytest tests/ci/test_looks.py`, and read the diff. Its picture is made by hand.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/ci/looks.md"
METRICS_LINES = 16


def test_the_page_shows_what_is_made_of_the_sample_runs(forge, github_env, tmp_path):
    shown = PAGE.read_text(encoding="utf-8")
    page = shown
    for name, text in _made(forge, github_env, tmp_path).items():
        between = re.compile(rf"(?<=<!-- {name}: begin -->\n).*?(?=<!-- {name}: end -->)", re.DOTALL)
        assert between.search(page), name
        page = between.sub(lambda _, text=text: text, page)
    if os.environ.get("GPUCOST_UPDATE_GOLDEN"):
        PAGE.write_text(page, encoding="utf-8")
    assert shown == page, "if this was intended: GPUCOST_UPDATE_GOLDEN=1 pytest tests/ci/test_looks.py"


def _made(forge, github_env, folder: Path) -> dict[str, str]:
    (head,) = (ROOT / "sample_data/ci/head").iterdir()
    words = [
        head,
        "--baseline",
        ROOT / "sample_data/ci/baseline/*",
        "--gate",
        "cost=0.10",
        "--gate",
        "idle_share=60%",
        "--gate",
        "cost_increase=10%",
        "--gate",
        "cost@plan=0.02",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "gpucost", "ci", *map(str, words)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONIOENCODING": "utf-8", **github_env},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (comment,) = forge.bodies()
    files = folder / "gpucost-report"
    metrics = (files / "openmetrics.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    return {
        "comment": comment.rstrip("\n") + "\n",
        "annotations": _block(done.stdout),
        "log": _block(done.stderr),
        "junit": _block((files / "junit.xml").read_text(encoding="utf-8"), "xml"),
        "metrics": _block("".join(metrics[:METRICS_LINES])),
    }


def _block(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```\n"
