"""The list of those who must not be sent to a CRM. It holds no address: a hash of what a person listed.

An entry outlives the contact, so that somebody who was erased and comes again stays listed. Keep out: what a hash is
made of (``domain.sending_gate``).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.sending_gate import Subject, SuppressionKind, Unsendable
from leads_pipeline.storage.schema import contacts, suppressions


@dataclass(frozen=True, slots=True)
class Suppression:
    """One entry. ``destination`` ``None``: all of the tenant's."""

    suppression_id: int
    tenant: str
    kind: SuppressionKind
    destination: str | None
    reason: str | None
    actor: str
    added_at: datetime
    ended_at: datetime | None
    ended_by: str | None


# The list is mostly empty, and always short beside the contacts; each subject is one probe of its unique index.
_ANY = sa.text("select exists (select from suppressions where ended_at is null and tenant = any(:tenants))")
_LISTED = sa.text(
    """
    select distinct t.contact_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(contact_id uuid, tenant text, kind text, hash text)
    join suppressions s on s.tenant = t.tenant and s.kind = t.kind and s.value_hash = decode(t.hash, 'hex')
    where s.ended_at is null and (s.destination is null or s.destination = :destination)
    """
)
_ADD = sa.text(
    """
    insert into suppressions (tenant, kind, value_hash, destination, reason, actor, added_at)
    values (:tenant, :kind, :hash, :destination, :reason, :actor, :now)
    on conflict (tenant, kind, value_hash, destination) where ended_at is null do nothing
    returning suppression_id
    """
)
_END = sa.text(
    """
    update suppressions set ended_at = :now, ended_by = :actor
    where suppression_id = any(:ids) and ended_at is null
    returning suppression_id, tenant, destination
    """
)
# Claimed rows are in another state, so that none of them is touched.
_WAIT_AGAIN = sa.text(
    """
    update outbox set state = 'waiting', suppressed_for = null, waiting_since = :now, due_at = :now, attempts = 0,
        updated_at = :now
    where state = 'suppressed' and tenant = :tenant and suppressed_for = any(:reasons)
        and (cast(:destination as text) is null or destination = :destination)
    """
)


def merged_away(connection: sa.Connection, contact_ids: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """The contacts that these have taken in: who was listed by one of their ids stays listed."""
    rows = connection.execute(
        sa.select(contacts.c.merged_into, contacts.c.contact_id).where(contacts.c.merged_into.in_(contact_ids))
    )
    found: dict[UUID, list[UUID]] = {}
    for row in rows:
        found.setdefault(row.merged_into, []).append(row.contact_id)
    return found


def listed(
    connection: sa.Connection, subjects: Mapping[UUID, tuple[str, Sequence[Subject]]], *, destination: str
) -> set[UUID]:
    """Those of the contacts (each with its tenant, and all by which it may be listed) that must not be sent there."""
    tenants = sorted({tenant for tenant, _subjects in subjects.values()})
    somebody_is: bool = connection.execute(_ANY, {"tenants": tenants}).scalar_one()
    if not somebody_is:  # mostly so, and nothing more need be asked
        return set()
    rows = [
        {"contact_id": str(contact_id), "tenant": tenant, "kind": item.kind, "hash": item.value_hash.hex()}
        for contact_id, (tenant, found) in subjects.items()
        for item in found
    ]
    return set(connection.execute(_LISTED, {"rows": json.dumps(rows), "destination": destination}).scalars())


def add_suppression(
    connection: sa.Connection,
    subject: Subject,
    *,
    tenant: str,
    destination: str | None,
    actor: str,
    reason: str | None,
    now: datetime,
) -> int | None:
    """List somebody; the entry's id, or ``None`` when it stands already."""
    values = {
        "tenant": tenant,
        "kind": subject.kind,
        "hash": subject.value_hash,
        "destination": destination,
        "reason": reason,
        "actor": actor,
        "now": now,
    }
    found: int | None = connection.execute(_ADD, values).scalar_one_or_none()
    return found


def end_suppressions(
    connection: sa.Connection, suppression_ids: Collection[int], *, actor: str, now: datetime
) -> list[tuple[int, str, str | None]]:
    """End entries: ``(id, tenant, destination)`` of those that were in force."""
    rows = connection.execute(_END, {"ids": list(suppression_ids), "actor": actor, "now": now})
    return [(row.suppression_id, row.tenant, row.destination) for row in rows]


def find_suppressions(
    connection: sa.Connection,
    *,
    tenant: str | None = None,
    subject: Subject | None = None,
    include_ended: bool = False,
    limit: int,
) -> list[Suppression]:
    """Entries, oldest first."""
    columns = [column for column in suppressions.c if column.name != "value_hash"]
    statement = sa.select(*columns).order_by(suppressions.c.suppression_id).limit(limit)
    if tenant is not None:
        statement = statement.where(suppressions.c.tenant == tenant)
    if subject is not None:
        statement = statement.where(
            suppressions.c.kind == subject.kind, suppressions.c.value_hash == subject.value_hash
        )
    if not include_ended:
        statement = statement.where(suppressions.c.ended_at.is_(None))
    return [
        Suppression(**{**row, "kind": SuppressionKind(row["kind"])}) for row in connection.execute(statement).mappings()
    ]


def judge_again(
    connection: sa.Connection,
    *,
    tenant: str,
    destination: str | None = None,
    reasons: Collection[Unsendable] = tuple(Unsendable),
    now: datetime,
) -> int:
    """Let suppressed rows wait again, so that the gate judges them anew; says how many."""
    values = {"tenant": tenant, "destination": destination, "reasons": list(reasons), "now": now}
    return connection.execute(_WAIT_AGAIN, values).rowcount
