"""Builds the failing C library (`shim.c`) and gives the environment with which a process runs on it."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from driver.build import compiler

SOURCE = Path(__file__).with_name("shim.c")
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-D_FORTIFY_SOURCE=0")


def build() -> Path:
    """The library, compiled once for each state of its source.

    Raises:
        NoCompilerError: there is no C compiler.
    """
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(_FLAGS).encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"gpucost-torture-{os.getuid()}" / f"{digest}.so"
    if not library.exists():
        library.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            made = Path(scratch) / "shim.so"
            subprocess.run([compiler(), *_FLAGS, "-o", str(made), str(SOURCE), "-ldl"], check=True)
            made.replace(library)
    return library


def environment(**settings: object) -> dict[str, str]:
    """The process's environment and the library's settings: `call="write"` is `TORTURE_CALL`."""
    return {
        **os.environ,
        "LD_PRELOAD": str(build()),
        **{f"TORTURE_{name.upper()}": str(value) for name, value in settings.items()},
    }
