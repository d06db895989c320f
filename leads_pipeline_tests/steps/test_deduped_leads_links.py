"""Links and corrected leads on their way through the step from validated_leads to deduped_leads."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.stage import Stage
from leads_pipeline.matching.scoring import PairScorer
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.storage import schema
from leads_pipeline.storage.pending import claim
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.rows import TENANT, chunk, rows_of
from leads_pipeline_tests.steps.test_deduped_leads import arrive, arrive_all, contact_of, waiting_contacts

ANNA = {"email": "anna.kowalczyk@northwind.com", "full_name": "Anna Kowalczyk", "company": "Northwind GmbH"}
BERT = {"email": "b.quist@harbor.com", "full_name": "Bertil Quist", "company": "Harbor Ltd"}
PHONE = "+14155552671"


@pytest.fixture(scope="module")
def scorer() -> PairScorer:
    return PairScorer.load()


def link(
    engine: sa.Engine, kind: str, one: Sequence[UUID], other: Sequence[UUID], *, actor: str = "person:ada"
) -> UUID:
    """What linking or undoing writes."""
    link_id = uuid7(NOW)
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.identity_links).values(link_id=link_id, tenant=TENANT, kind=kind, actor=actor, made_at=NOW)
        )
        for side, leads in enumerate((one, other)):
            for lead_id in leads:
                connection.execute(
                    sa.insert(schema.identity_link_leads).values(
                        link_id=link_id, lead_id=lead_id, tenant=TENANT, side=side
                    )
                )
    return link_id


def withdraw(engine: sa.Engine, link_id: UUID) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.identity_links).where(schema.identity_links.c.link_id == link_id).values(withdrawn_at=NOW)
        )


class Resolving:
    """Leads arrive one chunk at a time; what was handed over before is taken."""

    def __init__(self, engine: sa.Engine, settings: Settings, scorer: PairScorer) -> None:
        self.engine = engine
        self.settings = settings
        self._scorer = scorer
        self._minute = 0

    def __call__(self, *payloads: dict[str, Any]) -> list[UUID]:
        self._minute += 1
        ids = arrive_all(self.engine, payloads, at=NOW + timedelta(minutes=self._minute))
        self.run()
        return ids

    def correct(self, lead: UUID, payload: dict[str, Any], *, revision: int = 2) -> dict[str, int]:
        arrive(self.engine, payload, lead_id=lead, revision=revision)
        return self.run()

    def run(self) -> dict[str, int]:
        self._minute += 1
        now = NOW + timedelta(minutes=self._minute)
        with self.engine.begin() as connection:
            claim(connection, Stage.GOLDEN_CONTACTS, chunk(now=now))
        return dedupe_leads(self.engine, chunk(now=now), settings=self.settings, scorer=self._scorer).counts

    def contact(self, lead: UUID) -> UUID:
        return contact_of(self.engine)[lead]


@pytest.fixture
def resolving(engine: sa.Engine, settings: Settings, scorer: PairScorer) -> Resolving:
    return Resolving(engine, settings, scorer)


def two_annas(resolving: Resolving) -> tuple[UUID, UUID]:
    """One name, two addresses, two numbers: nothing joins them but a lead that has both."""
    (one,) = resolving({"email": "anna@private.com", "full_name": "Anna Kowalczyk"})
    (other,) = resolving({"phone": PHONE, "full_name": "Anna Meier", "company": "Northwind"})
    assert resolving.contact(one) != resolving.contact(other)
    return one, other


BRIDGE = {"email": "anna@private.com", "phone": PHONE, "full_name": "Anna Meier"}


def test_a_lead_with_the_address_of_one_and_the_number_of_another_whom_a_cannot_link_keeps_apart_goes_by_the_address(
    engine: sa.Engine, resolving: Resolving
) -> None:
    one, other = two_annas(resolving)
    link(engine, "cannot", [one], [other])
    (bridge,) = resolving(BRIDGE)
    assert resolving.contact(one) != resolving.contact(other)
    assert resolving.contact(bridge) in (resolving.contact(one), resolving.contact(other))
    assert rows_of(engine, schema.match_reviews) == []
    assert rows_of(engine, schema.merge_log, kind="merge") == []


def test_a_lead_that_fits_both_sides_of_a_cannot_link_alike_joins_neither_and_both_are_put_before_a_person(
    engine: sa.Engine, resolving: Resolving
) -> None:
    walter = {"full_name": "Walter Brandt", "phone": PHONE}
    (father,) = resolving({**walter, "date_of_birth": "1951-03-14"})
    (son,) = resolving({**walter, "date_of_birth": "1983-11-02"})
    assert resolving.contact(father) != resolving.contact(son)
    link(engine, "cannot", [father], [son])
    (either,) = resolving({**walter, "city": "Fairview"})
    assert len({resolving.contact(lead) for lead in (father, son, either)}) == 3
    asked = {frozenset((row["lead_id"], row["other_lead_id"])) for row in rows_of(engine, schema.match_reviews)}
    assert asked == {frozenset((father, either)), frozenset((son, either))}


def test_a_withdrawn_cannot_link_keeps_nothing_apart(engine: sa.Engine, resolving: Resolving) -> None:
    one, other = two_annas(resolving)
    withdraw(engine, link(engine, "cannot", [one], [other]))
    resolving(BRIDGE)
    assert resolving.contact(one) == resolving.contact(other)


def test_a_cannot_link_holds_for_the_contact_although_its_lead_is_no_candidate(
    engine: sa.Engine, resolving: Resolving
) -> None:
    # The linked leads look like others of their contacts, so no record speaks for them.
    one, other = two_annas(resolving)
    (silent,) = resolving({"email": "anna@private.com", "full_name": "Anna Kowalczyk"})
    assert resolving.contact(silent) == resolving.contact(one)
    assert silent not in {row["lead_id"] for row in rows_of(engine, schema.match_records)}
    link(engine, "cannot", [silent], [other])
    resolving(BRIDGE)
    assert resolving.contact(one) != resolving.contact(other)


def test_a_grey_pair_that_a_cannot_link_answers_is_not_put_before_a_person(
    engine: sa.Engine, tmp_state: Any, scorer: PairScorer
) -> None:
    text = LEADS_YAML + "\nmatching: {merge_weight: 60, review_weight: -5, veto_weight: -9, rules: []}\n"
    resolving = Resolving(engine, parse_settings(text, path=tmp_state / "leads.yaml"), scorer)
    one, other = resolving(ANNA, {**ANNA, "email": "anna@private.com"})
    assert [row["cause"] for row in rows_of(engine, schema.match_reviews)] == ["grey"]
    link(engine, "cannot", [one], [other])
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.match_reviews))
    resolving.correct(one, {**ANNA, "city": "Graz"})
    assert rows_of(engine, schema.match_reviews) == []


def test_a_corrected_lead_that_looks_like_somebody_else_moves_and_the_log_says_how_to_take_it_back(
    engine: sa.Engine, resolving: Resolving
) -> None:
    first, second = resolving(ANNA, {**ANNA, "phone": PHONE})
    (bert,) = resolving(BERT)
    before = resolving.contact(second)

    counts = resolving.correct(second, {**BERT, "phone": PHONE})

    assert counts["moved"] == 1
    assert resolving.contact(second) == resolving.contact(bert) != resolving.contact(first) == before
    (log,) = rows_of(engine, schema.merge_log, kind="move")
    assert (log["contact_id"], log["other_contact_id"], log["actor"]) == (
        resolving.contact(bert), before, "rule:same_email",
    )  # fmt: skip
    moved = {"lead_id": str(second), "revision": 2}
    assert log["lead_ids"] == [moved]
    assert log["inverse"] == {"leads": [{**moved, "contact_id": str(before)}], "contacts": {}}
    # Both get a new golden record.
    assert set(waiting_contacts(engine)) == {before, resolving.contact(bert)}
    (record,) = [row for row in rows_of(engine, schema.match_records) if row["lead_id"] == second]
    assert record["contact_id"] == resolving.contact(bert)


def test_a_corrected_lead_that_looks_like_nobody_founds_a_contact(engine: sa.Engine, resolving: Resolving) -> None:
    first, second = resolving(ANNA, {**ANNA, "phone": PHONE})
    resolving.correct(second, BERT)
    assert resolving.contact(second) != resolving.contact(first)
    (log,) = rows_of(engine, schema.merge_log, kind="move")
    assert (log["actor"], log["contact_id"]) == ("rule:corrected", resolving.contact(second))
    (row,) = rows_of(engine, schema.deduped_leads, lead_id=second)
    assert (row["revision"], row["decision"]) == (2, "new")


def test_a_corrected_lead_stays_where_it_still_fits_and_nothing_is_logged(
    engine: sa.Engine, resolving: Resolving
) -> None:
    first, second = resolving(ANNA, {**ANNA, "phone": PHONE})
    before = rows_of(engine, schema.merge_log)
    counts = resolving.correct(second, {**ANNA, "phone": "+14155552672", "city": "Graz"})
    assert counts["moved"] == 0
    assert resolving.contact(second) == resolving.contact(first)
    assert rows_of(engine, schema.merge_log) == before


def test_the_only_lead_of_a_contact_takes_its_contact_along(engine: sa.Engine, resolving: Resolving) -> None:
    (lead,) = resolving(ANNA)
    contact = resolving.contact(lead)
    resolving.correct(lead, BERT)
    assert resolving.contact(lead) == contact
    assert len(rows_of(engine, schema.contacts)) == 1


def test_if_all_leads_of_a_contact_are_corrected_at_once_the_founder_keeps_it(
    engine: sa.Engine, resolving: Resolving
) -> None:
    first, second = resolving(ANNA, {**ANNA, "phone": PHONE})
    contact = resolving.contact(first)
    arrive(engine, BERT, lead_id=first, revision=2)
    arrive(engine, {"email": "z.aaltonen@fjord.com", "full_name": "Zbigniew Aaltonen"}, lead_id=second, revision=2)
    resolving.run()
    (row,) = rows_of(engine, schema.contacts, contact_id=contact)
    founder = row["founding_lead_id"]
    assert resolving.contact(founder) == contact
    assert resolving.contact(({first, second} - {founder}).pop()) != contact


def test_a_revision_that_changes_nothing_that_is_compared_moves_nobody(engine: sa.Engine, resolving: Resolving) -> None:
    first, second = resolving(ANNA, {**ANNA, "phone": PHONE})
    before = [rows_of(engine, table) for table in (schema.match_records, schema.match_keys, schema.merge_log)]
    resolving.correct(first, {**ANNA, "message": "Call me"})
    assert [rows_of(engine, t) for t in (schema.match_records, schema.match_keys, schema.merge_log)] == before
    (row,) = rows_of(engine, schema.deduped_leads, lead_id=first)
    assert (row["revision"], row["golden_version"]) == (2, None)
    assert set(waiting_contacts(engine)) == {resolving.contact(second)}


def test_a_must_link_holds_a_corrected_lead_whatever_it_looks_like(engine: sa.Engine, resolving: Resolving) -> None:
    first, second, third = resolving(ANNA, {**ANNA, "phone": PHONE}, {**ANNA, "city": "Graz"})
    link(engine, "must", [second], [first])
    resolving.correct(second, BERT)
    assert resolving.contact(second) == resolving.contact(first)
    resolving.correct(third, {"email": "z.aaltonen@fjord.com", "full_name": "Zbigniew Aaltonen"})
    assert resolving.contact(third) != resolving.contact(first)


def test_a_must_link_brings_a_corrected_lead_to_a_contact_that_it_shares_no_key_with(
    engine: sa.Engine, resolving: Resolving
) -> None:
    first, second = resolving(ANNA, {**ANNA, "phone": PHONE})
    (bert,) = resolving(BERT)
    link(engine, "must", [second], [bert], actor="person:grace")
    resolving.correct(second, {"email": "z.aaltonen@fjord.com", "full_name": "Zbigniew Aaltonen"})
    assert resolving.contact(second) == resolving.contact(bert) != resolving.contact(first)
    (log,) = rows_of(engine, schema.merge_log, kind="move")
    assert (log["actor"], log["match_weight"], log["evidence"]) == ("person:grace", None, {})


def test_a_cannot_link_lets_no_corrected_lead_come_back(engine: sa.Engine, resolving: Resolving) -> None:
    first, second = resolving(ANNA, {**ANNA, "phone": PHONE})
    resolving.correct(second, BERT)
    link(engine, "cannot", [second], [first])
    resolving.correct(second, {**ANNA, "phone": PHONE}, revision=3)
    assert resolving.contact(second) != resolving.contact(first)


def test_a_merge_logs_every_redirected_contact_and_every_moved_lead(engine: sa.Engine, resolving: Resolving) -> None:
    one, other = two_annas(resolving)
    survivor, gone = resolving.contact(one), resolving.contact(other)
    earlier = uuid7(NOW + timedelta(hours=1))
    with engine.begin() as connection:
        connection.execute(
            sa.insert(schema.contacts).values(
                contact_id=earlier, tenant=TENANT, founding_lead_id=other, created_at=NOW, merged_into=gone
            )
        )
    resolving(BRIDGE)
    (log,) = rows_of(engine, schema.merge_log, kind="merge")
    assert log["inverse"] == {
        "leads": [{"lead_id": str(other), "revision": 1, "contact_id": str(gone)}],
        "contacts": {str(gone): None, str(earlier): str(gone)},
    }
    assert {row["merged_into"] for row in rows_of(engine, schema.contacts)} == {None, survivor}


def test_a_review_is_closed_when_its_two_leads_come_together(
    engine: sa.Engine, tmp_state: Any, scorer: PairScorer
) -> None:
    text = LEADS_YAML + "\nmatching: {merge_weight: 60, review_weight: -5, veto_weight: -9}\n"
    resolving = Resolving(engine, parse_settings(text, path=tmp_state / "leads.yaml"), scorer)
    (one,) = resolving({"email": "anna@private.com", "full_name": "Anna Kowalczyk", "company": "Northwind"})
    (other,) = resolving({"phone": PHONE, "full_name": "Anna Kowalczyk", "company": "Northwind"})
    (review,) = rows_of(engine, schema.match_reviews)
    assert (review["state"], review["cause"], review["actor"]) == ("open", "grey", f"model:{scorer.version}")
    resolving({"email": "anna@private.com", "phone": PHONE, "full_name": "Anna Kowalczyk"})
    assert resolving.contact(one) == resolving.contact(other)
    (review,) = rows_of(engine, schema.match_reviews)
    assert review["state"] == "closed"


def test_two_contacts_are_asked_about_once_however_many_leads_follow(
    engine: sa.Engine, tmp_state: Any, scorer: PairScorer
) -> None:
    text = LEADS_YAML + "\nmatching: {merge_weight: 60, review_weight: -5, veto_weight: -9}\n"
    resolving = Resolving(engine, parse_settings(text, path=tmp_state / "leads.yaml"), scorer)
    resolving({"email": "anna@private.com", "full_name": "Anna Kowalczyk", "company": "Northwind"})
    resolving({"email": "a.kow@northwind.com", "full_name": "Anna Kowalczyk", "company": "Northwind"})
    resolving({"email": "a.kow@northwind.com", "full_name": "Anna Kowalczyk", "company": "Northwind", "city": "Graz"})
    assert len(rows_of(engine, schema.match_reviews)) == 1


def test_a_contact_that_would_grow_too_large_is_held_for_review(
    engine: sa.Engine, tmp_state: Any, scorer: PairScorer
) -> None:
    text = LEADS_YAML + "\nmatching: {max_records_per_contact: 2}\n"
    resolving = Resolving(engine, parse_settings(text, path=tmp_state / "leads.yaml"), scorer)
    first, second = resolving(ANNA, {**ANNA, "city": "Graz"})
    (third,) = resolving({**ANNA, "city": "Linz"})
    assert resolving.contact(first) == resolving.contact(second) != resolving.contact(third)
    (review,) = rows_of(engine, schema.match_reviews)
    assert (review["cause"], review["actor"], review["lead_id"]) == ("refused", "rule:same_email", third)


def test_what_is_read_for_links_does_not_grow_with_their_number(engine: sa.Engine, resolving: Resolving) -> None:
    one, other = two_annas(resolving)
    link(engine, "cannot", [one], [other])
    many = """
        with made as (
            insert into identity_links (link_id, tenant, kind, actor, made_at)
            select gen_random_uuid(), :t, 'cannot', 'person:ada', now() from generate_series(1, 5000)
            returning link_id
        )
        insert into identity_link_leads (link_id, lead_id, tenant, side)
        select link_id, gen_random_uuid(), :t, side from made, (values (0), (1)) as s(side)
    """
    with engine.begin() as connection:
        connection.execute(sa.text(many), {"t": TENANT})
    with engine.begin() as connection:
        connection.execute(sa.text("analyze identity_links, identity_link_leads"))
    read: list[int] = []

    @sa.event.listens_for(engine, "commit")
    def _count(connection: sa.Connection) -> None:
        rows = "select sum(seq_tup_read + idx_tup_fetch) from pg_stat_xact_user_tables where relname ~ '^identity_link'"
        read.append(int(connection.execute(sa.text(rows)).scalar_one()))

    try:
        resolving(BRIDGE)
    finally:
        sa.event.remove(engine, "commit", _count)
    assert resolving.contact(one) != resolving.contact(other)
    assert 0 < max(read) < 50
