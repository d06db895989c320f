"""`leads status`: what is wrong stands first, and leads are not read through for it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import _watching, cli
from leads_pipeline.config import DATABASE_URL_VARIABLE
from leads_pipeline_tests.conftest import LEADS_YAML
from leads_pipeline_tests.defs.rows import Flow, insert

Status = Callable[..., Result]


@pytest.fixture
def now() -> datetime:
    """The commands' own clock."""
    return datetime.now(UTC)


@pytest.fixture
def status(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Status:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    return lambda *arguments: CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "status", *arguments])


def put(engine: sa.Engine, table: str, now: datetime, **values: Any) -> None:
    with engine.begin() as connection:
        insert(connection, table, now=now, **values)


def test_promises_gates_orders_and_alerts_stand_before_everything_else(
    status: Status, engine: sa.Engine, now: datetime
) -> None:
    verdict = {"tenant": "acme", "lane": "", "good": 9, "bad": 1, "burn_rates": [], "evaluated_at": now}
    put(engine, "slo_verdicts", now, slo="in_time", verdict="broken", severity="page", budget_left=-0.5,
        since=now - timedelta(hours=2), **verdict)  # fmt: skip
    put(engine, "slo_verdicts", now, slo="verified", verdict="kept", since=now, **verdict)
    put(engine, "quality_gates", now, tenant="acme", lane="", gate="duplicate_contacts", closed=True, reason="doubles",
        until=now + timedelta(hours=1))  # fmt: skip
    put(engine, "policy_actions", now, policy="crm-slow", target="", action="pause_lane", lane="batch", parameters={},
        cause={}, ends_at=now + timedelta(hours=1))  # fmt: skip
    put(engine, "alerts", now, alert_key="k", source="slo", severity="page", title="Deliveries are late", facts=[],
        playbook="deliveries-late", opened_at=now - timedelta(minutes=3), occurrences=1)  # fmt: skip
    put(engine, "alert_notices", now, channel="chat", state="waiting", attempts=0, created_at=now - timedelta(hours=2))
    put(engine, "alerts", now, alert_key="k", source="slo", severity="page", title="It was late", facts=[],
        occurrences=1, closed_at=now, closed_for="recovered")  # fmt: skip
    shown = status()
    assert shown.exit_code == 0, shown.output
    before, _waits, after = shown.output.partition("Nothing waits.")
    assert "alert, page: Deliveries are late, since 3 min; docs/playbooks/deliveries-late.md" in before
    assert "1 messages about alerts wait for chat since 2.0 h: nobody has tried to send them" in before
    assert "promise in_time of acme is broken since 2.0 h, its budget spent 1.5 times over" in before
    assert "gate duplicate_contacts of acme is closed until" in before
    assert "rule crm-slow ordered pause_lane of batch until" in before
    assert "It was late" not in shown.output
    assert "1 of 2 not broken" in after
    found = json.loads(status("--json").output)
    assert [item["slo"] for item in found["promises_not_kept"]] == ["in_time"]
    assert [item["gate"] for item in found["closed_gates"]] == ["duplicate_contacts"]
    assert [item["action"] for item in found["orders"]] == ["pause_lane"]
    assert [item["title"] for item in found["alerts"]] == ["Deliveries are late"]


def test_all_is_called_well_only_while_somebody_looks(now: datetime) -> None:
    quiet: dict[str, Any] = {
        name: []
        for name in ("alerts", "unsent_alerts", "promises_not_kept", "closed_gates", "gates_held_open", "orders")
    }
    looked = {"judged": 3, "judged_at": now - timedelta(hours=2)}
    [line] = _watching.trouble_lines({**quiet, "promises": {**looked, "stale": False}}, now)
    assert "Nothing is wrong that is known" in line
    [line] = _watching.trouble_lines({**quiet, "promises": {**looked, "stale": True}}, now)
    assert "nobody has looked for 2.0 h" in line
    never = {"judged": 0, "judged_at": None, "stale": False}
    assert list(_watching.trouble_lines({**quiet, "promises": never}, now)) == []


def test_what_is_over_is_not_shown(status: Status, engine: sa.Engine, now: datetime) -> None:
    past = now - timedelta(seconds=1)
    put(engine, "quality_gates", now, tenant="acme", lane="", gate="duplicate_contacts", closed=True, until=past)
    put(engine, "policy_actions", now, policy="crm-slow", target="", action="pause_lane", parameters={}, cause={},
        ends_at=past)  # fmt: skip
    found = json.loads(status("--json").output)
    assert (found["closed_gates"], found["orders"], found["alerts"], found["promises_not_kept"]) == ([], [], [], [])


def test_an_operator_s_ruling_is_shown_whichever_way_it_goes(status: Status, engine: sa.Engine, now: datetime) -> None:
    ruling = {"ruled_by": "ada", "ruled_for": "looked at", "ruled_until": now + timedelta(hours=1), "tenant": "acme"}
    put(engine, "quality_gates", now, lane="", gate="duplicate_contacts", closed=True, until=now + timedelta(hours=1),
        ruling="open", **ruling)  # fmt: skip
    put(engine, "quality_gates", now, lane="batch", gate="mistakes", closed=False, ruling="closed", **ruling)
    shown = status().output
    assert "gate duplicate_contacts of acme is held open by ada" in shown
    assert "gate mistakes of acme, batch is closed by ada until" in shown
    assert "gate duplicate_contacts of acme is closed" not in shown


def test_only_leads_since_yesterday_are_counted_without_full(status: Status, engine: sa.Engine, now: datetime) -> None:
    with engine.begin() as connection:
        Flow(connection, now).one_of_each()
        lost = Flow(connection, now - timedelta(days=5)).delivered()
        connection.execute(sa.text("delete from deduped_leads where lead_id = :id"), {"id": lost})
    quick, full = (json.loads(status(*arguments, "--json").output) for arguments in ((), ("--full",)))
    assert [(item["tenant"], item["captured"]) for item in quick["tenants"]] == [("acme", 13)]
    assert (quick["conserved"], full["conserved"]) == (True, False)
    assert [(item["tenant"], item["captured"]) for item in full["tenants"]] == [("acme", 14)]
    assert (quick["deliveries"], bool(full["deliveries"])) == ([], True)
    shown = status().output
    assert "Leads since yesterday" in shown
    assert "The law of conservation does not hold" in status("--full").output
    assert "@example.com" not in shown


def test_more_leads_than_can_be_counted_on_the_way_are_left_to_the_command_for_it(
    status: Status, engine: sa.Engine, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        flow = Flow(connection, now)
        for _time in range(20):
            flow.one_of_each()
    monkeypatch.setattr(_watching, "CONSERVATION_SECONDS", 0.001)
    shown = status()
    assert shown.exit_code == 0, shown.output
    assert "`leads conservation` does" in shown.output
    assert json.loads(status("--json").output)["conserved"] is None


def test_rates_and_latencies_stand_beside_the_queues(status: Status, engine: sa.Engine, now: datetime) -> None:
    minute = now.replace(second=0, microsecond=0) - timedelta(minutes=1)
    with engine.begin() as connection:
        Flow(connection, now).at_dedupe()
        for stage, bucket in (("deduped_leads", 20), ("delivered", 30)):
            insert(connection, "latency_histograms", now=now, tenant="acme", lane="real_time", stage=stage,
                   destination="", began_at=minute, bucket=bucket, span_seconds=60, leads=30)  # fmt: skip
    found = json.loads(status("--json").output)
    rates = {item["stage"]: item["value"] for item in found["rates"] if item["value"]}
    assert rates.keys() == {item["stage"] for item in found["latencies_p95"]} == {"deduped_leads", "delivered"}
    shown = status().output
    assert "P95 from capture" in shown
    [line] = [line for line in shown.splitlines() if line.split()[:1] == ["deduped_leads"]]
    # The second look is a little later: the same leads are of a little more time.
    assert float(line.split()[-1]) == pytest.approx(rates["deduped_leads"], rel=0.3)
