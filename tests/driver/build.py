"""Compiles the stand-in driver, and variants of it that lack some symbols (as older drivers do)."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
LIBRARY = "libnvidia-ml.so.1"
FLAGS = (
    "-std=gnu11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-fvisibility=hidden",
    "-shared",
    f"-Wl,-soname,{LIBRARY}",
)


class NoCompilerError(RuntimeError):
    """There is no C compiler on this machine."""


def compiler() -> str:
    """The C compiler to use: `$CC`, else `cc`.

    Raises:
        NoCompilerError: neither is there.
    """
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        raise NoCompilerError("no C compiler (cc, or $CC) to build the stand-in driver with")
    return found


def build(cache: Path, absent: Sequence[str] = ()) -> Path:
    """Compile the library below `cache`, unless it is there already, and return the directory to put into `LD_LIBRARY_PATH`.

    Args:
        cache: a directory that may be shared by several processes and runs; one folder in it belongs to one state of the source.
        absent: symbols that this driver does not export.

    Raises:
        NoCompilerError: there is no C compiler.
    """
    sources = sorted(SOURCE.glob("*.[ch]"))
    digest = hashlib.sha256("\0".join((*FLAGS, *sorted(absent))).encode())
    for path in sources:
        digest.update(path.read_bytes())
    directory = cache / digest.hexdigest()[:16]
    if not (directory / LIBRARY).exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _compile(Path(scratch), [path for path in sources if path.suffix == ".c"], absent)
            (Path(scratch) / LIBRARY).replace(directory / LIBRARY)  # whole or not at all, whoever builds beside us
    return directory


def _compile(scratch: Path, sources: Sequence[Path], absent: Sequence[str]) -> None:
    command = [compiler(), *FLAGS]
    if absent:
        script = scratch / "symbols.map"
        script.write_text("{ local: " + " ".join(f"{symbol};" for symbol in absent) + " };\n")
        command.append(f"-Wl,--version-script={script}")
    subprocess.run([*command, "-o", str(scratch / LIBRARY), *map(str, sources), "-lpthread", "-lm"], check=True)
