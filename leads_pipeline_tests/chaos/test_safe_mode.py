"""The door comes out of safe mode by itself, whatever its store said meanwhile."""

import secrets
import socket

import httpx
import sqlalchemy as sa

from leads_pipeline.capture.writer import PROBE_PAUSE_SECONDS
from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import Settings
from leads_pipeline.storage.roles import CAPTURE_ROLE
from leads_pipeline_tests.capture.running import make_key, running_service, wait_until
from leads_pipeline_tests.chaos.target import hold


def test_a_store_that_is_read_only_and_then_refuses_the_login_is_used_again_when_it_is_mended(
    engine: sa.Engine, settings: Settings, clock: FrozenClock
) -> None:
    login, password = f"door_{secrets.token_hex(4)}", secrets.token_hex(8)
    key = make_key(engine, clock)

    def alter(*changes: str) -> None:
        with engine.begin() as connection:
            for change in changes:
                connection.execute(sa.text(f"alter role {login} {change}"))
            connection.execute(
                sa.text("select pg_terminate_backend(pid) from pg_stat_activity where usename = :login"),
                {"login": login},
            )

    with engine.begin() as connection:
        connection.execute(sa.text(f"create role {login} login password '{password}' in role {CAPTURE_ROLE}"))
    url = engine.url.set(username=login, password=password).render_as_string(hide_password=False)
    try:
        with (
            running_service(settings, database_url=url, clock=SystemClock()) as address,
            httpx.Client(
                base_url=address, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=60
            ) as client,
        ):

            def post(number: int) -> int:
                return client.post("/v1/leads", json={"number": number}).status_code

            assert post(1) == 202
            alter("set default_transaction_read_only = on")
            wait_until(lambda: post(2) == 503)
            alter("nologin")
            hold(3 * PROBE_PAUSE_SECONDS)  # the door asks the store meanwhile, and is not let in
            alter("login", "reset default_transaction_read_only")
            wait_until(lambda: post(2) == 202)
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text(f"drop role {login}"))


def test_a_database_that_takes_connections_and_says_nothing_is_unavailable_and_no_failure_of_ours(
    settings: Settings,
) -> None:
    """A stopped server, or a dead proxy before it: the driver's own time limit ends the wait."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://leads:secret@127.0.0.1:{silent.getsockname()[1]}/leads"
        with running_service(settings, database_url=url, clock=SystemClock()) as address:
            headers = {"Authorization": f"Bearer lp_{'0' * 12}_{'0' * 43}"}
            answer = httpx.get(f"{address}/readyz", headers=headers, timeout=30, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
