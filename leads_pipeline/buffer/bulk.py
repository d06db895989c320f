"""Thousands of leads into the PostgreSQL buffer in the caller's transaction, by COPY: what an import uses.

It does what ``PostgresBuffer.append`` does and is held to the same contract. Keep out: where the leads come from.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from leads_pipeline.buffer.port import NewLead, Posted, PostResult
from leads_pipeline.buffer.postgresql import refuses_value
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.storage.bulk_ingest import COPY_INCOMING, COUNT_BATCH, INCOMING, KNOWN_INCOMING, STORE_INCOMING
from leads_pipeline.storage.ingest import APPEND_SETTING

_NOTHING = "[]"
_json = msgspec.json.Encoder().encode


def copy_lines(leads: Sequence[NewLead]) -> list[str]:
    """The leads as lines of COPY's text format; made beforehand, it need not cost the transaction's time."""
    received: dict[datetime, str] = {}
    lines = []
    for place, lead in enumerate(leads):
        at = received.get(lead.received_at) or received.setdefault(lead.received_at, lead.received_at.isoformat())
        payload = _json(lead.payload).decode()
        consent = _json(lead.consent).decode() if lead.consent else _NOTHING
        context = _json(lead.context).decode()
        names = f"{lead.tenant}\t{lead.source}"
        if "\\" in payload or "\\" in consent or "\\" in context or "\\" in names:
            payload, consent, context = (text.replace("\\", "\\\\") for text in (payload, consent, context))
            names = "\t".join(_escaped(name) for name in (lead.tenant, lead.source))
        lines.append(
            f"{place}\t{lead.lead_id.hex}\t{names}\t{lead.lane}\t{at}\t"
            f"\\\\x{lead.key_hex}\t\\\\x{lead.body_hex}\t{payload}\t{consent}\t{context}\n"
        )
    return lines


def append_in_bulk(
    connection: sa.Connection, leads: Sequence[NewLead], *, now: datetime, lines: Sequence[str] | None = None
) -> list[Posted]:
    """As ``LeadBuffer.append``, but in the caller's transaction; once in a transaction, at ``read committed``.

    ``lines`` are the leads' ``copy_lines``, if they were made before.
    """
    connection.exec_driver_sql(INCOMING)
    posted = [Posted(PostResult.ACCEPTED, lead.lead_id) for lead in leads]
    waiting = [range(len(leads))]
    lines = copy_lines(leads) if lines is None else lines
    while waiting:
        places = waiting.pop()
        if not places:
            continue
        try:
            with connection.begin_nested():
                _copy(connection, [lines[place] for place in places])
        except sa.exc.DBAPIError as error:
            if not refuses_value(error.orig):
                raise
            if len(places) == 1:
                [place] = places
                posted[place] = Posted(PostResult.UNSTORABLE, leads[place].lead_id)
            else:
                middle = len(places) // 2
                waiting += [places[middle:], places[:middle]]
    captured: Counter[tuple[str, ...]] = Counter()
    for stored in connection.exec_driver_sql(STORE_INCOMING):
        captured[stored.tenant, stored.source, stored.lane] = stored.captured
    connection.exec_driver_sql("set local {} = {}".format(*APPEND_SETTING))
    duplicates: Counter[tuple[str, ...]] = Counter()
    for known in connection.exec_driver_sql(KNOWN_INCOMING):
        lead = leads[known.place]
        result = PostResult.DUPLICATE if known.same_body else PostResult.KEY_REUSED
        posted[known.place] = Posted(result, known.first_lead_id)
        if result is PostResult.DUPLICATE:
            duplicates[lead.tenant, lead.source, str(lead.lane)] += 1
    _count(connection, captured, duplicates, now=now)
    return posted


def _copy(connection: sa.Connection, lines: Sequence[str]) -> None:
    # The driver's own interface: SQLAlchemy has none for COPY. Its errors are wrapped as SQLAlchemy would.
    driver = connection.connection.driver_connection
    assert driver is not None
    dialect = connection.dialect
    with driver.cursor() as cursor:
        try:
            with cursor.copy(COPY_INCOMING) as copy:
                copy.write("".join(lines))
        except dialect.loaded_dbapi.Error as error:
            raise sa.exc.DBAPIError.instance(
                COPY_INCOMING, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect
            ) from None


def _count(
    connection: sa.Connection,
    captured: Counter[tuple[str, ...]],
    duplicates: Counter[tuple[str, ...]],
    *,
    now: datetime,
) -> None:
    batch_id = uuid7(now)
    for of in sorted({*captured, *duplicates}):
        tenant, source, lane = of
        connection.exec_driver_sql(
            COUNT_BATCH,
            {
                "batch_id": batch_id,
                "tenant": tenant,
                "source": source,
                "lane": lane,
                "captured": captured[of],
                "duplicates": duplicates[of],
                "now": now,
            },
        )


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
