"""``leads``: one module per command group; each command calls one step.

Add a group in its own module and its name to ``_GROUPS``. Groups are imported when they are called, so that
``leads --help`` stays quick.
"""

import importlib
import logging
import sys
from typing import Any

import click

from leads_pipeline import __version__
from leads_pipeline.errors import ConfigError, LeadsError
from leads_pipeline.telemetry import configure_logging

# command: (module, attribute, one line of help)
_GROUPS: dict[str, tuple[str, str, str]] = {
    "alerts": ("leads_pipeline.cli.alerts", "alerts", "What is wrong, who was told; send, test, resolve."),
    "buffer": ("leads_pipeline.cli.buffer", "buffer", "What waits in the buffer, and how near its bounds are."),
    "capture": ("leads_pipeline.cli.capture", "capture", "Serve the HTTP door."),
    "config": ("leads_pipeline.cli.config", "config", "Check leads.yaml, print its schema."),
    "conservation": ("leads_pipeline.cli.conservation", "conservation", "Is every lead in one state, day by day."),
    "contact": ("leads_pipeline.cli.contact", "contact", "Who is whom and why; undo, merge, split, link, unlink."),
    "db": ("leads_pipeline.cli.db", "db", "Start, stop and upgrade the database."),
    "dead-letters": ("leads_pipeline.cli.dead_letters", "dead_letters", "What a CRM will not take, and what to do."),
    "deliver": ("leads_pipeline.cli.deliver", "deliver", "Deliver what is due, without Dagster."),
    "destinations": ("leads_pipeline.cli.destinations", "destinations", "Where contacts go; does the mapping fit."),
    "demo": ("leads_pipeline.cli.demo", "demo", "Send leads through the whole chain and show what happened."),
    "dev": ("leads_pipeline.cli.dev", "dev", "Open the product: door, sandbox CRM and Dagster in one terminal."),
    "import": ("leads_pipeline.cli.import_", "import_", "Import a file of leads: CSV, Excel, Parquet, NDJSON."),
    "journey": ("leads_pipeline.cli.journey", "journey", "Every row and decision about one lead."),
    "keys": ("leads_pipeline.cli.keys", "keys", "Create, list and revoke API keys."),
    "latency": ("leads_pipeline.cli.latency", "latency", "How long leads take to every station: P50, P95, P99."),
    "matching": ("leads_pipeline.cli.matching", "matching", "How leads are told apart, and how well."),
    "outcomes": ("leads_pipeline.cli.outcomes", "outcomes", "What became of leads: bounces, opportunities."),
    "metrics": ("leads_pipeline.cli.metrics", "metrics", "The pipeline's numbers for Prometheus: print, serve."),
    "rejected": ("leads_pipeline.cli.rejected", "rejected", "What validation rejected: look, fix, retry, discard."),
    "quality": ("leads_pipeline.cli.quality", "quality", "Leads held back from matching: list, release, recheck."),
    "replay": ("leads_pipeline.cli.replay", "replay", "Leads of a time window go through the pipeline once more."),
    "review": ("leads_pipeline.cli.review", "review", "Pairs that may be one person: look, accept, reject."),
    "run": ("leads_pipeline.cli.run", "run", "Run the chain here, until nothing is pending."),
    "runs": ("leads_pipeline.cli.runs", "runs", "How Dagster's runs went; ask again for a job that was given up."),
    "sandbox": ("leads_pipeline.cli.sandbox", "sandbox", "Serve a sandbox: a CRM, a provider, DNS."),
    "slo": ("leads_pipeline.cli.slo", "slo", "What is promised, what came of it, which gates are closed."),
    "sources": ("leads_pipeline.cli.sources", "sources", "The ways in; what a payload becomes; which fields came."),
    "status": ("leads_pipeline.cli.status", "status", "Queues, ages, states and limits on one screen."),
    "suppressions": ("leads_pipeline.cli.suppressions", "suppressions", "Those who must not be sent to a CRM."),
    "watch": ("leads_pipeline.cli.watch", "watch", "Look at the pipeline: latencies, promises, rules, alerts."),
    "policy": ("leads_pipeline.cli.policy", "policy", "Rules that act: list, history, pause, resume, simulate."),
    "verification": ("leads_pipeline.cli.verification", "verification", "What is looked up, what it costs."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _GROUPS:
            return None
        module, attribute, _help = _GROUPS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _GROUPS[name][2]) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--config", "config_file", metavar="FILE", help="The leads.yaml to use (or LEADS_CONFIG).")
@click.version_option(__version__, prog_name="leads")
@click.pass_context
def cli(context: click.Context, config_file: str | None) -> None:
    """Leads from the web to the CRM: none lost, none doubled, never over the CRM's limits."""
    context.obj = config_file
    configure_logging(level=logging.WARNING)  # a service says more: it configures its own


def main(argv: list[str] | None = None) -> Any:
    """Run a command. A ``LeadsError`` is printed, not traced: exit 2 for configuration, 1 for the rest."""
    try:
        return cli.main(args=argv, prog_name="leads")
    except ConfigError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(2)
    except LeadsError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
    except Exception as error:
        # The driver's own words may quote the row that it choked on: they go nowhere. Anything else is a fault of ours.
        if not type(error).__module__.startswith("sqlalchemy."):
            raise
        original = getattr(error, "orig", None) or error
        code = getattr(original, "sqlstate", None)
        kind = f"{type(original).__name__}{f' ({code})' if code else ''}"
        click.secho(f"error: the database refused: {kind}; its log says more", fg="red", err=True)
        sys.exit(1)
