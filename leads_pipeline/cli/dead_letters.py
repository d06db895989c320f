"""``leads dead-letters``: what a CRM will not take, and what to do about it."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.cli._selection import Option, assigned_fields, must_be_known, options, utc
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.domain.delivery import Verdict
from leads_pipeline.domain.stage import Lane, Operation

if TYPE_CHECKING:
    import sqlalchemy as sa

    from leads_pipeline.steps.dead_letters import Foreseen, Rehearsed, Resolution
    from leads_pipeline.storage.dead_letter_actions import DoneBy
    from leads_pipeline.storage.dead_letters import Attempt, LetterFilter

_REASONS = [str(verdict) for verdict in Verdict if verdict is not Verdict.DELIVERED]

_SELECTION: tuple[Option, ...] = (
    click.option("--tenant", help="Only this tenant's."),
    click.option("--destination", help="Only this destination's."),
    click.option("--verdict", type=click.Choice(_REASONS), help="Only those that were refused as this."),
    click.option("--code", help="Only those that the CRM refused with this code."),
    click.option("--lane", type=click.Choice([str(lane) for lane in Lane]), help="Only contacts of this lane."),
    click.option("--since", type=click.DateTime(), metavar="TIME", help="Only those that died since then (UTC)."),
    click.option("--until", type=click.DateTime(), metavar="TIME", help="Only those that died until then (UTC)."),
)
_MANY: tuple[Option, ...] = (
    click.argument("dead_letter_ids", metavar="[DEAD_LETTER_ID]...", type=click.UUID, nargs=-1),
    *_SELECTION,
    click.option("--all", "everything", is_flag=True, help="Without a filter: every open letter."),
    click.option("--limit", type=click.IntRange(min=1), help="At most so many, the oldest first."),
    click.option("--yes", is_flag=True, help="Do not ask."),
    ACTOR,
)
_REASON = click.option("--reason", type=WORDS, help="Why; it is kept with the letter. No personal data.")


class _Rate(click.FloatRange):
    """A slip of the pen must not put contacts off for years, nor be no number at all."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        rate: float = super().convert(value, param, ctx)
        if math.isnan(rate):
            self.fail(f"{value} is no number.", param, ctx)
        return rate


@click.group(name="dead-letters")
def dead_letters() -> None:
    """What a CRM will not take: list it, look at it, mend it, send it again or give it up."""


@dead_letters.command(name="list")
@options(_SELECTION)
@click.option("--all", "include_resolved", is_flag=True, help="Resolved ones too.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.pass_obj
def list_letters(config_file: str | None, /, limit: int, **selection: Any) -> None:
    """Show dead letters, oldest first, without what is in them."""
    from leads_pipeline.storage.dead_letters import count_dead_letters, find_dead_letters

    wanted = _filter(**selection)
    with _engine(config_file).connect() as connection:
        found = find_dead_letters(connection, wanted, limit=limit)
        letters = count_dead_letters(connection, wanted) if len(found) == limit else len(found)
    if not found:
        # Letters of a destination that is gone from leads.yaml are shown as any others.
        must_be_known(load_settings(config_file), tenant=wanted.tenant, destination=wanted.destination)
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
    Console(markup=False, highlight=False).print(table)
    if letters > len(found):
        click.echo(f"{letters:,} letters in all; --limit {letters} shows them")


@dead_letters.command()
@click.argument("dead_letter_id", type=click.UUID)
@click.option("--reveal", is_flag=True, help="Show what was sent and the CRM's words: personal data.")
@click.pass_obj
def show(config_file: str | None, dead_letter_id: UUID, reveal: bool) -> None:
    """Show one dead letter: why, every attempt, what was done; what was sent only with --reveal."""
    from leads_pipeline.errors import NotFound
    from leads_pipeline.storage.dead_letter_actions import actions_of
    from leads_pipeline.storage.dead_letters import as_json, attempts_of, get_dead_letter, operations_of

    with _engine(config_file).connect() as connection:
        letter = get_dead_letter(connection, dead_letter_id)
        if letter is None:
            raise NotFound(f"there is no dead letter {dead_letter_id}; `leads dead-letters list` shows what there is")
        attempts, actions = attempts_of(connection, letter), actions_of(connection, dead_letter_id)
        operation = operations_of(connection, [letter.outbox_id]).get(letter.outbox_id, Operation.UPSERT)
    click.echo(f"dead letter   {letter.dead_letter_id}")
    click.echo(f"contact       {letter.contact_id}, version {letter.version} (tenant {letter.tenant})")
    click.echo(f"destination   {letter.destination}")
    click.echo(f"operation     {operation}")
    click.echo(f"reason        {letter.reason} {letter.code or ''} after {letter.attempts} attempt(s)")
    click.echo(f"died          {letter.died_at:%Y-%m-%d %H:%M:%S} UTC")
    resolved = f", {letter.resolved_at:%Y-%m-%d %H:%M:%S} UTC" if letter.resolved_at else ""
    click.echo(f"resolution    {letter.resolution or 'open'}{resolved}")
    for attempt in attempts:
        click.echo(f"attempt {attempt.attempt:<5} {_attempt_words(attempt)}")
    for action in actions:
        details = "".join(f", {name} {_plain(value)}" for name, value in sorted(action.details.items()))
        click.echo(f"{action.action:<13} {action.acted_at:%Y-%m-%d %H:%M:%S} UTC by {action.actor}{details}")
        if action.reason:
            click.echo(f"              {action.reason}")
    if not reveal:
        click.echo(f"properties    {', '.join(sorted(letter.payload)) or 'none'} (values with --reveal)")
        return
    click.echo(f"the CRM said  {letter.explanation or '(nothing)'}")
    click.echo(as_json(letter.payload))


@dead_letters.command()
@click.argument("dead_letter_id", type=click.UUID)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A field's new value; without a value the field is taken away. Repeat it for several fields.",
)
@click.option(
    "--mapping",
    metavar="PROPERTY=FIELD",
    help="What fills in a property of the destination, for all contacts: a field, {from: FIELD, as: date} or "
    "{constant: VALUE}; nothing leaves it out.",
)
@ACTOR
@_REASON
@click.pass_obj
def fix(
    config_file: str | None,
    dead_letter_id: UUID,
    assignments: tuple[str, ...],
    mapping: str | None,
    actor: str,
    reason: str | None,
) -> None:
    """Correct the contact of a dead letter, or the mapping of its destination.

    With --set the leads that the contact's values came from are judged again; the corrected contact is sent by itself,
    and its delivery closes the letter. With --mapping the letter's contact is sent again.
    """
    from leads_pipeline.crm.mapping import read_rule
    from leads_pipeline.steps.fixed_dead_letters import fix as fix_letter
    from leads_pipeline.steps.fixed_dead_letters import fix_mapping

    if bool(assignments) == (mapping is not None):
        raise click.UsageError("say what is to be mended: either --set FIELD=VALUE or --mapping PROPERTY=FIELD")
    settings = load_settings(config_file)
    if mapping is not None:
        name, is_given, text = mapping.partition("=")
        if not is_given or not name.strip():
            raise click.BadParameter("it is not PROPERTY=FIELD", param_hint="--mapping")
        name = name.strip()
        rule = read_rule(name, text)
        fixed = fix_mapping(
            _engine(config_file), dead_letter_id, name, rule, settings=settings, done=_done(actor, reason)
        )
        outcome = "was resolved already" if fixed.already else f"waits to be sent, {name} as you say"
        click.echo(f"{dead_letter_id}  {outcome}")
        return
    fields = assigned_fields(assignments)
    fixed = fix_letter(_engine(config_file), dead_letter_id, fields, settings=settings, done=_done(actor, reason))
    if fixed.already:
        click.echo(f"{dead_letter_id}  was resolved already")
    for lead_id in fixed.leads:
        click.echo(f"lead {lead_id} waits to be judged with {', '.join(sorted(fields))} corrected")


@dead_letters.command()
@options(_MANY)
@_REASON
@click.option(
    "--rate",
    type=_Rate(min=0.01, max=10_000),
    metavar="N",
    help="At most so many a second, 0.01 to 10,000, to each destination, in the batch lane.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@click.option("--to", type=click.Choice(["sandbox"]), help="Send to a sandbox instead, which ends with the command.")
@click.option("--reveal", is_flag=True, help="With --dry-run or --to: show values and words too: personal data.")
@click.pass_obj
def redrive(
    config_file: str | None,
    /,
    actor: str,
    reason: str | None,
    rate: float | None,
    dry_run: bool,
    to: str | None,
    reveal: bool,
    dead_letter_ids: tuple[UUID, ...],
    **chosen: Any,
) -> None:
    """Send the contacts of dead letters again, as they are now, with a fresh budget: by id, or by a filter."""
    from leads_pipeline.steps.dead_letters import foresee, rehearse
    from leads_pipeline.steps.dead_letters import redrive as redrive_letters

    if dry_run + (to is not None) + (rate is not None) > 1:
        raise click.UsageError("choose one of --dry-run, --to and --rate")
    settings, engine, done = load_settings(config_file), _engine(config_file), _done(actor, reason)
    must_be_known(settings, tenant=chosen["tenant"], destination=chosen["destination"])
    if dry_run:
        wanted = _wanted(engine, "looked at", dead_letter_ids, **{**chosen, "yes": True})
        for foreseen in foresee(engine, wanted, settings=settings, done=done):
            _print_foreseen(foreseen, reveal=reveal)
        return
    if to is not None:
        from leads_pipeline.crm.rehearsal import try_in_sandbox

        wanted = _wanted(engine, "sent to a sandbox", dead_letter_ids, **chosen)
        for rehearsed in rehearse(engine, wanted, settings=settings, done=done, sandbox=try_in_sandbox):
            _print_rehearsed(rehearsed, reveal=reveal)
        return
    wanted = _wanted(engine, "sent again", dead_letter_ids, **chosen)
    resolutions = redrive_letters(engine, wanted, done=done, per_second=rate)
    _report(resolutions, "wait to be sent" if not dead_letter_ids else "waits to be sent", by_id=bool(dead_letter_ids))


@dead_letters.command()
@options(_MANY)
@click.option("--reason", required=True, type=WORDS, help="Why; it is kept with the leads. No personal data.")
@click.pass_obj
def discard(
    config_file: str | None, /, actor: str, reason: str, dead_letter_ids: tuple[UUID, ...], **chosen: Any
) -> None:
    """Give dead letters up, by id or by a filter; the leads that waited for them count as discarded."""
    from leads_pipeline.steps.dead_letters import discard as discard_letters

    engine = _engine(config_file)
    wanted = _wanted(engine, "discarded", dead_letter_ids, **chosen)
    resolutions = discard_letters(engine, wanted, done=_done(actor, reason))
    _report(resolutions, "discarded", by_id=bool(dead_letter_ids))


def _wanted(
    engine: "sa.Engine",
    fate: str,
    dead_letter_ids: Sequence[UUID],
    *,
    everything: bool,
    limit: int | None,
    yes: bool,
    **selection: Any,
) -> Iterable[UUID]:
    """The letters that are named by their ids, or by a filter that somebody has said yes to."""
    from leads_pipeline.storage.dead_letters import count_dead_letters, each_dead_letter

    narrowed = any(value is not None for value in selection.values())
    if dead_letter_ids:
        if narrowed or everything or limit is not None:
            raise click.UsageError("name dead letters by their ids or by a filter, not by both")
        return list(dict.fromkeys(dead_letter_ids))
    if not narrowed and not everything:
        raise click.UsageError("name dead letters by their ids or by a filter; --all means every open one")
    wanted = _filter(**selection)
    with engine.connect() as connection:
        letters = count_dead_letters(connection, wanted)
    letters = letters if limit is None else min(letters, limit)
    if not letters:
        click.echo("no dead letters")
        return []
    if not yes:
        click.confirm(f"{letters:,} dead letters will be {fate}. Go on?", abort=True)
    return each_dead_letter(engine, wanted, limit=letters)


def _report(resolutions: "Sequence[Resolution]", outcome: str, *, by_id: bool) -> None:
    if by_id:
        for item in resolutions:
            leads = f", with {item.leads_discarded} lead(s)" if item.leads_discarded else ""
            unchanged = "is open, and its contact waits to be sent" if item.is_open else "was resolved already"
            click.echo(f"{item.dead_letter_id}  {outcome + leads if item.changed else unchanged}")
            if item.changed and item.operation is Operation.ERASE:
                click.secho(f"{'':36}  the person was to be erased there, and is not: do it by hand", fg="yellow")
        return
    changed = [item for item in resolutions if item.changed]
    left = sum(item.operation is Operation.ERASE for item in changed)
    if left:
        click.secho(f"{left:,} persons were to be erased, and are not: do it by hand", fg="yellow")
    with_leads = sum(item.leads_discarded for item in changed)
    if changed:
        click.echo(f"{len(changed):,} dead letters: {outcome}{f', with {with_leads:,} leads' if with_leads else ''}")
    waiting = sum(item.is_open for item in resolutions if not item.changed)
    if waiting:
        click.echo(f"{waiting:,} dead letters are open, and their contacts wait to be sent")
    if len(changed) + waiting < len(resolutions):
        click.echo(f"{len(resolutions) - len(changed) - waiting:,} dead letters were resolved already")


def _print_foreseen(foreseen: "Foreseen", *, reveal: bool) -> None:
    letter = foreseen.letter
    if foreseen.refused is not None:
        click.echo(f"{letter.dead_letter_id}  must not be sent ({foreseen.refused}): nothing would be sent")
        return
    if foreseen.version is None:
        why = "was resolved already" if letter.resolved_at else "has no contact, or no destination, any more"
        click.echo(f"{letter.dead_letter_id}  {why}: nothing would be sent")
        return
    if foreseen.operation is not Operation.UPSERT:
        click.echo(f"{letter.dead_letter_id}  would {foreseen.operation} its record; nothing of the contact is sent")
        return
    names = ", ".join(sorted(foreseen.properties)) or "nothing"
    refused = f"{letter.reason} {letter.code or ''}".strip()
    changed = f"changed since: {', '.join(foreseen.changed)}" if foreseen.changed else "nothing changed since"
    click.echo(f"{letter.dead_letter_id}  would send version {foreseen.version}: {names}")
    click.echo(f"{'':36}  refused as {refused}; {changed}")
    for name, fault in foreseen.withheld.items():
        click.echo(f"{'':36}  without {name}: {fault}")
    if reveal:
        from leads_pipeline.storage.dead_letters import as_json

        click.echo(as_json(foreseen.properties))


def _print_rehearsed(rehearsed: "Rehearsed", *, reveal: bool) -> None:
    verdict = rehearsed.verdict
    if verdict is None:
        _print_foreseen(rehearsed.foreseen, reveal=False)
        return
    said = f"{verdict.verdict} {verdict.code or ''}".strip()
    click.echo(f"{rehearsed.foreseen.letter.dead_letter_id}  the sandbox says: {said}")
    if reveal and verdict.explanation:
        click.echo(f"{'':36}  {verdict.explanation}")


def _attempt_words(attempt: "Attempt") -> str:
    answer = f"HTTP {attempt.http_status}" if attempt.http_status is not None else "no answer"
    verdict = f"{attempt.verdict or 'not settled'} {attempt.code or ''}".strip()
    request = f", request {attempt.correlation_id}" if attempt.correlation_id else ""
    return f"{attempt.sent_at:%Y-%m-%d %H:%M:%S} UTC: {verdict} ({answer}{request})"


def _plain(value: Any) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _filter(
    *, verdict: str | None, lane: str | None, since: Any, until: Any, include_resolved: bool = False, **equals: Any
) -> "LetterFilter":
    from leads_pipeline.storage.dead_letters import LetterFilter

    return LetterFilter(
        **equals,
        reason=verdict,
        lane=Lane(lane) if lane else None,
        since=utc(since),
        until=utc(until),
        include_resolved=include_resolved,
    )


def _done(actor: str, reason: str | None) -> "DoneBy":
    from leads_pipeline.storage.dead_letter_actions import DoneBy

    return DoneBy(actor, SystemClock().now(), reason)


def _engine(config_file: str | None) -> "sa.Engine":
    from leads_pipeline.storage.open import open_database

    return open_database(load_settings(config_file))
