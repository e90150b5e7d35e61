"""Which runs a user's words mean, and which of them can be compared with a run.

A word is what `gpucost report` takes (an id, the beginning of one, `latest`, `latest~1`, a path), a glob of ids (`202611*`) or of paths
(`baseline/*`), `label:KEY=VALUE[,KEY=VALUE...]` or `name:NAME`; values may be globs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpucost import rundir
from gpucost.errors import RunNotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpucost.manifest import Manifest
    from gpucost.report.comparison import LeftOut

LAST = 20
"""Runs of a baseline that are taken, the newest first: what is older says little of today."""

DEFAULT_MATCH = ("gpu", "count", "driver", "outcome")
"""What a baseline run has in common with the new one, unless the user says otherwise; `label:KEY` and `name` can be added."""

MATCHERS = ("gpu", "count", "driver", "outcome", "name", "label:KEY", "none")

_LABEL = "label:"
_NAME = "name:"
_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Matched:
    """The runs of a baseline that can be compared, newest first, and those that cannot."""

    paths: list[str]
    left_out: list[LeftOut]


def choose(runs: str, words: Sequence[str], *, patterns_may_fail: bool = False) -> list[str]:
    """The directories of the runs that the words mean, each once.

    Args:
        runs: the folder of all runs.
        words: see the module. What a word means comes newest first; a glob or a label may mean several.
        patterns_may_fail: a glob, a label or a name that fits no run means no run, as on the first day of a project.

    Raises:
        RunNotFoundError: a word means no run.
        UsageError: a word is not understood.
    """
    found: dict[str, str] = {}
    for word in words:
        for path in _meant(runs, word, may_fail=patterns_may_fail):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def match(heads: Sequence[str], bases: Sequence[str], on: Sequence[str], *, last: int = LAST) -> Matched:
    """The baseline runs that are of the same kind as the head.

    Args:
        heads: run directories; the first decides what the others are matched with.
        bases: run directories, newest first.
        on: of `MATCHERS`.
        last: at most so many runs, the first that fit.

    Raises:
        GpucostError: a manifest cannot be read, or `on` is not understood.
    """
    from gpucost.report.comparison import LeftOut
    from gpucost.store.manifest_io import read_manifest

    check_match(on)
    wanted = read_manifest(heads[0])
    own = {os.path.realpath(path) for path in heads}
    matched = Matched([], [])
    for path in bases:
        manifest = read_manifest(path)
        reason = "it is the run itself" if os.path.realpath(path) in own else _unlike(wanted, manifest, on)
        if not reason and len(matched.paths) >= last:
            reason = f"more than {last} runs, and it is older"
        if reason:
            matched.left_out.append(LeftOut(manifest.run_id, reason))
        else:
            matched.paths.append(path)
    return matched


def check_match(on: Sequence[str]) -> None:
    """Whether these are matchers.

    Raises:
        UsageError: one is not.
    """
    for word in on:
        if word not in MATCHERS[:5] and word != "none" and not (word.startswith(_LABEL) and word != _LABEL):
            raise UsageError(
                f"runs cannot be matched on {rundir.printable(word)}", hint=f"match on: {', '.join(MATCHERS)}"
            )


def _meant(runs: str, word: str, *, may_fail: bool) -> list[str]:
    if word.startswith((_LABEL, _NAME)):
        found = [path for path, manifest in _manifests(runs) if _fits(manifest, word)]
    elif _GLOB.intersection(word) and not Path(word).exists():
        found = list(_by_glob(runs, word))
    else:
        return [rundir.find(runs, word)]
    if not found and not may_fail:
        raise RunNotFoundError(
            f"no run in {rundir.printable(runs)} fits {rundir.printable(word)}", hint="gpucost runs lists them"
        )
    return found


def _manifests(runs: str) -> Iterator[tuple[str, Manifest]]:
    """Every run that can be read, newest first."""
    for path, manifest in rundir.list_runs(runs):
        if not isinstance(manifest, str):
            yield path, manifest


def _by_glob(runs: str, word: str) -> Iterator[str]:
    from fnmatch import fnmatchcase

    if os.sep in word:
        import glob

        paths = [path for path in glob.glob(word) if Path(rundir.manifest_path(path)).is_file()]  # noqa: PTH207 (a string is wanted)
        yield from sorted(paths, key=_start_of, reverse=True)
        return
    for path, manifest in _manifests(runs):
        if fnmatchcase(manifest.run_id, word) or fnmatchcase(Path(path).name, word):
            yield path


def _start_of(path: str) -> tuple[int, str]:
    from gpucost.store.manifest_io import read_manifest

    return read_manifest(path).start_time_ns, path


def _fits(manifest: Manifest, word: str) -> bool:
    from fnmatch import fnmatchcase

    if word.startswith(_NAME):
        return fnmatchcase(manifest.name or "", word.removeprefix(_NAME))
    for condition in word.removeprefix(_LABEL).split(","):
        key, equals, value = condition.partition("=")
        if not key or not equals:
            raise UsageError(
                f"{rundir.printable(word)} is not a choice of runs",
                hint="for example label:git.branch=main,suite=nightly",
            )
        if key not in manifest.labels or not fnmatchcase(manifest.labels[key], value):
            return False
    return True


def _unlike(wanted: Manifest, other: Manifest, on: Sequence[str]) -> str:
    """Why a run is not of the same kind, or an empty text."""
    for word in on:
        if word == "none":
            return ""
        what, mine, its = _compared(word, wanted, other)
        if mine != its:
            return f"{what} {its or 'unknown'}, not {mine or 'unknown'}"
    return ""


def _compared(word: str, wanted: Manifest, other: Manifest) -> tuple[str, str, str]:
    """What a matcher looks at, in words, in both runs."""
    if word.startswith(_LABEL):
        key = word.removeprefix(_LABEL)
        return f"its label {key} is", wanted.labels.get(key, ""), other.labels.get(key, "")
    mine, its = _LOOKS[word][1](wanted), _LOOKS[word][1](other)
    return _LOOKS[word][0], mine, its


def _models(manifest: Manifest) -> str:
    names = sorted({f"{gpu.name}{' (simulated)' if gpu.simulated else ''}" for gpu in manifest.gpus if gpu.held})
    return ", ".join(names) or "no GPU"


def _outcome(manifest: Manifest) -> str:
    if manifest.exit_code is None:
        return "not ended in order"
    return "success" if manifest.exit_code == 0 else "failure"


_LOOKS = {
    "gpu": ("its GPUs are", _models),
    "count": ("its number of GPUs is", lambda manifest: str(sum(1 for gpu in manifest.gpus if gpu.held))),
    "driver": ("its driver is", lambda manifest: str(manifest.driver.get("driver") or "")),
    "outcome": ("its end was", _outcome),
    "name": ("its name is", lambda manifest: manifest.name or ""),
}
