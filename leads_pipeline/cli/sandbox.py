"""``leads sandbox``: run a sandbox, and tell one that runs how to fail."""

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.config import load_settings
from leads_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from leads_pipeline.crm.sandbox.options import Window

_DNS = "dns"
_PROVIDERS = ("zerobounce", "neverbounce", "kickbox", "hunter", "reacher", "twilio")
# Each vendor's own, so that all of them can run side by side. A test holds the CRMs against the sandbox's registry.
_CRM_PORTS = {"hubspot": 8090, "salesforce": 8097, "zoho": 8098}
_CRMS = tuple(_CRM_PORTS)
_PORTS = {**_CRM_PORTS, **{vendor: 8091 + place for place, vendor in enumerate(_PROVIDERS)}, _DNS: 8053}
_PORTS_SHOWN = ", ".join(f"{vendor} {port}" for vendor, port in _PORTS.items())
# What every CRM's account has, by the names of ``SandboxOptions``.
_OF_EVERY_CRM = (
    "requests",
    "window_seconds",
    "more_windows",
    "daily",
    "time_zone",
    "store",
    "key_property",
    "custom_properties",
    "others_per_second",
)
# What only some have, by the names of that vendor's own options.
_OF_ONE_CRM = {
    "retry_after": ("hubspot",),
    **dict.fromkeys(("consumer_key", "certificate", "duplicate_rule", "job_seconds"), ("salesforce",)),
    **dict.fromkeys(("credits", "concurrency", "unique_email"), ("zoho",)),
}
# Zoho counts credits instead of requests, and has no day of the calendar.
_OF_CRMS_THAT_COUNT_REQUESTS = ("requests", "window_seconds", "more_windows", "daily", "time_zone")
# Options that only some vendors know.
_KNOWN_TO = {
    **dict.fromkeys((*_OF_EVERY_CRM, "other_token_envs"), _CRMS),
    **dict.fromkeys(_OF_CRMS_THAT_COUNT_REQUESTS, tuple(vendor for vendor in _CRMS if vendor != "zoho")),
    **_OF_ONE_CRM,
    **dict.fromkeys(("account", "credit", "calls_per_minute", "batch_size"), _PROVIDERS),
    **dict.fromkeys(("token_env", "no_limits", "seed"), (*_CRMS, *_PROVIDERS)),
    "domains": (_DNS,),
}

# What a client shows that has no lasting access token.
_TOKEN_ENVS = {"zoho": "LEADS_ZOHO_REFRESH_TOKEN"}

_URL = "http://127.0.0.1:8090"
_url_option = click.option("--url", help=f"The running sandbox.  [default: the one of leads.yaml, else {_URL}]")


@click.group()
def sandbox() -> None:
    """Run a CRM, a provider of verification or a DNS server here, with a vendor's real shapes, limits and failures."""


@sandbox.command()
@click.option("--vendor", type=click.Choice([*_CRMS, *_PROVIDERS, _DNS]), default=_CRMS[0], show_default=True,
              help="Whom it plays: a CRM, a provider of verification, or a DNS server.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"0 takes a free one.  [default: {_PORTS_SHOWN}]")
@click.option(
    "--token-env", metavar="NAME",
    help="Environment variable with the token or key to demand; if it is not set, any will do.  "
    "[default: LEADS_HUBSPOT_TOKEN, LEADS_ZEROBOUNCE_KEY …]",
)  # fmt: skip
@click.option("--no-limits", is_flag=True, help="Take everything that comes.")
@click.option("--seed", type=int, help="Make order, ids and faults repeatable.")
@click.option("--requests", type=click.IntRange(min=1),
              help="CRM: requests in the window; without it and below, the vendor's own.")  # fmt: skip
@click.option("--per", "window_seconds", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="CRM: length of the sliding window.")  # fmt: skip
@click.option("--window", "more_windows", multiple=True, metavar="REQUESTS/SECONDS",
              help="CRM: a further window that holds at the same time, e.g. 300/10.")  # fmt: skip
@click.option("--daily", type=click.IntRange(min=1), help="CRM: requests in a day.")
@click.option("--time-zone", help="CRM: whose midnight ends the day.  [default: UTC]")
@click.option(
    "--store", type=click.Path(path_type=Path, dir_okay=False), help="CRM: keep contacts in this SQLite file."
)
@click.option("--key-property", help="CRM: custom unique field that exists, e.g. lead_key.")
@click.option("--property", "custom_properties", multiple=True, metavar="NAME",
              help="CRM: custom text field that exists.")  # fmt: skip
@click.option("--retry-after", is_flag=True, help="HubSpot: send Retry-After with a 429 (none is documented).")
@click.option("--other-token-env", "other_token_envs", multiple=True, metavar="NAME",
              help="CRM: environment variable with the token of another application of the account.")  # fmt: skip
@click.option("--others-per-second", type=click.FloatRange(min=0),
              help="CRM: requests of one more application, which is played.")  # fmt: skip
@click.option("--consumer-key", help="Salesforce: what the connected app must call itself.")
@click.option("--certificate", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Salesforce: PEM file with the certificate that JWT assertions must be signed with.")  # fmt: skip
@click.option("--duplicate-rule", is_flag=True, help="Salesforce: refuse a record whose e-mail another one has.")
@click.option("--job-seconds", type=click.FloatRange(min=0), help="Salesforce: how long a bulk job takes.")
@click.option("--credits", type=click.IntRange(min=1), help="Zoho: credits in any 24 hours.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Zoho: requests under way at once.")
@click.option("--unique-email", is_flag=True, help="Zoho: no two records may have the same e-mail.")
@click.option("--account", help="Twilio: the account SID to demand; without it any will do.")
@click.option("--credit", type=click.IntRange(min=0), help="Provider: look-ups that are paid for; else they never end.")
@click.option("--calls-per-minute", type=click.IntRange(min=1), help="Provider: instead of the vendor's own limit.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Provider: instead of the vendor's own limit.")
@click.option("--domain", "domains", multiple=True, metavar="NAME=KIND",
              help="DNS: a domain, *.domain or *, and what is said of it; see docs/sandbox.md.")  # fmt: skip
@click.pass_context
def serve(context: click.Context, /, *, vendor: str, host: str, port: int | None, **options: Any) -> None:
    """Play a CRM, a provider of verification or a DNS server on this machine, until Ctrl-C or SIGTERM."""
    from leads_pipeline.telemetry import configure_logging

    _refuse_what_is_not_known(context, vendor)
    configure_logging()
    # Also before the server listens to signals, and when uvicorn raises the same one again after its end: leave with 0.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: sys.exit(0))
    port = _PORTS[vendor] if port is None else port
    if vendor == _DNS:
        _serve_dns(host, port, options)
    elif vendor in _CRMS:
        _serve_crm(vendor, host, port, options)
    else:
        _serve_provider(vendor, host, port, options)


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
@click.option("--each", is_flag=True, default=None, help="Count for each record by itself, not for all together.")
@click.option("--endpoint", help="Only there, e.g. batch/upsert or validatebatch.")
@click.option("--match", help="Only where an id, a value or an address contains this, e.g. @example.com.")
@click.option("--category", help="Category of per_record_error.")
@click.option("--from-seconds", type=click.FloatRange(min=0), help="Begin so long after now.")
@click.option("--until-seconds", type=click.FloatRange(min=0, min_open=True), help="End so long after now.")
@click.option(
    "--rules", "rules_file", type=click.File("rb"), help="A JSON list of rules instead of one (- reads stdin)."
)
def set_faults(*, kind: str | None, url: str | None, rules_file: Any, **rule: Any) -> None:
    """Replace the rules of a running sandbox by one of KIND, or by a list from --rules.

    \b
    Kinds of every sandbox: slow, http_500, http_502, http_503, auth, timeout, reset_connection.
    Of a CRM: refused_400, http_429, quota_spent, forbidden_403, locked_423, silent_200, written_then_500,
    written_then_reset, written_then_timeout, per_record_error, unreported.
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
    return next((address for destination in local.values() if (address := destination.address())), _URL)


def _show(rules: list[dict[str, Any]]) -> None:
    if not rules:
        click.echo("no faults")
    for rule in rules:
        click.echo(json.dumps(rule))


def _serve_crm(vendor: str, host: str, port: int, options: Mapping[str, Any]) -> None:
    from zoneinfo import available_timezones

    from leads_pipeline.clock import SystemClock
    from leads_pipeline.crm.sandbox.app import create_app
    from leads_pipeline.crm.sandbox.vendors import VENDORS
    from leads_pipeline.sandbox.serving import base_url, listen, serve_until_stopped

    given = {name: options[name] for name in (*_OF_EVERY_CRM, *_OF_ONE_CRM) if options[name] not in (None, (), False)}
    if given.get("time_zone", "UTC") not in available_timezones():
        raise click.BadParameter("an IANA time zone such as UTC or Europe/Vienna", param_hint="--time-zone")
    if "more_windows" in given:
        given["more_windows"] = tuple(map(_window, given["more_windows"]))
    account = VENDORS[vendor].options(
        token=_token(options["token_env"] or _TOKEN_ENVS.get(vendor, f"LEADS_{vendor.upper()}_TOKEN")),
        other_tokens=tuple(_set_token(name) for name in options["other_token_envs"]),
        **given,
    )
    if options["no_limits"]:
        account = account.without_limits()
    bound = listen(host, port)
    app = create_app(account, clock=SystemClock(), random=Random(options["seed"]))  # noqa: S311 - a play, no secret
    said = f"sandbox CRM ({vendor}) on {base_url(bound)}  ({account.limits_shown()})"
    serve_until_stopped(app, bound, on_started=lambda: click.echo(said))


def _serve_provider(vendor: str, host: str, port: int, options: Mapping[str, Any]) -> None:
    from leads_pipeline.clock import SystemClock
    from leads_pipeline.sandbox.serving import base_url, listen, serve_until_stopped
    from leads_pipeline.verification.sandbox.app import create_app
    from leads_pipeline.verification.sandbox.options import VENDORS, ProviderOptions

    account = ProviderOptions(
        vendor=next(known for known in VENDORS if known == vendor),
        key=_token(options["token_env"] or f"LEADS_{vendor.upper()}_KEY"),
        account=options["account"],
        credit=options["credit"],
        calls_per_minute=options["calls_per_minute"],
        batch_size=options["batch_size"],
        limited=not options["no_limits"],
    )
    bound = listen(host, port)
    app = create_app(account, clock=SystemClock(), random=Random(options["seed"]))  # noqa: S311 - a play, no secret
    said = f"sandbox provider ({vendor}) on {base_url(bound)}"
    serve_until_stopped(app, bound, on_started=lambda: click.echo(said))


def _serve_dns(host: str, port: int, options: Mapping[str, Any]) -> None:
    import asyncio

    from leads_pipeline.verification.sandbox.dns import DnsSandbox
    from leads_pipeline.verification.sandbox.domains import DnsRule, DomainKind

    rules = {}
    for text in options["domains"]:
        name, _, kind = text.partition("=")
        if not name or kind not in list(DomainKind):
            allowed = ", ".join(DomainKind)
            raise click.BadParameter(f"{text!r} is not NAME=KIND; kinds: {allowed}", param_hint="--domain")
        rules[name.lower()] = DnsRule(DomainKind(kind))
    sandbox = DnsSandbox(rules, host=host, port=port)
    said = f"sandbox DNS on {sandbox.address}, UDP and TCP"
    asyncio.run(sandbox.serve(on_started=lambda: click.echo(said)))


def _refuse_what_is_not_known(context: click.Context, vendor: str) -> None:
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and vendor not in _KNOWN_TO.get(name, (vendor,)):
            raise click.UsageError(f"{parameter.opts[0]} is not for {vendor}, only for {', '.join(_KNOWN_TO[name])}")


def _window(text: str) -> "Window":
    from leads_pipeline.crm.sandbox.options import Window

    most, _, seconds = text.partition("/")
    try:
        window = Window(int(most), float(seconds))
    except ValueError:
        window = Window(0, 0)
    if not (window.most and window.most > 0 and 0 < window.seconds < float("inf")):
        raise click.BadParameter(f"{text!r} is not REQUESTS/SECONDS, such as 300/10", param_hint="--window")
    return window


def _set_token(name: str) -> str:
    token = _token(name)
    if token is None:
        raise click.BadParameter(f"{name} is not set in the environment", param_hint="--other-token-env")
    return token


def _token(name: str) -> str | None:
    from pydantic import ValidationError

    from leads_pipeline.config import SecretRef

    try:
        return SecretRef(env=name).resolve().get_secret_value()
    except ValidationError as error:
        raise click.BadParameter(f"{name} cannot name an environment variable", param_hint="--token-env") from error
    except ConfigError:
        return None
