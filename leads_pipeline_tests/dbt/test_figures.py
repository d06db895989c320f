"""What the marts make of a database of which every figure is known, and what happens when rows come late."""

import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from leads_pipeline import analytics
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.latency import EDGES
from leads_pipeline_tests.dbt.conftest import Marts
from leads_pipeline_tests.dbt.filled import Filled
from leads_pipeline_tests.defs.rows import Flow


def of_source(marts: Marts, mart: str, source: str) -> dict:
    return marts.row(f"select * from marts.{mart} where source = '{source}' and captured_on = current_date - 1")


def test_a_source_s_quality_is_what_became_of_its_leads(marts):
    website = of_source(marts, "source_quality", "website")
    assert (website["captured"], website["reposts"], website["rejected"], website["matched"]) == (10, 3, 2, 8)
    assert (website["hard_bounced"], website["opportunities"], website["won"]) == (0, 2, 2)
    assert (website["bounce_rate"], website["opportunity_rate"]) == (0, Decimal("0.25"))
    webinar = of_source(marts, "source_quality", "webinar")
    assert (webinar["hard_bounced"], webinar["bounce_rate"], webinar["won"]) == (1, Decimal("0.5"), 0)


def test_a_contact_s_sale_is_told_of_each_lead_and_its_amount_counts_once(marts):
    assert of_source(marts, "source_quality", "website")["won_amount"] == 500


def test_what_another_tenant_tells_of_our_lead_tells_nothing(marts):
    assert marts.row("select count(*) as n from marts.stg_outcomes where tenant = 'globex'")["n"] == 0


def test_leads_that_were_refused_at_first_and_arrived_after_all_are_rescued(marts):
    rescued = marts.rows("select refused_as, seconds_to_rescue from marts.rescued_leads order by refused_as")
    assert [(row["refused_as"], row["seconds_to_rescue"]) for row in rescued] == [("ambiguous", 60), ("throttled", 120)]


def test_money_is_counted_for_rescued_leads_alone_and_only_where_a_cost_is_told(marts):
    website = of_source(marts, "loss_avoided", "website")
    assert (website["rescued_leads"], website["rescued_from_limits"], website["rescued_from_outages"]) == (2, 1, 1)
    assert (website["reposts_recognised"], website["cost_of_loss_avoided"], website["currency"]) == (3, 40, "USD")
    webinar = of_source(marts, "loss_avoided", "webinar")
    assert (webinar["cost_per_lead"], webinar["cost_of_loss_avoided"]) == (None, None)


def test_a_day_of_a_promise_is_as_good_as_its_worst_evaluation_and_ends_with_its_last(marts):
    day = marts.row("select * from marts.slo_daily where slo = 'delivered_in_a_day'")
    assert (day["verdict"], day["verdict_at_end"], day["good"], day["bad"]) == ("burning", "kept", 990, 10)
    assert (day["value"], day["budget_left"], day["least_budget_left"]) == (0.992, 0.4, 0.2)
    assert (day["worst_burn_rate"], day["evaluations"], day["evaluations_not_kept"]) == (7.5, 4, 1)
    assert marts.row("select verdict from marts.slo_daily where slo = 'opportunities'")["verdict"] == "no_data"


def test_an_hour_of_a_stage_tells_its_leads_its_busiest_minute_and_how_long_they_took(marts):
    hour = marts.row("select * from marts.stage_hours where stage = 'delivered'")
    assert (hour["leads"], hour["busiest_minute"]) == (12, 9)
    assert 4 <= hour["p50_seconds"] <= 4.4
    assert 40 <= hour["p95_seconds"] <= 44


def test_the_heat_map_lays_arrivals_and_service_against_what_a_stage_can_do(marts):
    cell = marts.row("select * from marts.capacity_heat_map where stage = 'delivered' and hour_of_day = 10")
    assert (cell["arrivals_per_minute"], cell["served_per_minute"]) == (Decimal("0.2"), Decimal("0.2"))
    assert (cell["capacity_per_minute"], cell["load"]) == (9, Decimal("0.0222"))
    first = marts.row("select * from marts.capacity_heat_map where stage = 'raw_leads' and hour_of_day = 10")
    assert first["arrivals_per_minute"] == Decimal("0.217")  # 13 were captured, 12 were measured
    assert first["capacity_per_minute"] == 10


def test_decisions_on_identity_count_by_who_made_them_and_how_they_held(marts):
    found = {row["decider"]: row for row in marts.rows("select * from marts.identity_quality")}
    assert sorted(found) == ["model:v1", "person", "rule:same_email"]
    rule, model = found["rule:same_email"], found["model:v1"]
    assert (rule["joins"], rule["taken_back"], rule["taken_back_rate"]) == (2, 1, Decimal("0.5"))
    assert (model["merges"], model["reviews"], model["reviews_open"], model["conflicts"]) == (1, 4, 2, 1)
    assert (model["review_rate"], model["conflict_rate"]) == (Decimal("0.8"), Decimal("0.2"))
    assert found["person"]["undos"] == 1


def test_marts_read_the_edges_of_the_buckets_that_times_are_counted_in(marts):
    statement = "select distinct p50_seconds from marts.stage_hours"
    told = {row["p50_seconds"] for row in marts.rows(statement)}
    assert told <= set(EDGES)
    marts.dbt("run-operation", "check_latency_edges", "--args", f"{{edges: {list(EDGES)}}}")


def test_the_documentation_shows_what_the_database_holds_and_not_how_to_reach_it(marts, tmp_path):
    page = analytics.write_docs(tmp_path, url=marts.url)
    catalog = json.loads((tmp_path / "catalog.json").read_text())
    built = {name.rpartition(".")[2] for name in catalog["nodes"]}
    assert built >= {"lead_funnel", "slo_daily", "capacity_heat_map"}
    assert "captured_on" in catalog["nodes"]["model.leads.lead_funnel"]["columns"]
    password = marts.engine.url.password
    assert password
    assert [
        path.name for path in tmp_path.rglob("*") if path.is_file() and password.encode() in path.read_bytes()
    ] == []
    assert json.loads((tmp_path / "manifest.json").read_text())["metadata"]["send_anonymous_usage_stats"] is False
    assert page.stat().st_size > 1_000_000


def test_rows_that_come_late_reach_their_day_and_other_days_are_left_alone(marts):
    """Leads of 40 days ago are matched, delivered, given up and looked up today; another day's row is not made anew."""
    with marts.engine.begin() as connection:
        filled = Filled(connection)
        filled.yesterday -= timedelta(days=40)
        old = filled.website
        old.now = filled.yesterday
        late = old.golden(waiting_since=filled.yesterday)
        old.sync(old.contact_of(old.delivered()), "salesforce")  # of two destinations, one has it
        given_up, unmatched = old.dead(), old.at_dedupe()
        filled.yesterday -= timedelta(days=1)
        old.now = filled.yesterday
        old.delivered()
    marts.dbt("run", "--full-refresh", "--select", "lead_funnel", "source_quality", "rescued_leads", "loss_avoided")
    steps = ("captured", "matched", "golden", "delivered", "dead", "discarded")
    day = f"select {', '.join(steps)}, built_at from marts.lead_funnel where captured_on = current_date - {{}}"
    first, untouched = marts.row(day.format(41)), marts.row(day.format(42))
    assert [first[step] for step in steps] == [4, 3, 3, 0, 1, 0]
    with marts.engine.begin() as connection:
        now = connection.execute(sa.text("select now()")).scalar_one()
        filled = Filled(connection)
        filled.sent(late, "transient", "delivered", first=now - filled.yesterday - timedelta(minutes=1))
        contact = filled.website.contact_of(late)
        statement = "update outbox set state = 'delivered', delivered_version = 1, delivered_at = now() "
        connection.execute(sa.text(statement + "where contact_id = :contact"), {"contact": contact})
        filled.told("won", at=now, outcome_id=uuid7(now), lead_id=late, amount=70)
        connection.execute(sa.text("update outbox set state = 'cancelled' where state = 'dead' and tenant = 'acme'"))
        today = Flow(connection, now)
        today.insert("lead_dispositions", lead_id=given_up, state="discarded")
        today.insert("deduped_leads", lead_id=unmatched, revision=1, contact_id=today.contact(unmatched))
        today.insert("verifications", lead_id=late, kind="mailbox", verdict="invalid")
    marts.dbt("build", "--select", "lead_funnel", "source_quality", "rescued_leads", "loss_avoided")
    assert [marts.row(day.format(41))[step] for step in steps] == [4, 4, 3, 1, 0, 1]
    assert marts.row(day.format(42)) == untouched
    quality = marts.row("select * from marts.source_quality where captured_on = current_date - 41")
    assert (quality["won"], quality["won_amount"], quality["mailboxes_invalid"]) == (1, 70, 1)
    assert (
        marts.row(
            "select cost_of_loss_avoided as c from marts.loss_avoided where captured_on < current_date - 40 "
            "and rescued_leads > 0"
        )["c"]
        == 20
    )


def test_minutes_that_were_told_apart_stay_known_when_they_are_folded_into_an_hour(marts):
    fold = "update latency_histograms set span_seconds = 3600, began_at = date_trunc('hour', began_at)"
    with marts.engine.begin() as connection:
        connection.execute(sa.text("delete from latency_histograms where stage = 'delivered' and leads = 3"))
        connection.execute(sa.text(f"{fold}, leads = 12 where stage = 'delivered'"))
        # Nothing was built for a week: what was measured meanwhile is not skipped.
        connection.execute(sa.text("update marts.stage_hours set built_at = built_at - interval '7 days'"))
        filled = Filled(connection)
        filled.yesterday -= timedelta(days=5)
        filled.took("raw_leads", 1.0, 8)
    marts.dbt("build", "--select", "stage_hours")
    assert marts.row("select leads from marts.stage_hours where day = current_date - 6")["leads"] == 8
    hour = marts.row("select leads, busiest_minute from marts.stage_hours where stage = 'delivered'")
    assert (hour["leads"], hour["busiest_minute"]) == (12, 9)


def test_a_mart_that_shows_a_whole_address_or_number_is_not_built(marts, tmp_path):
    """Whoever adds a mart has nothing to remember."""
    with marts.engine.begin() as connection:
        connection.execute(sa.text("update golden_contacts set phone = '+14155550123' where phone is null"))
    contacts = "from {{ source('leads', 'golden_contacts') }}"
    leaky = {
        "leaky_address": f"select email as contact {contacts}",
        "leaky_number": f"select phone as contact {contacts}",
        "leaky_note": f"select 'see ' || email || ' for more' as note {contacts}",
    }
    with pytest.raises(AssertionError) as refused:
        marts.with_marts(tmp_path, {**leaky, "tight": f"select left(email, 1) || '***@***' as masked {contacts}"})
    for name in leaky:
        assert re.search(rf"{name}\.\w+ shows an e-mail address or a phone number unmasked", str(refused.value))
    built = "select table_name from information_schema.tables where table_name ~ '^leaky|^tight'"
    assert [row["table_name"] for row in marts.rows(built)] == ["tight"]


def test_a_promise_s_day_stands_when_its_history_is_thinned_out(marts):
    with marts.engine.begin() as connection:
        filled = Filled(connection)
        filled.yesterday -= timedelta(days=3)
        filled.evaluated("burning", 10, slo="thinned", burn_rate=8.0)
        filled.evaluated("kept", 11, slo="thinned")
        Filled(connection).evaluated("kept", 10, slo="thinned")
    marts.dbt("run", "--full-refresh", "--select", "slo_daily")
    with marts.engine.begin() as connection:
        connection.execute(sa.text("delete from slo_history where slo = 'thinned' and verdict = 'burning'"))
        Filled(connection).evaluated("broken", 12, slo="thinned")
    marts.dbt("build", "--select", "slo_daily")
    days = marts.rows("select verdict from marts.slo_daily where slo = 'thinned' order by day")
    assert [day["verdict"] for day in days] == ["burning", "broken"]
