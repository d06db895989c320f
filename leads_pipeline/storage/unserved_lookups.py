"""Look-ups that nobody is to make any more: of a tier that was switched down, of a provider taken away, of long ago.

Their leads go on with a snapshot that says so. What is under way, or waits to be fetched, is let finish: it is paid.
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.storage.verdicts import Settled, Stamp, let_go

_DELETE = """
    with gone as materialized (
        select lead_id, revision, kind from verification_requests w
        where {which}
            and (call_id is null or due_at <= :now and not exists (
                select from verification_calls c
                where c.call_id = w.call_id and c.poll_reference is not null and c.answered_at is null
            ))
        limit :limit
        for update of w skip locked
    )
    delete from verification_requests r using gone
    where r.lead_id = gone.lead_id and r.revision = gone.revision and r.kind = gone.kind
    returning r.tenant, r.lead_id, r.revision, r.kind, r.tier, r.requested_at
"""
_SKIP = sa.text(_DELETE.format(which="(cast(:tier as text) is null or tier = :tier) and kind = any(:kinds)"))
_GIVE_UP = sa.text(_DELETE.format(which="requested_at < :before"))


def skip(connection: sa.Connection, tier: str | None, kinds: Sequence[str], *, limit: int, stamp: Stamp) -> Settled:
    """Let up to ``limit`` look-ups of a tier go that are not wanted any more. ``tier`` of ``None``: of all."""
    values = {"tier": tier, "kinds": list(kinds), "limit": limit, "now": stamp.now}
    return let_go(connection, connection.execute(_SKIP, values).all(), "switched_down", stamp)


def give_up(connection: sa.Connection, *, requested_before: datetime, limit: int, stamp: Stamp) -> Settled:
    """Let up to ``limit`` look-ups go for which nobody could be asked since long ago: a lead of then is old news."""
    values = {"before": requested_before, "limit": limit, "now": stamp.now}
    return let_go(connection, connection.execute(_GIVE_UP, values).all(), "waited_too_long", stamp)
