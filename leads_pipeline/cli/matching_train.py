"""``leads matching train``: a model from a tenant's own leads."""

import click

from leads_pipeline.cli._audit import ACTOR
from leads_pipeline.cli.matching_models import TENANT, tenant_of
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import load_settings


@click.command()
@TENANT
@ACTOR
@click.option("--seed", default=1, show_default=True, help="The same leads and seed give the same model.")
@click.option(
    "--records",
    "most_records",
    default=100_000,
    show_default=True,
    type=click.IntRange(min=1_000),
    help="Learn from so many records at most; more take more time and memory.",
)
@click.pass_obj
def train(config_file: str | None, tenant: str | None, actor: str, seed: int, most_records: int) -> None:
    """Learn a matching model from a tenant's own leads, without labels, and keep it; it does not serve yet.

    It is compared with the model that serves, on leads that were held out and on what persons decided in reviews.
    """
    from leads_pipeline.matching.training import adapt
    from leads_pipeline.steps.trained_match_model import train_match_model
    from leads_pipeline.storage.open import open_database

    settings = load_settings(config_file)
    name = tenant_of(settings, tenant)
    model = train_match_model(
        open_database(settings),
        name,
        settings=settings.matching,
        learn=adapt,
        actor=actor,
        clock=SystemClock(),
        seed=seed,
        most_records=most_records,
        progress=lambda told: click.echo(f"{told} …", err=True),
    )
    figures = model.figures
    alike, judged = figures["agreement"], figures["reviews"]["new"]
    click.echo(f"model {model.version}, from {figures['records']:,} records in {figures['seconds']:.0f} s")
    click.echo(f"  weights that moved by half a bit or more: {len(figures['moved'])}")
    if alike["pairs"]:
        click.echo(
            f"  decides as the model {figures['compared_with']} does on {100 * alike['share']:.1f} % "
            f"of {alike['pairs']:,} pairs with leads that were held out"
        )
    if judged["decided"]:
        click.echo(f"  of {judged['decided']:,} pairs that persons decided it would merge {judged['merged_rightly']:,}")
        click.echo(f"  rightly and {judged['merged_wrongly']:,} wrongly, and miss {judged['missed']:,}")
    option = f" --tenant {name}" if tenant else ""
    click.echo(f"look at it: leads matching report {model.version}{option} --output report.html")
    click.echo(f"let it serve: leads matching activate {model.version}{option} --actor NAME")
