"""Run directories: how everything in them is named, how one is made, and how a user's word for a run finds it.

This module is imported before the recorded command starts, so the part that makes a directory needs nothing but `os` and `time`.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from gpucost.errors import DamagedRunError, NewerSchemaError, RunNotFoundError, UsageError

if TYPE_CHECKING:
    from gpucost.manifest import Manifest

DEFAULT_RUNS = os.path.join(".gpucost", "runs")
"""Where runs go when the user names no folder."""

MANIFEST = "run.json"
TEMPORARY_MANIFEST = ".run.json."
"""What the name of a manifest begins with until it is whole and takes its place."""

JOURNAL = "journal"
STAGES = "stages.jsonl"
LOCK = ".lock"
SEAL_LOCK = ".seal.lock"
DAMAGED = "damaged"
HOST_PREFIX = "host="

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_SECOND_LENGTH = len("YYYYMMDD-HHMMSS")
_SAFE = frozenset(_ALPHABET + _ALPHABET.upper() + "._-")
_TRIES = 100
_SEGMENT_FIELDS = 4
_PART_FIELDS = 4
_MAX_DIGITS = 12


# --- names -------------------------------------------------------------------------------------------------------------------------


def new_token(length: int = 8) -> str:
    """Random lower-case letters and digits, fit for file names."""
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(length))


def new_run_id(time_ns: int) -> str:
    """An id for a run that starts at `time_ns`: `YYYYMMDD-HHMMSS-xxxxxx`, UTC."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(time_ns // 1_000_000_000))}-{new_token(6)}"


def safe_host(host: str) -> str:
    """A host's name as it may stand in a path: letters, digits, `.`, `_` and `-`, at most 128 of them."""
    name = "".join(char if char in _SAFE else "_" for char in host[:128]).lstrip(".-")
    return name or "unknown"


def manifest_path(run_dir: str) -> str:
    """The manifest of a run."""
    return os.path.join(run_dir, MANIFEST)


def host_dir(run_dir: str, host: str) -> str:
    """What one host of a run wrote."""
    return os.path.join(run_dir, HOST_PREFIX + safe_host(host))


def journal_dir(run_dir: str, host: str) -> str:
    """The folder of a host's journal segments."""
    return os.path.join(host_dir(run_dir, host), JOURNAL)


def stage_file(run_dir: str, host: str) -> str:
    """The file that a host's recorded command appends stage marks to."""
    return os.path.join(host_dir(run_dir, host), STAGES)


def lock_file(run_dir: str, host: str) -> str:
    """The file that a host's live recorder holds a lock on."""
    return os.path.join(host_dir(run_dir, host), LOCK)


def segment_name(table: str, writer: str, seq: int) -> str:
    """File name of a journal segment."""
    return f"{table}.{writer}.{seq}.jsonl"


def parse_segment(name: str) -> tuple[str, str, int] | None:
    """Table, writer and number of a journal segment's file name, or None for any other name."""
    fields = name.split(".")
    if (
        len(fields) != _SEGMENT_FIELDS
        or fields[3] != "jsonl"
        or not (fields[0] and _is_token(fields[1]) and _is_number(fields[2]))
    ):
        return None
    return fields[0], fields[1], int(fields[2])


def part_name(writer: str, first: int, last: int) -> str:
    """File name of a sealed part that holds the segments `first` to `last` of a writer."""
    return f"part-{writer}-{first}-{last}.parquet"


def parse_part(name: str) -> tuple[str, int, int] | None:
    """Writer, first and last segment of a sealed part's file name, or None for any other name."""
    stem = name.removesuffix(".parquet")
    fields = stem.split("-")
    if stem == name or len(fields) != _PART_FIELDS or fields[0] != "part" or not _is_token(fields[1]):
        return None
    if not (_is_number(fields[2]) and _is_number(fields[3]) and int(fields[2]) <= int(fields[3])):
        return None
    return fields[1], int(fields[2]), int(fields[3])


def _is_token(text: str) -> bool:
    return text.isascii() and text.isalnum()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


# --- making a run directory --------------------------------------------------------------------------------------------------------


def create(runs: str, run_id: str, host: str) -> str:
    """Make the directory of a new run, mode 0700, and the journal's folder of its first host in it.

    Args:
        runs: the folder of all runs; made if it is not there.
        run_id: from `new_run_id`. When the folder has such a run already, another id of the same second is taken.
        host: the host's name; it is made safe for a path.

    Returns:
        The run directory. Its base name is the id that the run got.

    Raises:
        UsageError: the directory cannot be made.
    """
    try:
        _make_runs(runs)
        path = _make_run(runs, run_id)
    except OSError as error:
        raise _cannot_make(runs, error) from error
    try:
        add_host(path, host)
    except OSError as error:
        _remove_quietly(os.rmdir, path)
        raise _cannot_make(path, error) from error
    return path


def add_host(run_dir: str, host: str) -> str:
    """Make a host's folder and its journal's folder in a run; returns the host's folder.

    Raises:
        OSError: it cannot be made.
    """
    folder = host_dir(run_dir, host)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise
    try:
        os.mkdir(os.path.join(folder, JOURNAL), 0o700)
    except FileExistsError:
        pass
    except OSError:
        _remove_quietly(os.rmdir, folder)
        raise
    return folder


def remove_joined(run_dir: str, host: str) -> None:
    """Take back what a host that joined a run made there, when nothing was recorded; no failure is raised."""
    folder = host_dir(run_dir, host)
    for name in (MANIFEST, LOCK, STAGES):
        _remove_quietly(os.unlink, os.path.join(folder, name))
    for path in (os.path.join(folder, JOURNAL), folder):
        _remove_quietly(os.rmdir, path)


def remove_empty(run_dir: str, host: str) -> None:
    """Take back a run directory in which nothing was recorded; one that holds anything else stays as it is, and no failure is raised."""
    folder = host_dir(run_dir, host)
    own = {JOURNAL, STAGES, LOCK, SEAL_LOCK}
    try:
        recorded = os.listdir(os.path.join(folder, JOURNAL)) or set(os.listdir(folder)) - own
        foreign = set(os.listdir(run_dir)) - {MANIFEST, os.path.basename(folder)}
        if recorded or foreign or _size(os.path.join(folder, STAGES)):
            return
    except OSError:
        return
    for path in (
        stage_file(run_dir, host),
        lock_file(run_dir, host),
        os.path.join(folder, SEAL_LOCK),
        manifest_path(run_dir),
    ):
        _remove_quietly(os.unlink, path)
    for path in (os.path.join(folder, JOURNAL), folder, run_dir):
        _remove_quietly(os.rmdir, path)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _make_runs(runs: str) -> None:
    if os.path.isdir(runs):
        return
    os.makedirs(runs, exist_ok=True)
    head = os.path.abspath(runs)
    while head != os.path.dirname(head):
        if os.path.basename(head) == ".gpucost":
            _ignore_in_git(head)
            return
        head = os.path.dirname(head)


def _ignore_in_git(folder: str) -> None:
    """Keep recordings out of the user's commits; a courtesy, so a failure is not one of the run."""
    try:
        handle = os.open(os.path.join(folder, ".gitignore"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError:
        return
    try:
        os.write(handle, b"*\n")
    except OSError:
        pass
    finally:
        os.close(handle)


def _make_run(runs: str, run_id: str) -> str:
    for _ in range(_TRIES):
        path = os.path.join(runs, run_id)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            run_id = f"{run_id[:_SECOND_LENGTH]}-{new_token(6)}"
        else:
            return path
    raise FileExistsError(17, "every id that was tried is taken", runs)


def _cannot_make(path: str, error: OSError) -> UsageError:
    reason = error.strerror or str(error)
    return UsageError(
        f"cannot make a run directory in {printable(path)}: {reason}",
        hint="choose a folder that can be written with --runs DIR or GPUCOST_RUNS",
    )


def _remove_quietly(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except OSError:
        pass


# --- who is writing ----------------------------------------------------------------------------------------------------------------


def hold_lock(path: str) -> int:
    """Lock a file of a run for as long as this process lives or keeps the descriptor open; children do not inherit it.

    Where the file system or the platform has no such locks, the file is opened all the same: the run then never shows as live.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        import fcntl
    except ImportError:
        return handle
    for attempt in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A reader that looks whether the run is live holds the lock for an instant.
            if attempt == _TRIES - 1:
                os.close(handle)
                raise
            time.sleep(0.001)
        except OSError:
            return handle
        else:
            return handle
    return handle


def is_held(path: str) -> bool:
    """Whether a process holds the lock of this file; False where that cannot be told."""
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def hosts(run_dir: str) -> list[str]:
    """The hosts that have a folder in a run, sorted."""
    try:
        names = os.listdir(run_dir)
    except OSError:
        return []
    found = (name.removeprefix(HOST_PREFIX) for name in names if name.startswith(HOST_PREFIX))
    return sorted(
        name for name in found if name == safe_host(name) and os.path.isdir(os.path.join(run_dir, HOST_PREFIX + name))
    )


def is_live(run_dir: str) -> bool:
    """Whether a recorder is still writing this run."""
    return any(is_held(lock_file(run_dir, host)) for host in hosts(run_dir))


# --- finding runs ------------------------------------------------------------------------------------------------------------------


def find(runs: str, name: str | None) -> str:
    """The run directory that a user means.

    Args:
        runs: the folder of all runs.
        name: an id, a unique prefix of one, `latest`, `latest~N` (N runs before it), the path of a run directory or of its manifest; None
            means the latest.

    Raises:
        RunNotFoundError: no run, or more than one, answers to the name.
    """
    name = "latest" if name is None else name
    if name == "latest" or name.startswith("latest~"):
        return _find_latest(runs, name)
    if _is_plain(name) and _looks_like_run(os.path.join(runs, name)):
        return os.path.join(runs, name)
    path = _find_path(name)
    if path is not None:
        return path
    return _find_prefix(runs, name)


def list_runs(runs: str) -> Iterator[tuple[str, "Manifest | str"]]:
    """Every run of a folder, newest first: its directory, and its manifest or, in a line, why it cannot be read.

    What is not a run is passed over. A folder that is not there has no runs.
    """
    from gpucost.store.manifest_io import read_manifest

    for path in _newest_first(runs):
        try:
            yield path, read_manifest(path)
        except (DamagedRunError, NewerSchemaError) as error:
            yield path, str(error)


def printable(text: str) -> str:
    """A name for a message: as it is, or quoted and escaped where it holds anything that a terminal would act on."""
    return text if text.isprintable() and text else ascii(text)


def _is_plain(name: str) -> bool:
    separators = {os.sep, os.altsep or os.sep, "\0"}
    return name not in {"", os.curdir, os.pardir} and not separators.intersection(name)


def _looks_like_run(path: str) -> bool:
    return os.path.isfile(manifest_path(path)) or (
        _second_of(os.path.basename(path)) is not None and os.path.isdir(path)
    )


def _second_of(name: str) -> str | None:
    """The second of its start that a run's id begins with."""
    second = name[:_SECOND_LENGTH]
    digits = second.replace("-", "", 1)
    whole = len(second) == _SECOND_LENGTH and second[8] == "-" and digits.isascii() and digits.isdigit()
    return second if whole and name[_SECOND_LENGTH : _SECOND_LENGTH + 1] == "-" else None


def _find_latest(runs: str, name: str) -> str:
    back = name.removeprefix("latest").removeprefix("~") or "0"
    if not _is_number(back):
        raise RunNotFoundError(f"{printable(name)} is not a run", hint="latest~1 is the run before the latest")
    count = 0
    for path in _newest_first(runs):
        if os.path.isfile(manifest_path(path)):
            if count == int(back):
                return path
            count += 1
    if not count:
        raise _no_runs(runs)
    have = "only one run" if count == 1 else f"only {count} runs"
    raise RunNotFoundError(f"{name}: there is {have} in {printable(runs)}", hint="gpucost runs lists them")


def _find_path(name: str) -> str | None:
    if "\0" in name or not name:
        return None
    if os.path.basename(name) == MANIFEST and os.path.isfile(name):
        return os.path.dirname(name) or os.curdir
    if os.path.isfile(manifest_path(name)):
        return name.rstrip(os.sep) or name
    return None


def _find_prefix(runs: str, name: str) -> str:
    ids = [os.path.basename(path) for path in _newest_first(runs)]
    if not ids:
        raise _no_runs(runs)
    matches = [run_id for run_id in ids if name and run_id.startswith(name)]
    if len(matches) == 1:
        return os.path.join(runs, matches[0])
    if matches:
        raise RunNotFoundError(
            f"{printable(name)} fits {len(matches)} runs: {_listed(matches)}", hint="type more of the id"
        )
    if not _is_plain(name):
        raise RunNotFoundError(f"{printable(name)} is not a run directory", hint="a run directory has a run.json in it")
    raise RunNotFoundError(
        f"no run {printable(name)} in {printable(runs)}", hint=f"near it: {_listed(_near(name, ids))}"
    )


def _near(name: str, ids: list[str]) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(name, ids, n=3, cutoff=0.5) or ids[:3]


def _listed(ids: Iterable[str]) -> str:
    shown = [printable(run_id) for run_id in ids]
    return ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "")  # noqa: PLR2004 - as many as fit in a line


def _no_runs(runs: str) -> RunNotFoundError:
    return RunNotFoundError(f"no runs in {printable(runs)} yet", hint="gpucost record -- COMMAND")


def _newest_first(runs: str) -> Iterator[str]:
    """Directories of runs, newest first; a manifest is opened only where the id does not decide the order."""
    try:
        names = os.listdir(runs)
    except OSError:
        return
    keyed = [(second, path) for path in (os.path.join(runs, name) for name in names) if (second := _sort_second(path))]
    keyed.sort(reverse=True)
    for _, group in groupby(keyed, key=lambda item: item[0]):
        paths = [path for _, path in group]
        if len(paths) > 1:
            paths.sort(key=_start_of, reverse=True)
        yield from paths


def _sort_second(path: str) -> str | None:
    if not _looks_like_run(path):
        return None
    second = _second_of(os.path.basename(path))
    if second is not None:
        return second
    start = _start_of(path) // 1_000_000_000
    try:
        return time.strftime("%Y%m%d-%H%M%S", time.gmtime(start))
    except (OverflowError, ValueError, OSError):
        return "00000000-000000"


def _start_of(path: str) -> int:
    from gpucost.store.manifest_io import read_manifest

    try:
        return read_manifest(path).start_time_ns
    except (DamagedRunError, NewerSchemaError):
        return 0
