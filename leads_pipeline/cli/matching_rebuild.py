"""``leads matching rebuild``: all contacts of a tenant resolved anew; shown first, written if wanted."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.cli._audit import WORDS, Words
from leads_pipeline.cli._files import OutputFile
from leads_pipeline.cli._lines import echo_lines
from leads_pipeline.cli.matching_models import TENANT, tenant_of
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from leads_pipeline.matching.model import Parameters
    from leads_pipeline.steps.rebuilt_identity import Difference


@click.command()
@TENANT
@click.option("--apply", "wanted", is_flag=True, help="Write the difference; without it, it is only shown.")
@click.option("--yes", is_flag=True, help="Do not ask before writing.")
@click.option(
    "--actor", type=Words(impersonal=False), help="Who has it written; --apply needs it, every decision keeps it."
)
@click.option("--reason", type=WORDS, help="Why; it is kept with the decisions. No personal data.")
@click.option("--model", help="Resolve with this model rather than the one that serves; `shipped` is one of them.")
@click.option(
    "--json",
    "output",
    type=OutputFile(),
    help="Write the difference to a file: ids and weights, no values.",
)
@click.pass_obj
def rebuild(
    config_file: str | None,
    /,
    tenant: str | None,
    wanted: bool,
    yes: bool,
    actor: str | None,
    reason: str | None,
    model: str | None,
    output: Path | None,
) -> None:
    """Resolve all leads of a tenant anew and show how its contacts would differ.

    Contact ids stay, links that persons made are kept to, and what --apply writes can be undone decision by decision
    (`leads contact history`). New leads are resolved in between; contacts that change meanwhile are left to the next
    rebuild.
    """
    from leads_pipeline.domain.ids import uuid7
    from leads_pipeline.steps.rebuilt_identity import Rebuild, apply, compare
    from leads_pipeline.storage.open import open_database

    if wanted and actor is None:
        raise click.UsageError("--apply needs --actor: who has it written is kept with every decision")
    settings = load_settings(config_file)
    name, clock = tenant_of(settings, tenant), SystemClock()
    engine = open_database(settings)
    task = Rebuild(
        tenant=name,
        settings=settings.matching,
        parameters=_parameters(engine, name, model),
        state_path=settings.state_path,
        clock=clock,
        runner_id=f"leads matching rebuild {uuid7(clock.now())}",
        progress=_Told(),
        applied_by=f"person:{actor}{f': {reason}' if reason else ''}" if actor else None,
    )
    _warn_of_old_keys(engine, name)
    difference = compare(engine, task)
    echo_lines(difference_lines(difference))
    if output is not None:
        output.write_text(json.dumps(difference_document(difference), indent=2) + "\n", encoding="utf-8")
        click.echo(f"written to {output}")
    if not wanted:
        if difference:
            click.echo("nothing was changed; --apply writes it")
        return
    if not difference and not difference.asked:
        return
    if not yes:
        click.confirm(
            f"Write {len(difference.regroupings):,} changes and ask about {len(difference.asked):,} pairs?", abort=True
        )
    done = apply(engine, task, difference)
    written = done.regrouped
    click.echo(f"{written.applied:,} changes written: {written.decisions:,} decisions, {written.moved_leads:,} leads")
    if written.stale:
        click.echo(f"{written.stale:,} left to the next rebuild: their contacts have changed since")
    if written.forbidden:
        click.echo(f"{written.forbidden:,} left as they are: a link forbids them")
    click.echo("golden records and CRMs follow with the next runs")


def _warn_of_old_keys(engine: "sa.Engine", tenant: str) -> None:
    from leads_pipeline.storage.reindexing import stale_indexes

    with engine.connect() as connection:
        for index in stale_indexes(connection):
            if index.tenant == tenant:
                click.secho(f"warning: {index}", fg="yellow", err=True)


def _parameters(engine: "sa.Engine", tenant: str, model: str | None) -> "Parameters":
    from leads_pipeline.matching.scorer_source import parameters_for
    from leads_pipeline.steps.match_models import model_parameters

    if model is not None:
        return model_parameters(engine, tenant, model)[0]
    with engine.connect() as connection:
        return parameters_for(connection, tenant)


class _Told:
    """Says on standard error what is being done: each phase once, scoring and writing by tenths."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, phase: str, share: float) -> None:
        text = f"reading {int(share) // 100_000 * 100_000:,} leads …" if phase == "reading" and share else f"{phase} …"
        if phase in ("scoring", "writing"):
            text = f"{phase} {int(10 * share) * 10} % …"
        if text != self._last:
            click.echo(text, err=True)
            self._last = text


def difference_lines(difference: "Difference") -> list[str]:
    """The difference for a person to read."""
    found, counts = difference.summary, difference.counts
    contacts = (
        f"{difference.contacts_now:,} now, {difference.contacts_then:,} after; {difference.unchanged:,} unchanged"
    )
    leads = f"{found.moved_leads:,} leads change their contact"
    refused = f"{counts['refused']:,} of which reached the merge weight"
    lines = [
        f"tenant {difference.tenant}, model {difference.version}: {difference.leads:,} leads",
        f"contacts: {contacts}",
        f"merges: {found.merges:,}, splits: {found.splits:,}, moves: {found.moves:,}; {leads}",
        f"held for review: {len(difference.asked):,} pairs, {refused}",
    ]
    if counts["unmet_links"]:
        lines.append(f"must-links that a cannot-link forbids: {counts['unmet_links']:,}")
    if difference.biggest:
        lines += [
            "most leads after, by the oldest:",
            *(f"  {size:>6,}  {lead}" for lead, size in difference.biggest[:5]),
        ]
    lines.append("seconds: " + ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in difference.seconds.items()))
    return lines


def difference_document(difference: "Difference") -> dict[str, Any]:
    """The difference as JSON: every change by ids, with the weight of what brings it about."""
    from leads_pipeline.domain.regrouping import outlines

    changes = []
    for regrouping in difference.regroupings:
        decisions = []
        for item in outlines(regrouping):
            reason = difference.reason_of(item.part.group, item.part.contact)
            decisions.append(
                {
                    "kind": item.kind,
                    "from": str(item.part.contact),
                    "to": str(item.target) if item.target else None,
                    "leads": sorted(str(lead) for lead in item.part.leads),
                    "actor": reason.actor,
                    "match_weight": reason.match_weight,
                }
            )
        changes.append(decisions)
    found = difference.summary
    return {
        "rebuild_id": str(difference.rebuild_id),
        "tenant": difference.tenant,
        "model": difference.version,
        "leads": difference.leads,
        "contacts_now": difference.contacts_now,
        "contacts_then": difference.contacts_then,
        "unchanged": difference.unchanged,
        "merges": found.merges,
        "splits": found.splits,
        "moves": found.moves,
        "moved_leads": found.moved_leads,
        "biggest": [{"oldest_lead": str(lead), "leads": size} for lead, size in difference.biggest],
        "changes": changes,
        "reviews": [
            {
                "lead": str(pair.newer),
                "other_lead": str(pair.older),
                "refused": pair.refused,
                "actor": pair.reason.actor,
                "match_weight": pair.reason.match_weight,
            }
            for pair in difference.asked
        ],
        "counts": dict(difference.counts),
        "seconds": dict(difference.seconds),
    }
