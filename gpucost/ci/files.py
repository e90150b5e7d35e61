"""The files that a CI collects, in one folder: for people, for its own pages, for other programs and for a second job."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gpucost.errors import UsageError
from gpucost.render import renderer
from gpucost.render.pull_request import SUMMARY_BYTES
from gpucost.rundir import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpucost.ci.contract import Attachment

NUMBER_FILE = "pull-request.txt"
RECORDINGS = "recording"


def write_files(folder: str, attachment: Attachment, number: str | None) -> None:
    """Write `report.md`, `report.json`, `check.json`, `junit.xml`, `openmetrics.txt` and, on a pull request, its number.

    Args:
        folder: made if it is not there.
        attachment: the report.
        number: of the pull request, None where there is none; what an earlier job left is removed then.

    Raises:
        UsageError: a file cannot be written.
    """
    makers: dict[str, Callable[[], str]] = {
        "report.md": lambda: attachment.markdown(max_chars=SUMMARY_BYTES, max_bytes=SUMMARY_BYTES),
        "report.json": lambda: _report_json(attachment),
        "check.json": lambda: json.dumps(attachment.check.to_json(), indent=2, allow_nan=False) + "\n",
        "junit.xml": lambda: _junit(attachment),
        "openmetrics.txt": lambda: _openmetrics(attachment),
    }
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, make in makers.items():
            (place / name).write_text(make(), encoding="utf-8")
        if number is None:
            (place / NUMBER_FILE).unlink(missing_ok=True)
        else:
            (place / NUMBER_FILE).write_text(f"{number}\n", encoding="ascii")
    except OSError as error:
        raise UsageError(f"cannot write into {printable(folder)}: {error.strerror}") from error


def keep_recording(folder: str, run: str) -> None:
    """Copy a run to `recording/` in the folder, so that another job can make the report again.

    Regular files only: a link in a run leads to what is nobody's business.

    Raises:
        UsageError: it cannot be copied.
    """
    source = Path(run).resolve()
    target = Path(folder) / RECORDINGS / source.name
    try:
        for root, folders, names in os.walk(source):
            folders[:] = [name for name in folders if not (Path(root) / name).is_symlink()]
            into = target / Path(root).relative_to(source)
            into.mkdir(parents=True, exist_ok=True)
            for name in names:
                file = Path(root) / name
                if file.is_file() and not file.is_symlink() and not name.startswith("."):
                    shutil.copyfile(file, into / name)
    except OSError as error:
        raise UsageError(f"cannot copy the recording into {printable(folder)}: {error.strerror}") from error


def _report_json(attachment: Attachment) -> str:
    from io import StringIO

    text = StringIO()
    renderer("json")(attachment.report, text)
    return text.getvalue()


def _junit(attachment: Attachment) -> str:
    from io import StringIO

    from gpucost.render.junit import render

    text = StringIO()
    render(attachment.check, text)
    return text.getvalue()


def _openmetrics(attachment: Attachment) -> str:
    from io import StringIO

    from gpucost.render.openmetrics import render

    text = StringIO()
    render(attachment.report, attachment.check, text)
    return text.getvalue()
