"""The quota, at its exact edges."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.clock import FrozenClock
from leads_pipeline.sandbox.windows import SlidingWindow
from leads_pipeline_tests.crm.sandbox.conftest import Api, Started, entry


def fullest(ticks: Sequence[float], seconds: float) -> int:
    """The most ticks in any window, counted the slow way."""
    return max((sum(start <= tick < start + seconds for tick in ticks) for start in ticks), default=0)


# Whole ticks: with fractions the sum start + seconds would round, and the two ways of counting with it.
@given(st.lists(st.integers(0, 60), max_size=60), st.integers(1, 20))
def test_the_peak_is_the_exact_maximum_over_all_windows(gaps: list[int], seconds: int):
    window, ticks = SlidingWindow(seconds), [sum(gaps[: place + 1]) for place in range(len(gaps))]

    for tick in ticks:
        window.add(tick)

    assert window.peak == fullest(ticks, seconds)


@given(st.lists(st.integers(0, 5), max_size=80), st.integers(1, 5), st.integers(1, 10))
def test_no_window_holds_more_than_the_limit_and_none_is_refused_while_there_is_room(
    gaps: list[int], limit: int, seconds: int
):
    window, accepted, tick = SlidingWindow(seconds), list[int](), 0
    for gap in gaps:
        tick += gap
        room = sum(tick - before < seconds for before in accepted) < limit
        assert (window.held(tick) < limit) is room
        if room:
            window.add(tick)
            accepted.append(tick)

    assert fullest(accepted, seconds) <= limit


def statuses(api: Api, times: int) -> list[int]:
    return [api.get().status_code for _ in range(times)]


def test_the_window_slides_and_a_request_leaves_it_when_it_is_ten_seconds_old(started: Started, clock: FrozenClock):
    with started(requests=3) as (sandbox, api):
        assert statuses(api, 2) == [200, 200]
        clock.advance(5)
        assert statuses(api, 2) == [200, 429]
        clock.advance(4.75)
        assert statuses(api, 1) == [429]
        clock.advance(0.25)
        assert statuses(api, 3) == [200, 200, 429]

        report = sandbox.report()
        assert (report["requests"], report["accepted"], report["http_429"]) == (8, 5, 3)
        assert report["max_accepted_in_any_window"] == 3
        assert report["max_requests_in_any_window"] == 6  # at 10 s: from the third on, refused ones too


def test_a_refused_request_costs_nothing_and_writes_nothing(started: Started, clock: FrozenClock):
    with started(requests=1) as (sandbox, api):
        api.get()
        for _ in range(5):
            assert api.upsert(entry("k1")).status_code == 429
        clock.advance(10)

        assert sandbox.report()["contacts"] == 0
        assert api.upsert(entry("k1")).status_code == 200


def test_a_429_says_which_limit_and_no_retry_after(started: Started):
    with started(requests=1) as (_sandbox, api):
        api.get()
        response = api.get()

    assert response.json() == {
        "status": "error",
        "message": "You have reached your ten_secondly_rolling limit.",
        "errorType": "RATE_LIMIT",
        "correlationId": response.headers["X-HubSpot-Correlation-Id"],
        "policyName": "TEN_SECONDLY_ROLLING",
        "requestId": response.headers["X-HubSpot-Correlation-Id"],
    }
    assert "Retry-After" not in response.headers
    assert response.headers["X-HubSpot-RateLimit-Remaining"] == "0"


def test_an_account_that_sends_retry_after_can_be_played(started: Started, clock: FrozenClock):
    with started(requests=1, retry_after=True) as (_sandbox, api):
        api.get()
        clock.advance(3.5)
        response = api.get()
        clock.advance(int(response.headers["Retry-After"]))

        assert response.headers["Retry-After"] == "7"
        assert api.get().status_code == 200


def test_every_answer_tells_what_is_left(started: Started):
    with started(requests=20, daily=1_000) as (_sandbox, api):
        api.get()
        headers = api.upsert(entry("k1", nope="x")).headers

    told = {name: value for name, value in headers.items() if name.startswith("x-hubspot-ratelimit")}
    assert told == {
        "x-hubspot-ratelimit-max": "20",
        "x-hubspot-ratelimit-remaining": "18",
        "x-hubspot-ratelimit-interval-milliseconds": "10000",
        "x-hubspot-ratelimit-daily": "1000",
        "x-hubspot-ratelimit-daily-remaining": "998",
    }


def test_the_day_ends_at_midnight_of_the_accounts_time_zone(started: Started, clock: FrozenClock):
    # 12:00 UTC is 13:00 in Vienna: eleven hours to midnight there.
    assert clock.now() == datetime(2026, 1, 15, 12, tzinfo=UTC)
    with started(requests=None, daily=2, time_zone="Europe/Vienna", retry_after=True) as (sandbox, api):
        assert statuses(api, 3) == [200, 200, 429]
        response = api.get()
        assert (response.json()["policyName"], response.headers["Retry-After"]) == ("DAILY", str(11 * 3600))
        assert response.json()["message"] == "You have reached your daily limit."
        clock.advance(11 * 3600 - 1)
        assert statuses(api, 1) == [429]
        clock.advance(1)
        assert statuses(api, 3) == [200, 200, 429]
        assert sandbox.report()["accepted_today"] == 2


def test_search_has_a_limit_of_its_own_and_no_quota_headers(started: Started, clock: FrozenClock):
    with started(requests=1, search_per_second=2) as (sandbox, api):
        answers = [api.post("/search", {}) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json()["policyName"] == "SECONDLY"
        assert not any("ratelimit" in name for answer in answers for name in answer.headers)
        assert api.get().status_code == 200
        clock.advance(1)
        assert api.post("/search", {}).status_code == 200
        assert sandbox.report()["max_accepted_in_any_window"] == 1


def test_without_limits_everything_is_taken(started: Started):
    from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions

    with started(HubSpotOptions(requests=1, daily=1).without_limits()) as (sandbox, api):
        assert statuses(api, 5) == [200] * 5
        assert "X-HubSpot-RateLimit-Max" not in api.get().headers
        assert sandbox.report()["limit"] is None


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic secret", "secret"])
def test_a_wrong_token_is_refused_and_spends_no_quota(started: Started, authorization: str | None):
    with started(requests=1, token="secret") as (sandbox, api):
        headers = {} if authorization is None else {"Authorization": authorization}
        del api.http.headers["Authorization"]
        response = api.http.get("/crm/v3/objects/contacts", headers=headers)

        assert response.status_code == 401
        assert response.json()["category"] == "INVALID_AUTHENTICATION"
        assert api.http.get("/crm/v3/objects/contacts", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert (sandbox.report()["unauthorized"], sandbox.report()["accepted"]) == (1, 1)


def test_any_token_will_do_when_none_is_demanded(started: Started):
    with started(token=None) as (_sandbox, api):
        assert api.http.get("/crm/v3/objects/contacts", headers={"Authorization": "Bearer x"}).status_code == 200
        assert api.http.get("/crm/v3/objects/contacts", headers={"Authorization": "Bearer"}).status_code == 401
