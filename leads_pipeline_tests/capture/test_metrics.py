"""``/metrics``: what is counted, that it is true, and that it tells nothing about a person."""

import re

import httpx
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from leads_pipeline import __version__
from leads_pipeline.buffer.port import PostResult
from leads_pipeline.capture.counts import COMMIT_LEADS, Counts, Gauge, SharedCounts
from leads_pipeline.capture.refusals import Code
from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import Settings
from leads_pipeline.domain.stage import Lane
from leads_pipeline_tests.buffer.test_bounds import put
from leads_pipeline_tests.capture.processes import metric
from leads_pipeline_tests.capture.running import (
    Capture,
    capture_service,
    make_key,
    running_service,
    wait_until,
    with_capture,
)

PERSON = {"email": "zaphod@example.org", "first_name": "Zaphod", "phone": "+43 1 234567"}


def test_every_request_is_counted_by_route_and_outcome(capture: Capture) -> None:
    assert capture.post(PERSON).status_code == 202
    assert capture.post(PERSON).status_code == 200
    assert capture.post([]).status_code == 422
    assert capture.post(PERSON, Authorization="Bearer lp_wrong").status_code == 401
    capture.post_batch([{"number": "1"}, {"number": "2"}, 3])
    assert capture.client.get("/nowhere/at/all").status_code == 404
    assert capture.client.get("/healthz").status_code == 200
    assert capture.client.get("/readyz").status_code == 200

    def requests(**labels: str) -> float:
        return metric(capture.url, "leads_capture_requests_total", **labels)

    assert requests(route="/v1/leads", status="2xx", code="") == 2
    assert requests(route="/v1/leads", status="4xx", code="not_an_object") == 1
    assert requests(route="/v1/leads", status="4xx", code="bad_key") == 1
    assert requests(route="/v1/leads/batch", status="2xx") == 1
    assert requests(route="other", status="4xx", code="not_found") == 1
    assert requests(route="other", status="2xx") == 1
    assert requests(route="/readyz", status="2xx") == 1


def test_leads_are_counted_by_what_became_of_them(capture: Capture, engine: sa.Engine, clock: FrozenClock) -> None:
    webinar = {"Authorization": f"Bearer {make_key(engine, clock, source='webinar')}"}
    for _ in range(3):
        capture.post(PERSON)
    capture.post({"number": "1"}, **{"Idempotency-Key": "one"})
    capture.post({"number": "2"}, **{"Idempotency-Key": "one"})
    capture.post(PERSON, **webinar)

    def leads(lane: Lane, result: PostResult) -> float:
        return metric(capture.url, "leads_capture_leads_total", tenant="acme", lane=lane, result=result)

    assert leads(Lane.REAL_TIME, PostResult.ACCEPTED) == 2
    assert leads(Lane.REAL_TIME, PostResult.DUPLICATE) == 2
    assert leads(Lane.REAL_TIME, PostResult.KEY_REUSED) == 1
    assert leads(Lane.NEAR_REAL_TIME, PostResult.ACCEPTED) == 1
    assert metric(capture.url, "leads_capture_commit_leads_sum") == 6
    assert metric(capture.url, "leads_capture_commit_seconds_count") == metric(
        capture.url, "leads_capture_commit_leads_count"
    )


def test_depth_age_and_fill_are_those_of_the_buffer(
    settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock
) -> None:
    put(engine, clock, 5, lane=Lane.BATCH)
    clock.advance(90)
    with capture_service(settings, database_url=database_url, engine=engine, clock=clock) as capture:
        wait_until(lambda: metric(capture.url, "leads_buffer_waiting", tenant="acme", lane="batch") == 5)
        assert metric(capture.url, "leads_buffer_oldest_age_seconds", tenant="acme", lane="batch") == 90
        assert metric(capture.url, "leads_buffer_waiting", tenant="globex") == 0
        assert metric(capture.url, "leads_buffer_fill", bound="leads") == pytest.approx(5 / 5_000_000)
        assert metric(capture.url, "leads_buffer_fill", bound="age") == pytest.approx(90 / 3_600 / 72)
        assert metric(capture.url, "leads_build_info", version=__version__) == 1


def test_what_waits_for_a_commit_shows_and_so_does_safe_mode(
    database_url: str, engine: sa.Engine, settings: Settings
) -> None:
    clock = SystemClock()
    key = make_key(engine, clock)
    with running_service(settings, database_url=database_url, clock=clock) as url:
        assert metric(url, "leads_capture_workers") == 1
        assert metric(url, "leads_capture_safe_mode") == 0
        with engine.begin() as connection:
            name = connection.execute(sa.text("select current_database()")).scalar_one()
            connection.execute(sa.text(f"alter database {name} set default_transaction_read_only = on"))
            connection.execute(
                sa.text("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'leads_c%'")
            )
        refused = httpx.post(
            f"{url}/v1/leads", json=PERSON, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30
        )
        assert refused.status_code == 503
        wait_until(lambda: metric(url, "leads_capture_safe_mode", reason="read_only") == 1)
        ready = httpx.get(f"{url}/readyz", trust_env=False, timeout=60)
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "2")
        assert ready.json()["error"]["code"] == "database_unavailable"
        assert ready.json()["safe_mode"] == "read_only"


def test_nothing_personal_and_nothing_unbounded_is_in_it(capture: Capture) -> None:
    capture.post(PERSON)
    for place in range(50):
        capture.client.get(f"/zaphod-{place}?email=zaphod@example.org")
        capture.client.post(f"/v1/in/zaphod-{place}/beeblebrox", json=PERSON)
    text = capture.client.get("/metrics").text
    assert not re.search("zaphod|beeblebrox|127\\.0\\.0\\.1|234567|lp_", text, re.IGNORECASE)
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    assert sum(len(family.samples) for family in families) < 200


def test_it_can_be_switched_off(settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock) -> None:
    quiet = with_capture(settings, metrics=False)
    with capture_service(quiet, database_url=database_url, engine=engine, clock=clock) as capture:
        answer = capture.client.get("/metrics")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_only_get_and_the_text_that_prometheus_reads(capture: Capture) -> None:
    assert capture.client.post("/metrics").status_code == 405
    assert capture.client.get("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_a_worker_s_counts_outlive_it_and_its_gauges_do_not(settings: Settings) -> None:
    shared = SharedCounts(settings, slots=2)
    place = shared.layout.leads["acme", Lane.BATCH, PostResult.ACCEPTED]
    for slot in (0, 1, 1):
        counts = Counts(shared, slot=slot)  # the second worker of slot 1 goes on where the first one ended
        counts.posted("acme", Lane.BATCH, PostResult.ACCEPTED)
        counts.set(Gauge.QUEUED, 7)
    assert (shared.total(place), shared.each(place)) == (3, [1, 2])
    shared.clear_gauges(1)
    assert (shared.total(place), shared.total(shared.layout.gauges[Gauge.QUEUED])) == (3, 7)


def test_commits_fall_into_the_buckets_whose_bounds_they_do_not_exceed(settings: Settings) -> None:
    shared = SharedCounts(settings, slots=1)
    counts = Counts(shared)
    for leads in (1, 2, 3, 1_000, 1_001):
        counts.committed(leads, seconds=0.002)
    found = [shared.total(place) for place in shared.layout.commit_leads.values()]
    assert found == [1, 1, 1, *([0] * (len(COMMIT_LEADS) - 4)), 1, 1]
    assert shared.total(shared.layout.commit_sums["microseconds"]) == 10_000


def test_every_refusal_has_a_place_on_every_route(settings: Settings) -> None:
    shared = SharedCounts(settings, slots=1)
    counts = Counts(shared)
    for path, route in (("/v1/leads", "/v1/leads"), ("/v1/in/a/b", "/v1/in"), ("/x", "other")):
        for code in Code:
            counts.answered(path, 503, code)
            assert shared.total(shared.layout.requests[route, code]) == 1
