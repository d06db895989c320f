"""A rule at one target under a simulated clock: what it does, and what it never does whatever is measured."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.policies import MOST_UNSEEN, Effect, Ending, PolicyState, Rule, Standing, expired, idle, step

START = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
LOOK = timedelta(seconds=30)

DEEP = Rule(
    is_above=True,
    limit=100,
    well=40,
    hold=timedelta(seconds=60),
    recover=timedelta(seconds=90),
    cool_down=timedelta(seconds=300),
    at_most=timedelta(minutes=30),
)


def played(rule: Rule, values: list[float | None], *, every: timedelta = LOOK) -> list[tuple[Effect, PolicyState]]:
    """What came of each look, one after the other."""
    standing, seen = idle(START), []
    for number, value in enumerate(values):
        after = step(rule, standing, value, START + number * every)
        standing = after.standing
        seen.append((after.effect, standing.state))
    return seen


def effects(rule: Rule, values: list[float | None]) -> list[Effect]:
    return [effect for effect, _state in played(rule, values) if effect in (Effect.BEGIN, Effect.END)]


def test_a_condition_must_hold_for_its_time_before_anything_is_done():
    assert [state for _effect, state in played(DEEP, [150, 150, 150])] == ["holding", "holding", "acting"]
    assert effects(DEEP, [150, 150, 99, 150, 150]) == []


def test_a_value_between_the_limit_and_well_ends_nothing_and_begins_nothing():
    assert effects(DEEP, [99] * 50) == []
    assert effects(DEEP, [150] * 3 + [41, 99, 60] * 15) == [Effect.BEGIN]


def test_an_action_ends_when_all_has_been_well_for_its_time():
    told = played(DEEP, [150] * 3 + [10] * 4)

    assert told[2:] == [
        (Effect.BEGIN, "acting"),
        (Effect.KEEP, "recovering"),
        (Effect.KEEP, "recovering"),
        (Effect.KEEP, "recovering"),
        (Effect.END, "cooling"),
    ]


def test_one_bad_value_while_it_recovers_begins_the_recovery_anew():
    assert effects(DEEP, [150] * 3 + [10, 10, 10, 41, 10, 10, 10]) == [Effect.BEGIN]


def test_a_clock_that_is_set_back_does_not_make_a_cool_down_longer():
    cooling = Standing(PolicyState.COOLING, START + timedelta(hours=1), START + timedelta(hours=1))
    assert step(DEEP, cooling, 150, START).standing.state is PolicyState.HOLDING


def test_nothing_is_done_while_a_rule_cools_down():
    recovered = [150] * 3 + [10] * 4
    assert effects(DEEP, [*recovered, *[150] * 10]) == [Effect.BEGIN, Effect.END]
    assert effects(DEEP, [*recovered, *[150] * 13]) == [Effect.BEGIN, Effect.END, Effect.BEGIN]


def test_a_rule_cools_down_until_something_is_measured_again():
    recovered = [150] * 3 + [10] * 4
    told = played(DEEP, [*recovered, *[None] * 40, 99])

    assert {state for _effect, state in told[6:-1]} == {"cooling"}
    assert told[-1] == (Effect.NONE, "idle")


def test_a_clock_that_is_set_back_does_not_make_an_action_longer():
    acting = Standing(PolicyState.ACTING, START, START, START)

    assert step(DEEP, acting, 150, START - timedelta(seconds=2)).effect is Effect.KEEP  # another machine's clock
    assert step(DEEP, acting, 150, START - timedelta(hours=1)).ending is Ending.LONGEST


def test_what_is_not_measured_is_neither_a_breach_nor_a_recovery():
    assert effects(DEEP, [None] * 50) == []
    assert effects(DEEP, [150, *[None] * 10, 150, 150]) == []
    assert effects(DEEP, [150] * 3 + [10, *[None] * 20, 10]) == [Effect.BEGIN]


def test_an_action_that_hides_its_own_measure_ends_after_its_longest_time():
    hidden = played(DEEP, [150] * 3 + [None] * 60)

    assert hidden[-1] == (Effect.END, "cooling")
    after = step(DEEP, Standing(PolicyState.ACTING, START, START, START), None, START + DEEP.at_most)
    assert after.ending is Ending.LONGEST


def test_what_an_engine_that_was_away_had_seen_does_not_count():
    holding = Standing(PolicyState.HOLDING, START, START)
    later = START + timedelta(hours=3)

    after = step(DEEP, holding, 150, later)

    assert after.standing == Standing(PolicyState.HOLDING, later, later)
    recovering = Standing(PolicyState.RECOVERING, later, later, START + timedelta(hours=3))
    assert step(DEEP, recovering, 10, later + MOST_UNSEEN + LOOK).effect is Effect.KEEP


def test_after_an_order_that_ran_out_nothing_is_known():
    assert expired(Standing(PolicyState.RECOVERING, START, START, START), START + LOOK) == idle(START + LOOK)
    cooling = Standing(PolicyState.COOLING, START, START)
    assert expired(cooling, START + LOOK) is cooling


def test_a_rule_may_be_breached_below_its_limit():
    rate = Rule(False, 0.5, 0.9, timedelta(0), timedelta(0), timedelta(minutes=1), timedelta(hours=1))

    assert effects(rate, [0.4, 0.6, 0.89, 0.95]) == [Effect.BEGIN, Effect.END]


rules = st.builds(
    lambda is_above, limit, band, hold, recover, cool_down, at_most: Rule(
        is_above,
        limit,
        limit - band if is_above else limit + band,
        timedelta(seconds=hold),
        timedelta(seconds=recover),
        timedelta(seconds=cool_down),
        timedelta(seconds=at_most),
    ),
    st.booleans(),
    st.floats(-1e6, 1e6),
    st.floats(0, 1e6),
    st.integers(0, 300),
    st.integers(0, 300),
    st.integers(0, 600),
    st.integers(30, 1_200),
)
looks = st.lists(
    st.tuples(st.integers(1, 200), st.one_of(st.none(), st.floats(-2e6, 2e6, allow_nan=False))), max_size=120
)


@given(rules, looks)
def test_whatever_is_measured_an_action_begins_late_enough_and_ends_in_time(rule: Rule, looks: list):
    now, standing = START, idle(START)
    began: datetime | None = None
    ended: datetime | None = None
    for seconds, value in looks:
        now += timedelta(seconds=seconds)
        after = step(rule, standing, value, now)
        if after.effect is Effect.BEGIN:
            assert began is None
            assert value is not None
            assert rule.is_breached(value)
            assert ended is None or now - ended >= rule.cool_down + rule.hold
            began = now
        elif after.effect is Effect.END:
            assert began is not None
            if after.ending is Ending.RECOVERED:
                assert value is not None
                assert rule.is_well(value)
                assert now - began >= rule.recover
            else:
                assert now - began >= rule.at_most
            began, ended = None, now
        elif began is not None:
            assert after.effect is Effect.KEEP
            assert now - began < rule.at_most
        assert after.standing.acts is (began is not None)
        standing = after.standing


@given(rules, st.lists(st.floats(0, 1, exclude_min=True, exclude_max=True), max_size=200))
def test_noise_inside_the_band_never_changes_anything(rule: Rule, noise: list[float]):
    low, high = sorted((rule.limit, rule.well))
    inside = [low + share * (high - low) for share in noise]

    assert effects(rule, inside) == []
    acting = Standing(PolicyState.ACTING, START, START, START)
    for number, value in enumerate(inside):
        now = START + number * timedelta(seconds=1)
        if now - START >= rule.at_most:
            break
        assert step(rule, acting, value, now).standing.state is PolicyState.ACTING


@given(rules, st.integers(1, 90))
def test_an_action_always_ends_when_all_stays_well(rule: Rule, seconds: int):
    standing, now = Standing(PolicyState.ACTING, START, START, START), START
    value = rule.well - 1 if rule.is_above else rule.well + 1
    while standing.acts:
        now += timedelta(seconds=seconds)
        assert now - START <= max(rule.recover, timedelta(0)) + timedelta(seconds=2 * seconds)
        standing = step(rule, standing, value, now).standing
