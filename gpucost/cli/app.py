"""The long way in: every command, and the one place where failures become exit codes.

0: done. 1: a gate failed or something is missing. 2: the tool or its user failed. 130: interrupted. A command is a typer function in a
module of its own, named in `COMMANDS`; the module is imported when the command is asked for.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from gpucost.errors import GpucostError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEBUG_VARIABLE = "GPUCOST_DEBUG"
COMPLETION_VARIABLE = "_GPUCOST_COMPLETE"
INTERRUPTED = 130
FAILED = 2

_TAKES_A_COMMAND = {"allow_extra_args": True, "ignore_unknown_options": False, "allow_interspersed_args": False}


class Command(NamedTuple):
    """A command: the module that has a function of its name, its line in the overview, and click's settings for it."""

    module: str
    summary: str
    settings: Mapping[str, Any] | None = None


COMMANDS: dict[str, Command] = {
    "record": Command("gpucost.cli.record", "Run a command and record what it does with its GPUs.", _TAKES_A_COMMAND),
    "report": Command("gpucost.cli.report", "Say what a run cost, by GPU, by stage and by use."),
    "compare": Command("gpucost.cli.compare", "Say what changed between a baseline and new runs."),
    "check": Command("gpucost.cli.check", "Fail when a run costs, takes or idles more than it may."),
    "ci": Command("gpucost.cli.ci", "Attach a run's report to a CI job: summary, comment, files."),
    "runs": Command("gpucost.cli.runs", "List the runs."),
    "bench": Command("gpucost.cli.bench", "Measure what a GPU can really do, and keep profiles of it."),
    "recover": Command("gpucost.cli.recover", "Close a run whose recorder died, and say what is missing."),
    "doctor": Command("gpucost.cli.doctor", "Say what this machine can measure, what not, and why."),
    "stage": Command("gpucost.cli.stage", "Run a command as a stage of the recording around it.", _TAKES_A_COMMAND),
}
"""Every command by name, in the order of the overview."""


def run(argv: list[str]) -> int:
    """Run gpucost with these arguments and return the exit code; nothing but an exit code ever leaves it."""
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
    except GpucostError as error:
        return explain(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0 if error.code is None else FAILED
    except Exception as error:  # noqa: BLE001 (the last resort: whatever it is, it becomes one line)
        return _usage(error) if hasattr(error, "format_message") else _unexpected(error)
    return code


def explain(error: GpucostError) -> int:
    """Say what failed and what to do, and return the exit code."""
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error)
    _say(str(error), error.hint)
    return error.exit_code


def _dispatch(argv: list[str]) -> int:
    import typer

    from gpucost.cli.group import build

    group = build()
    if COMPLETION_VARIABLE in os.environ:
        group.main(argv, prog_name="gpucost", complete_var=COMPLETION_VARIABLE)
    try:
        with group.make_context("gpucost", list(argv)) as context:
            result = group.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return result if isinstance(result, int) else 0


def _usage(error: Exception) -> int:
    """A mistake on the command line, as click explains it, in one line."""
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    _say(message[:1].lower() + message[1:], f"see {context.command_path if context else 'gpucost'} --help")
    return FAILED


def _unexpected(error: Exception) -> int:
    import traceback

    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
        return FAILED
    text = "".join(traceback.format_exception(error))
    kind = f"{type(error).__name__}: {error}"[:200]
    where = _keep(text)
    hint = f"please report it with {where}" if where else f"set {DEBUG_VARIABLE}=1 to see where"
    _say(f"this is a fault of gpucost ({kind})", hint)
    return FAILED


def _keep(text: str) -> str | None:
    """Write a traceback where the user's programs keep their state, else where temporary files go; return the file."""
    import tempfile
    from pathlib import Path

    state = os.environ.get("XDG_STATE_HOME")
    for folder in (Path(state) if state else Path("~/.local/state").expanduser(), Path(tempfile.gettempdir())):
        try:
            kept = folder / "gpucost"
            kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix="traceback-", suffix=".txt", dir=kept)
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
        except (OSError, RuntimeError):
            continue
        return name
    return None


def _reader_left() -> int:
    """Whoever read the output had enough: what is still buffered goes nowhere, and nothing is said about it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _say(message: str, hint: str) -> None:
    """One line on stderr, and one of what to do, in red where that can be seen."""
    from gpucost.render.safe import for_encoding, plain

    line = for_encoding(f"gpucost: {plain(message, 1000)}", sys.stderr.encoding)
    red = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    print(f"\x1b[31m{line}\x1b[0m" if red else line, file=sys.stderr)
    if hint:
        print(for_encoding(f"  {plain(hint, 1000)}", sys.stderr.encoding), file=sys.stderr)
