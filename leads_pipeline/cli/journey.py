"""``leads journey``: what happened to one lead?"""

import json
from datetime import datetime
from textwrap import fill
from typing import Any
from uuid import UUID

import click
import sqlalchemy as sa

from leads_pipeline.cli._lines import COLUMNS, echo_lines
from leads_pipeline.cli.status import span
from leads_pipeline.config import load_settings
from leads_pipeline.domain.ids import LeadId
from leads_pipeline.errors import NotFound


@click.command()
@click.argument("lead", metavar="LEAD_ID|CONTACT_ID|EMAIL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of a table.")
@click.pass_obj
def journey(config_file: str | None, lead: str, as_json: bool) -> None:
    """Show every row, decision, attempt and run about one lead, in order.

    With a contact's id (which CRMs hold as the lead key) or an e-mail address: about every lead of it, newest first.
    Values are not shown, only what was decided. The last JSON line of a lead sums up: how long it took to each station,
    and which runs worked on it.

    \b
    leads journey 0198c1a5-7a3b-7f00-8000-000000000001
    """
    from leads_pipeline.storage.journey import lead_journey, leads_of_contact
    from leads_pipeline.storage.open import open_database

    engine = open_database(load_settings(config_file))
    try:
        with engine.connect() as connection:
            lead_ids = _lead_ids(connection, lead)
            journeys = [found for lead_id in lead_ids if (found := lead_journey(connection, lead_id))]
            if not journeys and "@" not in lead:
                of_contact = leads_of_contact(connection, UUID(lead))
                journeys = [found for lead_id in of_contact if (found := lead_journey(connection, lead_id))]
            if not journeys:
                raise NotFound(
                    f"there is no lead {'of this address' if '@' in lead else f'or contact {lead}'} in this database; "
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
        raise click.BadParameter(
            f"{lead!r} is neither a lead id nor a contact id (a UUID) nor an e-mail address"
        ) from None


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

    summary = {
        "lead_id": str(found.lead_id),
        "tenant": found.tenant,
        "contact_id": str(found.contact_id) if found.contact_id else None,
        "latencies": [
            {"station": item.station, "destination": item.destination, "seconds": round(item.seconds, 3)}
            for item in found.arrivals
        ],
        "runs": [
            {"runner": run.runner_id, "first_at": run.first_at, "last_at": run.last_at, "rows": run.rows}
            for run in found.runs
        ],
    }
    click.echo(json.dumps(summary, default=lambda value: value.isoformat()))


def _print_table(found: Any) -> None:
    """For 80 columns: the details stand below what happened, so that an id stays whole."""
    contact = f"contact {found.contact_id}" if found.contact_id else "no contact yet"
    click.echo(f"lead {found.lead_id} of {found.tenant}\n{contact}")
    if found.arrivals:
        took = (
            f"{item.station.value.replace('_', ' ')}{f' to {item.destination}' if item.destination else ''} "
            f"{span(item.seconds)}"
            for item in found.arrivals
        )
        echo_lines([f"after its capture: {', '.join(took)}"])
    if found.events:
        _print_events(found)
    for run in found.runs:
        rows = "1 row" if run.rows == 1 else f"{run.rows} rows"
        click.echo(f"run {run.runner_id}: {rows}, {run.first_at:%H:%M:%S} to {run.last_at:%H:%M:%S}")


def _print_events(found: Any) -> None:
    first: datetime = found.events[0].at
    click.echo("\nwhen (UTC)                   after  what")
    for event in found.events:
        at = f"{event.at:%Y-%m-%d %H:%M:%S}.{event.at.microsecond // 1000:03}"
        after = f"{(event.at - first).total_seconds():,.1f} s"
        echo_lines([f"{at} {after:>10}  {event.event}"])
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
