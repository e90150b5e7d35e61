"""`gpucost compare`: what changed between two sides of runs."""

import sys
from typing import Annotated

import typer

from gpucost.choose import DEFAULT_MATCH, LAST, MATCHERS
from gpucost.cli.options import RunsOption, WidthOption, color_for, one_of, runs_folder, width_for
from gpucost.errors import UsageError

_RUN = "an id, the beginning of one, latest, latest~1, a path, a glob of ids or paths, label:KEY=VALUE, name:NAME"
_BASE_HELP = f"The baseline: {_RUN}. With --base, a single argument is the new run."
_HEAD_HELP = "The new run or runs, likewise (default: latest)."
_MORE_BASE_HELP = "More runs of the baseline; may be repeated."
_MORE_HEAD_HELP = "More new runs, repeats of one another; may be repeated."
_MATCH_HELP = f"What baseline runs must have in common with the new one; may be repeated: {', '.join(MATCHERS)} (default: {', '.join(DEFAULT_MATCH)})."
_LAST_HELP = "At most so many runs of the baseline, the newest."
_EFFECT_HELP = "Changes of the median below this are no change, in percent."

PriceOption = Annotated[
    str | None, typer.Option("--price", metavar="USD", help="Price of one GPU for one hour, for every run.")
]
MatchOption = Annotated[list[str] | None, typer.Option("--match", metavar="WHAT", help=_MATCH_HELP)]
_MAX_EFFECT = 1000.0


def compare(
    first: Annotated[str | None, typer.Argument(metavar="[BASE]", help=_BASE_HELP, show_default=False)] = None,
    second: Annotated[str | None, typer.Argument(metavar="[HEAD]", help=_HEAD_HELP, show_default=False)] = None,
    base: Annotated[list[str] | None, typer.Option("--base", metavar="RUN", help=_MORE_BASE_HELP)] = None,
    head: Annotated[list[str] | None, typer.Option("--head", metavar="RUN", help=_MORE_HEAD_HELP)] = None,
    runs: RunsOption = None,
    output: Annotated[
        str, typer.Option("--format", "-f", metavar="terminal|markdown|json", help="How to print it.")
    ] = "terminal",
    match: MatchOption = None,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, max=1000, help=_LAST_HELP)] = LAST,
    min_effect: Annotated[float, typer.Option("--min-effect", metavar="PERCENT", help=_EFFECT_HELP)] = 5.0,
    price: PriceOption = None,
    width: WidthOption = None,
) -> None:
    """Say what changed between a baseline and new runs: money, time, busy, idle and energy, by stage and by GPU.

    With five or more runs a side, a rank test says what is more than noise; with one new run against five or more, only big changes can be seen;
    with fewer, changes are reported and none is judged.
    """
    from gpucost.analyzers.compare import Rule
    from gpucost.render.documents import COMPARISON_FORMATS, writer
    from gpucost.report.compare import compare as compare_sides
    from gpucost.report.sides import load_sides

    one_of("--format", output, COMPARISON_FORMATS)
    if not 0 <= min_effect <= _MAX_EFFECT:
        raise UsageError(f"--min-effect is {min_effect:g}, but takes percent from 0 to {_MAX_EFFECT:g}")
    columns = width_for(sys.stdout, width)
    bases, heads = _sides(first, second, base or [], head or [])
    on = match or list(DEFAULT_MATCH)
    sides = load_sides(runs_folder(runs), heads, bases, on=on, last=last, price=price)
    made = compare_sides(
        sides.base, sides.head, rule=Rule(min_effect=min_effect / 100), left_out=sides.left_out, matched_on=on
    )
    writer(COMPARISON_FORMATS, output)(made, sys.stdout, width=columns, color=color_for(sys.stdout))


def _sides(first: str | None, second: str | None, base: list[str], head: list[str]) -> tuple[list[str], list[str]]:
    """The words for the baseline and for the new runs.

    Raises:
        UsageError: nothing says what the baseline is.
    """
    words = [word for word in (first, second) if word is not None]
    if base and len(words) != 2:  # noqa: PLR2004
        heads = [*words, *head]
        return base, heads or ["latest"]
    if not words:
        raise UsageError(
            "compare needs a baseline", hint="gpucost compare latest~1 latest, or --base label:git.branch=main"
        )
    heads = [*words[1:], *head]
    return [words[0], *base], heads or ["latest"]
