"""``leads quality``: which source's leads are held back from matching, and what to do about it."""

from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings

if TYPE_CHECKING:
    from leads_pipeline.domain.expectations import Finding


@click.group()
def quality() -> None:
    """Leads of the batch lane that break the rules: list what is held, let it pass, examine it again."""


@quality.command(name="list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--all", "include_ended", is_flag=True, help="Those that have ended too.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.pass_obj
def list_holds(config_file: str | None, tenant: str | None, include_ended: bool, limit: int) -> None:
    """Show what is held, newest first: source, day of receipt (UTC), leads, and the rules that they break."""
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.quality_holds import find_holds

    with open_database(load_settings(config_file)).connect() as connection:
        found = find_holds(connection, tenant=tenant, include_ended=include_ended, limit=limit)
    if not found:
        click.echo("nothing is held")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("hold", "source", "day", "leads", "rules", "held (UTC)", "state"):
        table.add_column(column, overflow="fold")
    for hold in found:
        state = f"validating {hold.validating:,} again" if hold.validating else "open"
        if hold.ended_at is not None:
            state = f"{hold.resolution} by {hold.ended_by}, {hold.ended_at:%Y-%m-%d %H:%M}"
            state += f": {hold.reason}" if hold.reason else ""
        table.add_row(
            str(hold.hold_id),
            f"{hold.group.tenant}/{hold.group.source}",
            str(hold.group.day),
            f"{hold.waiting:,}",
            ", ".join(hold.rules),
            f"{hold.held_at:%Y-%m-%d %H:%M}",
            state,
        )
    Console(markup=False, highlight=False).print(table)


@quality.command()
@click.argument("hold_id", type=click.IntRange(min=1))
@ACTOR
@click.option("--reason", required=True, type=WORDS, help="Why they are right after all; it is kept. No personal data.")
@click.pass_obj
def release(config_file: str | None, hold_id: int, actor: str, reason: str) -> None:
    """Let the leads of a hold pass as they are.

    They are matched by the next batch run. The same source and day is held again only if it breaks another rule.
    """
    from leads_pipeline.steps.quality import release as release_hold
    from leads_pipeline.storage.open import open_database

    engine = open_database(load_settings(config_file))
    leads = release_hold(engine, hold_id, actor=actor, reason=reason, now=SystemClock().now())
    click.echo(f"hold {hold_id} released: {leads:,} lead(s) wait to be matched")


@quality.command()
@click.argument("hold_id", type=click.IntRange(min=1))
@ACTOR
@click.option("--validate-again", is_flag=True, help="First send the leads through validation as it is configured now.")
@click.option("--reason", type=WORDS, help="With --validate-again: kept with the leads. No personal data.")
@click.pass_obj
def recheck(config_file: str | None, hold_id: int, actor: str, validate_again: bool, reason: str | None) -> None:
    """Examine the leads of a hold again; if they break no rule any more, they pass.

    After a mapping or a setting was mended, --validate-again makes a new revision of each lead; the next batch run
    validates and examines it. Exits with 1 if the leads are still held.
    """
    from leads_pipeline.steps.quality import recheck as recheck_hold
    from leads_pipeline.steps.quality import validate_again as validate_held
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    engine, now = open_database(settings), SystemClock().now()
    if validate_again:
        leads = validate_held(engine, hold_id, actor=actor, reason=reason, now=now)
        click.echo(f"hold {hold_id}: {leads:,} lead(s) wait to be validated again; the next batch run examines them")
        return
    findings = recheck_hold(engine, hold_id, settings=settings, actor=actor, now=now)
    if not findings:
        click.echo(f"hold {hold_id} has ended: its leads break no rule")
        return
    for finding in findings:
        click.echo(f"{finding.rule.name:<24} {_seen(finding)}")
    raise click.exceptions.Exit(1)


def _seen(finding: "Finding") -> str:
    if finding.observed is None:
        return f"{finding.unexpected:,} of {finding.rows:,} leads"
    expected = _bounds(finding.rule.low, finding.rule.high)
    return f"{100 * finding.observed:.0f} % of {finding.rows:,} leads, expected {expected}"


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{100 * low:.0f} to {100 * high:.0f} %"
    return f"at least {100 * low:.0f} %" if low is not None else f"at most {100 * (high or 0):.0f} %"
