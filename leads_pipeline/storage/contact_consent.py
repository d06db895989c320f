"""What a person has withdrawn holds for every part of a contact that is taken apart.

Nobody can say whom a withdrawal concerned that reached a contact while two persons were taken for one. It is added to
the other parts as a statement of its own, so that whatever is merged, undone or split later, no older grant comes back.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId, LeadId
from leads_pipeline.domain.stage import Chunk
from leads_pipeline.storage.golden import uuid_array

_WITHDRAWALS = sa.text(
    """
    select e.lead_id, e.purpose, e.channel, e.occurred_at, d.deduped_at
    from consent_events e join deduped_leads d on d.lead_id = e.lead_id
    where e.tenant = :tenant and not e.granted and e.lead_id = any(cast(:leads as uuid[]))
    order by e.occurred_at, e.lead_id, e.position
    """
)

_CARRY = sa.text(
    """
    insert into consent_events (
        lead_id, position, tenant, granted, purpose, channel, text_version, occurred_at, batch_id, runner_id
    )
    select t.lead_id,
        coalesce((select max(known.position) from consent_events known where known.lead_id = t.lead_id), 0)
            + row_number() over (partition by t.lead_id order by t.place),
        :tenant, false, t.purpose, t.channel, t.text_version, t.occurred_at, :batch_id, :runner_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        lead_id uuid, place integer, purpose text, channel text, text_version text, occurred_at timestamptz
    )
    """
)


_LEFT_BEHIND = sa.text(
    """
    select c.contact_id, d.lead_id
    from contacts c join deduped_leads d on d.contact_id = coalesce(c.merged_into, c.contact_id)
    where c.tenant = :tenant and c.contact_id = any(cast(:contacts as uuid[]))
    """
)


def carry_on_leaving(connection: sa.Connection, chunk: Chunk, leaving: Mapping[LeadId, ContactId]) -> int:
    """Let withdrawals hold for leads that leave a contact, each by itself, and for those that they leave behind.

    ``leaving`` names the contact that each has left. Those that leave one contact together hear of each other's
    withdrawals as well. Says how many statements were added.
    """
    if not leaving:
        return 0
    parts_of: dict[ContactId, dict[ContactId, set[LeadId]]] = {}
    for lead, contact in sorted(leaving.items()):
        # Under its own id in place of a contact's: it alone has heard what was said where it was.
        parts_of.setdefault(contact, {contact: set()})[ContactId(lead)] = {lead}
    rows = connection.execute(_LEFT_BEHIND, {"tenant": chunk.tenant, "contacts": uuid_array(parts_of)})
    for row in rows:
        if row.lead_id not in leaving:  # who came here from elsewhere was not there when the others left
            parts_of[row.contact_id][row.contact_id].add(LeadId(row.lead_id))
    return sum(carry_withdrawals(connection, chunk, parts, since=None) for parts in parts_of.values())


def carry_withdrawals(
    connection: sa.Connection,
    chunk: Chunk,
    parts: Mapping[ContactId, Collection[LeadId]],
    *,
    since: datetime | None,
) -> int:
    """Let the withdrawals of each part hold for the others; says how many statements were added.

    ``since``: only what was said, or came in, from then on: before, the parts were contacts of their own, and it was
    known whose each statement is. ``None``: all of them.
    """
    leads = [lead for part in parts.values() for lead in part]
    rows = connection.execute(_WITHDRAWALS, {"tenant": chunk.tenant, "leads": uuid_array(leads)}).all()
    owner = {lead: contact for contact, part in parts.items() for lead in part}
    said: dict[ContactId, dict[tuple[str, str], Any]] = {contact: {} for contact in parts}
    shared: dict[ContactId, dict[tuple[str, str], Any]] = {contact: {} for contact in parts}
    for row in rows:  # in order of time: the latest of each purpose and channel stays
        contact, about = owner[row.lead_id], (row.purpose, row.channel)
        said[contact][about] = row
        if since is None or row.occurred_at >= since or row.deduped_at >= since:
            shared[contact][about] = row
    carried: list[dict[str, Any]] = []
    for contact, part in parts.items():
        heard = said[contact]
        for other in sorted(parts.keys() - {contact}) if part else ():
            for about, row in shared[other].items():
                if about not in heard or heard[about].occurred_at < row.occurred_at:
                    heard[about] = row
                    carried.append(_statement(max(part), len(carried), row))
    if carried:
        connection.execute(
            _CARRY,
            {
                "rows": msgspec.json.encode(carried).decode(),
                "tenant": chunk.tenant,
                "batch_id": chunk.batch_id,
                "runner_id": chunk.runner_id,
            },
        )
    return len(carried)


def _statement(lead: UUID, place: int, row: Any) -> dict[str, Any]:
    return {
        "lead_id": str(lead),
        "place": place,
        "purpose": row.purpose,
        "channel": row.channel,
        "text_version": f"carried over from lead {row.lead_id}",
        "occurred_at": row.occurred_at.isoformat(),
    }
