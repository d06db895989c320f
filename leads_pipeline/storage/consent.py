"""The table ``consent_events``: what leads said of consent, one row a statement."""

import json
from collections.abc import Sequence
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.consent import ParsedConsent
from leads_pipeline.domain.stage import Chunk

# Where a raw lead keeps the consent statements that could not be read, as they were sent.
MALFORMED_CONSENT_KEY = "consent_malformed"

# Statements that come later, when a lead was asked for, take the places after those that its post came with.
_INSERT_CONSENT = sa.text(
    """
    insert into consent_events (
        lead_id, position, tenant, granted, purpose, channel, legal_basis, text_version, ip, user_agent, occurred_at,
        batch_id, runner_id
    )
    select t.lead_id, t.position + case when :after_known then coalesce(
            (select max(known.position) from consent_events known where known.lead_id = t.lead_id), 0) else 0 end,
        :tenant, t.granted, t.purpose, t.channel, t.legal_basis, t.text_version, t.ip,
        t.user_agent, t.occurred_at, :batch_id, :runner_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        lead_id uuid, position integer, granted boolean, purpose text, channel text, legal_basis text,
        text_version text, ip text, user_agent text, occurred_at timestamptz
    )
    on conflict (lead_id, position) do nothing
    """
)

_KEEP_MALFORMED = sa.text(
    f"""
    update raw_leads set payload = payload || jsonb_build_object(
        '{MALFORMED_CONSENT_KEY}', coalesce(payload -> '{MALFORMED_CONSENT_KEY}', '[]'::jsonb) || t.statements)
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid, statements jsonb)
    where raw_leads.lead_id = t.lead_id
    """  # noqa: S608 - a constant of this module
)


def keep_consent(
    connection: sa.Connection,
    parsed: Sequence[tuple[UUID, ParsedConsent]],
    chunk: Chunk,
    *,
    after_known: bool = False,
) -> tuple[int, int]:
    """Keep what leads said; with the raw lead, what could not be read. Says how many of each.

    ``after_known``: behind the statements that are there, instead of once and for all at their own places.
    """
    rows = [
        {
            "lead_id": str(lead_id),
            "position": event.position,
            "granted": event.granted,
            "purpose": event.purpose,
            "channel": event.channel,
            "legal_basis": event.legal_basis,
            "text_version": event.text_version,
            "ip": event.ip,
            "user_agent": event.user_agent,
            "occurred_at": event.occurred_at.isoformat(),
        }
        for lead_id, consent in parsed
        for event in consent.events
    ]
    if rows:
        stamps = {"tenant": chunk.tenant, "batch_id": chunk.batch_id, "runner_id": chunk.runner_id}
        connection.execute(
            _INSERT_CONSENT, {"rows": msgspec.json.encode(rows).decode(), "after_known": after_known, **stamps}
        )
    malformed = [
        {"lead_id": str(lead_id), "statements": list(consent.malformed)}
        for lead_id, consent in parsed
        if consent.malformed
    ]
    if malformed:
        connection.execute(_KEEP_MALFORMED, {"rows": json.dumps(malformed)})
    return len(rows), sum(len(consent.malformed) for _lead, consent in parsed)
