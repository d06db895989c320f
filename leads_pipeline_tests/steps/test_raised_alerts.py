"""What is seen becomes an alert, lasts as one, and ends when it was seen to be well."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.crm.health import Health as DestinationHealth
from leads_pipeline.crm.port import CrmResponse
from leads_pipeline.domain.alerting import Health
from leads_pipeline.domain.policy_targets import Sample
from leads_pipeline.steps.raised_alerts import raise_alerts, resolve_alert
from leads_pipeline.storage import alerts, measure_history
from leads_pipeline.storage.alerts import StoredAlert, list_alerts
from leads_pipeline.storage.schema import policy_actions, slo_verdicts
from leads_pipeline.storage.watch_looks import Watched, note_looks
from leads_pipeline.watching import alert_sources
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import insert

ALERTS = """
alerts:
  channels:
    pager: {url: {env: LEADS_PAGER_URL}, severities: [page]}
    chat: {url: {env: LEADS_CHAT_URL}}
    of_globex: {url: {env: LEADS_CHAT_URL}, tenants: [globex]}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return parse_settings(LEADS_YAML + ALERTS, path=tmp_path / "leads.yaml")


class Pipeline:
    """Judges promises, and looks for trouble."""

    def __init__(self, engine: sa.Engine, settings: Settings, clock: FrozenClock) -> None:
        self.engine, self.settings, self.clock = engine, settings, clock
        self.sends = True

    def judge(self, verdict: str, slo: str = "real_time_in_crm", tenant: str = "acme", **columns: Any) -> None:
        now, lane = self.clock.now(), self.settings.slos.promises[slo].lane
        row = {
            "slo": slo, "tenant": tenant, "lane": lane, "verdict": verdict, "severity": None, "good": 912, "bad": 88,
            "value": 0.912, "budget_left": 0.4, "since": now, "evaluated_at": now,
            "burn_rates": [
                {"window_seconds": 3600, "burn": 21.3, "threshold": 14.4, "events": 1000, "burning": True},
                {"window_seconds": 21600, "burn": 80.0, "threshold": 6, "events": 1000, "burning": False},
            ],
        }  # fmt: skip
        row |= columns
        key = (slo_verdicts.c.slo == slo) & (slo_verdicts.c.tenant == tenant)
        with self.engine.begin() as connection:
            connection.execute(slo_verdicts.delete().where(key))
            connection.execute(slo_verdicts.insert(), row)

    def look(self, **changes: Any) -> dict[str, int]:
        report = raise_alerts(self.engine, settings=self.settings, clock=self.clock, runner_id="run-1", **changes)
        if self.sends:
            with self.engine.begin() as connection:
                connection.execute(sa.text("update alert_notices set state = 'sent', attempts = 1"))
        return dict(report.steps)

    def minutes(self, count: int, verdict: str, **columns: Any) -> None:
        for _ in range(count):
            self.clock.advance(60)
            self.judge(verdict, **columns)
            self.look()

    def open(self) -> list[StoredAlert]:
        return self.all(closed=False)

    def all(self, *, closed: bool = True) -> list[StoredAlert]:
        with self.engine.connect() as connection:
            return list_alerts(connection, tenant=None, closed=closed, limit=100)

    def notices(self) -> list[tuple[str, str]]:
        statement = sa.text("select kind, channel from alert_notices order by notice_id")
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement)]


@pytest.fixture
def pipeline(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> Pipeline:
    return Pipeline(engine, settings, clock)


def test_nothing_is_wrong_with_an_empty_pipeline(pipeline: Pipeline) -> None:
    assert pipeline.look() == {}
    assert pipeline.open() == []


def test_a_promise_at_risk_is_one_alert_with_its_figures_however_often_it_is_seen(pipeline: Pipeline) -> None:
    pipeline.minutes(3, "burning", severity="page")
    [alert] = pipeline.open()
    assert alert.title == "At risk for acme: 99 % of real-time leads are in the CRM within 60 s, over 30 days"
    facts = dict(alert.facts)
    assert facts["now"] == "91.2 %"
    assert facts["counted"] == "88 bad of 1,000"
    assert facts["spent"] == "21.3 times faster than allowed, over the last 60 min"
    assert (alert.playbook, alert.command, alert.occurrences) == (
        "deliveries-late",
        "leads slo show real_time_in_crm",
        3,
    )
    assert pipeline.notices() == [("opened", "pager"), ("opened", "chat")]


def test_a_tenant_s_own_channel_hears_of_that_tenant_only(pipeline: Pipeline) -> None:
    pipeline.minutes(1, "broken", severity="ticket", tenant="globex")
    assert pipeline.notices() == [("opened", "chat"), ("opened", "of_globex")]


def test_a_ticket_that_becomes_a_page_is_told_anew(pipeline: Pipeline) -> None:
    pipeline.minutes(1, "burning", severity="ticket")
    pipeline.minutes(2, "burning", severity="page")
    pipeline.minutes(2, "burning", severity="ticket")
    assert pipeline.notices() == [("opened", "chat"), ("escalated", "pager"), ("escalated", "chat")]


def test_a_second_outage_wakes_somebody_while_the_first_still_puts_the_promise_at_risk(pipeline: Pipeline) -> None:
    pipeline.minutes(2, "burning", severity="page")
    pipeline.minutes(60, "burning", severity="ticket")  # what was spent keeps it at risk for days
    pipeline.minutes(2, "burning", severity="page")
    [alert] = pipeline.open()
    assert alert.severity == "page"
    assert pipeline.notices() == [
        ("opened", "pager"), ("opened", "chat"), ("escalated", "pager"), ("escalated", "chat"),
    ]  # fmt: skip


def test_urgency_that_falls_and_rises_within_minutes_is_one_page(pipeline: Pipeline) -> None:
    pipeline.minutes(1, "burning", severity="page")
    for _ in range(5):
        pipeline.minutes(4, "burning", severity="ticket")
        pipeline.minutes(1, "burning", severity="page")
    assert pipeline.notices() == [("opened", "pager"), ("opened", "chat")]


def test_a_channel_that_is_configured_later_is_told_of_what_is_still_so(pipeline: Pipeline) -> None:
    without = pipeline.settings.model_copy(
        update={"alerts": pipeline.settings.alerts.model_copy(update={"channels": {}})}
    )
    with_channels, pipeline.settings = pipeline.settings, without
    pipeline.minutes(1, "burning", severity="page")
    assert pipeline.notices() == []
    pipeline.settings = with_channels
    pipeline.minutes(3, "burning", severity="page")
    assert pipeline.notices() == [("opened", "pager"), ("opened", "chat")]


def test_it_is_over_when_it_was_seen_to_be_kept_for_five_minutes(pipeline: Pipeline) -> None:
    pipeline.minutes(1, "burning", severity="page")
    pipeline.minutes(5, "kept")
    assert len(pipeline.open()) == 1
    pipeline.minutes(1, "kept")
    assert pipeline.open() == []
    assert [alert.closed_for for alert in pipeline.all()] == ["recovered"]
    assert pipeline.notices()[2:] == [("recovered", "chat"), ("recovered", "pager")]


def test_a_breach_that_comes_back_within_them_is_the_same_alert(pipeline: Pipeline) -> None:
    for _ in range(4):
        pipeline.minutes(1, "burning", severity="page")
        pipeline.minutes(4, "kept")
    assert len(pipeline.all()) == 1
    assert len(pipeline.notices()) == 2


def test_a_second_breach_after_the_end_of_the_first_is_a_new_alert(pipeline: Pipeline) -> None:
    for _ in range(2):
        pipeline.minutes(1, "burning", severity="page")
        pipeline.minutes(6, "kept")
    assert len(pipeline.all()) == 2
    assert [kind for kind, channel in pipeline.notices() if channel == "pager"] == ["opened", "recovered"] * 2


def test_no_data_is_no_recovery(pipeline: Pipeline) -> None:
    pipeline.minutes(1, "burning", severity="page")
    pipeline.minutes(30, "no_data")
    assert len(pipeline.open()) == 1
    pipeline.minutes(3, "kept")
    pipeline.minutes(1, "no_data")
    pipeline.minutes(5, "kept")
    assert len(pipeline.open()) == 1


def test_a_verdict_that_nobody_renews_is_no_recovery_and_an_alert_itself(pipeline: Pipeline) -> None:
    pipeline.minutes(1, "burning", severity="page")
    pipeline.judge("kept", slo="verified_in_time")
    pipeline.clock.advance(30 * 60)
    pipeline.look()
    titles = {alert.title: alert.severity for alert in pipeline.open()}
    assert titles["2 of 2 promises are not judged"] == "page"
    assert len(titles) == 2


def test_a_promise_that_was_never_judged_is_told_although_it_has_no_verdict(pipeline: Pipeline) -> None:
    pipeline.look()
    with pipeline.engine.begin() as connection:
        insert(connection, "latency_measurements", now=pipeline.clock.now(), stage="delivered")
    pipeline.look()
    assert pipeline.open() == []
    pipeline.clock.advance(16 * 60)
    pipeline.look()  # leads come, and nobody has ever looked
    [alert] = pipeline.open()
    assert (alert.severity, alert.playbook) == ("page", "stuck-run")
    with pipeline.engine.begin() as connection:  # somebody does, and cannot judge one
        outcomes = {(Watched.PROMISE, "duplicate_contacts"): "OperationalError"}
        note_looks(connection, outcomes, now=pipeline.clock.now())
    told = []
    for seconds in (0, 301, 700):
        pipeline.clock.advance(seconds)
        pipeline.judge("kept")
        pipeline.look()
        told.append([(alert.severity, dict(alert.facts)["not judged"]) for alert in pipeline.open()])
    names = "duplicate_contacts (acme), duplicate_contacts (globex)"
    assert told[1:] == [[], [("ticket", names)]]


def test_it_reminds_for_as_long_as_it_lasts(pipeline: Pipeline) -> None:
    pipeline.minutes(1, "burning", severity="page")
    for _ in range(9):
        pipeline.clock.advance(3540)
        pipeline.minutes(1, "burning", severity="page")
    assert [kind for kind, channel in pipeline.notices() if channel == "pager"] == ["opened", "reminder", "reminder"]


def test_what_leads_yaml_does_not_name_any_more_is_closed(pipeline: Pipeline) -> None:
    pipeline.minutes(1, "burning", severity="page", tenant="globex")
    tenants = {name: each for name, each in pipeline.settings.tenants.items() if name != "globex"}
    pipeline.settings = pipeline.settings.model_copy(update={"tenants": tenants})
    pipeline.look()
    pipeline.clock.advance(301)
    pipeline.look()
    assert [alert.closed_for for alert in pipeline.all() if alert.source == "promise"] == ["gone"]


def test_a_source_that_cannot_be_read_is_told_and_stops_no_other(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.minutes(1, "burning", severity="page")

    def break_down(_watch: object) -> list[Any]:
        raise RuntimeError("grace@example.com")

    monkeypatch.setitem(alert_sources.SOURCES, "promise", break_down)  # type: ignore[arg-type]
    pipeline.judge("kept")
    refuse(pipeline)
    for _ in range(12):
        pipeline.clock.advance(60)
        pipeline.look()
    sources = {alert.source: alert for alert in pipeline.open()}
    assert sources.keys() >= {"promise", "destination", "look"}
    assert sources["look"].title == "Alerts cannot be raised or closed: promise"
    assert "RuntimeError" in str(sources["look"].facts)
    assert "grace" not in str(pipeline.all())


def test_two_that_look_at_once_open_it_once(pipeline: Pipeline) -> None:
    pipeline.judge("burning", severity="page")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: pipeline.look(), range(4)))
    assert len(pipeline.open()) == 1
    assert len(pipeline.notices()) == 2


def test_one_that_hangs_in_the_middle_holds_up_nobody_for_long(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "LOCK_SECONDS", 0.01)
    pipeline.judge("burning", severity="page")
    with pipeline.engine.begin() as hanging:
        alerts.lock_alerts(hanging)
        report = raise_alerts(pipeline.engine, settings=pipeline.settings, clock=pipeline.clock, runner_id="run-1")
    assert "promise" in report.blind
    assert pipeline.look() == {"open": 1}


def test_an_alert_closed_by_hand_is_opened_again_if_it_is_still_so(pipeline: Pipeline, clock: FrozenClock) -> None:
    pipeline.minutes(1, "burning", severity="page")
    resolve_alert(pipeline.engine, pipeline.open()[0], actor="grace", clock=clock)
    assert pipeline.open() == []
    pipeline.minutes(1, "burning", severity="page")
    assert [alert.closed_by for alert in pipeline.all()] == [None, "grace"]


def refuse(pipeline: Pipeline, code: str | None = None) -> DestinationHealth:
    policy = pipeline.settings.delivery.breaker
    health = DestinationHealth(pipeline.engine, "hubspot", policy=policy, clock=pipeline.clock)
    health.after(refused=True, last=None, code=code)
    return health


def test_a_destination_that_refuses_our_credentials_wakes_somebody_until_it_takes_them(pipeline: Pipeline) -> None:
    health = refuse(pipeline, "EXPIRED_AUTHENTICATION")
    pipeline.look()
    [alert] = pipeline.open()
    assert (alert.severity, alert.playbook) == ("page", "crm-auth-broken")
    assert alert.title == "hubspot refuses our credentials or our set-up: nothing is delivered to it"
    assert dict(alert.facts)["the destination's code"] == "EXPIRED_AUTHENTICATION"
    for _ in range(30):  # its pause ends each minute, which is no sign of health
        pipeline.clock.advance(60)
        pipeline.look()
    assert len(pipeline.open()) == 1
    health.after(refused=False, last=CrmResponse(200, {}, {}))
    pipeline.look()
    pipeline.clock.advance(301)
    pipeline.look()
    assert pipeline.open() == []


def test_a_destination_that_does_not_answer_is_told_after_minutes(pipeline: Pipeline) -> None:
    policy = pipeline.settings.delivery.breaker
    health = DestinationHealth(pipeline.engine, "hubspot", policy=policy, clock=pipeline.clock)
    for _ in range(5):
        health.after(refused=False, last=CrmResponse(None, {}, {}))
    pipeline.look()
    assert pipeline.open() == []
    pipeline.clock.advance(301)
    pipeline.look()
    assert [alert.playbook for alert in pipeline.open()] == ["deliveries-late"]


def test_a_destination_that_refuses_every_request_for_its_limit_is_told_after_minutes_and_until_it_takes_one(
    pipeline: Pipeline, engine: sa.Engine
) -> None:
    def request(*, throttled: bool) -> None:
        now = pipeline.clock.now()
        with engine.begin() as connection:
            insert(connection, "crm_sync_batches", now=now, destination="hubspot", throttled=throttled, sent_at=now,
                   answered_at=now, http_status=429 if throttled else 200)  # fmt: skip

    def refused_for(minutes: int) -> None:
        for _ in range(6 * minutes):
            pipeline.clock.advance(10)
            request(throttled=True)
        pipeline.look()

    request(throttled=False)
    refused_for(5)
    assert pipeline.open() == [], "a pause of seconds is what limits are for"
    refused_for(1)
    [alert] = pipeline.open()
    assert (alert.title, alert.playbook) == (
        "hubspot refuses every request for its rate limit: contacts wait", "crm-rate-limit",
    )  # fmt: skip
    assert dict(alert.facts)["refused for its limit"] == "each of the last 36 requests, for 5 min or longer"
    pipeline.clock.advance(10)
    request(throttled=False)
    pipeline.look()
    pipeline.clock.advance(301)
    pipeline.look()
    assert pipeline.open() == []


def test_a_destination_that_is_down_again_and_again_wakes_somebody_although_it_is_never_down_for_long(
    pipeline: Pipeline,
) -> None:
    def hour(*runs: tuple[int, int]) -> list[str]:
        """Of what destination wakes somebody after ``runs`` of minutes down and up."""
        for down, up in runs:
            for minute in range(down + up):
                pipeline.clock.advance(60)
                taken = {"breaker_open": [Sample({"destination": "hubspot"}, float(minute < down))]}
                with pipeline.engine.begin() as connection:
                    measure_history.keep(connection, taken, now=pipeline.clock.now())
        pipeline.look(only=["destination"])
        return [alert.title for alert in pipeline.open() if alert.severity == "page"]

    assert hour((30, 30)) == []  # one outage, which is over
    assert hour((1, 10), (1, 10), (1, 10), (1, 10), (1, 15)) == []  # a hiccup now and then
    told = ["hubspot fails again and again: little is delivered to it"]
    assert [hour((7, 3), (7, 3), (7, 3)), hour((0, 25)), hour((0, 15)), hour((0, 6))] == [told, told, told, []]


@pytest.fixture
def act(engine: sa.Engine, clock: FrozenClock) -> Callable[..., None]:
    def begin(action: str, *, lasting: timedelta = timedelta(minutes=30), **columns: Any) -> None:
        row = {
            "action_id": uuid.uuid4(), "policy": "backlog_old", "target": "", "action": action, "parameters": {},
            "cause": {"measure": "oldest_seconds", "value": 412.0, "above": 180}, "runner_id": "run-1",
            "began_at": clock.now(), "ends_at": clock.now() + lasting,
        }  # fmt: skip
        with engine.begin() as connection:
            connection.execute(policy_actions.insert(), row | columns)

    return begin


def test_a_rule_that_leaves_something_out_is_a_ticket_while_it_acts(
    pipeline: Pipeline, act: Callable[..., None]
) -> None:
    act("shed_enrichment", tenant="acme")
    pipeline.look()
    [alert] = pipeline.open()
    assert (alert.severity, alert.tenant) == ("ticket", "acme")
    assert alert.title == "The rule backlog_old acts: shed enrichment (tenant acme)"
    assert dict(alert.facts)["because"] == "oldest_seconds is 412, above 180"
    for minutes in (31, 6):
        pipeline.clock.advance(60 * minutes)
        pipeline.look()
    assert pipeline.open() == []


@pytest.mark.parametrize("ended_for", ["longest", "expired"])
def test_a_rule_whose_time_was_up_is_not_told_as_over_while_it_cools_down(
    pipeline: Pipeline, act: Callable[..., None], ended_for: str
) -> None:
    act("pause_lane", target="tenant=acme")
    pipeline.look()
    now = pipeline.clock.now()
    ended = sa.text("update policy_actions set ended_at = :now, ended_for = :ended_for, ended_by = 'policy engine'")
    cooling = sa.text(
        "insert into policy_states (policy, target, state, since, evaluated_at) "
        "values ('backlog_old', 'tenant=acme', 'cooling', :now, :now)"
    )
    with pipeline.engine.begin() as connection:
        connection.execute(ended, {"now": now, "ended_for": ended_for})
        connection.execute(cooling, {"now": now})
    for _ in range(3):
        pipeline.clock.advance(301)
        pipeline.look()
    assert [alert.source for alert in pipeline.open()] == ["rule"]
    with pipeline.engine.begin() as connection:
        connection.execute(sa.text("delete from policy_states"))  # it looked: the condition does not hold
    for _ in range(2):
        pipeline.look()
        pipeline.clock.advance(301)
    pipeline.look()
    assert pipeline.open() == []


def test_routine_actions_and_rehearsed_ones_are_no_news(pipeline: Pipeline, act: Callable[..., None]) -> None:
    act("resize_chunks")
    act("pause_lane", policy="rehearsed", parameters={"dry_run": True})
    pipeline.look()
    assert pipeline.open() == []


def test_a_buffer_on_its_way_to_its_bound_is_a_ticket_and_beyond_it_a_page(pipeline: Pipeline, seed_buffer) -> None:
    seed_buffer(8)
    pipeline.settings = bounded(pipeline.settings, 10)
    pipeline.look()
    assert [(alert.title, alert.severity) for alert in pipeline.open()] == [("The buffer is filling", "ticket")]
    seed_buffer(2)
    pipeline.look()
    [alert] = pipeline.open()
    assert (alert.severity, alert.playbook) == ("page", "buffer-filling")
    assert dict(alert.facts)["leads that wait"] == "10 (bound: 10)"
    pipeline.settings = bounded(pipeline.settings, 1000)
    pipeline.look()
    pipeline.clock.advance(301)
    pipeline.look()
    assert pipeline.open() == []


@pytest.fixture
def seed_buffer(engine: sa.Engine, clock: FrozenClock) -> Callable[[int], None]:
    from leads_pipeline_tests.defs.rows import Flow

    def seed(leads: int) -> None:
        with engine.begin() as connection:
            flow = Flow(connection, clock.now())
            for _ in range(leads):
                flow.buffered()

    return seed


def bounded(settings: Settings, leads: int) -> Settings:
    bounds = settings.buffer.bounds.model_copy(update={"max_leads": leads, "min_free_disk_bytes": 0})
    return settings.model_copy(update={"buffer": settings.buffer.model_copy(update={"bounds": bounds})})


def test_a_disk_that_cannot_be_asked_is_not_well_for_that(pipeline: Pipeline) -> None:
    bounds = pipeline.settings.buffer.bounds.model_copy(update={"disk_path": Path("nowhere")})
    buffer = pipeline.settings.buffer.model_copy(update={"bounds": bounds})
    settings = pipeline.settings.model_copy(update={"buffer": buffer})
    watch = alert_sources.Watch(pipeline.engine, settings, pipeline.clock, pipeline.clock.now())
    seen = {item.key: item.health for item in alert_sources.SOURCES["buffer"](watch)}
    assert seen == {"buffer:waiting": Health.WELL, "buffer:disk": Health.UNKNOWN}


PROVIDERS = """
verification:
  providers:
    zerobounce: {vendor: zerobounce, key: {env: LEADS_ZEROBOUNCE_KEY}}
    kickbox: {vendor: kickbox, key: {env: LEADS_KICKBOX_KEY}}
  mailbox: [zerobounce, kickbox]
  tiers: {full: {lookups: [mailbox]}, none: {}}
"""


def test_a_provider_without_a_key_is_a_ticket_and_the_last_one_a_page(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.settings = parse_settings(LEADS_YAML + ALERTS + PROVIDERS, path=pipeline.settings.path)
    monkeypatch.setenv("LEADS_KICKBOX_KEY", "a-key-that-nobody-may-see")
    pipeline.look()
    [alert] = pipeline.open()
    assert (alert.title, alert.severity) == ("The provider zerobounce has no key", "ticket")
    assert dict(alert.facts)["asked instead"] == "kickbox"
    monkeypatch.delenv("LEADS_KICKBOX_KEY")
    pipeline.look()
    assert {alert.severity for alert in pipeline.open()} == {"page"}
    assert "nobody-may-see" not in str(pipeline.all())


def test_a_channel_that_takes_nothing_is_told_to_the_others(pipeline: Pipeline, monkeypatch) -> None:
    from leads_pipeline.steps.sent_alerts import send_alerts

    monkeypatch.delenv("LEADS_PAGER_URL", raising=False)
    pipeline.sends = False
    pipeline.minutes(1, "burning", severity="page")
    send_alerts(pipeline.engine, settings=pipeline.settings, clock=pipeline.clock)
    pipeline.clock.advance(121)
    pipeline.look()
    told = {alert.title for alert in pipeline.open()}
    assert "The alert channel pager takes no messages" in told


def test_messages_that_nobody_tries_to_send_are_told(pipeline: Pipeline) -> None:
    pipeline.sends = False
    pipeline.minutes(1, "burning", severity="page")
    pipeline.clock.advance(601)
    pipeline.look()
    told = {alert.title: dict(alert.facts) for alert in pipeline.open()}
    assert told["Nobody sends alerts: messages wait that were never tried"]["for"] == "pager, chat"


def test_a_channel_at_which_the_sender_dies_each_time_is_told(pipeline: Pipeline) -> None:
    pipeline.sends = False
    pipeline.minutes(1, "burning", severity="page")
    with pipeline.engine.begin() as connection:
        connection.execute(sa.text("update alert_notices set state = 'sending', attempts = 3"))
    pipeline.clock.advance(121)
    pipeline.look()
    assert "The alert channel pager takes no messages" in {alert.title for alert in pipeline.open()}


def test_a_channel_of_which_messages_were_given_up_is_not_well_for_that(pipeline: Pipeline) -> None:
    pipeline.sends = False
    pipeline.minutes(1, "burning", severity="page")
    with pipeline.engine.begin() as connection:
        connection.execute(sa.text("update alert_notices set attempts = 9, last_error = 'http_404'"))
    pipeline.clock.advance(121)
    pipeline.look()
    with pipeline.engine.begin() as connection:
        connection.execute(sa.text("update alert_notices set state = 'dropped', last_error = 'http_404'"))
    for _ in range(3):
        pipeline.clock.advance(301)
        pipeline.look()
    assert "The alert channel pager takes no messages" in {alert.title for alert in pipeline.open()}
