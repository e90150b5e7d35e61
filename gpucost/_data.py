"""The tables of facts that ship with gpucost."""

from __future__ import annotations

import os


def rows(name: str) -> list[dict[str, str]]:
    """Every row of the table `name` in `gpucost/data`, as text by column."""
    import csv

    path = os.path.join(os.path.dirname(__file__), "data", name)  # noqa: PTH118, PTH120 (pathlib costs start-up time)
    with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123
        return list(csv.DictReader(file))
