"""What a rule is, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpucost.analyzers.model import Analysis


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule has seen on one GPU.

    Attributes:
        gpu_uuid: the GPU.
        seen: what was seen, in a sentence that begins with a small letter.
        evidence: what that rests on.
        affected_ns: GPU time that it touches; None where it touches no stretch of time that could be told.
    """

    gpu_uuid: str
    seen: str
    evidence: str
    affected_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        code: stable, `GC` and three digits.
        name: in a few words, joined with hyphens.
        advice: what to try, in a sentence that begins with a small letter.
        find: its findings in an analysis.
    """

    code: str
    name: str
    advice: str
    find: Callable[[Analysis], Iterable[Finding]]
