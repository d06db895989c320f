"""``leads rejected``: what validation will not take, and what to do about it."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.cli._selection import assigned_fields, options, utc
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.domain.rules import QUARANTINES, RULES, Effect
from leads_pipeline.errors import LeadsError, NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from leads_pipeline.domain.validation import Rejection, ValidLead
    from leads_pipeline.steps.rejected_leads import Decision
    from leads_pipeline.storage.rejected import RejectedFilter, RuleCount

# Rules that can be a reason of a rejection, and the fields that such a reason can name.
_RULES = sorted({rule.name for rule in RULES if rule.effect is not Effect.NOTES})
_FIELDS = [*FIELD_NAMES, "lead"]

_SELECTION: tuple[Callable[[Any], Any], ...] = (
    click.option("--tenant", help="Only this tenant's."),
    click.option("--source", help="Only this source's."),
    click.option("--rule", type=click.Choice(_RULES), metavar="RULE", help="Only those that met this rule."),
    click.option("--field", type=click.Choice(_FIELDS), metavar="FIELD", help="Only those with a reason about it."),
    click.option("--since", type=click.DateTime(), metavar="TIME", help="Only those rejected since then (UTC)."),
    click.option("--until", type=click.DateTime(), metavar="TIME", help="Only those rejected until then (UTC)."),
)
_MANY: tuple[Callable[[Any], Any], ...] = (
    click.argument("lead_ids", metavar="[LEAD_ID]...", type=click.UUID, nargs=-1),
    *_SELECTION,
    click.option("--all", "everything", is_flag=True, help="Without a filter: every rejected lead."),
    click.option("--limit", type=click.IntRange(min=1), help="At most so many, the oldest first."),
    click.option("--yes", is_flag=True, help="Do not ask."),
    ACTOR,
)
_RELEASE = click.option("--release", is_flag=True, help="Also what the door had set aside, e.g. as a robot's.")
_REASON = click.option("--reason", type=WORDS, help="Why; it is kept with the lead. No personal data.")


@click.group()
def rejected() -> None:
    """What validation rejected: list it, look at it, fix it, have it judged again or give it up."""


@rejected.command(name="list")
@options(_SELECTION)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.option("--after", type=click.UUID, metavar="LEAD_ID", help="Go on behind this lead.")
@click.option("--by-rule", is_flag=True, help="Count them by rule instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines instead of a table.")
@click.pass_obj
def list_rejected(
    config_file: str | None, /, limit: int, after: UUID | None, by_rule: bool, as_json: bool, **selection: Any
) -> None:
    """Show rejected leads and why, oldest first, without their values."""
    from leads_pipeline.storage.rejected import counts_by_rule, find_rejected

    with _engine(config_file).connect() as connection:
        if by_rule:
            _print_counts(counts_by_rule(connection, _filter(**selection), limit=limit), as_json=as_json)
            return
        found = find_rejected(connection, _filter(**selection), after=after, limit=limit)
    if as_json:
        for lead in found:
            click.echo(json.dumps(asdict(lead), default=str))
        return
    if not found:
        click.echo("no rejected leads")
        return
    table = _table(("lead", 36), ("of", 0), ("why", 0), ("rejected (UTC)", 16))
    for lead in found:
        table.add_row(
            str(lead.lead_id),
            f"{lead.tenant}/{lead.source}",
            ", ".join(_short(reason) for reason in _telling(lead.reasons)),
            f"{lead.rejected_at:%Y-%m-%d %H:%M}",
        )
    _print(table)
    if len(found) == limit:
        click.echo(f"There may be more: --after {found[-1].lead_id}")


@rejected.command()
@click.argument("lead_id", type=click.UUID)
@click.option("--values", is_flag=True, help="Show what was sent and what was corrected: personal data.")
@click.pass_obj
def show(config_file: str | None, lead_id: UUID, values: bool) -> None:
    """Show why a lead was rejected, what helps, and what was done; values only with --values."""
    from leads_pipeline.storage.rejected import corrections_of, raw_values, rejections_of, standing_of

    with _engine(config_file).connect() as connection:
        standing = standing_of(connection, lead_id)
        found = rejections_of(connection, lead_id)
        if standing is None or not found:
            there_is = "there is no lead" if standing is None else "validation never rejected the lead"
            raise NotFound(f"{there_is} {lead_id}; `leads rejected list` shows what there is")
        corrections = corrections_of(connection, lead_id)
        sent = raw_values(connection, lead_id)
    newest = found[-1]
    click.echo(f"lead          {lead_id}, source {newest.source} (tenant {newest.tenant})")
    click.echo(f"received      {newest.received_at:%Y-%m-%d %H:%M:%S} UTC")
    click.echo(f"now           {standing.words}")
    for rejection in found:
        click.echo(
            f"rejected      {rejection.rejected_at:%Y-%m-%d %H:%M:%S} UTC, revision {rejection.revision}, "
            f"rules {rejection.rule_version}"
        )
        for reason in rejection.reasons:
            click.echo(f"              {_words(reason)}")
    for item in corrections:
        names = ", ".join(sorted(item.fields)) or "nothing"
        click.echo(
            f"corrected     {item.corrected_at:%Y-%m-%d %H:%M:%S} UTC by {item.actor}, revision {item.revision}: "
            f"{item.action} of {names}{', released' if item.release else ''}"
        )
        if item.reason:
            click.echo(f"              {item.reason}")
        if values and item.fields:
            click.echo(_indented(dict(item.fields)))
    if values:
        click.echo(_indented(sent))
    else:
        click.echo(f"sent          {', '.join(sorted(sent)) or 'nothing'} (values with --values)")


@rejected.command()
@click.argument("lead_id", type=click.UUID)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    required=True,
    metavar="FIELD=VALUE",
    help="A field's new value; without a value the field is left out. Repeat it for several fields.",
)
@ACTOR
@_REASON
@_RELEASE
@click.option("--dry-run", is_flag=True, help="Only say what validation would say.")
@click.option("--values", is_flag=True, help="With --dry-run: show what the lead would become.")
@click.pass_obj
def fix(
    config_file: str | None,
    lead_id: UUID,
    assignments: tuple[str, ...],
    actor: str,
    reason: str | None,
    release: bool,
    dry_run: bool,
    values: bool,
) -> None:
    """Correct a rejected lead and have it judged again, under its own id.

    What was sent is kept as it was sent. A lead that is not rejected any more is left alone.
    """
    from leads_pipeline.steps.rejected_leads import checked
    from leads_pipeline.steps.rejected_leads import fix as fix_lead

    fields = assigned_fields(assignments)
    checked(fields)
    if dry_run:
        _foresee(config_file, lead_id, fields, release=release, values=values)
        return
    engine = _engine(config_file)
    _print_decisions(
        [fix_lead(engine, lead_id, fields, actor=actor, reason=reason, release=release, now=SystemClock().now())]
    )


@rejected.command()
@options(_MANY)
@_REASON
@_RELEASE
@click.pass_obj
def retry(
    config_file: str | None, /, actor: str, reason: str | None, release: bool, lead_ids: tuple[UUID, ...], **chosen: Any
) -> None:
    """Have rejected leads judged again, by today's rules and mapping: by id, or whatever a filter names.

    What the door had set aside (robots, tests, echoes) is judged with --release only.
    """
    from leads_pipeline.steps.rejected_leads import retry as retry_leads

    engine = _engine(config_file)
    # A body that cannot be read has nothing to judge, released or not.
    but_not = {"unreadable_body"} if release else QUARANTINES
    wanted = _wanted(engine, "judged again", lead_ids, but_not=but_not, **chosen)
    now = SystemClock().now()
    _report(retry_leads(engine, wanted, actor=actor, reason=reason, release=release, now=now), by_id=bool(lead_ids))


@rejected.command()
@options(_MANY)
@click.option("--reason", required=True, type=WORDS, help="Why; it is kept with the leads. No personal data.")
@click.pass_obj
def discard(config_file: str | None, /, actor: str, reason: str, lead_ids: tuple[UUID, ...], **chosen: Any) -> None:
    """Give rejected leads up: by id, or whatever a filter names. They count as discarded from then on."""
    from leads_pipeline.steps.rejected_leads import discard as discard_leads

    engine = _engine(config_file)
    wanted = _wanted(engine, "discarded", lead_ids, **chosen)
    _report(discard_leads(engine, wanted, actor=actor, reason=reason, now=SystemClock().now()), by_id=bool(lead_ids))


def _wanted(
    engine: "sa.Engine",
    fate: str,
    lead_ids: Sequence[UUID],
    *,
    everything: bool,
    limit: int | None,
    yes: bool,
    but_not: Collection[str] = (),
    **selection: Any,
) -> Iterable[UUID]:
    """The leads that are named by their ids, or by a filter that somebody has said yes to."""
    from leads_pipeline.storage.rejected import count_rejected, each_rejected

    narrowed = any(value is not None for value in selection.values())
    if lead_ids:
        if narrowed or everything or limit is not None:
            raise click.UsageError("name leads by their ids or by a filter, not by both")
        return list(dict.fromkeys(lead_ids))
    if not narrowed and not everything:
        raise click.UsageError("name leads by their ids or by a filter; --all means every rejected lead")
    wanted = _filter(**selection, but_not=but_not)
    with engine.connect() as connection:
        leads = count_rejected(connection, wanted)
        left_out = count_rejected(connection, _filter(**selection)) - leads if but_not else 0
    if left_out:
        click.echo(f"{left_out:,} leads that the door set aside are left out; `leads rejected list --by-rule` has them")
    leads = leads if limit is None else min(leads, limit)
    if not leads:
        click.echo("no rejected leads")
        return []
    if not yes:
        click.confirm(f"{leads:,} leads will be {fate}. Go on?", abort=True)
    return each_rejected(engine, wanted, limit=leads)


def _report(decisions: "Sequence[Decision]", *, by_id: bool) -> None:
    if by_id:
        _print_decisions(decisions)
        return
    outcomes = Counter("waiting to be judged" if item.revision else item.outcome.value for item in decisions)
    for outcome, leads in sorted(outcomes.items()):
        click.echo(f"{leads:,} leads {outcome.replace('_', ' ')}")


def _print_decisions(decisions: "Sequence[Decision]") -> None:
    """One line a lead; those that cannot be had end the command with an error."""
    from leads_pipeline.steps.rejected_leads import Outcome

    refused = []
    for item in decisions:
        if item.changed or item.outcome is Outcome.LEFT_ALONE:
            click.echo(f"{item.lead_id}  {item.why}")
        else:
            refused.append(f"{item.lead_id}: {item.why}")
    if refused:
        raise LeadsError("\n".join(refused))


def _foresee(
    config_file: str | None, lead_id: UUID, fields: dict[str, str | None], *, release: bool, values: bool
) -> None:
    from leads_pipeline.domain.validation import Rejection
    from leads_pipeline.steps.rejected_leads import Decision, foresee
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    with open_database(settings).connect() as connection:
        verdict = foresee(connection, lead_id, fields, settings=settings, release=release)
    if isinstance(verdict, Decision):
        _print_decisions([verdict])
    elif isinstance(verdict, Rejection):
        _print_rejection(verdict)
    else:
        _print_valid(verdict, values=values)


def _print_rejection(verdict: "Rejection") -> None:
    click.echo("would be rejected")
    for finding in verdict.reasons:
        click.echo(f"  {_words(finding.as_reason())}")


def _print_valid(lead: "ValidLead", *, values: bool) -> None:
    click.echo(f"would be accepted{', with the flags ' + ', '.join(lead.flags) if lead.flags else ''}")
    if values:
        known = {name: value for name, value in asdict(lead).items() if name in FIELD_NAMES and value is not None}
        click.echo(_indented({**known, **lead.attribution}))


def _engine(config_file: str | None) -> "sa.Engine":
    from leads_pipeline.storage.open import open_database

    return open_database(load_settings(config_file))


def _filter(
    *, since: datetime | None, until: datetime | None, but_not: Collection[str] = (), **equals: str | None
) -> "RejectedFilter":
    from leads_pipeline.storage.rejected import RejectedFilter

    return RejectedFilter(**equals, since=utc(since), until=utc(until), but_not=but_not)


def _telling(reasons: Sequence[dict[str, str]]) -> Sequence[dict[str, str]]:
    """What would have saved the lead; the verdict itself where there is nothing else to say."""
    return reasons[1:] or reasons


def _short(reason: dict[str, str]) -> str:
    return reason["rule"] if reason["field"] == "lead" else f"{reason['rule']} ({reason['field']})"


def _words(reason: dict[str, str]) -> str:
    return f"{reason['rule']} ({reason['field']}, {reason['value_class']}): {reason['remedy']}"


def _print_counts(counts: "Sequence[RuleCount]", *, as_json: bool) -> None:
    if as_json:
        for count in counts:
            click.echo(json.dumps(asdict(count)))
        return
    table = _table(("rule", 0), ("field", 0), ("value class", 0), ("leads", 0))
    for count in counts:
        table.add_row(count.rule, count.field, count.value_class, f"{count.leads:,}")
    _print(table if counts else "no rejected leads")


def _indented(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True, default=str)


def _table(*columns: tuple[str, int]) -> Any:
    """A table; a column with a width keeps it, however narrow the terminal is: other commands ask for an id whole."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, width in columns:
        if width:
            table.add_column(name, no_wrap=True, min_width=width)
        else:
            table.add_column(name, overflow="fold")
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    Console(markup=False, highlight=False).print(table)
