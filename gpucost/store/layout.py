"""What lies in a host's folder of a run, and which of it counts.

A crash between two steps of sealing leaves the same rows on disk twice: a part and the segment it was made of, or a merged part and those
it was merged from. The file names say so, and the rule is: what lies within a part of the same table and writer does not count again.
"""

import os
from dataclasses import dataclass, field
from typing import NamedTuple

from gpucost.rundir import JOURNAL, parse_part, parse_segment, part_name, segment_name
from gpucost.schema import TABLES

_TRIES = 20


class Segment(NamedTuple):
    """A journal segment."""

    table: str
    writer: str
    seq: int
    path: str


class Part(NamedTuple):
    """A sealed part: the segments `first` to `last` of a writer."""

    table: str
    writer: str
    first: int
    last: int
    path: str

    def holds(self, first: int, last: int) -> bool:
        """Whether the range lies within this part's."""
        return self.first <= first and last <= self.last


@dataclass(slots=True)
class HostFiles:
    """The data files of one host, each list sorted.

    Attributes:
        segments: those that count.
        parts: those that count.
        shadowed_segments: those whose rows are in a part already, each with that part.
        shadowed_parts: those whose rows are in a larger part already, each with that part.
        foreign: files in the data folders that are not ours.
    """

    segments: list[Segment] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    shadowed_segments: list[tuple[Segment, Part]] = field(default_factory=list)
    shadowed_parts: list[tuple[Part, Part]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def of(self, table: str) -> tuple[list[Part], list[Segment]]:
        """The parts and segments of one table that count."""
        return [part for part in self.parts if part.table == table], [
            one for one in self.segments if one.table == table
        ]


def list_host(folder: str) -> HostFiles:
    """List a host's data files as they were at one instant, although a sealer may be at work.

    A folder that changes while it is listed may show neither a file nor what took its place, so it is listed until it reads the same twice.
    """
    names = _names(folder)
    for _ in range(_TRIES):
        again = _names(folder)
        if again == names:
            break
        names = again
    return _classify(folder, names)


def _names(folder: str) -> list[tuple[str, list[str]]]:
    # The journal comes first: a segment that is gone by then has its part in place.
    return [(name, _entries(os.path.join(folder, name))) for name in (JOURNAL, *TABLES)]


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _classify(folder: str, names: list[tuple[str, list[str]]]) -> HostFiles:
    files = HostFiles()
    segments: list[Segment] = []
    families: dict[tuple[str, str], list[Part]] = {}
    for room, entries in names:
        for name in entries:
            path = os.path.join(folder, room, name)
            if room == JOURNAL and (segment := _segment(name, path)):
                segments.append(segment)
            elif room != JOURNAL and (part := _part(room, name, path)):
                families.setdefault((room, part.writer), []).append(part)
            elif not name.startswith("."):
                files.foreign.append(path)
    _sort_out(files, segments, families)
    return files


def _sort_out(files: HostFiles, segments: list[Segment], families: dict[tuple[str, str], list[Part]]) -> None:
    """Tell what counts from what lies within another part of its table and writer."""
    for family in families.values():
        for part in family:
            cover = next((other for other in family if other is not part and other.holds(part.first, part.last)), None)
            if cover is None:
                files.parts.append(part)
            else:
                files.shadowed_parts.append((part, cover))
    for segment in segments:
        family = families.get((segment.table, segment.writer), [])
        cover = next((part for part in family if part.holds(segment.seq, segment.seq)), None)
        if cover is None:
            files.segments.append(segment)
        else:
            files.shadowed_segments.append((segment, cover))
    files.segments.sort()
    files.parts.sort()


# A number written in another way ("01") would be a second name for the same rows, so only the name that we would give is ours.


def _segment(name: str, path: str) -> Segment | None:
    found = parse_segment(name)
    if found is None or found[0] not in TABLES or segment_name(*found) != name:
        return None
    return Segment(*found, path)


def _part(table: str, name: str, path: str) -> Part | None:
    found = parse_part(name)
    return Part(table, *found, path) if found is not None and part_name(*found) == name else None
