"""Thousands of leads into the PostgreSQL buffer in the caller's transaction, by COPY: what an import uses.

It does what ``PostgresBuffer.append`` does and is held to the same contract. Keep out: where the leads come from.
"""

import json
from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from leads_pipeline.buffer.port import NewLead, Posted, PostResult
from leads_pipeline.buffer.postgresql import refuses_value
from leads_pipeline.domain.ids import instant_of, uuid7
from leads_pipeline.storage.bulk_ingest import COPY_INCOMING, COUNT_BATCH, INCOMING, KNOWN_INCOMING, STORE_INCOMING
from leads_pipeline.storage.ingest import APPEND_SETTING

_NOTHING = "[]"
_json = msgspec.json.Encoder().encode


def copy_lines(leads: Sequence[NewLead]) -> list[str]:
    """The leads as lines of COPY's text format; made beforehand, it need not cost the transaction's time."""
    lines = []
    for place, lead in enumerate(leads):
        payload = _json(lead.payload).decode()
        consent = _json(lead.consent).decode() if lead.consent else _NOTHING
        context = _json(lead.context).decode()
        if "\\" in payload or "\\" in consent or "\\" in context:
            payload, consent, context = (text.replace("\\", "\\\\") for text in (payload, consent, context))
        keys = f"\\\\x{lead.key_hex}\t\\\\x{lead.body_hex}"
        lines.append(f"{place}\t{lead.lead_id.hex}\t{keys}\t{payload}\t{consent}\t{context}\n")
    return lines


def append_in_bulk(
    connection: sa.Connection, leads: Sequence[NewLead], *, now: datetime, lines: Sequence[str] | None = None
) -> list[Posted]:
    """As ``LeadBuffer.append``, but in the caller's transaction; once in a transaction, at ``read committed``.

    The leads are of one tenant, source, lane and instant. ``lines`` are their ``copy_lines``, if they were made before.
    """
    if not leads:
        return []
    common = {"tenant": leads[0].tenant, "source": leads[0].source}
    connection.exec_driver_sql(INCOMING)
    posted = _copied(connection, leads, copy_lines(leads) if lines is None else lines)
    stored = connection.exec_driver_sql(
        STORE_INCOMING, {**common, "lane": str(leads[0].lane), "received_at": leads[0].received_at}
    ).rowcount
    duplicates = 0
    if stored < sum(answer.result is PostResult.ACCEPTED for answer in posted):
        connection.exec_driver_sql("set local {} = {}".format(*APPEND_SETTING))
        for known in connection.exec_driver_sql(KNOWN_INCOMING, common):
            result = PostResult.DUPLICATE if known.same_body else PostResult.KEY_REUSED
            posted[known.place] = Posted(result, known.first_lead_id)
            duplicates += known.same_body
    if stored or duplicates:
        day = instant_of(leads[0].lead_id).date()  # all are of one instant
        counts = {"batch_id": uuid7(now), "captured": stored, "duplicates": duplicates, "now": now}
        counts["captured_by_day"] = json.dumps({day.isoformat(): stored} if stored and day != now.date() else {})
        connection.exec_driver_sql(COUNT_BATCH, {**common, "lane": str(leads[0].lane), **counts})
    return posted


def _copied(connection: sa.Connection, leads: Sequence[NewLead], lines: Sequence[str]) -> list[Posted]:
    """Send the leads; those that the database cannot represent are left out, found by halves."""
    posted = [Posted(PostResult.ACCEPTED, lead.lead_id) for lead in leads]
    waiting = [range(len(leads))]
    while waiting:
        places = waiting.pop()
        try:
            with connection.begin_nested():
                _copy(connection, lines[places.start : places.stop])
        except sa.exc.DBAPIError as error:
            if not refuses_value(error.orig):
                raise
            if len(places) == 1:
                posted[places.start] = Posted(PostResult.UNSTORABLE, leads[places.start].lead_id)
            else:
                middle = len(places) // 2
                waiting += [places[middle:], places[:middle]]
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
