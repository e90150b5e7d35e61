"""Labels that a run gets by itself: where the code came from, and which job it is part of."""

import os
from collections.abc import Mapping
from pathlib import Path

_MAX_LENGTH = 256

_FROM_ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "ci.provider": (),
    "ci.repository": ("GITHUB_REPOSITORY", "CI_PROJECT_PATH", "BUILDKITE_REPO"),
    "ci.workflow": ("GITHUB_WORKFLOW", "CI_PIPELINE_NAME", "BUILDKITE_PIPELINE_SLUG"),
    "ci.job": ("GITHUB_JOB", "CI_JOB_NAME", "BUILDKITE_LABEL", "JOB_NAME"),
    "ci.run_id": ("GITHUB_RUN_ID", "CI_PIPELINE_ID", "BUILDKITE_BUILD_NUMBER", "BUILD_NUMBER"),
    "ci.attempt": ("GITHUB_RUN_ATTEMPT",),
    "slurm.job_id": ("SLURM_JOB_ID",),
    "slurm.array_task_id": ("SLURM_ARRAY_TASK_ID",),
    "slurm.job_name": ("SLURM_JOB_NAME",),
    "slurm.partition": ("SLURM_JOB_PARTITION",),
    "slurm.step_id": ("SLURM_STEP_ID",),
    "slurm.proc_id": ("SLURM_PROCID",),
    "k8s.pod.name": ("POD_NAME", "MY_POD_NAME", "K8S_POD_NAME"),
    "k8s.namespace.name": ("POD_NAMESPACE", "MY_POD_NAMESPACE", "K8S_NAMESPACE"),
    "k8s.node.name": ("NODE_NAME", "MY_NODE_NAME", "K8S_NODE_NAME"),
    "torchrun.run_id": ("TORCHELASTIC_RUN_ID",),
    "torchrun.rank": ("RANK",),
    "torchrun.local_rank": ("LOCAL_RANK",),
    "torchrun.world_size": ("WORLD_SIZE",),
}
_PROVIDERS = {
    "GITHUB_ACTIONS": "github",
    "GITLAB_CI": "gitlab",
    "BUILDKITE": "buildkite",
    "JENKINS_URL": "jenkins",
    "CIRCLECI": "circleci",
}


def detect(environ: Mapping[str, str], folder: str) -> dict[str, str]:
    """Labels from the environment and from the git checkout around `folder`; never runs a program."""
    labels: dict[str, str] = {}
    for variable, provider in _PROVIDERS.items():
        if environ.get(variable):
            labels["ci.provider"] = provider
    for label, variables in _FROM_ENVIRONMENT.items():
        if label.startswith("torchrun.") and "TORCHELASTIC_RUN_ID" not in environ:
            continue  # RANK alone says little: other launchers and users set it too
        if label.startswith("k8s.") and "KUBERNETES_SERVICE_HOST" not in environ:
            continue
        value = next((environ[name] for name in variables if environ.get(name)), None)
        if value:
            labels[label] = value[:_MAX_LENGTH]
    labels.update(_git(Path(folder)))
    return labels


def _git(folder: Path) -> dict[str, str]:
    try:
        git = _git_folder(folder)
        if git is None:
            return {}
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return {"git.commit": head[:_MAX_LENGTH]}
        ref = head.removeprefix("ref: ")
        labels = {"git.branch": ref.removeprefix("refs/heads/")[:_MAX_LENGTH]}
        commit = _resolve(git, ref)
        return {**labels, "git.commit": commit} if commit else labels
    except (OSError, ValueError):
        return {}


def _git_folder(folder: Path) -> Path | None:
    for parent in (folder, *folder.parents):
        candidate = parent / ".git"
        if candidate.is_dir():
            return candidate
        if candidate.is_file():  # a worktree or a submodule: "gitdir: <path>"
            target = candidate.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
            return (parent / target).resolve()
    return None


def _resolve(git: Path, ref: str) -> str | None:
    if ".." in ref.split("/"):
        return None
    roots = [git]
    common = git / "commondir"
    if common.is_file():
        roots.append((git / common.read_text(encoding="utf-8").strip()).resolve())
    for root in roots:
        loose = root / ref
        if loose.is_file():
            return loose.read_text(encoding="utf-8").strip()[:_MAX_LENGTH]
        packed = root / "packed-refs"
        if packed.is_file():
            for line in packed.read_text(encoding="utf-8").splitlines():
                commit, _, name = line.partition(" ")
                if name == ref:
                    return commit[:_MAX_LENGTH]
    return None


def current(environ: Mapping[str, str]) -> dict[str, str]:
    """`detect` for the current working directory, or nothing where there is none any more."""
    try:
        return detect(environ, os.getcwd())
    except FileNotFoundError:
        return {}
