"""Every measure is taken from rows that a pipeline leaves, and one that cannot be taken leaves the others alone."""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.redis_connection import ANSWER_SECONDS, connect
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.config.measure_names import MEASURE_NAMES, SHARES
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.latency import Station
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.latency import Took, fold, measure_latency
from leads_pipeline.watching.measures import MEASURES, Measures, take_measures
from leads_pipeline_tests.conftest import LEADS_YAML, NOW

VERIFYING = """
verification:
  providers:
    zerobounce: {vendor: zerobounce, key: {env: LEADS_ZEROBOUNCE_KEY}}
  mailbox: [zerobounce]
"""


@pytest.fixture
def settings(tmp_state: Path) -> Settings:
    text = LEADS_YAML + VERIFYING + f"buffer: {{bounds: {{max_leads: 100, disk_path: {tmp_state}}}}}\n"
    return parse_settings(text, path=tmp_state / "leads.yaml")


@pytest.fixture
def take(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> Any:
    given = {"settings": settings, "clock": clock}
    return lambda *names, **options: take_measures(engine, **given, names=names or None, **options)


def values(found: Measures, name: str) -> dict[tuple[str, ...], float]:
    """Of one measure: value by labels, in the order in which the vocabulary has them."""
    items = found.of(name)
    assert items is not None, found.failed
    return {tuple(item.labels[label] for label in MEASURES[name].labels): item.value for item in items}


def run(engine: sa.Engine, statement: str, **parameters: object) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement), {"now": NOW, **parameters})


def wait_at_a_door(engine: sa.Engine, *, seconds: float) -> None:
    run(
        engine,
        "insert into pending (stage, subject_id, tenant, lane, revision, since, due_at) "
        "values ('validated_leads', gen_random_uuid(), 'acme', 'real_time', 1, :since, :since)",
        since=NOW - timedelta(seconds=seconds),
    )


def came_through(engine: sa.Engine, leads: int, *, seconds: float, station: Station, destination: str = "") -> None:
    with engine.begin() as connection:
        took = Took("acme", station, [("real_time", seconds)] * leads, destination)
        measure_latency(connection, took, now=NOW)


def buffered(engine: sa.Engine, leads: int) -> None:
    run(
        engine,
        "insert into buffer (lead_id, tenant, source, lane, received_at, payload, consent, context) "
        "select gen_random_uuid(), 'acme', 'website', 'real_time', :now, '{}', '[]', '{}' "
        "from generate_series(1, :leads)",
        leads=leads,
    )


def called(engine: sa.Engine, outcome: str, calls: int) -> None:
    run(
        engine,
        "insert into verification_calls (call_id, provider, kind, lookups, cost_micros, sent_at, answered_at, outcome, "
        "batch_id, runner_id) select gen_random_uuid(), 'zerobounce', 'mailbox', 1, 0, :now, :now, :outcome, "
        "gen_random_uuid(), 'test' from generate_series(1, :calls)",
        outcome=outcome,
        calls=calls,
    )


def attempted(engine: sa.Engine, verdict: str, records: int) -> None:
    run(
        engine,
        "insert into sync_attempts (batch_id, outbox_id, tenant, contact_id, destination, version, attempt, verdict, "
        "sent_at, settled_at) select :batch, n, 'acme', gen_random_uuid(), 'hubspot', 1, 1, :verdict, :now, :now "
        "from generate_series(1, :records) n",
        batch=uuid7(NOW),
        verdict=verdict,
        records=records,
    )


def requested(engine: sa.Engine, requests: int, *, throttled: bool) -> None:
    run(
        engine,
        "insert into crm_sync_batches (batch_id, destination, account, endpoint, operation, records, throttled, "
        "runner_id, sent_at, answered_at) select gen_random_uuid(), 'hubspot', 'sandbox', '', '', 1, :throttled, "
        "'test', :now, :now from generate_series(1, :requests)",
        requests=requests,
        throttled=throttled,
    )


def reviewed(engine: sa.Engine, cause: str, reviews: int) -> None:
    for _ in range(reviews):
        run(
            engine,
            "insert into match_reviews (review_id, tenant, lead_id, other_lead_id, match_weight, evidence, cause, "
            "state, batch_id, runner_id, opened_at) values (:review, 'acme', gen_random_uuid(), gen_random_uuid(), 3, "
            "'{}', :cause, 'open', gen_random_uuid(), 'test', :now)",
            review=uuid7(NOW),
            cause=cause,
        )


def judged(engine: sa.Engine, *, rejected: int, of: int) -> None:
    for number in range(of):
        table, when = ("rejected_leads", "rejected_at") if number < rejected else ("validated_leads", "validated_at")
        more = {
            "rejected_leads": ("reasons", "'[]'"),
            "validated_leads": ("capture_lane, sync_lane, attribution, flags", "'batch', 'batch', '{}', '[]'"),
        }[table]
        run(
            engine,
            f"insert into {table} (lead_id, revision, tenant, source, received_at, rule_version, batch_id, runner_id, "
            f"{when}, {more[0]}) values (:lead, 1, 'acme', 'website', :now, '1', gen_random_uuid(), 'test', :now, "
            f"{more[1]})",
            lead=uuid7(NOW),
        )


def breaks(engine: sa.Engine, name: str) -> None:
    run(
        engine,
        "insert into circuit_breakers (name, state, failures, reason, opened_at, next_probe_at, updated_at) "
        "values (:name, 'open', 5, 'no_answer', :now, :until, :now)",
        name=name,
        until=NOW + timedelta(minutes=1),
    )


def died(engine: sa.Engine) -> None:
    run(
        engine,
        "insert into dead_letters (dead_letter_id, tenant, contact_id, destination, outbox_id, version, reason, "
        "payload, attempts, died_at) values (gen_random_uuid(), 'acme', gen_random_uuid(), 'hubspot', 1, 1, 'invalid', "
        "'{}', 1, :now)",
    )


def told(engine: sa.Engine, kind: str, outcomes: int, *, of: int) -> None:
    for number in range(of):
        lead = uuid7(NOW)
        run(
            engine,
            "insert into deduped_leads (lead_id, revision, tenant, sync_lane, contact_id, decision, batch_id, "
            "runner_id, deduped_at) values (:lead, 1, 'acme', 'batch', gen_random_uuid(), 'new', gen_random_uuid(), "
            "'test', :now)",
            lead=lead,
        )
        if number < outcomes:
            run(
                engine,
                "insert into outcomes (outcome_id, tenant, kind, lead_id, key_sha256, occurred_at, received_at) "
                "values (gen_random_uuid(), 'acme', :kind, :lead, decode(md5(cast(:lead as text)), 'hex'), :now, :now)",
                lead=lead,
                kind=kind,
            )


ACME = ("acme", "real_time")
# Lanes into which sources of leads.yaml may send, besides.
QUIET = [
    ("acme", "near_real_time", "raw_leads"), ("acme", "batch", "raw_leads"), ("globex", "real_time", "raw_leads"),
]  # fmt: skip
# For each measure: what happened, and what it says of it.
HAPPENED: dict[str, tuple[Any, dict[tuple[str, ...], float]]] = {
    "queue_depth": (lambda e: [wait_at_a_door(e, seconds=n) for n in (9, 90)], {(*ACME, "validated_leads"): 2}),
    "oldest_seconds": (lambda e: [wait_at_a_door(e, seconds=n) for n in (9, 90)], {(*ACME, "validated_leads"): 90}),
    "rate_per_minute": (
        lambda e: came_through(e, 50, seconds=3, station=Station.RAW_LEADS),
        {(*ACME, "raw_leads"): 10, **dict.fromkeys(QUIET, 0)},
    ),
    **{
        f"latency_p{share}_seconds": (
            lambda e: [
                came_through(e, 90, seconds=0.05, station=Station.DELIVERED, destination="hubspot"),
                came_through(e, 10, seconds=60, station=Station.DELIVERED, destination="erp"),
            ],
            {(*ACME, "delivered"): seconds},
        )
        for share, seconds in ((50, 0.1 * 50 / 90), (95, 59), (99, 59.8))
    },
    "verification_attempts": (lambda e: called(e, "answered", 7), {("zerobounce",): 7}),
    "verification_success_rate": (
        lambda e: [called(e, "answered", 15), called(e, "broken", 5)],
        {("zerobounce",): 0.75},
    ),
    "lookups_stopped": (lambda e: breaks(e, "zerobounce"), {("zerobounce",): 1}),
    "dedupe_conflict_rate": (
        lambda e: [
            came_through(e, 20, seconds=1, station=Station.DEDUPED_LEADS),
            reviewed(e, "refused", 1),
            reviewed(e, "grey", 3),
        ],
        {("acme",): 0.05},
    ),
    "review_rate": (
        lambda e: [
            came_through(e, 10, seconds=1, station=Station.DEDUPED_LEADS),
            fold(e, now=NOW),
            came_through(e, 10, seconds=1, station=Station.DEDUPED_LEADS),
            reviewed(e, "refused", 1),
            reviewed(e, "grey", 3),
        ],
        {("acme",): 0.2},
    ),
    "rejection_rate": (lambda e: judged(e, rejected=5, of=20), {("acme", "website"): 0.25}),
    "delivery_failure_rate": (
        lambda e: [
            attempted(e, "delivered", 15),
            attempted(e, "invalid", 5),
            [attempted(e, verdict, 90) for verdict in ("throttled", "transient", "auth")],
        ],
        {("acme", "hubspot"): 0.25},
    ),
    "throttled_rate": (
        lambda e: [requested(e, 15, throttled=False), requested(e, 5, throttled=True)],
        {("hubspot",): 0.25},
    ),
    "breaker_open": (lambda e: breaks(e, "crm:hubspot"), {("hubspot",): 1}),
    "parked": (lambda e: breaks(e, "crm:hubspot"), {("hubspot",): 1}),
    "dead_letters_open": (lambda e: [died(e), died(e)], {("acme", "hubspot"): 2}),
    "bounce_rate": (lambda e: told(e, "hard_bounce", 2, of=20), {("acme",): 0.1}),
    "opportunity_rate": (lambda e: told(e, "opportunity", 2, of=20), {("acme",): 0.1}),
    "buffer_fullness": (lambda e: buffered(e, 30), {(): 0.3}),
    "free_disk_bytes": (lambda e: None, {}),
}


def test_the_words_of_rules_and_what_is_measured_are_one_list():
    assert {name: kind.labels for name, kind in MEASURES.items()} == MEASURE_NAMES
    assert HAPPENED.keys() == MEASURES.keys()


@pytest.mark.parametrize("name", sorted(HAPPENED.keys() - {"free_disk_bytes"}))
def test_each_measure_says_what_happened(name: str, engine: sa.Engine, take: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEADS_ZEROBOUNCE_KEY", "test")
    happens, expected = HAPPENED[name]
    happens(engine)
    assert values(take(name), name) == pytest.approx(expected, rel=0.05)


def test_the_free_disk_is_that_of_the_directory_that_is_named(take: Any):
    [free] = values(take("free_disk_bytes"), "free_disk_bytes").values()
    assert free > 1_000_000


def test_all_are_taken_at_once_from_a_database_in_which_nothing_happened(take: Any):
    found = take()
    assert found.failed == {}
    assert found.by_name.keys() == MEASURES.keys()
    # Nothing happened, so that no share is told: none of these may look like a breach or a recovery.
    assert {name for name, items in found.by_name.items() if items} == {
        "rate_per_minute", "verification_attempts", "lookups_stopped", "breaker_open", "parked", "buffer_fullness",
        "free_disk_bytes",
    }  # fmt: skip


def test_a_provider_without_a_key_is_stopped(take: Any):
    assert values(take("lookups_stopped"), "lookups_stopped") == {("zerobounce",): 1}


@pytest.mark.parametrize("name", ["verification_success_rate", "delivery_failure_rate", "throttled_rate"])
def test_of_a_handful_of_events_no_rate_is_told(name: str, engine: sa.Engine, take: Any):
    called(engine, "broken", 19)
    attempted(engine, "invalid", 19)
    requested(engine, 19, throttled=True)
    assert take(name).of(name) == ()


def test_what_happened_before_its_time_is_over(engine: sa.Engine, take: Any, clock: FrozenClock):
    attempted(engine, "invalid", 30)
    came_through(engine, 30, seconds=5, station=Station.RAW_LEADS)
    clock.advance(3600)
    found = take("delivery_failure_rate", "latency_p99_seconds", "rate_per_minute")
    assert found.by_name.keys() == {"delivery_failure_rate", "latency_p99_seconds", "rate_per_minute"}
    assert (found.of("delivery_failure_rate"), found.of("latency_p99_seconds")) == ((), ())
    assert values(found, "rate_per_minute") == dict.fromkeys([(*ACME, "raw_leads"), *QUIET], 0)


def test_shares_are_never_above_one(engine: sa.Engine, take: Any):
    came_through(engine, 20, seconds=1, station=Station.DEDUPED_LEADS)
    reviewed(engine, "refused", 30)
    found = take(*SHARES)
    assert all(item.value <= 1 for items in found.by_name.values() for item in items)
    assert values(found, "review_rate") == {("acme",): 1.0}


def test_only_what_is_asked_is_read(engine: sa.Engine, take: Any):
    run(engine, "drop table dead_letters")
    assert take("queue_depth").failed == {}


def test_a_measure_that_fails_is_named_and_the_others_are_taken(engine: sa.Engine, take: Any):
    wait_at_a_door(engine, seconds=5)
    run(engine, "drop table dead_letters")
    found = take()
    assert found.failed == {"dead_letters_open": "ProgrammingError"}
    assert found.of("dead_letters_open") is None
    assert values(found, "queue_depth") == {(*ACME, "validated_leads"): 1}


def test_a_question_that_takes_too_long_is_given_up_and_the_others_are_taken(engine: sa.Engine, take: Any):
    with engine.begin() as somebody:
        somebody.execute(sa.text("lock table dead_letters in access exclusive mode"))
        found = take("dead_letters_open", "queue_depth", statement_seconds=1)
    assert list(found.failed) == ["dead_letters_open"]
    assert found.of("queue_depth") == ()


def test_when_the_time_of_all_is_over_the_rest_is_named_and_the_heavy_ones_are_the_rest(
    engine: sa.Engine, settings: Settings
):
    class Passing(FrozenClock):
        def monotonic(self) -> float:
            self.advance(1)
            return super().monotonic()

    found = take_measures(engine, settings=settings, clock=Passing(NOW), all_seconds=20)
    assert found.of("queue_depth") == ()
    assert set(found.failed.values()) == {"OutOfTime"}
    assert {"rejection_rate", "bounce_rate", "opportunity_rate"} <= found.failed.keys() < MEASURES.keys()


def test_a_redis_that_does_not_answer_is_given_up_as_early_as_a_statement(
    engine: sa.Engine, tmp_state: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("LEADS_REDIS_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        text = LEADS_YAML + "buffer: {redis: {url: {env: LEADS_REDIS_URL}}}\n"
        settings = parse_settings(text, path=tmp_state / "leads.yaml")
        asked = ("queue_depth", "oldest_seconds", "buffer_fullness")
        found = take_measures(engine, settings=settings, clock=clock, names=asked, statement_seconds=0.5)
    assert found.failed.keys() == set(asked)


def test_redis_is_waited_for_no_longer_than_was_asked():
    waited = [
        connect("redis://127.0.0.1:9/0", seconds=seconds).connection_pool.connection_kwargs["socket_timeout"]
        for seconds in (0.2, 60, None, -1)
    ]
    assert waited == [0.2, ANSWER_SECONDS, ANSWER_SECONDS, 0.001]


def test_the_time_limit_does_not_stay_with_the_connection(engine: sa.Engine, take: Any):
    take("queue_depth", statement_seconds=0.2)
    with engine.connect() as connection:
        assert connection.execute(sa.text("show statement_timeout")).scalar() == "0"


def test_a_database_that_is_away_is_told_at_once(settings: Settings, clock: FrozenClock):
    gone = engine_for("postgresql://leads@127.0.0.1:9/leads")
    with pytest.raises(DatabaseUnavailable):
        take_measures(gone, settings=settings, clock=clock)
