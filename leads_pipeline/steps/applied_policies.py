"""From measurements to actions: every rule of leads.yaml looks at its targets once.

Each rule has a transaction of its own, in which its decision and its order are written together: a crash leaves both or
neither, and a rule that fails leaves the others alone. A second engine that is at it at the same time changes nothing:
what decides is how long something has held, not how often somebody looked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import PolicySettings, Settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.policies import (
    Effect,
    Ending,
    PolicyState,
    Standing,
    Step,
    expired,
    idle,
    step,
)
from leads_pipeline.domain.policy_targets import values_of
from leads_pipeline.storage import policies as rows
from leads_pipeline.storage.database import translated_errors
from leads_pipeline.storage.measure_history import Taken
from leads_pipeline.storage.policies import NewAction, OpenAction, RuleAtTarget
from leads_pipeline.telemetry import get_logger
from leads_pipeline.watching.rules import is_known, order_of, rule_of, selection_of

log = get_logger(__name__)

# An order that nobody renews ends after so long: six looks of the engine.
LEASE = timedelta(minutes=3)
ENGINE = "policy engine"


@dataclass(frozen=True, slots=True)
class Acted:
    """One action that began or ended in a look."""

    action_id: UUID
    policy: str
    target: str
    action: str
    cause: Mapping[str, Any] = field(default_factory=dict)
    ending: Ending | None = None
    is_dry: bool = False


@dataclass(slots=True)
class PolicyReport:
    """What one look at all rules came to. ``failed``: rules with the class of their error."""

    began: list[Acted] = field(default_factory=list)
    ended: list[Acted] = field(default_factory=list)
    acting: int = 0
    holding: int = 0
    unmeasured: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    busy: bool = False


def apply_policies(
    engine: sa.Engine, *, settings: Settings, clock: Clock, runner_id: str, taken: Taken
) -> PolicyReport:
    """Let every rule look at what was measured. Rules that fail are named and logged, the others go on.

    Raises:
        DatabaseUnavailable: the database cannot be reached. Orders end by themselves.
    """
    report = PolicyReport()
    with translated_errors("policies ask which rules are put aside"), engine.connect() as connection:
        paused = rows.pauses_in_force(connection, now=clock.now())
        kept = rows.rules_with_traces(connection)
    for name in sorted(kept | settings.policies.keys()):
        rule = settings.policies.get(name)
        try:
            with engine.begin() as connection:
                if not rows.alone(connection):
                    report.busy = True
                    return report
                if rule is None or not rule.enabled or name in paused:
                    ending = Ending.PAUSED if name in paused else Ending.RULE_GONE
                    if name in kept:
                        _end_all(connection, name, ending, report, now=clock.now())
                    continue
                one = _OneRule(connection, name, rule, settings, runner_id, clock.now())
                one.look(taken)
        except Exception as error:  # noqa: BLE001 - one rule's trouble must not switch the others off
            log.error("policy_failed", policy=name, error_type=type(error).__name__)  # noqa: TRY400 - a driver's message may quote values
            report.failed[name] = type(error).__name__
            continue
        one.tell(report)
        if rule.when.measure not in taken and rule.when.measure not in report.unmeasured:
            report.unmeasured.append(rule.when.measure)
    return report


class _OneRule:
    """One look of one rule, within its transaction."""

    def __init__(
        self,
        connection: sa.Connection,
        name: str,
        settings: PolicySettings,
        whole: Settings,
        runner_id: str,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._name = name
        self._settings = settings
        self._whole = whole
        self._runner_id = runner_id
        self._now = now
        self._rule = rule_of(settings)
        self._began: list[Acted] = []
        self._ended: list[Acted] = []
        self._acting = self._holding = 0

    def look(self, taken: Taken) -> None:
        """Take every target one step further."""
        selection = selection_of(self._settings)
        states = rows.read_states(self._connection, self._name)
        values = values_of(selection, taken.get(selection.measure), known=tuple(states))
        for target, value in values.items():
            before = states.get(target)
            if (before is None or before.action is None) and not is_known(self._whole, self._settings, target):
                rows.forget_state(self._connection, self._name, target)
                continue
            self._at(target, before, value)

    def tell(self, report: PolicyReport) -> None:
        """Add what was done to the report; called once it is committed."""
        report.began += self._began
        report.ended += self._ended
        report.acting += self._acting
        report.holding += self._holding
        for acted in self._began:
            log.warning("policy_acts", policy=acted.policy, target=acted.target, action=acted.action, **acted.cause)
        for acted in self._ended:
            log.warning("policy_ended", policy=acted.policy, target=acted.target, action=acted.action, why=acted.ending)

    def _at(self, target: str, before: RuleAtTarget | None, value: float | None) -> None:
        standing, action = (before.standing, before.action) if before else (idle(self._now), None)
        order = order_of(self._name, self._settings, target, runner_id=self._runner_id)
        if action is not None and (not is_known(self._whole, self._settings, target) or not _is_same(action, order)):
            self._end(action, Ending.RULE_GONE, value)
            standing, action = idle(self._now), None
        elif action is not None and action.ends_at <= self._now:
            standing = self._after_expiry(action, standing, value)
            action = None
        elif action is None and standing.acts:  # its order was ended by somebody else
            standing = idle(self._now)
        after = step(self._rule, standing, value, self._now)
        self._carry_out(target, standing, after, action, order, value)

    def _after_expiry(self, action: OpenAction, standing: Standing, value: float | None) -> Standing:
        if action.ends_at - action.began_at >= self._rule.at_most:
            self._end(action, Ending.LONGEST, value)
            return Standing(PolicyState.COOLING, action.ends_at, self._now)
        self._end(action, Ending.EXPIRED, value)
        return expired(standing, self._now)

    def _carry_out(
        self,
        target: str,
        before: Standing,
        after: Step,
        action: OpenAction | None,
        order: NewAction,
        value: float | None,
    ) -> None:
        action_id = None if action is None else action.action_id
        began_at = after.standing.acting_since or self._now
        ends_at = min(self._now + LEASE, began_at + self._rule.at_most)
        if after.effect is Effect.BEGIN:
            assert value is not None, "nothing begins without evidence"
            action_id = uuid7(self._now)
            cause = self._cause(value, since=before.since if before.state is PolicyState.HOLDING else self._now)
            told = replace(order, cause=cause)
            rows.begin_action(self._connection, told, action_id=action_id, now=self._now, ends_at=ends_at)
            self._began.append(Acted(action_id, self._name, target, order.action, cause, is_dry=self._settings.dry_run))
        elif after.effect is Effect.KEEP and action is not None:
            rows.renew_action(self._connection, action.action_id, ends_at=ends_at)
        elif after.effect is Effect.END and action is not None:
            assert after.ending is not None, "an action ends for a reason"
            self._end(action, after.ending, value)
            action_id = None
        rows.write_state(self._connection, self._name, target, after.standing, value=value, action_id=action_id)
        self._acting += after.standing.acts
        self._holding += after.standing.state is PolicyState.HOLDING

    def _cause(self, value: float, *, since: datetime) -> dict[str, Any]:
        when = self._settings.when
        return {
            "measure": when.measure,
            "value": value,
            "above" if when.above is not None else "below": when.limit,
            "held_seconds": max(0.0, (self._now - since).total_seconds()),
        }

    def _end(self, action: OpenAction, ending: Ending, value: float | None) -> None:
        rows.end_action(self._connection, action.action_id, ending=ending, ended_by=ENGINE, value=value, now=self._now)
        dry = "dry_run" in action.parameters
        self._ended.append(Acted(action.action_id, self._name, action.target, action.action, ending=ending, is_dry=dry))


def _is_same(action: OpenAction, order: NewAction) -> bool:
    """Whether the rule would still order what it has ordered."""
    return (action.action, action.tenant, action.lane, action.destination, dict(action.parameters)) == (
        order.action,
        order.tenant,
        order.lane,
        order.destination,
        dict(order.parameters),
    )


def _end_all(connection: sa.Connection, name: str, ending: Ending, report: PolicyReport, *, now: datetime) -> None:
    open_actions = [state.action for state in rows.read_states(connection, name).values() if state.action]
    rows.end_rule(connection, name, ending=ending, ended_by=ENGINE, now=now)
    report.ended += [
        Acted(item.action_id, name, item.target, item.action, ending=ending, is_dry="dry_run" in item.parameters)
        for item in open_actions
    ]
