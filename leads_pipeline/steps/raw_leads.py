"""From the buffer into the first room: ``raw_leads`` and ``consent_events``.

The lead is kept as it was sent. Only its consent statements are read, because consent outlives everything that is done
with the lead.
"""

import json
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.buffer.port import BufferedLead
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.domain.consent import ParsedConsent, parse_consent
from leads_pipeline.domain.stage import Chunk, ChunkReport, Lane, Stage
from leads_pipeline.storage.pending import Waiting, enqueue

# Where a raw lead keeps the consent statements that could not be read, as they were sent.
MALFORMED_CONSENT_KEY = "consent_malformed"

_INSERT_CONSENT = sa.text(
    """
    insert into consent_events (
        lead_id, position, tenant, granted, purpose, channel, legal_basis, text_version, ip, user_agent, occurred_at,
        batch_id, runner_id
    )
    select t.lead_id, t.position, :tenant, t.granted, t.purpose, t.channel, t.legal_basis, t.text_version, t.ip,
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
    update raw_leads set payload = payload || jsonb_build_object('{MALFORMED_CONSENT_KEY}', t.statements)
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(lead_id uuid, statements jsonb)
    where raw_leads.lead_id = t.lead_id
    """  # noqa: S608 - a constant of this module
)


def move_raw_leads(engine: sa.Engine, chunk: Chunk) -> ChunkReport:
    """Move one chunk of one tenant out of the buffer, with its consent, to the door of ``validated_leads``.

    One transaction: a worker that dies leaves the leads in the buffer, and two workers cannot take the same one.
    """
    with engine.begin() as connection:
        leads = PostgresBuffer(engine).move(connection, chunk)
        if not leads:
            return ChunkReport(taken=0, passed=0, counts={})
        events, malformed = _keep_consent(connection, leads, chunk)
        enqueue(
            connection,
            Stage.VALIDATED_LEADS,
            (Waiting(lead.lead_id, chunk.tenant, lead.lane, revision=1, since=chunk.now) for lead in leads),
        )
    return ChunkReport(
        taken=len(leads), passed=len(leads), counts={"consent_events": events, "consent_malformed": malformed}
    )


def tenants_waiting(connection: sa.Connection, *, lanes: Sequence[Lane], now: datetime) -> list[str]:  # noqa: ARG001 - every stage's signature; a buffered lead is always due
    """The tenants with something in the buffer, by name."""
    return PostgresBuffer(connection.engine).tenants_waiting(connection, lanes=lanes)


def _keep_consent(connection: sa.Connection, leads: Sequence[BufferedLead], chunk: Chunk) -> tuple[int, int]:
    parsed: list[tuple[BufferedLead, ParsedConsent]] = [
        (lead, parse_consent(lead.consent, context=lead.context, received_at=lead.received_at))
        for lead in leads
        if lead.consent
    ]
    rows = [
        {
            "lead_id": str(lead.lead_id),
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
        for lead, consent in parsed
        for event in consent.events
    ]
    if rows:
        stamps = {"tenant": chunk.tenant, "batch_id": chunk.batch_id, "runner_id": chunk.runner_id}
        connection.execute(_INSERT_CONSENT, {"rows": json.dumps(rows), **stamps})
    malformed = [
        {"lead_id": str(lead.lead_id), "statements": list(consent.malformed)}
        for lead, consent in parsed
        if consent.malformed
    ]
    if malformed:
        connection.execute(_KEEP_MALFORMED, {"rows": json.dumps(malformed)})
    return len(rows), sum(len(consent.malformed) for _lead, consent in parsed)
