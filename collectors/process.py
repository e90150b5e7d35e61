"""The command's whole tree of processes, once a second: CPU, memory, storage I/O, threads, state, context switches.

A process is its pid and its start time. State and context switches are those of the main thread, as /proc gives them; everything else is
the whole process's.
"""

from collections.abc import Sequence

from gpucost.collectors import _proc
from gpucost.collectors.base import Context, SourceUnavailable, Tier
from gpucost.schema import ProcessRow

_HZ = 1.0


class ProcessCollector:
    """One row of `process` for each process of the tree at each poll."""

    name = "process"

    def __init__(self, proc: _proc.Proc | None = None) -> None:
        self._proc = proc or _proc.Proc()
        self._context: Context | None = None
        self._tree: _proc.Tree | None = None

    def start(self, context: Context) -> Sequence[Tier]:
        """Find the tree's root.

        Raises:
            SourceUnavailable: there is no /proc that shows this process.
        """
        if problem := self._proc.why_not():
            raise SourceUnavailable(f"the command's processes are not recorded: {problem}", permanent=True)
        self._context = context
        attached = _proc.Attached(context.attached_pids, context.attached_names, self._proc)
        self._tree = _proc.Tree(
            context.root_pid, own_pids=_proc.own_pids(context.status), proc=self._proc, attached=attached
        )
        return [Tier("tree", round(1e9 / min(_HZ, context.hz)))]

    def sample(self, tier: str) -> None:  # noqa: ARG002 (there is one)
        """Read every process of the tree once."""
        context, tree = self._context, self._tree
        if context is None or tree is None:
            return
        time_ns, mono_ns = context.clock.time_ns(), context.clock.mono_ns()
        for stat in tree.refresh():
            context.emit("process", self._row(time_ns, mono_ns, stat))

    def stop(self) -> None:
        """Nothing is open between polls."""
        self._tree = None

    def _row(self, time_ns: int, mono_ns: int, stat: _proc.Stat) -> ProcessRow:
        read_bytes, write_bytes = self._proc.storage_bytes(stat.pid)
        status = self._proc.status(stat.pid)
        return ProcessRow(
            time_ns=time_ns,
            mono_ns=mono_ns,
            pid=stat.pid,
            start_time_ns=_proc.start_time_ns(stat.start_ticks),
            ppid=stat.ppid,
            name=stat.name,
            state=stat.state,
            cpu_s=stat.cpu_ticks / _proc.ticks_per_second(),
            rss_bytes=stat.rss_pages * _proc.page_bytes() if status.rss_bytes is None else status.rss_bytes,
            read_bytes=read_bytes,
            write_bytes=write_bytes,
            threads=stat.threads,
            voluntary_switches=status.voluntary_switches,
            involuntary_switches=status.involuntary_switches,
        )
