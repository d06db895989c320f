"""All contacts of a tenant are made anew by the rules that hold now."""

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from leads_pipeline.cli import cli
from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings, parse_settings
from leads_pipeline.domain.stage import Lane
from leads_pipeline.steps import refreshed_contacts
from leads_pipeline.steps.golden_contacts import refresh_golden_contacts
from leads_pipeline.storage import schema
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.rows import ask_for, chunk, contact, delivered, member, merge, rows_of

LATER = NOW + timedelta(hours=1)


def test_changed_rules_reach_every_living_contact_and_only_those_that_differ_are_sent(
    engine: sa.Engine, settings: Settings, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refreshed_contacts, "PAGE", 2)
    people = [contact(engine, at=NOW - timedelta(days=days)) for days in range(1, 6)]
    for number, person in enumerate(people):
        member(engine, person, email=f"p{number}@firm.com", company="Old")
    changed, gone = people[2], people[0]
    member(engine, changed, email="p2@firm.com", company="New", received_at=LATER)
    member(engine, contact(engine, tenant="globex"), tenant="globex", email="x@firm.com")
    merge(engine, gone, into=people[4])
    refresh_golden_contacts(engine, chunk(now=LATER), settings=settings)
    delivered(engine, changed)
    ask_for(engine, people[1], lane=Lane.REAL_TIME)

    asked = refreshed_contacts.ask_for_all_contacts(engine, tenant="acme", clock=clock)

    waiting = {row["subject_id"]: row["lane"] for row in rows_of(engine, schema.pending, tenant="acme")}
    assert asked == 4
    assert waiting == {**dict.fromkeys(people[1:], "batch"), people[1]: "real_time"}
    oldest = parse_settings(LEADS_YAML + "survivorship: {company: [oldest]}\n", path=settings.path)
    report = refresh_golden_contacts(engine, chunk(now=LATER), settings=oldest)
    assert (report.counts["updated"], report.counts["unchanged"]) == (1, 3)
    assert {row["company"] for row in rows_of(engine, schema.golden_contacts, tenant="acme")} == {"Old"}


def test_the_command_says_how_many_wait(
    engine: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    contact(engine)
    arguments = ["--config", str(tmp_path / "leads.yaml"), "contact", "refresh"]
    assert "1 contacts of acme wait" in CliRunner().invoke(cli, [*arguments, "--tenant", "acme"]).output
    refused = CliRunner().invoke(cli, arguments)
    assert (refused.exit_code, "name one with --tenant" in refused.output) == (2, True)
