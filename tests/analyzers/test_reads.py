"""A report loads the columns that the analyses name, and looks at several GPUs at once: neither may change a figure."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import given, settings

import gpucost
from analysis_strategies import any_recordings
from gpucost.analyzers import Analysis, analyze
from gpucost.analyzers import analysis as analyses
from gpucost.analyzers.reads import COLUMNS, HEADROOM
from gpucost.schema import TABLES
from gpucost.store.parquet import KEYS

if TYPE_CHECKING:
    from gpucost.recording import Recording

READERS = {"floats", "times", "texts", "truths", "distinct_texts"}
ALWAYS = {"host", "t_ns", "start_t_ns", "end_t_ns", *(key for keys in KEYS.values() for key in keys)}


def same(one: Analysis, other: Analysis) -> None:
    for part in fields(Analysis):
        mine, theirs = getattr(one, part.name), getattr(other, part.name)
        if isinstance(mine, pd.DataFrame):
            pd.testing.assert_frame_equal(mine, theirs)
        else:
            assert mine == theirs, part.name


def test_every_column_that_an_analysis_reads_is_one_that_a_report_loads() -> None:
    loaded = ALWAYS | set(HEADROOM) | {column for columns in COLUMNS.values() for column in columns}
    loaded |= {column for name, table in TABLES.items() if name not in COLUMNS for column in table.columns}
    read = set()
    for path in Path(gpucost.__file__).parent.joinpath("analyzers").glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in READERS:
                read.update(arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant))
    assert len(read) > 10, "the analyses read their columns by other functions now: name those here"
    assert read <= loaded, f"add to gpucost.analyzers.reads: {sorted(read - loaded)}"


def test_the_columns_named_are_columns_of_their_tables() -> None:
    for name, columns in COLUMNS.items():
        assert set(columns) <= set(TABLES[name].columns)


@given(any_recordings())
@settings(max_examples=40, deadline=None)
def test_the_named_columns_alone_give_the_same_analysis(run: Recording) -> None:
    frames = {
        name: frame[[column for column in frame.columns if column in ALWAYS or column in COLUMNS[name]]]
        if name in COLUMNS
        else frame
        for name, frame in run.frames.items()
    }
    same(analyze(replace(run, frames=frames)), analyze(run))


@given(any_recordings())
@settings(max_examples=25, deadline=None)
def test_rows_in_the_order_of_the_gpus_and_gpus_two_at_a_time_give_the_same_analysis(run: Recording) -> None:
    gpu = run.frames["gpu"]
    grouped = gpu.sort_values("gpu_uuid", kind="stable").reset_index(drop=True) if "gpu_uuid" in gpu.columns else gpu
    expected = analyze(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyses, "_WORTH_THREADS_ROWS", 0)
        same(analyze(replace(run, frames={**run.frames, "gpu": grouped})), expected)


def test_what_the_performance_monitor_gave_is_loaded_for_the_headroom() -> None:
    from gpucost.analyzers import headroom

    names = {headroom.TENSOR, headroom.FP32, headroom.FP64, headroom.DRAM, headroom._WINDOW}
    assert names | {"sm_clock_mhz"} == set(HEADROOM)
    assert set(HEADROOM) <= set(TABLES["gpu"].columns)
