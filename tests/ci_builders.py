"""Attachments and gates made up for tests of the forges."""

from gpucost.ci.contract import Attachment
from gpucost.report.comparison import CheckResult, GateResult, RunRef
from gpucost.report.model import Figure, Report

TOKEN = "ghs_0123456789secret"


def gate(
    name: str = "cost", *, fails: bool = True, message: str = "cost of the run is $0.10, over $0.05", **more
) -> GateResult:
    given = {"title": f"{name} of the run", "stage": None, "status": "failed" if fails else "passed", **more}
    return GateResult(
        gate=name, fails=fails, value=Figure(0.1, "$0.10"), limit=Figure(0.05, "$0.05"), message=message, **given
    )


def attachment_of(report: Report, gates: list[GateResult] = (), text: str | None = None) -> Attachment:
    """An attachment whose Markdown is as long as it may be, or a given text."""
    run = report.run
    reference = RunRef(
        run.run_id, run.name, run.started, run.labels, run.gpus, None, run.exit_text, run.state, run.simulated, "2.49"
    )

    def markdown(*, marker="", link=None, max_chars=1_000, max_bytes=1_000_000) -> str:
        filler = "x" * (min(max_chars, max_bytes) - len(marker) - 1) if text is None else text
        return f"{marker}\n{filler}"

    return Attachment(report, CheckResult(reference, 1, list(gates), None), markdown)
