"""From a recording to everything that a CI shows of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from gpucost.ci import forge as forge_of
from gpucost.ci.contract import Attachment, Options, Step
from gpucost.errors import GpucostError, RunNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gpucost.report.comparison import CheckResult


@dataclass(frozen=True, slots=True)
class Job:
    """What a job has and wants.

    Attributes:
        runs: the folder of all runs.
        head: words for the run, or for several repeats of it.
        baseline: words for the runs to compare with; None takes the configuration's.
        gates: more gates than the configuration's.
        price: USD per GPU-hour, for every run.
        forge: a name of `gpucost.ci.FORGES`.
        keep_recording: copy the runs into the folder of files, for a second job.
        options: what is wanted on the forge.
    """

    runs: str
    head: Sequence[str]
    baseline: Sequence[str] | None = None
    gates: Sequence[str] = ()
    price: str | None = None
    forge: str = "none"
    keep_recording: bool = False
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the verdict, and what was attached."""

    check: CheckResult
    steps: list[Step]


def run(job: Job, environ: Mapping[str, str], say: Callable[[str], None]) -> Outcome:
    """Judge the run, write the files and attach the report.

    A failure to attach is a step that says so. A failure to read the run is shown on the forge, and raised.

    Args:
        job: what is wanted.
        environ: of the process.
        say: writes a line for the forge to standard output, as it is.

    Raises:
        GpucostError: the run, the configuration or a gate cannot be read, or a file cannot be written.
    """
    forge = forge_of(job.forge)
    try:
        attachment, steps = _judged(job)
        steps += _filed(job, attachment, forge.number(environ))
    except GpucostError as error:
        forge.failed(str(error), job.options, environ, say)
        raise
    return Outcome(attachment.check, steps + forge.attach(attachment, job.options, environ, say))


def _judged(job: Job) -> tuple[Attachment, list[Step]]:
    from gpucost.gates import check_runs
    from gpucost.render.pull_request import comment

    baseline, steps = _baseline(job)
    report, check = check_runs(job.runs, job.head, baseline, job.gates, price=job.price)
    return Attachment(report, check, partial(comment, report, check.comparison, check)), steps


def _baseline(job: Job) -> tuple[Sequence[str] | None, list[Step]]:
    """The baseline, without the words that mean no run: the first job ever has nothing to compare with."""
    from gpucost.choose import choose

    if not job.baseline:
        return job.baseline, []
    known, steps = [], []
    for word in job.baseline:
        try:
            choose(job.runs, [word])
        except RunNotFoundError as error:
            steps.append(Step("baseline", done=False, text=f"no baseline: {error}"))
        else:
            known.append(word)
    return known, steps


def _filed(job: Job, attachment: Attachment, number: str | None) -> list[Step]:
    from gpucost.ci.files import keep_recording, write_files

    folder = job.options.files
    if folder is None:
        return []
    write_files(folder, attachment, number)
    if job.keep_recording:
        from gpucost.choose import choose

        for path in choose(job.runs, job.head):
            keep_recording(folder, path)
    return [Step("files", done=True, text=f"files written to {folder}")]
