"""Opens, renews, reminds of and closes alerts by what was seen, with the messages about them, in one transaction.

What is seen comes from ``watching.alert_sources``; Dagster's own failures from the sensor that knows them. Each source
is looked at by itself: one that cannot be read changes no alert of its own and stops no other; that is noted, and told
if it lasts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import AlertSettings, Settings
from leads_pipeline.domain.alerting import (
    AlertPolicy,
    ClosedFor,
    Decision,
    NoticeKind,
    Observation,
    OpenAlert,
    Step,
    Trouble,
    decide,
)
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.severity import Severity
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.storage import alerts as storage
from leads_pipeline.storage.watch_looks import Watched, note_looks
from leads_pipeline.telemetry import get_logger
from leads_pipeline.watching.alert_sources import SOURCES, Watch

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RaiseReport:
    """How many alerts took which step, by the step's name; ``blind``: sources that could not be read."""

    steps: Mapping[str, int] = field(default_factory=dict)
    blind: tuple[str, ...] = ()


def raise_alerts(
    engine: sa.Engine, *, settings: Settings, clock: Clock, runner_id: str, only: Sequence[str] = tuple(SOURCES)
) -> RaiseReport:
    """Look at every source, or ``only`` at these, and do what follows. Two callers at once change nothing twice."""
    watch = Watch(engine=engine, settings=settings, clock=clock, now=clock.now())
    steps: Counter[str] = Counter()
    blind: dict[str, str] = {}
    for source in only:
        try:
            steps += note_observations(
                engine, source, SOURCES[source](watch), settings=settings.alerts, now=watch.now, runner_id=runner_id
            )
        except Exception as error:  # noqa: BLE001 - a door: no source may take the others with it; only its kind is told
            blind[source] = type(error).__name__
            log.error("alert_source_unreadable", source=source, error_class=blind[source])  # noqa: TRY400 - see above
    with engine.begin() as connection:
        note_looks(connection, {(Watched.SOURCE, source): blind.get(source) for source in only}, now=watch.now)
    return RaiseReport(dict(steps), tuple(blind))


def note_observations(
    engine: sa.Engine,
    source: str,
    observations: Sequence[Observation],
    *,
    settings: AlertSettings,
    now: datetime,
    runner_id: str,
) -> Counter[str]:
    """Do what follows from all that one source saw: what it does not name is not there any more."""
    policy = AlertPolicy(
        recovery=timedelta(minutes=settings.recovery_minutes),
        reminders={Severity(name): timedelta(hours=hours) for name, hours in settings.reminder_hours.items() if hours},
    )
    seen = {item.key: item for item in observations}
    steps: Counter[str] = Counter()
    with engine.begin() as connection:
        storage.lock_alerts(connection)
        alerts = {alert.key: alert for alert in storage.open_alerts(connection, sources=[source])}
        for key in dict.fromkeys([*seen, *alerts]):
            alert = alerts.get(key)
            decision = decide(alert, seen.get(key), policy=policy, now=now)
            trouble = seen[key].trouble if key in seen else None
            _apply(connection, decision, key, alert, trouble, source=source, settings=settings, now=now, by=runner_id)
            steps[decision.step] += decision.step is not Step.NOTHING
    return +steps


def resolve_alert(engine: sa.Engine, alert: storage.StoredAlert, *, actor: str, clock: Clock) -> None:
    """Close an alert by hand. If the trouble is still seen, a new one is opened.

    Raises:
        LeadsError: it is closed already.
        NotFound: there is no such alert.
    """
    now = clock.now()
    with engine.begin() as connection:
        storage.lock_alerts(connection)
        if alert.alert_id not in storage.read_alerts(connection, [alert.alert_id]):
            raise NotFound(f"there is no alert {alert.alert_id}")
        if not storage.close_alert(connection, alert.alert_id, closed_for=ClosedFor.RESOLVED, closed_by=actor, now=now):
            raise LeadsError(f"the alert {alert.alert_id} is closed already; `leads alerts show` says why")
        told = storage.channels_told(connection, alert.alert_id)
        storage.add_notices(connection, alert.alert_id, NoticeKind.RECOVERED, channels=told, now=now)


def _apply(
    connection: sa.Connection,
    decision: Decision,
    key: str,
    alert: OpenAlert | None,
    trouble: Trouble | None,
    *,
    source: str,
    settings: AlertSettings,
    now: datetime,
    by: str,
) -> None:
    if alert is None:
        if decision.step is Step.OPEN and trouble is not None:
            _open(connection, key, trouble, source=source, settings=settings, now=now)
        return
    severity = decision.severity or alert.severity
    if decision.step is Step.SEEN and trouble is not None:
        storage.see_alert(connection, alert.alert_id, trouble, severity=severity, now=now)
    elif decision.step is Step.DOUBT and alert.healthy_since is not None:
        storage.note_health(connection, alert.alert_id, since=None)
    elif decision.step is Step.MENDING and alert.well_since is None:
        storage.note_health(connection, alert.alert_id, since=now)
    elif decision.step is Step.CLOSE and decision.closed_for is not None:
        storage.close_alert(connection, alert.alert_id, closed_for=decision.closed_for, closed_by=by, now=now)
        log.warning("alert_closed", alert_id=str(alert.alert_id), alert=key, closed_for=str(decision.closed_for))
    if decision.notice is NoticeKind.RECOVERED:
        channels = storage.channels_told(connection, alert.alert_id)
    else:
        channels = settings.channels_for(severity, alert.tenant)
    if decision.notice is not None:
        storage.add_notices(connection, alert.alert_id, decision.notice, channels=channels, now=now)
    elif decision.step is Step.SEEN:  # a channel that leads.yaml names since lately, or under another name
        untold = [name for name in channels if name not in alert.channels]
        storage.add_notices(connection, alert.alert_id, NoticeKind.OPENED, channels=untold, now=now)


def _open(
    connection: sa.Connection, key: str, trouble: Trouble, *, source: str, settings: AlertSettings, now: datetime
) -> None:
    alert_id = uuid7(now)
    storage.open_alert(connection, alert_id, key, trouble, source=source, now=now)
    channels = settings.channels_for(trouble.severity, trouble.tenant)
    storage.add_notices(connection, alert_id, NoticeKind.OPENED, channels=channels, now=now)
    # Who has no channel at all finds it here, once.
    log.warning(
        "alert_opened",
        alert_id=str(alert_id),
        alert=key,
        severity=str(trouble.severity),
        title=trouble.title,
        playbook=trouble.playbook,
        channels=channels,
    )
