"""What a place that reports are attached to (a forge's pull request, a build's page) is told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gpucost.errors import GpucostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpucost.report.comparison import CheckResult
    from gpucost.report.model import Report

COMMENT_RULES = ("always", "changed", "failed", "never")
"""When a first comment is made: a comment that is there is brought up to date in any case but `never`."""


class ForgeError(GpucostError):
    """The forge did not do what it was asked. It ends in a notice: a report that cannot be attached fails no job.

    Attributes:
        status: of the HTTP answer, None where there was none.
    """

    def __init__(self, message: str, *, status: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done, or was not.

    Attributes:
        what: `summary`, `comment`, `annotations`, `outputs` or `files`.
        done: whether it is there now.
        text: one line about it.
        link: where it can be looked at.
    """

    what: str
    done: bool
    text: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What the user wants attached.

    Attributes:
        key: tells the comments of several jobs on one pull request apart; None takes the forge's name of the job.
        comment: one of `COMMENT_RULES`.
        summary: write a summary of the job.
        annotations: write an annotation for each failed gate.
        gates_fail: a failed gate fails the job (else it is shown as a warning).
        link: an https address of the full report; None takes the page of the job.
        pull_request_file: a file that holds the number of the pull request, written by another job: it is not trusted.
        files: the folder that the files went to, None where none were written.
    """

    key: str | None = None
    comment: str = "always"
    summary: bool = True
    annotations: bool = True
    gates_fail: bool = True
    link: str | None = None
    pull_request_file: str | None = None
    files: str | None = None


class Text(Protocol):
    """Makes the report's Markdown, at most as long as asked for."""

    def __call__(self, *, marker: str = "", link: str | None = None, max_chars: int = ..., max_bytes: int = ...) -> str:
        """The Markdown, which begins with `marker`."""
        ...


@dataclass(frozen=True, slots=True)
class Attachment:
    """What is attached.

    Attributes:
        report: of the run.
        check: its gates, and the comparison with the baseline.
        markdown: makes the text of a comment or a summary.
    """

    report: Report
    check: CheckResult
    markdown: Text

    @property
    def noteworthy(self) -> bool:
        """Whether a gate failed or a figure of the whole run changed for the better or the worse."""
        comparison = self.check.comparison
        changed = comparison is not None and any(c.direction in ("higher", "lower") for c in comparison.run.values())
        return changed or bool(self.check.failing)


class Forge(Protocol):
    """A place that reports are attached to. One module of this package each, named in `gpucost.ci.FORGES`."""

    def number(self, environ: Mapping[str, str]) -> str | None:
        """The pull request that this job is about, None where it is about none."""
        ...

    def attach(
        self, attachment: Attachment, options: Options, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> list[Step]:
        """Attach the report; what cannot be done is a step that says so, and never an exception.

        Args:
            attachment: the report.
            options: what is wanted of it.
            environ: of the process.
            say: writes a line for the forge to standard output, as it is.
        """
        ...

    def failed(self, message: str, options: Options, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Show that there is no report, where people look for one; the parameters are those of `attach`, and it raises nothing."""
        ...


class Silent:
    """A forge on which nothing but the job's log says that there is no report."""

    def failed(self, message: str, options: Options, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Nothing."""


def wants_comment(attachment: Attachment, options: Options, *, there: bool) -> bool:
    """Whether to write a comment, given whether there is one already."""
    if options.comment == "never":
        return False
    if there or options.comment == "always":
        return True
    return bool(attachment.check.failing) or (options.comment == "changed" and attachment.noteworthy)
