"""The demo's figures come from rows, and must agree with what the sandbox saw."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.demo.figures import FiguresDisagree, ProviderView, SandboxView, collect
from leads_pipeline.demo.leads import invented_leads, leads_of_file
from leads_pipeline.demo.place import LIMIT_REQUESTS, prepare_place
from leads_pipeline.errors import ImportFileError

NOTHING = SandboxView(
    requests=0, http_429=0, records=0, contacts=0, duplicates=0, max_requests_in_any_window=0, limit=20
)
UNASKED = ProviderView(calls=0, billed=0, billed_twice=0, over_limit=0)


def figures(
    engine: sa.Engine, settings: Settings, sandbox: SandboxView, provider: ProviderView = UNASKED
) -> dict[str, Any]:
    with engine.connect() as connection:
        return collect(
            connection,
            settings=settings,
            sandbox=sandbox,
            provider=provider,
            truth_of={},
            seconds={"capture": 1.234},
        )


def test_an_empty_database_has_empty_figures(engine: sa.Engine, settings: Settings):
    found = figures(engine, settings, NOTHING)

    assert found["captured"] == 0
    assert found["conserved"] is True
    assert found["matching"] is None
    assert found["latency_seconds"] == {"p50": None, "p95": None, "p99": None}
    assert found["seconds"] == {"capture": 1.23}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("contacts", "contacts: the sandbox holds 3, the outbox says 0"),
        ("duplicates", "duplicates: the sandbox holds 3"),
        ("records", "records: the sandbox wrote 3, the database recorded 0"),
        ("requests", "requests: the sandbox saw 3, the database recorded 0"),
        ("http_429", "429s: the sandbox gave 3, the database recorded 0"),
    ],
)
def test_a_count_on_which_sandbox_and_database_part_is_named(
    engine: sa.Engine, settings: Settings, name: str, said: str
):
    values = {field: getattr(NOTHING, field) for field in NOTHING.__slots__} | {name: 3}

    with pytest.raises(FiguresDisagree, match=said):
        figures(engine, settings, SandboxView(**values))


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (ProviderView(calls=3, billed=0, billed_twice=0, over_limit=0), "it saw 3 calls"),
        (ProviderView(calls=0, billed=3, billed_twice=0, over_limit=0), "billed 3 look-ups"),
        (ProviderView(calls=0, billed=0, billed_twice=3, over_limit=0), "3 of them twice"),
    ],
)
def test_a_provider_that_saw_something_else_is_named(
    engine: sa.Engine, settings: Settings, seen: ProviderView, said: str
):
    with pytest.raises(FiguresDisagree, match=said):
        figures(engine, settings, NOTHING, seen)


def test_a_lead_that_is_in_no_state_is_named(engine: sa.Engine, settings: Settings):
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into capture_batches (batch_id, tenant, source, lane, captured, committed_at) "
                "values (gen_random_uuid(), 'acme', 'website', 'batch', 1, now())"
            )
        )

    with pytest.raises(FiguresDisagree, match="1 captured, 0 in a state"):
        figures(engine, settings, NOTHING)


def test_the_place_of_a_demo_is_emptied_but_keeps_its_server(tmp_path: Path):
    (tmp_path / "dagster").mkdir()
    (tmp_path / "postgres").mkdir()
    (tmp_path / "sandbox-hubspot.sqlite").write_bytes(b"old")

    settings = prepare_place(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["leads.yaml", "postgres"]
    assert settings.state_path == tmp_path
    assert settings.destinations["hubspot"].limits.windows[0].requests == LIMIT_REQUESTS


def test_the_same_seed_invents_the_same_leads():
    assert invented_leads(50, seed=3) == invented_leads(50, seed=3)
    assert invented_leads(50, seed=3) != invented_leads(50, seed=4)


def test_the_truth_of_a_file_is_never_posted(tmp_path: Path):
    path = tmp_path / "people.csv"
    path.write_text("email,person\nada@engines.example,p1\nbob@engines.example,\n", encoding="utf-8")

    leads, mapping = leads_of_file(path, truth_column="person", map_file=None, on_broken=pytest.fail)

    assert [(lead.payload, lead.truth) for lead in leads] == [
        ({"email": "ada@engines.example"}, "p1"),
        ({"email": "bob@engines.example"}, None),
    ]
    assert [use.field for use in mapping.uses] == ["email", None]


def test_a_truth_column_that_is_missing_is_named_with_those_that_are_there(tmp_path: Path):
    path = tmp_path / "people.csv"
    path.write_text("email\nada@engines.example\n", encoding="utf-8")

    with pytest.raises(ImportFileError, match="no column 'person'; it has email"):
        leads_of_file(path, truth_column="person", map_file=None, on_broken=pytest.fail)
