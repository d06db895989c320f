"""From the buffer into the first room: ``raw_leads`` and ``consent_events``.

The lead is kept as it was sent. Only its consent statements are read, because consent outlives everything that is done
with the lead. A lead that its vendor only named waits to be asked for before it is validated.
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.domain.consent import parse_consent
from leads_pipeline.domain.stage import Chunk, ChunkReport, Lane, Stage
from leads_pipeline.storage.consent import keep_consent
from leads_pipeline.storage.lead_fetches import hold_for_fetch
from leads_pipeline.storage.pending import Waiting, enqueue


def move_raw_leads(engine: sa.Engine, chunk: Chunk) -> ChunkReport:
    """Move one chunk of one tenant out of the buffer, with its consent, to the door of ``validated_leads``.

    One transaction: a worker that dies leaves the leads in the buffer, and two workers cannot take the same one.
    """
    with engine.begin() as connection:
        leads = PostgresBuffer(engine).move(connection, chunk)
        if not leads:
            return ChunkReport(taken=0, passed=0, counts={})
        said = [
            (lead.lead_id, parse_consent(lead.consent, context=lead.context, received_at=lead.received_at))
            for lead in leads
            if lead.consent
        ]
        events, malformed = keep_consent(connection, said, chunk)
        to_fetch = {lead.lead_id for lead in leads if lead.context.get("reference")}
        hold_for_fetch(connection, sorted(to_fetch), chunk)
        enqueue(
            connection,
            Stage.VALIDATED_LEADS,
            (
                Waiting(lead.lead_id, chunk.tenant, lead.lane, revision=1, since=chunk.now)
                for lead in leads
                if lead.lead_id not in to_fetch
            ),
        )
    return ChunkReport(
        taken=len(leads), passed=len(leads), counts={"consent_events": events, "consent_malformed": malformed}
    )


def tenants_waiting(connection: sa.Connection, *, lanes: Sequence[Lane], now: datetime) -> list[str]:  # noqa: ARG001 - every stage's signature; a buffered lead is always due
    """The tenants with something in the buffer, by name."""
    return PostgresBuffer(connection.engine).tenants_waiting(connection, lanes=lanes)
