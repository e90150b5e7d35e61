"""Every gate by its name. To add one, write a function in a module of this package and name it in that module's `GATES`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpucost.gates import cost, energy, idle, time

if TYPE_CHECKING:
    from gpucost.gates.model import Gate

GATES: dict[str, Gate] = {**cost.GATES, **time.GATES, **idle.GATES, **energy.GATES}
