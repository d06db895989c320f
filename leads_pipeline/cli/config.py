"""``leads config``: is leads.yaml right, and what may it say?"""

import json
from collections.abc import Iterator

import click

from leads_pipeline.cli._policy_doubts import doubtful_policies
from leads_pipeline.config import VENDOR_LOOKUPS, Condition, Settings, json_schema, load_settings
from leads_pipeline.errors import ConfigError


@click.group()
def config() -> None:
    """Check leads.yaml, print its schema."""


@config.command()
@click.pass_obj
def check(config_file: str | None) -> None:
    """Validate leads.yaml whole and name every fault; also say which secrets the environment does not hold."""
    from leads_pipeline.domain.phone_engines import described

    settings = load_settings(config_file)
    click.echo(f"{settings.path}: valid")
    click.echo(f"  tenants       {', '.join(settings.tenants)}")
    click.echo(f"  destinations  {', '.join(settings.destinations) or 'none'}")
    click.echo(f"  phone numbers {described()}")
    for where, reference in settings.secrets().items():
        try:
            reference.resolve()
        except ConfigError:
            click.secho(f"  warning: {where}: the environment variable {reference.env} is not set", fg="yellow")
    doubts = (
        *_unfinished_sources(settings),
        *_idle_verification(settings),
        *_doubtful_rules(settings),
        *doubtful_policies(settings),
        *(("alerts.channels", lacks) for lacks in settings.alerts.unheard(settings.tenants)),
    )
    for where, lacks in doubts:
        click.secho(f"  warning: {where}: {lacks}", fg="yellow")


def _unfinished_sources(settings: Settings) -> Iterator[tuple[str, str]]:
    """Sources that take leads and yet cannot do all that their kind does."""
    for tenant, tenant_settings in settings.tenants.items():
        for name, source in tenant_settings.sources.items():
            where = f"tenants.{tenant}.sources.{name}"
            if source.kind in ("meta", "hubspot") and source.access_token is None:
                yield where, "without access_token nobody can be asked who its leads are: they wait"
            if source.kind == "meta" and source.verify_token is None:
                yield where, "without verify_token Meta cannot subscribe to it"


def _idle_verification(settings: Settings) -> Iterator[tuple[str, str]]:
    """What stands under verification and can never have an effect."""
    verification = settings.verification
    for name, provider in verification.providers.items():
        if name not in verification.providers_of(VENDOR_LOOKUPS[provider.vendor]):
            kind = VENDOR_LOOKUPS[provider.vendor]
            yield f"verification.providers.{name}", f"nobody asks it: verification.{kind} does not name it"
    everybody = Condition()
    for number, rule in enumerate(verification.triage[:-1]):
        if rule.when == everybody:
            yield f"verification.triage.{number + 1}", f"no lead comes so far: triage.{number} takes every one"
            break
    rules = [(f"verification.value.{number}", rule.when) for number, rule in enumerate(verification.value)]
    rules += [(f"verification.triage.{number}", rule.when) for number, rule in enumerate(verification.triage)]
    for where, condition in rules:
        for key, unknown, known in _unknown_names(settings, condition):
            yield f"{where}.when.{key}", f"there is no {unknown!r}: the rule never holds for it; known: {known}"


def _doubtful_rules(settings: Settings) -> Iterator[tuple[str, str]]:
    """Rules of matching that can never decide a pair, or that decide too many."""
    rules = settings.matching.rules
    for number, rule in enumerate(rules):
        where = f"matching.rules.{number}"
        if "verified_email" in rule.when and not any(map(settings.verification.can_look_up, ("mx", "mailbox"))):
            yield where, f"{rule.name} never joins: verification.mx and verification.mailbox look no address up"
        if rule.joins_colleagues:
            yield where, f"{rule.name} joins all who share a number or an office's mailbox: ask for a name too"
        for before, earlier in enumerate(rules[:number]):
            if earlier.forestalls(rule):
                yield where, f"{rule.name} never joins: rules.{before}, {earlier.name}, has joined all that it would"
                break


def _unknown_names(settings: Settings, condition: Condition) -> Iterator[tuple[str, str, str]]:
    from leads_pipeline.domain.rules import RULES

    sources = {name for tenant in settings.tenants.values() for name in tenant.sources}
    flags = {rule.name for rule in RULES}
    for key, known in (
        ("tenant", set(settings.tenants)),
        ("source", sources),
        ("flag", flags),
        ("without_flag", flags),
    ):
        for name in getattr(condition, key):
            if name not in known:
                yield key, name, ", ".join(sorted(known))


@config.command()
def schema() -> None:
    """Print the JSON Schema of leads.yaml."""
    click.echo(json.dumps(json_schema(), indent=2))
