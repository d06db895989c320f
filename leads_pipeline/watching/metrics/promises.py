"""What was promised and what it came to, gates, what rules have ordered, what people were told."""

from collections import Counter
from collections.abc import Iterator

from leads_pipeline.domain.burn_rate import SloVerdict
from leads_pipeline.storage import watching_state as state
from leads_pipeline.storage.orders import orders_in_force
from leads_pipeline.storage.quality_gates import gate_rules, judged_gates, read_gates
from leads_pipeline.storage.slos import read_verdicts
from leads_pipeline.watching.metrics.vocabulary import Family, Kind, Part, Sample, Scrape

_OF_PROMISE = ("slo", "tenant", "lane")
_VERDICT = Family(
    "leads_slo_verdict",
    Kind.GAUGE,
    f"1 for what a promise has come to: {', '.join(SloVerdict)}; 0 for the others. No tenant, lane: all.",
    (*_OF_PROMISE, "verdict"),
)
_VALUE = Family(
    "leads_slo_value", Kind.GAUGE, "What a promise is about, as last measured, in its own unit.", _OF_PROMISE
)
_BUDGET = Family(
    "leads_slo_budget_left_ratio", Kind.GAUGE, "The share of an error budget that is left; negative: overspent.",
    _OF_PROMISE,
)  # fmt: skip
_BURN = Family(
    "leads_slo_burn_rate", Kind.GAUGE, "How fast the budget is spent; 1 spends it exactly within its window.",
    (*_OF_PROMISE, "window_seconds"),
)  # fmt: skip
_EVENTS = Family(
    "leads_slo_events", Kind.GAUGE, "What a promise was judged by within its window: good and bad.",
    (*_OF_PROMISE, "result"),
)  # fmt: skip
_EVALUATED = Family(
    "leads_slo_evaluated_timestamp_seconds", Kind.GAUGE, "When any promise was last evaluated: the watch is alive."
)
_GATE = Family(
    "leads_quality_gate_closed",
    Kind.GAUGE,
    "1 while contacts are held back from destinations.",
    ("gate", "tenant", "lane"),
)
_IN_FORCE = Family(
    "leads_policy_actions_in_force", Kind.GAUGE, "What a rule has ordered and what holds now. No tenant, lane …: all.",
    ("policy", "action", "tenant", "lane", "destination"),
)  # fmt: skip
_BEGUN = Family("leads_policy_actions_total", Kind.COUNTER, "How often a rule has acted.", ("policy", "action"))
_POLICIES_AT = Family(
    "leads_policy_evaluated_timestamp_seconds",
    Kind.GAUGE,
    "When a rule was last held against its measure.",
    ("policy",),
)
_SCALE = Family(
    "leads_scale_workers",
    Kind.GAUGE,
    "How many workers of the pipeline there should be: 1, or as many as a rule with scale_workers asks for.",
)
_ALERTS = Family("leads_alerts_open", Kind.GAUGE, "Alerts that have not ended.", ("source", "severity"))
_NOTICES = Family("leads_alert_notices_waiting", Kind.GAUGE, "Notices that are still to be sent.", ("channel",))
_NOTICES_AGE = Family(
    "leads_alert_notices_oldest_seconds", Kind.GAUGE, "How long the oldest of them has waited.", ("channel",)
)


def _promises(scrape: Scrape) -> Iterator[Sample]:
    with scrape.engine.connect() as connection:
        found = read_verdicts(connection)
    if found:
        yield _EVALUATED.name, (), max(item.evaluated_at for item in found).timestamp()
    for item in found:
        labels = (item.key.slo, item.key.tenant, item.key.lane)
        for verdict in SloVerdict:
            yield _VERDICT.name, (*labels, str(verdict)), float(item.verdict == verdict)
        if item.value is not None:
            yield _VALUE.name, labels, item.value
        if item.budget_left is not None:
            yield _BUDGET.name, labels, item.budget_left
        for burn in item.burn_rates:
            yield _BURN.name, (*labels, f"{burn['window_seconds']:.0f}"), burn["burn"]
        yield _EVENTS.name, (*labels, "good"), item.good
        yield _EVENTS.name, (*labels, "bad"), item.bad


def _gates(scrape: Scrape) -> Iterator[Sample]:
    rules = gate_rules(scrape.settings)
    with scrape.engine.connect() as connection:
        decided = read_gates(connection)
    gates = judged_gates(decided, rules, now=scrape.now)
    for key in dict.fromkeys((*rules.promised, *(gate.key for gate in decided))):
        is_closed = key in gates.shut or (key in gates.closed and key not in gates.opened)
        yield _GATE.name, (key.slo, key.tenant, key.lane), float(is_closed)


def _policies(scrape: Scrape) -> Iterator[Sample]:
    with scrape.engine.connect() as connection:
        orders = orders_in_force(connection, now=scrape.now)
        begun = state.actions_begun(connection, scrape.day)
        evaluated = state.policies_evaluated(connection)
    yield _SCALE.name, (), orders.scale_workers
    counted = Counter(
        (order.policy, str(order.action), order.tenant or "", order.lane or "", order.destination or "")
        for order in orders.in_force
    )
    for labels, actions in counted.items():
        yield _IN_FORCE.name, labels, actions
    for policy, action, times in begun:
        yield _BEGUN.name, (policy, action), times
    for policy, at in evaluated.items():
        yield _POLICIES_AT.name, (policy,), at.timestamp()


def _alerts(scrape: Scrape) -> Iterator[Sample]:
    with scrape.engine.connect() as connection:
        alerts, notices = state.open_alerts(connection), state.waiting_notices(connection)
    for alert in alerts:
        yield _ALERTS.name, (alert.source, alert.severity), alert.alerts
    for item in notices:
        yield _NOTICES.name, (item.channel,), item.notices
        yield _NOTICES_AGE.name, (item.channel,), max(0.0, (scrape.now - item.oldest_at).total_seconds())


PARTS = (
    Part("promises", (_VERDICT, _VALUE, _BUDGET, _BURN, _EVENTS, _EVALUATED), _promises),
    Part("gates", (_GATE,), _gates),
    Part("policies", (_SCALE, _IN_FORCE, _BEGUN, _POLICIES_AT), _policies),
    Part("alerts", (_ALERTS, _NOTICES, _NOTICES_AGE), _alerts),
)
