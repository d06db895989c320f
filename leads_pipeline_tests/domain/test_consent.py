"""Consent statements: read as they are meant, or handed back as they came."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.consent import parse_consent, read_yes_or_no

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
statements = st.fixed_dictionaries(
    {},
    optional={
        "granted": st.booleans() | st.sampled_from(["yes", "no", "perhaps"]) | json_values,
        "purpose": st.text(max_size=8) | json_values,
        "channel": st.sampled_from(["email", "EMAIL", "phone", "any", "fax"]) | json_values,
        "occurred_at": st.datetimes(timezones=st.none() | zones).map(datetime.isoformat) | json_values,
        "legal_basis": json_values,
    },
)


@given(st.lists(statements | json_values, max_size=5))
def test_every_statement_is_either_an_event_or_handed_back(given_statements: list[Any]) -> None:
    parsed = parse_consent(given_statements, context={}, received_at=NOW)
    positions = [event.position for event in parsed.events]
    rest = [item for place, item in enumerate(given_statements, start=1) if place not in positions]
    assert list(parsed.malformed) == rest
    assert positions == sorted(set(positions))
    for event in parsed.events:
        assert event.occurred_at <= NOW
        assert event.occurred_at.tzinfo is not None


def test_no_statement_gives_no_event() -> None:
    parsed = parse_consent([], context={"ip": "192.0.2.1"}, received_at=NOW)
    assert (parsed.events, parsed.malformed) == ((), ())


@pytest.mark.parametrize(
    ("word", "answer"), [(" Yes ", True), ("OPTED OUT", False), (1, True), (0.0, False), (2, None)]
)
def test_the_usual_words_are_understood(word: object, answer: bool | None) -> None:
    assert read_yes_or_no(word) is answer


def test_a_time_without_a_zone_is_utc_and_one_with_a_zone_is_turned() -> None:
    said = [{"granted": True, "occurred_at": text} for text in ("2026-01-01T10:00:00", "2026-01-01T10:00:00+02:00")]
    first, second = parse_consent(said, context={}, received_at=NOW).events
    assert first.occurred_at - second.occurred_at == timedelta(hours=2)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_is_none_in_utc_is_handed_back(text: str) -> None:
    said = {"granted": True, "occurred_at": text}
    assert parse_consent([said], context={}, received_at=NOW).malformed == (said,)


def test_the_evidence_comes_from_the_context_and_not_from_the_sender() -> None:
    said = [{"granted": True, "ip": "203.0.113.9", "user_agent": "forged"}]
    [event] = parse_consent(said, context={"ip": "192.0.2.1"}, received_at=NOW).events
    assert (event.ip, event.user_agent) == ("192.0.2.1", None)


@pytest.mark.parametrize(
    ("granted", "stated", "counts"),
    [
        (True, NOW + timedelta(days=400), NOW),  # dated ahead it would outlive every withdrawal until then
        (False, NOW + timedelta(days=400), NOW),
        (True, NOW - timedelta(hours=2), NOW - timedelta(hours=2)),
        (False, NOW - timedelta(hours=2), NOW),  # a slow clock, or local time without its zone
        (False, NOW - timedelta(hours=14), NOW),
        (False, NOW - timedelta(days=30), NOW - timedelta(days=30)),  # history keeps its order
        (True, NOW - timedelta(days=30), NOW - timedelta(days=30)),
        (False, datetime(1970, 1, 1, tzinfo=UTC), NOW),  # a clock that was never set
        (False, datetime(1, 1, 1, tzinfo=UTC), NOW),
        (True, datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)),  # an older grant is a weaker one
    ],
)
def test_a_senders_clock_is_believed_as_far_as_it_brings_no_consent_back(
    granted: bool, stated: datetime, counts: datetime
) -> None:
    said = {"granted": granted, "occurred_at": stated.isoformat()}
    [event] = parse_consent([said], context={}, received_at=NOW).events
    assert event.occurred_at == counts


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_whatever_a_sender_dates_a_statement_it_never_helps_a_grant_against_a_withdrawal(
    granted_at: datetime, withdrawn_at: datetime
) -> None:
    """Against a withdrawal that is received now, and dated today or nonsense, no grant received by now holds."""
    plausible_history = datetime(2000, 1, 1, tzinfo=UTC) <= withdrawn_at <= NOW - timedelta(days=1)
    said = [
        {"granted": True, "occurred_at": granted_at.isoformat()},
        {"granted": False, "occurred_at": withdrawn_at.isoformat()},
    ]
    grant, withdrawal = parse_consent(said, context={}, received_at=NOW).events
    assert withdrawal.occurred_at >= (withdrawn_at if plausible_history else NOW)
    assert grant.occurred_at <= min(granted_at, NOW)
    assert plausible_history or grant.occurred_at <= withdrawal.occurred_at
