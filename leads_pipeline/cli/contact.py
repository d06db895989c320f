"""``leads contact``: who is whom, why, and what a person says about it. ``_contact_words`` has how it is put."""

from collections.abc import Callable, Iterable
from functools import cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.cli._files import OutputFile
from leads_pipeline.cli._lines import echo_lines
from leads_pipeline.cli.contact_refresh import refresh
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings
from leads_pipeline.errors import NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from leads_pipeline.config import Settings
    from leads_pipeline.domain.ids import ContactId
    from leads_pipeline.storage.contact_deciding import Ruling

_WHO = click.argument("who", metavar="CONTACT|LEAD|EMAIL|PHONE")
_TENANT = click.option("--tenant", help="Only this tenant's.")
_VALUES = click.option("--values", is_flag=True, help="Show values: personal data.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing.")
_RULING: tuple[Callable[[Any], Any], ...] = (
    ACTOR,
    click.option("--reason", type=WORDS, help="Why; it is kept with the decision. No personal data."),
    _DRY_RUN,
)
_FORCE = click.option("--force", is_flag=True, help="Withdraw links that forbid it; an undo brings them back.")


def _ruling_options(command: Any) -> Any:
    return reduce(lambda made, option: option(made), reversed(_RULING), command)


@click.group()
def contact() -> None:
    """Who is whom: look at a contact, see why it is one, undo, merge, split, link and unlink.

    A contact is named by its id, that of one merged into it, or the id of one of its leads; to look at it, an e-mail
    address or a phone number does as well. Every decision is kept with who took it and why, can be undone, and holds
    against later runs.
    """


contact.add_command(refresh)


@contact.command()
@_WHO
@_TENANT
@_VALUES
@click.pass_obj
def show(config_file: str | None, who: str, tenant: str | None, values: bool) -> None:
    """Show a contact: its leads, which of them each field comes from, consent, destinations."""
    from leads_pipeline.cli._contact_words import card_lines
    from leads_pipeline.storage.contact_reading import read_card

    settings, engine = _opened(config_file)
    with engine.connect() as connection:
        contacts = _found(connection, settings, who, tenant=tenant)
        cards = [card for _tenant, item in contacts if (card := read_card(connection, item)) is not None]
    _one_by_one(card_lines(card, values=values) for card in cards)


@contact.command()
@_WHO
@_TENANT
@click.pass_obj
def history(config_file: str | None, who: str, tenant: str | None) -> None:
    """Show every decision about a contact and those merged into it, oldest first, with the id to undo."""
    from leads_pipeline.cli._contact_words import history_lines
    from leads_pipeline.storage.contact_reading import read_history

    settings, engine = _opened(config_file)
    with engine.connect() as connection:
        _one_by_one(
            [f"contact {item} (tenant {owner})", *history_lines(read_history(connection, owner, item))]
            for owner, item in _found(connection, settings, who, tenant=tenant)
        )


@contact.command()
@_WHO
@click.argument("other_lead", required=False, type=click.UUID)
@_TENANT
@click.option(
    "--chart",
    type=OutputFile(),
    help="Draw it into a file (.html, .svg) or write its figures (.json); it needs no network to be seen.",
)
@_VALUES
@click.pass_obj
def explain(
    config_file: str | None, who: str, other_lead: UUID | None, tenant: str | None, chart: Path | None, values: bool
) -> None:
    """Show why: what each comparison weighs, the sum, and what spoke against.

    One contact: every decision that made it what it is, with the weights and cut-offs of its day. Two leads, by their
    ids: how they compare now, whether they are one contact or not.
    """
    from leads_pipeline.cli._contact_words import contact_explained, pair_explained, side_by_side
    from leads_pipeline.cli._waterfall import FORMATS, write_chart
    from leads_pipeline.steps.contact_explanations import explain_contact, explain_leads
    from leads_pipeline.storage.contact_reading import read_values

    if chart is not None and chart.suffix.lower() not in FORMATS:
        raise click.BadParameter(f"it must end in {', '.join(FORMATS)}", param_hint="--chart")
    lead = None if other_lead is None else click.UUID(who)
    settings, engine = _opened(config_file)
    scorer_of, matching = cache(scorers(engine)), settings.matching
    explained = []
    if lead is not None and other_lead is not None:
        pair = explain_leads(engine, lead, other_lead, scorer_of=scorer_of, settings=matching)
        explained.append((pair.tenant, *pair_explained(pair)))
    else:
        with engine.connect() as connection:
            contacts = _found(connection, settings, who, tenant=tenant)
        for owner, item in contacts:
            whole = explain_contact(engine, item, scorer_of=scorer_of, settings=matching)
            explained.append((owner, *contact_explained(whole)))
    for owner, lines, charts in explained:
        leads = [lead for _title, found in charts for lead in found.leads or ()]
        if values and leads:
            with engine.connect() as connection:
                lines.extend(side_by_side(read_values(connection, owner, leads), leads))
    _one_by_one(lines for _owner, lines, _charts in explained)
    if chart is not None:
        drawn = [item for _owner, _lines, charts in explained for item in charts]
        if not drawn:
            raise NotFound("nothing of this was weighed, so there is no chart to draw")
        write_chart(chart, drawn)
        click.echo(f"drawn into {chart}")


def _one_by_one(texts: "Iterable[list[str]]") -> None:
    for place, lines in enumerate(texts):
        echo_lines(lines if not place else ["", *lines])


@contact.command()
@click.argument("merge_id", metavar="DECISION", type=click.UUID)
@_ruling_options
@click.option("--force", is_flag=True, help="Withdraw links of other decisions that forbid what would come back.")
@click.pass_obj
def undo(config_file: str | None, /, merge_id: UUID, **ruling: Any) -> None:
    """Take a decision back: leads, contacts, links and reviews are as before it.

    What it had brought together is kept apart from then on. `leads contact history` shows the ids.
    """
    from leads_pipeline.steps.contact_undo import undo as undo_decision

    _settings, engine = _opened(config_file)
    _told(undo_decision(engine, merge_id, _ruling(**ruling)))


@contact.command()
@click.argument("item", metavar="CONTACT", type=click.UUID)
@click.argument("leads", metavar="LEAD...", type=click.UUID, nargs=-1, required=True)
@_ruling_options
@_FORCE
@click.pass_obj
def split(config_file: str | None, /, item: UUID, leads: tuple[UUID, ...], **ruling: Any) -> None:
    """Take leads out of a contact, into one of their own; they stay apart. The larger part keeps the id."""
    from leads_pipeline.steps.contact_decisions import split as split_contact

    _settings, engine = _opened(config_file)
    _told(split_contact(engine, item, leads, _ruling(**ruling)))


@contact.command()
@click.argument("item", metavar="CONTACT", type=click.UUID)
@click.argument("other", metavar="OTHER", type=click.UUID)
@_ruling_options
@_FORCE
@click.pass_obj
def merge(config_file: str | None, /, item: UUID, other: UUID, **ruling: Any) -> None:
    """Make two contacts one; the older survives."""
    from leads_pipeline.steps.contact_decisions import merge as merge_contacts

    _settings, engine = _opened(config_file)
    _told(merge_contacts(engine, item, other, _ruling(**ruling)))


@contact.command()
@click.argument("lead", type=click.UUID)
@click.argument("other_lead", type=click.UUID)
@_ruling_options
@_FORCE
@click.pass_obj
def link(config_file: str | None, /, lead: UUID, other_lead: UUID, **ruling: Any) -> None:
    """Say that two leads are one person's: their contacts are merged, and stay so."""
    from leads_pipeline.steps.contact_decisions import link as link_two

    _settings, engine = _opened(config_file)
    _told(link_two(engine, lead, other_lead, _ruling(**ruling)))


@contact.command()
@click.argument("lead", type=click.UUID)
@click.argument("other_lead", type=click.UUID)
@_ruling_options
@_FORCE
@click.pass_obj
def unlink(config_file: str | None, /, lead: UUID, other_lead: UUID, **ruling: Any) -> None:
    """Say that two leads are not one person's: if they are one contact's, it is taken apart between them.

    Its other leads go with the one that they are more like; --dry-run shows which.
    """
    from leads_pipeline.steps.contact_decisions import unlink as unlink_two

    _settings, engine = _opened(config_file)
    _told(unlink_two(engine, lead, other_lead, _ruling(**ruling), scorer_of=scorers(engine)))


def scorers(engine: "sa.Engine") -> Callable[[str], Any]:
    """What weighs pairs of a tenant: its active model, loaded when it is asked for."""

    def scorer_of(tenant: str) -> Any:
        from leads_pipeline.matching.scorer_source import parameters_for
        from leads_pipeline.matching.scoring import PairScorer

        with engine.connect() as connection:
            return PairScorer(parameters_for(connection, tenant))

    return scorer_of


def _opened(config_file: str | None) -> "tuple[Settings, sa.Engine]":
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    return settings, open_database(settings)


def _ruling(*, actor: str, reason: str | None = None, dry_run: bool = False, force: bool = False) -> "Ruling":
    from leads_pipeline.storage.contact_deciding import Ruling

    return Ruling(actor, SystemClock().now(), reason=reason, force=force, dry_run=dry_run)


def _told(decided: Any) -> None:
    from leads_pipeline.cli._contact_words import decided_lines

    echo_lines(decided_lines(decided))


def _found(
    connection: "sa.Connection", settings: "Settings", who: str, *, tenant: str | None
) -> "list[tuple[str, ContactId]]":
    """Tenant and id of the contacts that an id, an e-mail address or a phone number stands for.

    What was typed is not kept anywhere.
    """
    from leads_pipeline.domain.emails import Email, parse_email
    from leads_pipeline.domain.phones import Phone, parse_phone
    from leads_pipeline.storage.contact_reading import contacts_by_email, contacts_by_phone, find_contact

    try:
        found = find_contact(connection, UUID(who))
    except ValueError:
        pass
    else:
        if found is None or tenant not in (None, found.tenant):
            raise NotFound(f"there is no contact {who}, and no lead of this id that belongs to one")
        return [(found.tenant, found.contact_id)]
    if "@" in who:
        parsed = parse_email(who)
        known = contacts_by_email(connection, parsed.key if isinstance(parsed, Email) else who.strip().lower())
    else:
        countries = {item.country for name, item in settings.tenants.items() if tenant in (None, name)} or {"US"}
        numbers = {phone.key for country in countries if isinstance(phone := parse_phone(who, country=country), Phone)}
        if not numbers:
            raise click.BadParameter("it is neither an id, nor an e-mail address, nor a phone number", param_hint="WHO")
        known = [item for number in sorted(numbers) for item in contacts_by_phone(connection, number)]
    contacts = sorted({(owner, item) for owner, item in known if tenant in (None, owner)})
    if not contacts:
        raise NotFound("no contact has shown this address or number")
    return contacts
