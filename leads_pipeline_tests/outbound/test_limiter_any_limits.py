"""Whatever an account limits, in whatever units and windows: no schedule of callers gets more than any of them allows.

The oracle counts by itself, from what was granted and when it reached the vendor; it knows nothing of slots or logs.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.config import DailyLimit, EndpointClassLimits, RequestLimits, WindowLimit
from leads_pipeline.domain.delivery import Unit
from leads_pipeline.outbound.answers import after_answer, given_back
from leads_pipeline.outbound.limiter import MARGIN, Ask, Grant, LimiterState, Seen, Wait, decide

# An hour before midnight in New York, on the day before its clocks are changed.
BEGIN = datetime(2026, 3, 8, 4, tzinfo=UTC)
ZONES = ("UTC", "America/New_York", "Pacific/Auckland", "Asia/Kathmandu")
MOST_CREDITS, MOST_RECORDS = 12, 100

units = st.sampled_from(list(Unit))


@st.composite
def windows(draw: st.DrawFn) -> WindowLimit:
    unit = draw(units)
    least = {Unit.REQUESTS: 1, Unit.CREDITS: MOST_CREDITS, Unit.RECORDS: MOST_RECORDS}[unit]
    most = draw(st.integers(least, 20 * least))
    seconds = draw(st.sampled_from([1, 2, 7, 10, 60, 3600]))
    return WindowLimit(**{str(unit): most}, seconds=seconds, by_the_clock=draw(st.booleans()))


@st.composite
def limits(draw: st.DrawFn) -> RequestLimits:
    """Any windows of the account and of two classes of endpoints, and perhaps a day."""
    some = st.lists(windows(), max_size=3).map(tuple)
    classes = {
        name: EndpointClassLimits(windows=draw(some), separate=separate)
        for name, separate in (("search", True), ("bulk", False))
    }
    daily = draw(st.none() | st.builds(DailyLimit, requests=st.integers(1, 60), time_zone=st.sampled_from(ZONES)))
    return RequestLimits(windows=draw(some), daily=daily, endpoint_classes=classes)


asks = st.builds(
    lambda endpoint_class, credit, records: Ask(
        endpoint_class, {Unit.REQUESTS: 1, Unit.CREDITS: credit, Unit.RECORDS: records}
    ),
    st.sampled_from(["api", "search", "bulk"]),
    st.integers(0, MOST_CREDITS),
    st.integers(0, MOST_RECORDS),
)
# Milliseconds until the next caller comes, and what becomes of the request: it goes at once and is answered, it reaches
# the vendor just within the margin, it is answered late, nobody ever says, it is given back.
steps = st.lists(
    st.tuples(
        st.integers(0, 300) | st.integers(0, 90_000),
        asks,
        st.sampled_from(["answered", "just in time", "late", "silence", "given back"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=80,
)


@dataclass(frozen=True)
class Sent:
    """A request that the vendor received, by its clock."""

    at_ms: int
    ask: Ask


def played(given_limits: RequestLimits, script: list[tuple[int, Ask, str, bool]]) -> list[Sent]:
    """What a vendor receives of these callers; some wait as they are told."""
    state, now_ms, sent = LimiterState(), 0, []
    margin_ms = int(MARGIN.total_seconds() * 1000)

    def instant() -> datetime:
        return BEGIN + timedelta(milliseconds=now_ms)

    for gap, ask, fate, patient in script:
        now_ms += gap
        answer, decided = decide(state, now=instant(), limits=given_limits, ask=ask)
        if isinstance(answer, Wait) and patient and answer.seconds < 7200:
            now_ms += int(answer.seconds * 1000) + 1
            answer, decided = decide(state, now=instant(), limits=given_limits, ask=ask)
            assert isinstance(answer, Grant), "whoever waits as told gets a grant"
        if isinstance(answer, Wait):
            assert answer.seconds > 0
            continue
        state = decided
        if fate == "given back":
            state = given_back(state, answer, limits=given_limits)
            continue
        arrived = now_ms + (margin_ms if fate == "just in time" else 0)
        if fate == "late":
            now_ms += 400
            arrived = now_ms
        sent.append(Sent(arrived, ask))
        if fate in ("answered", "late"):
            state = after_answer(state, answer, Seen(late=fate == "late"), now=instant(), limits=given_limits)
    return sent


def counted(sent: list[Sent], given_limits: RequestLimits, name: str, unit: str) -> list[tuple[int, int]]:
    """When which cost counts in a window of the account (``api``) or of a class."""
    classes = given_limits.endpoint_classes
    return [
        (item.at_ms, item.ask.cost[Unit(unit)])
        for item in sorted(sent, key=lambda item: item.at_ms)
        if item.ask.endpoint_class == name
        or (name == "api" and not (item.ask.endpoint_class in classes and classes[item.ask.endpoint_class].separate))
    ]


def fullest(costs: list[tuple[int, int]], window: WindowLimit) -> int:
    """The most that any window held; one by the clock begins with each multiple of its length."""
    length, begin_ms = window.seconds * 1000, round(BEGIN.timestamp() * 1000)
    if window.by_the_clock:
        parts: dict[int, int] = {}
        for at_ms, cost in costs:
            parts[(begin_ms + at_ms) // length] = parts.get((begin_ms + at_ms) // length, 0) + cost
        return max(parts.values(), default=0)
    return max((sum(cost for at, cost in costs if last - length < at <= last) for last, _cost in costs), default=0)


@settings(max_examples=150, deadline=None)
@given(given_limits=limits(), script=steps)
def test_no_schedule_of_callers_passes_any_window_of_any_unit(given_limits: RequestLimits, script: Any) -> None:
    sent = played(given_limits, script)
    classes = {
        "api": given_limits.windows,
        **{name: item.windows for name, item in given_limits.endpoint_classes.items()},
    }
    for name, held in classes.items():
        for window in held:
            assert fullest(counted(sent, given_limits, name, window.unit), window) <= window.most


@settings(max_examples=100, deadline=None)
@given(
    daily=st.builds(DailyLimit, requests=st.integers(1, 6), time_zone=st.sampled_from(ZONES)),
    gaps=st.lists(st.integers(0, 7_200_000), min_size=10, max_size=80),
)
def test_no_schedule_of_callers_passes_the_day_of_the_account_s_zone(daily: DailyLimit, gaps: list[int]) -> None:
    script = [(gap, Ask(), "answered", False) for gap in gaps]
    days: Counter[date] = Counter()
    for item in played(RequestLimits(windows=(), daily=daily), script):
        days[(BEGIN + timedelta(milliseconds=item.at_ms)).astimezone(daily.zone).date()] += 1
    assert max(days.values()) <= daily.requests
    # Nothing is kept from whoever comes on a new day.
    came = [BEGIN + timedelta(milliseconds=sum(gaps[: place + 1])) for place in range(len(gaps))]
    for day, callers in Counter(instant.astimezone(daily.zone).date() for instant in came).items():
        assert days[day] == min(callers, daily.requests)
