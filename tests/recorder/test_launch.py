"""The command runs as if nothing stood between it and its parent: exit codes, signals, terminals, streams, orphans."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

LAUNCH = "import os, sys; from gpucost.recorder import launch; launch.become_subreaper(); sys.exit(launch.run(sys.argv[1:], dict(os.environ))[0])"


def launched(*argv: str) -> list[str]:
    return [sys.executable, "-c", LAUNCH, *argv]


def run(*argv: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(launched(*argv), capture_output=True, text=True, check=False, timeout=60, **options)


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", code


def wait_for_line(process: subprocess.Popen, word: str) -> None:
    assert word in process.stdout.readline()


@pytest.mark.parametrize("code", [0, 1, 3, 77, 255])
def test_the_exit_code_is_the_commands(code):
    assert run("sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "INT", "HUP", "USR1"])
def test_a_command_killed_by_a_signal_gives_128_and_its_number(name):
    assert run("sh", "-c", f"kill -{name} $$").returncode == 128 + getattr(signal, f"SIG{name}")


def test_a_command_that_does_not_exist_gives_127():
    with pytest.raises(launch_error()) as caught:
        spawn_here(["no-such-command-at-all"])
    assert caught.value.exit_code == 127
    assert "no such command" in str(caught.value)


def test_a_file_that_is_not_executable_gives_126(tmp_path):
    path = tmp_path / "data"
    path.write_text("x")
    with pytest.raises(launch_error()) as caught:
        spawn_here([str(path)])
    assert caught.value.exit_code == 126


def test_a_script_whose_interpreter_is_missing_gives_126(tmp_path):
    path = tmp_path / "script"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    with pytest.raises(launch_error()) as caught:
        spawn_here([str(path)])
    assert caught.value.exit_code == 126


def test_a_script_without_an_interpreter_line_is_run_by_the_shell(tmp_path):
    path = tmp_path / "script"
    path.write_text('echo "from the shell: $1"\n')
    path.chmod(0o755)
    assert run(str(path), "word").stdout == "from the shell: word\n"


def launch_error() -> type[Exception]:
    from gpucost.recorder.launch import CommandNotStartedError

    return CommandNotStartedError


def spawn_here(argv: list[str]) -> int:
    from gpucost.recorder.launch import spawn

    return spawn(argv, dict(os.environ), set())


def test_streams_pass_through_byte_for_byte():
    data = bytes(range(256)) * 500
    done = subprocess.run(
        launched("sh", "-c", "cat; echo error >&2"), input=data, capture_output=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == (data, b"error\n")


def test_arguments_and_environment_pass_through_unchanged():
    words = ["", "two words", "a'b\"c", "$HOME", "*", "--", "-x", "\n", "é"]
    code = "import os, sys; print(repr((sys.argv[1:], os.environ['GREETING'])))"
    done = run(*python(code), *words, env={**os.environ, "GREETING": "grüß\tgott"})
    assert done.stdout.strip() == repr((words, "grüß\tgott"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGRTMIN"])
def test_a_signal_sent_to_gpucost_alone_reaches_the_command_once(name):
    code = (
        "import signal, sys, time\n"
        "seen = []\n"
        f"signal.signal(signal.{name}, lambda *a: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "while not seen: time.sleep(0.02)\n"
        "time.sleep(0.3)\n"
        "sys.exit(40 + len(seen))\n"
    )
    with subprocess.Popen(
        launched(*python(code)), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for_line(process, "ready")
        process.send_signal(getattr(signal, name))
        assert process.wait(60) == 41


def test_gpucost_outlives_a_signal_that_the_command_survives():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(0.7); print('done')"
    with subprocess.Popen(launched(*python(code)), stdout=subprocess.PIPE, text=True) as process:
        wait_for_line(process, "ready")
        process.terminate()
        assert process.wait(60) == 0
        assert process.stdout.read() == "done\n"


def test_a_signal_ignored_by_the_parent_stays_ignored():
    """As under nohup."""
    code = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    done = subprocess.run(["nohup", *launched(*python(code))], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT", "SIGHUP"])
def test_a_signal_that_the_parent_ignores_still_reaches_a_command_that_asks_for_it(name):
    """A shell ignores INT and QUIT for what it starts in the background, and a program may want them all the same."""
    code = (
        "import signal, sys, time\n"
        f"signal.signal(signal.{name}, lambda *a: sys.exit(41))\n"
        "print('ready', flush=True); time.sleep(60)\n"
    )
    ignoring = ["env", f"--ignore-signal={name.removeprefix('SIG')}"]
    if subprocess.run([*ignoring, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this env cannot ignore signals")
    with subprocess.Popen([*ignoring, *launched(*python(code))], stdout=subprocess.PIPE, text=True) as process:
        wait_for_line(process, "ready")
        process.send_signal(getattr(signal, name))
        assert process.wait(60) == 41


def test_the_command_starts_with_the_signal_mask_and_the_pipe_signal_of_its_parent():
    code = (
        "import signal\n"
        "ignored = int(open('/proc/self/status').read().split('SigIgn:')[1].split()[0], 16)\n"
        "of_the_c_library = 3 << 31  # signals 32 and 33 belong to the threads library, which resets them itself\n"
        "print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), hex(ignored & ~of_the_c_library))\n"
    )
    plain = subprocess.run(python(code), capture_output=True, text=True, check=True, timeout=60)
    assert run(*python(code)).stdout == plain.stdout


def test_a_broken_pipe_kills_the_command_as_it_would_without_gpucost():
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1; echo "${PIPESTATUS[0]}"', "bash", *launched("yes")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["y", "141"]


def test_orphans_of_the_command_stay_below_gpucost():
    code = (
        "import os, sys, time\n"
        "top = os.getppid()\n"
        "r, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(0.3); os.write(w, str(os.getppid() == top).encode()); os._exit(0)\n"
        "    os._exit(0)\n"
        "os.wait(); print(os.read(r, 9).decode())\n"
    )
    assert run(*python(code)).stdout.strip() == "True"


def test_gpucost_does_not_wait_for_a_daemon_that_the_command_leaves_behind():
    began = time.monotonic()
    done = subprocess.run(
        launched("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0
    assert time.monotonic() - began < 50
    os.kill(int(done.stdout), signal.SIGKILL)


class Terminal:
    """A shell with job control on a pseudo-terminal of its own."""

    def __init__(self) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], {**os.environ, "PS1": "$ ", "TERM": "dumb"})
        attributes = termios.tcgetattr(self.fd)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, word: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while word not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {word!r} in {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
        self.seen = self.seen.split(word, 1)[1]

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def terminal():
    terminal = Terminal()
    terminal.expect("$ ")
    yield terminal
    terminal.close()


def script(tmp_path, code: str) -> str:
    """A shell line that runs `code` under the launcher."""
    path, launcher = tmp_path / "command.py", tmp_path / "launcher.py"
    path.write_text(code)
    launcher.write_text(LAUNCH)
    return f"{sys.executable} {launcher} {sys.executable} {path}"


def test_ctrl_c_at_a_terminal_reaches_the_command_exactly_once(terminal, tmp_path):
    code = (
        "import signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *a: seen.append(1))\n"
        "print('rea' + 'dy', flush=True)\n"
        "while not seen: time.sleep(0.05)\n"
        "time.sleep(0.5); print('got', len(seen), flush=True); sys.exit(9)\n"
    )
    terminal.type(script(tmp_path, code) + "; echo code=$?\n")
    terminal.expect("ready")
    terminal.type("\x03")
    terminal.expect("got 1")
    terminal.expect("code=9")


def test_ctrl_z_and_fg_stop_and_continue_the_job(terminal, tmp_path):
    code = "print('rea' + 'dy', flush=True); print('read ' + input(), flush=True)"
    terminal.type(script(tmp_path, code) + "; echo code=$?\n")
    terminal.expect("ready")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("fg\n")
    terminal.expect("launcher.py")
    terminal.type("hello\n")
    terminal.expect("read hello")


def test_a_command_that_ignores_ctrl_z_is_not_stopped(terminal, tmp_path):
    code = "import signal; signal.signal(signal.SIGTSTP, signal.SIG_IGN); print('rea' + 'dy', flush=True); print('read ' + input(), flush=True)"
    terminal.type(script(tmp_path, code) + "; echo code=$?\n")
    terminal.expect("ready")
    terminal.type("\x1ahello\n")
    terminal.expect("read hello")
    terminal.expect("code=0")


def test_the_command_has_the_terminal(terminal, tmp_path):
    code = "import os; print('tty', [os.isatty(fd) for fd in (0, 1, 2)], os.tcgetpgrp(0) == os.getpgrp(), os.ttyname(0) == os.ttyname(1), flush=True)"
    terminal.type(script(tmp_path, code) + "\n")
    terminal.expect("tty [True, True, True] True True")
