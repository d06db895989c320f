"""Leads that validation rejected: which ones, why, and what people did about them.

A lead is rejected while its newest verdict is a rejection, nothing waits to be judged, and nobody took it out: the same
that ``storage.conservation`` counts. Lists hold rules and never values; what a correction holds is personal.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.storage.schema import lead_corrections, lead_dispositions, pending, rejected_leads, validated_leads

# Ids that one statement reads when somebody acts on whatever a filter names.
PAGE = 500


@dataclass(frozen=True, slots=True)
class RejectedFilter:
    """Which rejected leads are meant. ``since`` and ``until`` are about the rejection, both included.

    ``rule`` and ``field`` together mean one reason that has both. ``but_not``: rules whose verdict leaves a lead out.
    """

    tenant: str | None = None
    source: str | None = None
    rule: str | None = None
    field: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    but_not: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class RejectedLead:
    """A rejection. ``reasons`` as ``Finding.as_reason`` gives them, the verdict first."""

    lead_id: UUID
    revision: int
    tenant: str
    source: str
    received_at: datetime
    rejected_at: datetime
    rule_version: str
    reasons: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Correction:
    """What somebody did with a rejected lead, and the revision that it made. ``fields`` are personal."""

    revision: int
    action: str
    actor: str
    reason: str | None
    release: bool
    corrected_at: datetime
    fields: Mapping[str, str | None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How many rejected leads met a rule."""

    rule: str
    field: str
    value_class: str
    leads: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stored lead stands. The revisions are the newest of their kind; none of it is about a waiting one."""

    lead_id: UUID
    tenant: str
    source: str
    lane: Lane
    quarantine: str | None
    released: bool
    rejected: int | None
    validated: int | None
    corrected: int | None
    waits: bool
    disposition: str | None

    @property
    def is_rejected(self) -> bool:
        newest_rejects = self.rejected is not None and self.rejected > (self.validated or 0)
        return newest_rejects and not self.waits and self.disposition is None

    @property
    def words(self) -> str:
        """The same for people: what the lead *is*, *was* or *does*."""
        if self.disposition is not None:
            return f"is {self.disposition}"
        if self.waits:
            return "waits to be judged"
        if self.is_rejected:
            return "is rejected"
        return "was not judged yet" if self.validated is None else "was accepted"

    @property
    def next_revision(self) -> int:
        return max(self.rejected or 0, self.validated or 0, self.corrected or 0) + 1


_COLUMNS = [rejected_leads.c[item.name] for item in RejectedLead.__dataclass_fields__.values()]

_LOCK = sa.text("select lead_id from raw_leads where lead_id = :lead_id for update")

_STANDING = sa.text(
    """
    select r.lead_id, r.tenant, r.source, r.capture_lane as lane, r.context ->> 'quarantine' as quarantine,
        (select max(revision) from rejected_leads where lead_id = r.lead_id) as rejected,
        (select max(revision) from validated_leads where lead_id = r.lead_id) as validated,
        (select max(revision) from lead_corrections where lead_id = r.lead_id) as corrected,
        exists (select from lead_corrections c where c.lead_id = r.lead_id and c.release) as released,
        exists (select from pending where stage = 'validated_leads' and subject_id = r.lead_id) as waits,
        (select state from lead_dispositions where lead_id = r.lead_id) as disposition
    from raw_leads r where r.lead_id = :lead_id
    """
).columns(lead_id=sa.Uuid())


def find_rejected(
    connection: sa.Connection, wanted: RejectedFilter, *, after: UUID | None = None, limit: int
) -> list[RejectedLead]:
    """Rejected leads in the order in which they were captured, from the one behind ``after``.

    A lead keeps its place in that order however often it is judged, so that pages neither repeat nor skip one.
    """
    statement = sa.select(*_COLUMNS).where(*_conditions(wanted)).order_by(rejected_leads.c.lead_id).limit(limit)
    if after is not None:
        statement = statement.where(rejected_leads.c.lead_id > after)
    return [RejectedLead(**row) for row in connection.execute(statement).mappings()]


def each_rejected(engine: sa.Engine, wanted: RejectedFilter, *, limit: int | None = None) -> Iterator[UUID]:
    """The ids of rejected leads, page by page, so that what happens to one meanwhile is seen; at most ``limit``."""
    after: UUID | None = None
    left = limit
    while left is None or left > 0:
        room = PAGE if left is None else min(PAGE, left)
        with engine.connect() as connection:
            page = [lead.lead_id for lead in find_rejected(connection, wanted, after=after, limit=room)]
        yield from page
        if len(page) < room:
            return
        after = page[-1]
        left = None if left is None else left - len(page)


def count_rejected(connection: sa.Connection, wanted: RejectedFilter) -> int:
    """How many leads a filter names."""
    statement = sa.select(sa.func.count()).select_from(rejected_leads).where(*_conditions(wanted))
    return int(connection.execute(statement).scalar_one())


def counts_by_rule(
    connection: sa.Connection, wanted: RejectedFilter | None = None, *, limit: int | None = None
) -> list[RuleCount]:
    """How many rejected leads met each rule, the most first. A lead that met several is counted for each of them."""
    reason = sa.func.jsonb_array_elements(rejected_leads.c.reasons).table_valued(sa.column("value", sa.JSON))
    told = [sa.func.jsonb_extract_path_text(reason.c.value, name) for name in ("rule", "field", "value_class")]
    leads = sa.func.count(sa.distinct(rejected_leads.c.lead_id)).label("leads")
    statement = (
        sa.select(*(text.label(name) for text, name in zip(told, ("rule", "field", "value_class"), strict=True)), leads)
        .select_from(rejected_leads.join(reason, sa.true()))
        .where(*_conditions(wanted or RejectedFilter()))
        .group_by(*told)
        .order_by(leads.desc(), *told)
        .limit(limit)
    )
    return [RuleCount(**row) for row in connection.execute(statement).mappings()]


def rejections_of(connection: sa.Connection, lead_id: UUID) -> list[RejectedLead]:
    """Every rejection of a lead, the first one first; also of a lead that was accepted since."""
    statement = sa.select(*_COLUMNS).where(rejected_leads.c.lead_id == lead_id).order_by(rejected_leads.c.revision)
    return [RejectedLead(**row) for row in connection.execute(statement).mappings()]


def corrections_of(connection: sa.Connection, lead_id: UUID) -> list[Correction]:
    """What people did with a lead, in order, with the values that they gave."""
    names = [lead_corrections.c[item.name] for item in Correction.__dataclass_fields__.values()]
    statement = sa.select(*names).where(lead_corrections.c.lead_id == lead_id).order_by(lead_corrections.c.revision)
    return [Correction(**row) for row in connection.execute(statement).mappings()]


def standing_of(connection: sa.Connection, lead_id: UUID, *, for_update: bool = False) -> Standing | None:
    """Where a lead stands; ``None`` if it was never stored. ``for_update`` lets one person at a time decide on it."""
    if for_update and connection.execute(_LOCK, {"lead_id": lead_id}).first() is None:
        return None
    row = connection.execute(_STANDING, {"lead_id": lead_id}).mappings().one_or_none()
    return None if row is None else Standing(**{**row, "lane": Lane(row["lane"])})


def write_correction(
    connection: sa.Connection,
    standing: Standing,
    *,
    action: str,
    fields: Mapping[str, str | None],
    release: bool,
    actor: str,
    reason: str | None,
    now: datetime,
) -> int:
    """Keep what is to be judged as the lead's next revision; returns its number."""
    connection.execute(
        lead_corrections.insert().values(
            lead_id=standing.lead_id,
            revision=standing.next_revision,
            tenant=standing.tenant,
            action=action,
            fields=dict(fields),
            release=release,
            actor=actor,
            reason=reason,
            corrected_at=now,
        )
    )
    return standing.next_revision


def dispose(connection: sa.Connection, standing: Standing, *, actor: str, reason: str, now: datetime) -> None:
    """Mark a lead as discarded."""
    connection.execute(
        lead_dispositions.insert().values(
            lead_id=standing.lead_id,
            tenant=standing.tenant,
            state="discarded",
            actor=actor,
            reason=reason,
            decided_at=now,
        )
    )


def raw_values(connection: sa.Connection, lead_id: UUID) -> dict[str, Any]:
    """What a lead was sent with: personal."""
    statement = sa.text("select payload from raw_leads where lead_id = :lead_id")
    found: dict[str, Any] = connection.execute(statement, {"lead_id": lead_id}).scalar_one()
    return found


def _conditions(wanted: RejectedFilter) -> list[sa.ColumnElement[bool]]:
    this, later = rejected_leads.c, rejected_leads.alias("later").c
    conditions = [
        ~_exists(later.lead_id == this.lead_id, later.revision > this.revision),
        ~_exists(validated_leads.c.lead_id == this.lead_id, validated_leads.c.revision >= this.revision),
        ~_exists(pending.c.stage == Stage.VALIDATED_LEADS, pending.c.subject_id == this.lead_id),
        ~_exists(lead_dispositions.c.lead_id == this.lead_id),
    ]
    if wanted.tenant is not None:
        conditions.append(this.tenant == wanted.tenant)
    if wanted.source is not None:
        conditions.append(this.source == wanted.source)
    if reason := {name: value for name, value in (("rule", wanted.rule), ("field", wanted.field)) if value is not None}:
        conditions.append(this.reasons.contains([reason]))
    if wanted.since is not None:
        conditions.append(this.rejected_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(this.rejected_at <= wanted.until)
    if wanted.but_not:
        verdict = sa.func.coalesce(this.reasons[0]["rule"].astext, "")
        conditions.append(verdict.not_in(sorted(wanted.but_not)))
    return conditions


def _exists(*conditions: sa.ColumnElement[bool]) -> sa.Exists:
    return sa.exists().where(*conditions).correlate(rejected_leads)
