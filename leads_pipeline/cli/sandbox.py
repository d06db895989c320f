"""``leads sandbox``: run a sandbox, and tell one that runs how to fail."""

import json
from typing import Any

import click

from leads_pipeline.cli.sandbox_serve import serve
from leads_pipeline.config import load_settings
from leads_pipeline.errors import ConfigError

_URL = "http://127.0.0.1:8090"
_url_option = click.option("--url", help=f"The running sandbox.  [default: the one of leads.yaml, else {_URL}]")


@click.group()
def sandbox() -> None:
    """Run a CRM, a provider of verification or a DNS server here, with a vendor's real shapes, limits and failures."""


sandbox.add_command(serve)


@sandbox.command()
@_url_option
def report(url: str | None) -> None:
    """Print what a running sandbox saw, as JSON."""
    from leads_pipeline.sandbox.client import ControlClient

    click.echo(json.dumps(ControlClient(_url(url)).report(), indent=2))


@sandbox.group()
def faults() -> None:
    """Tell a running sandbox how to fail."""


@faults.command("set")
@click.argument("kind", required=False)
@_url_option
@click.option("--rate", type=click.FloatRange(0, 1), help="Share of requests, or of records for per_record_error.")
@click.option("--latency-ms", type=click.IntRange(0, 600_000), help="Wait so long before answering.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many times.")
@click.option("--endpoint", help="Only there, e.g. batch/upsert or validatebatch.")
@click.option("--match", help="Only where an id, a value or an address contains this, e.g. @example.com.")
@click.option("--category", help="Category of per_record_error.")
@click.option(
    "--rules", "rules_file", type=click.File("rb"), help="A JSON list of rules instead of one (- reads stdin)."
)
def set_faults(*, kind: str | None, url: str | None, rules_file: Any, **rule: Any) -> None:
    """Replace the rules of a running sandbox by one of KIND, or by a list from --rules.

    \b
    Kinds of every sandbox: slow, http_500, http_502, http_503, auth, timeout, reset_connection.
    Of a CRM: http_429, forbidden_403, locked_423, silent_200, written_then_500, written_then_reset,
    written_then_timeout, per_record_error.
    Of a verification provider: throttle, out_of_credit, answered_then_lost.
    """
    from leads_pipeline.sandbox.client import ControlClient

    if (kind is None) == (rules_file is None):
        raise click.UsageError("name a KIND or a --rules file, and not both")
    if rules_file is not None:
        try:
            rules = json.load(rules_file)
        except ValueError as error:
            raise click.BadParameter(f"not JSON: {error}", param_hint="--rules") from error
        if not isinstance(rules, list):
            raise click.BadParameter("a JSON list of rules is needed", param_hint="--rules")
    else:
        rules = [{"kind": kind, **{name: value for name, value in rule.items() if value is not None}}]
    _show(ControlClient(_url(url)).set_faults(rules))


@faults.command("show")
@_url_option
def show_faults(url: str | None) -> None:
    """Print the rules in force and how often each has fired."""
    from leads_pipeline.sandbox.client import ControlClient

    _show(ControlClient(_url(url)).faults())


@faults.command("clear")
@_url_option
def clear_faults(url: str | None) -> None:
    """Let everything go well again."""
    from leads_pipeline.sandbox.client import ControlClient

    ControlClient(_url(url)).clear_faults()
    click.echo("no faults")


def _url(given: str | None) -> str:
    """``given``, else the first destination of leads.yaml that is a sandbox of this machine."""
    from leads_pipeline.services.sandboxes import local_crms

    if given:
        return given
    context = click.get_current_context()
    try:
        local = local_crms(load_settings(context.find_object(str)))
    except ConfigError:
        return _URL  # a sandbox is good for trying a CRM without any configuration
    return next((destination.base_url for destination in local.values()), _URL)


def _show(rules: list[dict[str, Any]]) -> None:
    if not rules:
        click.echo("no faults")
    for rule in rules:
        click.echo(json.dumps(rule))
