"""Lead ids are ordered by the time at which they were made."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.ids import first_uuid7_at, instant_of, sorted_uuid7s, uuid7

instants = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1)).map(  # noqa: DTZ001
    lambda naive: naive.replace(tzinfo=UTC)
)


@given(instants)
def test_an_id_is_a_version_7_uuid_that_remembers_its_millisecond(instant: datetime):
    made = uuid7(instant)

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert timedelta(0) <= instant - instant_of(made) < timedelta(milliseconds=1)


@given(instants, st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=1)))
def test_a_later_millisecond_gives_a_greater_id(instant: datetime, later: timedelta):
    assert uuid7(instant) < first_uuid7_at(instant + later)


@given(instants)
def test_the_bound_of_an_instant_is_not_above_any_id_of_it(instant: datetime):
    assert first_uuid7_at(instant) <= uuid7(instant)


def test_ids_of_one_instant_differ():
    now = datetime(2026, 1, 15, tzinfo=UTC)

    assert len({uuid7(now) for _ in range(10_000)}) == 10_000


@given(instants, st.integers(0, 50))
def test_many_ids_of_an_instant_are_ids_of_it_in_ascending_order(instant: datetime, count: int):
    made = sorted_uuid7s(instant, count)

    assert len(set(made)) == count
    assert made == sorted(made)
    assert all(value.version == 7 and value.variant == "specified in RFC 4122" for value in made)
    assert all(instant_of(value) == instant_of(uuid7(instant)) for value in made)
