"""From when to when each gate was closed, or opened by an operator's word: what a lead's journey tells of its wait.

One row for each closing by a verdict and for each ruling, written in the transaction that decides. Both end by
themselves at ``until`` if nobody ends them before. Keep out: what a gate is now (``quality_gates``).
"""

from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.storage.slos import Key

PRUNED_AT_ONCE = 5_000

# A clock that ran ahead closed nothing.
_FORGET_AHEAD = sa.text("delete from gate_history where ruled_by is null and began_at > :written_at")
# Whatever the rows of quality_gates say by now: a closing that lapsed before it was decided anew is another one.
_END = sa.text(
    """
    update gate_history h set ended_at = least(h.until, :now)
    where h.ruled_by is null and h.ended_at is null and (
        h.until <= :now or not exists (
            select from quality_gates g where g.gate = h.gate and g.tenant = h.tenant and g.lane = h.lane and g.closed
        )
    )
    """
)
_RENEW = sa.text(
    """
    insert into gate_history (gate, tenant, lane, state, reason, began_at, until)
    select gate, tenant, lane, 'closed', reason, :now, until from quality_gates where closed and until > :now
    on conflict (gate, tenant, lane) where ruled_by is null and ended_at is null do update set until = excluded.until
    """
)
_END_RULINGS = sa.text(
    """
    update gate_history set ended_at = least(until, :now)
    where ruled_by is not null and ended_at is null and gate = :gate and tenant = :tenant and lane = :lane
    """
)
_RULED = sa.text(
    """
    insert into gate_history (gate, tenant, lane, state, ruled_by, reason, began_at, until)
    values (:gate, :tenant, :lane, :ruling, :actor, :reason, :now, :until)
    """
)
_PRUNE = sa.text(
    """
    delete from gate_history where ctid in (
        select ctid from gate_history where coalesce(ended_at, until) < :before limit :limit
    )
    """
)


def note_verdicts(connection: sa.Connection, *, now: datetime, written_at: datetime) -> None:
    """Note which closings by verdicts began, go on and ended, as ``quality_gates`` has it by now."""
    connection.execute(_FORGET_AHEAD, {"written_at": written_at})
    connection.execute(_END, {"now": now})
    connection.execute(_RENEW, {"now": now})


def note_ruling(
    connection: sa.Connection, key: Key, ruling: str, *, actor: str, reason: str, until: datetime, now: datetime
) -> None:
    """Note an operator's ruling, which ends the one before."""
    note_end_of_ruling(connection, key, now=now)
    values = {"ruling": ruling, "actor": actor, "reason": reason, "until": until}
    connection.execute(_RULED, {**_named(key), **values, "now": now})


def note_end_of_ruling(connection: sa.Connection, key: Key, *, now: datetime) -> None:
    """Note that an operator's ruling ended, if there is one."""
    connection.execute(_END_RULINGS, {**_named(key), "now": now})


def prune_gate_history(connection: sa.Connection, *, ended_before: datetime) -> int:
    """Forget what ended long ago; at most a part. Says how many rows went."""
    return connection.execute(_PRUNE, {"before": ended_before, "limit": PRUNED_AT_ONCE}).rowcount


def _named(key: Key) -> dict[str, str]:
    return {"gate": key.slo, "tenant": key.tenant, "lane": key.lane}
