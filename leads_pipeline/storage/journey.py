"""Everything that is known about one lead, in the order in which it happened.

Each chapter reads one table for one lead (``:lead_id``) and its contact (``:contact_id``), by index. Add a table's
chapter to its family: ``journey_intake``, ``journey_identity``, ``journey_delivery``. Details are ids, decisions and
codes; personal values are not read.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import ContactId, LeadId, instant_of
from leads_pipeline.domain.latency import Station
from leads_pipeline.storage import journey_delivery, journey_identity, journey_intake


@dataclass(frozen=True, slots=True)
class JourneyEvent:
    """One row or decision. ``details`` hold no personal data."""

    at: datetime
    table: str
    event: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a lead came by a station of its way, and how long after its capture."""

    station: Station
    destination: str | None
    at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run, worker or command that wrote rows of the lead."""

    runner_id: str
    first_at: datetime
    last_at: datetime
    rows: int


@dataclass(frozen=True, slots=True)
class Journey:
    """A lead, the contact that it belongs to by now (if any), and its events, oldest first."""

    lead_id: LeadId
    tenant: str
    contact_id: ContactId | None
    events: tuple[JourneyEvent, ...]
    arrivals: tuple[Arrival, ...] = ()

    @property
    def runs(self) -> tuple[Run, ...]:
        """Who worked on it, in the order in which they began."""
        found: dict[str, Run] = {}
        for event in self.events:
            runner = event.details.get("runner")
            if runner is not None:
                known = found.get(runner, Run(runner, event.at, event.at, 0))
                found[runner] = Run(runner, known.first_at, event.at, known.rows + 1)
        return tuple(found.values())


# In the order of the flow: rows of one instant keep it.
_CHAPTERS: dict[str, str] = {**journey_intake.CHAPTERS, **journey_identity.CHAPTERS, **journey_delivery.CHAPTERS}

# The first time that the lead came by each station. Of a golden contact that has changed since, nobody knows when it
# first had the lead; and a destination has it since the first version of its contact that does, or a later one.
_ARRIVALS = sa.text(
    """
    select * from (
        select 1 as place, 'raw_leads' as station, null as destination, moved_at as at
        from raw_leads where lead_id = :lead_id
        union all
        select 2, 'validated_leads', null, min(validated_at) from validated_leads where lead_id = :lead_id
        union all
        select 3, 'verified', null, max(v.verified_at)
        from verifications v where v.lead_id = :lead_id
            and not exists (select from verification_requests r where r.lead_id = :lead_id)
        union all
        select 4, 'deduped_leads', null, deduped_at from deduped_leads where lead_id = :lead_id
        union all
        select 5, 'golden_contacts', null, g.updated_at
        from deduped_leads d join golden_contacts g using (contact_id)
        where d.lead_id = :lead_id and g.version = d.golden_version
        union all
        select 6, 'delivered', a.destination, min(a.settled_at)
        from deduped_leads d join sync_attempts a using (contact_id)
        where d.lead_id = :lead_id and a.verdict = 'delivered'
            and a.version >= least(d.golden_version, nullif(greatest(d.first_golden_version, 0), 0))
        group by a.destination
    ) arrivals
    order by place, destination
    """
).bindparams(sa.bindparam("lead_id", type_=sa.Uuid()))

_CAPTURE = ("buffer", "raw_leads")
# What they say of a time before the lead was captured was other leads' doing.
_OF_CONTACT = ("merge_log", "sync_attempts", "dead_letters", "dead_letter_actions", "outcomes")


def lead_journey(connection: sa.Connection, lead_id: LeadId) -> Journey | None:
    """The journey of a lead, or ``None`` if it was never captured (or was erased without a trace of its own)."""
    tenant = connection.execute(
        sa.text(
            "select tenant from buffer where lead_id = :lead_id union all "
            "select tenant from raw_leads where lead_id = :lead_id union all "
            "select tenant from lead_dispositions where lead_id = :lead_id union all "
            # One that lost its first rows: `leads conservation` names it, and this shows what is left.
            "select tenant from validated_leads where lead_id = :lead_id union all "
            "select tenant from rejected_leads where lead_id = :lead_id union all "
            "select tenant from deduped_leads where lead_id = :lead_id union all "
            "select tenant from consent_events where lead_id = :lead_id limit 1"
        ),
        {"lead_id": lead_id},
    ).scalar()
    if tenant is None:
        return None
    contact_id = connection.execute(
        sa.text("select contact_id from deduped_leads where lead_id = :lead_id"), {"lead_id": lead_id}
    ).scalar()
    events = [
        JourneyEvent(
            row.at, table, row.event, {name: value for name, value in row.details.items() if value is not None}
        )
        for table, statement in _CHAPTERS.items()
        for row in connection.execute(
            _typed(statement), {"lead_id": lead_id, "contact_id": contact_id, "tenant": tenant}
        )
    ]
    captured = min((event.at for event in events if event.table in _CAPTURE), default=None)
    if captured is not None:
        events = [event for event in events if event.at >= captured or event.table not in _OF_CONTACT]
    events.sort(key=lambda event: event.at)  # stable: rows of one instant keep the order of the flow
    rows = connection.execute(_ARRIVALS, {"lead_id": lead_id})
    came = instant_of(lead_id)
    arrivals = (
        Arrival(Station(row.station), row.destination, row.at, max(0.0, (row.at - came).total_seconds()))
        for row in rows
        if row.at is not None
    )
    return Journey(lead_id, tenant, contact_id, tuple(events), tuple(arrivals))


def _typed(statement: str) -> sa.TextClause:
    names = [name for name in ("lead_id", "contact_id") if f":{name}" in statement]
    return sa.text(statement).bindparams(*(sa.bindparam(name, type_=sa.Uuid()) for name in names))


def leads_of_contact(connection: sa.Connection, contact_id: UUID, *, limit: int = 50) -> list[LeadId]:
    """The leads of a contact, or of the one that it was merged into, newest first."""
    rows = connection.execute(
        sa.text(
            """
            select lead_id from deduped_leads
            where contact_id = (select coalesce(merged_into, contact_id) from contacts where contact_id = :id)
            order by lead_id desc limit :limit
            """
        ).bindparams(sa.bindparam("id", type_=sa.Uuid())),
        {"id": contact_id, "limit": limit},
    )
    return [LeadId(_uuid(row.lead_id)) for row in rows]


def leads_of_email(connection: sa.Connection, email_key: str, *, email: str, limit: int = 50) -> list[LeadId]:
    """The leads that one may mean by an e-mail address, newest first.

    ``email_key`` is the address as matching compares it, ``email`` as it was typed. Contacts are found by index; leads
    that belong to none yet (waiting, rejected) are looked for among those only.
    """
    rows = connection.execute(
        sa.text(
            """
            select lead_id from (
                select d.lead_id from match_records m join deduped_leads d using (contact_id)
                where m.email_key = :email_key
                union
                select lead_id from buffer where lower(payload ->> 'email') = :email
                union
                select r.lead_id from rejected_leads j join raw_leads r using (lead_id)
                where lower(r.payload ->> 'email') = :email
                union
                select lead_id from lead_corrections where lower(fields ->> 'email') = :email
                union
                select r.lead_id from pending p join raw_leads r on r.lead_id = p.subject_id
                where p.stage in ('validated_leads', 'deduped_leads') and lower(r.payload ->> 'email') = :email
            ) found
            order by lead_id desc limit :limit
            """
        ),
        {"email_key": email_key, "email": email.strip().lower(), "limit": limit},
    )
    return [LeadId(_uuid(row.lead_id)) for row in rows]


def _uuid(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)
