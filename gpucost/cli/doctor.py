"""`gpucost doctor`: what this machine can measure, what not, and why."""

import sys
from typing import Annotated

import typer

from gpucost.cli.options import one_of


def doctor(
    output: Annotated[
        str,
        typer.Option("--format", "-f", metavar="terminal|json", help="How to print it; json is for support tickets."),
    ] = "terminal",
) -> int:
    """Say what this machine can measure, and what each call to the driver takes. Exit code 1: something is missing."""
    from gpucost.collectors.diagnosis import diagnose
    from gpucost.render.doctor import FORMATS, render

    one_of("--format", output, FORMATS)
    found = diagnose()
    render(found, sys.stdout, output=output)
    return 0 if found["complete"] else 1
