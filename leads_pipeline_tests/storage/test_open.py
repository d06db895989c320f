import os
import secrets
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings, parse_settings
from leads_pipeline.errors import DatabaseError, DatabaseUnavailable, SchemaOutdated
from leads_pipeline.storage.database import engine_for, translated_errors
from leads_pipeline.storage.migrate import expected_version
from leads_pipeline.storage.open import open_database, url_of
from leads_pipeline_tests.conftest import LEADS_YAML


@pytest.fixture
def embedded_settings(own_state: Path) -> Settings:
    """Settings whose state directory is removed with its server at the end of the test."""
    settings = parse_settings(LEADS_YAML + "\nstate_dir: .\n", path=own_state / "leads.yaml")
    assert settings.state_path == own_state.resolve()
    return settings


def _version(engine: sa.Engine) -> object:
    with engine.connect() as connection:
        return connection.exec_driver_sql("select version_num from alembic_version").scalar_one()


@pytest.mark.parametrize(("asked", "milliseconds"), [("", 120_000), ("?tcp_user_timeout=5000", 5_000)])
def test_a_server_that_is_gone_without_a_word_is_noticed_however_the_url_is_written(
    database_url: str, asked: str, milliseconds: int
) -> None:
    engine = engine_for(database_url + asked)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.socket(fileno=os.dup(driver.fileno())) as found:
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
    engine.dispose()


def test_a_configured_database_is_used_as_it_is(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    engine = open_database(settings, application_name="a door", pool_size=2)
    try:
        assert _version(engine) == expected_version()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("show application_name").scalar_one() == "a door"
            assert connection.exec_driver_sql("show time zone").scalar_one() == "UTC"
    finally:
        engine.dispose()
    assert url_of(settings) == database_url
    assert not settings.state_path.exists(), "no embedded server was made beside it"


def test_a_configured_database_is_not_upgraded_behind_its_owners_back(
    empty_database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, empty_database_url)
    with pytest.raises(SchemaOutdated, match="leads db upgrade"):
        open_database(settings)
    engine = sa.create_engine(sa.make_url(empty_database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select to_regnamespace('leads')").scalar_one() is None
    engine.dispose()


def test_a_configured_database_that_does_not_answer_is_named_without_its_password(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, "postgresql://leads:s3cret@127.0.0.1:9/leads")
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:9/leads.*LEADS_DATABASE_URL") as caught:
        open_database(settings)
    assert "s3cret" not in str(caught.value)


def test_a_login_without_any_of_our_roles_is_told_which_to_ask_for(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = f"stranger_{secrets.token_hex(4)}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"create role {login} login password 'x'")  # type: ignore[arg-type]
        url = sa.make_url(database_url).set(username=login, password="x").render_as_string(hide_password=False)
        monkeypatch.setenv(DATABASE_URL_VARIABLE, url)
        with pytest.raises(DatabaseError, match=r"permission denied for schema leads.*leads_pipeline"):
            open_database(settings)
        connection.execute(f"drop role {login}")  # type: ignore[arg-type]


def test_the_embedded_database_is_started_and_migrated(embedded_settings: Settings, clock: FrozenClock) -> None:
    engine = open_database(embedded_settings, clock=clock)
    try:
        assert _version(engine) == expected_version()
    finally:
        engine.dispose()


def test_opening_the_embedded_database_months_later_makes_the_partitions_that_are_due(
    embedded_settings: Settings, clock: FrozenClock
) -> None:
    open_database(embedded_settings, clock=clock).dispose()
    engine = open_database(embedded_settings, clock=FrozenClock(datetime(2026, 7, 4, tzinfo=UTC)))
    try:
        with engine.connect() as connection:
            for month, made in ((4, True), (5, False), (7, True), (10, True), (11, False)):
                found = connection.exec_driver_sql(f"select to_regclass('raw_leads_y2026m{month:02d}')").scalar_one()
                assert (found is not None) is made, month
    finally:
        engine.dispose()


@pytest.fixture
def impatient(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[sa.Engine]:
    """A database whose sessions may do the one thing that is named for no longer than a moment."""
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    allowed = f"database: {{{request.param}: 0.5}}"
    engine = open_database(parse_settings(f"{LEADS_YAML}\n{allowed}\n", path=tmp_path / "leads.yaml"))
    yield engine
    engine.dispose()


@pytest.mark.parametrize("impatient", ["statement_seconds"], indirect=True)
def test_a_statement_that_takes_too_long_ends_with_the_setting_that_allows_more(impatient: sa.Engine) -> None:
    with (
        pytest.raises(DatabaseUnavailable, match=r"counting: a statement was cancelled.* database\.statement_seconds"),
        translated_errors("counting"),
        impatient.connect() as connection,
    ):
        connection.exec_driver_sql("select pg_sleep(60)")


@pytest.mark.parametrize("impatient", ["lock_seconds"], indirect=True)
def test_a_lock_that_another_session_does_not_let_go_of_ends_the_wait(impatient: sa.Engine, engine: sa.Engine) -> None:
    with engine.begin() as holder, impatient.connect() as connection:
        holder.exec_driver_sql("lock table outbox in access exclusive mode")
        with (
            pytest.raises(DatabaseError, match=r"claiming: another session held .* database\.lock_seconds"),
            translated_errors("claiming"),
        ):
            connection.exec_driver_sql("select from outbox")


@pytest.mark.parametrize("impatient", ["idle_transaction_seconds"], indirect=True)
def test_a_transaction_in_which_nothing_happens_lets_go_of_what_it_holds(
    impatient: sa.Engine, engine: sa.Engine
) -> None:
    with impatient.connect() as hangs, engine.connect() as other:
        hangs.exec_driver_sql("lock table outbox in access exclusive mode")
        other.exec_driver_sql("select from outbox")  # waits until the server has ended the other's transaction
        with (
            pytest.raises(DatabaseUnavailable),
            translated_errors("settling"),
        ):
            hangs.exec_driver_sql("select 1")


def test_what_is_allowed_if_nothing_is_said_hits_no_import(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    engine = open_database(settings)
    with engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"show {name}_timeout").scalar_one()
            for name in ("statement", "lock", "idle_in_transaction_session")
        ]
    engine.dispose()
    assert found == ["2h", "30min", "1h"]
