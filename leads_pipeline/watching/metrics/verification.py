"""Verification: what waits to be looked up, what providers were asked and cost, and which cannot be asked."""

from collections.abc import Iterator
from datetime import timedelta

from leads_pipeline.outbound.breaker import BreakerState
from leads_pipeline.storage import day_counts
from leads_pipeline.storage.verification_calls import MICROS
from leads_pipeline.storage.verification_requests import waiting_lookups
from leads_pipeline.storage.verification_switches import active_switches, tiers_in_force
from leads_pipeline.verification.overview import provider_standings
from leads_pipeline.watching.metrics.vocabulary import Family, Kind, Part, Sample, Scrape

_RECENT = timedelta(minutes=5)

_WAITING = Family("leads_verification_waiting", Kind.GAUGE, "Look-ups that wait, by tier and kind.", ("tier", "lookup"))
_AGE = Family(
    "leads_verification_oldest_seconds", Kind.GAUGE, "How long the oldest of them has waited.", ("tier", "lookup")
)
_LOWERED = Family(
    "leads_verification_tier_lowered", Kind.GAUGE, "1 while a tier's leads are treated as a lower tier's.", ("tier",)
)
_CALLS = Family(
    "leads_verification_calls_total", Kind.COUNTER, "Calls to a provider, of all time.", ("provider",),
    ("verification_attempts",),
)  # fmt: skip
_SPENT = Family(
    "leads_provider_spent", Kind.GAUGE, "What a provider has cost this day and month, in the account's currency.",
    ("provider", "period"),
)  # fmt: skip
_OUTCOMES = Family(
    "leads_verification_recent_calls", Kind.GAUGE, "Calls of the last five minutes, by what came of them.",
    ("provider", "outcome"), ("verification_success_rate",),
)  # fmt: skip
_BREAKER = Family(
    "leads_provider_breaker_open", Kind.GAUGE, "1 while a provider is left alone because it failed or refused us.",
    ("provider",),
)  # fmt: skip
_STOPPED = Family(
    "leads_provider_stopped", Kind.GAUGE, "1 while a provider cannot be asked: breaker open, no key, budget spent.",
    ("provider",), ("lookups_stopped",),
)  # fmt: skip
_LEFT = Family(
    "leads_provider_budget_left", Kind.GAUGE, "What is left of a budget, in the account's currency.",
    ("provider", "period"),
)  # fmt: skip


def _queue(scrape: Scrape) -> Iterator[Sample]:
    with scrape.engine.connect() as connection:
        waiting = waiting_lookups(connection, now=scrape.now)
        switches = active_switches(connection, now=scrape.now)
    for queue in waiting:
        labels = (queue.tier, str(queue.kind))
        yield _WAITING.name, labels, queue.waiting
        yield _AGE.name, labels, max(0.0, (scrape.now - queue.oldest_since).total_seconds())
    for tier, treated_as in tiers_in_force(scrape.settings.verification.tiers, switches).items():
        yield _LOWERED.name, (tier,), float(tier != treated_as)


def _providers(scrape: Scrape) -> Iterator[Sample]:
    settings = scrape.settings.verification
    names = list(settings.providers)
    with scrape.engine.connect() as connection:
        calls = day_counts.calls_ever(connection)
        outcomes = day_counts.calls_by_outcome(connection, names, scrape.now - _RECENT)
    for name in names:
        yield _CALLS.name, (name,), calls.get(name, 0.0)
    for labels, count in outcomes.items():
        yield _OUTCOMES.name, labels, count
    for item in provider_standings(scrape.engine, settings=settings, clock=scrape.clock):
        is_open = item.state is not BreakerState.CLOSED
        yield _BREAKER.name, (item.name,), float(is_open)
        yield _STOPPED.name, (item.name,), float(is_open or not item.has_key or item.is_spent)
        yield _SPENT.name, (item.name, "day"), item.spend.micros_today / MICROS
        yield _SPENT.name, (item.name, "month"), item.spend.micros_month / MICROS
        for period, left in (("day", item.day_left), ("month", item.month_left)):
            if left is not None:
                yield _LEFT.name, (item.name, period), left / MICROS


PARTS = (
    Part("lookups", (_WAITING, _AGE, _LOWERED), _queue),
    Part("providers", (_CALLS, _SPENT, _OUTCOMES, _BREAKER, _STOPPED, _LEFT), _providers),
)
