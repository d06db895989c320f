"""Which lane's contacts go next, while more than one waits: shares by weight, floors, ageing, fresh ones first.

Pure and deterministic: stride scheduling. Each lane is at a point of time that moves on by 1/share with each request;
the one that is furthest behind goes next. A lane that had nothing to send comes in at the time of the others, so that
it cannot save up turns; the most urgent one goes at once. Keep out: what waits (``storage.outbox_queues``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from leads_pipeline.domain.stage import Lane


@dataclass(frozen=True, slots=True)
class LaneShare:
    """One lane's part. ``floor``: its least share, from 0 to 1, while others wait as well.

    Once its oldest contact has waited longer than ``ageing``, it weighs as much as the heaviest lane.
    """

    weight: float
    floor: float
    ageing: timedelta


class LaneShares:
    """The turns of one destination's lanes. Not for threads to share without a lock."""

    def __init__(self, parts: Mapping[Lane, LaneShare], *, fresh_share: float, backlog: timedelta) -> None:
        """While a lane's oldest contact has waited for more than ``backlog``, ``fresh_share`` of its turns are fresh.

        ``parts`` has every lane that is ever asked about.
        """
        self._parts = dict(parts)
        self._fresh_share = fresh_share
        self._backlog = backlog
        self._times: dict[Lane, float] = {}
        self._active: frozenset[Lane] = frozenset()
        self._now = 0.0
        self._fresh: dict[Lane, float] = {}

    def shares(self, waiting: Mapping[Lane, timedelta]) -> dict[Lane, float]:
        """Each waiting lane's part of the requests; they add up to 1. ``waiting``: the age of each one's oldest."""
        heaviest = max(part.weight for part in self._parts.values())
        weights = {
            lane: heaviest if age > self._parts[lane].ageing else self._parts[lane].weight
            for lane, age in waiting.items()
        }
        total = sum(weights.values())
        floored = {lane: max(weight / total, self._parts[lane].floor) for lane, weight in weights.items()}
        # What the floors add is taken from the lanes that have more than theirs.
        over = sum(floored.values()) - 1
        spare = sum(share - self._parts[lane].floor for lane, share in floored.items())
        if over <= 0 or spare <= 0:
            return {lane: share / sum(floored.values()) for lane, share in floored.items()}
        cut = min(1.0, over / spare)
        found = {lane: share - (share - self._parts[lane].floor) * cut for lane, share in floored.items()}
        return {lane: share / sum(found.values()) for lane, share in found.items()}

    def choose(self, waiting: Mapping[Lane, timedelta]) -> Lane:
        """The lane whose turn it is, of those that wait (at least one). Changes nothing until ``charge``."""
        times = self._joined(waiting)
        order = list(Lane)
        return min(times, key=lambda lane: (times[lane], order.index(lane)))

    def charge(self, lane: Lane, waiting: Mapping[Lane, timedelta]) -> None:
        """One request of ``lane`` was taken, while ``waiting`` was so."""
        self._times.update(self._joined(waiting))
        self._active = frozenset(waiting)
        self._now = max(self._now, self._times[lane])
        self._times[lane] += 1 / self.shares(waiting)[lane]

    def takes_fresh(self, lane: Lane, age: timedelta) -> bool:
        """Whether the lane's newest contacts are to go, not its oldest; asked once for each request."""
        if age <= self._backlog:
            return False
        turns = self._fresh.get(lane, 0.0) + self._fresh_share
        fresh = turns >= 1 - 1e-9
        self._fresh[lane] = turns - 1 if fresh else turns
        return fresh

    def _joined(self, waiting: Mapping[Lane, timedelta]) -> dict[Lane, float]:
        strides = {lane: 1 / share for lane, share in self.shares(waiting).items()}
        shortest = min(strides.values())
        return {
            lane: self._times[lane]
            if lane in self._active
            else max(self._times.get(lane, 0.0), self._now + strides[lane] - shortest)
            for lane in waiting
        }
