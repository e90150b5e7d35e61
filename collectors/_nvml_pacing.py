"""Asking less often for what costs much: calls to a driver that got slow must not fill the time of the run.

A tier has a budget, a share of its period. While its calls fit, each is made at every tick. When they do not, a level is found such that
the calls that cost less than it are still made at every tick, and dearer ones so rarely that on average they cost the level: the cheap
calls keep their rate, and the sum keeps to the budget.
"""

import math
from collections.abc import Sequence

LONGEST_S = 10.0  # however dear, a call is made at least this often
_PATIENCE = 3  # ticks over budget before anything changes: one slow call is no reason
_REVIEW = 16  # ticks between two looks at a tier that has been thinned out
_SMOOTHING = 0.25
_RETRY_NS = 900_000_000  # a little less than the distance of ticks at 1 Hz, which are never quite on time
_LONGEST_RETRY_NS = 60_000_000_000
_JUMP = 4  # a cost counts for no more than so many times what it was so far


class Paced:
    """Something to be asked at every tick, or at every n-th.

    Attributes:
        label: what it is, for a person.
        cost_ns: what one asking costs, smoothed.
        every: it is asked at every n-th tick.
        least_every: `every` never gets below this.
        wait: ticks that are still to be left out.
    """

    __slots__ = ("cost_ns", "every", "label", "least_every", "wait")

    def __init__(self, label: str, least_every: int = 1) -> None:
        self.label = label
        self.cost_ns = 0.0
        self.every = self.least_every = least_every
        self.wait = 0

    def is_due(self) -> bool:
        """Whether to ask at this tick; to be called once a tick."""
        if self.wait > 0:
            self.wait -= 1
            return False
        return True

    def took(self, cost_ns: int) -> None:
        """It was asked, at this cost."""
        if self.cost_ns:  # a call that was interrupted says little of what the next one will take
            self.cost_ns += _SMOOTHING * (min(cost_ns, _JUMP * self.cost_ns) - self.cost_ns)
        else:
            self.cost_ns = float(cost_ns)
        self.wait = max(self.wait, self.every - 1)


class Pacer:
    """Keeps one tier within its budget.

    Attributes:
        thinned: something is asked less often than at every tick.
        watching: what each call costs should be found out.
    """

    def __init__(self, period_ns: int, share: float) -> None:
        """Take how far apart its ticks are, and the share (0 to 1) of that which all its calls together may take."""
        self.period_ns = period_ns
        self.budget_ns = share * period_ns
        self.longest = max(1, round(LONGEST_S * 1e9 / period_ns))
        self.thinned = self.watching = False
        self._over = self._looks = 0
        self._ticks = 0

    def wants_review(self, spent_ns: int) -> bool:
        """A tick has spent this much on the driver: whether it is time to look at what costs how much, with `review`.

        Once the budget was exceeded a few times, `watching` asks for what each call costs; the review comes some ticks later.
        """
        self._over = self._over + 1 if spent_ns > self.budget_ns else 0
        self._ticks += 1
        if self.thinned:
            return self._over >= _PATIENCE or self._ticks % _REVIEW == 0
        if self.watching:
            self._looks += 1
            return self._looks >= _PATIENCE
        self.watching, self._looks = self._over >= _PATIENCE, 0
        return False

    def review(self, asked: Sequence[Paced]) -> list[Paced]:
        """Set anew how often each is asked; returns what is asked less often from now on."""
        self._over = 0
        before = {id(one): one.every for one in asked}
        level = self.level([one.cost_ns / one.least_every for one in asked])
        for position, one in enumerate(asked):
            one.every = max(one.least_every, min(math.ceil(one.cost_ns / level), self.longest))
            if one.every != before[id(one)]:
                one.wait = position % one.every  # so that the dear ones do not all fall on one tick
        self.thinned = self.watching = any(one.every > one.least_every for one in asked)
        return [one for one in asked if one.every > before[id(one)]]

    def level(self, costs: Sequence[float]) -> float:
        """The most that each may cost a tick, on average, so that all together keep to the budget."""
        left, ascending = self.budget_ns, sorted(costs)
        for position, cost in enumerate(ascending):
            share = left / (len(ascending) - position)
            if cost > share:
                return share
            left -= cost
        return float("inf")


class Retry:
    """When to try a GPU again that is away.

    Each second for the first minute, so that one that comes back is soon recorded again; then as much later as it has been away longer than
    that, up to a minute. A try that takes long is made so rarely that all of them keep to the budget.
    """

    __slots__ = ("_due_ns", "_share", "_since_ns")

    def __init__(self, share: float) -> None:
        """Take the share (0 to 1) of the time that trying may take."""
        self._share = share
        self._since_ns = self._due_ns = 0

    def lost(self, now_ns: int) -> None:
        """It is away from now on."""
        self._since_ns, self._due_ns = now_ns, now_ns + _RETRY_NS

    def is_due(self, now_ns: int) -> bool:
        """Whether to try it."""
        return now_ns >= self._due_ns

    def failed(self, now_ns: int, cost_ns: int) -> None:
        """A try came to nothing, and took so long."""
        away_ns = now_ns - self._since_ns
        apart_ns = min(max(away_ns - _LONGEST_RETRY_NS, _RETRY_NS), _LONGEST_RETRY_NS)
        self._due_ns = now_ns + max(apart_ns, min(round(cost_ns / self._share), _LONGEST_RETRY_NS))

    def seconds_away(self, now_ns: int) -> float:
        """How long it has been away."""
        return (now_ns - self._since_ns) / 1e9
