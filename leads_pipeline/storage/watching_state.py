"""What the pipeline has come to know of itself, as it stands: rules, what they did, alerts. For metrics.

Small tables, or partial indexes of what is open. Keep out: who writes them, and what is meant by it (the
schema says so). Nothing here returns personal data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class OpenAlerts:
    """How many alerts of a kind are open, and since when the oldest is."""

    source: str
    severity: str
    alerts: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class WaitingNotices:
    """What of a channel is still to be sent."""

    channel: str
    notices: int
    oldest_at: datetime


_BEGUN = sa.text(
    "select policy, action, count(*)::float as times from policy_actions "
    "where began_at >= :since and not parameters ? 'dry_run' "
    "group by policy, action"
)
_POLICIES = sa.text(
    "select policy, max(evaluated_at) as evaluated_at from policy_states group by policy order by policy"
)
_ALERTS = sa.text(
    """
    select source, severity, count(*) as alerts, min(opened_at) as oldest_at
    from alerts where closed_at is null group by source, severity order by source, severity
    """
)
_NOTICES = sa.text(
    """
    select channel, count(*) as notices, min(created_at) as oldest_at
    from alert_notices where state in ('waiting', 'sending') group by channel order by channel
    """
)


def actions_begun(connection: sa.Connection, since: datetime) -> Sequence[tuple[str, str, float]]:
    """How often each rule has acted since an instant."""
    return [(row.policy, row.action, row.times) for row in connection.execute(_BEGUN, {"since": since})]


def policies_evaluated(connection: sa.Connection) -> Mapping[str, datetime]:
    """When each rule was last held against its measure."""
    return {row.policy: row.evaluated_at for row in connection.execute(_POLICIES)}


def open_alerts(connection: sa.Connection) -> Sequence[OpenAlerts]:
    """What people were told of and has not ended."""
    return [OpenAlerts(**row) for row in connection.execute(_ALERTS).mappings()]


def waiting_notices(connection: sa.Connection) -> Sequence[WaitingNotices]:
    """The outbox of alerts, by channel."""
    return [WaitingNotices(**row) for row in connection.execute(_NOTICES).mappings()]
