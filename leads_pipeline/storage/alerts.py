"""Alerts: one row from the beginning of a trouble to its end, written together with what people are told of it.

Whoever changes alerts holds ``lock_alerts`` first, so that two processes that look at the same time open, remind and
close once. Keep out: when (``domain.alerting``), and the sending (``alert_notices``).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.alerting import ClosedFor, NoticeKind, OpenAlert, Trouble
from leads_pipeline.domain.severity import Severity
from leads_pipeline.storage.alert_notices import NO_CHANNEL

# Any number that nothing else locks by.
_LOCK = 7_200_415_001
# Whoever holds it writes a few rows. One that hangs in the middle must not hold up all that look for trouble.
LOCK_SECONDS = 2.0

_OPEN = sa.text(
    """
    select alert_id, alert_key as key, source, severity, tenant, opened_at, last_seen_at, healthy_since,
        (select max(created_at) from alert_notices n where n.alert_id = a.alert_id) as told_at,
        array(
            select distinct channel from alert_notices n
            where n.alert_id = a.alert_id and n.last_error is distinct from :no_channel
        ) as channels
    from alerts a where closed_at is null and source = any(:sources)
    """
)
_INSERT = sa.text(
    """
    insert into alerts (alert_id, alert_key, source, severity, title, facts, playbook, command, tenant, opened_at,
        last_seen_at, occurrences)
    values (:alert_id, :key, :source, :severity, :title, cast(:facts as jsonb), :playbook, :command, :tenant, :now,
        :now, 1)
    """
)
_SEEN = sa.text(
    """
    update alerts set severity = :severity, title = :title, facts = cast(:facts as jsonb), playbook = :playbook,
        command = :command, last_seen_at = :now, occurrences = occurrences + 1, healthy_since = case when :eased
            then coalesce(healthy_since, cast(:now as timestamptz) - interval '1 microsecond') end
    where alert_id = :alert_id and closed_at is null
    """
)
_HEALTHY = sa.text("update alerts set healthy_since = :since where alert_id = :alert_id and closed_at is null")
_CLOSE = sa.text(
    """
    update alerts set closed_at = :now, closed_for = :closed_for, closed_by = :closed_by
    where alert_id = :alert_id and closed_at is null
    """
)
_NOTICE = sa.text(
    """
    insert into alert_notices (alert_id, kind, channel, state, created_at, due_at)
    select :alert_id, :kind, channel, 'waiting', :now, :now from unnest(cast(:channels as text[])) as channel
    """
)
_TOLD = sa.text("select distinct channel from alert_notices where alert_id = :alert_id order by channel")
_PRUNE = sa.text(
    """
    with old as (
        select alert_id from alerts where closed_at < :before
            and not exists (
                select from alert_notices n where n.alert_id = alerts.alert_id and n.state in ('waiting', 'sending')
            )
        order by opened_at limit :limit
    ),
    notices as (delete from alert_notices n using old where n.alert_id = old.alert_id)
    delete from alerts using old where alerts.alert_id = old.alert_id
    """
)


def lock_alerts(connection: sa.Connection) -> None:
    """Be the only one who opens and closes alerts, until the transaction ends; fail if another one is for long.

    The transaction's later waits for locks are limited as well.

    Raises:
        sqlalchemy.exc.OperationalError: somebody else held it for ``LOCK_SECONDS``; the next look comes soon.
    """
    connection.execute(sa.text(f"set local lock_timeout = {round(1000 * LOCK_SECONDS)}"))
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def open_alerts(connection: sa.Connection, *, sources: Sequence[str]) -> list[OpenAlert]:
    """The open alerts of these sources."""
    rows = connection.execute(_OPEN, {"sources": list(sources), "no_channel": NO_CHANNEL}).mappings()
    return [
        OpenAlert(**{**row, "severity": Severity(row["severity"]), "channels": frozenset(row["channels"])})
        for row in rows
    ]


def open_alert(
    connection: sa.Connection, alert_id: UUID, key: str, trouble: Trouble, *, source: str, now: datetime
) -> None:
    """Write a new alert."""
    connection.execute(_INSERT, _values(trouble) | {"alert_id": alert_id, "key": key, "source": source, "now": now})


def see_alert(
    connection: sa.Connection, alert_id: UUID, trouble: Trouble, *, severity: Severity, now: datetime
) -> None:
    """Note that the trouble lasts, and what it looks like now.

    ``severity``: the alert's. While that is the higher, ``healthy_since`` says since when, and lies before the look.
    """
    eased = trouble.severity is not severity
    values = {"alert_id": alert_id, "severity": severity, "eased": eased, "now": now}
    connection.execute(_SEEN, _values(trouble) | values)


def note_health(connection: sa.Connection, alert_id: UUID, *, since: datetime | None) -> None:
    """Note since when what an alert is about is well; ``None``: it cannot be told."""
    connection.execute(_HEALTHY, {"alert_id": alert_id, "since": since})


def close_alert(
    connection: sa.Connection, alert_id: UUID, *, closed_for: ClosedFor, closed_by: str, now: datetime
) -> bool:
    """Close an alert. Says whether it was open."""
    values = {"alert_id": alert_id, "closed_for": closed_for, "closed_by": closed_by, "now": now}
    return connection.execute(_CLOSE, values).rowcount == 1


def add_notices(
    connection: sa.Connection, alert_id: UUID, kind: NoticeKind, *, channels: Sequence[str], now: datetime
) -> None:
    """Write what is to be told to these channels."""
    if channels:
        values = {"alert_id": alert_id, "kind": kind, "channels": list(channels), "now": now}
        connection.execute(_NOTICE, values)


def channels_told(connection: sa.Connection, alert_id: UUID) -> list[str]:
    """Every channel for which something about the alert was written."""
    return list(connection.execute(_TOLD, {"alert_id": alert_id}).scalars())


def prune_alerts(connection: sa.Connection, *, closed_before: datetime, limit: int) -> int:
    """Delete alerts that were closed long ago, with their notices. Returns how many."""
    return connection.execute(_PRUNE, {"before": closed_before, "limit": limit}).rowcount


def _values(trouble: Trouble) -> dict[str, object]:
    return {
        "severity": trouble.severity,
        "title": trouble.title,
        "facts": json.dumps(trouble.facts),
        "playbook": trouble.playbook,
        "command": trouble.command,
        "tenant": trouble.tenant,
    }


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """An alert as it stands, for people."""

    alert_id: UUID
    key: str
    source: str
    severity: Severity
    title: str
    facts: tuple[tuple[str, str], ...]
    playbook: str | None
    command: str | None
    tenant: str | None
    opened_at: datetime
    last_seen_at: datetime
    occurrences: int
    healthy_since: datetime | None
    closed_at: datetime | None
    closed_for: str | None
    closed_by: str | None


_COLUMNS = (
    "alert_id, alert_key as key, source, severity, title, facts, playbook, command, tenant, opened_at, last_seen_at, "
    "occurrences, healthy_since, closed_at, closed_for, closed_by"
)
_LIST = sa.text(
    f"""
    select {_COLUMNS} from alerts
    where (:closed or closed_at is null) and (cast(:tenant as text) is null or tenant = :tenant)
    order by closed_at is not null, opened_at desc limit :limit
    """  # noqa: S608 - no value is spliced in
)
_FIND = sa.text(
    f"select {_COLUMNS} from alerts where right(cast(alert_id as text), length(:ending)) = :ending limit 2"  # noqa: S608 - no value is spliced in
)
_READ = sa.text(f"select {_COLUMNS} from alerts where alert_id = any(:ids)")  # noqa: S608 - no value is spliced in


def list_alerts(connection: sa.Connection, *, tenant: str | None, closed: bool, limit: int) -> list[StoredAlert]:
    """Alerts, the open ones first, the newest first."""
    rows = connection.execute(_LIST, {"tenant": tenant, "closed": closed, "limit": limit}).mappings()
    return [_stored(row) for row in rows]


def read_alerts(connection: sa.Connection, alert_ids: Sequence[UUID]) -> dict[UUID, StoredAlert]:
    """These alerts, by id; those that are not there are left out."""
    rows = connection.execute(_READ, {"ids": list(alert_ids)}).mappings()
    return {row["alert_id"]: _stored(row) for row in rows}


def find_alerts(connection: sa.Connection, ending: str) -> list[StoredAlert]:
    """Those whose id is this, or ends with it."""
    return [_stored(row) for row in connection.execute(_FIND, {"ending": ending.lower()}).mappings()]


def _stored(row: sa.RowMapping) -> StoredAlert:
    facts = tuple((str(name), str(value)) for name, value in row["facts"])
    return StoredAlert(**{**row, "severity": Severity(row["severity"]), "facts": facts})
