"""Attaching reports to what a CI shows: summaries, comments, annotations, files.

To add a forge: a module with a class that satisfies `gpucost.ci.contract.Forge`, named in `FORGES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

from gpucost.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpucost.ci.contract import Forge


class Entry(NamedTuple):
    """A forge: its module and class, and the variable by which a job of it is known (set, and not to `false`)."""

    module: str
    name: str
    variable: str | None


FORGES: dict[str, Entry] = {
    "github": Entry("gpucost.ci.github", "GitHub", "GITHUB_ACTIONS"),
    "gitlab": Entry("gpucost.ci.gitlab", "GitLab", "GITLAB_CI"),
    "buildkite": Entry("gpucost.ci.buildkite", "Buildkite", "BUILDKITE"),
    "none": Entry("gpucost.ci.generic", "Generic", None),
}
"""In the order in which they are looked for."""


def detect(environ: Mapping[str, str]) -> str:
    """The name of the forge whose job this is; `none` where it is nobody's."""
    for name, entry in FORGES.items():
        if entry.variable and environ.get(entry.variable, "").lower() in ("true", "1"):
            return name
    return "none"


def forge(name: str) -> Forge:
    """A forge by its name in `FORGES`.

    Raises:
        UsageError: there is none of this name.
    """
    entry = FORGES.get(name)
    if entry is None:
        raise UsageError(f"there is no CI {name!r}", hint=f"known: {', '.join(FORGES)}")
    return cast("Forge", getattr(import_module(entry.module), entry.name)())
