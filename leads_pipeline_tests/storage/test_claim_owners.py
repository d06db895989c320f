"""The claims of a process that is gone, and of one that is not."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from leads_pipeline.storage.claim_owners import _RELEASE, GRACE, claim_owner, release_dead_claims
from leads_pipeline.storage.outbox import claim, keep_claims
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import Contact, add_contacts, merge_away, row_of

LEASE = timedelta(minutes=2)


def _claim(engine: sa.Engine, contact: Contact, owner: int | None) -> None:
    with engine.begin() as connection:
        claim(connection, [contact.outbox_id], token="a", until=NOW + LEASE, now=NOW, owner=owner)


def _release(engine: sa.Engine, now: datetime = NOW) -> int:
    with engine.begin() as connection:
        return release_dead_claims(connection, now=now)


def test_the_claims_of_an_owner_that_is_gone_run_out_after_a_grace_and_those_of_one_that_lives_do_not(
    engine: sa.Engine,
) -> None:
    held, left, leased = add_contacts(engine, 3)
    with claim_owner(engine) as living:
        with claim_owner(engine) as dying:
            _claim(engine, held, living.key())
            _claim(engine, left, dying.key())
            _claim(engine, leased, None)
            assert _release(engine) == 0
        assert _release(engine) == 1
        assert _release(engine, NOW + timedelta(seconds=1)) == 0  # the grace does not begin again
    assert row_of(engine, left)["claimed_until"] == NOW + GRACE
    assert row_of(engine, leased)["claimed_until"] == NOW + LEASE


def test_what_a_dead_owner_had_sent_is_left_until_the_crm_has_had_its_time_for_it(engine: sa.Engine) -> None:
    sent, answered = add_contacts(engine, 2)
    with claim_owner(engine) as owner, engine.begin() as connection:
        ids = [sent.outbox_id, answered.outbox_id]
        rows = claim(connection, ids, token="a", until=NOW + LEASE, now=NOW, owner=owner.key())
        keep_claims(
            connection,
            rows,
            sent=[sent.outbox_id],
            token="a",
            owner=owner.key(),
            until=NOW + LEASE,
            under_way_until=NOW + timedelta(seconds=30),
        )
    assert _release(engine) == 2
    assert row_of(engine, sent)["claimed_until"] == NOW + timedelta(seconds=30)
    assert row_of(engine, answered)["claimed_until"] == NOW + GRACE
    assert _release(engine, NOW + timedelta(seconds=1)) == 0


def test_a_dead_owner_s_claim_is_released_whatever_has_become_wanted_meanwhile(engine: sa.Engine) -> None:
    """A merge turns the row into an archive that waits, and leaves the claim."""
    [contact] = add_contacts(engine)
    with claim_owner(engine) as owner:
        _claim(engine, contact, owner.key())
        merge_away(engine, contact)
    assert _release(engine) == 1
    assert row_of(engine, contact)["claimed_until"] == NOW + GRACE


def test_an_owner_whose_session_is_lost_leaves_its_further_claims_to_the_lease(engine: sa.Engine) -> None:
    with claim_owner(engine) as owner:
        key = owner.key()
        assert key is not None
        with engine.begin() as connection:
            ended = connection.execute(
                sa.text(
                    "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objsubid = 1 "
                    "and (classid::bigint << 32) | objid::bigint = :key"
                ),
                {"key": key},
            )
            assert ended.scalars().all() == [True]
        assert owner.key() is None
        assert owner.key() is None


def test_a_lock_that_does_not_stay_with_its_holder_is_no_sign_of_life(engine: sa.Engine) -> None:
    """As behind a proxy that gives each transaction another session."""
    with claim_owner(engine) as owner:
        owner._connection.execute(sa.text("select pg_advisory_unlock_all()"))
        assert owner.key() is None


def test_dead_owners_are_found_by_their_index(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("set local enable_seqscan = off"))
        plan = connection.execute(sa.text(f"explain {_RELEASE.text}"), {"until": NOW, "now": NOW})
        assert "Seq Scan on outbox" not in "\n".join(plan.scalars())
