"""From golden contacts back to ``verification_requests``: what was known of their addresses and numbers has expired.

Only where ``verification.cache.reverify`` says ``when_expired``. It asks in the last tier that looks the kind up, for
no more than the budgets leave beside new leads, and for no more at once than the provider answers in half of that
tier's time: new leads go first.
"""

from collections import Counter
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import VerificationSettings
from leads_pipeline.domain.ids import BatchId, uuid7
from leads_pipeline.domain.stage import ALL_LANES, Chunk
from leads_pipeline.domain.verification import LookupKind, Standing, WantedLookup
from leads_pipeline.storage import verification_calls as books
from leads_pipeline.storage.reverification import FIELD_OF, HeldValue, lookups_waiting, take_expired, values_held
from leads_pipeline.storage.verification_requests import enqueue_lookups
from leads_pipeline.storage.verification_switches import active_switches, tiers_in_force
from leads_pipeline.verification.account import Account

# This share of a provider's budgets is left to new leads, whatever the tier's own reserve.
KEPT_FOR_NEW_LEADS = 0.2
# Expired verdicts taken at once.
MOST_AT_ONCE = 1_000
# Verdicts that nobody holds any more are forgotten meanwhile, up to so many.
MOST_FORGOTTEN = 20_000


def ask_again(engine: sa.Engine, *, settings: VerificationSettings, clock: Clock, runner_id: str) -> dict[str, int]:
    """Ask again for what expired of contacts' addresses and numbers. Returns counts by kind and what became of it.

    Repeating it asks for the next ones, as far as the budgets leave room.
    """
    counts: Counter[str] = Counter()
    if settings.cache.reverify != "when_expired":
        return counts
    for kind in FIELD_OF:
        if settings.can_look_up(kind):
            _ask_again(engine, kind, settings, clock, runner_id, counts)
    return counts


def _ask_again(
    engine: sa.Engine,
    kind: LookupKind,
    settings: VerificationSettings,
    clock: Clock,
    runner_id: str,
    counts: Counter[str],
) -> None:
    tier = _tier_for(engine, kind, settings, clock)
    if tier is None:
        counts[f"{kind}_no_tier"] += 1
        return
    room = _room(engine, kind, tier, settings, clock)
    asked = forgotten = 0
    while asked < room and forgotten < MOST_FORGOTTEN:
        now = clock.now()
        with engine.begin() as connection:
            expired = take_expired(connection, kind, now=now, limit=min(MOST_AT_ONCE, room - asked))
            if not expired:
                break
            # Nobody could tell what an unknown one is: there is nothing that could have changed.
            telling = [item for item in expired if item.standing is not Standing.UNKNOWN]
            held = values_held(connection, kind, telling)
            by_tenant: dict[str, list[HeldValue]] = {}
            for value in held:
                by_tenant.setdefault(value.tenant, []).append(value)
            for tenant, values in by_tenant.items():
                chunk = Chunk(tenant, ALL_LANES, len(values), BatchId(uuid7(now)), runner_id, now)
                urgency = list(settings.tiers).index(tier)
                wanted = [
                    WantedLookup(item.lead_id, item.revision, kind, item.lane, tier, urgency, item.subject)
                    for item in values
                ]
                enqueue_lookups(connection, [(wish, now, False) for wish in wanted], chunk)
        asked += len(held)
        forgotten += len(expired) - len(held)
    counts[f"{kind}_asked_again"] += asked
    counts[f"{kind}_held_by_nobody"] += forgotten


def _tier_for(engine: sa.Engine, kind: LookupKind, settings: VerificationSettings, clock: Clock) -> str | None:
    """The last tier that looks the kind up, also as it is treated now."""
    with engine.connect() as connection:
        in_force = tiers_in_force(settings.tiers, active_switches(connection, now=clock.now()))
    tiers = [tier for tier in settings.tiers if kind in settings.lookups_of(tier)]
    return tiers[-1] if tiers and kind in settings.lookups_of(in_force[tiers[-1]]) else None


def _room(engine: sa.Engine, kind: LookupKind, tier: str, settings: VerificationSettings, clock: Clock) -> int:
    """How many may be asked for now: what the first provider that can be asked answers soon and its budgets pay."""
    now, allowed = clock.now(), settings.tiers[tier]
    for name in settings.providers_of(kind):
        account = Account(name, settings, engine=engine, clock=clock)
        if account.trouble(now=now) is not None:
            continue
        with engine.connect() as connection:
            waiting = lookups_waiting(connection, kind)
            spend = books.spend_of(connection, name, account.settings, now=now)
        kept_back = max(KEPT_FOR_NEW_LEADS, allowed.budget_reserve)
        paid = books.affordable(spend, account.settings, kept_back=kept_back)
        soon = account.lookups_within(timedelta(seconds=allowed.slo_seconds / 2))
        return max(0, (soon if paid is None else min(paid, soon)) - waiting)
    return 0
