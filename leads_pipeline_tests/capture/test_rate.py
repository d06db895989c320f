"""How often one sender may post."""

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.capture.rate import RateLimiter
from leads_pipeline.config import KeyRate


def test_a_burst_is_taken_and_then_the_rate_holds():
    limiter = RateLimiter()
    rate = KeyRate(requests=10, seconds=1, burst=5)

    waits = [limiter.wait_seconds("a", rate, now=100.0) for _ in range(7)]

    assert [wait == 0 for wait in waits] == [True] * 6 + [False]
    assert waits[-1] <= 0.1
    assert limiter.wait_seconds("a", rate, now=100.0 + waits[-1]) == 0


def test_senders_do_not_share_a_rate():
    limiter = RateLimiter()
    rate = KeyRate(requests=1, seconds=60, burst=0)

    assert limiter.wait_seconds("a", rate, now=0.0) == 0
    assert limiter.wait_seconds("b", rate, now=0.0) == 0
    assert limiter.wait_seconds("a", rate, now=0.0) > 0


def test_a_refused_request_does_not_push_the_next_one_back():
    limiter = RateLimiter()
    rate = KeyRate(requests=1, seconds=10, burst=0)
    assert limiter.wait_seconds("a", rate, now=0.0) == 0

    for _ in range(100):
        assert limiter.wait_seconds("a", rate, now=5.0) == 5.0

    assert limiter.wait_seconds("a", rate, now=10.0) == 0


@given(
    requests=st.integers(1, 50),
    burst=st.integers(0, 20),
    share=st.integers(1, 4),
    gaps=st.lists(st.floats(0, 0.5, allow_nan=False), min_size=1, max_size=200),
)
def test_no_process_takes_more_than_its_share_of_the_rate_and_the_burst(
    requests: int, burst: int, share: int, gaps: list[float]
):
    limiter = RateLimiter(share=share)
    rate = KeyRate(requests=requests, seconds=1, burst=burst)
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        taken += limiter.wait_seconds("a", rate, now=now) == 0

    assert taken <= (now * requests + burst) / share + 1 + 1e-6
