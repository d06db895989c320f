"""The outbox: who may claim a row, and what a settlement may change."""

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.domain.delivery import ClaimedRow, RecordVerdict, Verdict
from leads_pipeline.domain.retry import NextStep
from leads_pipeline.domain.stage import Lane, Operation, OutboxState
from leads_pipeline.storage.outbox import (
    _KEEP,
    Settlement,
    claim,
    doubt,
    keep_claims,
    settle,
)
from leads_pipeline.storage.outbox_demand import Demand, demand, withdraw
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import Contact, add_contacts, change, merge_away, row_of

LEASE = NOW + timedelta(seconds=60)


def _claim(engine: sa.Engine, contacts: list[Contact], *, token: str, now=NOW) -> list[int]:
    with engine.begin() as connection:
        rows = claim(
            connection, [c.outbox_id for c in contacts], token=token, until=now + timedelta(seconds=60), now=now
        )
    return [row.outbox_id for row in rows]


def _settle(
    engine: sa.Engine,
    contact: Contact,
    verdict: Verdict,
    *,
    token: str,
    version: int = 1,
    touched: Collection[str] = (),
) -> list[str]:
    state = {Verdict.DELIVERED: OutboxState.DELIVERED, Verdict.INVALID: OutboxState.DEAD}.get(
        verdict, OutboxState.WAITING
    )
    settlement = Settlement(
        RecordVerdict(contact.outbox_id, verdict, crm_record_id="77"),
        NextStep(state, 0 if verdict is Verdict.DELIVERED else 1, NOW),
        version,
        {"email": None},
        touched=touched if verdict is Verdict.DELIVERED else None,
    )
    with engine.begin() as connection:
        found = settle(connection, [settlement], token=token, operation=Operation.UPSERT, now=NOW)
    return [str(item.state) for item in found]


def test_a_claimed_row_cannot_be_claimed_until_its_lease_has_run_out(engine: sa.Engine) -> None:
    contacts = add_contacts(engine, 3)
    ids = [contact.outbox_id for contact in contacts]
    assert _claim(engine, contacts, token="a") == ids
    assert _claim(engine, contacts, token="b", now=LEASE - timedelta(microseconds=1)) == []
    assert _claim(engine, contacts, token="b", now=LEASE) == ids
    assert {row_of(engine, contact)["claimed_by"] for contact in contacts} == {"b"}


def test_two_claims_at_once_share_the_rows_and_do_not_wait_for_each_other(engine: sa.Engine) -> None:
    contacts = add_contacts(engine, 3)
    ids = [contact.outbox_id for contact in contacts]
    with engine.connect() as one, engine.connect() as two:
        two.execute(sa.text("set lock_timeout = '1s'"))
        first = claim(one, ids[:2], token="a", until=LEASE, now=NOW)
        second = claim(two, ids, token="b", until=LEASE, now=NOW)
        one.commit()
        two.commit()
    assert [row.outbox_id for row in first] == ids[:2]
    assert [row.outbox_id for row in second] == ids[2:]


def test_a_row_that_is_not_due_or_not_waiting_is_not_claimed(engine: sa.Engine) -> None:
    later = add_contacts(engine, due_at=NOW + timedelta(seconds=1))
    dead = add_contacts(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set state = 'dead' where outbox_id = :id"), {"id": dead[0].outbox_id})
    assert _claim(engine, later + dead, token="a") == []


def test_a_settlement_after_the_lease_was_lost_changes_nothing(engine: sa.Engine) -> None:
    [contact] = add_contacts(engine)
    _claim(engine, [contact], token="a")
    _claim(engine, [contact], token="b", now=LEASE)
    assert _settle(engine, contact, Verdict.INVALID, token="a") == []
    assert row_of(engine, contact)["state"] == "in_flight"
    assert _settle(engine, contact, Verdict.DELIVERED, token="b") == ["delivered"]


def test_settling_twice_changes_nothing_the_second_time(engine: sa.Engine) -> None:
    [contact] = add_contacts(engine)
    _claim(engine, [contact], token="a")
    assert _settle(engine, contact, Verdict.DELIVERED, token="a") == ["delivered"]
    assert _settle(engine, contact, Verdict.INVALID, token="a") == []
    row = row_of(engine, contact)
    assert (row["state"], row["crm_record_id"], row["snapshot"]) == ("delivered", "77", {"email": None})


def test_a_refusal_of_an_old_version_does_not_kill_the_new_one(engine: sa.Engine) -> None:
    [contact] = add_contacts(engine)
    _claim(engine, [contact], token="a")
    change(engine, contact, first_name="Augusta")
    assert _settle(engine, contact, Verdict.INVALID, token="a") == ["waiting"]
    row = row_of(engine, contact)
    assert (row["attempts"], row["wanted_version"], row["delivered_version"]) == (0, 2, None)


def test_an_archive_does_not_overtake_the_upsert_that_is_under_way(engine: sa.Engine) -> None:
    [contact] = add_contacts(engine)
    _claim(engine, [contact], token="a")
    merge_away(engine, contact)
    assert row_of(engine, contact)["state"] == "waiting"
    assert _claim(engine, [contact], token="b") == []
    assert _settle(engine, contact, Verdict.DELIVERED, token="a") == ["waiting"]
    assert _claim(engine, [contact], token="b") == [contact.outbox_id]


def test_a_record_of_another_contact_in_a_conflict_is_not_taken_for_ours(engine: sa.Engine) -> None:
    [contact] = add_contacts(engine)
    _claim(engine, [contact], token="a")
    _settle(engine, contact, Verdict.CONFLICT, token="a")
    assert row_of(engine, contact)["crm_record_id"] is None


def test_what_may_have_been_written_stays_ambiguous_until_it_is_delivered(engine: sa.Engine) -> None:
    [contact] = add_contacts(engine)
    verdicts = []
    for token, verdict in [("a", Verdict.AMBIGUOUS), ("b", Verdict.TRANSIENT), ("c", Verdict.DELIVERED)]:
        _claim(engine, [contact], token=token)
        _settle(engine, contact, verdict, token=token)
        verdicts.append(row_of(engine, contact)["last_verdict"])
    assert verdicts == ["ambiguous", "ambiguous", "delivered"]


def test_a_claim_that_ran_out_leaves_an_ambiguous_outcome(engine: sa.Engine) -> None:
    [contact] = add_contacts(engine)
    _claim(engine, [contact], token="a")
    _claim(engine, [contact], token="b", now=LEASE)
    assert row_of(engine, contact)["last_verdict"] == "ambiguous"


def _keep(engine: sa.Engine, rows: list[ClaimedRow], *, until: datetime, token: str = "a") -> set[int]:
    with engine.begin() as connection:
        return keep_claims(
            connection,
            rows,
            sent=[row.outbox_id for row in rows[:1]],
            token=token,
            owner=None,
            until=until,
            under_way_until=until - timedelta(seconds=30),
        )


def test_only_rows_that_are_still_held_and_wanted_as_they_were_claimed_are_kept(engine: sa.Engine) -> None:
    contacts = kept, lost, changed, gone, handed_on = add_contacts(engine, 5)
    with engine.begin() as connection:
        connection.execute(
            sa.text("update outbox set claims_record = '77' where outbox_id = :id"), {"id": handed_on.outbox_id}
        )
        rows = claim(connection, [item.outbox_id for item in contacts], token="a", until=LEASE, now=NOW)
    later = LEASE + timedelta(seconds=60)
    assert _keep(engine, rows, until=LEASE) == {item.outbox_id for item in contacts}
    assert row_of(engine, kept)["under_way_until"] == LEASE - timedelta(seconds=30)
    assert row_of(engine, lost)["under_way_until"] is None
    _claim(engine, [lost], token="b", now=LEASE)
    change(engine, changed, company="Analytical Engines")
    merge_away(engine, gone)
    with engine.begin() as connection:
        connection.execute(
            sa.text("update outbox set claims_record = null where outbox_id = :id"), {"id": handed_on.outbox_id}
        )
    assert _keep(engine, rows, until=later) == {kept.outbox_id}
    assert row_of(engine, kept)["claimed_until"] == later
    assert row_of(engine, changed)["claimed_until"] == LEASE
    _settle(engine, kept, Verdict.DELIVERED, token="a")
    assert row_of(engine, kept)["under_way_until"] is None


def test_a_settlement_that_comes_too_late_has_the_row_sent_again_by_whoever_is_next(engine: sa.Engine) -> None:
    """What it wrote may have come after what the other claim wrote."""
    for taken, written in [(False, True), (True, True), (False, False)]:
        [contact] = add_contacts(engine)
        _claim(engine, [contact], token="a")
        _claim(engine, [contact], token="b", now=LEASE)
        if not taken:
            _settle(engine, contact, Verdict.DELIVERED, token="b")
        before = row_of(engine, contact)
        verdict = Verdict.DELIVERED if written else Verdict.INVALID
        assert _settle(engine, contact, verdict, token="a", touched=("company",)) == []
        row = row_of(engine, contact)
        if not written:
            assert row == before
            continue
        assert (row["state"], row["last_verdict"], row["claimed_by"]) == ("waiting", "ambiguous", None)
        assert row["claimed_until"] == before["claimed_until"]  # the other's request may be under way
        assert row["snapshot"].keys() == {*(before["snapshot"] or {}), "company"}


def test_a_lease_is_extended_without_reading_the_whole_outbox(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("set local enable_seqscan = off"))
        values = {"ids": [1, 2], "sent": [1], "rows": "[]", "token": "a", "owner": None, "until": NOW}
        values |= {"under_way_until": NOW, "links": False}
        plan = "\n".join(connection.execute(sa.text(f"explain {_KEEP.text}"), values).scalars())
    assert "Seq Scan" not in plan


def test_a_doubted_row_is_left_alone_until_whoever_claimed_it_since_has_settled(engine: sa.Engine) -> None:
    [contact] = add_contacts(engine)
    _claim(engine, [contact], token="new")
    with engine.begin() as connection:
        doubt(connection, [contact.outbox_id], now=NOW)  # an older request was answered
    assert _claim(engine, [contact], token="other", now=NOW) == []
    assert _settle(engine, contact, Verdict.DELIVERED, token="new") == []
    with engine.begin() as connection:
        doubt(connection, [contact.outbox_id], now=NOW)
        [row] = claim(connection, [contact.outbox_id], token="other", until=LEASE, now=NOW)
    assert row.uncertain


def test_a_claim_that_outlived_a_merge_and_its_undo_leaves_an_ambiguous_outcome(engine: sa.Engine) -> None:
    """The row waited in between, and its request may have been carried out all the same."""
    [contact] = add_contacts(engine)
    _claim(engine, [contact], token="a")
    with engine.begin() as connection:
        withdraw(connection, {contact.contact_id: None}, tenant="acme", now=NOW)
        demand(connection, [Demand(contact.contact_id, "hubspot", 2, Lane.BATCH)], tenant="acme", now=NOW)
    assert _claim(engine, [contact], token="b") == []
    with engine.begin() as connection:
        [row] = claim(connection, [contact.outbox_id], token="b", until=LEASE + timedelta(minutes=1), now=LEASE)
    assert row.uncertain
