"""``leads replay``: leads of a time window go through the pipeline once more."""

import json
from datetime import datetime

import click

from leads_pipeline.cli._audit import ACTOR
from leads_pipeline.cli._selection import must_be_known, utc
from leads_pipeline.config import load_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Stage
from leads_pipeline.errors import LeadsError

_FROM = {"validated": Stage.VALIDATED_LEADS, "golden": Stage.GOLDEN_CONTACTS}


@click.command()
@click.option(
    "--since", required=True, type=click.DateTime(), metavar="TIME", help="Leads received from then on (UTC)."
)
@click.option("--until", required=True, type=click.DateTime(), metavar="TIME", help="And before then (UTC).")
@click.option("--tenant", help="Only this tenant's.")
@click.option(
    "--from",
    "stage",
    type=click.Choice(list(_FROM)),
    default="validated",
    show_default=True,
    help="Judge leads anew by mapping and rules as they are now, or only make their contacts anew.",
)
@click.option(
    "--id", "replay_id", metavar="ID", help="Go on with a replay that ended half-way: the id that it printed."
)
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@ACTOR
@click.pass_obj
def replay(
    config_file: str | None,
    since: datetime,
    until: datetime,
    tenant: str | None,
    stage: str,
    replay_id: str | None,
    dry_run: bool,
    as_json: bool,
    actor: str,
) -> None:
    """Put the leads of a time window through the pipeline once more, in the batch lane and portion by portion.

    Contacts that come out as they were are not sent again. Safe to repeat with the same --id.

    Example: leads replay --since 2026-11-20 --until 2026-11-21 --tenant acme --actor ada --dry-run
    """
    from leads_pipeline.flows import FlowContext
    from leads_pipeline.flows import replay as replay_window
    from leads_pipeline.storage.database_clock import DatabaseClock
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.replays import Window

    settings = load_settings(config_file)
    must_be_known(settings, tenant=tenant)
    window = Window(utc(since) or since, utc(until) or until, tenant)
    if window.since >= window.until:
        raise LeadsError("--since must be before --until; nothing was replayed")
    engine = open_database(settings)
    try:
        context = FlowContext(engine, settings, DatabaseClock(engine))
        replay_id = replay_id or str(uuid7(context.clock.now()))
        if not as_json and not dry_run:
            click.echo(f"replay {replay_id}")
        report = replay_window(
            context,
            window,
            stage=_FROM[stage],
            replay_id=replay_id,
            actor=actor,
            runner_id=f"replay {replay_id}",
            dry_run=dry_run,
        )
    finally:
        engine.dispose()
    if as_json:
        click.echo(
            json.dumps(
                {
                    "replay": replay_id,
                    "dry_run": dry_run,
                    "leads": report.seen,
                    "put_back": report.put_back,
                    "rejected_now": report.rejected_now,
                }
            )
        )
        return
    what = "contacts" if stage == "golden" else "leads"
    verb = "would be put back" if dry_run else "went through once more"
    click.echo(f"{report.seen:,} leads in the window; {report.put_back:,} {what} {verb}")
    for name, count in sorted(report.counts.items()):
        if count:
            click.echo(f"  {name}: {count:,}")
    if report.rejected_now:
        click.echo(
            f"{report.rejected_now:,} of them had passed and are rejected now. Their contacts stay as they were, "
            "here and at the CRM; `leads rejected list` names them"
        )
