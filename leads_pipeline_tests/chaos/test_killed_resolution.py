"""Identity resolution that is killed between any two of its statements leaves everything as it was."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.stage import Stage
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.storage import schema
from leads_pipeline.storage.pending import claim
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.plain_scorer import PlainScorer
from leads_pipeline_tests.steps.rows import TENANT, chunk, rows_of
from leads_pipeline_tests.steps.test_deduped_leads import IDENTITY_TABLES, arrive, arrive_all, contact_of
from leads_pipeline_tests.steps.test_deduped_leads_links import link

pytestmark = pytest.mark.chaos

SCRIPT = Path(__file__).parent / "dedupe_and_die.py"
LATER = NOW + timedelta(hours=1)
# What a chunk with everything in it must come by.
STATEMENTS = (
    "copy match_records", "copy match_keys", "insert into contacts", "insert into deduped_leads",
    "insert into merge_log", "insert into match_reviews", "insert into term_frequencies", "with gone as",
    "insert into pending", "commit",
)  # fmt: skip


def everything(engine: sa.Engine) -> list[list[dict[str, Any]]]:
    return [rows_of(engine, table) for table in (*IDENTITY_TABLES, schema.pending)]


def a_chunk_with_everything_in_it(engine: sa.Engine, settings: Settings) -> dict[str, Any]:
    """New leads, one that joins, one that merges two contacts, a corrected one that moves, a grey pair, links."""
    one, other, stays, moves, grey = arrive_all(
        engine,
        [
            {"email": "anna@private.com", "last_name": "Kowalczyk"},
            {"phone": "+14155552671", "full_name": "Anna Meier"},
            {"email": "bert@harbor.com", "last_name": "Quist"},
            {"email": "bert@harbor.com", "last_name": "Quist", "phone": "+14155552675"},
            {"email": "ines@fjord.com", "full_name": "Ines Okafor", "company": "Fjord"},
        ],
    )
    dedupe_leads(engine, chunk(), settings=settings, scorer=PlainScorer())
    link(engine, "cannot", [stays], [grey])
    with engine.begin() as connection:
        claim(connection, Stage.GOLDEN_CONTACTS, chunk())
    arrive(engine, {"email": "zoe@delta.com", "last_name": "Zander"}, lead_id=moves, revision=2)
    bridge, joins, asked, stranger = arrive_all(
        engine,
        [
            {"email": "anna@private.com", "phone": "+14155552671", "full_name": "Anna Meier"},
            {"email": "bert@harbor.com", "last_name": "Quist", "city": "Graz"},
            {"email": "omar@fjord.com", "full_name": "Ines Hassan", "company": "Fjord"},
            {"email": "nobody@nowhere.com", "last_name": "Unknown"},
        ],
        at=LATER,
    )
    return {name: value for name, value in locals().items() if name not in ("engine", "settings")}


def test_killed_between_any_two_statements_nothing_has_happened_and_the_next_run_does_all_of_it(
    engine: sa.Engine, database_url: str, tmp_path: Path
) -> None:
    yaml = tmp_path / "leads.yaml"
    yaml.write_text(LEADS_YAML, encoding="utf-8")
    leads = a_chunk_with_everything_in_it(engine, parse_settings(LEADS_YAML, path=yaml))
    before = everything(engine)
    command = [sys.executable, str(SCRIPT), database_url, str(yaml), TENANT, LATER.isoformat()]
    killed = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for line in running.stdout:
            if line.strip() == "done":
                break
            killed.append(line.partition(": ")[2].strip())
            assert everything(engine) == before, line
            running.stdin.write("\n")
            running.stdin.flush()
    assert running.returncode == 0

    for statement in STATEMENTS:
        assert any(seen.startswith(statement) for seen in killed), (statement, killed)
    contacts = contact_of(engine)
    assert contacts[leads["bridge"]] == contacts[leads["one"]] == contacts[leads["other"]]
    assert contacts[leads["joins"]] == contacts[leads["stays"]] != contacts[leads["moves"]]
    assert len(contacts) == 9
    assert len(set(contacts.values())) == 6
    kinds = sorted(row["kind"] for row in rows_of(engine, schema.merge_log, runner_id="doomed"))
    assert kinds == ["join", "join", "merge", "move"]
    assert [row["lead_id"] for row in rows_of(engine, schema.match_reviews)] == [leads["asked"]]
    assert rows_of(engine, schema.pending, stage=Stage.DEDUPED_LEADS) == []
