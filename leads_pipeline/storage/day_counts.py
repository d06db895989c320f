"""What came and went since an instant, counted anew from rows: for metrics that do not depend on who was asked.

Each statement reads one index from that instant on, so that it costs a day's rows at most however old the database is.
Nothing here returns personal data.
"""

from datetime import datetime

import sqlalchemy as sa

# How many, by labels in the order of the columns.
Counts = dict[tuple[str, ...], float]

# The second part is what came through Redis: its batches are time-ordered ids.
_CAPTURED = sa.text(
    """
    select tenant, source, lane, sum(leads)::float as leads
    from (
        select tenant, source, lane, captured as leads from capture_batches where committed_at >= :since
        union all
        select tenant, source, lane, moved from redis_moves where batch_id >= :first_id
    ) as batches
    group by tenant, source, lane
    """
)
_REJECTED = sa.text(
    "select tenant, source, count(*)::float as leads from rejected_leads "
    "where rejected_at >= :since and revision = 1 group by tenant, source"
)
_DELIVERIES = sa.text(
    """
    select destination, coalesce(lane, '') as lane, result, sum(contacts)::float as contacts
    from crm_sync_batches
    cross join lateral (values ('delivered', delivered), ('retried', retried), ('dead', dead)) as r(result, contacts)
    where sent_at >= :since
    group by destination, 2, result
    """
)
_REQUESTS = sa.text(
    """
    select destination,
        case when throttled then 'throttled'
            when http_status is not null then (http_status / 100)::text || 'xx'
            else 'no_answer' end as answer,
        count(*)::float as requests
    from crm_sync_batches where sent_at >= :since and answered_at is not null
    group by destination, 2
    """
)
_VERDICTS = sa.text(
    """
    select a.tenant, a.destination, coalesce(a.verdict, 'unanswered') as verdict, count(*)::float as attempts
    from crm_sync_batches b join sync_attempts a on a.batch_id = b.batch_id
    where b.sent_at >= :since
    group by a.tenant, a.destination, 3
    """
)
_CALLS = sa.text(
    """
    select provider, coalesce(outcome, 'under_way') as outcome, count(*)::float as calls
    from verification_calls
    where provider = any(:providers) and sent_at >= :since
    group by provider, 2
    """
)
# A row a provider and day, which nobody takes away.
_CALLS_EVER = sa.text("select provider, sum(calls)::float as calls from verification_spend group by provider")
_DEAD = sa.text(
    "select tenant, destination, count(*)::float as contacts from outbox where state = 'dead' "
    "group by tenant, destination"
)
# By the ids that the door made when it was told.
_OUTCOMES = sa.text(
    "select tenant, kind, count(*)::float as outcomes from outcomes where outcome_id >= :first_id group by tenant, kind"
)


def captured_by_source(connection: sa.Connection, since: datetime, *, first_id: str) -> Counts:
    """Leads by tenant, source and lane. ``first_id``: the smallest id of ``since``."""
    return _counted(connection, _CAPTURED, {"since": since, "first_id": first_id})


def rejected_by_source(connection: sa.Connection, since: datetime) -> Counts:
    """Leads whose first verdict was a rejection, by tenant and source."""
    return _counted(connection, _REJECTED, {"since": since})


def delivered_records(connection: sa.Connection, since: datetime) -> Counts:
    """Contacts in requests, by destination, lane and what became of them: delivered, retried, dead."""
    return _counted(connection, _DELIVERIES, {"since": since})


def requests_by_answer(connection: sa.Connection, since: datetime) -> Counts:
    """Requests by destination and answer: throttled, 2xx …, no_answer."""
    return _counted(connection, _REQUESTS, {"since": since})


def verdicts_by_destination(connection: sa.Connection, since: datetime) -> Counts:
    """Attempts by tenant, destination and verdict. Reads each attempt: for minutes, not for days."""
    return _counted(connection, _VERDICTS, {"since": since})


def dead_contacts(connection: sa.Connection) -> Counts:
    """Contacts that are dead now, by tenant and destination."""
    return _counted(connection, _DEAD, {})


def calls_by_outcome(connection: sa.Connection, providers: list[str], since: datetime) -> Counts:
    """Calls to providers of verification, by provider and outcome."""
    return _counted(connection, _CALLS, {"since": since, "providers": providers})


def outcomes_by_kind(connection: sa.Connection, *, first_id: str) -> Counts:
    """What was told of leads, by tenant and kind."""
    return _counted(connection, _OUTCOMES, {"first_id": first_id})


def calls_ever(connection: sa.Connection) -> dict[str, float]:
    """Calls to each provider since the beginning."""
    return {row.provider: row.calls for row in connection.execute(_CALLS_EVER)}


def _counted(connection: sa.Connection, statement: sa.TextClause, values: dict[str, object]) -> Counts:
    return {tuple(row[:-1]): row[-1] for row in connection.execute(statement, values)}
