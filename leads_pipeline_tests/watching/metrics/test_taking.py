"""The pipeline's metrics: that they are true, that they are Prometheus', that one part's trouble is its own."""

import dataclasses
import subprocess
from collections.abc import Iterable, Mapping
from datetime import timedelta

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.config.measure_names import MEASURE_NAMES
from leads_pipeline.domain.latency import bucket_of
from leads_pipeline.domain.stage import Lane
from leads_pipeline.storage.database import TimeOuts, engine_for, translated_errors, with_statement_limit
from leads_pipeline.watching.metrics import flow
from leads_pipeline.watching.metrics.taking import (
    ALL_SECONDS,
    FAMILIES,
    KEPT_SECONDS,
    PARTS,
    REST_SECONDS,
    STATEMENT_SECONDS,
    PipelineMetrics,
    with_short_statements,
)
from leads_pipeline.watching.metrics.vocabulary import Family, Kind, Part, Sample, Scrape
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import Flow
from leads_pipeline_tests.deploy.programs import promtool  # noqa: F401 - a fixture


@pytest.fixture
def metrics(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> PipelineMetrics:
    return PipelineMetrics(engine, settings, clock)


def value(text: bytes, name: str, **labels: str) -> float | None:
    """The sum of the samples of that name with at least these labels; none if there are none."""
    found = [
        sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


def fill(engine: sa.Engine, clock: FrozenClock) -> None:
    """Something of everything that metrics tell."""
    now = clock.now()
    with engine.begin() as connection:
        rows = Flow(connection, now)
        rows.one_of_each()
        counts = {"real_time": {str(bucket_of(0.7)): 3, str(bucket_of(59)): 2, str(bucket_of(1e9)): 1}}
        rows.insert("latency_measurements", stage="raw_leads", counts=counts, measured_at=now)
        rows.insert("latency_histograms", lane="real_time", stage="raw_leads", destination="", bucket=bucket_of(0.7),
                    began_at=now - timedelta(hours=1), span_seconds=60, leads=10)  # fmt: skip
        rows.insert("crm_sync_batches", destination="hubspot", lane="real_time", records=5, delivered=3, retried=1,
                    dead=1, http_status=207, sent_at=now, answered_at=now)  # fmt: skip
        rows.insert("crm_sync_batches", destination="hubspot", throttled=True, http_status=429, answered_at=now)
        newest = connection.execute(sa.text("select max(batch_id::text)::uuid from crm_sync_batches")).scalar_one()
        rows.insert("sync_attempts", batch_id=newest, destination="hubspot", verdict="delivered")
        rows.insert("verification_requests", kind="mx", tier="full", requested_at=now - timedelta(minutes=1))
        rows.insert("circuit_breakers", name="crm:hubspot", state="open", next_probe_at=now + timedelta(minutes=1))
        burns = [{"window_seconds": 3600, "burn": 15.5, "threshold": 14.4, "events": 900}]
        rows.insert("slo_verdicts", slo="delivered_in_time", tenant="acme", lane="", verdict="burning", good=99, bad=1,
                    value=0.99, budget_left=-0.5, burn_rates=burns, evaluated_at=now)  # fmt: skip
        rows.insert("quality_gates", gate="duplicate_contacts", tenant="acme", lane="", closed=True,
                    until=now + timedelta(minutes=5))  # fmt: skip
        rows.insert("policy_actions", policy="more_hands", action="scale_workers", parameters={"workers": 4},
                    tenant=None, target="", ends_at=now + timedelta(minutes=5))  # fmt: skip
        rows.insert("policy_states", policy="more_hands", state="acting", evaluated_at=now)
        rows.insert("outcomes", kind="hard_bounce")
        rows.insert("alerts", source="slo", severity="page", facts=[], opened_at=now)
        rows.insert("alert_notices", channel="oncall", state="waiting", created_at=now - timedelta(minutes=2))


def test_a_scrape_tells_what_waits_what_came_and_what_became_of_it(metrics, engine, clock):
    fill(engine, clock)
    clock.advance(30)
    text = metrics.text()

    assert metrics.missing == ()
    assert value(text, "leads_queue_leads", tenant="acme", lane="real_time", stage="validated_leads") == 1
    assert value(text, "leads_queue_oldest_seconds", stage="validated_leads") == 30
    assert value(text, "leads_captured_total", tenant="acme") == 13
    assert value(text, "leads_rejected_total", tenant="acme", source="website") == 1
    assert value(text, "leads_delivery_records_total", result="delivered") == 3
    assert value(text, "leads_delivery_requests_total", destination="hubspot", answer="throttled") == 1
    assert value(text, "leads_delivery_requests_total", destination="hubspot", answer="2xx") == 1
    assert value(text, "leads_dead_contacts", tenant="acme", destination="hubspot") == 1
    assert value(text, "leads_destination_breaker_open", destination="hubspot") == 1
    assert value(text, "leads_slo_burn_rate", slo="delivered_in_time", window_seconds="3600") == 15.5
    assert value(text, "leads_slo_verdict", slo="delivered_in_time", verdict="burning") == 1
    assert value(text, "leads_slo_verdict", slo="delivered_in_time", verdict="kept") == 0
    assert value(text, "leads_quality_gate_closed", gate="duplicate_contacts") == 1
    assert value(text, "leads_scale_workers") == 4
    assert value(text, "leads_outcomes_total", tenant="acme", kind="hard_bounce") == 1
    assert value(text, "leads_alerts_open", source="slo", severity="page") == 1
    assert value(text, "leads_alert_notices_oldest_seconds", channel="oncall") == 150


def test_latencies_are_cumulative_also_those_that_nobody_has_folded_yet(metrics, engine, clock):
    fill(engine, clock)
    text = metrics.text()

    def at_most(le: str) -> float | None:
        return value(text, "leads_latency_seconds_bucket", tenant="acme", stage="raw_leads", le=le)

    assert at_most("0.5") == 0
    assert at_most("1.0") == 13
    assert at_most("30.0") == 13
    assert at_most("60.0") == 15
    assert at_most("259200.0") == 15
    assert at_most("+Inf") == 16
    assert value(text, "leads_latency_seconds_count", stage="raw_leads") == 16


def test_every_metric_that_is_told_is_one_that_is_listed_and_every_part_has_its_say(metrics, engine, clock):
    fill(engine, clock)
    told = {family.name for family in text_string_to_metric_families(metrics.text().decode())}
    listed = {family.name.removesuffix("_total") for family in FAMILIES}

    assert told <= listed
    # There is no provider in these settings; the test below has one.
    providers = next(part for part in PARTS if part.name == "providers")
    assert listed - told == {family.name.removesuffix("_total") for family in providers.families}


def test_prometheus_own_checker_finds_nothing_to_complain_about(metrics, engine, clock, promtool):  # noqa: F811
    fill(engine, clock)
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.text(), capture_output=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_names_of_our_own_are_the_only_labels(metrics, engine, clock):
    fill(engine, clock)
    text = metrics.text().decode()

    assert "@" not in text
    assert "example.com" not in text


def test_an_empty_database_tells_zeros_for_what_is_configured(metrics):
    text = metrics.text()

    assert value(text, "leads_captured_total", tenant="globex", source="website", lane="real_time") == 0
    assert value(text, "leads_scale_workers") == 1
    assert value(text, "leads_dead_contacts", tenant="globex", destination="hubspot") == 0
    empty = {"tenant": "globex", "lane": "batch", "stage": "raw_leads"}
    assert value(text, "leads_queue_leads", **empty) == value(text, "leads_queue_oldest_seconds", **empty) == 0
    assert value(text, "leads_slo_evaluated_timestamp_seconds") is None


def test_an_order_that_has_run_out_or_ended_raises_no_scale(metrics, engine, clock):
    now = clock.now()
    with engine.begin() as connection:
        rows = Flow(connection, now)
        order = {"action": "scale_workers", "parameters": {"workers": 9}, "tenant": None}
        rows.insert("policy_actions", policy="a", ends_at=now, **order)
        rows.insert("policy_actions", policy="b", ends_at=now + timedelta(hours=1), ended_at=now, **order)
        rows.insert("policy_actions", policy="c", ends_at=now + timedelta(hours=1),
                    **{**order, "parameters": {"workers": 9, "dry_run": True}})  # fmt: skip
    assert value(metrics.text(), "leads_scale_workers") == 1


@pytest.mark.parametrize(
    ("row", "is_closed"),
    [
        ({"closed": True, "until": timedelta(minutes=1)}, 1),
        ({"closed": True, "until": timedelta(0)}, 0),
        ({"closed": True, "until": timedelta(minutes=1), "ruling": "open", "ruled_until": timedelta(minutes=1)}, 0),
        ({"closed": True, "until": timedelta(minutes=1), "ruling": "open", "ruled_until": timedelta(0)}, 1),
        ({"closed": False, "ruling": "closed", "ruled_until": timedelta(minutes=1)}, 1),
    ],
)
def test_a_gate_is_told_as_it_is_honoured(
    metrics: PipelineMetrics, engine: sa.Engine, clock: FrozenClock, row: Mapping[str, object], is_closed: int
):
    times = {name: clock.now() + told for name, told in row.items() if isinstance(told, timedelta)}
    with engine.begin() as connection:
        Flow(connection, clock.now()).insert("quality_gates", gate="duplicate_contacts", lane="", **{**row, **times})
    assert value(metrics.text(), "leads_quality_gate_closed", gate="duplicate_contacts") == is_closed


def test_counters_begin_anew_at_midnight_and_never_go_back_before(metrics, engine, clock):
    with engine.begin() as connection:
        Flow(connection, clock.now()).rejected()
    assert value(metrics.text(), "leads_rejected_total", tenant="acme") == 1
    with engine.begin() as connection:
        connection.execute(sa.text("delete from rejected_leads"))  # as an erasure does
    clock.advance(KEPT_SECONDS)
    assert value(metrics.text(), "leads_rejected_total", tenant="acme") == 1

    clock.advance(86_400)
    assert value(metrics.text(), "leads_rejected_total", tenant="acme") == 0


def test_a_part_that_fails_is_named_left_alone_for_a_while_and_takes_no_other_with_it(engine, settings, clock):
    family = Family("leads_broken", Kind.GAUGE, "Never read.")
    asked: list[float] = []

    def fail(_scrape: Scrape) -> Iterable[Sample]:
        asked.append(clock.monotonic())
        raise ValueError("ada@example.com")

    metrics = PipelineMetrics(engine, settings, clock, parts=(Part("broken", (family,), fail), *PARTS))
    text = metrics.text()
    assert metrics.missing == ("broken",)
    assert value(text, "leads_metrics_part_ok", part="broken") == 0
    assert value(text, "leads_metrics_part_ok", part="queues") == 1
    assert value(text, "leads_captured_total", tenant="acme") == 0
    assert b"ada@" not in text

    clock.advance(KEPT_SECONDS)
    metrics.text()
    assert len(asked) == 1
    clock.advance(REST_SECONDS)
    metrics.text()
    assert len(asked) == 2


def test_a_slow_statement_is_ended_by_the_server_and_only_its_part_is_missing(database_url, settings, clock):
    short = with_short_statements(settings).database
    assert short.statement_seconds < 5

    def crawl(scrape: Scrape) -> Iterable[Sample]:
        with scrape.engine.connect() as connection:
            connection.execute(sa.text("select pg_sleep(30)"))
        yield "leads_slow", (), 1.0

    engine = engine_for(database_url, time_outs=TimeOuts(statement=1.5))
    try:
        slow = Part("slow", (Family("leads_slow", Kind.GAUGE, "Too late."),), crawl)
        metrics = PipelineMetrics(engine, settings, clock, parts=(slow, *PARTS))
        text = metrics.text()
    finally:
        engine.dispose()
    assert metrics.missing == ("slow",)
    assert value(text, "leads_slow") is None
    assert value(text, "leads_scale_workers") == 1


def test_a_statement_that_took_too_long_is_no_database_that_is_gone(engine, settings, clock):
    def crawl(scrape: Scrape) -> Iterable[Sample]:
        short = with_statement_limit(scrape.engine, lambda: 0.1)
        with translated_errors("crawling"), short.connect() as connection:
            connection.execute(sa.text("select pg_sleep(30)"))
        return []

    crawling = Part("crawling", (Family("leads_crawling", Kind.GAUGE, "x"),), crawl)
    metrics = PipelineMetrics(engine, settings, clock, parts=(crawling, *flow.PARTS))
    metrics.text()

    assert metrics.missing == ("crawling",)


def test_no_part_is_given_more_time_than_is_left_of_the_scrape(engine, settings, clock):
    left: list[float] = []

    def slow(scrape: Scrape) -> Iterable[Sample]:
        with scrape.engine.connect() as connection:
            shown = connection.execute(sa.text("select current_setting('statement_timeout')::interval")).scalar_one()
        left.append(shown.total_seconds())
        clock.advance(ALL_SECONDS * 0.4)
        return []

    named = [Part(name, (Family(f"leads_{name}", Kind.GAUGE, "x"),), slow) for name in ("a", "b", "c", "d")]
    metrics = PipelineMetrics(engine, settings, clock, parts=named)
    metrics.text()

    assert left == [STATEMENT_SECONDS, STATEMENT_SECONDS, pytest.approx(ALL_SECONDS * 0.2)]
    assert metrics.missing == ("d",)


def test_without_a_database_a_scrape_says_so_and_the_next_one_finds_it_again(engine, database_url, settings, clock):
    gone = engine_for(database_url.rpartition(":")[0] + ":9/nothing")
    metrics = PipelineMetrics(gone, settings, clock)
    text = metrics.text()
    assert metrics.missing == tuple(part.name for part in PARTS)
    assert value(text, "leads_metrics_part_ok") == 0
    assert value(text, "leads_metrics_taken_timestamp_seconds") == clock.now().timestamp()

    metrics.engine = engine
    clock.advance(KEPT_SECONDS)
    metrics.text()
    assert metrics.missing == ()


def test_whoever_asks_again_within_seconds_is_told_the_same_and_costs_nothing(metrics, engine, clock):
    first = metrics.text()
    with engine.begin() as connection:
        Flow(connection, clock.now()).rejected()
    assert metrics.text() == first

    clock.advance(KEPT_SECONDS)
    assert metrics.text() != first


def test_a_queue_is_told_as_zero_once_it_is_empty_again_but_not_where_redis_may_hold_something(
    metrics, engine, clock, tmp_path
):
    queue = {"tenant": "acme", "lane": "real_time", "stage": "validated_leads"}
    with engine.begin() as connection:
        Flow(connection, clock.now()).at_validation()
    assert value(metrics.text(), "leads_queue_leads", **queue) == 1
    with engine.begin() as connection:
        connection.execute(sa.text("delete from pending"))
    clock.advance(KEPT_SECONDS)
    assert value(metrics.text(), "leads_queue_leads", **queue) == 0

    redis = "buffer: {redis: {url: {env: LEADS_REDIS_URL}}}\n"
    settings = parse_settings(LEADS_YAML + redis, path=tmp_path / "leads.yaml")
    text = PipelineMetrics(engine, settings, clock, parts=flow.PARTS).text()
    assert value(text, "leads_queue_leads", **queue) == 0
    assert value(text, "leads_queue_leads", stage="raw_leads") is None


def test_a_strange_name_of_a_tenant_stays_one_label(metrics, engine, clock):
    strange = 'a"b\\c\nd'
    with engine.begin() as connection:
        dataclasses.replace(Flow(connection, clock.now()), tenant=strange, lane=Lane.BATCH).at_validation()
    assert value(metrics.text(), "leads_queue_leads", tenant=strange, stage="validated_leads") == 1


def test_a_value_with_the_wrong_labels_is_no_value_of_a_metric(engine, settings, clock):
    family = Family("leads_x", Kind.GAUGE, "x", ("tenant",))
    metrics = PipelineMetrics(
        engine, settings, clock, parts=(Part("x", (family,), lambda _scrape: [("leads_x", (), 1.0)]),)
    )
    metrics.text()
    assert metrics.missing == ("x",)


PROVIDER = """
verification:
  mailbox: [bounce]
  providers:
    bounce:
      vendor: zerobounce
      key: {env: LEADS_BOUNCE_KEY}
      cost_per_lookup: 0.5
      budget: {per_day: 8}
"""


def test_a_provider_tells_what_it_was_asked_cost_and_whether_it_can_be_asked(engine, clock, tmp_path, monkeypatch):
    settings = parse_settings(LEADS_YAML + PROVIDER, path=tmp_path / "leads.yaml")
    monkeypatch.setenv("LEADS_BOUNCE_KEY", "k")
    now = clock.now()
    with engine.begin() as connection:
        rows = Flow(connection, now)
        for day, calls in ((now.date(), 3), (now.date() - timedelta(days=40), 4)):
            rows.insert("verification_spend", provider="bounce", day=day, calls=calls, lookups=6, cost_micros=3_000_000)
        rows.insert("verification_calls", provider="bounce", outcome="throttled", sent_at=now, answered_at=now)
    metrics = PipelineMetrics(engine, settings, clock)

    def told(name: str, **labels: str) -> float | None:
        return value(metrics.text(), name, provider="bounce", **labels)

    assert told("leads_verification_calls_total") == 7
    assert told("leads_provider_spent", period="day") == 3
    assert told("leads_provider_budget_left", period="day") == 5
    assert told("leads_verification_recent_calls", outcome="throttled") == 1
    assert told("leads_provider_stopped") == 0
    monkeypatch.delenv("LEADS_BOUNCE_KEY")
    clock.advance(KEPT_SECONDS)
    assert told("leads_provider_stopped") == 1
    assert told("leads_provider_breaker_open") == 0


def test_every_measure_that_rules_go_by_is_told_under_its_name_once_a_minute(metrics, engine, clock):
    fill(engine, clock)
    text = metrics.text()

    taken = {
        sample.labels["measure"]: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "leads_measured_ok"
    }
    assert taken == dict.fromkeys(MEASURE_NAMES, 1)
    depth = {"measure": "queue_depth", "tenant": "acme", "lane": "real_time", "stage": "validated_leads"}
    assert value(text, "leads_measured", **depth) == 1
    assert value(text, "leads_measured", measure="breaker_open", destination="hubspot") == 1

    with engine.begin() as connection:
        Flow(connection, clock.now()).at_validation()
    clock.advance(KEPT_SECONDS)
    assert value(metrics.text(), "leads_measured", **depth) == 1
    assert value(metrics.text(), "leads_queue_leads", tenant="acme", stage="validated_leads") == 2
    clock.advance(60)
    assert value(metrics.text(), "leads_measured", **depth) == 2


def test_a_measure_that_fails_is_named_and_the_others_are_told(metrics, engine, clock):
    with engine.begin() as connection:
        connection.execute(sa.text("alter table outcomes rename to results"))
    text = metrics.text()

    assert value(text, "leads_measured_ok", measure="bounce_rate") == 0
    assert value(text, "leads_measured_ok", measure="queue_depth") == 1
    assert metrics.missing == ("counts",)


def test_each_measure_is_told_by_a_metric_that_names_it():
    named = {name for family in FAMILIES if family.name != "leads_measured" for name in family.measures}

    assert named <= set(MEASURE_NAMES)
