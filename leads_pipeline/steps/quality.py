"""What becomes of validated leads that break the rules of ``domain.expectations``: held, let pass, judged again.

A group (a source's leads of one day) that breaks a rule waits at the door of ``deduped_leads``; all others go on. It
passes when it is examined again and found good, or when an operator lets it. Each call is one transaction.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.expectations import (
    Finding,
    Group,
    Rule,
    Tally,
    broken_rules,
    drift_rules,
    history_of,
    row_rules,
)
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.storage import quality_holds
from leads_pipeline.storage.quality import days_before, latest, leads_waiting
from leads_pipeline.storage.quality_holds import Hold, find_holds
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# How far back a source's history goes in the batch lane: files that come once a week have four days in it.
HISTORY_DAYS = 28

# What the hot chain looks at: of the last hour the newest rows, and as many of this time on each earlier day.
HOT_WINDOW = timedelta(hours=1)
HOT_ROWS = 5_000
HOT_ROWS_PER_DAY = 1_000


@dataclass(frozen=True, slots=True)
class Standard:
    """What one group is held to. ``usual_country`` is the one that most of its source's earlier leads had."""

    rules: tuple[Rule, ...]
    usual_country: str | None

    def broken_by(self, counts: Tally) -> list[Finding]:
        return broken_rules(counts, self.rules, usual_country=self.usual_country)


@dataclass(frozen=True, slots=True)
class Held:
    """What came of one examination. ``newly`` and ``still`` held, ``released`` by an operator, and ``passed`` now."""

    newly: tuple[Group, ...]
    still: tuple[Group, ...]
    released: tuple[Group, ...]
    passed: tuple[Group, ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        return tuple(sorted((*self.newly, *self.still)))


def standards(
    connection: sa.Connection, rows: Mapping[Group, int], *, settings: Settings, now: datetime
) -> dict[Group, Standard]:
    """What each group is held to, given how many rows of it are looked at."""
    history = days_before(connection, rows.keys(), days=HISTORY_DAYS, now=now)
    return {group: _standard(history[group], count, settings=settings, now=now) for group, count in rows.items()}


def judge_latest(
    connection: sa.Connection, *, settings: Settings, now: datetime
) -> dict[Group, tuple[Standard, Tally]]:
    """By source, what the hot lanes' newest leads are held to and what was counted in them."""
    rules = row_rules(tiers=settings.verification.tiers, now=now)
    found = latest(connection, rules, now=now, window=HOT_WINDOW, limit=HOT_ROWS, per_day=HOT_ROWS_PER_DAY)
    return {
        group: (_standard(days, counts.rows, settings=settings, now=now), counts)
        for group, (counts, days) in found.items()
    }


def hold_back(
    engine: sa.Engine,
    broken: Mapping[Group, Iterable[str]],
    *,
    examined: Collection[Group],
    runner_id: str,
    now: datetime,
) -> Held:
    """Hold the groups that break rules (by name), and let those pass that were held and break none any more.

    A group that an operator released is held again only for a rule that it did not break then.
    """
    newly: list[Group] = []
    still: list[Group] = []
    released: list[Group] = []
    passed: list[Group] = []
    with engine.begin() as connection:
        opened = {hold.group: hold for hold in find_holds(connection)}
        let_pass = quality_holds.released_rules(connection, broken.keys())
        for group, names in sorted(broken.items()):
            rules = sorted(set(names))
            if group not in opened and set(rules) <= let_pass.get(group, frozenset()):
                released.append(group)
                continue
            quality_holds.hold(connection, group, rules=rules, runner_id=runner_id, now=now)
            (still if group in opened else newly).append(group)
        for group, hold in sorted(opened.items()):
            if group in broken or hold.validating or (group not in examined and hold.waiting):
                continue
            how = "passed" if group in examined else "gone"
            quality_holds.end_hold(connection, hold.hold_id, resolution=how, actor=runner_id, reason=None, now=now)
            passed.append(group)
    for group in newly:
        log.warning("leads_held", tenant=group.tenant, source=group.source, day=str(group.day))
    return Held(tuple(newly), tuple(still), tuple(released), tuple(passed))


def release(engine: sa.Engine, hold_id: int, *, actor: str, reason: str, now: datetime) -> int:
    """Let the leads of a hold pass as they are. Returns how many are due now.

    Raises:
        NotFound: there is no such hold, or it has ended.
    """
    with engine.begin() as connection:
        found = _open(connection, hold_id)
        due = quality_holds.end_hold(connection, hold_id, resolution="released", actor=actor, reason=reason, now=now)
    log.info("hold_released", hold_id=hold_id, tenant=found.group.tenant, actor=actor, leads=due)
    return due or 0


def recheck(engine: sa.Engine, hold_id: int, *, settings: Settings, actor: str, now: datetime) -> list[Finding]:
    """Count the leads of a hold by the rules as they are now; if they break none any more, the hold ends.

    Raises:
        NotFound: there is no such hold, or it has ended.
        LeadsError: its leads are on their way through validation.
    """
    with engine.begin() as connection:
        found = _open(connection, hold_id)
        if found.validating:
            raise LeadsError(
                f"{found.validating} leads of hold {hold_id} wait to be validated again; the next batch run does that "
                "and examines them"
            )
        rules = row_rules(tiers=settings.verification.tiers, now=now)
        counts = leads_waiting(connection, found.group, rules, now=now)
        if counts.rows == 0:
            quality_holds.end_hold(connection, hold_id, resolution="gone", actor=actor, reason=None, now=now)
            return []
        standard = standards(connection, {found.group: counts.rows}, settings=settings, now=now)[found.group]
        findings = standard.broken_by(counts)
        if findings:
            names = sorted(finding.rule.name for finding in findings)
            quality_holds.hold(connection, found.group, rules=names, runner_id=actor, now=now)
        else:
            quality_holds.end_hold(connection, hold_id, resolution="passed", actor=actor, reason=None, now=now)
    return findings


def validate_again(engine: sa.Engine, hold_id: int, *, actor: str, reason: str | None, now: datetime) -> int:
    """Send the leads of a hold through validation once more, with mapping and rules as they are now.

    They come back to the same door as a new revision and stay held until they are examined. Returns how many.

    Raises:
        NotFound: there is no such hold, or it has ended.
    """
    with engine.begin() as connection:
        _open(connection, hold_id)
        leads = quality_holds.validate_again(connection, hold_id, actor=actor, reason=reason, now=now)
    log.info("held_leads_validated_again", hold_id=hold_id, actor=actor, leads=leads)
    return leads


def _standard(days: list[Tally], rows: int, *, settings: Settings, now: datetime) -> Standard:
    min_sample = settings.slos.min_sample
    history = history_of(days, min_sample=min_sample)
    rules = (
        *row_rules(tiers=settings.verification.tiers, now=now),
        *drift_rules(history, rows=rows, min_sample=min_sample),
    )
    return Standard(rules, history.usual_country if history else None)


def _open(connection: sa.Connection, hold_id: int) -> Hold:
    found = find_holds(connection, hold_id=hold_id)
    if not found:
        raise NotFound(f"there is no open hold {hold_id}; `leads quality list` shows what is held")
    return found[0]
