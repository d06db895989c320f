"""``leads journey``: what happened to one lead?"""

import json
from datetime import datetime
from textwrap import fill
from typing import Any
from uuid import UUID

import click
import sqlalchemy as sa

from leads_pipeline.cli._lines import COLUMNS
from leads_pipeline.config import load_settings
from leads_pipeline.domain.ids import LeadId
from leads_pipeline.errors import NotFound


@click.command()
@click.argument("lead", metavar="LEAD_ID|EMAIL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of a table.")
@click.pass_obj
def journey(config_file: str | None, lead: str, as_json: bool) -> None:
    """Show every row and decision about one lead, in order.

    With an e-mail address: about every lead that gave it, newest first. Values are not shown, only what was decided.
    """
    from leads_pipeline.storage.journey import lead_journey
    from leads_pipeline.storage.open import open_database

    engine = open_database(load_settings(config_file))
    try:
        with engine.connect() as connection:
            lead_ids = _lead_ids(connection, lead)
            journeys = [found for lead_id in lead_ids if (found := lead_journey(connection, lead_id))]
            if not journeys:
                raise NotFound(
                    f"there is no lead {'of this address' if '@' in lead else lead} in this database; "
                    "its id is in the answer that the sender got"
                )
            for found in journeys:
                if as_json:
                    _print_json(found)
                else:
                    _print_table(found)
    finally:
        engine.dispose()


def _lead_ids(connection: sa.Connection, lead: str) -> list[LeadId]:
    from leads_pipeline.domain.emails import Email, parse_email
    from leads_pipeline.storage.journey import leads_of_email

    if "@" in lead:
        parsed = parse_email(lead)
        key = parsed.key if isinstance(parsed, Email) else lead.strip().lower()
        return leads_of_email(connection, key, email=lead)
    try:
        return [LeadId(UUID(lead))]
    except ValueError:
        raise click.BadParameter(f"{lead!r} is neither a lead id (a UUID) nor an e-mail address") from None


def _print_json(found: Any) -> None:
    for event in found.events:
        click.echo(
            json.dumps(
                {
                    "lead_id": str(found.lead_id),
                    "at": event.at.isoformat(),
                    "table": event.table,
                    "event": event.event,
                    **event.details,
                },
                default=str,
            )
        )


def _print_table(found: Any) -> None:
    """For 80 columns: the details stand below what happened, so that an id stays whole."""
    first: datetime = found.events[0].at
    contact = f"contact {found.contact_id}" if found.contact_id else "no contact yet"
    click.echo(f"lead {found.lead_id} of {found.tenant}\n{contact}\n\nwhen (UTC)                   after  what")
    for event in found.events:
        at = f"{event.at:%Y-%m-%d %H:%M:%S}.{event.at.microsecond // 1000:03}"
        after = f"{(event.at - first).total_seconds():,.1f} s"
        click.echo(f"{at} {after:>10}  {event.event}")
        if details := _details(event.details):
            indent = " " * 6
            click.echo(fill(details, COLUMNS, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False))


def _details(details: dict[str, Any]) -> str:
    shown = []
    for name, value in details.items():
        if name in ("batch", "runner"):
            continue  # ids for machines: --json has them
        text = json.dumps(value) if isinstance(value, dict | list) else str(value)
        if text not in ("{}", "[]"):
            shown.append(f"{name}={text}")
    return "  ".join(shown)
