"""What can happen to a worker ends one test and not the run: real processes that run out of memory, break, hang and are killed."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="a worker needs torch (pip install 'gpucost[bench]')")

from gpucost.bench.supervisor import Worker, worker_command, worker_environment

SCRIPT = Path(__file__).parent.parent / "benching" / "standin_worker.py"


def made(kind="cpu", **environ):
    base = worker_environment(None)
    return Worker([sys.executable, str(SCRIPT), kind], {**base, **environ})


@pytest.fixture(scope="module")
def shared():
    """One worker for all that does not harm it."""
    worker = made()
    yield worker
    worker.close()


def test_a_worker_says_what_it_runs_on_and_answers(shared):
    assert shared.start().status == "ok"
    assert shared.hello["device"]["kind"] == "cpu"
    assert shared.hello["versions"]["torch"]
    assert shared.ask({"kind": "echo", "text": "hi"}).data["echo"] == "hi"


def test_an_error_of_one_test_leaves_the_worker_as_it_is(shared):
    pid = shared.ask({"kind": "echo", "text": ""}).data["pid"]
    failed = shared.ask({"kind": "raises"})
    assert (failed.status, failed.message) == ("failed", "RuntimeError: a fault")
    assert shared.ask({"kind": "echo", "text": ""}).data["pid"] == pid


def test_an_out_of_memory_is_tried_once_more_at_half_the_size(shared):
    half = shared.ask({"kind": "oom", "m": 8, "fits": 4})
    assert (half.status, half.data["m"]) == ("ok", 4)
    never = shared.ask({"kind": "oom", "m": 8, "fits": 1})
    assert never.status == "skipped_oom"
    assert "out of memory" in never.message


def test_memory_that_the_host_does_not_have_is_an_out_of_memory_too(shared):
    assert shared.ask({"kind": "host_oom"}).status == "skipped_oom"


def test_what_libraries_print_does_not_end_up_among_the_replies(shared):
    assert shared.ask({"kind": "echo", "text": "a\nb"}).data["echo"] == "a\nb"


def survives(worker, request, *, limit_s=None):
    """The reply to a request that costs the worker; a later request is answered by a new process."""
    restarts = []
    worker.on_restart(lambda: restarts.append(1))
    before, losses = worker.ask({"kind": "echo", "text": ""}).data["pid"], worker.losses
    reply = worker.ask(request, limit_s=limit_s)
    after = worker.ask({"kind": "echo", "text": ""})
    assert after.status == "ok"
    assert after.data["pid"] != before
    assert (worker.losses, restarts) == (losses + 1, [1])
    assert not _exists(before)
    return reply


def _exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_sticky_error_costs_the_worker_and_not_the_run(shared):
    reply = survives(shared, {"kind": "sticky"})
    assert reply.status == "failed"
    assert "illegal memory access" in reply.message


def test_a_hang_is_ended_at_its_limit(shared):
    reply = survives(shared, {"kind": "hang"}, limit_s=0.5)
    assert reply.status == "timeout"


def test_a_killed_worker_says_which_signal(shared):
    reply = survives(shared, {"kind": "killed"})
    assert (reply.status, "signal 9" in reply.message) == ("failed", True)


def test_a_worker_that_ends_by_itself_leaves_its_last_words(shared):
    reply = survives(shared, {"kind": "exits"})
    assert reply.status == "failed"
    assert "code 7" in reply.message
    assert "last words" in reply.message


def test_a_worker_killed_from_outside_between_two_requests_is_replaced(shared):
    pid = shared.ask({"kind": "echo", "text": ""}).data["pid"]
    os.kill(pid, signal.SIGKILL)
    while shared.running:
        time.sleep(0.01)
    assert shared.ask({"kind": "echo", "text": "again"}).data["echo"] == "again"


def test_what_a_worker_was_set_up_with_its_successor_gets_too(shared):
    assert shared.setup({"kind": "threads", "count": 1}).status == "ok"
    assert shared.ask({"kind": "cores"}).data["threads"] == 1
    survives(shared, {"kind": "hang"}, limit_s=0.3)
    assert shared.ask({"kind": "cores"}).data["threads"] == 1


def test_a_device_that_lets_nobody_in_is_given_up_after_two_tries():
    worker = made(STANDIN_REFUSES="1")
    reply = worker.ask({"kind": "echo", "text": ""})
    assert reply.status == "failed"
    assert "no such device" in reply.message
    assert worker.gone
    assert worker.ask({"kind": "echo", "text": ""}).status == "failed"
    assert len(worker.pids) == 2
    worker.close()


def test_a_torch_without_cuda_is_one_clear_line():
    worker = Worker(worker_command("device"), worker_environment(None))
    reply = worker.start()
    worker.close()
    assert reply.status == "failed"
    assert reply.message.startswith("the device cannot be used: ")
    assert "\n" not in reply.message


def test_the_end_of_its_parent_ends_a_hanging_worker(tmp_path):
    worker = made()
    pid = worker.ask({"kind": "echo", "text": ""}).data["pid"]
    worker._process.stdin.write('{"id": 9, "kind": "hang"}\n')
    worker._process.stdin.close()
    assert worker._process.wait(30) == 3
    assert not _exists(pid)
    worker.close()


def test_variables_that_would_change_what_is_measured_are_not_passed_on():
    base = {"NVIDIA_TF32_OVERRIDE": "1", "CUDA_LAUNCH_BLOCKING": "1", "PATH": "/bin"}
    assert worker_environment(["GPU-1", "GPU-2"], base) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}


def test_a_module_called_torch_beside_the_user_is_not_the_one_that_is_imported(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    worker = Worker(worker_command("cpu"), worker_environment(None))
    assert worker.start().status == "ok"
    worker.close()
