"""``leads sandbox``: run the sandbox CRM, and tell one that runs how to fail."""

import json
import signal
import sys
from pathlib import Path
from random import Random
from typing import Any

import click

from leads_pipeline.config import load_settings
from leads_pipeline.errors import ConfigError

_URL = "http://127.0.0.1:8090"
_url_option = click.option("--url", help=f"The running sandbox.  [default: the one of leads.yaml, else {_URL}]")


@click.group()
def sandbox() -> None:
    """Run a local CRM with a vendor's real shapes, limits and failures."""


@sandbox.command()
@click.option("--vendor", type=click.Choice(["hubspot"]), default="hubspot", show_default=True, help="Whom it plays.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0 takes a free one.")
@click.option("--requests", type=click.IntRange(min=1), default=100, show_default=True, help="Requests in the window.")
@click.option(
    "--per", "window_seconds", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True,
    metavar="SECONDS", help="Length of the sliding window.",
)  # fmt: skip
@click.option("--daily", type=click.IntRange(min=1), default=250_000, show_default=True, help="Requests in a day.")
@click.option("--time-zone", default="UTC", show_default=True, help="Whose midnight ends the day.")
@click.option("--no-limits", is_flag=True, help="Take everything that comes.")
@click.option(
    "--token-env", default="LEADS_HUBSPOT_TOKEN", show_default=True, metavar="NAME",
    help="Environment variable with the token to demand; if it is not set, any token will do.",
)  # fmt: skip
@click.option("--store", type=click.Path(path_type=Path, dir_okay=False), help="Keep contacts in this SQLite file.")
@click.option("--key-property", default="lead_key", show_default=True, help="Custom unique property that exists.")
@click.option("--property", "properties", multiple=True, metavar="NAME", help="Custom text property that exists.")
@click.option("--retry-after", is_flag=True, help="Send Retry-After with a 429 (HubSpot documents none).")
@click.option("--seed", type=int, help="Make order, ids and faults repeatable.")
def serve(
    *,
    vendor: str,
    host: str,
    port: int,
    requests: int,
    window_seconds: float,
    daily: int,
    time_zone: str,
    no_limits: bool,
    token_env: str,
    store: Path | None,
    key_property: str,
    properties: tuple[str, ...],
    retry_after: bool,
    seed: int | None,
) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    from zoneinfo import available_timezones

    from leads_pipeline.clock import SystemClock
    from leads_pipeline.crm.sandbox.app import create_app
    from leads_pipeline.crm.sandbox.options import SandboxOptions
    from leads_pipeline.sandbox.serving import base_url, listen, serve_until_stopped
    from leads_pipeline.telemetry import configure_logging

    if time_zone not in available_timezones():
        raise click.BadParameter("an IANA time zone such as UTC or Europe/Vienna", param_hint="--time-zone")
    options = SandboxOptions(
        vendor="hubspot",
        token=_token(token_env),
        requests=requests,
        window_seconds=window_seconds,
        daily=daily,
        time_zone=time_zone,
        store=store,
        key_property=key_property,
        custom_properties=properties,
        retry_after=retry_after,
    )
    if no_limits:
        options = options.without_limits()
    configure_logging()
    # Also before uvicorn listens to signals, and when it raises the same one again after its end: leave with 0.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: sys.exit(0))
    bound = listen(host, port)
    app = create_app(options, clock=SystemClock(), random=Random(seed))  # noqa: S311

    def announce() -> None:
        limit = "no limits" if no_limits else f"{requests} requests / {window_seconds:g} s, {daily:,} a day"
        click.echo(f"sandbox CRM ({vendor}) on {base_url(bound)}  ({limit})")

    serve_until_stopped(app, bound, on_started=announce)


@sandbox.command()
@_url_option
def report(url: str | None) -> None:
    """Print what a running sandbox saw, as JSON."""
    from leads_pipeline.crm.sandbox.client import SandboxClient

    click.echo(json.dumps(SandboxClient(_url(url)).report(), indent=2))


@sandbox.group()
def faults() -> None:
    """Tell a running sandbox how to fail."""


@faults.command("set")
@click.argument("kind", required=False)
@_url_option
@click.option("--rate", type=click.FloatRange(0, 1), help="Share of requests, or of records for per_record_error.")
@click.option("--latency-ms", type=click.IntRange(0, 600_000), help="Wait so long before answering.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many times.")
@click.option("--endpoint", help="Only there, e.g. batch/upsert.")
@click.option("--match", help="Only where an id or a value contains this, e.g. @example.com.")
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
    from leads_pipeline.crm.sandbox.client import SandboxClient

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
    _show(SandboxClient(_url(url)).set_faults(rules))


@faults.command("show")
@_url_option
def show_faults(url: str | None) -> None:
    """Print the rules in force and how often each has fired."""
    from leads_pipeline.crm.sandbox.client import SandboxClient

    _show(SandboxClient(_url(url)).faults())


@faults.command("clear")
@_url_option
def clear_faults(url: str | None) -> None:
    """Let everything go well again."""
    from leads_pipeline.crm.sandbox.client import SandboxClient

    SandboxClient(_url(url)).clear_faults()
    click.echo("no faults")


def _url(given: str | None) -> str:
    """``given``, else the first destination of leads.yaml that is a sandbox of this machine."""
    from leads_pipeline.services.stack import Stack

    if given:
        return given
    context = click.get_current_context()
    try:
        local = Stack(load_settings(context.find_object(str))).local_sandboxes()
    except ConfigError:
        return _URL  # a sandbox is good for trying a CRM without any configuration
    return next((destination.base_url for destination in local.values()), _URL)


def _show(rules: list[dict[str, Any]]) -> None:
    if not rules:
        click.echo("no faults")
    for rule in rules:
        click.echo(json.dumps(rule))


def _token(name: str) -> str | None:
    from pydantic import ValidationError

    from leads_pipeline.config import SecretRef

    try:
        return SecretRef(env=name).resolve().get_secret_value()
    except ValidationError as error:
        raise click.BadParameter(f"{name} cannot name an environment variable", param_hint="--token-env") from error
    except ConfigError:
        return None
