"""Every reader is given what nobody should write: a clear error, or a partial read that says so; no traceback, no hang, nothing outside."""

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gpucost import config
from gpucost.errors import GpucostError
from gpucost.manifest import Gpu
from gpucost.report import load_report
from gpucost.rundir import stage_file
from gpucost.schema import TABLES
from gpucost.store.manifest_io import read_manifest
from gpucost.store.reader import load
from gpucost.store.recover import recover
from gpucost.store.seal import seal_run
from gpucost.store.segment import SegmentReader
from gpucost.store.stagefile import fold_marks
from store.making import HOST, MONO_NS, TIME_NS, gpu, journal, make_run, mutate, process, write_rounds
from torture.rows import Row

SLOW_S = 10.0
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, -(2**70), 1e308, float("nan"), "", "../../../etc/passwd", "\ud800", "\x1b[31m", "a" * 5000, [], {}, [[[[]]]],
    {"__class__": 1}, "NaN", 0.1, "/dev/zero", "host=..", "\0",
)  # fmt: skip
_CONFIG = 'price = 2.49\nruns = ".gpucost/runs"\nhz = 10\nidle_after = 1.0\nidle_split = "owner"\n[prices]\n"NVIDIA H100 80GB HBM3" = 2.10\n[carbon]\nregion = "SWE"\npue = 1.2\n'
_MARK = {
    "event": "start",
    "id": "7f3a",
    "name": "plan",
    "parent": None,
    "pid": 123,
    "time_ns": TIME_NS,
    "mono_ns": MONO_NS,
    "attributes": {"n": 1},
}


def fuzz(folder: Path, cases: int, seed: int = 1) -> list[Row]:
    """So many cases for each reader."""
    readers: dict[str, Callable[[Path, random.Random], Callable[[], object]]] = {
        "manifest": _manifest,
        "journal": _journal,
        "Parquet": _parquet,
        "stage lines": _marks,
        "configuration": _configuration,
        "whole run (read, report, seal, recover)": _whole_run,
    }
    rows = []
    for name, make in readers.items():
        count = cases if make is not _whole_run else max(1, cases // 10)
        rows.append(_fuzz_one(folder / name.split()[0], name, make, count, seed))
    return rows


def _fuzz_one(folder: Path, name: str, make: Callable[..., Callable[[], object]], cases: int, seed: int) -> Row:
    row = Row("fuzz", f"{name}: mutated real files and hostile values", cases)
    folder.mkdir(parents=True)
    (folder.parent / "outside").mkdir(exist_ok=True)
    sentinel = folder.parent / "outside" / "sentinel"
    sentinel.write_text("untouched")
    refused, worst, chance = 0, 0.0, random.Random(seed)
    read = make(folder / "subject", chance)
    for number in range(cases):
        began = time.monotonic()
        try:
            read()
        except GpucostError as error:
            refused += 1
            row.check(
                str(error).isprintable() and len(str(error)) < 2000, f"case {number}: the message {str(error)[:100]!r}"
            )
        except Exception as error:
            row.check(False, f"case {number}: {type(error).__name__}: {str(error)[:200]}")
        worst = max(worst, time.monotonic() - began)
    row.check(worst < SLOW_S, f"one case took {worst:.1f} s")
    names = {path.name for path in folder.parent.iterdir()}
    row.check(sentinel.read_text() == "untouched" and names <= {"outside", *_ROOMS}, "something outside was written")
    row.lost = f"refused with one line: {refused}, read (in part): {cases - refused - len(row.failures)}; slowest {worst:.2f} s"
    return row


_ROOMS = ("manifest", "journal", "Parquet", "stage", "configuration", "whole")


def _hostile(value: Any, chance: random.Random) -> Any:
    """A JSON value in which one place holds something else, is gone, or is there twice."""
    if chance.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return chance.choice(_VALUES)
    if isinstance(value, dict):
        key = chance.choice(list(value))
        if chance.random() < 0.15:
            return {name: item for name, item in value.items() if name != key}
        if chance.random() < 0.1:
            return {**value, str(chance.choice(_VALUES)): value[key]}
        return {**value, key: _hostile(value[key], chance)}
    index = chance.randrange(len(value))
    return [*value[:index], _hostile(value[index], chance), *value[index + chance.choice([0, 1]) :]]


def _damage(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 1, 2, 5])):
        data = mutate(data, chance) if data else b"\xff"
    return data


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _manifest(subject: Path, chance: random.Random) -> Callable[[], object]:
    run = make_run(subject, end_s=3, gpus=[Gpu("GPU-0", "NVIDIA H100 80GB HBM3", HOST)], labels={"a": "b"})
    path, sound = run / "run.json", (run / "run.json").read_bytes()

    def read() -> object:
        hostile = chance.random() < 0.5
        path.write_bytes(_dumped(_hostile(json.loads(sound), chance)) if hostile else _damage(sound, chance))
        return read_manifest(str(run))

    return read


def _journal(subject: Path, chance: random.Random) -> Callable[[], object]:
    run = make_run(subject)
    write_rounds(run, 1, rows=6)
    paths = sorted(run.glob("host=*/journal/*.jsonl"))
    sound = {path: path.read_bytes() for path in paths}

    def read() -> object:
        path = chance.choice(paths)
        data = sound[path]
        if chance.random() < 0.4:
            lines = data.splitlines()
            index = chance.randrange(len(lines))
            lines[index] = _dumped(_hostile(json.loads(lines[index]), chance))
            data = b"\n".join(lines) + b"\n"
        else:
            data = _damage(data, chance)
        path.write_bytes(data)
        return [row for batch in SegmentReader(str(path)).batches() for row in batch]

    return read


def _parquet(subject: Path, chance: random.Random) -> Callable[[], object]:
    run = make_run(subject, end_s=10)
    write_rounds(run, 2)
    seal_run(str(run), HOST, final=True)
    paths = sorted(run.glob("host=*/*/*.parquet"))
    sound = {path: path.read_bytes() for path in paths}

    def read() -> object:
        path = chance.choice(paths)
        for other, data in sound.items():
            other.write_bytes(data)
        if chance.random() < 0.4:
            _rewrite(path, chance)
        else:
            path.write_bytes(_damage(sound[path], chance))
        return load(str(run), tables=[path.parent.name])

    return read


def _rewrite(path: Path, chance: random.Random) -> None:
    """A sound Parquet file, as another program could leave it there, with columns, values or metadata that do not belong."""
    with path.open("rb") as file:
        table = pq.read_table(file)
    for _ in range(chance.choice([1, 1, 2])):
        table = chance.choice(_REWRITES)(table, chance)
    with path.open("wb") as file:
        pq.write_table(table, file)


def _column(table: pa.Table, chance: random.Random) -> int:
    return chance.randrange(max(1, table.num_columns)) if table.num_columns else -1


def _put(table: pa.Table, index: int, values: object) -> pa.Table:
    return table.set_column(index, table.column_names[index], values) if index >= 0 else table


def _other_type(table: pa.Table, chance: random.Random) -> pa.Table:
    one = chance.choice(
        [
            "text",
            2**63 - 1,
            -1,
            1e308,
            float("nan"),
            float("inf"),
            b"\xff\xfe",
            [1],
            {"a": 1},
            True,
            "\x1b[31m",
            "../..",
            None,
            0.5,
        ]
    )
    return _put(table, _column(table, chance), pa.array([one] * len(table)))


def _holes(table: pa.Table, chance: random.Random) -> pa.Table:
    index = _column(table, chance)
    if index < 0:
        return table
    values = [None if chance.random() < 0.3 else value for value in table.column(index).to_pylist()]
    return _put(table, index, pa.array(values, type=table.column(index).type))


def _extremes(table: pa.Table, chance: random.Random) -> pa.Table:
    """Values of the right type that no device and no clock gives."""
    index = _column(table, chance)
    if index < 0:
        return table
    kind = table.column(index).type
    hostile: list[object] = ["", "\0", "a" * 5000, "../../x", "\x1b]0;x\x07"]
    if pa.types.is_integer(kind):
        hostile = [2 ** (kind.bit_width - 1) - 1, 0, 1] + (
            [] if pa.types.is_unsigned_integer(kind) else [-(2 ** (kind.bit_width - 1)), -1]
        )
    elif pa.types.is_floating(kind):
        hostile = [float("nan"), float("inf"), float("-inf"), -1.0, 3e38, 1e-40]
    elif pa.types.is_boolean(kind):
        hostile = [True, False, None]
    values = [chance.choice(hostile) if chance.random() < 0.3 else value for value in table.column(index).to_pylist()]
    return _put(table, index, pa.array(values, type=kind))


def _metadata(table: pa.Table, chance: random.Random) -> pa.Table:
    known = dict(table.schema.metadata or {})
    key = chance.choice([*known, b"gpucost.schema_version", b"gpucost.problems", b"ARROW:schema"])
    known[key] = chance.choice(
        [
            b"",
            b"-1",
            b"999",
            b"\xff",
            b"[]",
            b"[[1, 2, 3]]",
            b"[[[[",
            b"nan",
            b"1-",
            b"\x1b[31m",
            b"9" * 5000,
            b"[" * 100_000,
        ]
    )
    if chance.random() < 0.3:
        known.pop(key)
    return table.replace_schema_metadata(known)


_REWRITES: tuple[Callable[[pa.Table, random.Random], pa.Table], ...] = (
    _other_type,
    _holes,
    _extremes,
    _metadata,
    lambda table, chance: table.remove_column(_column(table, chance)) if table.num_columns else table,
    lambda table, chance: table.append_column("x\x1b[31m", pa.nulls(len(table), pa.int64())),
    lambda table, chance: table.slice(0, chance.choice([0, 1])),
    lambda table, chance: pa.concat_tables([table, table]),
    lambda table, chance: table.rename_columns([name.upper() for name in table.column_names]),
    lambda table, chance: table.select(list(reversed(table.column_names))),
    lambda table, chance: (
        table.slice(1).append_column(table.schema.field(0).with_name("twice"), table.slice(1).column(0))
        if table.num_columns
        else table
    ),
)


def _marks(subject: Path, chance: random.Random) -> Callable[[], object]:
    subject.mkdir(parents=True)
    path = subject / "stages.jsonl"

    def read() -> object:
        marks = [
            {**_MARK, "id": chance.choice(["a", "b", "c"]), "event": chance.choice(["start", "end"])} for _ in range(4)
        ]
        lines = [_dumped(_hostile(mark, chance) if chance.random() < 0.5 else mark) for mark in marks]
        data = b"\n".join(lines) + b"\n"
        path.write_bytes(_damage(data, chance) if chance.random() < 0.5 else data)
        found = fold_marks(str(path), TIME_NS, MONO_NS)
        return found and (found.finished, found.reader.open_spans())

    return read


def _configuration(subject: Path, chance: random.Random) -> Callable[[], object]:
    subject.mkdir(parents=True)
    path = subject / config.FILE_NAME
    words = (
        "inf",
        "nan",
        "-1",
        "[]",
        "{}",
        '"../x"',
        "true",
        "1e400",
        "0",
        '"\\u001b[31m"',
        "1979-05-27",
        "'''",
        "[[",
        "=",
    )

    def read() -> object:
        data = _CONFIG
        if chance.random() < 0.5:
            lines = data.splitlines()
            index = chance.randrange(len(lines))
            lines[index] = lines[index].split("=")[0] + f"= {chance.choice(words)}"
            path.write_text("\n".join(lines))
        else:
            path.write_bytes(_damage(data.encode(), chance))
        return config.load(subject)

    return read


def _whole_run(subject: Path, chance: random.Random) -> Callable[[], object]:
    template = make_run(subject, end_s=8, gpus=[Gpu("GPU-0", "NVIDIA H100 80GB HBM3", HOST)])
    write_rounds(template, 2)
    seal_run(str(template), HOST, final=True)
    log = journal(template, writer="later")
    log.append("gpu", [gpu(7, "GPU-0", gpu_util_pct=50.0)])
    log.append("process", [process(7, 100, name="x")])
    log.close()
    Path(stage_file(str(template), HOST)).write_bytes(_dumped(_MARK) + b"\n")

    def read() -> object:
        run = subject.parent / "copy" / template.name
        shutil.rmtree(run.parent, ignore_errors=True)
        shutil.copytree(template, run)
        files = [path for path in run.rglob("*") if path.is_file()]
        for path in chance.sample(files, chance.choice([1, 1, 2, 3])):
            _spoil(path, chance)
        for step in (
            lambda: load(str(run)),
            lambda: load_report(run),
            lambda: recover(str(run)),
            lambda: load_report(run),
        ):
            try:
                step()
            except GpucostError as error:
                refusal = error
                assert str(refusal).isprintable()
        return None

    return read


def _spoil(path: Path, chance: random.Random) -> None:
    way = chance.randrange(8)
    if way == 0:
        path.unlink()
    elif way == 1:
        path.write_bytes(b"")
    elif way == 2:
        target = path.with_name(
            chance.choice(
                ["part-x-1-999.parquet", "gpu.x.1.jsonl", "part-..-1-1.parquet", f"{next(iter(TABLES))}.a.b.jsonl"]
            )
        )
        path.rename(target)
    elif way == 3:
        path.unlink()
        path.symlink_to(path.parents[3] / "outside" / "sentinel" if len(path.parents) > 3 else "/dev/null")
    elif way < 6 and path.suffix == ".parquet":
        _rewrite(path, chance)
    else:
        path.write_bytes(_damage(path.read_bytes(), chance))
