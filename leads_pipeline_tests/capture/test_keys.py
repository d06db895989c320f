"""API keys: what is kept of them, and how soon the door knows."""

import asyncio
import hashlib

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.reconnecting import ReconnectingConnection
from leads_pipeline.capture.key_ring import ANSWER_PATIENCE_SECONDS, KeyRing
from leads_pipeline.clock import FrozenClock
from leads_pipeline.errors import NotFound
from leads_pipeline.storage.api_keys import create_api_key, key_id_of, list_api_keys, matches, revoke_api_key
from leads_pipeline_tests.capture.running import Capture, make_key

LEAD = {"email": "ada@example.org"}


def test_only_the_hash_of_a_key_is_kept(engine: sa.Engine, clock: FrozenClock) -> None:
    with engine.begin() as connection:
        key = create_api_key(connection, tenant="acme", source="website", now=clock.now())
        [row] = connection.execute(sa.text("select * from api_keys"))
    assert key.text.startswith(f"lp_{key.key_id}_")
    assert len(key.text.split("_", 2)[2]) == 43  # 256 bits in base 64
    assert row.key_sha256 == hashlib.sha256(key.text.encode()).hexdigest()
    assert key.text not in {str(value) for value in row}


def test_two_keys_of_one_source_differ_and_both_hold(engine: sa.Engine, clock: FrozenClock) -> None:
    assert make_key(engine, clock) != make_key(engine, clock)
    with engine.connect() as connection:
        assert len(list_api_keys(connection)) == 2


@pytest.mark.parametrize("text", ["", "lp_", "lp_abc", "lp__secret", "xx_abc_secret", "lp_abc_"])
def test_what_is_not_a_key_has_no_key_id(text: str) -> None:
    assert key_id_of(text) is None


def test_a_secret_may_hold_underscores() -> None:
    text = "lp_abc_se_cr_et"
    assert key_id_of(text) == "abc"
    assert matches(text, hashlib.sha256(text.encode()).hexdigest())
    assert not matches(text + "x", hashlib.sha256(text.encode()).hexdigest())


def test_a_revoked_key_is_refused_within_two_seconds(capture: Capture, engine: sa.Engine) -> None:
    assert capture.post(LEAD).status_code == 202
    key_id = key_id_of(capture.key)
    assert key_id is not None
    with engine.begin() as connection:
        revoked = revoke_api_key(connection, key_id, now=capture.clock.now())
    assert revoked.revoked_at == capture.clock.now()
    capture.clock.advance(2)
    assert capture.post(LEAD).status_code == 401


def test_a_new_key_is_known_at_once(capture: Capture, engine: sa.Engine, clock: FrozenClock) -> None:
    assert capture.post(LEAD).status_code == 202
    new = make_key(engine, clock, source="webinar")
    clock.advance(0.25)
    assert capture.post(LEAD, Authorization=f"Bearer {new}").status_code == 202


def test_wrong_keys_do_not_each_ask_the_database(capture: Capture, engine: sa.Engine) -> None:
    capture.post(LEAD)
    with engine.begin() as connection:
        connection.execute(sa.text("alter table api_keys rename to gone"))
    for number in range(5):
        assert capture.post(LEAD, Authorization=f"Bearer lp_{number}_guess").status_code == 401


def test_a_database_that_does_not_answer_holds_nobody_up_who_has_a_known_key(
    engine: sa.Engine, database_url: str, clock: FrozenClock
) -> None:
    key = make_key(engine, clock)

    async def ask() -> None:
        connection = ReconnectingConnection(database_url, application_name="test keys")
        ring = KeyRing(connection, clock=clock)
        first = await ring.holder_of(key)
        assert first is not None
        clock.advance(2)
        with engine.connect() as other:
            other.exec_driver_sql("lock table api_keys in access exclusive mode")
            async with asyncio.timeout(60):  # without that patience, for ever
                assert await asyncio.gather(*(ring.holder_of(key) for _ in range(20))) == [first] * 20
            async with asyncio.timeout(50 * ANSWER_PATIENCE_SECONDS):  # who comes later does not wait at all
                assert [await ring.holder_of(key) for _later in range(100)] == [first] * 100
        await ring.close()
        await connection.close()

    asyncio.run(ask())


def test_revoking_again_keeps_the_first_time(engine: sa.Engine, clock: FrozenClock) -> None:
    with engine.begin() as connection:
        key = create_api_key(connection, tenant="acme", source="website", now=clock.now())
        first = revoke_api_key(connection, key.key_id, now=clock.now())
        clock.advance(60)
        again = revoke_api_key(connection, key.key_id, now=clock.now())
    assert again.revoked_at == first.revoked_at


def test_revoking_an_unknown_key_says_so(engine: sa.Engine, clock: FrozenClock) -> None:
    with engine.begin() as connection, pytest.raises(NotFound, match="leads keys list"):
        revoke_api_key(connection, "nothing", now=clock.now())


def test_a_whole_key_names_itself_and_is_never_repeated(engine: sa.Engine, clock: FrozenClock) -> None:
    with engine.begin() as connection:
        key = create_api_key(connection, tenant="acme", source="website", now=clock.now())
        assert revoke_api_key(connection, key.text, now=clock.now()).key_id == key.key_id
        with pytest.raises(NotFound) as caught:
            revoke_api_key(connection, "lp_0123456789ab_a-secret", now=clock.now())
    assert "a-secret" not in str(caught.value)


def test_a_key_whose_source_left_the_configuration_is_told_so(
    capture: Capture, engine: sa.Engine, clock: FrozenClock
) -> None:
    key = make_key(engine, clock, source="closed_form")
    answer = capture.post(LEAD, Authorization=f"Bearer {key}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_source")
