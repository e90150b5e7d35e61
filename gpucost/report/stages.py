"""The table by stage: a tree, in which the self column adds up to the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpucost.analyzers.model import NO_STAGE, WASTE
from gpucost.report.model import NONE, TOO_SHORT, UNKNOWN, Figure, Folded, StageRow
from gpucost.report.rounding import add
from gpucost.report.tally import Uses
from gpucost.report.text import TimeScale, absent, error_text, known, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpucost.report.material import Material

MAX_SHOWN = 30
"""Stage paths in tables for people, the costliest and what they lie in; the rest is summed up in one row."""


@dataclass(slots=True)
class Node:
    """One stage path while the tree is put together. `*_units` are printed units, which add up down the tree as they add up in the column."""

    path: str
    name: str
    parent: str | None
    facts: Mapping[Any, Any]
    uses: Uses
    joules: float | None
    joules_partial: bool
    children: list[Node] = field(default_factory=list)
    total: Uses = field(default_factory=Uses)
    total_joules: float | None = None
    total_partial: bool = False
    depth: int = 0
    time_units: int = 0
    money_units: int | None = None
    energy_units: int | None = None
    total_time_units: int = 0
    total_money_units: int | None = None
    total_energy_units: int | None = None


def stages_of(material: Material) -> tuple[list[StageRow], Folded | None]:
    """Every stage path, parents before their children, and the sum of those that are not shown."""
    nodes = _tree(material)
    _round(material, nodes)
    for node in reversed(nodes):
        _add_up(node)
    shown = _chosen(nodes)
    rows = [_row(material, node, shown=node.path in shown) for node in nodes]
    rest = [node for node in nodes if node.path not in shown]
    return rows, _fold(material, rest) if rest else None


def _tree(material: Material) -> list[Node]:
    """The nodes, depth first, siblings in order of their first start; `(no stage)` last."""
    energies = _energies(material)
    nodes: dict[str, Node] = {}
    for facts in material.analysis.stages.to_dict("records"):
        path, parent = str(facts["stage_path"]), facts.get("parent_path")
        nodes[path] = _node(
            material, path, str(facts["name"]), parent if isinstance(parent, str) else None, energies, facts
        )
    for path in material.cube.stages:
        if path not in nodes:
            nodes[path] = _node(material, path, path, None, energies, {})
    roots: list[Node] = []
    for node in nodes.values():
        parent = nodes.get(node.parent) if node.parent is not None else None
        (roots if parent is None or parent is node else parent.children).append(node)
    roots.sort(key=lambda node: node.path == NO_STAGE)
    ordered: list[Node] = []
    waiting = list(reversed(roots))
    while waiting:
        node = waiting.pop()
        ordered.append(node)
        for child in reversed(node.children):
            child.depth = node.depth + 1
            waiting.append(child)
    return ordered


def _node(
    material: Material,
    path: str,
    name: str,
    parent: str | None,
    energies: dict[str, tuple[float | None, bool]],
    facts: Mapping[Any, Any],
) -> Node:
    joules, partial = energies.get(path, (None if material.energy_j is None else 0.0, False))
    return Node(path, name, parent, facts, material.cube.stages.get(path, Uses()), joules, partial)


def _energies(material: Material) -> dict[str, tuple[float | None, bool]]:
    """Joules by stage path, and whether some of them are not known."""
    frame = material.analysis.energy
    found: dict[str, tuple[float | None, bool]] = {}
    for path, value in zip(frame["stage_path"].tolist(), frame["energy_j"].tolist(), strict=True):
        joules, partial = found.get(path, (None, False))
        more = known(value)
        if more is None:
            found[path] = (joules, True)
        else:
            found[path] = (more + (joules or 0.0), partial)
    return found


def _round(material: Material, nodes: list[Node]) -> None:
    tallies = [node.uses.of() for node in nodes]
    times = material.time.units([tally.ns for tally in tallies])
    moneys = material.money.column([material.cube.pico(tally) for tally in tallies])
    energies = material.energy.units([node.joules for node in nodes])
    for node, time, money, energy in zip(nodes, times, moneys, energies, strict=True):
        node.time_units, node.money_units, node.energy_units = time, money, energy


def _add_up(node: Node) -> None:
    """Totals of a node whose children have theirs."""
    node.total.join(node.uses)
    for child in node.children:
        node.total.join(child.total)
    parts = node.children
    node.total_time_units = node.time_units + sum(child.total_time_units for child in parts)
    node.total_money_units = add([node.money_units, *(child.total_money_units for child in parts)])
    node.total_energy_units = add([node.energy_units, *(child.total_energy_units for child in parts)])
    joules = [part for part in (node.joules, *(child.total_joules for child in parts)) if part is not None]
    node.total_joules = sum(joules) if joules else None
    node.total_partial = node.joules_partial or len(joules) <= len(parts) or any(child.total_partial for child in parts)


def _chosen(nodes: list[Node]) -> set[str]:
    """The paths to show: all, or those of the most GPU time together with the stages they lie in."""
    if len(nodes) <= MAX_SHOWN:
        return {node.path for node in nodes}
    by_path = {node.path: node for node in nodes}
    chosen = {NO_STAGE} & by_path.keys()
    order = sorted(range(len(nodes)), key=lambda number: (-nodes[number].total.of().ns, number))
    for number in order:
        family: list[str] = []
        node = nodes[number]
        while node.path not in chosen and len(family) <= len(nodes):
            family.append(node.path)
            if node.parent not in by_path:
                break
            node = by_path[node.parent]
        if len(chosen) + len(family) <= MAX_SHOWN:
            chosen.update(family)
    return chosen


def _row(material: Material, node: Node, *, shown: bool) -> StageRow:
    own, total = node.uses.of(), node.total.of()
    waste = node.total.of(*WASTE)
    self_energy, self_error = _energy(
        material, node, "self_energy", node.joules, node.energy_units, partial=node.joules_partial
    )
    total_energy, total_error = _energy(
        material, node, "energy", node.total_joules, node.total_energy_units, partial=node.total_partial
    )
    return StageRow(
        path=node.path,
        name=node.name,
        parent_path=node.parent,
        depth=node.depth,
        spans=_whole(node.facts.get("spans")),
        truncated=_whole(node.facts.get("truncated")),
        short=bool(node.facts.get("short", False)),
        wall_s=TimeScale.of(material.recording.end_ns).figure(_whole(node.facts.get("wall_ns"))),
        self_time_s=material.time.figure(own.ns, node.time_units),
        self_money=material.money.money(material.cube.pico(own), node.money_units),
        self_energy_j=self_energy,
        self_energy_error_pct=self_error,
        total_time_s=material.time.figure(total.ns, node.total_time_units),
        total_money=material.money.money(material.cube.pico(total), node.total_money_units),
        total_energy_j=total_energy,
        energy_error_pct=total_error,
        waste_pct=_waste_pct(material, node.total),
        waste=material.money.money(material.cube.pico(waste)),
        shown=shown,
    )


def _energy(
    material: Material, node: Node, which: str, joules: float | None, units: int | None, *, partial: bool
) -> tuple[Figure, Figure]:
    """A stage's energy with its error in the text, and the error."""
    if joules is None:
        return Figure(None, UNKNOWN), Figure(None, UNKNOWN)
    if node.facts.get(f"{which}_too_short") is True:
        return Figure(None, TOO_SHORT), Figure(None, NONE)
    pct = known(node.facts.get(f"{which}_error_pct"))
    error = Figure(None, UNKNOWN) if pct is None else Figure(pct, f"±{pct:.2g} %")
    return material.energy.figure(joules, units, at_least=partial, error=error_text(pct)), error


def _waste_pct(material: Material, uses: Uses) -> Figure:
    whole, unknown = uses.of(), uses.of("unknown")
    if whole.ns == 0:
        return absent()
    if whole.ns == unknown.ns:
        return percent(None)
    return percent(material.cube.share(uses.of(*WASTE), whole), at_least=uses.uncertain)


def _fold(material: Material, nodes: list[Node]) -> Folded:
    tallies = [node.uses.of() for node in nodes]
    joules = [node.joules for node in nodes if node.joules is not None]
    return Folded(
        count=len(nodes),
        time_s=material.time.figure(sum(tally.ns for tally in tallies), sum(node.time_units for node in nodes)),
        money=material.money.money(
            add([material.cube.pico(tally) for tally in tallies]), add([node.money_units for node in nodes])
        ),
        energy_j=material.energy.figure(sum(joules) if joules else None, add([node.energy_units for node in nodes])),
    )


def _whole(value: Any) -> int:
    return int(known(value) or 0)
