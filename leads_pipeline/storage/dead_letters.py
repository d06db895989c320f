"""Contacts that a destination will not take: why, what was sent, and what an operator made of it.

The payload and the vendor's words are personal data. A letter is open until it is resolved: ``superseded`` by a later
delivery, or what an operator decided, with the operator's name.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.stage import Lane, Operation, OutboxState
from leads_pipeline.storage.schema import crm_sync_batches, dead_letters, outbox, sync_attempts

_COLUMNS = [column for column in dead_letters.c if column.name not in ("payload", "explanation")]

# Letters that one statement reads when somebody acts on whatever a filter names.
PAGE = 500


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant. ``since`` and ``until`` are about when they died, both included.

    ``reason`` is the class of the refusal, ``code`` the vendor's own; ``lane`` is the one that the contact waited in.
    """

    tenant: str | None = None
    destination: str | None = None
    reason: str | None = None
    code: str | None = None
    lane: Lane | None = None
    since: datetime | None = None
    until: datetime | None = None
    include_resolved: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One letter. ``payload`` and ``explanation`` are personal, and empty in lists."""

    dead_letter_id: UUID
    tenant: str
    contact_id: UUID
    destination: str
    outbox_id: int
    version: int
    reason: str
    code: str | None
    attempts: int
    died_at: datetime
    resolved_at: datetime | None = None
    resolution: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)
    explanation: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that a contact was sent. ``verdict`` is ``None`` while nobody knows what became of it.

    ``http_status`` and ``correlation_id``, the vendor's name for the request, are those of the batch it went in.
    """

    sent_at: datetime
    attempt: int
    verdict: str | None
    code: str | None
    http_status: int | None
    correlation_id: str | None


def write_dead_letters(connection: sa.Connection, letters: Sequence[DeadLetter]) -> None:
    """Keep letters; an older open one of the same outbox row is superseded."""
    if not letters:
        return
    supersede(connection, [item.outbox_id for item in letters], now=letters[0].died_at)
    connection.execute(
        dead_letters.insert(),
        [
            {
                "dead_letter_id": item.dead_letter_id,
                "tenant": item.tenant,
                "contact_id": item.contact_id,
                "destination": item.destination,
                "outbox_id": item.outbox_id,
                "version": item.version,
                "reason": item.reason,
                "code": item.code,
                "payload": dict(item.payload),
                "explanation": item.explanation,
                "attempts": item.attempts,
                "died_at": item.died_at,
            }
            for item in letters
        ],
    )


def supersede(connection: sa.Connection, outbox_ids: Sequence[int], *, now: datetime) -> None:
    """Close the open letters of rows that have moved on."""
    connection.execute(
        sa.text(
            "update dead_letters set resolved_at = :now, resolution = 'superseded' "
            "where outbox_id = any(:ids) and resolved_at is null"
        ),
        {"ids": list(outbox_ids), "now": now},
    )


def find_dead_letters(
    connection: sa.Connection, wanted: LetterFilter | None = None, *, after: DeadLetter | None = None, limit: int
) -> list[DeadLetter]:
    """Letters without their personal columns, oldest first, from the one behind ``after``."""
    order = (dead_letters.c.died_at, dead_letters.c.dead_letter_id)
    statement = sa.select(*_COLUMNS).where(*_conditions(wanted or LetterFilter())).order_by(*order).limit(limit)
    if after is not None:
        statement = statement.where(sa.tuple_(*order) > sa.tuple_(after.died_at, after.dead_letter_id))
    return [DeadLetter(**row) for row in connection.execute(statement).mappings()]


def count_dead_letters(connection: sa.Connection, wanted: LetterFilter) -> int:
    """How many letters a filter names."""
    statement = sa.select(sa.func.count()).select_from(dead_letters).where(*_conditions(wanted))
    return int(connection.execute(statement).scalar_one())


def each_dead_letter(engine: sa.Engine, wanted: LetterFilter, *, limit: int) -> Iterator[UUID]:
    """The ids of at most ``limit`` letters, oldest first, page by page."""
    after: DeadLetter | None = None
    while limit > 0:
        with engine.connect() as connection:
            page = find_dead_letters(connection, wanted, after=after, limit=min(PAGE, limit))
        if not page:
            return
        yield from (letter.dead_letter_id for letter in page)
        after = page[-1]
        limit -= len(page)


def get_dead_letters(connection: sa.Connection, dead_letter_ids: Sequence[UUID]) -> list[DeadLetter]:
    """These letters, whole, in the order in which they are asked for."""
    statement = sa.select(dead_letters).where(dead_letters.c.dead_letter_id.in_(dead_letter_ids))
    found = {row["dead_letter_id"]: DeadLetter(**row) for row in connection.execute(statement).mappings()}
    return [found[letter_id] for letter_id in dead_letter_ids if letter_id in found]


def unknown_letters(connection: sa.Connection, dead_letter_ids: Sequence[UUID]) -> list[UUID]:
    """Those of the ids that no letter has."""
    known = sa.select(dead_letters.c.dead_letter_id).where(dead_letters.c.dead_letter_id.in_(dead_letter_ids))
    found: set[UUID] = set(connection.execute(known).scalars())
    return [letter_id for letter_id in dead_letter_ids if letter_id not in found]


def attempts_of(connection: sa.Connection, letter: DeadLetter) -> list[Attempt]:
    """Every time that the letter's version was sent, the first one first."""
    tried, request = sync_attempts.c, crm_sync_batches.c
    statement = (
        sa.select(tried.sent_at, tried.attempt, tried.verdict, tried.code, request.http_status, request.correlation_id)
        .select_from(sync_attempts.outerjoin(crm_sync_batches, request.batch_id == tried.batch_id))
        .where(
            tried.contact_id == letter.contact_id,
            tried.outbox_id == letter.outbox_id,
            tried.version == letter.version,
        )
        .order_by(tried.sent_at, tried.attempt)
    )
    return [Attempt(**row) for row in connection.execute(statement).mappings()]


def get_dead_letter(connection: sa.Connection, dead_letter_id: UUID, *, for_update: bool = False) -> DeadLetter | None:
    """One letter, whole. ``for_update`` locks its outbox row first and it next, in the order of the delivery."""
    if for_update:
        connection.execute(
            sa.select(outbox.c.outbox_id)
            .join(dead_letters, dead_letters.c.outbox_id == outbox.c.outbox_id)
            .where(dead_letters.c.dead_letter_id == dead_letter_id)
            .with_for_update(of=outbox)
        )
    statement = sa.select(dead_letters).where(dead_letters.c.dead_letter_id == dead_letter_id)
    row = connection.execute(statement.with_for_update() if for_update else statement).mappings().one_or_none()
    return None if row is None else DeadLetter(**row)


def resolve(connection: sa.Connection, dead_letter_id: UUID, *, resolution: str, now: datetime) -> None:
    """Close an open letter."""
    connection.execute(
        dead_letters.update()
        .where(dead_letters.c.dead_letter_id == dead_letter_id, dead_letters.c.resolved_at.is_(None))
        .values(resolved_at=now, resolution=resolution)
    )


def operations_of(connection: sa.Connection, outbox_ids: Sequence[int]) -> dict[int, Operation]:
    """What is wanted of these rows."""
    rows = connection.execute(
        sa.select(outbox.c.outbox_id, outbox.c.operation).where(outbox.c.outbox_id.in_(outbox_ids))
    )
    return {row.outbox_id: Operation(row.operation) for row in rows}


def take_out(connection: sa.Connection, outbox_id: int, *, now: datetime) -> bool:
    """Want no more of a dead row than what was delivered; ``False`` when it is not dead any more.

    A later version of the contact is wanted, and sent, as usual. A removal that is given up was never delivered.
    """
    never = sa.or_(outbox.c.delivered_version.is_(None), outbox.c.operation != Operation.UPSERT)
    updated = connection.execute(
        outbox.update()
        .where(outbox.c.outbox_id == outbox_id, outbox.c.state == OutboxState.DEAD)
        .values(
            state=sa.case((never, OutboxState.CANCELLED), else_=OutboxState.DELIVERED),
            wanted_version=sa.func.coalesce(outbox.c.delivered_version, outbox.c.wanted_version),
            updated_at=now,
        )
    )
    return updated.rowcount == 1


def dispose_undelivered_leads(
    connection: sa.Connection, letter: DeadLetter, *, actor: str, reason: str, now: datetime
) -> list[UUID]:
    """Mark as discarded the leads that wait for the letter's version and are in no delivered one; returns them."""
    rows = connection.execute(
        sa.text(
            """
            insert into lead_dispositions (lead_id, tenant, state, actor, reason, decided_at)
            select d.lead_id, d.tenant, 'discarded', :actor, :reason, :now
            from deduped_leads d join outbox o on o.outbox_id = :outbox_id
            where d.contact_id = :contact_id and d.golden_version <= :version
                and d.golden_version > coalesce(o.delivered_version, 0)
            on conflict (lead_id) do nothing
            returning lead_id
            """
        ),
        {
            "outbox_id": letter.outbox_id,
            "contact_id": letter.contact_id,
            "version": letter.version,
            "actor": actor,
            "reason": reason,
            "now": now,
        },
    )
    return [row.lead_id for row in rows]


@dataclass(frozen=True, slots=True)
class OpenLetters:
    """Open letters of one destination that have the same reason and code; ``oldest``: when the first died."""

    destination: str
    reason: str
    code: str | None
    letters: int
    oldest: datetime


def open_letters(connection: sa.Connection, destinations: Sequence[str]) -> list[OpenLetters]:
    """What waits for somebody to decide, the most letters first."""
    rows = connection.execute(
        sa.text(
            "select destination, reason, code, count(*) as letters, min(died_at) as oldest from dead_letters "
            "where resolved_at is null and destination = any(:destinations) "
            "group by destination, reason, code order by letters desc, destination, reason, code"
        ),
        {"destinations": list(destinations)},
    )
    return [OpenLetters(**row) for row in rows.mappings()]


def as_json(properties: Mapping[str, Any]) -> str:
    """What was or would be sent, for a person to read."""
    return json.dumps(dict(properties), indent=2, ensure_ascii=False, sort_keys=True)


def _conditions(wanted: LetterFilter) -> list[sa.ColumnElement[bool]]:
    this = dead_letters.c
    equal = {
        this.tenant: wanted.tenant,
        this.destination: wanted.destination,
        this.reason: wanted.reason,
        this.code: wanted.code,
    }
    conditions: list[sa.ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
    if wanted.lane is not None:
        same = sa.exists().where(outbox.c.outbox_id == this.outbox_id, outbox.c.lane == wanted.lane)
        conditions.append(same.correlate(dead_letters))
    if wanted.since is not None:
        conditions.append(this.died_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(this.died_at <= wanted.until)
    if not wanted.include_resolved:
        conditions.append(this.resolved_at.is_(None))
    return conditions
