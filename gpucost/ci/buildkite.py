"""Buildkite: one annotation on the build, kept up to date by its context, through the agent's own program."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from gpucost.ci.comments import safe_key
from gpucost.ci.contract import Attachment, Options, Silent, Step, wants_comment
from gpucost.render.pull_request import SUMMARY_BYTES
from gpucost.render.safe import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

AGENT = "buildkite-agent"
TIMEOUT_S = 60
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")


class Buildkite(Silent):
    """The forge of Buildkite; see `gpucost.ci.contract.Forge`."""

    def number(self, environ: Mapping[str, str]) -> str | None:
        """The pull request that this build is about (Buildkite says `false` where it is about none)."""
        number = environ.get("BUILDKITE_PULL_REQUEST", "")
        return number if _NUMBER.fullmatch(number) else None

    def attach(
        self,
        attachment: Attachment,
        options: Options,
        environ: Mapping[str, str],
        say: Callable[[str], None],  # noqa: ARG002 (the agent takes it from standard input)
    ) -> list[Step]:
        """Annotate the build; the annotation is the summary and the comment at once."""
        if not wants_comment(attachment, options, there=False):
            return [
                Step("comment", done=False, text=f"no annotation: nothing to say under --comment {options.comment}")
            ]
        agent = shutil.which(AGENT, path=environ.get("PATH"))
        if agent is None:
            return [Step("comment", done=False, text=f"no annotation: {AGENT} is not on the path")]
        link = options.link or environ.get("BUILDKITE_BUILD_URL")
        text = attachment.markdown(link=link, max_chars=SUMMARY_BYTES, max_bytes=SUMMARY_BYTES)
        context = f"gpucost-{safe_key(options.key or _key(environ))}".replace("/", "-")
        words = [agent, "annotate", "--context", context, "--style", _style(attachment, options)]
        try:
            done = subprocess.run(
                words, input=text.encode(), env=dict(environ), capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            return [Step("comment", done=False, text=f"no annotation: {plain(str(error), 200)}")]
        if done.returncode:
            reason = plain(done.stderr.decode(errors="replace").strip(), 200)
            return [Step("comment", done=False, text=f"no annotation: {AGENT} ended with {done.returncode}: {reason}")]
        return [Step("comment", done=True, text="annotation written")]


def _style(attachment: Attachment, options: Options) -> str:
    if attachment.check.failing:
        return "error" if options.gates_fail else "warning"
    return "success" if attachment.check.gates else "info"


def _key(environ: Mapping[str, str]) -> str:
    parts = (environ.get("BUILDKITE_STEP_KEY") or environ.get("BUILDKITE_LABEL"), environ.get("BUILDKITE_PARALLEL_JOB"))
    return "/".join(part for part in parts if part) or "report"
