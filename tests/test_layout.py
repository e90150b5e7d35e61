"""The layout: two folders at the top level that are sub-packages, in the tree as in the wheel."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _tree_modules() -> set[str]:
    found = set()
    for folder, package in (
        ("gpucost", "gpucost"),
        ("collectors", "gpucost/collectors"),
        ("analyzers", "gpucost/analyzers"),
    ):
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT / folder)
            linked = folder == "gpucost" and inside.parts[0] in ("collectors", "analyzers")
            if path.is_file() and not linked and "__pycache__" not in path.parts:
                found.add(f"{package}/{inside.as_posix()}")
    return found


@pytest.mark.slow
def test_the_wheel_holds_exactly_the_files_of_the_tree(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("gpucost/")}
    assert packed == _tree_modules()


def test_every_package_of_the_tree_is_listed():
    found = {path.rsplit("/", 1)[0].replace("/", ".") for path in _tree_modules() if path.endswith("/__init__.py")}
    assert found == set(_project()["tool"]["setuptools"]["packages"])


def test_the_top_level_folders_are_the_sub_packages():
    for name in ("collectors", "analyzers"):
        assert (ROOT / "gpucost" / name).resolve() == ROOT / name


@pytest.mark.parametrize("module", ["gpucost", "gpucost.cli", "gpucost.recorder.session"])
def test_what_must_start_fast_imports_nothing_heavy(module):
    heavy = "{'pandas', 'pyarrow', 'numpy', 'torch', 'typer', 'click', 'rich', 'pynvml', 'psutil'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_named_collectors_beside_the_user_does_no_harm(tmp_path):
    for name in ("collectors", "analyzers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    done = subprocess.run(
        [sys.executable, "-m", "gpucost", "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_schema_names_units_and_every_table_has_clocks():
    from gpucost.schema import TABLES

    for table in TABLES.values():
        stems = {name.removeprefix("start_").removeprefix("end_") for name in table.columns}
        assert {"time_ns", "mono_ns"} <= stems
        assert set(table.kinds()) == set(table.columns)
