"""The buffer in PostgreSQL, through the engine and through the capture service's connection."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.port import Posted, PostResult
from leads_pipeline.buffer.postgresql import AsyncPostgresBuffer, PostgresBuffer, append_parameters
from leads_pipeline.buffer.reconnecting import ReconnectingConnection
from leads_pipeline.capture.writer import GroupCommit
from leads_pipeline.clock import SystemClock
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.storage.database import engine_for
from leads_pipeline.storage.ingest import APPEND, APPEND_SETTING, MOVE, MOVE_SETTINGS, purge_ingest_keys
from leads_pipeline_tests.buffer.contract import (
    BufferContract,
    Parts,
    ThroughTheDoor,
    captured,
    chunk_of,
    moved,
    new_lead,
    waiting,
)
from leads_pipeline_tests.conftest import NOW


def through_the_door(url: str, engine: sa.Engine) -> ThroughTheDoor:
    return ThroughTheDoor(lambda: AsyncPostgresBuffer(url, application_name="test"), steps=PostgresBuffer(engine))


class TestThroughAnEngine(BufferContract):
    @pytest.fixture
    def parts(self, engine: sa.Engine) -> Parts:
        return Parts(PostgresBuffer(engine), engine, lambda: captured(engine))


class TestThroughTheDoor(BufferContract):
    @pytest.fixture
    def parts(self, engine: sa.Engine, database_url: str) -> Parts:
        return Parts(through_the_door(database_url, engine), engine, lambda: captured(engine))


@pytest.mark.parametrize("by_the_door", [False, True], ids=["engine", "door"])
def test_a_commit_is_waited_for_also_where_the_database_would_not(
    engine: sa.Engine, database_url: str, by_the_door: bool
) -> None:
    """With ``synchronous_commit`` off, as on the tests' server, a crash takes back leads that were answered for."""
    with engine.begin() as connection:
        name = connection.exec_driver_sql("select current_database()").scalar_one()
        connection.exec_driver_sql(f"alter database {name} set synchronous_commit to off")
        connection.exec_driver_sql("create table waited (said text)")
        connection.exec_driver_sql(
            "create function note_waited() returns trigger language plpgsql as $$ begin "
            "insert into waited values (current_setting('synchronous_commit')); return null; end $$"
        )
        connection.exec_driver_sql("create trigger noted after insert on buffer execute function note_waited()")
    engine.dispose()
    buffer = through_the_door(database_url, engine) if by_the_door else PostgresBuffer(engine)
    buffer.append([new_lead({"n": 1})], now=NOW)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select said from waited").scalars().all() == ["on"]


def test_a_number_keeps_its_last_digit_on_the_way_to_raw_leads(engine: sa.Engine) -> None:
    buffer = PostgresBuffer(engine)
    buffer.append([new_lead({"n": 123456789012345678901234567890})], now=NOW)
    moved(engine, buffer, chunk_of())
    with engine.connect() as connection:
        text = connection.execute(sa.text("select payload ->> 'n' from raw_leads")).scalar_one()
    assert text == "123456789012345678901234567890"


def test_one_lead_that_postgresql_refuses_does_not_hinder_its_group(engine: sa.Engine) -> None:
    leads = [new_lead({"n": str(n)}) for n in range(9)]
    leads[4] = new_lead({"text": "a\x00b"})
    results = PostgresBuffer(engine).append(leads, now=NOW)
    assert [posted.result for posted in results].count(PostResult.ACCEPTED) == 8
    assert results[4].result is PostResult.UNSTORABLE
    assert captured(engine) == (8, 0)


@pytest.mark.parametrize("keys", [0, 3, 20_000])
def test_a_commit_costs_the_same_however_many_keys_are_known(engine: sa.Engine, keys: int) -> None:
    """A plan is kept as long as its connection, so already the plan for an empty table must not read it whole."""
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into ingest_keys select 'acme', 'website', sha256(n::text::bytea), gen_random_uuid(), '', now()"
                " from generate_series(1, :keys) as n"
            ),
            {"keys": keys},
        )
        connection.execute(sa.text("analyze ingest_keys"))
        connection.exec_driver_sql("set local {} = {}".format(*APPEND_SETTING))
        parameters = append_parameters([new_lead({"n": n}).encoded() for n in range(100)], now=NOW)
        plan = "\n".join(row[0] for row in connection.exec_driver_sql("explain " + APPEND, parameters))
    assert "Index Scan using pk_ingest_keys" in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_chunk_is_read_in_the_order_of_its_lane_whatever_the_statistics_say(
    engine: sa.Engine, analyzed: bool
) -> None:
    """Statistics are from before a flood came: neither its end nor anybody else's leads may be read for a chunk."""
    if analyzed:
        PostgresBuffer(engine).append([new_lead({"n": n}, tenant="globex") for n in range(20)], now=NOW)
        with engine.begin() as connection:
            connection.execute(sa.text("analyze buffer"))
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into buffer select gen_random_uuid(), case when n % 3 = 0 then 'acme' else 'globex' end, "
                "'website', 'real_time', now(), '{}', '[]', '{}' from generate_series(1, 20000) as n"
            )
        )
        connection.exec_driver_sql(MOVE_SETTINGS)
        parameters = {"tenant": "acme", "lane": "real_time", "limit": 1_000, "batch_id": uuid7(NOW)}
        rows = connection.exec_driver_sql("explain " + MOVE, parameters | {"runner_id": "test", "now": NOW})
        plan = "\n".join(row[0] for row in rows)
    assert "using ix_buffer_tenant_lane_lead_id" in plan
    assert "Sort" not in plan
    assert "Seq Scan" not in plan


def _kill_sessions(engine: sa.Engine, application_name: str) -> int:
    with engine.connect() as connection:
        killed = connection.execute(
            sa.text("select pg_terminate_backend(pid) from pg_stat_activity where application_name = :name"),
            {"name": application_name},
        )
        return len(killed.all())


def test_a_connection_that_was_cut_is_opened_again_by_the_next_call(database_url: str, engine: sa.Engine) -> None:
    async def run() -> None:
        connection = ReconnectingConnection(database_url, application_name="cut me")
        assert await connection.fetch("select 1") == [(1,)]
        assert _kill_sessions(engine, "cut me") == 1
        with pytest.raises(DatabaseUnavailable):
            await connection.fetch("select 2")
        assert await connection.fetch("select 3") == [(3,)]
        await connection.close()

    asyncio.run(run())


def test_a_server_that_does_not_answer_is_given_up(database_url: str, engine: sa.Engine) -> None:
    async def run() -> None:
        connection = ReconnectingConnection(database_url, application_name="slow", answer_seconds=0.3)
        with engine.connect() as holder:
            holder.execute(sa.text("lock table buffer in access exclusive mode"))
            with pytest.raises(DatabaseUnavailable):
                await connection.fetch("select * from buffer")
        assert await connection.fetch("select 1") == [(1,)]
        await connection.close()

    asyncio.run(run())


def test_a_fault_of_the_statement_is_not_taken_for_a_lost_connection(database_url: str) -> None:
    async def run() -> None:
        connection = ReconnectingConnection(database_url, application_name="test")
        with pytest.raises(psycopg.errors.UndefinedTable):
            await connection.fetch("select * from nowhere")
        await connection.close()

    asyncio.run(run())


def test_a_database_that_cannot_be_reached_is_named_so() -> None:
    with pytest.raises(DatabaseUnavailable):
        PostgresBuffer(engine_for("postgresql://nobody@127.0.0.1:9/nothing")).append([new_lead({"n": 1})], now=NOW)


def test_a_key_is_forgotten_after_its_time_and_not_before(engine: sa.Engine) -> None:
    buffer = PostgresBuffer(engine)
    buffer.append(
        [new_lead({"email": "old"}), new_lead({"email": "new"}, received_at=NOW + timedelta(days=1))], now=NOW
    )
    with engine.begin() as connection:
        assert purge_ingest_keys(connection, received_before=NOW + timedelta(hours=1)) == 1
        assert purge_ingest_keys(connection, received_before=NOW + timedelta(hours=1)) == 0
    results = buffer.append([new_lead({"email": "old"}), new_lead({"email": "new"})], now=NOW)
    assert [posted.result for posted in results] == [PostResult.ACCEPTED, PostResult.DUPLICATE]
    assert waiting(engine, buffer) == 3


def test_a_group_that_the_database_gives_up_for_a_deadlock_is_stored_by_the_next_try(
    engine: sa.Engine, database_url: str
) -> None:
    """Who inserts keys in another order than the door is the exception; the door's senders do not hear of it."""
    leads = sorted((new_lead({"n": n}) for n in range(2)), key=lambda lead: lead.key_hex)
    note = sa.text(
        "insert into ingest_keys (tenant, source, key_sha256, lead_id, body_sha256, received_at) "
        "values (:tenant, :source, decode(:key_hex, 'hex'), gen_random_uuid(), '', now())"
    )
    parts = [{"tenant": lead.tenant, "source": lead.source, "key_hex": lead.key_hex} for lead in leads]
    waits = sa.text(
        "select count(*) from pg_stat_activity where application_name = 'test door' and wait_event_type = 'Lock'"
    )

    async def post() -> list[Posted]:
        commits = GroupCommit(
            AsyncPostgresBuffer(database_url, application_name="test door"), clock=SystemClock(), max_queued=10
        )
        commits.start()
        try:
            return await commits.submit([lead.encoded() for lead in leads])
        finally:
            await commits.close()

    with engine.connect() as other, engine.connect() as idle, ThreadPoolExecutor(1) as pool:
        watching = idle.execution_options(isolation_level="AUTOCOMMIT")
        other.exec_driver_sql("set local deadlock_timeout to '60s'")  # so that the door is the one to give up
        other.execute(note, parts[1])
        answers = pool.submit(asyncio.run, post())
        while not watching.execute(waits).scalar_one():
            assert not answers.done()
        other.execute(note, parts[0])
        other.rollback()
        assert [answer.result for answer in answers.result()] == [PostResult.ACCEPTED] * 2
