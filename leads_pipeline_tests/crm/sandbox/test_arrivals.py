"""The log of arrivals, and the windows that are counted from it."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.arrivals import Arrivals
from leads_pipeline.crm.sandbox.options import Window
from leads_pipeline_tests.crm.sandbox.conftest import Api, Started, entry

LIST = "/crm/v3/objects/contacts"


def fullest(ticks: Sequence[float], seconds: float) -> int:
    """The most ticks in any window, counted the slow way."""
    return max((sum(start <= tick < start + seconds for tick in ticks) for start in ticks), default=0)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(1, 2), st.sampled_from(["a", "b"])), max_size=60),
    st.integers(1, 15),
)
def test_the_fullest_window_is_the_exact_maximum_over_all_windows(
    given_: list[tuple[int, bool, int, str]], seconds: int
):
    log, tick, seen = Arrivals(began=0), 0, []
    for gap, accepted, application, endpoint in given_:
        tick += gap
        seen.append((tick, accepted, application, endpoint))
        log.add(tick=tick, endpoint=endpoint, application=application, status=200, accepted=accepted)

    for application, endpoint in ((None, None), (1, None), (None, "b"), (2, "a")):
        mine = [item for item in seen if application in (None, item[2]) and endpoint in (None, item[3])]
        found = log.fullest(seconds, application=application, endpoint=endpoint)
        assert found.requests == fullest([item[0] for item in mine], seconds)
        assert found.accepted == fullest([item[0] for item in mine if item[1]], seconds)


def test_the_log_is_bounded_and_says_what_it_has_forgotten():
    log = Arrivals(began=100.0, capacity=20)
    for number in range(1, 101):
        log.add(tick=100.0 + number, endpoint="list", application=1, status=200, accepted=True)

    assert len(log) + log.dropped == 100
    assert len(log) <= 20
    kept = log.page(after=0, limit=1000)
    assert [item.number for item in kept] == list(range(log.dropped + 1, 101))
    assert all(item.seconds == item.number for item in kept)
    assert log.page(after=99, limit=10) == kept[-1:]
    assert log.page(after=100, limit=10) == []


def test_every_request_is_logged_with_what_it_got(started: Started, clock: FrozenClock):
    with started(requests=3, token="secret", search_per_second=1) as (sandbox, api):
        api.upsert(entry("k1"))
        clock.advance(1.5)
        sandbox.set_faults([{"kind": "reset_connection", "count": 1, "endpoint": "batch/upsert"}])
        with pytest.raises(Exception, match=r"."):
            api.upsert(entry("k2"))
        api.get()
        api.get()
        api.post("/search", {})
        api.http.get(LIST, headers={"Authorization": "Bearer wrong"})
        logged = [tuple(item.values()) for item in sandbox.arrivals()]

    assert logged == [
        (1, 0.0, "batch/upsert", 1, 200, True),
        (2, 1.5, "batch/upsert", 1, None, True),
        (3, 1.5, "list", 1, 200, True),
        (4, 1.5, "list", 1, 429, False),
        (5, 1.5, "search", 1, 200, True),
        (6, 1.5, "list", 0, 401, False),
    ]


def test_the_log_comes_in_pages_and_begins_anew_with_a_reset(started: Started):
    with started() as (sandbox, api):
        for _ in range(5):
            api.get()
        first = api.http.get("/_sandbox/arrivals", params={"limit": 3}).json()
        second = api.http.get("/_sandbox/arrivals", params={"limit": 3, "after": first["after"]}).json()
        sandbox.reset()

        assert ([item["number"] for item in first["arrivals"]], first["after"]) == ([1, 2, 3], 3)
        assert ([item["number"] for item in second["arrivals"]], second["after"]) == ([4, 5], None)
        assert list(sandbox.arrivals()) == []


@pytest.mark.parametrize("query", ["", "seconds=", "seconds=0", "seconds=x", "seconds=inf", "seconds=nan",
                                   "seconds=1,1,1,1,1,1,1,1,1,1,1", "seconds=1&application=x"])  # fmt: skip
def test_windows_that_cannot_be_are_refused(api: Api, query: str):
    assert api.http.get(f"/_sandbox/windows?{query}").status_code == 400


def test_all_windows_hold_at_once_and_the_log_proves_it(started: Started, clock: FrozenClock):
    with started(requests=5, window_seconds=2, more_windows=(Window(8, 10),)) as (sandbox, api):
        statuses = []
        for _ in range(12):
            statuses += [api.get().status_code for _ in range(3)]
            clock.advance(1)
        windows = sandbox.fullest_windows(2, 10)
        report = sandbox.report()

    # Five in the first two seconds, three in the next two, and no more before the first are ten seconds old.
    assert [status for status in statuses[:30] if status == 200] == [200] * 8
    assert statuses[30:] == [200, 200, 200, 200, 200, 429]
    assert windows == [{"seconds": 2, "requests": 6, "accepted": 5}, {"seconds": 10, "requests": 30, "accepted": 8}]
    assert [(item["limit"], item["max_accepted"], item["max_requests"]) for item in report["windows"]] == [
        (5, 5, 6), (8, 8, 30),
    ]  # fmt: skip


def test_of_several_windows_the_one_with_the_least_left_is_told(started: Started, clock: FrozenClock):
    def told(api: Api) -> tuple[str, ...]:
        headers = api.get().headers
        return tuple(headers[f"X-HubSpot-RateLimit-{name}"] for name in ("Max", "Remaining", "Interval-Milliseconds"))

    with started(requests=3, window_seconds=2, more_windows=(Window(5, 10),)) as (_sandbox, api):
        assert told(api) == ("3", "2", "2000")
        assert told(api) == ("3", "1", "2000")
        clock.advance(2)
        assert told(api) == ("3", "2", "2000")  # as much as of the other: the first speaks
        assert told(api) == ("3", "1", "2000")
        clock.advance(2)
        assert told(api) == ("5", "0", "10000")
        assert told(api) == ("5", "0", "10000")


def test_retry_after_waits_for_every_full_window(started: Started, clock: FrozenClock):
    with started(requests=2, window_seconds=2, more_windows=(Window(2, 10),), retry_after=True) as (_sandbox, api):
        api.get()
        api.get()
        clock.advance(1)
        refused = api.get()
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "9")
        clock.advance(9)
        assert api.get().status_code == 200


def test_two_applications_eat_the_same_quota_and_are_told_apart(started: Started):
    with started(requests=3, token="ours", other_tokens=("theirs",)) as (sandbox, api):
        ours, theirs = {"Authorization": "Bearer ours"}, {"Authorization": "Bearer theirs"}
        statuses = [api.http.get(LIST, headers=who).status_code for who in (ours, theirs, theirs, ours)]
        alone = [sandbox.fullest_windows(10, application=number)[0]["accepted"] for number in (1, 2)]
        together = sandbox.fullest_windows(10)[0]["accepted"]
        counted = sandbox.report()["applications"]

    assert statuses == [200, 200, 200, 429]
    assert (alone, together) == ([1, 2], 3)
    assert counted == {"1": 2, "2": 2}


def test_another_application_can_be_played_at_an_even_rate(started: Started, clock: FrozenClock):
    with started(requests=10, daily=1000, others_per_second=0.5) as (sandbox, api):
        clock.advance(10)
        response = api.get()
        assert response.headers["X-HubSpot-RateLimit-Remaining"] == "4"  # theirs at 2, 4 … 10 s, and ours
        assert response.headers["X-HubSpot-RateLimit-Daily-Remaining"] == "994"
        assert [(item["seconds"], item["application"]) for item in sandbox.arrivals()] == [
            *((at, 255) for at in (2, 4, 6, 8, 10)), (10, 1),
        ]  # fmt: skip
        assert sandbox.report()["requests"] == 1  # what came over the network
        assert sandbox.fullest_windows(10)[0]["accepted"] == 6


def test_the_played_application_is_refused_like_anyone_and_a_long_gap_is_not_caught_up(
    started: Started, clock: FrozenClock
):
    with started(requests=1, others_per_second=1) as (sandbox, api):
        clock.advance(3)
        assert api.get().status_code == 429
        assert [item["status"] for item in sandbox.arrivals()] == [200, 429, 429, 429]
        clock.advance(86_400)
        api.get()
        assert 600 <= len(list(sandbox.arrivals())) - 5 <= 601
