"""The marts, built by a real run of dbt under Dagster."""

import json
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.storage.roles import ANALYST_ROLE
from leads_pipeline.storage.schema import SCHEMA, metadata
from leads_pipeline_tests.dbt.conftest import JANE, Built


def rows(built: Built, table: str) -> list[dict[str, Any]]:
    with built.engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.text(f"select * from marts.{table}")).mappings()]


def relations(built: Built) -> dict[str, set[str]]:
    """Every view and table in the schema marts with its columns."""
    statement = sa.text("select table_name, column_name from information_schema.columns where table_schema = 'marts'")
    found: dict[str, set[str]] = {}
    with built.engine.connect() as connection:
        for table, column in connection.execute(statement):
            found.setdefault(table, set()).add(column)
    return found


def test_every_model_is_built_and_every_test_passes(built):
    assert built.result.success
    materialised = {event.asset_key.to_user_string() for event in built.result.get_asset_materialization_events()}
    assert materialised == set(relations(built))
    checks = built.result.get_asset_check_evaluations()
    assert [check.check_name for check in checks if not check.passed] == []
    checked = {check.asset_key.to_user_string() for check in checks if check.check_name.startswith("never_null")}
    assert checked == {name for name in relations(built) if not name.startswith("stg_")}


def test_every_model_and_every_column_that_exists_is_described(built):
    nodes = json.loads(built.manifest.read_text())["nodes"].values()
    models = {node["name"]: node for node in nodes if node["resource_type"] == "model"}
    for name, columns in relations(built).items():
        described = {column for column, item in models[name]["columns"].items() if item["description"].strip()}
        assert models[name]["description"].strip()
        assert described == columns, f"{name}: the columns described are not those that exist"


def test_every_source_is_a_table_of_ours_and_described(built):
    sources = json.loads(built.manifest.read_text())["sources"].values()
    assert {source["name"] for source in sources} <= set(metadata.tables)
    assert all(source["description"].strip() for source in sources)


def test_no_personal_value_reaches_the_analysts_schema(built):
    with built.engine.connect() as connection:
        for relation in relations(built):
            everything = sa.text(f"select coalesce(string_agg(t::text, ' '), '') from marts.{relation} t")
            text = connection.execute(everything).scalar_one().lower()
            found = [value for value in JANE.values() if value.lower() in text]
            assert found == [], f"{relation} shows {found}"


def test_a_contact_is_shown_masked(built):
    [jane] = [row for row in rows(built, "contacts_for_analysts") if row["country"] == "US"]
    assert jane["email_masked"] == "j***@***"
    assert jane["phone_masked"] == "***123"
    assert (jane["first_name_initial"], jane["last_name_initial"]) == ("J.", "D.")
    assert jane["marketing_email_granted"] is True
    assert (jane["destinations"], jane["destinations_current"]) == (1, 1)


def test_a_domain_that_few_contacts_share_is_masked_and_a_common_one_is_not(built):
    emails = [row["email_masked"] for row in rows(built, "contacts_for_analysts")]
    assert sorted(email.partition("@")[2] for email in emails) == ["***", *["example.com"] * 5]


def test_the_funnel_counts_each_lead_in_every_step_that_it_has_reached(built):
    [day] = rows(built, "lead_funnel")
    counts = {name: day[name] for name in ("captured", "not_yet_judged", "validated", "rejected", "matched", "golden")}
    assert counts == {
        "captured": 14,  # an erased lead has no rows any more
        "not_yet_judged": 4,  # in the buffer, at its vendor, at the door of validation, discarded
        "validated": 9,
        "rejected": 1,
        "matched": 8,
        "golden": 7,
    }
    assert (day["delivered"], day["dead"]) == (3, 1)


def test_sync_health_counts_contacts_and_the_requests_of_the_last_day(built):
    [route] = rows(built, "sync_health")
    assert (route["delivered"], route["waiting"], route["dead"], route["suppressed"]) == (2, 2, 1, 1)
    assert route["removals_open"] == 1
    assert (route["requests_24h"], route["throttled_24h"], route["delivered_24h"]) == (3, 1, 3)
    assert route["median_answer_seconds"] == 2


def test_an_analyst_reads_every_mart_and_no_raw_table(built):
    url = built.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"set role {ANALYST_ROLE}")
        for relation in relations(built):
            assert connection.execute(f"select count(*) from marts.{relation}").fetchone()
        for table in metadata.tables:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"select count(*) from {SCHEMA}.{table}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("create table marts.mine (id int)")


def test_the_run_leaves_no_artefacts_behind(built):
    assert "stg_golden_contacts" in relations(built)
    state = built.state_path
    assert [path.name for path in (state / "dbt").iterdir()] == ["target"]
