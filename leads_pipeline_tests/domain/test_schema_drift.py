"""Which fields of a source are new and unused, and which ones are missed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.schema_drift import MISSED, POSTS, SourceField, drift_of

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=20)
WINDOW = timedelta(days=7)


def seen(
    field: str,
    used_for: str | None = None,
    *,
    times: int = 100,
    by: int = 100,
    first: datetime = START,
    last: datetime = NOW,
    source: str = "website",
) -> SourceField:
    return SourceField("acme", source, field, used_for, times, by, first, last)


def drift(*fields: SourceField, now: datetime = NOW) -> tuple[list[str], list[tuple[str, int]]]:
    found = drift_of(fields, now=now, window=WINDOW, min_posts=20)
    return [item.field for item in found.unknown], [(item.field.field, item.posts_since) for item in found.vanished]


ALL = seen(POSTS)


def test_a_source_that_sends_what_it_always_sent_has_not_changed():
    assert drift(ALL, seen("email", "email"), seen("colour")) == ([], [])


def test_a_new_field_that_nothing_uses_is_told_for_as_long_as_the_window():
    new = seen("budget", first=NOW)
    assert drift(ALL, new) == (["budget"], [])
    assert drift(ALL, new, now=NOW + WINDOW) == (["budget"], [])
    assert drift(ALL, new, now=NOW + WINDOW + timedelta(seconds=1)) == ([], [])
    assert drift(ALL, seen("budget", "lane", first=NOW)) == ([], [])


def test_what_a_source_sends_on_its_first_day_is_not_news():
    born = NOW - timedelta(days=2)
    posts = seen(POSTS, first=born)
    assert drift(posts, seen("colour", first=born), seen("size", first=born + timedelta(hours=23))) == ([], [])
    assert drift(posts, seen("colour", first=born + timedelta(hours=25))) == (["colour"], [])


def test_a_field_that_used_to_come_is_missed_once_enough_posts_came_without_it():
    assert drift(ALL, seen("phone", "phone", times=80, by=80)) == ([], [("phone", 20)])
    assert drift(ALL, seen("phone", "phone", times=81, by=81)) == ([], []), "19 posts prove nothing"
    assert drift(ALL, seen("phone", times=50, by=50)) == ([], []), "nobody uses it"


def test_a_field_that_few_posts_have_is_missed_later():
    rare = seen("birthday", "date_of_birth", times=10, by=100)
    assert drift(seen(POSTS, times=199), rare) == ([], [])
    assert drift(seen(POSTS, times=200), rare) == ([], [("birthday", 100)])


def test_a_field_whose_place_another_one_has_taken_is_not_missed():
    gone = seen("phone", "phone", times=60, by=60)
    assert drift(ALL, gone, seen("mobile", "phone", times=40)) == ([], [])
    later = seen("tel", "phone", times=70, by=70)
    assert drift(ALL, gone, later) == ([], [("tel", 30)]), "of two that are gone, the one that came last"


def test_one_tick_box_does_not_stand_in_for_another():
    assert drift(ALL, seen("sms", "consent", times=60, by=60), seen("newsletter", "consent")) == ([], [("sms", 40)])


def test_a_field_that_is_long_gone_is_not_told_any_more():
    gone = seen("phone", "phone", times=60, by=60, last=NOW - WINDOW - timedelta(seconds=1))
    assert drift(ALL, gone) == ([], [])


def test_each_source_is_judged_by_its_own_posts():
    other = [seen(POSTS, times=60, by=60, source="fair"), seen("phone", "phone", times=55, by=55, source="fair")]
    assert drift(ALL, seen("phone", "phone", times=60, by=60), *other) == ([], [("phone", 40)])
    assert drift(*other[1:]) == ([], []), "without a count of posts nothing is known"


@given(
    used=st.sampled_from([None, "email", "consent"]),
    posts=st.integers(1, 10_000),
    by=st.integers(1, 10_000),
    times=st.integers(1, 10_000),
)
@pytest.mark.parametrize("min_posts", [1, 20])
def test_nothing_is_missed_that_had_no_chance_to_come(used, posts, by, times, min_posts):
    by, times = min(by, posts), min(times, by, posts)
    found = drift_of(
        [seen(POSTS, times=posts), seen("x", used, times=times, by=by)], now=NOW, window=WINDOW, min_posts=min_posts
    )
    since = posts - by
    missed = used is not None and since >= min_posts and since * times / by >= MISSED
    assert [item.posts_since for item in found.vanished] == ([since] if missed else [])
    assert found.unknown == ()
