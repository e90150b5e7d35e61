"""The report as JSON; `gpucost/data/report.schema.json` describes it.

Everything that is not ASCII is escaped, so that nothing in a recording can act on a terminal, whatever the encoding.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from gpucost.report.model import Report


def render(report: Report, file: TextIO, *, width: int = 0, color: bool = False) -> None:  # noqa: ARG001 (JSON has neither)
    """Write the report as one JSON document."""
    json.dump(report.to_json(), file, indent=2, ensure_ascii=True, allow_nan=False)
    file.write("\n")
