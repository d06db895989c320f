"""How verification stands now: its providers, its tiers and what waits; for people, checks and metadata.

Reads only: nothing is reserved, and no probe is taken. Keep out: how it is shown (``cli``, ``defs``). Nothing here is
personal, and a key is only ever named by its variable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.config import ProviderSettings, Settings, VerificationSettings
from leads_pipeline.outbound.breaker import Breaker, BreakerState, read_breakers
from leads_pipeline.storage import verification_calls as books
from leads_pipeline.storage import verification_measurements as measurements
from leads_pipeline.storage.verification_calls import MICROS, Spend
from leads_pipeline.storage.verification_measurements import TierRecord, Unanswered
from leads_pipeline.storage.verification_requests import WaitingLookups, waiting_lookups
from leads_pipeline.storage.verification_switches import Switch, active_switches, tiers_in_force
from leads_pipeline.verification.account import Account, Trouble
from leads_pipeline.verification.port import Outcome

# How far back a refusal is looked for, to tell its status.
_REFUSED_WITHIN = timedelta(days=1)
# After these a person must act.
_FOR_A_PERSON = frozenset({Outcome.REFUSED, Outcome.OUT_OF_CREDIT})
# What a breaker remembers of the last failure, in words.
_FAILED_WITH: Mapping[str, str] = {
    Outcome.BROKEN: "with an error of its own (broken)",
    Outcome.NOT_SENT: "as it could not be reached (not_sent)",
    Outcome.LOST: "as its answer was lost (lost)",
}
# These end by themselves.
_BY_ITSELF = {"daily": "has answered as often as it does in a day", "paused": "asked for a pause"}


@dataclass(frozen=True, slots=True)
class ProviderStanding:
    """A provider's account. ``place``: in the order of asking, from 1; ``None``: no kind of look-up names it.

    ``pays_for``: by tier that looks the kind up, how many more look-ups the budgets pay for; ``None``: any number.
    ``refused_with``: the HTTP status of the latest refusal while its breaker is open for it.
    """

    name: str
    kind: str
    place: int | None
    settings: ProviderSettings
    spend: Spend
    pays_for: Mapping[str, int | None]
    unanswered: Unanswered
    breaker: Breaker | None
    refused_with: int | None
    has_key: bool
    trouble: Trouble | None

    @property
    def state(self) -> BreakerState:
        return self.breaker.state if self.breaker else BreakerState.CLOSED

    @property
    def day_left(self) -> int | None:
        """What is left of the day's budget, in micros; ``None``: it has none."""
        return _left(self.settings.budget.per_day, self.spend.micros_today)

    @property
    def month_left(self) -> int | None:
        """What is left of the month's."""
        return _left(self.settings.budget.per_month, self.spend.micros_month)

    @property
    def is_spent(self) -> bool:
        """No look-up can be paid any more, of any tier that has some."""
        return bool(self.pays_for) and all(lookups == 0 for lookups in self.pays_for.values())


@dataclass(frozen=True, slots=True)
class TierStanding:
    """A tier, as what it is treated now, and how its look-ups went within the window."""

    tier: str
    treated_as: str
    lookups: tuple[str, ...]
    switch: Switch | None
    patience_seconds: float
    slo_seconds: float
    slo_share: float
    record: TierRecord


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it. ``waiting``: every queue of look-ups that is not empty, also those of tiers no longer configured."""

    providers: tuple[ProviderStanding, ...]
    tiers: tuple[TierStanding, ...]
    waiting: tuple[WaitingLookups, ...]

    def advice(self, *, now: datetime) -> dict[str, str]:
        """By provider that is asked: what is wrong with it and what helps; those in order are left out."""
        told = {each.name: advice(each, now=now) for each in self.providers if each.place is not None}
        return {name: words for name, words in told.items() if words is not None}


def take_overview(engine: sa.Engine, *, settings: Settings, clock: Clock) -> Overview:
    """How verification stands now."""
    now, verification = clock.now(), settings.verification
    window = timedelta(hours=settings.slos.verification_window_hours)
    with engine.connect() as connection:
        waiting = waiting_lookups(connection, now=now)
        switches = active_switches(connection, now=now)
        records = measurements.verified_in_time(
            connection,
            {name: tier.slo_seconds for name, tier in verification.tiers.items()},
            since=now - window,
            now=now,
        )
    newest = {switch.tier: switch for switch in switches}
    in_force = tiers_in_force(verification.tiers, switches)
    return Overview(
        providers=provider_standings(engine, settings=verification, clock=clock),
        tiers=tuple(
            TierStanding(
                tier=name,
                treated_as=in_force[name],
                lookups=verification.lookups_of(in_force[name]),
                switch=newest.get(name),
                patience_seconds=tier.patience_seconds,
                slo_seconds=tier.slo_seconds,
                slo_share=tier.slo_share,
                record=record,
            )
            for (name, tier), record in zip(verification.tiers.items(), records, strict=True)
        ),
        waiting=tuple(waiting),
    )


def provider_standings(
    engine: sa.Engine, *, settings: VerificationSettings, clock: Clock
) -> tuple[ProviderStanding, ...]:
    """Every configured provider, in the order of asking, kind by kind; then those that nothing names."""
    asked = [name for kind in ("mailbox", "phone") for name in settings.providers_of(kind)]
    names = [*asked, *(name for name in settings.providers if name not in asked)]
    return tuple(_provider(engine, name, settings, clock) for name in names)


def _provider(engine: sa.Engine, name: str, settings: VerificationSettings, clock: Clock) -> ProviderStanding:
    now = clock.now()
    account = Account(name, settings, engine=engine, clock=clock)
    kind = str(account.provider.quirks.kind)
    order = settings.providers_of(kind)
    with engine.connect() as connection:
        spend = books.spend_of(connection, name, account.settings, now=now)
        breakers = read_breakers(connection, name)
        unanswered = measurements.unanswered_calls(connection, lost_before=now - account.lease).get(name, Unanswered())
        reason = breakers[0].reason if breakers and breakers[0].state is not BreakerState.CLOSED else None
        refused_with = (
            measurements.last_status(connection, name, reason, since=now - _REFUSED_WITHIN)
            if reason in _FOR_A_PERSON
            else None
        )
    return ProviderStanding(
        name=name,
        kind=kind,
        place=order.index(name) + 1 if name in order else None,
        settings=account.settings,
        spend=spend,
        pays_for={
            tier: books.affordable(spend, account.settings, kept_back=item.budget_reserve)
            for tier, item in settings.tiers.items()
            if kind in settings.lookups_of(tier)
        },
        unanswered=unanswered,
        breaker=breakers[0] if breakers else None,
        refused_with=refused_with,
        has_key=account.has_key,
        trouble=account.trouble(now=now),
    )


def advice(provider: ProviderStanding, *, now: datetime) -> str | None:
    """What is wrong with a provider and what helps; ``None``: nothing is."""
    name, key = provider.name, provider.settings.key
    if not provider.has_key and key is not None:
        return (
            f"{name} has no key: the environment variable {key.env} is not set where this runs; set it there and where "
            "the pipeline runs"
        )
    if provider.is_spent:
        return _budget_advice(provider)
    trouble = provider.trouble
    why = _BY_ITSELF.get(trouble.reason) if trouble is not None else None
    if provider.state is not BreakerState.CLOSED and why is None:  # a pause began later than what opened the breaker
        return _breaker_advice(provider, now)
    if trouble is None or trouble.until is None or why is None:
        return None  # a window that is full is what windows are for
    return f"{name} {why}: it is asked again {_at(trouble.until, now)}. Nothing needs to be done"


def _breaker_advice(provider: ProviderStanding, now: datetime) -> str:
    name, key, breaker = provider.name, provider.settings.key, provider.breaker
    assert breaker is not None  # or its state were closed
    due = breaker.next_probe_at
    again = f"it is tried again {_at(due, now)}" if due is not None and due > now else "the next look-up tries it again"
    answered = f" (HTTP {provider.refused_with})" if provider.refused_with is not None else ""
    if breaker.reason == Outcome.REFUSED:
        what = f"the key {key.env}" if key is not None else "us"
        return (
            f"{name} refuses {what}, or what the account may do{answered}: compare the key and the credit at the "
            f"vendor; {again}. `leads verification budget` shows what was paid"
        )
    if breaker.reason == Outcome.OUT_OF_CREDIT:
        return f"the account at {name} has no credit left{answered}: buy some; {again}"
    last = _FAILED_WITH.get(breaker.reason or "", str(breaker.reason))
    return (
        f"{name} failed {breaker.failures} times in a row, last {last}: {again}. If it lasts, name another "
        f"provider behind it under verification.{provider.kind} in leads.yaml"
    )


def _budget_advice(provider: ProviderStanding) -> str:
    budget = provider.settings.budget
    month = provider.month_left is not None and provider.month_left < books.micros(provider.settings.cost_per_lookup)
    which, limit = ("month", budget.per_month) if month else ("day", budget.per_day)
    begins = "on the first" if month else f"at midnight, {budget.time_zone}"
    path = f"verification.providers.{provider.name}.budget.per_{which}"
    return (
        f"{provider.name} has spent the {which}'s budget of {limit:,.2f}; the next begins {begins}. Raise {path} in "
        "leads.yaml, or switch a tier down: `leads verification switch --help`"
    )


def money(micros: int) -> str:
    """An amount for people: two decimals, four below one."""
    amount = micros / MICROS
    return f"{amount:,.4f}" if 0 < abs(amount) < 1 else f"{amount:,.2f}"


def day_of_account(provider: ProviderStanding, now: datetime) -> datetime:
    """When the account's day began."""
    local = now.astimezone(ZoneInfo(provider.settings.budget.time_zone))
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


def kept_shares(settings: VerificationSettings) -> Sequence[tuple[str, float]]:
    """The tiers for which a share of the budgets is kept from them, with the share."""
    return [(name, tier.budget_reserve) for name, tier in settings.tiers.items() if tier.budget_reserve]


def _left(limit: float | None, spent: int) -> int | None:
    return None if limit is None else max(0, books.micros(limit) - spent)


def _at(instant: datetime, now: datetime) -> str:
    return f"at {instant:%H:%M} UTC" if instant - now < timedelta(hours=12) else f"on {instant:%Y-%m-%d %H:%M} UTC"
