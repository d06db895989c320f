"""Records, keys and frequencies made anew, on a real database."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.match_keys import INDEX_VERSION
from leads_pipeline.domain.stage import Lane
from leads_pipeline.matching.pairs import terms_of
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.reindexed_records import Reindexed, reindex
from leads_pipeline.storage import schema
from leads_pipeline.storage.identity import fields_of
from leads_pipeline.storage.match_index import stored_keys, term_hash
from leads_pipeline.storage.reindexing import StaleIndex, leads_left, stale_indexes
from leads_pipeline.synthetic.hard_leads import TUNING_SEEDS, hard_leads
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.plain_scorer import PlainScorer
from leads_pipeline_tests.steps.rows import TENANT, chunk, rows_of
from leads_pipeline_tests.steps.test_deduped_leads import arrive, arrive_all

INDEX = (schema.match_records, schema.match_keys, schema.term_frequencies, schema.identity_sizes)
ADA = {"full_name": "Ada Lovelace", "email": "ada@engine.example", "company": "Engine"}
GRACE = {"full_name": "Grace Hopper", "email": "grace@navy.example", "city": "Arlington"}


def index_rows(engine: sa.Engine) -> list[list[tuple[Any, ...]]]:
    """Everything by which the tenant's leads are found, in an order of its own."""
    found = []
    for table in INDEX:
        rows = [{name: _plain(value) for name, value in row.items()} for row in rows_of(engine, table, tenant=TENANT)]
        found.append(sorted(tuple(map(str, row.values())) for row in rows))
    return found


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, list) else value


def resolve(engine: sa.Engine, settings: Settings, *, tenant: str = TENANT, limit: int = 1_000) -> None:
    while dedupe_leads(engine, chunk(tenant=tenant, limit=limit), settings=settings, scorer=PlainScorer()).taken:
        pass


def make_old(engine: sa.Engine) -> None:
    """As an older release left it: fewer keys and fields, other counts, and records of repeated posts."""
    with engine.begin() as connection:
        for statement in (
            "update identity_sizes set index_version = 0, records = records + 5, contacts = contacts - 1",
            "delete from match_keys where key_hash % 3 = 0",
            "update match_records set job_title_key = null, phone_kind = null, state_key = null",
            "update match_records set key_hashes = array(select key from unnest(key_hashes) as key where key % 3 <> 0)",
            "update term_frequencies set occurrences = occurrences + 2 where term_hash % 2 = 0",
            "delete from term_frequencies where term_hash % 5 = 0",
            "insert into term_frequencies (term_hash, occurrences, tenant) values (42, 7, 'acme')",
        ):
            connection.execute(sa.text(statement))


@pytest.fixture
def fresh(engine: sa.Engine, settings: Settings) -> list[list[tuple[Any, ...]]]:
    """A database of an older release; given is what a fresh resolution of its leads leaves."""
    leads = [dict(lead.payload) for lead in hard_leads(300, seed=TUNING_SEEDS[0])]
    arrive_all(engine, [*leads, ADA, ADA, GRACE])
    resolve(engine, settings)
    found = index_rows(engine)
    make_old(engine)
    arrive(engine, GRACE, tenant="globex")
    resolve(engine, settings, tenant="globex")
    return found


def assert_found_by_all_keys(engine: sa.Engine, tenant: str = TENANT) -> None:
    """Every look of every contact has a record under all its keys, and values are counted by contacts."""
    records = rows_of(engine, schema.match_records, tenant=tenant)
    keys = Counter((row["lead_id"], row["key_hash"]) for row in rows_of(engine, schema.match_keys, tenant=tenant))
    expected: set[tuple[UUID, int]] = set()
    terms: set[tuple[UUID, int]] = set()
    for row in records:
        look = fields_of(SimpleNamespace(**row))
        expected |= {(row["lead_id"], key) for key in stored_keys(tenant, look)}
        terms |= {(row["contact_id"], term_hash(tenant, *term)) for term in terms_of(look).items()}
    assert set(keys) == expected
    counted = {row["term_hash"]: row["occurrences"] for row in rows_of(engine, schema.term_frequencies, tenant=tenant)}
    assert counted == Counter(term for _contact, term in terms)
    (size,) = rows_of(engine, schema.identity_sizes, tenant=tenant)
    living = rows_of(engine, schema.contacts, tenant=tenant, merged_into=None)
    assert (size["records"], size["contacts"]) == (len(records), len(living))


def test_an_index_of_an_older_release_becomes_what_a_fresh_resolution_makes(
    engine: sa.Engine, fresh: list[list[tuple[Any, ...]]]
) -> None:
    others = rows_of(engine, schema.match_records, tenant="globex")
    assert index_rows(engine) != fresh

    done = reindex(engine, TENANT, leads_at_once=20)

    assert index_rows(engine) == fresh
    assert done.leads == len(rows_of(engine, schema.deduped_leads, tenant=TENANT))
    assert done.recount.corrected > 0
    assert rows_of(engine, schema.match_records, tenant="globex") == others


def test_again_it_changes_nothing(engine: sa.Engine, fresh: list[list[tuple[Any, ...]]]) -> None:
    reindex(engine, TENANT, leads_at_once=50)
    once = index_rows(engine)

    again = reindex(engine, TENANT, leads_at_once=33)

    assert index_rows(engine) == once
    assert (again.recount.corrected, again.recount.records, again.recount.contacts) == (0, 0, 0)


_DIES = """
import os, sys
from leads_pipeline.steps.reindexed_records import reindex
from leads_pipeline.storage.database import engine_for

def die(doing, done, total):
    if doing == sys.argv[2]:
        os._exit(9)

reindex(engine_for(sys.argv[1]), "acme", leads_at_once=100, progress=die)
"""


@pytest.mark.parametrize("doing", ["records", "frequencies"])
def test_killed_half_way_it_goes_on_where_it_was(
    engine: sa.Engine, database_url: str, fresh: list[list[tuple[Any, ...]]], doing: str
) -> None:
    killed = subprocess.run([sys.executable, "-c", _DIES, database_url, doing], capture_output=True, check=False)
    assert killed.returncode == 9, killed.stderr.decode()
    with engine.connect() as connection:
        [stale] = stale_indexes(connection)
        left = leads_left(connection, TENANT)
    assert (stale.tenant, stale.version) == (TENANT, 0)

    done = reindex(engine, TENANT)

    leads = len(rows_of(engine, schema.deduped_leads, tenant=TENANT))
    assert done.leads == left == (leads - 100 if doing == "records" else 0)
    assert index_rows(engine) == fresh
    with engine.connect() as connection:
        assert stale_indexes(connection) == []


def test_chunks_that_are_resolved_meanwhile_lose_nothing(
    engine: sa.Engine, settings: Settings, fresh: list[list[tuple[Any, ...]]]
) -> None:
    arriving: Iterator[dict[str, Any]] = iter([dict(lead.payload) for lead in hard_leads(60, seed=TUNING_SEEDS[1])])
    happened: list[str] = []

    def another_chunk(doing: str, _done: int, _total: int) -> None:
        payloads = [payload for payload, _ in zip(arriving, range(10), strict=False)]
        if payloads:
            arrive_all(engine, payloads, lead_ids=[uuid7(NOW) for _ in payloads])
            resolve(engine, settings)
            happened.append(doing)

    reindex(engine, TENANT, leads_at_once=100, progress=another_chunk)

    assert set(happened) == {"records", "frequencies"}
    assert_found_by_all_keys(engine)


def test_a_lead_that_an_older_release_recorded_is_found_again(engine: sa.Engine, settings: Settings) -> None:
    arrive(engine, ADA)
    resolve(engine, settings)
    with engine.begin() as connection:
        connection.exec_driver_sql("delete from match_keys")
        connection.exec_driver_sql("update match_records set key_hashes = '{}'")

    reindex(engine, TENANT)
    arrive(engine, {**ADA, "phone": "+14155552671"})
    resolve(engine, settings)

    assert len({row["contact_id"] for row in rows_of(engine, schema.deduped_leads)}) == 1


def test_a_post_that_looks_like_one_before_it_gets_no_record_also_across_parts(
    engine: sa.Engine, settings: Settings
) -> None:
    first, *_ = arrive_all(engine, [ADA, GRACE, ADA, ADA])
    resolve(engine, settings)
    with engine.begin() as connection:  # as if each had one
        connection.exec_driver_sql(
            "insert into match_records select (jsonb_populate_record(m, jsonb_build_object('lead_id', d.lead_id))).* "
            "from match_records m join deduped_leads d using (contact_id) "
            "where not exists (select from match_records r where r.lead_id = d.lead_id)"
        )

    reindex(engine, TENANT, leads_at_once=1)

    recorded = {row["lead_id"] for row in rows_of(engine, schema.match_records)}
    assert len(recorded) == 2
    assert first in recorded
    assert_found_by_all_keys(engine)


def test_a_tenant_says_of_which_version_its_index_is(engine: sa.Engine, settings: Settings) -> None:
    arrive(engine, ADA)
    resolve(engine, settings)
    with engine.begin() as connection:
        assert stale_indexes(connection) == []
        connection.exec_driver_sql("update identity_sizes set index_version = 0")
        [stale] = stale_indexes(connection)
    assert stale == StaleIndex(TENANT, 0, 1)
    assert f"version {INDEX_VERSION}" in str(stale)
    assert "leads matching reindex --tenant acme" in str(stale)

    arrive(engine, GRACE, lane=Lane.BATCH)
    resolve(engine, settings)
    with engine.connect() as connection:  # one new chunk makes the records before it no newer
        assert [item.version for item in stale_indexes(connection)] == [0]
    assert isinstance(reindex(engine, TENANT), Reindexed)
    with engine.connect() as connection:
        assert stale_indexes(connection) == []


def test_sizes_that_are_missing_are_counted(engine: sa.Engine, settings: Settings) -> None:
    arrive_all(engine, [ADA, GRACE, ADA])
    resolve(engine, settings)
    with engine.begin() as connection:
        connection.exec_driver_sql("delete from identity_sizes")

    reindex(engine, TENANT, leads_at_once=2)

    assert_found_by_all_keys(engine)


def test_a_tenant_without_leads_has_nothing_to_be_made_anew(engine: sa.Engine) -> None:
    done = reindex(engine, "globex")
    assert (done.leads, done.records, done.recount.corrected) == (0, 0, 0)
