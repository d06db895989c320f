"""What rules have ordered and who asks for it: actions that are in force, as questions of their consumers.

Every question has an answer when nothing is ordered, so that nobody needs to know whether there are rules at all. Keep
out: when a rule orders something (``domain.policies``), and where orders are kept (``storage.policies``).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from leads_pipeline.domain.stage import Lane

# A chunk is one transaction: with more it would hold its locks for too long (config: pipeline.chunk_size).
MOST_IN_A_CHUNK = 20_000


class ActionKind(StrEnum):
    """What a rule may do."""

    SHED_ENRICHMENT = "shed_enrichment"  # leads do not wait for look-ups; verdicts upgrade them later
    LOWER_TIER = "lower_tier"  # leads of a tier are looked up like those of a later one, but for a probe
    RESIZE_CHUNKS = "resize_chunks"
    SLOW_IMPORTS = "slow_imports"
    REFUSE_BATCH = "refuse_batch"  # at the door: 503, the sender keeps the lead
    PAUSE_LANE = "pause_lane"  # its leads stay where they are
    PAUSE_DESTINATION = "pause_destination"  # nothing is sent there about a contact; what is to go, goes
    SCALE_WORKERS = "scale_workers"  # the scale signal


@dataclass(frozen=True, slots=True)
class Order:
    """One action in force until ``ends_at``. ``None`` for tenant, lane or destination: all of them."""

    action_id: UUID
    policy: str
    action: ActionKind
    ends_at: datetime
    tenant: str | None = None
    lane: Lane | None = None
    destination: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def is_about(self, *, tenant: str, lane: Lane | None = None, destination: str | None = None) -> bool:
        """Whether it concerns this tenant, lane and destination; what is not given is not asked."""
        return (
            self.tenant in (None, tenant)
            and (lane is None or self.lane in (None, lane))
            and (destination is None or self.destination in (None, destination))
        )


@dataclass(frozen=True, slots=True)
class Orders:
    """All that is ordered now."""

    in_force: tuple[Order, ...] = ()

    def at(self, now: datetime) -> "Orders":
        """Those that have not ended by ``now``: what nobody renews ends by itself."""
        if all(order.ends_at > now for order in self.in_force):
            return self
        return Orders(tuple(order for order in self.in_force if order.ends_at > now))

    def chunk_size(self, usual: int, *, tenant: str, lanes: Sequence[Lane]) -> int:
        """How many leads one transaction of a step takes."""
        return max(1, min(MOST_IN_A_CHUNK, round(usual * self.chunk_factor(tenant=tenant, lanes=lanes))))

    def chunk_factor(self, *, tenant: str, lanes: Sequence[Lane]) -> float:
        """How many times the usual size. Of several orders, the one that widens most; else the one that shrinks most.

        A flood in one lane matters more than the quiet of another.
        """
        factors = [
            float(order.parameters.get("factor", 1.0))
            for order in self._of(ActionKind.RESIZE_CHUNKS)
            if any(order.is_about(tenant=tenant, lane=lane) for lane in lanes)
        ]
        widest = max(factors, default=1.0)
        return widest if widest > 1 else min(factors, default=1.0)

    def pauses_lane(self, tenant: str, lane: Lane) -> bool:
        """Whether a tenant's leads of a lane stay where they are, at every stage."""
        return any(order.is_about(tenant=tenant, lane=lane) for order in self._of(ActionKind.PAUSE_LANE))

    def pauses(self, tenant: str, lane: Lane, destination: str) -> bool:
        """Whether nothing is sent to a destination about a tenant's contacts of a lane.

        What is to be taken away goes all the same, and so does a withdrawal of consent.
        """
        return self.pauses_lane(tenant, lane) or any(
            order.is_about(tenant=tenant, destination=destination) for order in self._of(ActionKind.PAUSE_DESTINATION)
        )

    def lanes_open(self, tenant: str, lanes: Sequence[Lane]) -> tuple[Lane, ...]:
        """Those of ``lanes`` of which a tenant's leads may be taken."""
        return tuple(lane for lane in lanes if not self.pauses_lane(tenant, lane))

    def refuses(self, tenant: str, lane: Lane) -> bool:
        """Whether the door takes no leads of a tenant's lane."""
        return lane is Lane.BATCH and any(order.is_about(tenant=tenant) for order in self._of(ActionKind.REFUSE_BATCH))

    def import_speed(self, tenant: str) -> float:
        """The share of its full speed that a tenant's import may have: 1.0 if nothing is ordered."""
        speeds = [
            float(order.parameters.get("speed", 1.0))
            for order in self._of(ActionKind.SLOW_IMPORTS)
            if order.is_about(tenant=tenant)
        ]
        return min(speeds, default=1.0)

    def sheds_enrichment(self, tenant: str, lane: Lane) -> bool:
        """Whether a tenant's leads of a lane do not wait for their look-ups."""
        return any(order.is_about(tenant=tenant, lane=lane) for order in self._of(ActionKind.SHED_ENRICHMENT))

    def tiers_lowered(self, tiers: Sequence[str], *, tenant: str) -> dict[str, str]:
        """As which later tier each tier is treated that is lowered. ``tiers``: the most thorough first."""
        lowered: dict[str, str] = {}
        for order in self._of(ActionKind.LOWER_TIER):
            tier = order.parameters.get("tier", tiers[0] if tiers else None)
            if tier not in tiers or not order.is_about(tenant=tenant):
                continue
            place = tiers.index(tier)
            to = order.parameters.get("to", tiers[place + 1] if place + 1 < len(tiers) else None)
            if to in tiers and tiers.index(to) > max(place, tiers.index(lowered.get(tier, tier))):
                lowered[tier] = to
        return lowered

    @property
    def scale_workers(self) -> int:
        """The scale signal: how many workers are asked for; 1 while no rule asks for more."""
        asked = [int(order.parameters.get("workers", 1)) for order in self._of(ActionKind.SCALE_WORKERS)]
        return max(asked, default=1)

    def by_open_lanes(self, tenants: Collection[str], lanes: Sequence[Lane]) -> dict[tuple[Lane, ...], list[str]]:
        """The tenants that have the same lanes open, together; without those that have none."""
        found: dict[tuple[Lane, ...], list[str]] = {}
        for tenant in tenants:
            open_lanes = self.lanes_open(tenant, lanes)
            if open_lanes:
                found.setdefault(open_lanes, []).append(tenant)
        return found

    def _of(self, action: ActionKind) -> Iterator[Order]:
        return (order for order in self.in_force if order.action is action)


NO_ORDERS = Orders()
