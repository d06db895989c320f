"""The books of delivery: one row per request to a CRM, one per record that was tried.

Both are written before the request leaves, so that a crash leaves a trace of what may have been sent; the answer is
written afterwards. A batch's further requests (halves of a refused batch, look-ups, links) get rows of their own, so
that the rows of ``crm_sync_batches`` add up to what the CRM counts. Keep out: what is sent; see ``dead_letters``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from leads_pipeline.domain.delivery import RecordVerdict, Verdict
from leads_pipeline.domain.ids import BatchId
from leads_pipeline.domain.stage import Lane
from leads_pipeline.storage.schema import crm_sync_batches


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request, as it is written down before it is sent.

    ``tenant`` is ``None`` when its records are of several; ``lane`` is the one for which its quota was asked.
    """

    batch_id: BatchId
    tenant: str | None
    destination: str
    account: str
    endpoint: str
    operation: str  # upsert, archive, link, look_up
    records: int
    runner_id: str
    sent_at: datetime
    lane: Lane | None = None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One record of a request. ``attempt`` counts from 1 for each wanted version.

    ``verdict`` and ``code`` are of a record that needed no request: its ``attempt`` is 0.
    """

    outbox_id: int
    tenant: str
    contact_id: UUID
    version: int
    attempt: int
    verdict: Verdict | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a claimed batch came to."""

    delivered: int
    retried: int
    dead: int


def write_request(connection: sa.Connection, request: RequestRow) -> None:
    """Write a request down; commit before it is sent."""
    connection.execute(
        crm_sync_batches.insert().values(
            batch_id=request.batch_id,
            tenant=request.tenant,
            destination=request.destination,
            account=request.account,
            endpoint=request.endpoint,
            operation=request.operation,
            lane=request.lane,
            records=request.records,
            runner_id=request.runner_id,
            sent_at=request.sent_at,
        )
    )


def is_written(connection: sa.Connection, batch_id: BatchId) -> bool:
    """Whether a request of this id has been written down."""
    found = connection.execute(sa.select(crm_sync_batches.c.batch_id).where(crm_sync_batches.c.batch_id == batch_id))
    return found.one_or_none() is not None


def write_attempts(connection: sa.Connection, request: RequestRow, attempts: Sequence[AttemptRow]) -> None:
    """Write down which records a request carries; commit before it is sent."""
    rows = [
        {
            "outbox_id": item.outbox_id,
            "tenant": item.tenant,
            "contact_id": str(item.contact_id),
            "version": item.version,
            "attempt": item.attempt,
            "verdict": item.verdict,
            "code": item.code,
        }
        for item in attempts
    ]
    connection.execute(
        sa.text(
            """
            insert into sync_attempts
                (batch_id, outbox_id, tenant, contact_id, destination, version, attempt, verdict, code, sent_at,
                settled_at)
            select :batch_id, t.outbox_id, t.tenant, t.contact_id, :destination, t.version, t.attempt, t.verdict,
                t.code, :sent_at, case when t.verdict is not null then cast(:sent_at as timestamptz) end
            from jsonb_to_recordset(cast(:rows as jsonb)) as t(
                outbox_id bigint, tenant text, contact_id uuid, version integer, attempt integer, verdict text,
                code text
            )
            """
        ),
        {
            "batch_id": request.batch_id,
            "destination": request.destination,
            "sent_at": request.sent_at,
            "rows": msgspec.json.encode(rows).decode(),
        },
    )


def forget_attempts(connection: sa.Connection, batch_id: BatchId) -> None:
    """Take back what was written down of records that were not sent after all."""
    connection.execute(
        sa.text("delete from sync_attempts where batch_id = :batch_id and verdict is null"), {"batch_id": batch_id}
    )


def write_answer(
    connection: sa.Connection,
    batch_id: BatchId,
    *,
    http_status: int | None,
    throttled: bool,
    correlation_id: str | None,
    now: datetime,
) -> None:
    """Write down what a request was answered; ``http_status`` is ``None`` when there was no answer.

    ``throttled``: it was refused because a limit of the vendor's was reached, whatever its status.
    """
    connection.execute(
        crm_sync_batches.update()
        .where(crm_sync_batches.c.batch_id == batch_id)
        .values(http_status=http_status, throttled=throttled, correlation_id=correlation_id, answered_at=now)
    )


def write_outcome(
    connection: sa.Connection, batch_id: BatchId, verdicts: Sequence[RecordVerdict], outcome: Outcome, *, now: datetime
) -> None:
    """Write down each record's verdict and the batch's sums."""
    rows = [{"outbox_id": item.outbox_id, "verdict": item.verdict, "code": item.code} for item in verdicts]
    connection.execute(
        sa.text(
            """
            update sync_attempts a set verdict = t.verdict, code = t.code, settled_at = :now
            from jsonb_to_recordset(cast(:rows as jsonb)) as t(outbox_id bigint, verdict text, code text)
            where a.batch_id = :batch_id and a.outbox_id = t.outbox_id
            """
        ),
        {"batch_id": batch_id, "rows": msgspec.json.encode(rows).decode(), "now": now},
    )
    connection.execute(
        crm_sync_batches.update()
        .where(crm_sync_batches.c.batch_id == batch_id)
        .values(
            # Added, because a batch that holds archives and upserts is settled in two steps.
            delivered=crm_sync_batches.c.delivered + outcome.delivered,
            retried=crm_sync_batches.c.retried + outcome.retried,
            dead=crm_sync_batches.c.dead + outcome.dead,
        )
    )
