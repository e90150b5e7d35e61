"""Labels that a run gets by itself."""

import subprocess

from gpucost.recorder.labels import detect


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def commit_of(folder) -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(folder):
    folder.mkdir()
    git(folder, "init")
    git(folder, "commit", "--allow-empty", "-m", "one")
    return folder


def test_commit_and_branch_come_from_the_checkout_around_the_working_directory(tmp_path):
    top = repository(tmp_path / "a")
    inside = top / "deep" / "er"
    inside.mkdir(parents=True)
    assert detect({}, str(inside)) == {"git.branch": "main", "git.commit": commit_of(top)}


def test_packed_references_worktrees_and_a_detached_head_are_understood(tmp_path):
    top = repository(tmp_path / "a")
    git(top, "pack-refs", "--all")
    assert detect({}, str(top))["git.commit"] == commit_of(top)
    git(top, "worktree", "add", "-b", "side", str(tmp_path / "b"))
    assert detect({}, str(tmp_path / "b")) == {"git.branch": "side", "git.commit": commit_of(top)}
    git(top, "checkout", "--detach")
    assert detect({}, str(top)) == {"git.commit": commit_of(top)}


def test_no_checkout_and_a_broken_one_give_no_labels(tmp_path):
    assert detect({}, str(tmp_path)) == {}
    (tmp_path / ".git").mkdir()
    assert detect({}, str(tmp_path)) == {}
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/../../../etc/passwd\n")
    assert "git.commit" not in detect({}, str(tmp_path))


def test_a_ci_job_is_recognized(tmp_path):
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_JOB": "eval", "GITHUB_RUN_ID": "7", "GITHUB_REPOSITORY": "a/b"}
    assert detect(environ, str(tmp_path)) == {
        "ci.provider": "github",
        "ci.job": "eval",
        "ci.run_id": "7",
        "ci.repository": "a/b",
    }


def test_slurm_kubernetes_and_torchrun_are_recognized(tmp_path):
    environ = {
        "SLURM_JOB_ID": "12", "KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAME": "p", "POD_NAMESPACE": "n",
        "TORCHELASTIC_RUN_ID": "r", "RANK": "3", "WORLD_SIZE": "8",
    }  # fmt: skip
    assert detect(environ, str(tmp_path)) == {
        "slurm.job_id": "12", "k8s.pod.name": "p", "k8s.namespace.name": "n",
        "torchrun.run_id": "r", "torchrun.rank": "3", "torchrun.world_size": "8",
    }  # fmt: skip


def test_a_rank_without_torchrun_and_a_pod_name_without_kubernetes_say_nothing(tmp_path):
    assert detect({"RANK": "3", "POD_NAME": "p"}, str(tmp_path)) == {}
