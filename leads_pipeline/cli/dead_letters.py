"""``leads dead-letters``: what a CRM will not take, and what to do about it."""

from uuid import UUID

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings


@click.group(name="dead-letters")
def dead_letters() -> None:
    """What a CRM will not take: list it, look at it, send it again or give it up."""


@dead_letters.command(name="list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--destination", help="Only this destination's.")
@click.option("--code", help="Only those that the CRM refused with this code.")
@click.option("--all", "include_resolved", is_flag=True, help="Resolved ones too.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.pass_obj
def list_letters(
    config_file: str | None,
    tenant: str | None,
    destination: str | None,
    code: str | None,
    include_resolved: bool,
    limit: int,
) -> None:
    """Show dead letters, oldest first, without what is in them."""
    from leads_pipeline.storage.dead_letters import find_dead_letters
    from leads_pipeline.storage.open import open_database

    with open_database(load_settings(config_file)).connect() as connection:
        found = find_dead_letters(
            connection,
            tenant=tenant,
            destination=destination,
            code=code,
            include_resolved=include_resolved,
            limit=limit,
        )
    if not found:
        click.echo("no dead letters")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    # Whole, however narrow the terminal is: the other commands ask for it.
    table.add_column("dead letter", no_wrap=True, min_width=36)
    for column in ("of", "why", "died (UTC)", "state"):
        table.add_column(column, overflow="fold")
    for letter in found:
        table.add_row(
            str(letter.dead_letter_id),
            f"{letter.tenant} → {letter.destination}",
            f"{letter.reason} {letter.code or ''}".strip(),
            f"{letter.died_at:%Y-%m-%d %H:%M}",
            letter.resolution or "open",
        )
    Console().print(table)


@dead_letters.command()
@click.argument("dead_letter_id", type=click.UUID)
@click.option("--reveal", is_flag=True, help="Show what was sent and the CRM's words: personal data.")
@click.pass_obj
def show(config_file: str | None, dead_letter_id: UUID, reveal: bool) -> None:
    """Show one dead letter; what was sent only with --reveal."""
    from leads_pipeline.errors import NotFound
    from leads_pipeline.storage.dead_letters import get_dead_letter, payload_json
    from leads_pipeline.storage.open import open_database

    with open_database(load_settings(config_file)).connect() as connection:
        letter = get_dead_letter(connection, dead_letter_id)
    if letter is None:
        raise NotFound(f"there is no dead letter {dead_letter_id}; `leads dead-letters list` shows what there is")
    click.echo(f"dead letter   {letter.dead_letter_id}")
    click.echo(f"contact       {letter.contact_id}, version {letter.version} (tenant {letter.tenant})")
    click.echo(f"destination   {letter.destination}")
    click.echo(f"reason        {letter.reason} {letter.code or ''} after {letter.attempts} attempt(s)")
    click.echo(f"died          {letter.died_at:%Y-%m-%d %H:%M:%S} UTC")
    resolved = f", {letter.resolved_at:%Y-%m-%d %H:%M:%S} UTC" if letter.resolved_at else ""
    click.echo(f"resolution    {letter.resolution or 'open'}{resolved}")
    if not reveal:
        click.echo(f"properties    {', '.join(sorted(letter.payload)) or 'none'} (values with --reveal)")
        return
    click.echo(f"the CRM said  {letter.explanation or '(nothing)'}")
    click.echo(payload_json(letter))


@dead_letters.command()
@click.argument("dead_letter_ids", type=click.UUID, nargs=-1, required=True)
@ACTOR
@click.pass_obj
def redrive(config_file: str | None, dead_letter_ids: tuple[UUID, ...], actor: str) -> None:
    """Send the contacts of dead letters again, as they are now, with a fresh budget."""
    from leads_pipeline.steps.dead_letters import redrive as redrive_letters
    from leads_pipeline.storage.open import open_database

    engine = open_database(load_settings(config_file))
    for resolution in redrive_letters(engine, dead_letter_ids, actor=actor, now=SystemClock().now()):
        outcome = "waits to be sent" if resolution.changed else "was resolved already"
        click.echo(f"{resolution.dead_letter_id}  {outcome}")


@dead_letters.command()
@click.argument("dead_letter_id", type=click.UUID)
@ACTOR
@click.option("--reason", required=True, type=WORDS, help="Why; it is kept with the leads. No personal data.")
@click.pass_obj
def discard(config_file: str | None, dead_letter_id: UUID, actor: str, reason: str) -> None:
    """Give a dead letter up; the leads that waited for it count as discarded."""
    from leads_pipeline.steps.dead_letters import discard as discard_letter
    from leads_pipeline.storage.open import open_database

    engine = open_database(load_settings(config_file))
    resolution = discard_letter(engine, dead_letter_id, actor=actor, reason=reason, now=SystemClock().now())
    if not resolution.changed:
        click.echo(f"{dead_letter_id}  was resolved already")
        return
    click.echo(f"{dead_letter_id}  discarded, with {resolution.leads_discarded} lead(s)")
