"""A fixture that runs gpucost in this process and gives back what it did."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gpucost.cli import main

_VARIABLES = ("GPUCOST_PRICE", "GPUCOST_RUNS", "GPUCOST_DEBUG", "FORCE_COLOR", "NO_COLOR")


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs gpucost in an empty directory, without a configuration; gives its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def call(*argv: str) -> tuple[int, str, str]:
        code = main(list(argv))
        out, err = capsys.readouterr()
        return code, out, err

    return call
