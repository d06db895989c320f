"""What rules, as they are or changed, would have done with what was measured: minute by minute.

Nothing is written. A measure is what it was: that an action would have changed what was measured after it cannot be
known, so that a rule that hides or heals its own measure acts longer here than it would have.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.policies import Effect, Ending, Standing, idle, step
from leads_pipeline.domain.policy_targets import values_of
from leads_pipeline.storage import measure_history
from leads_pipeline.storage.measure_history import Taken
from leads_pipeline.storage.policies import Action, find_actions
from leads_pipeline.watching.rules import is_known, rule_of, selection_of

_MOST_ACTIONS = 10_000


@dataclass(frozen=True, slots=True)
class WouldAct:
    """One action that a rule would have begun. ``ended_at`` of ``None``: it would still be in force."""

    policy: str
    target: str
    action: str
    began_at: datetime
    value: float
    ended_at: datetime | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Simulation:
    """What would have happened beside what did. ``minutes``: how many were measured."""

    since: datetime
    until: datetime
    minutes: int
    would: tuple[WouldAct, ...]
    did: tuple[Action, ...]
    unmeasured: tuple[str, ...]  # measures that rules ask for and that were never taken


def simulate(engine: sa.Engine, *, settings: Settings, since: datetime, until: datetime) -> Simulation:
    """Let the rules of ``settings`` look at what was measured between two instants."""
    with engine.connect() as connection:
        minutes = list(measure_history.kept_between(connection, since=since, until=until))
        did = find_actions(connection, since=since, limit=_MOST_ACTIONS)
    asked = {rule.when.measure for rule in settings.policies.values() if rule.enabled}
    seen = {name for _at, taken in minutes for name in taken}
    would = sorted(
        (item for name, rule in settings.policies.items() if rule.enabled for item in _played(name, settings, minutes)),
        key=lambda item: (item.began_at, item.policy, item.target),
    )
    return Simulation(since, until, len(minutes), tuple(would), tuple(reversed(did)), tuple(sorted(asked - seen)))


def _played(name: str, settings: Settings, minutes: Iterable[tuple[datetime, Taken]]) -> list[WouldAct]:
    configured = settings.policies[name]
    rule, selection = rule_of(configured), selection_of(configured)
    standings: dict[str, Standing] = {}
    acting: dict[str, WouldAct] = {}
    over: list[WouldAct] = []
    for now, taken in minutes:
        values = values_of(selection, taken.get(selection.measure), known=tuple(standings))
        for target, value in values.items():
            if not is_known(settings, configured, target):
                continue
            after = step(rule, standings.get(target, idle(now)), value, now)
            standings[target] = after.standing
            if after.effect is Effect.BEGIN and value is not None:
                acting[target] = WouldAct(name, target, configured.then.action, now, value)
            elif after.effect is Effect.END and target in acting:
                begun = acting.pop(target)
                # Looked at once a minute, it ends no later than it would have.
                ended_at = min(now, begun.began_at + rule.at_most)
                over.append(replace(begun, ended_at=ended_at, ending=after.ending))
    return [*over, *acting.values()]


def seconds_in_force(items: Iterable[WouldAct], *, until: datetime) -> timedelta:
    """How long actions would have been in force, added up."""
    return sum(((item.ended_at or until) - item.began_at for item in items), timedelta())
