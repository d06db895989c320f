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


def test_a_later_grant_for_one_channel_ends_a_withdrawal_of_all_for_that_channel_alone() -> None:
    folded = fold_consent([said(1, True, "any"), said(2, False, "any"), said(3, True, "email")])
    assert is_granted(folded, purpose="marketing", channel="email")
    assert not is_granted(folded, purpose="marketing", channel="phone")
    assert not is_granted(folded, purpose="marketing", channel="any")


def test_a_later_grant_for_all_channels_is_one_for_each() -> None:
    folded = fold_consent([said(1, False, "email"), said(2, True, "any")])
    assert is_granted(folded, purpose="marketing", channel="email")
    at_once = fold_consent([said(2, False, "email"), said(2, True, "any")])
    assert not is_granted(at_once, purpose="marketing", channel="email")
    assert is_granted(at_once, purpose="marketing", channel="phone")


CHANNELS, PURPOSES = ("email", "phone", "any"), ("marketing", "service")


def _granted_by_the_definition(events: list[ConsentEvent], purpose: str, channel: str) -> bool:
    """A grant that is strictly later than every withdrawal about the channel or about any."""
    about = [event for event in events if event.purpose == purpose and event.channel in (channel, "any")]
    withdrawn = [event.occurred_at for event in about if not event.granted]
    granted = [event.occurred_at for event in about if event.granted]
    return bool(granted) and (not withdrawn or max(granted) > max(withdrawn))


@settings(max_examples=500, deadline=None)
@given(EVENTS)
def test_consent_is_a_grant_that_is_strictly_later_than_every_withdrawal(events: list[ConsentEvent]) -> None:
    folded = fold_consent(events)
    for purpose in PURPOSES:
        for channel in CHANNELS:
            granted = is_granted(folded, purpose=purpose, channel=channel)
            assert granted == _granted_by_the_definition(events, purpose, channel)


@settings(max_examples=500, deadline=None)
@given(EVENTS, EVENTS)
def test_a_merge_never_grants_what_a_later_withdrawal_of_either_side_revoked(
    ours: list[ConsentEvent], theirs: list[ConsentEvent]
) -> None:
    merged = fold_consent([*ours, *theirs])
    assert merged == fold_consent([*theirs, *ours])
    for purpose in PURPOSES:
        for channel in CHANNELS:
            if not is_granted(merged, purpose=purpose, channel=channel):
                continue
            sides = [is_granted(fold_consent(side), purpose=purpose, channel=channel) for side in (ours, theirs)]
            assert any(sides), "nobody granted it, and the merge does"
            last = max(e.occurred_at for e in [*ours, *theirs] if e.granted and e.purpose == purpose
                       and e.channel in (channel, "any"))  # fmt: skip
            for event in (*ours, *theirs):
                if not event.granted and event.purpose == purpose and event.channel in (channel, "any"):
                    assert event.occurred_at < last


@settings(max_examples=300, deadline=None)
@given(EVENTS, EVENTS)
def test_a_split_or_an_undo_leaves_the_fold_of_the_events_that_remain(
    ours: list[ConsentEvent], theirs: list[ConsentEvent]
) -> None:
    """Nothing of the merged state lingers: folding keeps no memory, and an event is one however often it came."""
    before = fold_consent(ours)
    merged = {*ours, *theirs}
    fold_consent(merged)
    remaining = merged - (set(theirs) - set(ours))
    assert fold_consent(remaining) == before
