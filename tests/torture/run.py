"""The long form of the suite: every row, with its full count.

python tests/torture/run.py [--share N] [--lanes N] [--write FILE] [ROOM ...]     from the repository's root

`--share 10` does a tenth of everything; two rows run side by side (`--lanes`); `--write` keeps the tables as Markdown.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture import clocks, commands, deliveries, disk, drivers, kills, readers, scale, together
from torture.rows import Row, markdown

Work = Callable[[Path], Row | list[Row]]


def plan(share: int) -> dict[str, list[Work]]:
    """What each room does; `share` divides the counts."""

    def times(full: int) -> int:
        return max(1, full // share)

    return {
        "kills": [lambda f: kills.kills(f, times(1000), workers=6)],
        "disk": [
            lambda f: disk.full_at_every_write(f, every=share),
            lambda f: disk.small_disks(f, range(24, 1200, 24 * share)),
            lambda f: disk.breaks_in_mid_run(f, times(20)),
            lambda f: disk.slow(f, [1.0, 5.0]),
            lambda f: disk.cannot_sync(f, 30.0 if share == 1 else 4.0),
        ],
        "time": [
            clocks.clock_steps,
            lambda f: clocks.suspended(f, 30.0, times(4)),
            lambda f: clocks.late_ticks(f, 1000),
        ],
        "driver": [
            lambda f: drivers.hangs(f, 10.0, every=share),
            drivers.lost_and_back,
            lambda f: drivers.unsupported(f, every=share),
            lambda f: drivers.nonsense(f, every=share),
        ],
        "commands": [
            lambda f: commands.signal_matrix(f, every=share),
            lambda f: deliveries.deliveries(f, every=share),
            lambda f: commands.odd_commands(f, children=2000, output_mib=1024),
            commands.editor,
        ],
        "scale": [
            lambda f: scale.days(f, 72.0 / share, gpus=8),
            lambda f: scale.many_gpus(f, 30.0),
            lambda f: scale.many_processes(f, 5000),
            lambda f: scale.many_stages(f, 10_000),
        ],
        "fuzz": [lambda f: readers.fuzz(f, times(10_000))],
        "together": [
            lambda f: together.side_by_side_in_one_folder(f, times(50)),
            lambda f: together.nested(f, 4),
            lambda f: together.two_machines(f, times(5)),
        ],
    }


def do(room: str, number: int, share: int, folder: Path) -> list[Row]:
    """One item of the plan; whatever breaks in it is a failure of its row."""
    began = time.monotonic()
    try:
        found = plan(share)[room][number](folder)
    except Exception:  # the other rows are done all the same
        found = Row(room, f"item {number}", failures=[traceback.format_exc(limit=-3)])
    rows = found if isinstance(found, list) else [found]
    for row in rows:
        row.took_s = (time.monotonic() - began) / len(rows)
    return rows


def do_apart(room: str, number: int, share: int, folder: Path) -> list[Row]:
    """The same in a process of its own, so that rows that run side by side do not share a memory and a lock."""
    folder.mkdir(parents=True)
    said = folder / "rows.json"
    line = [sys.executable, __file__, "--share", str(share), "--one", room, str(number), str(folder)]
    code = subprocess.run(line, check=False).returncode
    if not said.exists():
        return [Row(room, f"item {number}", failures=[f"it ended with {code}"])]
    return [Row(**row) for row in json.loads(said.read_text())]


def all_rows(rooms: list[str], share: int, lanes: int, folder: Path) -> Iterator[list[Row]]:
    """Do it, so many items at a time; the rows as they come."""
    items = [(room, number) for room, works in plan(share).items() if room in rooms for number in range(len(works))]
    with ThreadPoolExecutor(lanes) as pool:
        work = {pool.submit(do_apart, *item, share, folder / f"{item[0]}-{item[1]}"): item for item in items}
        for done in as_completed(work):
            yield done.result()


def page(rows: list[Row], took_s: float) -> str:
    """The tables of a run as Markdown, for docs/reliability.md."""
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    lines = [f"{len(rows)} rows in {took_s / 60:.0f} minutes; {machine}.", ""]
    for row in rows:
        if row.table:
            lines += [f"{row.times} kills; {row.lost}.", "", *markdown(row.table, words=1), ""]
    table = [["", "what was tried", "what was lost", "times", "seconds"]]
    table += [[row.room, row.tried, row.lost, f"{row.times:,}", f"{row.took_s:.0f}"] for row in rows]
    lines += [*markdown(table, words=3), ""]
    failures = [f"* **{row.room}, {row.tried}**: {failure}" for row in rows for failure in row.failures]
    return "\n".join([*lines, *(["Broken promises:", "", *failures, ""] if failures else [])])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=", ".join(plan(1)))
    parser.add_argument("--share", type=int, default=1, help="do one N-th of everything")
    parser.add_argument("--lanes", type=int, default=2, help="so many rows at a time")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables there, as Markdown")
    parser.add_argument("--one", nargs=3, metavar=("ROOM", "NUMBER", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.rooms) - set(plan(1)):
        parser.error(f"no such room: {', '.join(sorted(unknown))}")
    return given


def main() -> int:
    """Returns 0 when every promise held, else 1."""
    given = arguments()
    if given.one:
        room, number, folder = given.one
        found = do(room, int(number), given.share, Path(folder) / "work")
        (Path(folder) / "rows.json").write_text(json.dumps([asdict(row) for row in found]))
        return 0
    rows: list[Row] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpucost-torture-", ignore_cleanup_errors=True) as folder:
        for found in all_rows(given.rooms or list(plan(1)), given.share, given.lanes, Path(folder)):
            for row in found:
                print("\n".join(row.lines()), flush=True)
            rows += found
    took_s = time.monotonic() - began
    failed = sum(bool(row.failures) for row in rows)
    print(f"{failed or 'no'} row(s) failed; {took_s:.0f} s")
    if given.write:
        order = list(plan(1))
        given.write.write_text(page(sorted(rows, key=lambda row: order.index(row.room)), took_s))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
