"""``leads suppressions``: those who must not be sent to a CRM."""

from collections.abc import Callable
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.cli._selection import must_be_known
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings

# As domain.sending_gate.SuppressionKind has them; a test compares the two.
KINDS = ("email", "phone", "domain", "contact")
_HELP = {
    "email": "This address, however it is written.",
    "phone": "This number.",
    "domain": "Every address of this domain, and below it.",
    "contact": "The contact of this id.",
}


def _by_value(command: Callable[..., Any]) -> Callable[..., Any]:
    for kind in reversed(KINDS):
        command = click.option(f"--{kind}", help=_HELP[kind])(command)
    return command


def _given(values: dict[str, str | None]) -> tuple[str, str] | None:
    """The one option that was given, if any.

    Raises:
        UsageError: there are several.
    """
    given = [(kind, value) for kind, value in values.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"one of --{', --'.join(KINDS)} at a time")
    return given[0] if given else None


@click.group()
def suppressions() -> None:
    """Those who must not be sent to a CRM: list somebody, look, end it. Addresses are kept as hashes only."""


@suppressions.command()
@click.option("--tenant", required=True, help="Whose contact it is.")
@_by_value
@click.option("--destination", help="Not to this destination; else to none of the tenant's.")
@click.option("--reason", type=WORDS, help="Why; it is kept for good, so without personal data.")
@ACTOR
@click.pass_obj
def add(
    config_file: str | None,
    /,
    tenant: str,
    destination: str | None,
    reason: str | None,
    actor: str,
    **values: str | None,
) -> None:
    """Send somebody to no CRM any more. What a CRM has already stays there."""
    from leads_pipeline.domain.sending_gate import SuppressionKind
    from leads_pipeline.steps import suppressed_contacts
    from leads_pipeline.storage.open import open_database

    given = _given(values)
    if given is None:
        raise click.UsageError(f"say who: one of --{', --'.join(KINDS)}")
    settings = load_settings(config_file)
    who = suppressed_contacts.named(settings, tenant=tenant, kind=SuppressionKind(given[0]), value=given[1])
    found = suppressed_contacts.suppress(
        open_database(settings),
        who,
        settings=settings,
        tenant=tenant,
        destination=destination,
        actor=actor,
        reason=reason,
        clock=SystemClock(),
    )
    click.echo("it stands already" if found is None else f"suppression {found}: by {who.kind}, {destination or 'all'}")


@suppressions.command(name="list")
@click.option("--tenant", help="Only this tenant's; needed to look somebody up.")
@_by_value
@click.option("--all", "include_ended", is_flag=True, help="Ended ones too.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.pass_obj
def list_suppressions(
    config_file: str | None, /, tenant: str | None, include_ended: bool, limit: int, **values: str | None
) -> None:
    """Show the list, oldest first; with a value, whether it is on it."""
    from leads_pipeline.domain.sending_gate import SuppressionKind
    from leads_pipeline.steps import suppressed_contacts
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.suppressions import find_suppressions

    settings, given, who = load_settings(config_file), _given(values), None
    must_be_known(settings, tenant=tenant)
    if given is not None:
        if tenant is None:
            raise click.UsageError("a value is looked up in one tenant's list: add --tenant")
        who = suppressed_contacts.named(settings, tenant=tenant, kind=SuppressionKind(given[0]), value=given[1])
    with open_database(settings).connect() as connection:
        found = find_suppressions(connection, tenant=tenant, subject=who, include_ended=include_ended, limit=limit)
    if not found:
        click.echo("no suppressions")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("id", "tenant", "by", "to", "why", "since (UTC)", "state"):
        table.add_column(column, overflow="fold")
    for item in found:
        state = f"ended by {item.ended_by}, {item.ended_at:%Y-%m-%d %H:%M}" if item.ended_at else "in force"
        words = f"{item.reason or 'no reason given'} ({item.actor})"
        since = f"{item.added_at:%Y-%m-%d %H:%M}"
        table.add_row(str(item.suppression_id), item.tenant, item.kind, item.destination or "all", words, since, state)
    Console().print(table)


@suppressions.command()
@click.argument("suppression_ids", metavar="ID...", nargs=-1, required=True, type=int)
@ACTOR
@click.pass_obj
def end(config_file: str | None, suppression_ids: tuple[int, ...], actor: str) -> None:
    """End entries; who was held back by the list alone is delivered."""
    from leads_pipeline.steps import suppressed_contacts
    from leads_pipeline.storage.open import open_database

    engine = open_database(load_settings(config_file))
    ended = suppressed_contacts.end(engine, suppression_ids, actor=actor, clock=SystemClock())
    click.echo(f"ended {len(ended.suppression_ids)}; {ended.waiting_again} contact(s) are judged again")


@suppressions.command(name="judge-again")
@click.option("--tenant", required=True, help="Whose contacts.")
@click.option("--destination", help="Only this destination's.")
@click.pass_obj
def judge_again(config_file: str | None, tenant: str, destination: str | None) -> None:
    """Judge again who was held back: after destinations.NAME.gate was changed."""
    from leads_pipeline.steps import suppressed_contacts
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    must_be_known(settings, tenant=tenant, destination=destination)
    engine = open_database(settings)
    again = suppressed_contacts.judge_again(engine, tenant=tenant, destination=destination, clock=SystemClock())
    click.echo(f"{again} contact(s) are judged again")
