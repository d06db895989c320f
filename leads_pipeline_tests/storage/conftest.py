"""Fixtures for tests of the database itself."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest

from leads_pipeline.storage.embedded import EmbeddedServer


@pytest.fixture
def empty_database_url(server: EmbeddedServer) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    name = f"empty_{secrets.token_hex(6)}"
    yield server.drop_and_create_database(name)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
