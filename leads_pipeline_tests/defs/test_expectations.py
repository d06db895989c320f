"""The suite of Great Expectations and the conditions in SQL: what they refuse, and that they refuse the same."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.defs.data_docs import RUNS_KEPT, self_contained, write_data_docs
from leads_pipeline.defs.expectations import Examined, Outcome, examine
from leads_pipeline.domain.expectations import (
    Group,
    Kind,
    Rule,
    Tally,
    broken_rules,
    drift_rules,
    history_of,
    row_rules,
)
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.steps.quality import Standard
from leads_pipeline.storage.quality import READ_COLUMNS, column_sql, columns_expected, columns_found, tally
from leads_pipeline.storage.validated_sample import EXAMINED_COLUMNS
from leads_pipeline_tests.conftest import NOW

pytestmark = pytest.mark.usefixtures("expectations_imported")

GROUP = Group("acme", "import", NOW.date())
ROW_RULES = row_rules(tiers=("full", "minimal"), now=NOW)
HISTORY = history_of(
    [
        Tally(
            rows=1_000,
            present={"email": 1_000, "phone": 500, "last_name": 900, "company": 0, "disposable": 0, "free": 400},
            countries={"US": 800, "DE": 200},
        )
    ]
    * 4,
    min_sample=2,
)

GOOD = {
    "tenant": "acme", "source": "import", "capture_lane": "batch", "sync_lane": "batch", "received_at": NOW,
    "validated_at": NOW, "rule_version": "2", "email": "ada@example.com", "email_key": "ada@example.com",
    "country": "US", "flags": [], "tier": "full", "value_score": 50, "risk_score": 10,
}  # fmt: skip


@pytest.fixture
def table(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A table like validated_leads that takes also what the real one refuses."""
    with engine.begin() as connection:
        columns = connection.execute(
            sa.text(
                "select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ') from pg_attribute"
                " where attrelid = 'validated_leads'::regclass and attnum > 0"
            )
        ).scalar_one()
        connection.execute(sa.text(f"create temporary table lax_leads ({columns})"))
        yield connection


def both(
    connection: sa.Connection, *rows: dict[str, Any], rules: tuple[Rule, ...] = ROW_RULES, usual: str | None = None
) -> tuple[dict[str, tuple[int, float | None]], dict[str, tuple[int, float | None]]]:
    """What Great Expectations and SQL find broken in the same rows: unexpected rows and shares, by rule."""
    lax = sa.table(
        "lax_leads", *(sa.column(name) for name in READ_COLUMNS if name != "flags"), sa.column("flags", sa.JSON)
    )
    for row in rows:
        assert row.keys() <= set(READ_COLUMNS)
        connection.execute(lax.insert().values(GOOD | row))
    read = sa.text(f"select {', '.join(f'{column_sql(name)} as {name}' for name in EXAMINED_COLUMNS)} from lax_leads v")
    frame = [dict(row) for row in connection.execute(read, {"now": NOW}).mappings()]
    examined = examine(frame, {GROUP: Standard(rules, usual)})
    [counts] = tally(connection, "lax_leads v", rules, parameters={"now": NOW}).values()
    in_sql = broken_rules(counts, rules, usual_country=usual)
    return (
        {item.rule.name: (item.unexpected, _rounded(item.observed)) for item in examined.broken},
        {item.rule.name: (item.unexpected, _rounded(item.observed)) for item in in_sql},
    )


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 9)


def test_normalised_leads_are_accepted_by_both(table):
    phone_only = {"email": None, "email_key": None, "phone": "+14155550123", "phone_key": "14155550123"}
    assert both(table, {}, phone_only, {"date_of_birth": date(1980, 1, 2), "phone_region": "US"}) == ({}, {})


# For each rule about rows, what breaks it.
BREAKS: dict[str, list[dict[str, Any]]] = {
    "validated_at_present": [{"validated_at": None}],
    "sync_lane_present": [{"sync_lane": None}],
    "rule_version_present": [{"rule_version": None}],
    "tier_present": [{"tier": None}],
    "usable": [{"email": None, "email_key": None}, {"email": None, "email_key": None, "last_name": "Doe"}],
    "email_and_key": [{"email_key": None}],
    "phone_and_key": [{"phone": "+14155550123"}, {"phone_key": "14155550123"}],
    "email_format": [{"email": value} for value in ("", "no address", "a@b", "a@b.c\n", "a\tb@c.d", "@b.c")],
    "email_length": [{"email": "a@" + "x" * 330 + ".com"}],
    "phone_format": [{"phone": value, "phone_key": "1"} for value in ("555", "+0155555555", "+14155550123 x", "")],
    "phone_region_format": [{"phone_region": value} for value in ("usa", "us", "")],
    "country_format": [{"country": value} for value in ("USA", "us", "", "U\n")],
    "birth_year_range": [{"date_of_birth": (NOW + timedelta(days=400)).date()}],
    "not_from_the_future": [{"received_at": NOW + timedelta(seconds=61)}],
    "value_score_range": [{"value_score": -1}, {"value_score": 101}],
    "risk_score_range": [{"risk_score": -1}, {"risk_score": 101}],
    "lane_known": [{"sync_lane": "express"}],
    "tier_known": [{"tier": "gold"}, {"tier": ""}],
}  # fmt: skip


def test_every_rule_about_rows_is_broken_below():
    assert BREAKS.keys() == {rule.name for rule in ROW_RULES}


@pytest.mark.parametrize("name", BREAKS)
def test_great_expectations_and_sql_refuse_the_same_rows(table, name):
    bad = BREAKS[name]
    in_suite, in_sql = both(table, {}, {}, *bad)
    assert in_suite == in_sql == {name: (len(bad), None)}


SHARES: dict[str, dict[str, Any]] = {
    "email_share": {"email": None, "email_key": None, "phone": "+14155550123", "phone_key": "1"},
    "phone_share": {"phone": None},
    "last_name_share": {"last_name": None},
    "disposable_share": {"flags": ["disposable_mailbox"]},
    "free_share": {"flags": ["free_mailbox", "role_mailbox"]},
    "usual_country_share": {"country": "DE"},
}
USUAL = {"phone": "+14155550123", "phone_key": "1", "last_name": "Doe"}


def test_every_rule_about_drift_is_broken_below():
    assert SHARES.keys() == {rule.name for rule in drift_rules(HISTORY, rows=10_000, min_sample=2)}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("drifted", [0, 100])
def test_great_expectations_and_sql_see_the_same_drift(table, name, drifted):
    rules = drift_rules(HISTORY, rows=100, min_sample=2)
    usual = [USUAL | ({"flags": ["free_mailbox"]} if at % 5 < 2 else {}) for at in range(100)]
    rows = [row | (SHARES[name] if at < drifted else {}) for at, row in enumerate(usual)]
    in_suite, in_sql = both(table, *rows, rules=rules, usual="US")
    assert in_suite == in_sql
    expected = {name} if drifted else set()
    # Rows whose only flag is another one have lost that of the free providers.
    assert in_suite.keys() - {"free_share"} == expected - {"free_share"}
    assert ("free_share" in in_suite) == (name in ("free_share", "disposable_share") and drifted > 0)


def test_leads_without_a_country_are_not_of_the_usual_one(table):
    rule = Rule("usual_country_share", Kind.SHARE, "usual_country", low=0.6)
    in_suite, in_sql = both(table, {}, {"country": None}, rules=(rule,), usual="US")
    assert in_suite == in_sql == {"usual_country_share": (0, 0.5)}


def test_the_table_has_the_columns_that_this_version_knows(engine):
    with engine.begin() as connection:
        assert sorted(columns_found(connection)) == sorted(columns_expected())
        connection.execute(sa.text("alter table validated_leads drop column tier"))
        connection.execute(sa.text("alter table validated_leads alter column risk_score type bigint"))
        lacking = set(columns_expected()) - set(columns_found(connection))
    assert lacking == {"tier text not null", "risk_score integer not null"}


def row(**values: Any) -> dict[str, Any]:
    """A validated lead as the sample reads it."""
    plain = dict.fromkeys(EXAMINED_COLUMNS) | {
        "tenant": "acme", "source": "import", "day": NOW.date(), "country": "US", "received_at": NOW,
        "validated_at": NOW, "sync_lane": "batch", "rule_version": "2", "tier": "none", "value_score": 0,
        "risk_score": 0, "age_seconds": 0.0, "usable": True, "email_and_key": True, "phone_and_key": True,
        "email": "a@example.com", "disposable": False, "free": False,
    }  # fmt: skip
    assert values.keys() <= plain.keys()
    return plain | values


def examined(*rows: dict[str, Any], rules: tuple[Rule, ...] = ROW_RULES) -> Examined:
    groups = {Group(item["tenant"], item["source"], item["day"]) for item in rows}
    return examine(rows, dict.fromkeys(groups, Standard(rules, "US")))


def found(broken: list[Outcome]) -> list[tuple[str, str, int]]:
    return [(str(item.group), item.rule.name, item.unexpected) for item in broken]


def test_nothing_to_examine_is_nothing_broken():
    assert examine([], {}) == Examined((), ())


def test_a_broken_source_does_not_hide_behind_a_healthy_one_nor_a_day_behind_another():
    yesterday = NOW.date() - timedelta(days=1)
    healthy = [row() for _ in range(50)]
    broken = examined(*healthy, row(source="partner", email="none"), row(day=yesterday, country="USA")).broken
    assert found(broken) == [
        (f"acme/import of {yesterday}", "country_format", 1),
        (f"acme/partner of {NOW.date()}", "email_format", 1),
    ]


def personal_rows() -> list[dict[str, Any]]:
    """Rows whose values are found wherever they are shown."""
    return [
        row(
            email=f"quite-secret-{at} no address",
            phone=f"+4366012345{at:02}",
            last_name=f"Habsburg{at}",
            company=f"Geheim{at} AG",
            country="QQQ",
            phone_region="ZZZ",
            birth_year=7_712_300 + at,
            tier="pla-tinum",
            rule_version="v-secret",
            age_seconds=-123_456.5,
        )
        for at in range(20)
    ]


def test_the_data_docs_show_what_is_broken_and_hold_none_of_the_rows_values(tmp_path):
    rows = personal_rows()
    # A rule that breaks on its column, as a changed type would make it: the error would quote values.
    rules = (*ROW_RULES, Rule("raises", Kind.SHARE, "last_name", low=0.5))
    index = write_data_docs(tmp_path, examined(*rows, rules=rules).pages, run_id="run-1", now=NOW)
    pages = {path.name: path.read_text() for path in index.parent.iterdir()}
    assert pages.keys() == {"index.html", f"acme.import.{NOW.date()}.html"}
    everything = "".join(pages.values())
    values = {str(value) for item in rows for key, value in item.items() if key in VALUES and value is not None}
    assert len(values) > 60
    assert [value for value in values if value in everything] == []
    assert "email_format" in pages["index.html"]
    assert "20 unexpected values found" in everything
    assert "withheld: it may quote a value" in everything
    assert "Traceback" not in everything
    assert re.findall(r"[0-9a-f]{32}", everything) == [], "a fingerprint of the rows"


# What says something about a person; the rest of a row are names and times of ours.
VALUES = (
    "email", "phone", "last_name", "company", "country", "phone_region", "birth_year", "tier", "rule_version",
    "age_seconds",
)  # fmt: skip


def test_a_lead_s_id_is_not_even_read():
    assert "lead_id" not in EXAMINED_COLUMNS
    assert "email_key" not in EXAMINED_COLUMNS


def test_the_data_docs_load_nothing(tmp_path):
    index = write_data_docs(tmp_path, examined(row(), row(source="other")).pages, run_id="run-1", now=NOW)
    for path in index.parent.iterdir():
        page = path.read_text()
        assert "default-src 'none'" in page
        for loads in ("http:", "https:", "//", "<script", "<link", "<img", "<iframe", "url(", "@import", "src="):
            assert loads not in page.replace("<!DOCTYPE", ""), (path.name, loads)


def test_what_a_later_version_would_load_is_taken_out_as_well():
    page = (
        "<html><head><title>x</title><LINK rel=stylesheet href='https://a.example/x.css'/>"
        "<style>@import 'https://b.example'; p {background: url(\"https://c.example\")}</style></head>"
        "<body><nav><a>x</a></nav><script src='//d.example'>\n</script ><p>kept</p></body></html>"
    )
    cleaned = self_contained(page, title="a < b")
    assert "example" not in cleaned
    assert "<p>kept</p>" in cleaned
    assert "<title>a &lt; b</title>" in cleaned


def test_the_newest_runs_pages_are_kept(tmp_path):
    pages = examined(row()).pages
    written = [
        write_data_docs(tmp_path, pages, run_id=str(uuid7(NOW)), now=NOW + timedelta(hours=at))
        for at in range(RUNS_KEPT + 2)
    ]
    assert sorted(tmp_path.glob("*/index.html")) == written[2:]


def test_a_disk_that_takes_no_pages_holds_nothing_up(tmp_path):
    (tmp_path / "data_docs").write_text("a file where the directory should be")
    assert write_data_docs(tmp_path / "data_docs", examined(row()).pages, run_id="run-1", now=NOW) is None


def test_outcomes_hold_no_values():
    assert "jane" not in repr(examined(row(email="jane no address")).outcomes)
