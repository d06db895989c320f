"""Every promise judged anew: verdicts, their history and the gates that they close, in one transaction.

Each promise is looked at by itself, in a transaction of its own that ends after its time: one that fails or takes too
long keeps its last verdict, which grows stale, and holds up no other. Killed anywhere, what was written before stands.
Add a kind of measure to ``_LOOKS``. Keep out: the arithmetic (``domain.burn_rate``) and what is told to people.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.buffer.account import take_account
from leads_pipeline.buffer.queues import redis_depths
from leads_pipeline.clock import Clock
from leads_pipeline.config import ObjectiveSettings, Settings, span_in_words
from leads_pipeline.domain.burn_rate import (
    BurnAlert,
    Events,
    Guard,
    Judgement,
    Objective,
    SloVerdict,
    budget_in_words,
    judge,
    without_budget,
)
from leads_pipeline.domain.latency import Station
from leads_pipeline.domain.severity import Severity
from leads_pipeline.domain.stage import Stage
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.storage import quality_gates, slo_events
from leads_pipeline.storage.conservation import Conservation, Days, daily_conservation
from leads_pipeline.storage.measurements import duplicate_emails
from leads_pipeline.storage.outcomes import bounces_of_cohorts
from leads_pipeline.storage.quality_gates import Decided, Decision, promised_keys, tenants_of
from leads_pipeline.storage.slo_events import Asked, Counts
from leads_pipeline.storage.slos import Finding, Key, Standing, alone, read_verdicts, write_verdicts
from leads_pipeline.telemetry import get_logger
from leads_pipeline.watching.measures import take_measures
from leads_pipeline.watching.time_limits import within_seconds

log = get_logger(__name__)

# What reads many leads is looked at by the clock of the asset checks, every five minutes, and not twice a minute.
SLOW_MEASURES = frozenset({"conservation", "rejections", "bounces", "bounce_rate", "opportunity_rate"})
# Of what a gate's own promise does not look at: it waits there because of the gate.
_PAST_THE_GATE = frozenset({Stage.CRM_SYNC_BATCHES, Station.DELIVERED})
_BAD = frozenset({SloVerdict.BURNING, SloVerdict.BROKEN})
_QUIET = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What an evaluation found. ``failed``: promises that kept their last verdict, each with the class of its error.

    ``stale``: verdicts that nobody has renewed for too long; ``unjudged``: what has none at all.
    """

    evaluated_at: datetime
    findings: tuple[Finding, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    stale: tuple[Key, ...] = ()
    unjudged: tuple[Key, ...] = ()
    closed: tuple[Key, ...] = ()  # gates, by their verdicts

    @property
    def breached(self) -> tuple[Finding, ...]:
        """What burns or is broken."""
        return tuple(finding for finding in self.findings if finding.judgement.verdict in _BAD)


@dataclass(frozen=True, slots=True)
class _Look:
    """One promise that is looked at."""

    name: str
    promise: ObjectiveSettings
    engine: sa.Engine
    connection: sa.Connection
    settings: Settings
    clock: Clock
    now: datetime
    left: Callable[[], float]  # seconds that it may still take
    unread: list[str] = field(default_factory=list)  # classes of errors of what could not be read

    @property
    def tenants(self) -> tuple[str, ...]:
        return tenants_of(self.settings, together=self.promise.together, only=self.promise.tenant)

    def findings(self, judged: Callable[[str], Judgement]) -> list[Finding]:
        return [Finding(Key(self.name, tenant, self.promise.lane), judged(tenant)) for tenant in self.tenants]


def evaluate_slos(
    engine: sa.Engine, *, settings: Settings, clock: Clock, runner_id: str, slow: bool = True,
    all_seconds: float | None = None,
) -> EvaluationReport:  # fmt: skip
    """Judge every promise of leads.yaml, and write what came of it.

    Without ``slow`` those that read many leads are left for the next evaluation that looks at them, which is no
    failure; leads of the last two days that are lost are found all the same. After ``all_seconds`` no other promise is
    looked at: those come first the next time. Verdicts and gates of promises and tenants that leads.yaml no longer has
    are dropped once they are stale.

    Raises:
        DatabaseUnavailable, sqlalchemy.exc.DBAPIError: the database is away; nothing was written.
    """
    now = clock.now()
    promises = settings.slos.promises
    looks = _LOOKS if slow else _QUICK_LOOKS
    looked = {
        name: item
        for name, item in promises.items()
        if item.measure in looks and (slow or item.measured not in SLOW_MEASURES)
    }
    ends = None if all_seconds is None else clock.monotonic() + all_seconds
    findings: list[Finding] = []
    failed: dict[str, str] = {}
    for name in _in_turn(engine, looked):
        promise = looked[name]
        left = _time_left(clock, promise.timeout_seconds, ends)
        limited = within_seconds(engine, left)
        try:
            with limited.connect() as connection:
                look = _Look(name, promise, limited, connection, settings, clock, now, left)
                found = looks[promise.measure](look)
            if look.unread:  # what is bad in a part is bad; what is good in a part says nothing of the rest
                failed[name] = look.unread[0]
                found = [item for item in found if item.judgement.verdict in _BAD]
                log.warning("slo_evaluated_in_part", slo=name, error_type=failed[name], runner_id=runner_id)
            findings += found
        except Exception as error:  # noqa: BLE001 - one promise's trouble must not keep the others from being judged
            failed[name] = type(getattr(error, "orig", None) or error).__name__
            log.warning("slo_not_evaluated", slo=name, error_type=failed[name], runner_id=runner_id)
    promised = promised_keys(settings)
    stale_after = timedelta(seconds=settings.slos.stale_seconds)
    with engine.begin() as connection:
        alone(connection)
        written_at = clock.now()
        write_verdicts(connection, findings, promised=promised, stale_after=stale_after, now=now, written_at=written_at)
        standing = [item for item in read_verdicts(connection) if item.key in promised]
        rules = quality_gates.gate_rules(settings)
        decisions = _decisions(findings, standing, settings, now=now)
        quality_gates.decide(
            connection, decisions, kept=rules.promised, stale_after=stale_after, now=now, written_at=written_at
        )
        gates = quality_gates.read_gates(connection)
        closed = [gate.key for gate in gates if gate.closed_at(now) and gate.key in rules.promised]
    judged = {item.key for item in standing}
    heard = {item.key for item in standing if not item.is_stale(now, after=stale_after)}
    report = EvaluationReport(
        evaluated_at=now,
        findings=tuple(findings),
        failed=failed,
        stale=tuple(item.key for item in standing if item.key not in heard),
        unjudged=tuple(key for key in promised if key not in judged),
        closed=tuple(closed),
    )
    for finding in report.breached:
        log.warning(
            "slo_breached",
            slo=finding.key.slo,
            tenant=finding.key.tenant,
            verdict=str(finding.judgement.verdict),
            severity=str(finding.judgement.severity),
        )
    return report


def objective_of(promise: ObjectiveSettings) -> Objective:
    """What leads.yaml promises, as the arithmetic has it."""
    return Objective(
        share=promise.objective if promise.has_budget else 1.0,
        window=timedelta(hours=promise.window_hours),
        alerts=tuple(
            BurnAlert(
                item.burn, timedelta(minutes=item.long_minutes), timedelta(minutes=item.short_minutes),
                Severity(item.severity),
            )
            for item in promise.burn_alerts
        ),
        # One lead that stands still may be all there is to see of an outage; one that is rejected or bounces is one.
        guard=Guard(promise.min_events, promise.min_bad_events, _QUIET if promise.measure == "latency" else None),
        severity=Severity(promise.severity),
    )  # fmt: skip


def is_slow(promise: ObjectiveSettings) -> bool:
    """Whether it reads so much that it is not judged twice a minute."""
    return promise.measure in SLOW_MEASURES or promise.measured in SLOW_MEASURES


def _in_turn(engine: sa.Engine, promises: Mapping[str, ObjectiveSettings]) -> list[str]:
    """What reads much comes last; else what was judged the longest time ago is first, so that none is left out."""
    judged: dict[str, datetime] = {}
    with engine.connect() as connection:
        for item in read_verdicts(connection):
            judged[item.key.slo] = min(item.evaluated_at, judged.get(item.key.slo, item.evaluated_at))
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(promises, key=lambda name: (is_slow(promises[name]), judged.get(name, never)))


def _time_left(clock: Clock, seconds: float, ends: float | None) -> Callable[[], float]:
    own = clock.monotonic() + seconds
    last = own if ends is None else min(own, ends)
    return lambda: last - clock.monotonic()


def _decisions(
    findings: Iterable[Finding], standing: Iterable[Standing], settings: Settings, *, now: datetime
) -> list[Decision]:
    """A broken promise closes its gate, one that has been kept for a while opens it; between, it stays as it is.

    Where nothing was found there is no evidence that it may be opened, nor that it must stay closed.
    """
    promises = settings.slos.promises
    since = {item.key: item.since for item in standing}
    well_before = now - timedelta(seconds=settings.slos.reopen_seconds)
    decisions = []
    for finding in findings:
        key, promise = finding.key, promises[finding.key.slo]
        if promise.action != "close_gate":
            continue
        match finding.judgement.verdict:
            case SloVerdict.BROKEN:
                decisions.append(Decision(key, Decided.CLOSE, f"broken: {promise.words}"))
            case SloVerdict.KEPT if since.get(key, now) <= well_before:
                decisions.append(Decision(key, Decided.OPEN))
            case SloVerdict.NO_DATA:
                decisions.append(Decision(key, Decided.HEARD))
            case _:
                decisions.append(Decision(key, Decided.HOLD))
    return decisions


def _latency(look: _Look) -> list[Finding]:
    """Leads that came in time, and those that did not come: the ones that wait too long are bad as long as they do."""
    promise, objective = look.promise, objective_of(look.promise)
    station, seconds = Station(promise.stage), promise.within_seconds or 0.0
    asked = Asked(objective.windows(), look.now, promise.lanes)
    began_at = slo_events.measuring_began(look.connection, look.name) or look.now
    came = slo_events.came_in_time(look.connection, asked, station=station, seconds=seconds, began_at=began_at)
    late = slo_events.overdue(look.connection, asked, station=station, seconds=seconds, began_at=began_at)
    try:
        in_redis = _overdue_in_redis(look, asked, seconds=seconds, began_at=began_at)
    except DatabaseUnavailable as error:
        look.unread.append(type(error).__name__)
        in_redis = {}
    for tenant, leads in in_redis.items():
        late[tenant] = late.get(tenant, 0) + leads

    def judged(tenant: str) -> Judgement:
        whose = look.settings.tenants if tenant == "" else (tenant,)
        waiting = Events(0, sum(late.get(name, 0) for name in whose))
        return judge(
            objective,
            lambda window: sum((came.get((name, window), Events()) for name in whose), start=waiting),
        )

    return look.findings(judged)


def _overdue_in_redis(look: _Look, asked: Asked, *, seconds: float, began_at: datetime) -> dict[str, int]:
    """Redis tells how many leads wait and since when the oldest does: they are taken to have come evenly."""
    found: dict[str, int] = {}
    for depth in redis_depths(look.settings):
        waited = (look.now - max(depth.oldest_received_at, began_at)).total_seconds()
        if depth.waiting and waited > seconds and asked.takes(depth.lane):
            share = (waited - seconds) / waited
            found[depth.tenant] = found.get(depth.tenant, 0) + max(1, round(share * depth.waiting))
    return found


def _rejections(look: _Look) -> list[Finding]:
    objective = objective_of(look.promise)
    return _judged_shares(look, objective, slo_events.judged(look.connection, Asked(objective.windows(), look.now)))


def _bounces(look: _Look) -> list[Finding]:
    """Of a tenant of whose mail nobody tells there is nothing to judge."""
    objective = objective_of(look.promise)
    windows = {look.now - window: window for window in objective.windows()}
    found = {
        (rate.tenant, windows[since]): Events(rate.leads - rate.told, rate.told)
        for since, rates in bounces_of_cohorts(look.connection, windows, now=look.now).items()
        for rate in rates
    }
    return _judged_shares(look, objective, found)


def _judged_shares(look: _Look, objective: Objective, found: Counts) -> list[Finding]:
    def judged(tenant: str) -> Judgement:
        whose = look.settings.tenants if tenant == "" else (tenant,)
        return judge(objective, lambda window: sum((found.get((name, window), Events()) for name in whose), Events()))

    return look.findings(judged)


def _conservation(look: _Look) -> list[Finding]:
    """A fault of Redis' own ledger is nobody's alone: it is counted against each tenant that it could be of."""
    # The account has a snapshot of its own.
    account = take_account(look.engine, settings=look.settings)
    lost = {item.tenant: item.lost for item in account.tenants}
    of_days = _lost_by_tenant(account.days)
    captured = {item.tenant: item.captured for item in account.tenants}

    def judged(tenant: str) -> Judgement:
        whose = [name for name in look.settings.tenants if tenant in ("", name)]
        # One that is lost on a day and one that is there twice on another are two, and none in the sum of all days.
        found = sum(max(lost.get(name, 0), of_days[name]) for name in whose) + len(account.faults)
        return _judged_lost(look, found, captured=sum(captured.get(name, 0) for name in whose))

    return look.findings(judged)


def _conservation_of_late(look: _Look) -> list[Finding]:
    """What is lost of the last two days is told at once. That nothing is, is said by who looks at all days."""
    days = Days(look.now.date() - timedelta(days=1), look.now.date())
    destinations = {name: tenant.destinations for name, tenant in look.settings.tenants.items()}
    accounts = daily_conservation(look.connection, destinations=destinations, days=days)
    lost = _lost_by_tenant(accounts)

    def judged(tenant: str) -> Judgement:
        whose = [name for name in look.settings.tenants if tenant in ("", name)]
        captured = sum(item.captured for item in accounts if item.tenant in whose)
        return _judged_lost(look, sum(lost[name] for name in whose), captured=captured)

    return [item for item in look.findings(judged) if item.judgement.verdict is SloVerdict.BROKEN]


def _lost_by_tenant(accounts: Iterable[Conservation]) -> Counter[str]:
    found: Counter[str] = Counter()
    for item in accounts:
        found[item.tenant] += item.lost
    return found


def _judged_lost(look: _Look, lost: int, *, captured: int) -> Judgement:
    events = Events(max(0, captured - lost), lost)
    return without_budget(events, severity=Severity(look.promise.severity), value=float(lost))


def _duplicates(look: _Look) -> list[Finding]:
    found = {item.tenant: item.contacts for item in duplicate_emails(look.connection)}
    severity = Severity(look.promise.severity)

    def judged(tenant: str) -> Judgement:
        whose = look.settings.tenants if tenant == "" else (tenant,)
        contacts = sum(found.get(name, 0) for name in whose)
        return without_budget(Events(0, contacts), severity=severity, value=float(contacts))

    return look.findings(judged)


def _measured(look: _Look) -> list[Finding]:
    """The worst of what is measured, of all that the promise is about."""
    promise, severity = look.promise, Severity(look.promise.severity)
    name = promise.measured or ""
    taken = take_measures(
        look.engine,
        settings=look.settings,
        clock=look.clock,
        names=(name,),
        statement_seconds=look.left(),
        all_seconds=look.left(),
    )
    values = taken.of(name)
    if values is None:
        raise DatabaseUnavailable(f"{name} could not be measured")

    def judged(tenant: str) -> Judgement:
        told = [
            item.value
            for item in values
            if (not item.lane or not promise.lanes or item.lane in promise.lanes)
            and (not item.tenant or item.tenant in ((tenant,) if tenant else look.settings.tenants))
            and not (promise.action == "close_gate" and item.stage in _PAST_THE_GATE)
        ]
        if not told:
            return Judgement(SloVerdict.NO_DATA, None, Events())
        if promise.limit is not None:
            worst = max(told)
            broken = worst > promise.limit
        else:
            worst = min(told)
            broken = worst < (promise.at_least or 0.0)
        return without_budget(Events(int(not broken), int(broken)), severity=severity, value=worst)

    return look.findings(judged)


_LOOKS: Mapping[str, Callable[[_Look], list[Finding]]] = {
    "latency": _latency,
    "rejections": _rejections,
    "bounces": _bounces,
    "conservation": _conservation,
    "duplicates": _duplicates,
    "measured": _measured,
}
_QUICK_LOOKS: Mapping[str, Callable[[_Look], list[Finding]]] = {
    **{measure: look for measure, look in _LOOKS.items() if measure not in SLOW_MEASURES},
    "conservation": _conservation_of_late,
}


def in_words(standing: Standing, promise: ObjectiveSettings) -> str:
    """What a promise has come to, in one short sentence."""
    match standing.verdict:
        case SloVerdict.NO_DATA:
            return "nothing to judge yet"
        case _ if not promise.has_budget:
            return f"{standing.value:g}" if standing.value is not None else ""
    share = f"{100 * standing.value:.4g} % of {standing.good + standing.bad:,}" if standing.value is not None else ""
    left = f", its budget {budget_in_words(standing.budget_left)}" if standing.budget_left is not None else ""
    return f"{share} in {span_in_words(promise.window_hours * 3600)}{left}"
