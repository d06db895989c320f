"""Consent, folded from its events."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.consent_folding import ConsentEvent, fold_consent, is_granted

START = datetime(2026, 1, 1, tzinfo=UTC)


def said(day: int, granted: bool, channel: str = "email", *, lead: int = 1, purpose: str = "marketing") -> ConsentEvent:
    return ConsentEvent(UUID(int=lead), 1, granted, purpose, channel, START + timedelta(days=day))


def test_the_latest_statement_holds_whichever_lead_made_it() -> None:
    folded = fold_consent([said(5, False, lead=1), said(3, True, lead=2)])
    assert folded == {
        "marketing": {
            "email": {"granted": False, "as_of": "2026-01-06T00:00:00+00:00", "lead_id": str(UUID(int=1))},
        }
    }
    assert is_granted(fold_consent([said(3, False), said(5, True)]), purpose="marketing", channel="email")


def test_of_two_statements_at_one_instant_the_withdrawal_holds() -> None:
    folded = fold_consent([said(3, True, lead=9), said(3, False, lead=1)])
    assert not is_granted(folded, purpose="marketing", channel="email")


def test_a_statement_about_any_channel_is_one_about_each() -> None:
    withdrawn = fold_consent([said(1, True, "email"), said(2, False, "any")])
    assert not is_granted(withdrawn, purpose="marketing", channel="email")
    granted = fold_consent([said(1, True, "any"), said(2, False, "email")])
    assert not is_granted(granted, purpose="marketing", channel="email")
    assert is_granted(granted, purpose="marketing", channel="phone")


def test_silence_is_no_consent_and_purposes_are_apart() -> None:
    folded = fold_consent([said(1, True, purpose="marketing")])
    assert not is_granted(folded, purpose="profiling", channel="email")
    assert not is_granted(folded, purpose="marketing", channel="phone")
    assert fold_consent([]) == {}


EVENTS = st.lists(
    st.builds(
        ConsentEvent,
        lead_id=st.integers(1, 3).map(lambda number: UUID(int=number)),
        position=st.integers(1, 2),
        granted=st.booleans(),
        purpose=st.sampled_from(["marketing", "service"]),
        channel=st.sampled_from(["email", "phone", "any"]),
        occurred_at=st.integers(0, 2).map(lambda day: START + timedelta(days=day)),
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.randoms(use_true_random=False))
def test_order_and_repetition_make_no_difference(events: list[ConsentEvent], random: object) -> None:
    repeated = events * 2
    random.shuffle(repeated)  # type: ignore[attr-defined]
    assert fold_consent(repeated) == fold_consent(events)


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_no_grant_survives_a_withdrawal_that_is_as_late_or_later(events: list[ConsentEvent]) -> None:
    folded = fold_consent(events)
    for purpose, channels in folded.items():
        for channel in channels:
            if not is_granted(folded, purpose=purpose, channel=channel):
                continue
            about = [event for event in events if event.purpose == purpose and event.channel in (channel, "any")]
            last_grant = max(event.occurred_at for event in about if event.granted)
            assert all(event.occurred_at < last_grant for event in about if not event.granted)
