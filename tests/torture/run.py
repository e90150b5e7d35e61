"""The long form of the suite: every row, with its full count.

python tests/torture/run.py [--share N] [ROOM ...]     from the repository's root; `--share 10` does a tenth of everything
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture import clocks, commands, deliveries, disk, drivers, kills, readers, scale, together
from torture.rows import Row

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
            lambda f: scale.days(f, 72.0 / share),
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


def rows(rooms: list[str], share: int, folder: Path) -> Iterator[Row]:
    """Do it, row by row."""
    chosen = plan(share)
    for room in rooms or chosen:
        for number, work in enumerate(chosen[room]):
            found = work(folder / f"{room}-{number}")
            yield from found if isinstance(found, list) else [found]


def main() -> int:
    """Returns 0 when every promise held, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=", ".join(plan(1)))
    parser.add_argument("--share", type=int, default=1, help="do one N-th of everything")
    arguments = parser.parse_args()
    failed, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpucost-torture-") as folder:
        for row in rows(arguments.rooms, arguments.share, Path(folder)):
            print("\n".join(row.lines()), flush=True)
            failed += bool(row.failures)
    print(f"{failed or 'no'} row(s) failed; {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
