"""`gpucost stage NAME -- COMMAND`: a command as a stage of the recording around it."""

import os
import sys

from gpucost.errors import UsageError
from gpucost.recorder import launch


class StageOptions:
    """A stage's name, its attributes as `k=v`, and the command."""

    __slots__ = ("attributes", "command", "name")

    def __init__(self, name: str, command: list[str], attributes: list[str]) -> None:
        self.name = name
        self.command = command
        self.attributes = attributes


def parse(argv: list[str]) -> StageOptions | None:
    """Read `[--attr K=V]... NAME [--] COMMAND...`; None when anything is unusual, for the full parser to explain."""
    rest = list(argv)
    attributes = []
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word.startswith("--attr="):
            attributes.append(word.removeprefix("--attr="))
        elif word == "--attr" and rest:
            attributes.append(rest.pop(0))
        else:
            return None
    if not rest:
        return None
    name = rest.pop(0)
    if rest and rest[0] == "--":
        rest.pop(0)
    return StageOptions(name, rest, attributes) if rest else None


def run(options: StageOptions) -> int:
    """Run the command inside the stage; return its exit code. Outside a recording the command just runs.

    Raises:
        UsageError: there is no name or no command, or an attribute is not `k=v`.
    """
    from gpucost import stage

    if not options.name.strip() or not options.command:
        raise UsageError("a stage needs a name and a command", hint="gpucost stage NAME -- COMMAND [ARGS]")
    attributes = {}
    for pair in options.attributes:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--attr is {pair!r}, but takes KEY=VALUE")
        attributes[key] = value
    with stage(options.name) as span:
        span.set(**attributes)
        try:
            code, _ = launch.run(options.command, dict(os.environ))
        except launch.CommandNotStartedError as error:
            print(f"gpucost: {error}", file=sys.stderr)
            code = error.exit_code
        span.set(exit_code=code)
    return code
