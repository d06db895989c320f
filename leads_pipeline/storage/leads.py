"""The rooms ``raw_leads``, ``validated_leads`` and ``rejected_leads``: what validation reads and writes.

Rows are written with one JSON-array parameter per table, which psycopg sends several times faster than lists of values.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.rules import RULE_VERSION
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.domain.triage import Triage
from leads_pipeline.domain.validation import Rejection, ValidLead


@dataclass(frozen=True, slots=True)
class RawLead:
    """A lead as it was sent, with the revision that is to be judged.

    ``payload`` is JSON text: PostgreSQL keeps numbers that Python refuses to read, and one must not fail a chunk.
    ``quarantine`` says why it must not be used unless a person has ``released`` it; an ``imported`` lead came from a
    file, whose columns were mapped then. ``corrections``: a JSON list of what was corrected, in order: objects of
    canonical fields, in which null takes a field away. ``ip`` is the person's own address of the network;
    ``verification``, as JSON, what the door of a source that verifies in the request has found out.
    """

    lead_id: UUID
    revision: int
    source: str
    capture_lane: Lane
    received_at: datetime
    payload: str
    quarantine: str | None = None
    imported: bool = False
    corrections: str = field(default="[]", repr=False)
    released: bool = False
    ip: str | None = field(default=None, repr=False)
    verification: str | None = None


_READ_RAW = sa.text(
    """
    select t.revision, r.lead_id, r.source, r.capture_lane, r.received_at, cast(r.payload as text) as payload,
        r.context ->> 'quarantine' as quarantine, r.context -> 'row' is not null as imported,
        coalesce(c.corrections, '[]') as corrections, coalesce(c.released, false) as released,
        r.context ->> 'ip' as ip, r.context ->> 'verification' as verification
    from jsonb_to_recordset(cast(:wanted as jsonb)) as t(lead_id uuid, revision integer)
    join raw_leads r on r.lead_id = t.lead_id
    left join lateral (  -- the first revision is nobody's correction: it costs no look
        select cast(jsonb_agg(c.fields order by c.revision) as text) as corrections, bool_or(c.release) as released
        from lead_corrections c
        where t.revision > 1 and c.lead_id = t.lead_id and c.revision <= t.revision
    ) c on true
    where r.tenant = :tenant
    order by r.lead_id
    """
)

_LEAD_COLUMNS = [column.name for column in fields(ValidLead)]
_LEAD_TYPES = {"date_of_birth": "date", "attribution": "jsonb", "flags": "jsonb"}
_TRIAGE_TYPES = {"tier": "text", "value_score": "integer", "risk_score": "integer", "risk_factors": "jsonb"}
_ROW_COLUMNS = [
    "lead_id", "revision", "source", "capture_lane", "sync_lane", "received_at", *_LEAD_COLUMNS, *_TRIAGE_TYPES
]  # fmt: skip
_ROW_TYPES = {
    "lead_id": "uuid", "revision": "integer", "received_at": "timestamptz", **_LEAD_TYPES, **_TRIAGE_TYPES
}  # fmt: skip

# Keyed by lead and revision: judging a lead again with the same rules changes nothing.
_INSERT_VALIDATED = sa.text(
    f"""
    insert into validated_leads (tenant, {", ".join(_ROW_COLUMNS)}, rule_version, batch_id, runner_id, validated_at)
    select :tenant, {", ".join(f"t.{name}" for name in _ROW_COLUMNS)}, :rule_version, :batch_id, :runner_id, :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t({
        ", ".join(f"{name} {_ROW_TYPES.get(name, 'text')}" for name in _ROW_COLUMNS)
    })
    on conflict (lead_id, revision) do nothing
    """  # noqa: S608 - names of columns
)

_INSERT_REJECTED = sa.text(
    """
    insert into rejected_leads (
        tenant, lead_id, revision, source, received_at, reasons, rule_version, batch_id, runner_id, rejected_at
    )
    select :tenant, t.lead_id, t.revision, t.source, t.received_at, t.reasons, :rule_version, :batch_id, :runner_id,
        :now
    from jsonb_to_recordset(cast(:rows as jsonb)) as t(
        lead_id uuid, revision integer, source text, received_at timestamptz, reasons jsonb
    )
    on conflict (lead_id, revision) do nothing
    """
)


def read_raw_leads(connection: sa.Connection, *, tenant: str, wanted: Mapping[UUID, int]) -> list[RawLead]:
    """The raw leads of these ids (id -> revision to judge), by id. One that is gone is not in the answer."""
    rows = json.dumps([{"lead_id": str(lead_id), "revision": revision} for lead_id, revision in wanted.items()])
    return [
        RawLead(
            r.lead_id,
            r.revision,
            r.source,
            Lane(r.capture_lane),
            r.received_at,
            r.payload,
            quarantine=r.quarantine,
            imported=r.imported,
            corrections=r.corrections,
            released=r.released,
            ip=r.ip,
            verification=r.verification,
        )
        for r in connection.execute(_READ_RAW, {"wanted": rows, "tenant": tenant})
    ]


def insert_validated_leads(
    connection: sa.Connection,
    leads: Iterable[tuple[RawLead, ValidLead, Triage]],
    chunk: Chunk,
    *,
    lanes: Mapping[UUID, Lane] | None = None,
) -> None:
    """Put valid leads into their room; ``sync_lane`` is the lane of capture until scoring knows better.

    ``lanes``: those in which they came to the door, where that may be another one: a replayed lead's.
    """
    lanes = lanes or {}
    rows = [
        {
            "lead_id": str(raw.lead_id),
            "revision": raw.revision,
            "source": raw.source,
            "capture_lane": raw.capture_lane,
            "sync_lane": lanes.get(raw.lead_id, raw.capture_lane),
            "received_at": raw.received_at.isoformat(),
            **{name: _as_json(getattr(lead, name)) for name in _LEAD_COLUMNS},
            "tier": weighed.tier,
            "value_score": weighed.value,
            "risk_score": weighed.risk,
            "risk_factors": [factor.as_json() for factor in weighed.factors],
        }
        for raw, lead, weighed in leads
    ]
    _insert(connection, _INSERT_VALIDATED, rows, chunk)


def insert_rejected_leads(connection: sa.Connection, leads: Sequence[tuple[RawLead, Rejection]], chunk: Chunk) -> None:
    """Put leads into quarantine with all their reasons."""
    rows = [
        {
            "lead_id": str(raw.lead_id),
            "revision": raw.revision,
            "source": raw.source,
            "received_at": raw.received_at.isoformat(),
            "reasons": [finding.as_reason() for finding in rejection.reasons],
        }
        for raw, rejection in leads
    ]
    _insert(connection, _INSERT_REJECTED, rows, chunk)


def _insert(connection: sa.Connection, statement: sa.TextClause, rows: list[dict[str, object]], chunk: Chunk) -> None:
    if not rows:
        return
    connection.execute(
        statement,
        {
            "rows": json.dumps(rows),
            "tenant": chunk.tenant,
            "rule_version": RULE_VERSION,
            "batch_id": chunk.batch_id,
            "runner_id": chunk.runner_id,
            "now": chunk.now,
        },
    )


def _as_json(value: object) -> object:
    if isinstance(value, date):
        return value.isoformat()
    return dict(value) if isinstance(value, Mapping) else value
