"""Which source's leads of which day are held back from matching, and who let them pass.

A hold is a row of ``quality_holds``; the leads stay at the door of ``deduped_leads``, due at ``HELD_UNTIL``. The row
is what counts: ``without_held`` asks for it at the door, so that leads which come later, or whose due time somebody
else brings forward, are held too. Only the batch lane is ever held.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.expectations import Group
from leads_pipeline.domain.stage import Chunk, Lane, Stage
from leads_pipeline.storage.pending import Waiting

# When held leads are due: not before somebody, or a check that they pass, brings it forward.
HELD_UNTIL = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Hold:
    """One group that is held, or was. ``rules``: the names of those that it broke.

    ``waiting``: leads at the door of deduped_leads; ``validating``: those on their way through validation once more.
    """

    hold_id: int
    group: Group
    rules: tuple[str, ...]
    held_at: datetime
    waiting: int
    validating: int
    resolution: str | None  # released, passed, gone
    ended_at: datetime | None
    ended_by: str | None
    reason: str | None


# Leads of one group at the door. `p` is pending, `v` the row that waits.
_OF_GROUP = """
    p.stage = 'deduped_leads' and p.lane = 'batch' and p.tenant = h.tenant
    and v.lead_id = p.subject_id and v.revision = p.revision and v.tenant = p.tenant and v.source = h.source
    and v.received_at >= cast(h.received_on as timestamp) at time zone 'UTC'
    and v.received_at < cast(h.received_on + 1 as timestamp) at time zone 'UTC'
"""

# What was sent through validation again waits at that door: it belongs to the hold still.
_FIND = sa.text(
    f"""
    select h.*, coalesce(door.leads, 0) as waiting, coalesce(earlier.leads, 0) as validating
    from quality_holds h
    left join lateral (
        select count(*) as leads from pending p, validated_leads v where h.ended_at is null and {_OF_GROUP}
    ) door on true
    left join lateral (
        select count(*) as leads from pending p join raw_leads v on v.lead_id = p.subject_id
        where h.ended_at is null and p.stage = 'validated_leads' and p.lane = 'batch' and p.revision > 1
            and p.tenant = h.tenant and v.tenant = h.tenant and v.source = h.source
            and v.received_at >= cast(h.received_on as timestamp) at time zone 'UTC'
            and v.received_at < cast(h.received_on + 1 as timestamp) at time zone 'UTC'
    ) earlier on true
    where (h.ended_at is null or :ended)
        and (cast(:tenant as text) is null or h.tenant = :tenant)
        and (cast(:hold_id as bigint) is null or h.hold_id = :hold_id)
    order by h.hold_id desc
    limit :limit
    """  # noqa: S608 - text of this module
)

_HOLD = sa.text(
    """
    insert into quality_holds (tenant, source, received_on, rules, held_at, runner_id)
    values (:tenant, :source, :day, cast(:rules as jsonb), :now, :runner_id)
    on conflict (tenant, source, received_on) where ended_at is null do update set rules = excluded.rules
    returning hold_id
    """
)

_PUT_OFF = sa.text(
    f"""
    update pending p set due_at = :held_until
    from quality_holds h, validated_leads v
    where h.hold_id = :hold_id and p.due_at < :held_until and {_OF_GROUP}
    """  # noqa: S608 - text of this module
)

_END = sa.text(
    """
    update quality_holds set resolution = :resolution, ended_at = :now, ended_by = :actor, reason = :reason
    where hold_id = :hold_id and ended_at is null
    """
)

# A lead whose look-ups are still under way goes on waiting for them, as far as its patience lasts.
_LET_PASS = sa.text(
    f"""
    update pending p set due_at = coalesce(
        (
            select max(r.patience_until) from verification_requests r
            where r.lead_id = p.subject_id and r.revision = p.revision
        ),
        :now
    )
    from quality_holds h, validated_leads v
    where h.hold_id = :hold_id and p.due_at >= :held_until and {_OF_GROUP}
    """  # noqa: S608 - text of this module
)

_RELEASED = sa.text(
    """
    select h.tenant, h.source, h.received_on, h.rules
    from jsonb_to_recordset(cast(:groups as jsonb)) as g(tenant text, source text, day date)
    join quality_holds h on h.tenant = g.tenant and h.source = g.source and h.received_on = g.day
    where h.resolution = 'released'
    """
)

_ANY_OPEN = sa.text(
    "select exists (select from quality_holds where tenant = :tenant and ended_at is null) as any_is_open"
)

_PUT_BACK = sa.text(
    f"""
    insert into pending (stage, subject_id, tenant, lane, revision, since, due_at)
    select p.stage, p.subject_id, p.tenant, p.lane, p.revision, p.since, :held_until
    from jsonb_to_recordset(cast(:rows as jsonb))
        as p(stage text, subject_id uuid, tenant text, lane text, revision integer, since timestamptz)
    join quality_holds h on h.tenant = p.tenant and h.ended_at is null
    join validated_leads v on {_OF_GROUP}
    order by p.subject_id
    returning subject_id
    """  # noqa: S608 - text of this module
)

# Their next revision waits to be validated; they leave the door of deduped_leads in the same transaction.
_VALIDATE_AGAIN = sa.text(
    f"""
    with gone as (
        delete from pending p using quality_holds h, validated_leads v
        where h.hold_id = :hold_id and {_OF_GROUP}
        returning p.subject_id, p.tenant, p.revision
    ),
    corrected as (
        insert into lead_corrections (
            lead_id, revision, tenant, action, fields, release, actor, reason, corrected_at
        )
        select subject_id, revision + 1, tenant, 'retry', '{{}}', false, :actor, :reason, :now from gone
    )
    insert into pending (stage, subject_id, tenant, lane, revision, since, due_at)
    select 'validated_leads', subject_id, tenant, 'batch', revision + 1, :now, :now from gone
    on conflict (stage, subject_id) do update set revision = greatest(pending.revision, excluded.revision)
    """  # noqa: S608 - text of this module
)


def find_holds(
    connection: sa.Connection,
    *,
    tenant: str | None = None,
    hold_id: int | None = None,
    include_ended: bool = False,
    limit: int = 100_000,
) -> list[Hold]:
    """Holds, newest first."""
    rows = connection.execute(_FIND, {"tenant": tenant, "hold_id": hold_id, "ended": include_ended, "limit": limit})
    return [
        Hold(
            hold_id=row.hold_id,
            group=Group(row.tenant, row.source, row.received_on),
            rules=tuple(row.rules),
            held_at=row.held_at,
            waiting=row.waiting,
            validating=row.validating,
            resolution=row.resolution,
            ended_at=row.ended_at,
            ended_by=row.ended_by,
            reason=row.reason,
        )
        for row in rows
    ]


def hold(
    connection: sa.Connection, group: Group, *, rules: Sequence[str], runner_id: str, now: datetime
) -> tuple[int, int]:
    """Hold a group, or say anew which rules a held one breaks. Returns the hold's id and how many leads it put off."""
    hold_id: int = connection.execute(
        _HOLD,
        {
            "tenant": group.tenant,
            "source": group.source,
            "day": group.day,
            "rules": msgspec.json.encode(list(rules)).decode(),
            "now": now,
            "runner_id": runner_id,
        },
    ).scalar_one()
    put_off = connection.execute(_PUT_OFF, {"hold_id": hold_id, "held_until": HELD_UNTIL})
    return hold_id, put_off.rowcount


def end_hold(
    connection: sa.Connection, hold_id: int, *, resolution: str, actor: str, reason: str | None, now: datetime
) -> int | None:
    """Let a held group pass. Returns how many leads are due again; ``None`` if it had ended already."""
    ended = connection.execute(
        _END, {"hold_id": hold_id, "resolution": resolution, "actor": actor, "reason": reason, "now": now}
    )
    if ended.rowcount == 0:
        return None
    return connection.execute(_LET_PASS, {"hold_id": hold_id, "held_until": HELD_UNTIL, "now": now}).rowcount


def released_rules(connection: sa.Connection, groups: Collection[Group]) -> Mapping[Group, frozenset[str]]:
    """The rules that an operator let groups break, by group."""
    rows = msgspec.json.encode([{"tenant": g.tenant, "source": g.source, "day": g.day} for g in groups]).decode()
    found: dict[Group, frozenset[str]] = {}
    for row in connection.execute(_RELEASED, {"groups": rows}):
        group = Group(row.tenant, row.source, row.received_on)
        found[group] = found.get(group, frozenset()) | frozenset(row.rules)
    return found


def without_held(connection: sa.Connection, claimed: Sequence[Waiting], chunk: Chunk) -> list[Waiting]:
    """Of what was claimed at the door of deduped_leads, what may pass; the rest waits there again and keeps its age."""
    batch = [item for item in claimed if item.lane is Lane.BATCH]
    if not batch:
        return list(claimed)
    any_is_open: bool = connection.execute(_ANY_OPEN, {"tenant": chunk.tenant}).scalar_one()
    if not any_is_open:
        return list(claimed)
    rows = [
        {
            "stage": Stage.DEDUPED_LEADS,
            "subject_id": item.subject_id,
            "tenant": item.tenant,
            "lane": item.lane,
            "revision": item.revision,
            "since": item.since,
        }
        for item in batch
    ]
    parameters = {"rows": msgspec.json.encode(rows).decode(), "held_until": HELD_UNTIL}
    held: set[UUID] = set(connection.execute(_PUT_BACK, parameters).scalars())
    return [item for item in claimed if item.subject_id not in held]


def validate_again(connection: sa.Connection, hold_id: int, *, actor: str, reason: str | None, now: datetime) -> int:
    """Send the leads of a hold through validation once more, as a new revision. Returns how many."""
    return connection.execute(
        _VALIDATE_AGAIN, {"hold_id": hold_id, "actor": actor, "reason": reason, "now": now}
    ).rowcount
