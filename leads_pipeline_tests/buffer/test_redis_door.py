"""The capture service with a buffer in Redis, over HTTP."""

from collections.abc import Callable

import httpx
import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.account import take_account
from leads_pipeline.clock import SystemClock
from leads_pipeline.config import BufferSettings, Settings
from leads_pipeline.domain.stage import ALL_LANES, Stage
from leads_pipeline.flows import FlowContext, drain
from leads_pipeline_tests.buffer.redis_server import RedisServer
from leads_pipeline_tests.capture.running import make_key, running_service, wait_until


def test_posts_are_answered_as_ever_and_come_through_a_redis_that_was_killed(
    settings: Settings,
    engine: sa.Engine,
    database_url: str,
    own_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = own_redis()
    monkeypatch.setenv("TEST_REDIS_URL", server.url)
    chosen = settings.model_copy(
        update={"buffer": BufferSettings.model_validate({"kind": "redis", "redis": {"url": {"env": "TEST_REDIS_URL"}}})}
    )
    clock = SystemClock()  # the door's patience with a lost connection is measured
    headers = {"Authorization": f"Bearer {make_key(engine, clock)}"}
    with (
        running_service(chosen, database_url=database_url, clock=clock) as url,
        httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client,
    ):

        def post(email: str, **more: str) -> httpx.Response:
            return client.post("/v1/leads", json={"email": email}, headers=more)

        first = post("ada@example.org")
        again = post("ada@example.org")
        assert (first.status_code, again.status_code) == (202, 200)
        assert again.json()["lead_id"] == first.json()["lead_id"]
        named = {"Idempotency-Key": "order-1"}
        assert post("b@example.org", **named).status_code == 202
        assert post("c@example.org", **named).status_code == 409
        server.kill()
        refused = post("d@example.org")
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        server.start()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert post("d@example.org").status_code == 202
    with engine.connect() as connection:
        assert connection.execute(sa.text("select count(*) from buffer")).scalar_one() == 0
    drain(FlowContext(engine, chosen, clock), Stage.RAW_LEADS, lanes=ALL_LANES, runner_id="test")
    with engine.connect() as connection:
        emails = connection.execute(sa.text("select payload ->> 'email' from raw_leads order by 1")).scalars().all()
    assert emails == ["ada@example.org", "b@example.org", "d@example.org"]
    assert take_account(engine, settings=chosen).conserved
