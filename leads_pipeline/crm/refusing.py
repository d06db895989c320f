"""Single properties that a destination refuses although its schema allows them: left out, and the contacts sent again.

A refusal that names what was sent is that property's fault, and neither the contacts' nor the destination's. Keep out:
what a schema tells beforehand (``domain.mapping``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from leads_pipeline.crm.port import CrmRecord, RecordVerdict, Verdict
from leads_pipeline.storage.destination_schemas import doubt_schema, read_schema
from leads_pipeline.storage.refused_properties import note_refused
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# The code of a record that is sent again without what the destination refused.
PROPERTY_REFUSED = "PROPERTY_REFUSED"


def without_refused(
    connection: sa.Connection,
    records: Sequence[CrmRecord],
    answered: Iterable[RecordVerdict],
    *,
    destination: str,
    now: datetime,
) -> list[RecordVerdict]:
    """The verdicts on ``records``; one that is a refused property's fault lets its record wait, without an attempt.

    A property that the destination asks of every contact cannot be left out: its refusal stands.
    """
    verdicts = list(answered)
    sent = {name for record in records for name in record.properties}
    named = {
        name: verdict.code
        for verdict in verdicts
        if verdict.verdict is Verdict.AUTH
        for name in verdict.refused_properties
        if name in sent
    }
    if not named:
        return verdicts
    stored = read_schema(connection, destination)
    fields = {} if stored is None else stored.schema.fields
    refused = {name: code for name, code in named.items() if name not in fields or not fields[name].required}
    if not refused:
        return verdicts
    note_refused(connection, destination, refused, now=now)
    doubt_schema(connection, destination)  # what it tells by now may say why
    log.warning("crm_properties_refused", destination=destination, properties=sorted(refused))
    return [
        replace(item, verdict=Verdict.THROTTLED, code=PROPERTY_REFUSED)
        if item.verdict is Verdict.AUTH and refused.keys() & set(item.refused_properties)
        else item
        for item in verdicts
    ]
