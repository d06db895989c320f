"""``leads policy``: rules that act: what they look at, what they did and why; put one aside, try others on what was."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leads_pipeline.cli._audit import ACTOR, WORDS
from leads_pipeline.cli._spans import span_option
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import PolicySettings, Settings, load_settings
from leads_pipeline.config.loading import parse_with_policies
from leads_pipeline.errors import NotFound

if TYPE_CHECKING:
    from leads_pipeline.steps.simulated_policies import WouldAct
    from leads_pipeline.storage.policies import Action

_LOOKING_BACK = click.option(
    "--since", "lasting", default="1d", show_default=True, callback=span_option, metavar="SPAN",
    help="How far to look back: 30m, 6h, 2d.",
)  # fmt: skip


@click.group()
def policy() -> None:
    """Rules of leads.yaml that act on what is measured, and what they did."""


@policy.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def list_rules(config_file: str | None, as_json: bool) -> None:
    """Show every rule: its condition, what it does, and where it stands.

    Example: leads policy list
    """
    from leads_pipeline.storage import policies as rows
    from leads_pipeline.storage.open import open_database

    settings, now = load_settings(config_file), SystemClock().now()
    with open_database(settings).connect() as connection:
        pauses = rows.pauses_in_force(connection, now=now)
        states = {name: rows.read_states(connection, name) for name in settings.policies}
    listed: list[dict[str, Any]] = [
        {
            "policy": name,
            "description": rule.description,
            "when": condition(rule),
            "then": effect(rule),
            "state": _state(rule, name in pauses, [str(item.standing.state) for item in states[name].values()]),
            "targets": [
                {"target": item.target, "state": str(item.standing.state), "value": item.value}
                for item in states[name].values()
            ],
        }
        for name, rule in settings.policies.items()
    ]
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    for item in listed:
        color = {"acting": "yellow", "recovering": "yellow", "holding": "cyan"}.get(item["state"])
        click.echo(f"{item['policy']:<22} {click.style(item['state'], fg=color)}")
        click.echo(f"  when {item['when']}; then {item['then']}")
        for target in item["targets"]:
            value = "not measured" if target["value"] is None else f"{target['value']:g}"
            click.echo(f"  {target['target'] or 'everything'}: {target['state']}, {value}")
    click.echo("`leads policy show NAME` tells more; `leads policy history` what was done")


@policy.command()
@click.argument("name")
@click.pass_obj
def show(config_file: str | None, name: str) -> None:
    """Show one rule: all that it goes by, where it stands, and what it did last.

    Example: leads policy show backlog_old
    """
    from leads_pipeline.storage import policies as rows
    from leads_pipeline.storage.open import open_database

    settings, now = load_settings(config_file), SystemClock().now()
    rule = _rule(settings, name)
    with open_database(settings).connect() as connection:
        pause = rows.pauses_in_force(connection, now=now).get(name)
        states = rows.read_states(connection, name)
        actions = rows.find_actions(connection, policy=name, limit=10)
    click.echo(f"{name}: {rule.description or 'no description'}")
    click.echo(f"  when {condition(rule)}, for {rule.for_seconds:g} s")
    click.echo(f"  then {effect(rule)}")
    click.echo(
        f"  until {rule.when.measure} {'<' if rule.when.above is not None else '>'} {rule.well:g} for "
        f"{rule.recover_seconds:g} s, at most {rule.at_most_seconds:g} s; then {rule.cool_down_seconds:g} s nothing"
    )
    if not rule.enabled:
        click.echo("  not enabled in leads.yaml")
    if rule.dry_run:
        click.echo("  dry run: what it would do is recorded, and nobody obeys")
    if pause is not None:
        end = "it is resumed" if pause.until is None else f"{pause.until:%Y-%m-%d %H:%M} UTC"
        click.echo(f"  put aside by {pause.actor} until {end}: {pause.reason}")
    for state in states.values():
        value = "not measured" if state.value is None else f"{state.value:g}"
        since = f"{state.standing.since:%H:%M:%S}"
        click.echo(f"  {state.target or 'everything'}: {state.standing.state} since {since} UTC, {value}")
    for action in actions:
        click.echo(f"  {_line(action)}")


@policy.command()
@click.option("--policy", "name", help="Only this rule's.")
@_LOOKING_BACK
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def history(config_file: str | None, name: str | None, lasting: timedelta, limit: int, as_json: bool) -> None:
    """Show what rules did, the latest first: about what, why, from when to when, and why it ended.

    Example: leads policy history --since 2d
    """
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.policies import find_actions

    settings, now = load_settings(config_file), SystemClock().now()
    with open_database(settings).connect() as connection:
        found = find_actions(connection, since=now - lasting, policy=name, limit=limit)
    if as_json:
        click.echo(json.dumps([_as_json(action) for action in found], indent=2))
        return
    for action in found:
        click.echo(_line(action))
    if not found:
        click.echo("no rule has done anything")


@policy.command()
@click.argument("name")
@ACTOR
@click.option("--reason", required=True, type=WORDS, help="Why; it is kept. No personal data.")
@click.option(
    "--for", "lasting", callback=span_option, metavar="SPAN",
    help="How long: 30m, 2h, 1d; until it is resumed if unset.",
)  # fmt: skip
@click.pass_obj
def pause(config_file: str | None, name: str, actor: str, reason: str, lasting: timedelta | None) -> None:
    """Put a rule aside. What it has ordered ends at once, as when a lane is to go on that it had paused.

    Example: leads policy pause real_time_late --actor kim --reason "planned import" --for 2h
    """
    from leads_pipeline.storage import policies as rows
    from leads_pipeline.storage.open import open_database

    settings, now = load_settings(config_file), SystemClock().now()
    _rule(settings, name)
    until = None if lasting is None else now + lasting
    with open_database(settings).begin() as connection:
        ended = rows.pause_rule(connection, rows.Pause(name, now, until, actor, reason))
    click.echo(f"{name} is put aside {'until it is resumed' if until is None else f'until {until:%Y-%m-%d %H:%M} UTC'}")
    for target in ended:
        click.echo(f"  ended: what it had ordered for {target or 'everything'}")


@policy.command()
@click.argument("name")
@click.pass_obj
def resume(config_file: str | None, name: str) -> None:
    """Let a rule that was put aside look again.

    Example: leads policy resume real_time_late
    """
    from leads_pipeline.storage.open import open_database
    from leads_pipeline.storage.policies import resume_rule

    with open_database(load_settings(config_file)).begin() as connection:
        if not resume_rule(connection, name):
            raise NotFound(f"the rule {name!r} is not put aside; `leads policy list` shows which are")
    click.echo(f"{name} looks again")


@policy.command()
@click.option(
    "--with", "other", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another leads.yaml, or a file with policies: alone; leads.yaml as it is if unset.",
)  # fmt: skip
@_LOOKING_BACK
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def simulate(config_file: str | None, other: Path | None, lasting: timedelta, as_json: bool) -> None:
    """Replay the last day under other rules: when each would have acted and for how long, beside what happened.

    It goes by what was measured once a minute, at most two days back. Changes nothing.

    Example: leads policy simulate --with changed.yaml
    """
    from leads_pipeline.steps.simulated_policies import seconds_in_force
    from leads_pipeline.steps.simulated_policies import simulate as replay
    from leads_pipeline.storage.open import open_database

    settings, now = load_settings(config_file), SystemClock().now()
    rules = settings if other is None else parse_with_policies(settings.path, other)
    found = replay(open_database(settings), settings=rules, since=now - lasting, until=now)
    if as_json:
        told = {
            "since": found.since.isoformat(),
            "until": found.until.isoformat(),
            "minutes_measured": found.minutes,
            "never_measured": found.unmeasured,
            "would": [_would_as_json(item) for item in found.would],
            "did": [_as_json(action) for action in found.did],
        }
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"{found.minutes:,} minutes were measured since {found.since:%Y-%m-%d %H:%M} UTC")
    if found.unmeasured:
        click.echo(f"never measured: {', '.join(found.unmeasured)}")
    for name in rules.policies:
        would = [item for item in found.would if item.policy == name]
        did = [action for action in found.did if action.policy == name]
        if not would and not did:
            continue
        done = sum(((action.ended_at or now) - action.began_at for action in did), timedelta())
        click.echo(
            f"{name}: would have acted {len(would)} times, {_span(seconds_in_force(would, until=now))}; "
            f"acted {len(did)} times, {_span(done)}"
        )
        for item in would:
            end = "still" if item.ended_at is None else f"{item.ended_at:%H:%M}, {item.ending}"
            target = item.target or "everything"
            click.echo(f"  would  {item.began_at:%m-%d %H:%M} to {end}  {target}  at {item.value:g}")
        for action in did:
            click.echo(f"  did    {_line(action)}")
    if not found.would and not found.did:
        click.echo("no rule would have acted, and none did")


def condition(rule: PolicySettings) -> str:
    """A rule's condition in one line."""
    when = rule.when
    filters = [
        f"{name} {'/'.join(allowed)}"
        for name in ("tenant", "lane", "stage", "destination", "source")
        if (allowed := getattr(when, name))
    ]
    side = "above" if when.above is not None else "below"
    combined = f"{when.combine} " if when.combine else ""
    return f"{combined}{when.measure} {side} {when.limit:g}" + (f" of {', '.join(filters)}" if filters else "")


def effect(rule: PolicySettings) -> str:
    """A rule's action in one line."""
    then = rule.then
    about = {name: value for name in ("tenant", "lane", "destination") if (value := getattr(then, name)) is not None}
    told = " ".join(f"{name} {value}" for name, value in {**then.parameters(), **about}.items())
    return f"{then.action} {told}".strip()


def _state(rule: PolicySettings, paused: bool, states: list[str]) -> str:
    if not rule.enabled:
        return "not enabled"
    if paused:
        return "put aside"
    worst = next((name for name in ("acting", "recovering", "holding", "cooling") if name in states), "idle")
    return f"{worst} (dry run)" if rule.dry_run else worst


def _rule(settings: Settings, name: str) -> PolicySettings:
    rule = settings.policies.get(name)
    if rule is None:
        raise NotFound(f"{settings.path} has no policy {name!r}; defined: {', '.join(settings.policies)}")
    return rule


def _line(action: "Action") -> str:
    cause = action.cause
    limit = f"above {cause['above']:g}" if "above" in cause else f"below {cause['below']:g}" if "below" in cause else ""
    why = f"{cause.get('measure', '')} {cause['value']:g} {limit}" if "value" in cause else ""
    if action.ended_at is not None:
        end = f"{action.ended_at:%H:%M:%S} ({_span(action.ended_at - action.began_at)}), {action.ended_for}"
    else:
        end = f"in force, until {action.ends_at:%H:%M:%S} if nobody renews it"
    dry = " (dry run)" if action.is_dry else ""
    target = action.target or "everything"
    return f"{action.began_at:%Y-%m-%d %H:%M:%S} to {end}  {action.policy}: {action.action}{dry}, {target}, {why}"


def _span(span: timedelta) -> str:
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def _as_json(action: "Action") -> dict[str, Any]:
    return {
        "action_id": str(action.action_id),
        "policy": action.policy,
        "target": action.target,
        "action": action.action,
        "tenant": action.tenant,
        "lane": action.lane,
        "destination": action.destination,
        "parameters": dict(action.parameters),
        "cause": dict(action.cause),
        "began_at": action.began_at.isoformat(),
        "ends_at": action.ends_at.isoformat(),
        "ended_at": _instant(action.ended_at),
        "ended_for": action.ended_for,
        "ended_by": action.ended_by,
    }


def _would_as_json(item: "WouldAct") -> dict[str, Any]:
    return {
        "policy": item.policy,
        "target": item.target,
        "action": item.action,
        "value": item.value,
        "began_at": item.began_at.isoformat(),
        "ended_at": _instant(item.ended_at),
        "ended_for": None if item.ending is None else str(item.ending),
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
