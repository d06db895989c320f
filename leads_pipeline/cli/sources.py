"""``leads sources``: the configured ways in, what a payload becomes, and which fields have come."""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import SIGNED_KINDS, SecretRef, Settings, SourceSettings, load_settings
from leads_pipeline.errors import ConfigError, LeadsError

if TYPE_CHECKING:
    from rich.table import Table

    from leads_pipeline.steps.explained_posts import ExplainedPost

_TENANT = "Tenant of the source; may be left out if leads.yaml has only one."


@click.group()
def sources() -> None:
    """The ways in: list them, try a payload, see which fields come."""


@sources.command(name="list")
@click.option("--counts", is_flag=True, help="Ask the database how many leads came in the last day.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
@click.pass_obj
def list_sources(config_file: str | None, counts: bool, as_json: bool) -> None:
    """Show every source: its kind, its address, and whether its secrets are set."""
    settings = load_settings(config_file)
    ways = [(tenant, name, way) for tenant, its in settings.tenants.items() for name, way in its.sources.items()]
    captured = _captured_last_day(settings) if counts else {}
    if as_json:
        found = [
            {
                "tenant": tenant,
                "source": name,
                "kind": way.kind,
                "lane": way.lane,
                "address": _address(tenant, name),
                "proof": _proof(way),
                "missing_secrets": _missing(way),
                **({"last_day": captured.get((tenant, name), 0)} if counts else {}),
            }
            for tenant, name, way in ways
        ]
        click.echo(json.dumps(found, indent=2))
        return
    columns = ["tenant", "source", "kind", "lane", "address", "proof", "secrets", *(["last day"] if counts else [])]
    table = _table(*columns)
    for tenant, name, way in ways:
        missing = _missing(way)
        secrets = f"not set: {', '.join(missing)}" if missing else "set" if _secrets(way) else ""
        last_day = [f"{captured.get((tenant, name), 0):,}"] if counts else []
        table.add_row(tenant, name, way.kind, way.lane, _address(tenant, name), _proof(way), secrets, *last_day)
    _print(table)


@sources.command()
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.option("--tenant", help=_TENANT)
@click.option("--content-type", help="Media type of the body; guessed if it is left out.")
@click.option(
    "--fetched", type=click.File("rb"), help="The vendor's answer when it is asked for the lead (kinds meta, hubspot)."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of posts instead of tables.")
@click.pass_obj
def test(
    config_file: str | None,
    name: str,
    file: Any,
    tenant: str | None,
    content_type: str | None,
    fetched: Any,
    as_json: bool,
) -> None:
    """Show what a payload becomes.

    FILE is the body that the vendor sends to source NAME (- for standard input). Nothing is stored and no database is
    needed. No signature is asked for. Exits with 1 if the door would refuse the body, or if it holds no lead.
    """
    from leads_pipeline.cli.keys import configured_source
    from leads_pipeline.sources.port import Unreadable
    from leads_pipeline.steps.explained_posts import as_json as plain
    from leads_pipeline.steps.explained_posts import explain_posts

    settings = load_settings(config_file)
    tenant = configured_source(settings, tenant=tenant, source=name)
    posts = explain_posts(
        file.read(),
        settings=settings,
        tenant=tenant,
        source=name,
        now=SystemClock().now(),
        content_type=content_type,
        fetched=None if fetched is None else _object(fetched),
    )
    if isinstance(posts, Unreadable):
        raise LeadsError(f"the door would refuse it ({posts.fault}): {posts.message}")
    if not posts:
        raise LeadsError("the body was read and holds no lead: the door would answer 200 and store nothing")
    if as_json:
        click.echo(json.dumps([plain(post) for post in posts], indent=2, default=str, ensure_ascii=False))
        return
    kind = settings.tenants[tenant].sources[name].kind
    click.echo(f"{tenant}/{name} is of kind {kind}: {len(posts)} post{'s' if len(posts) > 1 else ''}")
    for number, post in enumerate(posts, start=1):
        _print_post(number, post)


@sources.command()
@click.argument("name")
@click.option("--tenant", help=_TENANT)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
@click.pass_obj
def fields(config_file: str | None, name: str, tenant: str | None, as_json: bool) -> None:
    """Show which fields came, and what of them is used.

    Of source NAME: each field's share of the posts, what it is used for, and what has changed.
    """
    from leads_pipeline.cli.keys import configured_source
    from leads_pipeline.domain.schema_drift import POSTS, drift_of
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.source_fields import known_fields

    settings = load_settings(config_file)
    tenant = configured_source(settings, tenant=tenant, source=name)
    engine = open_database(settings)
    try:
        with engine.connect() as connection:
            found = known_fields(connection, tenant=tenant, source=name)
    finally:
        engine.dispose()
    window = timedelta(hours=settings.slos.drift_window_hours)
    drift = drift_of(found, now=SystemClock().now(), window=window, min_posts=settings.slos.min_sample)
    changes = {item.field: "new, used for nothing" for item in drift.unknown}
    changes |= {item.field.field: f"{item.posts_since:,} posts came without it" for item in drift.vanished}
    posts = next((item.seen for item in found if item.field == POSTS), 0)
    rows = [
        {
            "field": item.field,
            "used_for": item.used_for,
            "seen": item.seen,
            "share": round(item.seen / posts, 4) if posts else None,
            "first_seen_at": item.first_seen_at.isoformat(),
            "last_seen_at": item.last_seen_at.isoformat(),
            "change": changes.get(item.field),
        }
        for item in found
        if item.field != POSTS
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        click.echo(f"No post of {tenant}/{name} has been validated yet.")
        return
    click.echo(f"{posts:,} posts of {tenant}/{name}")
    table = _table("field", "used for", "in posts", "share", "first seen (UTC)", "last seen (UTC)", "change")
    for item in found:
        if item.field == POSTS:
            continue
        table.add_row(
            item.field,
            item.used_for or "",
            f"{item.seen:,}",
            f"{100 * item.seen / posts:.0f} %" if posts else "",
            _minute(item.first_seen_at),
            _minute(item.last_seen_at),
            changes.get(item.field, ""),
        )
    _print(table)


def _print_post(number: int, post: "ExplainedPost") -> None:
    event = f"event {post.event_id}" if post.event_id else "no event id: its content is its key"
    click.echo(f"\nPost {number}: {event}, lane {post.lane}")
    for statement in post.consent:
        answer = "consent " + ("given" if statement.get("granted") is True else f"granted={statement.get('granted')!r}")
        told = ", ".join(f"{key} {value}" for key, value in statement.items() if key not in ("granted", "understood"))
        click.echo(f"  {answer}: {told}" + ("" if statement["understood"] else " (not understood, kept as sent)"))
    table = _table("field", "value", "becomes")
    for field in post.fields:
        becomes = ", ".join(field.used_for) or "kept as sent"
        if field.used_for and not field.taken:
            becomes += ", if filled and nothing better is"
        table.add_row(field.name, _short(field.value), becomes)
    _print(table)
    if post.fetched_from is not None:
        click.echo(f"  To be asked for before it is judged: GET {post.fetched_from}")
        click.echo("  Try the answer with --fetched FILE.")
    elif post.lead is not None:
        click.echo("  Valid:")
        for name, value in post.lead.items():
            shown = ", ".join(value) if isinstance(value, tuple) else value
            if isinstance(value, dict):
                shown = ", ".join(f"{key} {item}" for key, item in value.items())
            click.echo(f"    {name:<16} {shown}")
        if post.triage is not None:
            why = ", ".join(f"{factor.factor} {factor.points}" for factor in post.triage.factors)
            risk = f"{post.triage.risk} ({why})" if why else str(post.triage.risk)
            click.echo(f"  Verification: tier {post.triage.tier}, value {post.triage.value}, risk {risk}")
    else:
        click.echo("  Rejected:")
        for reason in post.rejected_for:
            click.echo(f"    {reason['rule']} ({reason['field']}, {reason['value_class']}): {reason['remedy']}")


def _object(file: Any) -> dict[str, Any]:
    try:
        answer = json.loads(file.read())
    except ValueError:
        raise LeadsError(f"{Path(file.name).name} is not JSON") from None
    if not isinstance(answer, dict):
        raise LeadsError(f"{Path(file.name).name} must hold the JSON object that the vendor answers")
    return answer


def _address(tenant: str, source: str) -> str:
    return f"/v1/in/{tenant}/{source}"


def _proof(source: SourceSettings) -> str:
    if source.kind == "google_ads":
        return "key in the body"
    return "signature" if source.kind in SIGNED_KINDS else "API key"


def _secrets(source: SourceSettings) -> list[SecretRef]:
    return [item for item in (source.secret, source.verify_token, source.access_token) if item is not None]


def _missing(source: SourceSettings) -> list[str]:
    missing = []
    for reference in _secrets(source):
        try:
            reference.resolve()
        except ConfigError:
            missing.append(reference.env)
    return missing


def _captured_last_day(settings: Settings) -> dict[tuple[str, str], int]:
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.status import captured_since

    engine = open_database(settings)
    try:
        with engine.connect() as connection:
            return captured_since(connection, SystemClock().now() - timedelta(days=1))
    finally:
        engine.dispose()


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:59] + "…"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _table(*columns: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: "Table") -> None:
    from rich.console import Console

    # Piped, a table of the terminal's usual 80 columns would break every address.
    Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False).print(table)
