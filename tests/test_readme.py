"""What the documents say can be typed, and what they link to is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "sample_data" / "README.md",
]


def _help(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gpucost", command, "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target


def test_every_command_and_option_in_the_documents_exists():
    helps: dict[str, str] = {}
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            for command, rest in re.findall(
                r"gpucost (record|report|runs|recover|stage|compare|check|ci|bench|doctor)\b([^`#|]*)", line
            ):
                helps.setdefault(command, _help(command))
                own = rest.split(" -- ")[0]
                for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", own):
                    assert option in helps[command], f"{page.name}: gpucost {command} {option}"


def test_every_command_is_in_the_readme_or_the_documents():
    from gpucost.cli.app import COMMANDS

    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for command in COMMANDS:
        assert f"gpucost {command}" in text, command


def test_the_report_in_the_readme_is_that_of_the_sample_run():
    (sample,) = [
        run
        for run in (ROOT / "sample_data" / "runs").iterdir()
        if '"name": "agent"' in (run / "run.json").read_text(encoding="utf-8")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "gpucost", "report", sample], capture_output=True, encoding="utf-8", check=True, cwd=ROOT
    )
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split("```text\n")[1].split("```")[0].splitlines()
    assert len(shown) > 40
    printed = done.stdout.splitlines()
    assert [line for line in shown if line not in printed] == []
