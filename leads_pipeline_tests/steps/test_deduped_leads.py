"""The step from validated_leads to deduped_leads, on a real database and with the shipped model."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import ChunkReport, Lane, Stage
from leads_pipeline.domain.triage import UNWEIGHED
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.evaluation import pairwise
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.golden_contacts import refresh_golden_contacts
from leads_pipeline.storage import schema
from leads_pipeline.storage.identity import lock_identity, read_size
from leads_pipeline.storage.leads import RawLead, insert_validated_leads
from leads_pipeline.storage.pending import Waiting, claim, enqueue
from leads_pipeline.synthetic import generate_leads
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.rows import TENANT, chunk, rows_of

ANNA = {"email": "anna.kowalczyk@northwind.com", "full_name": "Anna Kowalczyk", "company": "Northwind GmbH"}
BERT = {"email": "b.quist@harbor.com", "full_name": "Bertil Quist", "company": "Harbor Ltd"}
IDENTITY_TABLES = (
    schema.contacts, schema.deduped_leads, schema.match_records, schema.match_keys, schema.term_frequencies,
    schema.identity_sizes, schema.merge_log, schema.match_reviews,
)  # fmt: skip


@pytest.fixture(scope="module")
def scorer() -> PairScorer:
    return PairScorer.load()


def arrive(
    engine: sa.Engine,
    payload: dict[str, Any],
    *,
    lane: Lane = Lane.NEAR_REAL_TIME,
    tenant: str = TENANT,
    at: datetime = NOW,
    lead_id: UUID | None = None,
    revision: int = 1,
) -> UUID:
    """A valid lead at the door of ``deduped_leads``."""
    return arrive_all(
        engine, [payload], lane=lane, tenant=tenant, at=at, lead_ids=[lead_id or uuid7(at)], revision=revision
    )[0]


def arrive_all(
    engine: sa.Engine,
    payloads: Sequence[dict[str, Any]],
    *,
    lane: Lane = Lane.NEAR_REAL_TIME,
    tenant: str = TENANT,
    at: datetime = NOW,
    lead_ids: Sequence[UUID] | None = None,
    revision: int = 1,
) -> list[UUID]:
    ids = lead_ids or [uuid7(at + timedelta(milliseconds=number)) for number in range(len(payloads))]
    leads = []
    for lead_id, payload in zip(ids, payloads, strict=True):
        lead = validate(payload, country="US", today=NOW.date())
        assert isinstance(lead, ValidLead), lead
        leads.append((RawLead(lead_id, revision, "website", lane, at, payload), lead, UNWEIGHED))
    with engine.begin() as connection:
        insert_validated_leads(connection, leads, chunk(tenant=tenant))
        enqueue(connection, Stage.DEDUPED_LEADS, [Waiting(lead_id, tenant, lane, revision, NOW) for lead_id in ids])
    return list(ids)


def contact_of(engine: sa.Engine) -> dict[UUID, UUID]:
    return {row["lead_id"]: row["contact_id"] for row in rows_of(engine, schema.deduped_leads)}


def identity_rows(engine: sa.Engine) -> list[list[dict[str, Any]]]:
    return [rows_of(engine, table) for table in IDENTITY_TABLES]


def waiting_contacts(engine: sa.Engine) -> dict[UUID, str]:
    rows = rows_of(engine, schema.pending, stage=Stage.GOLDEN_CONTACTS)
    return {row["subject_id"]: row["lane"] for row in rows}


def test_nothing_pending_is_nothing_done(engine: sa.Engine, settings: Settings, scorer: PairScorer) -> None:
    assert dedupe_leads(engine, chunk(), settings=settings, scorer=scorer) == ChunkReport(taken=0, passed=0, counts={})


def test_a_stranger_founds_a_contact_and_asks_for_its_golden_record(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    lead = arrive(engine, ANNA, lane=Lane.REAL_TIME)
    this = chunk()

    report = dedupe_leads(engine, this, settings=settings, scorer=scorer)

    assert (report.taken, report.passed, report.counts["new"]) == (1, 1, 1)
    (row,) = rows_of(engine, schema.deduped_leads)
    (contact,) = rows_of(engine, schema.contacts)
    assert (row["lead_id"], row["contact_id"], row["decision"], row["golden_version"], row["sync_lane"]) == (
        lead, contact["contact_id"], "new", None, "real_time",
    )  # fmt: skip
    assert (contact["founding_lead_id"], contact["created_at"], contact["merged_into"]) == (lead, NOW, None)
    assert (row["batch_id"], row["runner_id"], row["deduped_at"]) == (this.batch_id, "test", NOW)
    assert waiting_contacts(engine) == {contact["contact_id"]: "real_time"}
    assert rows_of(engine, schema.merge_log) == []


def test_the_same_email_joins_by_rule_and_the_log_holds_what_would_take_it_back(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    first = arrive(engine, ANNA)
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    second = arrive(
        engine, {"email": "ANNA.KOWALCZYK@northwind.com", "full_name": "Anna Meier", "phone": "+14155552671"}
    )

    report = dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)

    assert report.counts["joined_by_rule"] == 1
    assert contact_of(engine)[first] == contact_of(engine)[second]
    (log,) = rows_of(engine, schema.merge_log)
    assert (log["kind"], log["actor"], log["lead_ids"], log["other_contact_id"]) == (
        "join", "rule:same_email", [{"lead_id": str(second), "revision": 1}], None,
    )  # fmt: skip
    assert log["inverse"] == {"leads": [{"lead_id": str(second), "revision": 1, "contact_id": None}], "contacts": {}}


def test_the_same_email_does_not_join_two_people_and_a_role_mailbox_decides_nothing(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    shared = arrive_all(engine, [ANNA, {"email": ANNA["email"], "full_name": BERT["full_name"]}])
    role = {"email": "info@northwind.com", "company": "Northwind GmbH"}
    office = arrive_all(engine, [{**role, "full_name": "Ines Okafor"}, {**role, "full_name": "Peter Smith"}])
    report = dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    assert report.counts["joined_by_rule"] == 0
    assert len({contact_of(engine)[lead] for lead in (*shared, *office)}) == 4


def test_leads_of_one_chunk_find_each_other(engine: sa.Engine, settings: Settings, scorer: PairScorer) -> None:
    leads = arrive_all(engine, [ANNA, BERT, {**ANNA, "phone": "+14155552671"}])
    report = dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    contacts = contact_of(engine)
    assert contacts[leads[0]] == contacts[leads[2]] != contacts[leads[1]]
    assert (report.counts["new"], report.counts["joined_by_rule"]) == (2, 1)
    assert {row["founding_lead_id"] for row in rows_of(engine, schema.contacts)} == {leads[0], leads[1]}


def test_the_model_joins_a_typo_and_a_short_name_and_says_why_without_values(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    katherine = arrive(engine, {**ANNA, "first_name": "Katherine", "last_name": "Kowalczyk"})
    other = {"first_name": "Kate", "last_name": "Kowalzcyk", "company": "Northwind", "email": "kate@mailhaven.example",
             "city": "Springfield", "date_of_birth": "1980-02-29"}  # fmt: skip
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    kate = arrive(engine, {**other, "email": "anna.kowalczyk@northwind.co"})

    report = dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)

    assert report.counts["joined_by_model"] == 1
    (log,) = rows_of(engine, schema.merge_log)
    assert log["actor"] == f"model:{scorer.version}"
    assert log["match_weight"] >= settings.matching.merge_weight
    assert set(log["evidence"]) <= {
        "prior", "first_name", "last_name", "email", "phone", "born", "company", "place",
    }  # fmt: skip
    assert sum(log["evidence"].values()) == pytest.approx(log["match_weight"], abs=0.01)
    assert all(isinstance(weight, float) for weight in log["evidence"].values())
    assert {log["compared_lead_id"], log["compared_with_lead_id"]} == {katherine, kate}
    assert (log["review_weight"], log["merge_weight"]) == (
        settings.matching.review_weight, settings.matching.merge_weight,
    )  # fmt: skip


def test_colleagues_at_one_switchboard_stay_apart(engine: sa.Engine, settings: Settings, scorer: PairScorer) -> None:
    company = {"company": "Northwind GmbH", "phone": "+14155552671"}
    people = [
        {"first_name": "Anna", "last_name": "Smith", "email": "anna.smith@northwind.com"},
        {"first_name": "Peter", "last_name": "Smith", "email": "peter.smith@northwind.com"},
        {"first_name": "Ines", "last_name": "Okafor", "email": "ines.okafor@northwind.com"},
    ]
    leads = arrive_all(engine, [{**company, **person} for person in people])
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    contacts = contact_of(engine)
    assert len({contacts[lead] for lead in leads}) == 3


def test_a_bridging_lead_merges_two_contacts_and_the_older_one_survives(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    old = arrive(engine, {"email": "anna@private.com", "full_name": "Anna Kowalczyk"})
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    young = arrive(engine, {"phone": "+14155552671", "full_name": "Anna Meier", "company": "Northwind"})
    later = NOW + timedelta(minutes=5)
    dedupe_leads(engine, chunk(now=later), settings=settings, scorer=scorer)
    assert len(set(contact_of(engine).values())) == 2
    survivor, other = contact_of(engine)[old], contact_of(engine)[young]

    bridge = arrive(engine, {"email": "anna@private.com", "phone": "+14155552671", "full_name": "Anna Meier"}, at=later)
    report = dedupe_leads(engine, chunk(now=later), settings=settings, scorer=scorer)

    assert report.counts["merged_contacts"] == 1
    assert contact_of(engine) == dict.fromkeys((old, young, bridge), survivor)
    merged = {row["contact_id"]: row["merged_into"] for row in rows_of(engine, schema.contacts)}
    assert merged == {survivor: None, other: survivor}
    assert {row["contact_id"] for row in rows_of(engine, schema.match_records)} == {survivor}
    (log,) = rows_of(engine, schema.merge_log, kind="merge")
    assert (log["contact_id"], log["other_contact_id"], log["lead_ids"]) == (
        survivor, other, [{"lead_id": str(young), "revision": 1}],
    )  # fmt: skip
    assert survivor in waiting_contacts(engine)
    with engine.connect() as connection:
        assert read_size(connection, TENANT).contacts == 1


def test_merges_are_flattened_so_that_merged_into_names_a_living_contact(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    emails = ["one@firm.com", "two@firm.com", "three@firm.com"]
    phones = ["+14155552671", "+14155552672", "+14155552673"]
    names = ["Zbigniew Aaltonen", "Zbigniew Bartholomew", "Zbigniew Castellanos"]
    for at, (email, phone, name) in enumerate(zip(emails, phones, names, strict=True)):
        arrive(engine, {"email": email, "phone": phone, "full_name": name}, at=NOW + timedelta(minutes=at))
        dedupe_leads(engine, chunk(now=NOW + timedelta(minutes=at)), settings=settings, scorer=scorer)
    # The third is merged into the second, then the second into the first.
    for at, (email, bridged) in enumerate(((emails[1], 2), (emails[0], 1)), start=10):
        moment = NOW + timedelta(minutes=at)
        arrive(engine, {"email": email, "phone": phones[bridged], "full_name": names[bridged]}, at=moment)
        dedupe_leads(engine, chunk(now=moment), settings=settings, scorer=scorer)
    rows = rows_of(engine, schema.contacts)
    assert [row["merged_into"] for row in rows] == [None, rows[0]["contact_id"], rows[0]["contact_id"]]
    assert set(contact_of(engine).values()) == {rows[0]["contact_id"]}


def test_a_grey_pair_goes_to_a_person_once(engine: sa.Engine, tmp_state: Any, scorer: PairScorer) -> None:
    strict = parse_settings(
        LEADS_YAML + "\nmatching: {merge_weight: 60, review_weight: -5, veto_weight: -9}\n",
        path=tmp_state / "leads.yaml",
    )
    first = arrive(engine, {"first_name": "Anna", "last_name": "Kowalczyk", "city": "Graz", "company": "Northwind"})
    second = arrive(engine, {"first_name": "Anna", "last_name": "Kowalczyk", "company": "Northwind", "city": "Linz"})
    report = dedupe_leads(engine, chunk(), settings=strict, scorer=scorer)
    assert report.counts["reviews"] == 1
    (review,) = rows_of(engine, schema.match_reviews)
    assert {review["lead_id"], review["other_lead_id"]} == {first, second}
    assert review["lead_id"] > review["other_lead_id"]
    assert (review["state"], review["opened_at"]) == ("open", NOW)
    assert len(set(contact_of(engine).values())) == 2


def test_running_again_changes_nothing(engine: sa.Engine, settings: Settings, scorer: PairScorer) -> None:
    leads = arrive_all(engine, [ANNA, BERT, {**ANNA, "phone": "+14155552671"}])
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    before = identity_rows(engine)
    with engine.begin() as connection:
        claim(connection, Stage.GOLDEN_CONTACTS, chunk())
        enqueue(connection, Stage.DEDUPED_LEADS, [Waiting(lead, TENANT, Lane.BATCH, 1, NOW) for lead in leads])

    report = dedupe_leads(engine, chunk(now=NOW + timedelta(hours=1)), settings=settings, scorer=scorer)

    assert (report.taken, report.counts) == (3, {"settled": 3})
    assert identity_rows(engine) == before
    assert set(waiting_contacts(engine)) == set(contact_of(engine).values())


def test_a_repost_is_a_member_but_not_another_record_to_compare_with(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    first = arrive(engine, ANNA)
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    before = [rows_of(engine, table) for table in (schema.match_records, schema.match_keys, schema.term_frequencies)]
    again = arrive_all(engine, [ANNA, ANNA], at=NOW + timedelta(minutes=1))
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    assert len({contact_of(engine)[lead] for lead in (first, *again)}) == 1
    assert [rows_of(engine, t) for t in (schema.match_records, schema.match_keys, schema.term_frequencies)] == before
    with engine.connect() as connection:
        assert read_size(connection, TENANT).records == 1


def test_a_corrected_lead_stays_with_its_contact_and_is_found_by_its_new_address(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    lead = arrive(engine, ANNA)
    twin = arrive(engine, ANNA, at=NOW + timedelta(seconds=1))
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    contact = contact_of(engine)[lead]
    arrive(engine, {**ANNA, "email": "anna@newfirm.com"}, lead_id=lead, revision=2)
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    by_new = arrive(engine, {"email": "anna@newfirm.com"}, at=NOW + timedelta(seconds=2))
    # The twin was not recorded, as it looked the same; it must not be forgotten with the lead that spoke for it.
    by_old = arrive(engine, {"email": ANNA["email"]}, at=NOW + timedelta(seconds=3))
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    assert contact_of(engine) == dict.fromkeys((lead, twin, by_new, by_old), contact)
    (row,) = rows_of(engine, schema.deduped_leads, lead_id=lead)
    assert (row["revision"], row["decision"], row["golden_version"]) == (2, "new", None)


def test_tenants_are_kept_apart(engine: sa.Engine, settings: Settings, scorer: PairScorer) -> None:
    here = arrive(engine, ANNA)
    there = arrive(engine, ANNA, tenant="globex")
    for tenant in (TENANT, "globex"):
        dedupe_leads(engine, chunk(tenant=tenant), settings=settings, scorer=scorer)
    assert contact_of(engine)[here] != contact_of(engine)[there]


def test_a_killed_step_leaves_everything_as_it_was(engine: sa.Engine, settings: Settings, scorer: PairScorer) -> None:
    arrive_all(engine, [ANNA, BERT])
    before = [*identity_rows(engine), rows_of(engine, schema.pending)]

    class Killed(BaseException):
        pass

    @sa.event.listens_for(engine, "commit")
    def _kill(_connection: sa.Connection) -> None:
        raise Killed

    with pytest.raises(Killed):
        dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    sa.event.remove(engine, "commit", _kill)
    engine.dispose()  # the connection goes with the process
    assert [*identity_rows(engine), rows_of(engine, schema.pending)] == before
    assert dedupe_leads(engine, chunk(), settings=settings, scorer=scorer).taken == 2


def test_two_chunks_of_one_tenant_never_resolve_at_once(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    arrive(engine, ANNA)
    done = threading.Event()

    def resolve() -> None:
        dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
        done.set()

    with engine.begin() as holder:
        lock_identity(holder, TENANT)
        lock_identity(holder, "globex")  # another tenant's lock is another lock
        thread = threading.Thread(target=resolve)
        thread.start()
        _wait_until_a_lock_is_awaited(engine)
        assert not done.is_set()
    thread.join(timeout=60)
    assert done.is_set()
    assert len(contact_of(engine)) == 1


def _wait_until_a_lock_is_awaited(engine: sa.Engine) -> None:
    statement = sa.text("select count(*) from pg_locks where locktype = 'advisory' and not granted")
    for _attempt in range(20_000):
        with engine.connect() as connection:
            if connection.execute(statement).scalar_one():
                return
    raise AssertionError("the step did not wait for the identity lock")


def test_a_key_shared_by_many_compares_nobody_and_says_so(
    engine: sa.Engine, tmp_state: Any, scorer: PairScorer
) -> None:
    capped = parse_settings(LEADS_YAML + "\nmatching: {max_candidates_per_key: 3}\n", path=tmp_state / "leads.yaml")

    def somebody(first: str, last: str) -> dict[str, str]:
        return {"first_name": first, "last_name": last, "email": f"skyfall88@{last.lower()}.example"}

    arrive_all(engine, [somebody("Ada", "Lovelace"), somebody("Bob", "Zimmerman"), somebody("Cleo", "Ricci")])
    dedupe_leads(engine, chunk(), settings=capped, scorer=scorer)
    arrive(engine, somebody("Dirk", "Nowak"))
    report = dedupe_leads(engine, chunk(), settings=capped, scorer=scorer)
    assert (report.counts["candidates"], report.counts["capped_keys"]) == (3, 0)
    arrive(engine, somebody("Eve", "Hoffman"))
    report = dedupe_leads(engine, chunk(), settings=capped, scorer=scorer)
    assert (report.counts["candidates"], report.counts["capped_keys"]) == (0, 1)


def test_an_address_held_by_many_is_compared_with_its_newest_records(
    engine: sa.Engine, tmp_state: Any, scorer: PairScorer
) -> None:
    capped = parse_settings(LEADS_YAML + "\nmatching: {max_candidates_per_key: 3}\n", path=tmp_state / "leads.yaml")
    for name in ("Ada Lovelace", "Bob Zimmerman", "Cleo Ricci", "Dirk Nowak", "Eve Hoffman"):
        first, last = name.split()
        arrive(engine, {"first_name": first, "last_name": last, "email": "info@firm.com"})
    dedupe_leads(engine, chunk(), settings=capped, scorer=scorer)
    arrive(engine, {"first_name": "Gus", "last_name": "Tanaka", "email": "info@firm.com"})
    report = dedupe_leads(engine, chunk(), settings=capped, scorer=scorer)
    assert (report.counts["candidates"], report.counts["capped_keys"]) == (3, 1)


def test_who_posts_the_same_again_and_again_is_one_contact_in_one_chunk_and_in_many(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    again = {"first_name": "Gudrun", "last_name": "Tanaka", "phone": "+14155552671", "city": "Graz"}
    for _ in range(30):
        arrive(engine, again)
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    arrive(engine, again)
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    assert len(set(contact_of(engine).values())) == 1


def test_who_always_looks_a_little_different_stays_one_contact(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    # More of them than any key finds at once.
    for number in range(25):
        arrive(
            engine,
            {
                "first_name": "Gudrun", "last_name": "Tanaka", "phone": "+14155552671", "city": "Graz",
                "external_id": str(number),
            },
        )  # fmt: skip
        dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    assert len(set(contact_of(engine).values())) == 1


def test_chunks_of_any_size_give_nearly_the_same_people(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    posts = [lead for lead in generate_leads(700, seed=3) if lead.repost_of is None]
    valid = [p for p in posts if isinstance(validate(p.payload, country="US", today=NOW.date()), ValidLead)]
    found: list[dict[int, UUID]] = []
    for tenant, size in ((TENANT, 1_000), ("globex", 90)):
        ids = arrive_all(engine, [dict(post.payload) for post in valid], tenant=tenant)
        while dedupe_leads(engine, chunk(tenant=tenant, limit=size), settings=settings, scorer=scorer).taken:
            pass
        contacts = contact_of(engine)
        found.append({number: contacts[lead_id] for number, lead_id in enumerate(ids)})
    truth = {number: post.truth for number, post in enumerate(valid)}
    at_once, in_pieces = (pairwise(truth, groups) for groups in found)
    assert at_once.precision > 0.95
    assert at_once.recall > 0.8
    # Frequencies and the prior are those of the moment, so a pair near the cut-off may fall on the other side.
    agreement = pairwise(found[0], found[1])
    assert agreement.f1 > 0.97
    assert in_pieces.f1 == pytest.approx(at_once.f1, abs=0.03)


def test_a_chunk_reads_by_index_only_also_when_the_planner_knows_nothing_of_what_came(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    # Not one of these tables was ever analyzed, and each is small enough to be read at once.
    posts = [dict(lead.payload) for lead in generate_leads(700, seed=5) if lead.repost_of is None]
    valid = [post for post in posts if isinstance(validate(post, country="US", today=NOW.date()), ValidLead)]
    arrive_all(engine, valid[:300])
    dedupe_leads(engine, chunk(limit=300), settings=settings, scorer=scorer)
    arrive_all(engine, valid[300:], at=NOW + timedelta(minutes=1))
    read: dict[str, int] = {}

    @sa.event.listens_for(engine, "commit")
    def _count(connection: sa.Connection) -> None:
        rows = connection.execute(sa.text("select relname, seq_scan, idx_scan from pg_stat_xact_user_tables"))
        read.update({row.relname: row.seq_scan for row in rows})

    try:
        report = dedupe_leads(engine, chunk(limit=1_000), settings=settings, scorer=scorer)
    finally:
        sa.event.remove(engine, "commit", _count)
    assert report.counts["candidates"] > 100
    for table in IDENTITY_TABLES:
        assert read[table.name] == 0, table.name


def test_no_table_of_decisions_holds_a_personal_value(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    arrive_all(engine, [ANNA, BERT, {**ANNA, "phone": "+14155552671"}, {**BERT, "email": "bquist@harbor.com"}])
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    tables = (schema.merge_log, schema.match_reviews, schema.deduped_leads, schema.contacts)
    decisions = json.dumps([rows_of(engine, table) for table in tables], default=str).lower()
    assert "joined" not in decisions
    for value in ("kowalczyk", "northwind", "quist", "harbor", "4155552671"):
        assert value not in decisions


def test_importing_the_step_loads_neither_splink_nor_duckdb_nor_pandas() -> None:
    script = (
        "import sys, leads_pipeline.steps.deduped_leads, leads_pipeline.matching.evaluation\n"
        "print([name for name in ('splink', 'duckdb', 'pandas') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_golden_step_takes_what_is_handed_over_chunk_after_chunk(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    posts = [post for post in generate_leads(500, seed=8) if not post.truth.startswith("nobody")]
    arrive_all(engine, [dict(post.payload) for post in posts])
    while dedupe_leads(engine, chunk(limit=120), settings=settings, scorer=scorer).taken:
        # Between two chunks, so that contacts with a golden record are merged and joined too.
        while refresh_golden_contacts(engine, chunk(limit=50), settings=settings).taken:
            pass
    leads = rows_of(engine, schema.deduped_leads)
    golden = {row["contact_id"]: row["lead_count"] for row in rows_of(engine, schema.golden_contacts)}
    assert golden == Counter(row["contact_id"] for row in leads)
    assert all(row["golden_version"] is not None for row in leads)
    living = {row["contact_id"] for row in rows_of(engine, schema.contacts, merged_into=None)}
    assert living == golden.keys()


@pytest.mark.parametrize(("kind", "decision"), [("mailbox", "rule:same_verified_email"), ("mx", None)])
def test_a_verified_address_is_one_whose_mailbox_a_look_up_found_valid(
    engine: sa.Engine, scorer: PairScorer, tmp_state: Path, kind: str, decision: str | None
) -> None:
    rules = "matching: {rules: [{name: same_verified_email, when: [verified_email]}]}"
    settings = parse_settings(f"{LEADS_YAML}\n{rules}\n", path=tmp_state / "leads.yaml")
    leads = [arrive(engine, ANNA), arrive(engine, {**ANNA, "company": "Harbor Ltd"})]
    with engine.begin() as connection:
        for lead in leads:
            connection.execute(sa.insert(schema.verifications).values(
                verification_id=uuid7(NOW), tenant=TENANT, lead_id=lead, revision=1, kind=kind, tier="basic",
                provider="sandbox", verdict="valid", reasons=[], flags=[], details={}, cost_micros=0,
                requested_at=NOW, verified_at=NOW, batch_id=uuid7(NOW), runner_id="test",
            ))  # fmt: skip
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    actors = {row["actor"] for row in rows_of(engine, schema.merge_log)}
    assert (decision in actors) is (decision is not None)
    assert all(not actor.startswith("rule:") for actor in actors - {decision})


def test_equal_leads_are_one_contact_however_many_come_at_once(
    engine: sa.Engine, settings: Settings, scorer: PairScorer
) -> None:
    """The size of a contact is counted in looks."""
    arrive_all(engine, [ANNA] * (settings.matching.max_records_per_contact + 10))
    dedupe_leads(engine, chunk(), settings=settings, scorer=scorer)
    assert len(set(contact_of(engine).values())) == 1
    assert rows_of(engine, schema.match_reviews) == []
