"""``leads review``: pairs that may be one person, and what a person says of them."""

from collections.abc import Callable, Sequence
from functools import reduce
from textwrap import fill
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.cli._lines import echo_lines
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.errors import IdentityRefused, NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from leads_pipeline.config import Settings
    from leads_pipeline.storage.match_reviews import MatchReview, ReviewFilter

_CAUSES = ("grey", "refused")
_STATES = ("open", "accepted", "rejected", "closed")

_SELECTION: tuple[Callable[[Any], Any], ...] = (
    click.option("--tenant", help="Only this tenant's."),
    click.option("--cause", type=click.Choice(_CAUSES), help="grey: between the cut-offs; refused: votes or size."),
    click.option("--min-weight", type=float, help="Only from this weight on."),
    click.option("--max-weight", type=float, help="Only below this weight."),
)
_MANY: tuple[Callable[[Any], Any], ...] = (
    click.argument("review_ids", metavar="[REVIEW]...", type=click.UUID, nargs=-1),
    *_SELECTION,
    click.option("--all", "everything", is_flag=True, help="Without a filter: every open review."),
    click.option("--limit", type=click.IntRange(min=1), help="At most so many, the heaviest first."),
    click.option("--yes", is_flag=True, help="Do not ask."),
    click.option("--force", is_flag=True, help="Withdraw links that forbid it; an undo brings them back."),
    ACTOR,
    click.option("--reason", type=WORDS, help="Why; it is kept with the decision. No personal data."),
)


def _options(options: tuple[Callable[[Any], Any], ...]) -> Callable[[Any], Any]:
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


@click.group()
def review() -> None:
    """Pairs that may be one person: list them, see why, say the same (accept) or two (reject).

    Each answer is kept, holds against later runs, can be undone (`leads contact undo`), and teaches the model.
    """


@review.command(name="list")
@_options(_SELECTION)
@click.option("--state", type=click.Choice(_STATES), default="open", show_default=True)
@click.option("--sort", type=click.Choice(("weight", "age")), default="weight", show_default=True)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.pass_obj
def list_reviews(config_file: str | None, /, state: str, sort: str, limit: int, **selection: Any) -> None:
    """Show reviews, the likeliest first, without values: weight, cause, since when (UTC), and what speaks for it."""
    from leads_pipeline.steps.match_reviews import close_answered
    from leads_pipeline.storage.match_reviews import ReviewOrder, count_reviews, find_reviews

    _settings, engine = _opened(config_file)
    close_answered(engine, now=SystemClock().now())
    wanted = _filter(state=state, **selection)
    with engine.connect() as connection:
        found = find_reviews(connection, wanted, order=ReviewOrder(sort), limit=limit)
        count = count_reviews(connection, wanted)
    if not found:
        click.echo(f"no {state} reviews")
        return
    for item in found:
        decided = f" by {item.decided_by}" if item.decided_by else ""
        click.echo(
            f"{item.review_id} {item.match_weight:+6.2f} {item.cause:<7} {item.opened_at:%Y-%m-%d %H:%M}"
            f" {item.tenant}{decided}"
        )
        for side, title in ((True, "for"), (False, "against")):
            if weighed := _sides(item, for_it=side):
                click.echo(fill(weighed, width=78, initial_indent=f"    {title:<8}", subsequent_indent=" " * 12))
    if count > len(found):
        click.echo(f"{count - len(found):,} more: --limit")


@review.command()
@click.argument("review_id", metavar="REVIEW", type=click.UUID)
@click.option("--values", is_flag=True, help="Show what both leads gave, side by side: personal data.")
@click.pass_obj
def show(config_file: str | None, review_id: UUID, values: bool) -> None:
    """Show one review: what each comparison weighs, and why a person is asked."""
    from leads_pipeline.cli._contact_words import explained_lines, side_by_side
    from leads_pipeline.cli.contact import scorers
    from leads_pipeline.steps.match_reviews import explain_review
    from leads_pipeline.storage.contact_reading import read_values
    from leads_pipeline.storage.match_reviews import get_review

    settings, engine = _opened(config_file)
    with engine.connect() as connection:
        found = get_review(connection, review_id)
        if found is None:
            raise NotFound(f"there is no review {review_id}; `leads review list` shows what there is")
        explanation = explain_review(connection, found, scorers(engine)(found.tenant), settings.matching)
        given = read_values(connection, found.tenant, [found.lead_id, found.other_lead_id]) if values else {}
    why = "between the two cut-offs" if found.cause == "grey" else "heavy enough, but votes or sizes spoke against it"
    by = f" by {found.decided_by}" if found.decided_by else ""
    at = f", {found.decided_at:%Y-%m-%d %H:%M} UTC" if found.decided_at else ""
    echo_lines(
        [
            f"review    {found.review_id} (tenant {found.tenant}), since {found.opened_at:%Y-%m-%d %H:%M} UTC",
            f"lead      {found.lead_id}, contact {found.contact_id or 'gone'}",
            f"lead      {found.other_lead_id}, contact {found.other_contact_id or 'gone'}",
            f"cause     {found.cause}: {why}",
            f"state     {found.state}{by}{at}{f': {found.reason}' if found.reason else ''}",
        ]
    )
    if explanation is not None:
        click.echo(f"weighed   by {explanation.model}")
        echo_lines(explained_lines(explanation, first=found.lead_id, then=True))
    echo_lines(side_by_side(given, [found.lead_id, found.other_lead_id]))


@review.command()
@_options(_MANY)
@click.pass_obj
def accept(config_file: str | None, /, **options: Any) -> None:
    """Say that the two are one person: their contacts are merged, and stay so."""
    _decide(config_file, "accepted", split=False, **options)


@review.command()
@_options(_MANY)
@click.option("--split", is_flag=True, help="Also where the two are one contact by now: it is taken apart.")
@click.pass_obj
def reject(config_file: str | None, /, split: bool, **options: Any) -> None:
    """Say that they are two persons: they are kept apart, whatever comes."""
    _decide(config_file, "rejected", split=split, **options)


def _decide(
    config_file: str | None,
    state: str,
    *,
    review_ids: Sequence[UUID],
    everything: bool,
    limit: int | None,
    yes: bool,
    force: bool,
    actor: str,
    reason: str | None,
    split: bool,
    **selection: Any,
) -> None:
    from leads_pipeline.cli.contact import scorers
    from leads_pipeline.steps.match_reviews import decide_all
    from leads_pipeline.storage.contact_deciding import Ruling
    from leads_pipeline.storage.match_reviews import ReviewOrder, ReviewState, count_reviews, find_reviews, get_review

    filtered = any(value is not None for value in selection.values())
    if bool(review_ids) == (filtered or everything):
        raise click.UsageError("name reviews, or choose them by a filter or --all")
    _settings, engine = _opened(config_file)
    wanted = _filter(state="open", **selection)
    with engine.connect() as connection:
        if review_ids:
            chosen = list(review_ids)
        else:
            count = count_reviews(connection, wanted)
            found = find_reviews(connection, wanted, order=ReviewOrder.WEIGHT, limit=limit or max(count, 1))
            chosen = [item.review_id for item in found]
        known = [item for one in review_ids if (item := get_review(connection, one))]
    if not chosen:
        click.echo("no open reviews")
        return
    if not review_ids and not yes:
        click.confirm(f"{len(chosen):,} pair(s) will be {state}. Go on?", abort=True)
    # One that was decided before is refused, whatever was said here.
    together = [
        item
        for item in known
        if item.contact_id is not None
        and item.contact_id == item.other_contact_id
        and item.state in (ReviewState.OPEN, ReviewState.CLOSED)
    ]
    if state == "rejected" and together and not split and not yes:
        named = ", ".join(str(item.review_id) for item in together)
        split = click.confirm(f"The leads of {named} are one contact by now. Take it apart?", abort=True)
    ruling = Ruling(actor, SystemClock().now(), reason=reason, force=force)
    outcomes = decide_all(engine, chosen, ruling, ReviewState(state), scorer_of=scorers(engine), split=split)
    for outcome in outcomes:
        if outcome.refused is not None:
            click.echo(f"{outcome.review_id}  refused: {outcome.refused}")
        elif outcome.decided is not None:
            click.echo(f"{outcome.review_id}  {state}, decision {outcome.decided.merge_id or 'as before'}")
    if refused := sum(outcome.refused is not None for outcome in outcomes):
        raise IdentityRefused(f"{refused} of {len(outcomes)} review(s) stay as they were")


def _sides(item: "MatchReview", *, for_it: bool) -> str:
    from leads_pipeline.cli._waterfall import words

    found = [
        (float(weight), name)
        for name, weight in item.evidence.items()
        if name != "prior" and isinstance(weight, int | float) and (weight > 0) == for_it
    ]
    return ", ".join(
        f"{words(name)} {weight:+.1f}" for weight, name in sorted(found, key=lambda item: (-abs(item[0]), item[1]))
    )


def _filter(*, state: str, tenant: str | None, cause: str | None, **weights: float | None) -> "ReviewFilter":
    from leads_pipeline.storage.match_reviews import ReviewCause, ReviewFilter, ReviewState

    return ReviewFilter(
        tenant=tenant,
        cause=ReviewCause(cause) if cause else None,
        state=ReviewState(state),
        min_weight=weights["min_weight"],
        max_weight=weights["max_weight"],
    )


def _opened(config_file: str | None) -> "tuple[Settings, sa.Engine]":
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    return settings, open_database(settings)
