"""All that runs beside the command: collectors, journal, manifest, sealing; and the closing of the run."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpucost import _version, rundir
from gpucost.clock import Clock, SystemClock
from gpucost.collectors import create
from gpucost.collectors.base import Collector, Context
from gpucost.manifest import COMPLETE, Gpu, Host, Manifest
from gpucost.recorder import closing, labels
from gpucost.recorder.events import EventLog
from gpucost.recorder.launch import Supervisor
from gpucost.recorder.live import LiveLine
from gpucost.recorder.options import DEFAULT_CALL_BUDGET_PCT, DEFAULT_HZ, RecordOptions
from gpucost.recorder.sampler import Runner
from gpucost.recorder.writer import WriterThread
from gpucost.store.journal import MAX_AGE_NS, JournalWriter
from gpucost.store.manifest_io import write_manifest

_BEAT_S = 1.0
_COLLECTORS_TIMEOUT_S = 1.0
_WRITER_TIMEOUT_S = 5.0
_ROOT = str(Path(_version.__file__).resolve().parent.parent)
_RUN_MODULE = "import sys, runpy; sys.path.append(sys.argv.pop(1)); name = sys.argv.pop(1); runpy.run_module(name, run_name='__main__', alter_sys=True)"


class Machinery:
    """One recorder at work. Created after the command was started; `start`, `serve`, `finish` in this order.

    `segment_age_ns` is the time from one rotation of the journal to the next, and a sealer is started after `seal_after` of them.
    """

    def __init__(
        self,
        options: RecordOptions,
        supervisor: Supervisor,
        run_dir: str,
        host: str,
        manifest: dict[str, Any],
        environ: Mapping[str, str],
        *,
        manifest_folder: str | None = None,
        clock: Clock | None = None,
        segment_age_ns: int = MAX_AGE_NS,
        seal_after: int = 1,
    ) -> None:
        self.options = options
        self.supervisor = supervisor
        self.run_dir = run_dir
        self.host = host
        self.manifest_folder = manifest_folder or run_dir
        self.environ = environ
        self.clock: Clock = clock or SystemClock()
        self.manifest = Manifest.from_json(manifest)
        self.hz = float(options.hz) if options.hz is not None else DEFAULT_HZ
        self.call_budget_pct = (
            float(options.call_budget) if options.call_budget is not None else DEFAULT_CALL_BUDGET_PCT
        )
        self.writer_id = rundir.new_token()
        self.journal = JournalWriter(
            rundir.journal_dir(run_dir, host), self.writer_id, self.clock, max_age_ns=segment_age_ns
        )
        self.writer = WriterThread(self.journal, self.clock, beat=self._beat, rotated=self._want_sealing)
        self.events = EventLog(self.writer.emit, self.clock)
        self.live = LiveLine(self.manifest, self.clock) if options.live and os.isatty(2) else None
        self.runners: list[Runner] = []
        self.status: dict[str, Any] = {"recorder": {"own_pids": supervisor.witness.pids}}
        self._lock_fd = -1
        self._manifest_dirty = False
        self._seal_after = seal_after
        self._rotations = 0  # since a sealer was started
        self.sealer: int | None = None

    def start(self) -> None:
        """Take the lock, complete the manifest, and start every thread."""
        self._lock_fd = rundir.hold_lock(rundir.lock_file(self.run_dir, self.host))
        command = self.supervisor.command
        if command is None:
            raise RuntimeError("the command has not been started")
        self._settle_start(command.started_time_ns, command.started_mono_ns)
        self.writer.start()
        collectors, broken = create(self.options.gpus)
        for line in broken:
            self.events.report("recorder", "collector_failed", line)
        for collector in collectors:
            runner = Runner(collector, self._context(collector, command.pid), command.started_mono_ns)
            self.runners.append(runner)
            self.status.setdefault(collector.name, runner.status)  # "recorder" stands for the whole process
        for runner in self.runners:
            runner.start()
        self.manifest.labels = {**labels.current(os.environ), **self.manifest.labels}
        self.manifest.recorder = {
            "version": _version.__version__,
            "pid": os.getpid(),
            "command_pid": command.pid,
            "hz": self.hz,
            "call_budget_pct": self.call_budget_pct,
            "gpus": self.options.gpus,
            "attached": [*map(int, self.options.attach), *self.options.attach_names],
            "writer": self.writer_id,
            "collectors": [collector.name for collector in collectors],
        }
        self._manifest_dirty = True

    def _settle_start(self, time_ns: int, mono_ns: int) -> None:
        """The run starts when its command does, not when its directory was made."""
        self.manifest.start_time_ns, self.manifest.start_mono_ns = time_ns, mono_ns
        host = self.manifest.hosts[self.host]
        host.start_time_ns, host.start_mono_ns = time_ns, mono_ns

    def _context(self, collector: Collector, command_pid: int) -> Context:
        emit = self.live.watch(self.writer.emit) if self.live else self.writer.emit
        return Context(
            clock=self.clock,
            emit=emit,
            report=self.events.reporter(collector.name),
            describe=self._describe,
            root_pid=os.getpid(),
            command_pid=command_pid,
            hz=self.hz,
            call_budget_pct=self.call_budget_pct,
            gpus=self.options.gpus,
            bill=self.options.bill,
            environ=self.environ,
            stage_file=rundir.stage_file(self.run_dir, self.host),
            status=self.status,
            attached_pids=tuple(map(int, self.options.attach)),
            attached_names=tuple(self.options.attach_names),
        )

    def _describe(self, key: str, value: Any) -> None:
        """Facts from a collector; the writer's thread puts them into `run.json`."""
        if key == "gpus":
            self.manifest.gpus = [Gpu(**{**fields, "host": self.host}) for fields in value]
        elif key == "driver":
            self.manifest.driver = {str(name): str(version) for name, version in value.items()}
        elif key == "host":
            known = {
                name: item
                for name, item in value.items()
                if name in Host.__dataclass_fields__ and not name.startswith("start")
            }
            for name, item in known.items():
                if name != "name":
                    setattr(self.manifest.hosts[self.host], name, item)
        else:
            self.manifest.recorder[key] = value
        self._manifest_dirty = True

    def serve(self) -> None:
        """Pass signals on and keep house until the command has ended."""
        command = self.supervisor.command
        next_beat = time.monotonic() + _BEAT_S
        while command is not None and command.status is None:
            self.supervisor.wait(next_beat - time.monotonic())
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + _BEAT_S
                self._keep_house()

    def _keep_house(self) -> None:
        for runner in self.runners:
            runner.look_after()
        self.events.watch_clocks()
        if self.live:
            self.live.draw()
        if self.sealer is not None and self.supervisor.ended(self.sealer) is not None:
            self.status["recorder"]["own_pids"].discard(self.sealer)
            self.sealer = None
        if self._rotations >= self._seal_after and self.sealer is None:
            self._rotations = 0
            self.sealer = self.start_own("gpucost.store.seal", self.run_dir, "--host", self.host)

    def _want_sealing(self) -> None:
        self._rotations += 1

    def start_own(self, module: str, *arguments: str) -> int | None:
        """Start a short-lived Python of our own, which is no part of the command's tree.

        It finds gpucost where this process found it, and never imports from the working directory (`-P`), which is the user's.
        """
        argv = [sys.executable, "-P", "-c", _RUN_MODULE, _ROOT, module, *arguments]
        try:
            pid = os.posix_spawn(sys.executable, argv, os.environ, setsigmask=self.supervisor.original_mask)
        except OSError as error:
            self.events.report("recorder", "sealing_failed", f"could not start the sealer: {error.strerror}")
            return None
        self.supervisor.adopt(pid)
        self.status["recorder"]["own_pids"].add(pid)
        return pid

    def _beat(self) -> None:
        """In the writer's thread: publish the journal's figures, and write the manifest when it has changed."""
        mine = self.status["recorder"]
        mine["journal_bytes"] = self.journal.bytes_written
        mine["rows_dropped"] = self.journal.rows_dropped + self.writer.dropped
        if self.journal.last_error:
            self.events.report(
                "recorder", "journal_failed", f"cannot write to the run directory: {self.journal.last_error}"
            )
        if self._manifest_dirty:
            self._manifest_dirty = False
            self._write_manifest()

    def _write_manifest(self) -> bool:
        try:
            write_manifest(self.manifest_folder, self.manifest)
        except OSError as error:
            self._manifest_dirty = True
            self.events.report("recorder", "manifest_failed", f"cannot write run.json: {error.strerror}")
            return False
        return True

    def finish(self) -> None:
        """Take the last samples, close the journal, say `complete`, seal, and print the summary. Never raises."""
        command = self.supervisor.command
        if command is None:
            return
        if self.live:
            self.live.clear()
        for runner in self.runners:
            runner.ask_to_stop()
        deadline = time.monotonic() + _COLLECTORS_TIMEOUT_S
        for runner in self.runners:
            runner.join(max(0.0, deadline - time.monotonic()))
            if runner.is_alive():
                self.events.report("recorder", "collector_stuck", f"{runner.collector.name} did not stop in time")
        written = self.writer.close(_WRITER_TIMEOUT_S)
        self.manifest.end_time_ns, self.manifest.end_mono_ns = command.ended_time_ns, command.ended_mono_ns
        self.manifest.exit_code = command.exit_code
        self.manifest.status = COMPLETE
        written = self._write_manifest() and written
        closing.close(self, written=written)
        os.close(self._lock_fd)

    @property
    def hung(self) -> bool:
        """Whether a thread is still inside a call that does not return."""
        return self.writer.is_alive() or any(runner.is_alive() for runner in self.runners)
