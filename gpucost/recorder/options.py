"""What `gpucost record` can be told, checked before the command is started."""

import os
import sys

from gpucost.errors import UsageError

DEFAULT_HZ = 10.0
MIN_HZ = 0.1
MAX_HZ = 50.0
DEFAULT_CALL_BUDGET_PCT = 1.0
MAX_PCT = 100.0
_MOST_PIDS = 1 << 22  # the kernel's own limit
BILLS = ("visible", "node")


class RecordOptions:
    """The options of one recording; see `gpucost record --help` for their meaning. `None` means: not given."""

    __slots__ = (
        "attach",
        "attach_names",
        "bill",
        "call_budget",
        "command",
        "gpus",
        "hz",
        "join",
        "labels",
        "live",
        "name",
        "price",
        "quiet",
        "runs",
    )

    def __init__(
        self,
        command: list[str],
        *,
        runs: str | None = None,
        name: str | None = None,
        labels: list[str] | None = None,
        price: str | None = None,
        hz: str | None = None,
        call_budget: str | None = None,
        gpus: str = "",
        bill: str = "visible",
        quiet: bool = False,
        live: bool = False,
        join: str | None = None,
        attach: list[str] | None = None,
        attach_names: list[str] | None = None,
    ) -> None:
        self.command = command
        self.runs = runs
        self.name = name
        self.labels = labels or []
        self.price = price
        self.hz = hz
        self.call_budget = call_budget
        self.gpus = gpus
        self.bill = bill
        self.quiet = quiet
        self.live = live
        self.join = join
        self.attach = attach or []
        self.attach_names = attach_names or []


VALUES = {
    "--runs": "runs",
    "--name": "name",
    "--label": "labels",
    "--attach": "attach",
    "--attach-name": "attach_names",
    "--price": "price",
    "--hz": "hz",
    "--call-budget": "call_budget",
    "--gpus": "gpus",
    "--bill": "bill",
    "--join": "join",
}
"""Options with a value, and the field each sets; those of `REPEATED` may be repeated."""

REPEATED = frozenset({"labels", "attach", "attach_names"})

FLAGS = {"--quiet": "quiet", "-q": "quiet", "--live": "live"}


def parse(argv: list[str]) -> RecordOptions | None:
    """Read the arguments of `gpucost record` without a command-line library, which would cost more than all the rest of the start.

    Returns:
        The options, or None when anything is unusual (help, an unknown option, a missing value): the full parser then explains.
    """
    fields: dict[str, object] = {}
    lists: dict[str, list[str]] = {name: [] for name in REPEATED}
    rest = list(argv)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        if word in FLAGS:
            fields[FLAGS[word]] = True
            continue
        option, equals, value = word.partition("=")
        if option not in VALUES or (not equals and not rest):
            return None
        value = value if equals else rest.pop(0)
        if VALUES[option] in REPEATED:
            lists[VALUES[option]].append(value)
        else:
            fields[VALUES[option]] = value
    return RecordOptions(rest, **lists, **fields) if rest else None  # type: ignore[arg-type]


def check(options: RecordOptions) -> None:
    """Refuse what cannot be recorded.

    Raises:
        UsageError: with what to do.
    """
    if not sys.platform.startswith("linux"):
        raise UsageError("recording needs Linux", hint="a recording can be read with `gpucost report` anywhere")
    if not options.command or not options.command[0]:
        raise UsageError("there is no command to record", hint="gpucost record -- COMMAND [ARGS]")
    parse_hz(DEFAULT_HZ if options.hz is None else options.hz)
    parse_call_budget(DEFAULT_CALL_BUDGET_PCT if options.call_budget is None else options.call_budget)
    parse_labels(options.labels)
    for pid in options.attach:
        check_pid(pid)
    if options.bill not in BILLS:
        raise UsageError(f"--bill is {options.bill!r}, but takes visible or node")
    if options.join is not None and (options.runs is not None or options.name is not None or options.labels):
        raise UsageError("--join takes a run that is there already, so it goes without --runs, --name and --label")
    price = options.price if options.price is not None else os.environ.get("GPUCOST_PRICE")
    if price:
        from gpucost.prices import parse_price

        parse_price(price)
    if options.gpus:
        from gpucost.collectors.selection import parse_gpus

        simulated = parse_gpus(options.gpus).simulated
        if simulated is not None:
            from gpucost.collectors.sim import parse as parse_simulated

            parse_simulated(simulated)


def check_pid(text: str) -> None:
    """Refuse a pid that nobody has.

    Raises:
        UsageError: not a pid, or no such process.
    """
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < _MOST_PIDS):
        raise UsageError(f"--attach is {text!r}, but takes a process id", hint="--attach-name takes a program's name")
    try:
        os.kill(int(text), 0)
    except ProcessLookupError:
        raise UsageError(f"there is no process {text} to attach", hint="ps -e lists them") from None
    except PermissionError:
        pass  # it is there, and somebody else's


def parse_hz(text: str | float) -> float:
    """Ticks a second.

    Raises:
        UsageError: not a number from 0.1 to 50.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not MIN_HZ <= value <= MAX_HZ:
        raise UsageError(f"hz is {str(text)!r}, but takes a number from {MIN_HZ:g} to {MAX_HZ:g} (ticks a second)")
    return value


def parse_call_budget(text: str | float) -> float:
    """Percent of a tick that all calls into the driver may take together.

    Raises:
        UsageError: not a number above 0 and up to 100.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= MAX_PCT:
        raise UsageError(
            f"call budget is {str(text)!r}, but takes a number above 0 and up to {MAX_PCT:g} (percent of a tick)"
        )
    return value


def parse_labels(pairs: list[str]) -> dict[str, str]:
    """`k=v` pairs as a mapping; a later pair wins.

    Raises:
        UsageError: a pair has no `=` or no key.
    """
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--label is {pair!r}, but takes KEY=VALUE")
        labels[key.strip()] = value
    return labels
