"""The action, the workflows and the templates: what they pin, what they may do, and that the action's scripts do what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gpucost._config_file import read
from gpucost.ci import FORGES
from gpucost.gates.settings import settings_of
from run_maker import make_run

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = [
    *sorted((ROOT / ".github/workflows").glob("*.yml")),
    *sorted((ROOT / "docs/ci").rglob(".github/workflows/*.yml")),
]
ACTION = ROOT / "action.yml"
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of(path: Path) -> list[dict]:
    document = load(path)
    jobs = document["jobs"].values() if "jobs" in document else [document["runs"]]
    return [step for job in jobs for step in job["steps"]]


def ident(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_workflows_to_look_at():
    assert len(WORKFLOWS) == 4


@pytest.mark.parametrize("path", [ACTION, *WORKFLOWS], ids=ident)
def test_everything_that_is_used_is_pinned_by_a_whole_commit(path):
    used = re.findall(r"^\s*(?:-\s*)?uses:\s*(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert used == [step["uses"] for step in steps_of(path) if "uses" in step]
    assert [name for name in used if name != "./" and not PINNED.fullmatch(name)] == []


@pytest.mark.parametrize("path", [ACTION, *WORKFLOWS], ids=ident)
def test_no_script_has_text_put_into_it(path):
    scripts = [step["run"] for step in steps_of(path) if "run" in step]
    assert [script for script in scripts if "${{" in script] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=ident)
def test_every_workflow_has_the_least_permissions(path):
    document = load(path)
    assert document["permissions"] in ({}, {"contents": "read"})
    for job in document["jobs"].values():
        assert "timeout-minutes" in job or "docs" in path.parts
        allowed = {"contents": "read", "actions": "read", "pull-requests": "write"}
        assert job.get("permissions", {}).items() <= allowed.items()


@pytest.mark.parametrize("path", WORKFLOWS, ids=ident)
def test_no_workflow_runs_a_strangers_code_with_a_token_that_may_write(path):
    text = path.read_text(encoding="utf-8")
    assert "pull_request_target" not in text
    if "workflow_run" in load(path)[True]:  # YAML 1.1 reads the key `on` as true
        checkouts = [step for step in steps_of(path) if "checkout" in step.get("uses", "")]
        assert checkouts
        assert all("ref" not in step["with"] and "repository" not in step["with"] for step in checkouts)


@pytest.mark.parametrize("path", WORKFLOWS, ids=ident)
def test_no_checkout_leaves_the_token_behind(path):
    for step in steps_of(path):
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=ident)
def test_what_a_workflow_gives_the_action_are_inputs_of_it(path):
    known = set(load(ACTION)["inputs"])
    for step in steps_of(path):
        if step.get("uses") == "./" or "gpucost@" in step.get("uses", ""):
            assert set(step["with"]) <= known


def test_the_names_in_the_second_workflows_are_those_of_the_first():
    for folder in (ROOT / ".github/workflows", ROOT / "docs/ci/example/.github/workflows"):
        for second in folder.glob("*-comment.yml"):
            (first_name,) = load(second)[True]["workflow_run"]["workflows"]
            first = next(path for path in folder.glob("*.yml") if load(path)["name"] == first_name)
            steps = {step.get("id") or step.get("uses"): step for step in steps_of(second)}
            job = steps["fetch"]["with"]["name"].removeprefix("gpucost-").removesuffix("-0")
            assert job in load(first)["jobs"]
            keys = [step["with"]["key"] for step in steps_of(second) if "pull-request-file" in step.get("with", {})]
            assert keys == [f"{first_name}/{job}"]


def test_every_input_of_the_action_is_described_and_used():
    action = load(ACTION)
    text = ACTION.read_text(encoding="utf-8")
    for name, given in action["inputs"].items():
        assert given["description"]
        assert f"inputs.{name}" in text, name


@pytest.mark.parametrize("path", [ROOT / "docs/ci/gitlab-ci.yml", ROOT / "docs/ci/buildkite.yml"], ids=ident)
def test_the_templates_are_yaml_and_the_example_has_the_same(path):
    assert load(path)
    copies = {"gitlab-ci.yml": ".gitlab-ci.yml", "buildkite.yml": ".buildkite/pipeline.yml"}
    copy = ROOT / "docs/ci/example" / copies[path.name]
    assert copy.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_the_gitlab_template_hands_over_what_is_written():
    job = load(ROOT / "docs/ci/gitlab-ci.yml")["gpucost"]
    assert job["artifacts"]["reports"] == {
        "junit": "gpucost-report/junit.xml",
        "metrics": "gpucost-report/openmetrics.txt",
    }
    assert job["artifacts"]["when"] == "always"


@pytest.mark.skipif(not shutil.which("actionlint"), reason="actionlint is not on the path")
def test_actionlint_finds_nothing():
    done = subprocess.run(["actionlint", *map(str, WORKFLOWS)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# --- the action's scripts, run as a runner would run them -----------------------------------------------------------------------------------------


class Runner:
    """As much of a runner as the action needs: expressions out of a table, steps in their order, outputs between them."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.home = folder / "home"
        (self.home / "venv/bin").mkdir(parents=True)
        (self.home / "bin").mkdir()
        (self.home / "runs").mkdir()
        launcher = self.home / "venv/bin/gpucost"
        launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gpucost "$@"\n')
        launcher.chmod(0o755)
        (self.home / "bin/gpucost").symlink_to(launcher)
        self.environ = environ
        self.uploaded: dict | None = None

    def act(self, **inputs: str) -> tuple[int, dict[str, dict[str, str]], str]:
        """The exit code of the last step, the outputs of all, and the log."""
        action = load(ACTION)
        values = {name: str(given.get("default", "")) for name, given in action["inputs"].items()} | {
            name.replace("_", "-"): value for name, value in inputs.items()
        }
        outputs, log, code = {"install": {"home": str(self.home)}}, "", 0
        for number, step in enumerate(action["runs"]["steps"]):
            if step.get("id") == "install" or not self._wanted(step, values):
                continue
            if "uses" in step:
                self.uploaded = {key: self._text(value, values, outputs) for key, value in step["with"].items()}
                continue
            file = self.folder / f"output-{number}"
            file.touch()
            env = {name: self._text(value, values, outputs) for name, value in step["env"].items()}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
                cwd=self.folder / self._text(step.get("working-directory", "."), values, outputs),
                env={**os.environ, **self.environ, **env, "GITHUB_OUTPUT": str(file), "RUNNER_TEMP": str(self.folder)},
                capture_output=True,
                text=True,
                check=False,
            )
            code, log = done.returncode, log + done.stdout + done.stderr
            outputs[step.get("id", "last")] = _outputs(file.read_text(encoding="utf-8"))
            if code:
                break
        return code, outputs, log

    def _wanted(self, step: dict, values: dict[str, str]) -> bool:
        condition = step.get("if")
        if condition is None:
            return True
        name = re.fullmatch(r"inputs\.([\w-]+) != ''", condition).group(1)
        return values[name] != ""

    def _text(self, text: str, values: dict[str, str], outputs: dict[str, dict[str, str]]) -> str:
        def value(found: re.Match) -> str:
            expression = found.group(1)
            if expression.startswith("inputs."):
                return values[expression.removeprefix("inputs.")]
            if expression.startswith("steps."):
                _, step, _, name = expression.split(".")
                return outputs.get(step, {}).get(name, "")
            return {"github.token": "ghs_x"}.get(expression, "")

        return EXPRESSION.sub(value, str(text))


def _outputs(text: str) -> dict[str, str]:
    """As the runner reads the file: NAME=VALUE, or NAME<<END and lines until END."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, between, value = re.fullmatch(r"([^=<]+)(=|<<)(.*)", line).groups()
        if between == "<<":
            end, parts = value, []
            for inner in lines:
                if inner == end:
                    break
                parts.append(inner)
            value = "\n".join(parts)
        found[name] = value
    return found


@pytest.fixture
def runner(tmp_path, github_env):
    folder = tmp_path / "work"
    folder.mkdir()
    github_env.pop("GITHUB_OUTPUT")
    github_env.pop("GITHUB_TOKEN")
    return Runner(folder, github_env)


def test_the_action_records_a_command_and_attaches_its_report(runner, forge):
    command = 'env; [ -z "${GPUCOST_ACTION_RUN:-}" ]\necho hello > hello.txt\ngpucost stage greet -- sleep 0.3'
    code, outputs, log = runner.act(
        run=command, gpus="sim:h100", name="demo", labels="team=search\nsuite=nightly", gates="cost=100\nduration=1h"
    )
    assert code == 0, log
    assert "PATH=" in log
    assert "ghs_x" not in log
    assert outputs["record"]["exit-code"] == "0"
    manifest = json.loads((Path(outputs["record"]["recording"]) / "run.json").read_text())
    assert manifest["name"] == "demo"
    assert manifest["labels"].items() >= {"team": "search", "suite": "nightly"}.items()
    assert (runner.folder / "hello.txt").exists()
    assert outputs["report"]["passed"] == "true"
    assert float(outputs["report"]["cost-usd"]) > 0
    assert len(forge.comments) == 1
    assert runner.uploaded["path"] == "./gpucost-report"
    report = runner.folder / "gpucost-report"
    assert (report / "pull-request.txt").read_text() == "7\n"
    assert (report / "recording" / manifest["run_id"] / "run.json").exists()
    assert "greet" in (report / "report.md").read_text()


def test_a_command_that_fails_is_reported_all_the_same_and_fails_the_step(runner, forge):
    code, outputs, _ = runner.act(run="exit 7", gpus="sim:h100")
    assert (code, outputs["record"]["exit-code"]) == (7, "7")
    assert outputs["report"]["code"] == "0"
    assert len(forge.comments) == 1


def test_a_failed_gate_fails_the_step_after_the_files_are_uploaded(runner, tmp_path):
    run = make_run(tmp_path / "runs", price_request="3.60")
    code, outputs, log = runner.act(recording=str(run), gates="cost=0.01")
    assert code == 1
    assert runner.uploaded is not None
    assert outputs["report"]["passed"] == "false"
    assert "::error title=gpucost%3A " in log
    code, outputs, log = runner.act(recording=str(run), gates="cost=0.01", fail="false")
    assert (code, outputs["report"]["passed"]) == (0, "false")
    assert "::warning title=" in log


def test_neither_a_command_nor_a_recording_is_a_mistake(runner):
    code, _, log = runner.act()
    assert code == 2
    assert "give the input run or recording" in log


def test_inputs_are_words_and_never_a_script(runner, tmp_path, forge):
    evil = "$(touch pwned) `touch pwned` \"; touch pwned; ' -- --out=/"
    run = make_run(tmp_path / "runs", price_request="3.60")
    code, outputs, log = runner.act(recording=str(run), baseline=f"name:{evil}", report="out; touch pwned")
    assert code == 0, log
    assert outputs["report"]["report"] == "out; touch pwned"
    code, outputs, _ = runner.act(run="true", gpus="sim:h100", name=evil, labels=f"x={evil}")
    assert code == 0
    assert json.loads((Path(outputs["record"]["recording"]) / "run.json").read_text())["name"] == evil
    assert not list(tmp_path.rglob("pwned"))


def test_the_examples_configuration_is_read_as_gates():
    config = read(str(ROOT / "docs/ci/example/gpucost.toml"))
    gates = {(request.gate, request.stage) for request in settings_of(config).gates}
    assert gates == {("cost", None), ("idle_share", None), ("cost_increase", None), ("cost", "evaluate")}


def test_the_help_names_every_forge():
    from gpucost.cli import ci

    assert ci._PROVIDERS.split("|") == ["auto", *FORGES]
