"""What a source's history asks of its leads, and what counts break."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from leads_pipeline.domain.expectations import (
    History,
    Kind,
    Past,
    Rule,
    Tally,
    broken_rules,
    drift_rules,
    history_of,
    row_rules,
)

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
ROW_RULES = row_rules(tiers=("full", "minimal"), now=NOW)


def day(rows: int = 100, *, us: int | None = None, **present: int) -> Tally:
    plain = {"email": rows, "phone": rows // 2, "last_name": 0, "company": 0, "disposable": 0, "free": rows // 10}
    usual = rows if us is None else us
    return Tally(rows=rows, present=plain | present, countries={"US": usual, "DE": rows - usual})


def names(history: History | None, *, rows: int = 100, **seen: int) -> list[str]:
    rules = drift_rules(history, rows=rows, min_sample=20)
    found = broken_rules(day(rows, **seen), rules, usual_country=history.usual_country if history else None)
    return [finding.rule.name for finding in found]


def test_names_of_rules_are_unique():
    rules = (*ROW_RULES, *drift_rules(history_of([day()], min_sample=20), rows=100, min_sample=20))
    assert len({rule.name for rule in rules}) == len(rules)


def test_every_rule_stands_in_the_docs():
    text = (Path(__file__).parents[2] / "docs/validation.md").read_text(encoding="utf-8")
    history = history_of([day(company=50, disposable=50)], min_sample=20)
    rules = (*ROW_RULES, *drift_rules(history, rows=10_000, min_sample=20))
    assert [rule.name for rule in rules if f"`{rule.name}`" not in text] == []


def test_days_like_those_before_break_nothing():
    assert names(history_of([day()] * 5, min_sample=20)) == []


@pytest.mark.parametrize(
    ("seen", "rule"),
    [
        ({"phone": 0}, "phone_share"),
        ({"email": 40}, "email_share"),
        ({"disposable": 60}, "disposable_share"),
        ({"free": 90}, "free_share"),
        ({"us": 10}, "usual_country_share"),
    ],
)
def test_a_share_that_left_its_history_behind_is_found(seen, rule):
    assert names(history_of([day()] * 5, min_sample=20), **seen) == [rule]


def test_more_of_a_field_or_of_the_usual_country_is_no_drift():
    history = history_of([day(us=60)] * 5, min_sample=20)
    assert names(history, phone=100, last_name=100, us=100) == []


def test_a_flag_that_is_not_set_any_more_is_drift_too():
    history = history_of([day(free=80)] * 5, min_sample=20)
    assert names(history, free=0) == ["free_share"]


def test_a_source_whose_days_differ_is_given_more_room():
    steady = history_of([day(phone=50)] * 6, min_sample=20)
    restless = history_of([day(phone=10), day(phone=90)] * 3, min_sample=20)
    assert names(steady, phone=0) == ["phone_share"]
    assert names(restless, phone=0) == []


def test_two_days_prove_no_restlessness():
    history = history_of([day(phone=20), day(phone=80)], min_sample=20)
    assert history is not None
    assert history.past["phone"] == Past(share=0.5, spread=0.0)


def test_few_rows_are_given_what_chance_does():
    past = {"phone": Past(share=0.5, spread=0.0)}
    bounds = {
        rows: drift_rules(History(1_000, None, past), rows=rows, min_sample=20)[0].low for rows in (20, 100, 10_000)
    }
    assert bounds == {20: 0.076, 100: 0.2, 10_000: 0.29}


@pytest.mark.parametrize(("history_rows", "rows"), [(19, 100), (100, 19), (0, 100)])
def test_too_few_leads_prove_nothing(history_rows, rows):
    days = [day(history_rows)] if history_rows else []
    assert drift_rules(history_of(days, min_sample=20), rows=rows, min_sample=20) == ()


def test_the_usual_country_is_the_most_frequent_and_never_none_of_them():
    unknown = Tally(rows=100, countries={None: 60, "DE": 20, "US": 20})
    history = history_of([unknown], min_sample=20)
    assert history is not None
    assert history.usual_country == "DE"
    assert history.past["usual_country"].share == 0.2


def test_leads_of_no_country_have_no_usual_one():
    history = history_of([Tally(rows=100, countries={None: 100})], min_sample=20)
    assert history is not None
    assert history.usual_country is None
    assert "usual_country" not in history.past


def test_rules_about_rows_are_broken_by_one_row():
    rule = Rule("email_format", Kind.MATCHES, "email", pattern="x")
    [found] = broken_rules(Tally(rows=1_000_000, broken={"email_format": 1}), [rule])
    assert (found.rule.name, found.rows, found.unexpected, found.observed) == ("email_format", 1_000_000, 1, None)


def test_counts_of_several_countries_add_up():
    total = Tally()
    for part in (Tally(2, {"a": 1}, {"email": 2}, {"US": 2}), Tally(3, {"a": 1, "b": 2}, {"email": 1}, {None: 3})):
        total.add(part)
    assert total == Tally(5, {"a": 2, "b": 2}, {"email": 3}, {"US": 2, None: 3})


def test_the_tiers_of_the_settings_are_the_ones_that_are_known():
    [rule] = [rule for rule in ROW_RULES if rule.name == "tier_known"]
    assert rule.allowed == ("full", "minimal", "none")


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("email_format", ["a@b.c", "ü+x@sub.example.com"], ["a", "a@b", "a@b.", "a b@c.d", "a@b.c\n", "@b.c"]),
        ("phone_format", ["+14155550123", "+4312345678"], ["4155550123", "+0155550123", "+1 415", "+14155550123\n"]),
        ("country_format", ["US"], ["us", "USA", "U1", "US\n", ""]),
        ("phone_region_format", ["AT", "001"], ["at", "1", "0011"]),
    ],
)  # fmt: skip
def test_patterns_are_anchored_at_both_ends(rule, good, bad):
    [pattern] = [item.pattern for item in ROW_RULES if item.name == rule]
    assert [value for value in good if not re.match(pattern, value)] == []
    assert [value for value in bad if re.match(pattern, value)] == []
