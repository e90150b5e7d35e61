"""docs/bench.md names every field of a profile, every flag and every status."""

from dataclasses import fields
from pathlib import Path

import pytest

from gpucost.bench import model

TEXT = (Path(__file__).resolve().parent.parent.parent / "docs" / "bench.md").read_text(encoding="utf-8")
NAMES = [
    *(one.name for kind in (model.Profile, model.Device, model.Result, model.PowerModel) for one in fields(kind)),
    *model.GATES,
    *model.NOTES,
    *model.STATUSES,
]


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_everything_in_a_profile_is_described(name):
    assert f"`{name}`" in TEXT


def test_the_columns_of_the_tables_are_described(tmp_path):
    import pyarrow.parquet as pq

    from benching.profiles import profile
    from gpucost.bench import store

    path = store.write(tmp_path / "one", profile(), [], [])
    for column in pq.read_schema(path / "samples.parquet").names:
        assert f"`{column}`" in TEXT, column
