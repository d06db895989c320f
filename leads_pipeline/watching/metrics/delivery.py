"""Destinations: what was sent and what came of it, what is dead, whom we leave alone, what is left of quotas."""

from collections.abc import Iterator
from datetime import timedelta

from leads_pipeline.crm.parking import breaker_name, limiter_of
from leads_pipeline.domain.delivery import Unit
from leads_pipeline.outbound.breaker import BreakerState, read_breakers
from leads_pipeline.storage import day_counts
from leads_pipeline.watching.metrics.vocabulary import Family, Kind, Part, Sample, Scrape

_RECENT = timedelta(minutes=5)
_RESULTS = ("delivered", "retried", "dead")

_RECORDS = Family(
    "leads_delivery_records_total",
    Kind.COUNTER,
    "Contacts in requests to a destination, by what came of each: delivered, retried, dead.",
    ("destination", "lane", "result"),
    ("delivery_failure_rate",),
)
_REQUESTS = Family(
    "leads_delivery_requests_total",
    Kind.COUNTER,
    "Requests that a destination answered, by class of status; throttled: refused for a limit; no_answer.",
    ("destination", "answer"),
    ("throttled_rate",),
)
_VERDICTS = Family(
    "leads_delivery_recent_attempts",
    Kind.GAUGE,
    "Attempts in requests of the last five minutes, by verdict: delivered, or the class of the refusal.",
    ("tenant", "destination", "verdict"),
)
_DEAD = Family(
    "leads_dead_contacts",
    Kind.GAUGE,
    "Contacts that a destination will not take until somebody acts.",
    ("tenant", "destination"),
    ("dead_letters_open",),
)
_BREAKER = Family(
    "leads_destination_breaker_open",
    Kind.GAUGE,
    "1 while a destination is left alone because it failed or refused us.",
    ("destination",),
    ("breaker_open", "parked"),
)
_LEFT = Family(
    "leads_quota_left", Kind.GAUGE, "What is left of an account's quota of the day, in unit.", ("account", "unit")
)
_LIMIT = Family("leads_quota_limit", Kind.GAUGE, "The whole of it, as leads.yaml has it.", ("account", "unit"))
_FOREIGN = Family(
    "leads_quota_used_by_others", Kind.GAUGE, "What other applications have used of it, as far as answers say.",
    ("account", "unit"),
)  # fmt: skip
_SCALE = Family(
    "leads_limiter_scale_ratio", Kind.GAUGE, "The share of an account's short limits that is used; 1 at first.",
    ("account",),
)  # fmt: skip
_PAUSED = Family(
    "leads_limiter_paused_seconds", Kind.GAUGE, "How much longer an account is left alone as its vendor asked.",
    ("account",),
)  # fmt: skip


def _deliveries(scrape: Scrape) -> Iterator[Sample]:
    with scrape.engine.connect() as connection:
        records = day_counts.delivered_records(connection, scrape.day)
        requests = day_counts.requests_by_answer(connection, scrape.day)
        recent = day_counts.verdicts_by_destination(connection, scrape.now - _RECENT)
    for name in scrape.settings.destinations:  # zeros, so that the first event is an increase
        for lane in {lane for destination, lane, _ in records if destination == name}:
            records = {**{(name, lane, result): 0.0 for result in _RESULTS}, **records}
        requests = {(name, "2xx"): 0.0, (name, "throttled"): 0.0, **requests}
    for labels, contacts in records.items():
        yield _RECORDS.name, labels, contacts
    for labels, count in requests.items():
        yield _REQUESTS.name, labels, count
    for labels, attempts in recent.items():
        yield _VERDICTS.name, labels, attempts


def _dead(scrape: Scrape) -> Iterator[Sample]:
    with scrape.engine.connect() as connection:
        found = day_counts.dead_contacts(connection)
    asked: day_counts.Counts = {
        (name, destination): 0.0
        for name, tenant in scrape.settings.tenants.items()
        for destination in tenant.destinations
    }
    for labels, contacts in {**asked, **found}.items():
        yield _DEAD.name, labels, contacts


def _breakers(scrape: Scrape) -> Iterator[Sample]:
    with scrape.engine.connect() as connection:
        broken = {item.name for item in read_breakers(connection) if item.state is not BreakerState.CLOSED}
    for name in scrape.settings.destinations:
        yield _BREAKER.name, (name,), float(breaker_name(name) in broken)


def _quotas(scrape: Scrape) -> Iterator[Sample]:
    settings = scrape.settings
    first_of = {destination.account: name for name, destination in reversed(settings.destinations.items())}
    for account, name in sorted(first_of.items()):
        plan = limiter_of(scrape.engine, name, settings=settings, forecast=None).plan()
        yield _SCALE.name, (account,), plan.scale
        paused = 0.0 if plan.paused_until is None else (plan.paused_until - scrape.now).total_seconds()
        yield _PAUSED.name, (account,), max(0.0, paused)
        if plan.budget is not None:
            labels = (account, _unit(plan.budget.unit))
            yield _LEFT.name, labels, plan.budget.left
            yield _LIMIT.name, labels, plan.budget.limit
            yield _FOREIGN.name, labels, plan.budget.foreign


def _unit(unit: Unit) -> str:
    return str(unit)


PARTS = (
    Part("deliveries", (_RECORDS, _REQUESTS, _VERDICTS), _deliveries),
    Part("dead", (_DEAD,), _dead),
    Part("breakers", (_BREAKER,), _breakers),
    Part("quotas", (_LEFT, _LIMIT, _FOREIGN, _SCALE, _PAUSED), _quotas),
)
