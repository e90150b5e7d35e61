"""Reading and writing `run.json`. A manifest on disk is always whole: it is written aside, synced, and put in place in one step."""

import json
import math
import os
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from gpucost.errors import DamagedRunError
from gpucost.manifest import Manifest
from gpucost.recording import MAX_TIME_NS
from gpucost.rundir import manifest_path, new_token, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 16 << 20
"""A manifest larger than this is not one of ours."""

_TEMPORARY = ".run.json."


def write_manifest(run_dir: str, manifest: Manifest) -> None:
    """Put a manifest in place of the one in `run_dir`, atomically and durably, mode 0600.

    Raises:
        OSError: it cannot be written (disk full, read-only, directory gone). What was there before is untouched, and nothing is left behind.
    """
    data = json.dumps(_plain(manifest.to_json()), indent=2).encode("ascii") + b"\n"
    temporary = os.path.join(run_dir, f"{_TEMPORARY}{os.getpid()}-{new_token(4)}")
    try:
        write_synced(temporary, data)
        os.replace(temporary, manifest_path(run_dir))
    except BaseException:
        remove_quietly(temporary)
        raise
    sync_directory(run_dir)


def read_manifest(run_dir: str) -> Manifest:
    """The manifest of a run directory.

    Raises:
        DamagedRunError: there is none, it cannot be read, or it is not a manifest.
        NewerSchemaError: a newer gpucost wrote it.
    """
    path = manifest_path(run_dir)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DamagedRunError(
            f"{printable(run_dir)} has no run.json", hint="it is not a run, or its recorder died before it began"
        ) from error
    except OSError as error:
        raise DamagedRunError(f"{printable(path)} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise DamagedRunError(f"{printable(path)} is damaged: it is larger than {MAX_BYTES} bytes")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise DamagedRunError(f"{printable(path)} is damaged: it is not JSON") from error
    manifest = Manifest.from_json(_plain(value))
    _check_manifest(manifest, path)
    return manifest


def remove_stale(run_dir: str) -> None:
    """Remove what a writer of the manifest that was killed left behind; only for when nobody writes it."""
    for name in os.listdir(run_dir):
        if name.startswith(_TEMPORARY):
            remove_quietly(os.path.join(run_dir, name))


def write_synced(path: str, data: bytes) -> None:
    """Write a new file, mode 0600, and make its content durable.

    Raises:
        OSError: it exists or cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(path: str) -> None:
    """Make renames and removals in a folder durable, where the platform can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        # Some file systems cannot sync a directory; the rename itself has happened.
        pass
    finally:
        os.close(handle)


def remove_quietly(path: str) -> None:
    """Remove a file that may not be there, or may not be removable."""
    try:
        os.unlink(path)
    except OSError:
        pass


def _plain(value: Any) -> Any:
    """JSON values only: no NaN or infinity (unknown is null), no half of a surrogate pair, nothing that JSON lacks."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return _plain(str(value))


def _check_manifest(manifest: Manifest, path: str) -> None:
    wrong = _misfit(manifest, Manifest)
    if wrong is None:
        times = [manifest.start_time_ns, manifest.start_mono_ns, manifest.end_time_ns or 0, manifest.end_mono_ns or 0]
        times += [time for host in manifest.hosts.values() for time in (host.start_time_ns, host.start_mono_ns)]
        wrong = "a time is out of range" if any(not 0 <= time < MAX_TIME_NS for time in times) else None
    if wrong is not None:
        raise DamagedRunError(f"{printable(path)} is damaged: {wrong}")


def _misfit(value: Any, hint: Any, name: str = "it") -> str | None:
    """What of `value` does not have the shape that the annotation says, or None."""
    origin, arguments = get_origin(hint), get_args(hint)
    wrong: Iterable[str | None]
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        wrong = (_misfit(getattr(value, f.name), hints[f.name], f.name) for f in fields(hint))
        fits = isinstance(value, hint)
    elif origin in {Union, UnionType}:
        wrong, fits = (), any(_misfit(value, option, name) is None for option in arguments)
    elif origin is list:
        fits = isinstance(value, list)
        wrong = (_misfit(item, arguments[0], name) for item in (value if fits else ()))
    elif origin is dict:
        fits = isinstance(value, dict)
        wrong = (_misfit(item, arguments[1], name) for item in (value.values() if fits else ()))
    else:
        wrong, fits = (), hint is Any or _is_plain(value, hint)
    return next((one for one in wrong if one is not None), None) if fits else f"{name} has the wrong type"


def _is_plain(value: Any, kind: Any) -> bool:
    if kind is NoneType:
        return value is None
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)
