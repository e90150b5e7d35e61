"""One recording from end to end: check, start the command, sample beside it, close the run, say what it cost.

The order is the point. What can be refused is refused before the command starts; the command starts before anything heavy is imported;
and from then on nothing that breaks in gpucost may reach the command.
"""

import json
import os
import sys
import time

from gpucost import rundir
from gpucost._version import SCHEMA_VERSION
from gpucost.errors import GpucostError, UsageError
from gpucost.recorder.options import RecordOptions, check, parse_call_budget, parse_hz, parse_labels
from gpucost.recorder.redact import redact

TYPE_CHECKING = False  # typing's import would cost start-up time
if TYPE_CHECKING:
    from gpucost.recorder.launch import Supervisor


def record(options: RecordOptions) -> int:
    """Record a command; return what the process should exit with (the command's exit code).

    Raises:
        GpucostError: something was refused, and the command was not started.
    """
    check(options)
    _apply_configuration(options)
    host = rundir.safe_host(os.uname().nodename)
    started_time_ns, started_mono_ns = time.time_ns(), time.monotonic_ns()
    if options.join is not None:
        return _join(options, _absolute(options.join), host, started_time_ns, started_mono_ns)
    runs = _absolute(options.runs or os.environ.get("GPUCOST_RUNS") or rundir.DEFAULT_RUNS)
    run_dir = rundir.create(runs, rundir.new_run_id(started_time_ns), host)
    manifest = _first_manifest(options, run_dir, host, started_time_ns, started_mono_ns)
    try:
        _write_first_manifest(run_dir, manifest)
    except OSError as error:
        rundir.remove_empty(run_dir, host)
        raise UsageError(
            f"cannot write to {run_dir}: {error.strerror}", hint="choose another place with --runs DIR"
        ) from error
    return _record_into(options, run_dir, host, manifest)


def _join(options: RecordOptions, run_dir: str, host: str, time_ns: int, mono_ns: int) -> int:
    """Record into a run that another machine is recording; what this machine says of itself stands in its own folder."""
    _refuse_to_join(run_dir)
    manifest = _first_manifest(options, run_dir, host, time_ns, mono_ns)
    folder = rundir.host_dir(run_dir, host)
    try:
        os.mkdir(folder, 0o700)
        rundir.add_host(run_dir, host)
        _write_first_manifest(folder, manifest)
    except FileExistsError as error:
        raise UsageError(
            f"{rundir.printable(run_dir)} has a host {host} already",
            hint="a machine can be in a run once; record another run",
        ) from error
    except OSError as error:
        rundir.remove_joined(run_dir, host)
        raise UsageError(f"cannot write to {rundir.printable(run_dir)}: {error.strerror}") from error
    return _record_into(options, run_dir, host, manifest, joined=True)


def _refuse_to_join(run_dir: str) -> None:
    name = rundir.printable(run_dir)
    try:
        with open(rundir.manifest_path(run_dir), "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{name} is not a run that can be joined", hint="give the directory that holds its run.json"
        ) from error
    if not isinstance(found, dict) or found.get("status") != "recording":
        raise UsageError(f"{name} is not being recorded any more", hint="record a run of its own")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"{name} is being recorded by another version of gpucost", hint="use the same version on all machines"
        )


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError as error:
        raise UsageError("the working directory is gone", hint="go to one that exists, or use --runs DIR") from error


def _record_into(
    options: RecordOptions, run_dir: str, host: str, manifest: dict[str, object], *, joined: bool = False
) -> int:
    from gpucost.recorder import launch  # signals of a kind that not every system has

    supervisor = launch.Supervisor()
    supervisor.die_if_asked_already()
    launch.become_subreaper()
    environ = {**os.environ, **_environment(run_dir, host)}
    try:
        command = supervisor.start(options.command, environ)
    except launch.CommandNotStartedError as error:
        (rundir.remove_joined if joined else rundir.remove_empty)(run_dir, host)
        print(f"gpucost: {error}", file=sys.stderr)
        return error.exit_code
    launch.detach_stdio(keep_stderr=not options.quiet or options.live)
    try:
        from gpucost.recorder.machinery import Machinery

        folder = rundir.host_dir(run_dir, host) if joined else run_dir
        machinery = Machinery(options, supervisor, run_dir, host, manifest, environ, manifest_folder=folder)
        machinery.start()
        machinery.serve()
    except Exception as error:  # noqa: BLE001 (whatever breaks here, the command runs on)
        _say(options, f"gpucost: recording failed, the command runs on: {type(error).__name__}: {error}")
        return _only_wait(supervisor)
    code = 1 if command.exit_code is None else command.exit_code
    try:
        machinery.finish()
    except Exception as error:  # noqa: BLE001 (the exit code is the command's, whatever happens to the recording)
        _say(
            options, f"gpucost: the run was not closed ({type(error).__name__}: {error}); see: gpucost report {run_dir}"
        )
    if machinery.hung:
        os._exit(code)  # the interpreter would wait for a thread that never comes back
    return code


def _only_wait(supervisor: "Supervisor") -> int:
    command = supervisor.command
    while command is not None and command.status is None:
        supervisor.wait(1.0)
    code = command.exit_code if command is not None else None
    return 1 if code is None else code


def _apply_configuration(options: RecordOptions) -> None:
    """Fill in what the command line left open and the configuration file answers; costs nothing where there is no such file."""
    from gpucost import config

    if None in (options.runs, options.hz, options.call_budget) and config.exists():
        settings = config.load()
        options.runs = options.runs or os.environ.get("GPUCOST_RUNS") or settings.runs
        if options.hz is None and settings.hz is not None:
            options.hz = str(parse_hz(settings.hz))
        if options.call_budget is None and settings.call_budget_pct is not None:
            options.call_budget = str(parse_call_budget(settings.call_budget_pct))


def _first_manifest(options: RecordOptions, run_dir: str, host: str, time_ns: int, mono_ns: int) -> dict[str, object]:
    """The least that makes the directory a run, in plain values; the machinery completes it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": os.path.basename(run_dir),
        "status": "recording",
        "command": redact(options.command),
        "name": options.name,
        "labels": parse_labels(options.labels),
        "start_time_ns": time_ns,
        "start_mono_ns": mono_ns,
        "parent_run_id": os.environ.get("GPUCOST_RUN_ID") or None,
        "bill": options.bill,
        "price_request": options.price if options.price is not None else os.environ.get("GPUCOST_PRICE") or None,
        "hosts": {host: {"name": host, "start_time_ns": time_ns, "start_mono_ns": mono_ns}},
    }


def _write_first_manifest(run_dir: str, manifest: dict[str, object]) -> None:
    """Whole or not at all: a recorder that is killed here, or a disk that fills up, leaves no half of a manifest behind."""
    data = json.dumps(manifest, indent=1).encode()
    temporary = os.path.join(run_dir, f"{rundir.TEMPORARY_MANIFEST}{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        os.rename(temporary, rundir.manifest_path(run_dir))
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise


def _environment(run_dir: str, host: str) -> dict[str, str]:
    return {
        "GPUCOST_RUN_ID": os.path.basename(run_dir),
        "GPUCOST_RUN_DIR": run_dir,
        "GPUCOST_STAGE_FILE": rundir.stage_file(run_dir, host),
        "GPUCOST_STAGE_ID": "",
    }


def _say(options: RecordOptions, line: str) -> None:
    if not options.quiet:
        try:
            os.write(2, line.encode(errors="replace") + b"\n")
        except OSError:
            pass  # nobody listens any more


__all__ = ["GpucostError", "record"]
