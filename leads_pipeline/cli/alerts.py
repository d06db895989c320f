"""``leads alerts``: what is wrong, who was told of it, and whether the telling works."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.cli._audit import ACTOR
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings, load_settings
from leads_pipeline.domain.alert_message import short_id
from leads_pipeline.domain.alert_message import span as span_of
from leads_pipeline.errors import LeadsError, NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from leads_pipeline.storage.alert_notices import ChannelQueue, ToldNotice
    from leads_pipeline.storage.alerts import StoredAlert

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_SHORTEST = 6


@click.group()
def alerts() -> None:
    """What is wrong, who was told of it, and whether telling works.

    Example: leads alerts list
    """


@alerts.command(name="list")
@click.option("--tenant", help="Only alerts about this tenant.")
@click.option("--all", "closed", is_flag=True, help="Those that are over, too.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@_AS_JSON
@click.pass_obj
def list_alerts(config_file: str | None, tenant: str | None, closed: bool, limit: int, as_json: bool) -> None:
    """Show the open alerts, newest first, and channels that could not be told."""
    from leads_pipeline.storage import alerts as storage
    from leads_pipeline.storage.alert_notices import unsent

    settings, now = load_settings(config_file), SystemClock().now()
    with _engine(settings) as engine, engine.connect() as connection:
        found = storage.list_alerts(connection, tenant=tenant, closed=closed, limit=limit)
        queues = unsent(connection)
    if as_json:
        document = {"alerts": [_alert(each) for each in found], "unsent": [_queue(each) for each in queues]}
        click.echo(json.dumps(document, indent=2, default=str))
        return
    _print_list(found, now)
    for queue in queues:
        click.echo(_queue_words(queue, settings, now))
    if not settings.alerts.channels:
        click.echo("nobody is told: leads.yaml names no alerts.channels (docs/alerts.md)")
    for lacks in settings.alerts.unheard(settings.tenants):
        click.echo(f"alerts.channels: {lacks}")


@alerts.command()
@click.argument("alert")
@_AS_JSON
@click.pass_obj
def show(config_file: str | None, alert: str, as_json: bool) -> None:
    """Show one alert: as it is told, and what became of every message about it.

    ALERT is its id, or how the id ends: leads alerts show 3f9ac1d2
    """
    from leads_pipeline.domain.alert_message import compose
    from leads_pipeline.domain.alerting import NoticeKind
    from leads_pipeline.steps.sent_alerts import story_of
    from leads_pipeline.storage.alert_notices import notices_of

    settings, now = load_settings(config_file), SystemClock().now()
    with _engine(settings) as engine, engine.connect() as connection:
        found = _find(connection, alert)
        notices = notices_of(connection, found.alert_id)
        story = story_of(connection, found, settings=settings, now=now)
    if as_json:
        document = _alert(found) | {"actions": list(story.actions), "notices": [_notice(each) for each in notices]}
        click.echo(json.dumps(document, indent=2, default=str))
        return
    told_before = found.closed_at is None  # of one that is over, the facts are shown as well
    message = compose(story, NoticeKind.OPENED, told_before=True, now=now)
    click.echo(message.title)
    click.echo(message.body)
    if not told_before:
        click.echo("Seen last:")
        for name, value in found.facts:
            click.echo(f"- {name}: {value}")
    click.echo(f"Seen {found.occurrences:,} times, last at {found.last_seen_at:%Y-%m-%d %H:%M:%S} UTC.")
    click.echo("Messages:" if notices else "Nobody was told: no channel takes such an alert.")
    for notice in notices:
        click.echo(f"- {_notice_words(notice)}")


@alerts.command()
@click.argument("alert")
@ACTOR
@click.pass_obj
def resolve(config_file: str | None, alert: str, actor: str) -> None:
    """Close an alert by hand; whoever was told of it is told so.

    If what it is about is still so, a new alert follows within the minute.
    """
    from leads_pipeline.steps.raised_alerts import resolve_alert

    settings = load_settings(config_file)
    with _engine(settings) as engine:
        with engine.connect() as connection:
            found = _find(connection, alert)
        resolve_alert(engine, found, actor=actor, clock=SystemClock())
    click.echo(f"closed: {found.title}")


@alerts.command()
@click.argument("channel")
@click.pass_obj
def test(config_file: str | None, channel: str) -> None:
    """Send a message to a channel now, and say whether it took it. Exits with 1 if not.

    Example: leads alerts test chat
    """
    from leads_pipeline.steps.sent_alerts import send_test

    error = send_test(load_settings(config_file), channel)
    if error is not None:
        raise LeadsError(f"{channel} took no message: {_failure_words(error)}")
    click.echo(f"{channel} took the message")


@alerts.command()
@click.pass_obj
def send(config_file: str | None) -> None:
    """Look for trouble and send what is due, once: what Dagster's sensors do by themselves.

    Exits with 1 if a channel could not be told; what it missed waits.
    """
    from leads_pipeline.steps.raised_alerts import raise_alerts
    from leads_pipeline.steps.sent_alerts import send_alerts

    settings, clock = load_settings(config_file), SystemClock()
    with _engine(settings) as engine:
        raised = raise_alerts(engine, settings=settings, clock=clock, runner_id="leads alerts send")
        report = send_alerts(engine, settings=settings, clock=clock)
    click.echo(f"alerts: {', '.join(f'{count} {step}' for step, count in raised.steps.items()) or 'nothing new'}")
    for source in raised.blind:
        click.echo(f"{source}: could not be looked at; the log says why")
    for channel, count in report.sent.items():
        click.echo(f"{channel}: {count} sent")
    for channel, error in report.failed.items():
        click.echo(f"{channel}: not sent: {_failure_words(error)}")
    if report.failed or raised.blind:
        raise click.exceptions.Exit(1)


@contextmanager
def _engine(settings: Settings) -> "Iterator[sa.Engine]":
    from leads_pipeline.storage.open import open_database

    engine = open_database(settings)
    try:
        yield engine
    finally:
        engine.dispose()


def _find(connection: "sa.Connection", ending: str) -> "StoredAlert":
    from leads_pipeline.storage.alerts import find_alerts

    if len(ending) < _SHORTEST:
        raise click.UsageError(f"{ending!r} is too short; allowed: an id, or its last {_SHORTEST} or more characters")
    found = find_alerts(connection, ending)
    if len(found) != 1:
        many = "more than one alert's id ends" if found else "no alert's id ends"
        raise NotFound(f"{many} with {ending!r}; `leads alerts list --all` shows them")
    return found[0]


def _print_list(found: "list[StoredAlert]", now: datetime) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if not found:
        click.echo("no alert is open")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("alert", "severity", "what", "since (UTC)", "lasted", "playbook", "state"):
        table.add_column(column, overflow="fold")
    for each in found:
        state = "open"
        if each.closed_at is not None:
            state = f"{each.closed_for} {each.closed_at:%m-%d %H:%M}"
        elif each.healthy_since is not None and each.healthy_since >= each.last_seen_at:
            state = f"well for {span_of(now - each.healthy_since)}"
        table.add_row(
            short_id(each.alert_id),
            str(each.severity),
            each.title,
            f"{each.opened_at:%Y-%m-%d %H:%M}",
            span_of((each.closed_at or now) - each.opened_at),
            each.playbook or "",
            state,
        )
    Console(markup=False, highlight=False).print(table)


def _queue_words(queue: "ChannelQueue", settings: Settings, now: datetime) -> str:
    from leads_pipeline.watching.alert_sources.channels import NOBODY_SENDS_AFTER

    waiting = f"{queue.channel}: {queue.waiting} message(s) unsent for {span_of(now - queue.since)}"
    if queue.channel not in settings.alerts.channels:
        return f"{waiting}; leads.yaml does not name it any more"
    if queue.untried and now - queue.since >= NOBODY_SENDS_AFTER:
        return f"{waiting}: nobody sends. Is Dagster's sensor alerts_waiting on? `leads alerts send` sends them now"
    if queue.error is None:
        return waiting
    return (
        f"{waiting}: {_failure_words(queue.error)}. They are tried again; `leads alerts test {queue.channel}` tries now"
    )


def _notice_words(notice: "ToldNotice") -> str:
    at = (
        f"{notice.sent_at:%Y-%m-%d %H:%M:%S} UTC"
        if notice.sent_at
        else f"written {notice.created_at:%Y-%m-%d %H:%M:%S}"
    )
    words = f"{notice.kind} to {notice.channel}: {notice.state}, {at}"
    if notice.attempts > 1 or notice.state == "waiting":
        words += f", {notice.attempts} tries"
    return words + (f", {_failure_words(notice.last_error)}" if notice.last_error else "")


_WORDS = {
    "no_address": "the variable that must hold its address is not set here",
    "unreadable_address": "its address is none that apprise knows",
    "no_answer": "nothing answers at its address",
    "timed_out": "it did not take the message in time (alerts.send_seconds)",
    "refused": "it did not take the message",
    "sender_broken": "the process that sends could not be started, or died",
    "told_with_the_next": "the next message told it",
    "no_such_channel": "leads.yaml does not name the channel any more",
}


def _failure_words(error: str) -> str:
    return _WORDS.get(error) or f"it answered {error.replace('http_', 'HTTP ')}"


def _alert(each: "StoredAlert") -> dict[str, Any]:
    return {name: getattr(each, name) for name in each.__slots__} | {"facts": dict(each.facts)}


def _notice(each: "ToldNotice") -> dict[str, Any]:
    return {name: getattr(each, name) for name in each.__slots__}


def _queue(each: "ChannelQueue") -> dict[str, Any]:
    return {name: getattr(each, name) for name in each.__slots__}
