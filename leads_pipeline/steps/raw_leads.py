"""From the buffer into the first room: ``raw_leads`` and ``consent_events``.

The lead is kept as it was sent. Only its consent statements are read, because consent outlives everything that is done
with the lead. A lead that its vendor only named waits to be asked for before it is validated.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.buffer.port import BufferedLead, LeadBuffer, Moved
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.domain.consent import ParsedConsent, parse_consent
from leads_pipeline.domain.latency import Station, seconds_since_capture
from leads_pipeline.domain.stage import Chunk, ChunkReport, Lane, Stage
from leads_pipeline.errors import DatabaseError
from leads_pipeline.storage.consent import keep_consent
from leads_pipeline.storage.latency import Measure, Took, measure_latency
from leads_pipeline.storage.lead_fetches import hold_for_fetch
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline.telemetry import get_logger

ConsentParser = Callable[..., ParsedConsent]

_log = get_logger(__name__)
_TROUBLE_OF_THE_DATABASE = (DatabaseError, sa.exc.OperationalError, sa.exc.InterfaceError)


def move_raw_leads(
    engine: sa.Engine,
    chunk: Chunk,
    *,
    buffers: Sequence[LeadBuffer] = (),
    parser: ConsentParser = parse_consent,
    measure: Measure = measure_latency,
) -> ChunkReport:
    """Move one chunk of one tenant out of the buffer, with its consent, to the door of ``validated_leads``.

    One transaction: a worker that dies leaves the leads in the buffer, and two workers cannot take the same one.
    ``buffers`` are those to drain, PostgreSQL's alone if none is named; within a lane they are emptied in that order.

    A chunk of a single lead that fails, not for the database's sake, is set aside where the buffer can do that: the
    report then counts it as ``set_aside``.
    """
    taken: list[Moved] = []
    try:
        with engine.begin() as connection:
            for moved in _moves(connection, chunk, buffers or (PostgresBuffer(engine),)):
                taken.append(moved)  # noqa: PERF402 - those before a failure must be known
            leads = [lead for moved in taken for lead in moved.leads]
            counts = _pass_on(connection, leads, chunk, parser) if leads else {}
            took = ((lead.lane, seconds_since_capture(lead.lead_id, chunk.now)) for lead in leads)
            measure(connection, Took(chunk.tenant, Station.RAW_LEADS, took), now=chunk.now)
    except BaseException as error:
        if _set_aside(taken, error):
            return ChunkReport(taken=1, passed=0, counts={"set_aside": 1})
        for moved in taken:
            moved.release()
        raise
    for moved in taken:
        moved.acknowledge()
    duplicates = sum(moved.duplicates for moved in taken)
    return ChunkReport(
        taken=sum(moved.taken for moved in taken),
        passed=len(leads),
        counts=counts | ({"duplicates": duplicates} if duplicates else {}),
    )


def tenants_waiting(
    connection: sa.Connection,
    *,
    lanes: Sequence[Lane],
    now: datetime,  # noqa: ARG001 - every stage's signature; a buffered lead is always due
    buffers: Sequence[LeadBuffer] = (),
) -> list[str]:
    """The tenants with something in the buffers, by name; PostgreSQL's buffer alone if none is named."""
    found: set[str] = set()
    for buffer in buffers or (PostgresBuffer(connection.engine),):
        found.update(buffer.tenants_waiting(connection, lanes=lanes))
    return sorted(found)


def _moves(connection: sa.Connection, chunk: Chunk, buffers: Sequence[LeadBuffer]) -> Iterator[Moved]:
    if len(buffers) == 1:
        yield buffers[0].move(connection, chunk)
        return
    room = chunk.limit
    for lane in sorted(chunk.lanes, key=list(Lane).index):
        for buffer in buffers:
            if room > 0:
                moved = buffer.move(connection, replace(chunk, lanes=(lane,), limit=room))
                room -= moved.taken
                yield moved


def _pass_on(
    connection: sa.Connection, leads: Sequence[BufferedLead], chunk: Chunk, parser: ConsentParser
) -> dict[str, int]:
    said = [(lead.lead_id, _consent_of(lead, parser)) for lead in leads if lead.consent]
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
    return {"consent_events": events, "consent_malformed": malformed}


def _consent_of(lead: BufferedLead, parser: ConsentParser) -> ParsedConsent:
    """What the lead says of consent. What the parser breaks on is kept as it came: a tenant's leads wait behind it."""
    try:
        return parser(lead.consent, context=lead.context, received_at=lead.received_at)
    except Exception as error:  # noqa: BLE001 - a fault in a rule must not hold up every other lead
        _log.error("consent_parser_failed", lead_id=str(lead.lead_id), error_type=type(error).__name__)
        return ParsedConsent((), tuple(lead.consent))


def _set_aside(taken: Sequence[Moved], error: BaseException) -> bool:
    """Whether the one lead of a chunk was put out of the way; trouble of the database is not the lead's fault."""
    if not isinstance(error, Exception) or isinstance(error, _TROUBLE_OF_THE_DATABASE):
        return False
    holding = [moved for moved in taken if moved.taken]
    return len(holding) == 1 and holding[0].taken == 1 and holding[0].set_aside(type(error).__name__)
