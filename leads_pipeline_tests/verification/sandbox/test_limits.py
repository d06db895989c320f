"""How often each vendor may be asked, and what the report says of it."""

import contextlib
import threading
from datetime import UTC, datetime

import httpx

from leads_pipeline.clock import FrozenClock
from leads_pipeline.verification.sandbox.limits import Limit, Limits, Window, WindowKind
from leads_pipeline_tests.verification.sandbox.conftest import (
    Started,
    neverbounce,
    neverbounce_job,
    zerobounce_batch,
)


def test_zerobounce_shuts_the_door_for_ten_minutes_after_an_excess(started: Started):
    with started("zerobounce") as (sandbox, http):
        first = [zerobounce_batch(http, f"a{number}@acme.example").status_code for number in range(30)]
        started.clock.advance(59.9)
        excess = zerobounce_batch(http, "b@acme.example")
        started.clock.advance(599.9)  # the window is long empty
        still = zerobounce_batch(http, "b@acme.example")
        started.clock.advance(0.2)
        again = zerobounce_batch(http, "b@acme.example")
        report = sandbox.report()

    assert (first, excess.status_code, still.status_code, again.status_code) == ([200] * 30, 429, 429, 200)
    assert "retry-after" not in excess.headers
    assert (report["calls_over_limit"], report["blocks"], report["looked_up"]) == (2, 1, 31)
    assert report["windows"][0] == {
        "limit": "batch",
        "requests": 30,
        "seconds": 60,
        "kind": "sliding",
        "max_accepted": 30,
        "max_requests": 31,
    }


def test_zerobounces_window_slides(started: Started):
    with started("zerobounce") as (sandbox, http):
        for number in range(60):
            assert zerobounce_batch(http, f"a{number}@acme.example").status_code == 200
            started.clock.advance(2)

        assert sandbox.report()["windows"][0]["max_accepted"] == 30
        assert sandbox.report()["calls_over_limit"] == 0


def test_single_look_ups_have_a_limit_of_their_own(started: Started):
    with started("zerobounce") as (_sandbox, http):
        [zerobounce_batch(http, "a@acme.example") for _ in range(31)]
        alone = http.get("/v2/validate", params={"api_key": "k", "email": "b@acme.example"})

        assert alone.json()["status"] == "valid"


def test_neverbounce_runs_ten_jobs_at_once_and_fifty_a_day(started: Started):
    with started("neverbounce", job_seconds=20) as (sandbox, http):
        said = [neverbounce_job(http, f"a{number}@acme.example")["status"] for number in range(11)]
        assert said == ["success"] * 10 + ["throttle_triggered"]
        started.clock.advance(20)
        for _ in range(39):
            said.append(neverbounce_job(http, f"b{len(said)}@acme.example")["status"])
            started.clock.advance(20)
        assert said.count("success") == 49
        assert neverbounce_job(http, "c@acme.example")["status"] == "throttle_triggered"
        started.clock.advance(86_400)
        assert neverbounce_job(http, "c@acme.example")["status"] == "success"
        report = sandbox.report()

    assert (report["calls_over_limit"], report["throttled"], report["statuses"]) == (2, 2, {"200": 52})


def test_asking_how_far_a_job_is_costs_nothing(started: Started):
    with started("neverbounce") as (sandbox, http):
        job = neverbounce_job(http, "a@acme.example")["job_id"]
        [neverbounce(http, "jobs/status", job_id=job) for _ in range(80)]

        assert (sandbox.report()["calls_over_limit"], sandbox.report()["billed"]) == (0, 1)


def test_kickboxs_minute_is_one_of_the_clock(started: Started):
    started.clock.advance(50)
    with started("kickbox", calls_per_minute=3) as (sandbox, http):

        def verify(address: str) -> int:
            return http.get("/v2/verify", params={"apikey": "live_k", "email": address}).status_code

        assert [verify(f"a{number}@acme.example") for number in range(4)] == [200, 200, 200, 429]
        started.clock.advance(10)  # ten seconds later a new minute begins
        assert [verify(f"b{number}@acme.example") for number in range(4)] == [200, 200, 200, 429]
        report = sandbox.report()

    assert report["windows"][0]["kind"] == "clock"
    assert (report["windows"][0]["max_accepted"], report["calls_over_limit"]) == (3, 2)


def test_kickbox_takes_25_at_once(started: Started):
    with started("kickbox") as (sandbox, http):
        sandbox.set_faults([{"kind": "timeout", "count": 25}])
        hanging = httpx.Client(base_url=sandbox.base_url, trust_env=False, timeout=30)

        def hang(number: int) -> None:
            with contextlib.suppress(httpx.HTTPError):
                hanging.get("/v2/verify", params={"apikey": "live_k", "email": f"a{number}@acme.example"})

        threads = [threading.Thread(target=hang, args=(number,)) for number in range(25)]
        for thread in threads:
            thread.start()
        while sandbox.faults()[0]["fired"] < 25:
            pass
        refused = http.get("/v2/verify", params={"apikey": "live_k", "email": "b@acme.example"})
        report = sandbox.report()
    for thread in threads:
        thread.join()
    hanging.close()

    assert (refused.status_code, refused.json()["message"]) == (429, "Rate Limit Exceeded")
    assert (report["max_in_flight"], report["calls_over_limit"]) == (26, 1)


def test_hunter_takes_ten_a_second_and_three_hundred_a_minute(started: Started):
    with started("hunter") as (sandbox, http):

        def verify() -> int:
            return http.get("/v2/email-verifier", params={"api_key": "k", "email": "valid@acme.example"}).status_code

        assert [verify() for _ in range(11)] == [200] * 10 + [403]
        for _ in range(29):
            started.clock.advance(1)
            assert [verify() for _ in range(10)] == [200] * 10
        started.clock.advance(1)
        assert verify() == 403
        windows = sandbox.report()["windows"]

    assert [(window["max_accepted"], window["max_requests"]) for window in windows] == [(10, 11), (300, 302)]


def test_reachers_minute_begins_with_the_first_request(started: Started):
    started.clock.advance(50)
    with started("reacher") as (sandbox, http):

        def check() -> int:
            return http.post("/v1/check_email", json={"to_email": "valid@acme.example"}).status_code

        assert check() == 200
        started.clock.advance(30)
        assert [check() for _ in range(60)] == [200] * 59 + [429]
        started.clock.advance(29.9)
        assert check() == 429
        started.clock.advance(0.1)
        assert [check() for _ in range(60)] == [200] * 60
        report = sandbox.report()

    assert (report["windows"][0]["kind"], report["windows"][0]["max_accepted"]) == ("fixed", 60)
    assert report["calls_over_limit"] == 2


def test_reachers_day_is_counted_beside_its_minutes():
    clock = FrozenClock(datetime(2026, 1, 1, tzinfo=UTC))
    fixed = WindowKind.FIXED
    limits = Limits({"check": Limit((Window(2, 60, fixed), Window(3, 86_400, fixed)))})

    def admit() -> bool:
        return limits.admit("check", tick=clock.monotonic(), now=clock.now(), in_flight=1) is None

    assert [admit(), admit(), admit()] == [True, True, False]
    clock.advance(60)
    assert [admit(), admit()] == [True, False]
    clock.advance(86_400 - 60)
    assert admit()


def test_without_limits_everything_is_taken(started: Started):
    with started("zerobounce", limited=False) as (sandbox, http):
        assert {zerobounce_batch(http, "a@acme.example").status_code for _ in range(40)} == {200}
        assert sandbox.report()["windows"] == []


def test_who_has_no_key_spends_nothing(started: Started):
    with started("zerobounce", key="k") as (sandbox, http):
        [zerobounce_batch(http, "a@acme.example", key="wrong") for _ in range(40)]
        assert zerobounce_batch(http, "a@acme.example").json()["email_batch"][0]["status"] == "valid"
        assert (sandbox.report()["unauthorized"], sandbox.report()["accepted"]) == (40, 1)
