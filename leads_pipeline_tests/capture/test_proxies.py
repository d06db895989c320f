"""Whose address is kept as evidence of consent: the person's own, also behind proxies, and none that is made up."""

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.errors import ConfigError
from leads_pipeline_tests.capture.running import capture_service, with_capture


@pytest.mark.parametrize(
    ("trusted", "forwarded", "kept"),
    [
        (("127.0.0.1/32",), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.1/32",), "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the first is what the sender wrote itself
        (("127.0.0.1/32",), "203.0.113.9, 10.1.2.3", "10.1.2.3"),  # a proxy that leads.yaml does not know
        (("127.0.0.1/32", "10.0.0.0/8"), "203.0.113.9, 10.1.2.3", "203.0.113.9"),
        (("10.0.0.0/8",), "203.0.113.9", "127.0.0.1"),
        ((), "203.0.113.9", "127.0.0.1"),
    ],
)
def test_only_a_trusted_proxys_word_is_taken_for_a_persons_address(
    settings: Settings,
    database_url: str,
    engine: sa.Engine,
    clock: FrozenClock,
    trusted: tuple[str, ...],
    forwarded: str,
    kept: str,
) -> None:
    behind = with_capture(settings, trusted_proxies=trusted)
    with capture_service(behind, database_url=database_url, engine=engine, clock=clock) as capture:
        from_a_page = {"Origin": "https://www.example.com", "X-Forwarded-For": forwarded}
        assert capture.post({"email": "ada@example.org"}, **from_a_page).status_code == 202
    with engine.connect() as connection:
        assert connection.execute(sa.text("select context ->> 'ip' from buffer")).scalar_one() == kept


def test_a_proxy_that_is_no_address_is_a_mistake_that_is_named(settings: Settings) -> None:
    yaml = "version: 1\ntenants: {acme: {sources: {website: {}}}}\ncapture: {trusted_proxies: [loadbalancer]}\n"
    with pytest.raises(ConfigError, match=r"trusted_proxies.*an IP address or a network such as 10\.0\.0\.0/8"):
        parse_settings(yaml, path=settings.path)
