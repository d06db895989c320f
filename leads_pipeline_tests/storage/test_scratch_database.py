"""Databases for a while, on a real server."""

import os
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.storage.embedded import EmbeddedServer, ServerState
from leads_pipeline.storage.scratch_database import scratch_database
from leads_pipeline_tests.conftest import NOW


def databases(server: EmbeddedServer) -> set[str]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        return {row[0] for row in connection.execute("select datname from pg_database").fetchall()}


def test_it_has_the_schema_no_rows_and_is_gone_afterwards(server: EmbeddedServer) -> None:
    before = databases(server)
    with scratch_database(server, now=NOW) as engine:
        with engine.connect() as connection:
            assert connection.execute(sa.text("select count(*) from contacts")).scalar_one() == 0
        assert len(databases(server) - before) == 1
    assert databases(server) == before
    assert server.status().state is ServerState.RUNNING


def test_it_is_gone_after_an_error_too(server: EmbeddedServer) -> None:
    before = databases(server)
    with pytest.raises(RuntimeError), scratch_database(server, now=NOW):
        raise RuntimeError
    assert databases(server) == before


def test_what_a_killed_process_left_is_dropped_and_what_a_living_one_uses_is_not(server: EmbeddedServer) -> None:
    no_process = 2**22 + 1  # above the kernel's largest number of a process
    abandoned, used = f"scratch_{no_process}_00000001", f"scratch_{os.getpid()}_00000002"
    for name in (abandoned, used):
        server.drop_and_create_database(name)
    with scratch_database(server, now=NOW):
        assert abandoned not in databases(server)
        assert used in databases(server)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"drop database {used}")


def test_a_server_that_did_not_run_is_stopped_again(own_state: Path) -> None:
    server = EmbeddedServer(own_state, durable=False)
    with scratch_database(server, now=NOW):
        assert server.status().state is ServerState.RUNNING
    assert server.status().state is ServerState.STOPPED
