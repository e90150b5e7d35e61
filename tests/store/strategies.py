"""Rows of any table, with any values that its schema allows."""

from typing import Any

from hypothesis import strategies as st

from gpucost.recording import MAX_TIME_NS
from gpucost.schema import TABLES

_KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**53), 2**53),
    "int32": st.integers(-(2**31) + 1, 2**31 - 1),
    "int16": st.integers(-(2**15) + 1, 2**15 - 1),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "float32": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "string": st.text(st.characters(codec="utf-8"), max_size=12),
    "bool": st.booleans(),
}


def rows_of(name: str, times: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Any]:
    """Rows of a table; `times` for every column of nanoseconds."""
    table = TABLES[name]
    times = st.integers(0, MAX_TIME_NS) if times is None else times
    columns = []
    for column, kind in table.kinds().items():
        values = times if column.endswith("_ns") else _KINDS[kind]
        columns.append(values if column in table.required() else st.none() | values)
    return st.builds(table.row, *columns)
