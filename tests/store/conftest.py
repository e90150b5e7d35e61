"""Fixtures of the store's tests."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.making import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that is not closed, without rows."""
    return make_run(tmp_path / "runs")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte and 64 files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "none", disk], check=False).returncode
    ):
        pytest.skip("needs the right to mount")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
