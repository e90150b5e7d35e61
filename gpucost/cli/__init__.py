"""The program's entry: the commands that must start fast take a short way, all others load the command-line library."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's import would cost start-up time
if TYPE_CHECKING:
    from collections.abc import Callable


def main(argv: list[str] | None = None) -> int:
    """Run gpucost with these arguments (default: the process's); return the exit code.

    `record` and `stage` stand between a user and a command, so they are parsed by hand and import next to nothing before the command has
    started. Whatever they do not understand, help included, goes the long way and is explained there.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = _short_way(arguments)
    except KeyboardInterrupt:
        return 130
    if code is not None:
        return code
    from gpucost.cli.app import run

    return run(arguments)


def _short_way(arguments: list[str]) -> int | None:
    """The exit code, or None when the arguments want the long way."""
    if not arguments:
        return None
    if arguments[0] == "record":
        from gpucost.recorder.options import parse

        options = parse(arguments[1:])
        if options is None:
            return None
        from gpucost.recorder.session import record

        return _one_line(lambda: record(options))
    if arguments[0] == "stage":
        from gpucost.recorder.stage_command import parse as parse_stage
        from gpucost.recorder.stage_command import run as run_stage

        stage = parse_stage(arguments[1:])
        return None if stage is None else _one_line(lambda: run_stage(stage))
    return None


def _one_line(work: Callable[[], int]) -> int:
    from gpucost.errors import GpucostError

    try:
        return work()
    except GpucostError as error:
        from gpucost.cli.app import explain

        return explain(error)
