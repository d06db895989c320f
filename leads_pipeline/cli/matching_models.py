"""``leads matching list|report|activate|rollback``: which model scores a tenant's pairs, and what it believes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.cli._files import OutputFile
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import Settings, load_settings

if TYPE_CHECKING:
    from leads_pipeline.steps.match_models import Change, KnownModel

TENANT = click.option("--tenant", help="Whose model; may be left out if leads.yaml has only one tenant.")
REASON = click.option("--reason", type=WORDS, help="Why; it is kept with the decision. No personal data.")


def tenant_of(settings: Settings, named: str | None) -> str:
    """The tenant that a command is about."""
    if named is None and len(settings.tenants) == 1:
        return next(iter(settings.tenants))
    if named not in settings.tenants:
        told = "name a tenant" if named is None else f"there is no tenant {named!r} in leads.yaml"
        raise click.BadParameter(f"{told}; there are: {', '.join(settings.tenants)}", param_hint="--tenant")
    return named


@click.command(name="list")
@TENANT
@click.pass_obj
def list_models(config_file: str | None, tenant: str | None) -> None:
    """Show the models that could score a tenant's pairs, and which of them does."""
    from leads_pipeline.steps.match_models import list_models as known_models
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("model", "serves", "trained (UTC)", "by", "records", "decides as before", "reviews: P / R"):
        table.add_column(column, overflow="fold")
    faults = []
    for model in known_models(open_database(settings), tenant_of(settings, tenant)):
        table.add_row(*_row(model))
        if model.fault:
            faults.append(model.fault)
    Console(markup=False, highlight=False).print(table)
    for fault in faults:
        click.secho(f"warning: {fault}", fg="yellow")


def _row(model: "KnownModel") -> tuple[str, ...]:
    serves = "no"
    if model.active:
        serves = f"yes, since {model.since:%Y-%m-%d %H:%M}" if model.since else "yes"
    if model.stored is None:
        return (model.version, serves, "with the package", "", "", "", "")
    figures = model.stored.trained
    return (
        model.version,
        serves,
        f"{model.stored.trained_at:%Y-%m-%d %H:%M}",
        model.stored.actor,
        f"{figures.get('records', 0):,}",
        _percent(figures.get("agreement", {}).get("share")),
        _judged(figures.get("reviews", {}).get("new", {})),
    )


def _judged(found: dict[str, Any]) -> str:
    if not found.get("decided"):
        return "none decided"
    return f"{_percent(found['precision'])} / {_percent(found['recall'])} of {found['decided']:,}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


@click.command()
@click.argument("version")
@TENANT
@click.option(
    "--output",
    required=True,
    type=OutputFile(),
    help="The HTML file to write; it needs no network.",
)
@click.pass_obj
def report(config_file: str | None, version: str, tenant: str | None, output: Path) -> None:
    """Write what a model believes to an HTML file: charts, what moved, how it did. VERSION `shipped` is the package's.

    It holds shares of pairs and nothing of a lead.
    """
    from leads_pipeline.steps.match_models import report as written_report
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    name = tenant_of(settings, tenant)
    text = written_report(open_database(settings), name, version, settings=settings.matching)
    output.write_text(text, encoding="utf-8")
    click.echo(f"wrote {output}")


@click.command()
@click.argument("version")
@TENANT
@ACTOR
@REASON
@click.pass_obj
def activate(config_file: str | None, version: str, tenant: str | None, actor: str, reason: str | None) -> None:
    """Let a trained model score a tenant's pairs, from its next chunk on. VERSION `shipped` is the package's.

    What was decided before stays as it is; `leads matching rebuild` shows what would be decided otherwise.
    """
    from leads_pipeline.steps.match_models import activate as activate_model
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    name = tenant_of(settings, tenant)
    change = activate_model(open_database(settings), name, version, actor=actor, reason=reason, now=SystemClock().now())
    _tell(name, change)


@click.command()
@TENANT
@ACTOR
@REASON
@click.pass_obj
def rollback(config_file: str | None, tenant: str | None, actor: str, reason: str | None) -> None:
    """Let the model score again that did before the last activation; twice goes back twice."""
    from leads_pipeline.steps.match_models import rollback as roll_back
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    name = tenant_of(settings, tenant)
    _tell(name, roll_back(open_database(settings), name, actor=actor, reason=reason, now=SystemClock().now()))


def _tell(tenant: str, change: "Change") -> None:
    click.echo(f"{tenant}: the model {change.version} serves from the next chunk on; before it did {change.before}")
