"""The short form of the suite: every fault once or a few times. The long form is `make torture`; what each row does is in its module."""

from collections.abc import Callable
from pathlib import Path

import pytest

from driver.build import NoCompilerError
from torture import clocks, commands, deliveries, disk, drivers, kills, readers, run, scale, together
from torture.rows import Row, counted

SHORT: dict[str, Callable[[Path], Row | list[Row]]] = {
    "a killed recorder, sealer or group loses at most two seconds": lambda f: kills.kills(
        f, 12, workers=4, phases=tuple(phase for phase in kills.PHASES if phase not in kills.LONG)
    ),
    "a disk full at any write loses no more than what did not fit": lambda f: disk.full_at_every_write(
        f, every=20, calls=("write",), workers=4
    ),
    "a rename that fails loses nothing": lambda f: disk.full_at_every_write(f, every=6, calls=("rename",), workers=4),
    "a disk that stalls holds up neither sampling nor the command": lambda f: disk.slow(f, [1.0], calls=("write",)),
    "a disk that cannot sync is written to all the same": lambda f: disk.cannot_sync(f, 2.5),
    "a wall clock that is stepped moves nothing": lambda f: clocks.clock_steps(f, (3600, -7200)),
    "ticks that come late are not stretched": lambda f: clocks.late_ticks(f, 1000),
    "a driver call that hangs holds up no command": lambda f: drivers.hangs(f, 2.5, every=12),
    "a metric that is not supported is the only one that is missing": lambda f: drivers.unsupported(f, every=20),
    "nonsense from a driver breaks nothing": lambda f: drivers.nonsense(f, every=30),
    "signals do what they do without gpucost": lambda f: commands.signal_matrix(f, every=13),
    "a signal reaches the command once, whoever else it was sent to": lambda f: deliveries.deliveries(
        f, names=deliveries.SHORT
    ),
    "odd commands run as they do without gpucost": lambda f: commands.odd_commands(
        f, children=50, output_mib=4, every=5
    ),
    "hours of recording stay a few files and little memory": lambda f: scale.days(f, 1.5),
    "a pass over a large host reads the tree alone": lambda f: scale.many_processes(f, 1000),
    "a thousand stages are a thousand stages": lambda f: scale.many_stages(f, 1000),
    "whatever a reader is given, it says one line or reads": lambda f: readers.fuzz(f, 60),
    "recordings side by side do not clash": lambda f: together.side_by_side_in_one_folder(f, 4),
}


@pytest.mark.parametrize("name", SHORT)
def test_the_promise_holds(name, tmp_path):
    try:
        found = SHORT[name](tmp_path / "room")
    except NoCompilerError as error:
        pytest.skip(str(error))
    for row in found if isinstance(found, list) else [found]:
        assert not row.failures, "\n".join(row.lines())
        assert row.times or row.lost.startswith("skipped"), "nothing was tried"


def test_a_row_prints_what_was_tried_how_often_and_what_was_lost():
    row = Row("disk", "full", 3, "nothing")
    assert not row.check(False, "it went wrong")
    first, second = row.lines()
    assert first.split() == ["FAIL", "disk", "full", "3", "nothing"]
    assert second.strip() == "! it went wrong"


def test_values_are_counted_below_the_first_edge_that_is_above_them():
    assert counted([0.05, 0.1, 0.3, 7.0], (0.1, 0.5)) == [1, 2, 1]


def test_a_run_of_the_suite_becomes_a_page_with_each_row_and_each_broken_promise():
    rows = [
        Row("kills", "kill -9", 2, "0.1 s", table=[["phase", "kills"], ["start", "2"]]),
        Row("disk", "full | gone", 3, "nothing", ["it went wrong"]),
    ]
    text = run.page(rows, 120.0)
    assert "2 rows in 2 minutes" in text
    assert "| start | 2 |" in text
    assert "| disk | full \\| gone | nothing | 3 | 0 |" in text
    assert "* **disk, full | gone**: it went wrong" in text
