"""One access token for all processes of an account, renewed once, at a pace, and not to be read from the table."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from threading import Barrier, Event, Lock, Semaphore
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from leads_pipeline.clock import Clock, FrozenClock, SystemClock
from leads_pipeline.errors import CredentialsRefused
from leads_pipeline.outbound.access_tokens import AccessTokens, MemoryTokens, TokenStore
from leads_pipeline.outbound.transport import HttpAnswer, NetworkFailure, Transport
from leads_pipeline.storage.access_tokens import Fetch, TokenKey, TokenTable
from leads_pipeline.storage.database import engine_for
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.outbound.http_listener import hang_up
from leads_pipeline_tests.outbound.token_vendor import (
    CLIENT_SECRET,
    REFRESH_TOKEN,
    TokenVendor,
    grant,
    hangs_up,
    token_vendor,
)

NewStore = Callable[[], TokenStore]
PROCESSES = 4


@pytest.fixture
def vendor() -> Iterator[TokenVendor]:
    with token_vendor() as vendor:
        yield vendor


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOW)


@pytest.fixture(params=["table", "memory"])
def store(request: pytest.FixtureRequest, engine: sa.Engine) -> TokenStore:
    return TokenTable(engine) if request.param == "table" else MemoryTokens()


def tokens_of(vendor: TokenVendor, store: TokenStore, clock: Clock, **more: Any) -> AccessTokens:
    secret = more.pop("client_secret", CLIENT_SECRET)
    way = grant(vendor.url, client_secret=secret)
    return AccessTokens(way, account="acme", store=store, timeout_seconds=5, clock=clock, **more)


def process_of(vendor: TokenVendor, store: TokenStore, clock: Clock, **more: str) -> Transport:
    """What one process sends its requests with."""
    return Transport(
        vendor.url, credentials=tokens_of(vendor, store, clock, **more), timeout_seconds=5, connections=2, clock=clock
    )


def ask(transport: Transport) -> tuple[int, bool]:
    """The status of one request, and whether there are newer credentials since."""
    answer = transport.send("GET", "/leads")
    assert isinstance(answer, HttpAnswer)
    return answer.status, answer.credentials_renewed


def test_a_token_is_fetched_once_for_all(vendor: TokenVendor, store: TokenStore, clock: FrozenClock) -> None:
    first, second = process_of(vendor, store, clock), process_of(vendor, store, clock)
    assert [ask(first), ask(first), ask(second)] == [(200, False)] * 3
    assert vendor.used == ["Bearer 1000.token-1"] * 3
    assert vendor.asked_for_tokens == [
        {
            "grant_type": ["refresh_token"],
            "client_id": ["client-1"],
            "client_secret": [CLIENT_SECRET],
            "refresh_token": [REFRESH_TOKEN],
        }
    ]


def test_processes_that_start_together_fetch_one_token(
    vendor: TokenVendor, engine: sa.Engine, database_url: str
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("create table ready (process int)"))
    command = [sys.executable, "-m", "leads_pipeline_tests.outbound.token_process", vendor.url, str(PROCESSES)]
    environment = {**os.environ, "TOKENS_DATABASE_URL": database_url}
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _process in range(PROCESSES)
    ]
    assert [process.communicate(timeout=60)[0].splitlines()[-1] for process in running] == ["200"] * PROCESSES
    assert len(vendor.asked_for_tokens) == 1
    assert vendor.used == ["Bearer 1000.token-1"] * PROCESSES


def test_the_scheme_is_the_vendors_own(vendor: TokenVendor, store: TokenStore, clock: FrozenClock) -> None:
    ask(process_of(vendor, store, clock, scheme="Zoho-oauthtoken"))
    assert vendor.used == ["Zoho-oauthtoken 1000.token-1"]


@pytest.mark.parametrize(("expires_in", "lives"), [(3600, 3540), (100, 90)])
def test_a_token_is_renewed_a_little_before_it_expires(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock, expires_in: int, lives: int
) -> None:
    vendor.extra = {"expires_in": expires_in}
    transport = process_of(vendor, store, clock)
    ask(transport)
    clock.advance(lives - 1)
    ask(transport)
    ask(process_of(vendor, store, clock))
    assert len(vendor.given) == 1
    clock.advance(1)
    ask(transport)
    assert vendor.used[-1] == "Bearer 1000.token-2"


def test_a_token_without_an_expiry_holds_until_it_is_refused(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    vendor.extra = {}
    transport = process_of(vendor, store, clock)
    ask(transport)
    clock.advance(10**8)
    assert ask(transport) == (200, False)
    vendor.revoked.add("1000.token-1")
    assert ask(transport) == (401, True)
    assert ask(transport) == (200, False)
    assert len(vendor.given) == 2


def test_a_token_that_another_process_has_renewed_is_not_renewed_again(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    first, second = process_of(vendor, store, clock), process_of(vendor, store, clock)
    ask(first), ask(second)
    vendor.revoked.add("1000.token-1")
    assert [ask(first), ask(second), ask(first), ask(second)] == [(401, True), (401, True), (200, False), (200, False)]
    assert len(vendor.given) == 2


def test_threads_whose_requests_were_refused_together_renew_once(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    transport = process_of(vendor, store, clock)
    ask(transport)
    vendor.revoked.add("1000.token-1")
    requests = 8
    with ThreadPoolExecutor(requests) as threads:
        answers = list(threads.map(lambda _request: ask(transport), range(requests)))
    assert set(answers) <= {(401, True), (200, False)}
    assert len(vendor.given) == 2


def test_a_401_that_is_not_about_the_token_asks_for_no_other(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    tokens = tokens_of(vendor, store, clock, ended=lambda body: body["code"] != "INVALID_TOKEN")
    transport = Transport(vendor.url, credentials=tokens, timeout_seconds=5, connections=1, clock=clock)
    ask(transport)
    vendor.revoked.add("1000.token-1")
    assert ask(transport) == (401, False)
    assert len(vendor.given) == 1


def test_new_tokens_that_are_refused_too_are_asked_for_at_a_pace(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    transport = process_of(vendor, store, clock)
    vendor.revoked |= {f"1000.token-{number}" for number in range(30)}
    answers = []
    for _second in range(0, 600, 15):
        answers.append(ask(transport))
        clock.advance(15)
    assert answers[0] == (401, True)
    assert answers[1:4] == [(401, False)] * 3
    assert len(vendor.given) == 10
    clock.advance(600)
    assert ask(transport) == (401, True)


def test_who_has_no_token_and_may_ask_for_none_is_told_what_to_do(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    vendor.refusal = (400, {"error": "invalid_client"})
    transport = process_of(vendor, store, clock, advice="put the client's secret into it")
    for _attempt in range(2):
        with pytest.raises(CredentialsRefused):
            ask(transport)
    with pytest.raises(CredentialsRefused, match=r"until 12:01:00 UTC.*put the client's secret into it") as told:
        ask(transport)
    assert told.value.code == "TOO_MANY_TOKENS"
    assert len(vendor.asked_for_tokens) == 2
    assert vendor.used == []
    vendor.refusal = None
    clock.advance(60)
    assert ask(transport) == (200, False)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": "invalid_grant", "error_description": "authentication failure"}, "INVALID_GRANT"),
        (401, {"error": "invalid_client"}, "INVALID_CLIENT"),
        (200, {"error": "Access Denied", "status": "failure"}, "ACCESS_DENIED"),
        (200, {}, "HTTP_200"),
        (200, {"access_token": ""}, "HTTP_200"),
        (200, {"access_token": "two words"}, "HTTP_200"),
        (302, {"access_token": "t"}, "HTTP_302"),
        (403, [REFRESH_TOKEN], "HTTP_403"),
        (400, {"error": f"bad {REFRESH_TOKEN}!"}, "HTTP_400"),
    ],
)
def test_an_answer_without_a_token_refuses_and_names_no_secret(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock, status: int, body: object, code: str
) -> None:
    vendor.refusal = (status, body)
    with capture_logs() as logs, pytest.raises(CredentialsRefused, match="gave no access token") as refused:
        ask(process_of(vendor, store, clock))
    assert refused.value.code == code
    assert "127.0.0.1" in str(refused.value)
    for secret in (CLIENT_SECRET, REFRESH_TOKEN):
        assert secret not in str(refused.value) + str(logs)


def test_a_token_endpoint_in_trouble_means_that_nothing_was_sent(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    transport = process_of(vendor, store, clock)
    vendor.refusal = (503, {})
    assert transport.send("GET", "/leads") is NetworkFailure.NOT_SENT
    hangs_up(vendor)
    assert transport.send("GET", "/leads") is NetworkFailure.NOT_SENT
    # Also what got lost was asked for; and nobody has refused anything.
    assert transport.send("GET", "/leads") is NetworkFailure.NOT_SENT
    assert (len(vendor.asked_for_tokens), vendor.used) == (2, [])


def test_what_was_refused_before_its_endpoint_got_into_trouble_is_no_longer_what_is_wrong(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    transport = process_of(vendor, store, clock)
    vendor.refusal = (400, {"error": "invalid_client"})
    with pytest.raises(CredentialsRefused):
        ask(transport)
    vendor.refusal = (503, {})
    assert [transport.send("GET", "/leads") for _attempt in range(2)] == [NetworkFailure.NOT_SENT] * 2
    assert len(vendor.asked_for_tokens) == 2


def test_threads_that_waited_for_an_answer_that_never_came_do_not_ask_again(
    vendor: TokenVendor, store: TokenStore
) -> None:
    tokens, requests = tokens_of(vendor, store, SystemClock()), 4
    tokens._turn = arrivals = _Arrivals(requests)  # type: ignore[assignment] - a lock as well

    def answer(handler: BaseHTTPRequestHandler) -> None:
        assert arrivals.all_are_there.wait(timeout=60)
        hang_up(handler)

    vendor.listener.answer_with = answer
    transport = Transport(vendor.url, credentials=tokens, timeout_seconds=60, connections=requests)
    with ThreadPoolExecutor(requests) as threads:
        answers = list(threads.map(lambda _request: transport.send("GET", "/leads"), range(requests)))
    assert answers == [NetworkFailure.NOT_SENT] * requests
    assert len(vendor.asked_for_tokens) == 1


def test_an_unreachable_token_endpoint_after_a_401_renews_nothing(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    transport = process_of(vendor, store, clock)
    ask(transport)
    vendor.revoked.add("1000.token-1")
    vendor.refusal = (500, None)
    assert ask(transport) == (401, False)
    vendor.refusal = None
    clock.advance(60)
    assert [ask(transport), ask(transport)] == [(401, True), (200, False)]


def test_who_waits_too_long_for_anothers_fetch_sends_nothing(vendor: TokenVendor, engine: sa.Engine) -> None:
    store = TokenTable(engine)
    transport = Transport(
        vendor.url,
        credentials=AccessTokens(grant(vendor.url), account="acme", store=_Impatient(store), timeout_seconds=5),
        timeout_seconds=5,
        connections=1,
    )
    first = tokens_of(vendor, store, FrozenClock(NOW))
    with store.fetching(first._key, patience=_Impatient.PATIENCE) as alone:
        assert alone
        assert transport.send("GET", "/leads") is NetworkFailure.NOT_SENT
    assert ask(transport) == (200, False)


def test_more_accounts_than_the_pool_has_connections_fetch_their_tokens_at_once(database_url: str) -> None:
    accounts = 4
    pool = engine_for(database_url, pool_size=1)  # and one more at most
    store, all_of_them = TokenTable(pool), Barrier(accounts, timeout=60)

    def fetched(number: int) -> int:
        key = TokenKey(f"account-{number}", "k")
        with store.fetching(key, patience=timedelta(seconds=60)) as alone:
            assert alone
            all_of_them.wait()
            store.note_fetches(key, [Fetch(NOW)])
        return len(store.fetches(key))

    with ThreadPoolExecutor(accounts) as threads:
        assert list(threads.map(fetched, range(accounts))) == [1] * accounts
    pool.dispose()


def test_a_slow_vendor_is_waited_for_no_longer_than_claims_last(vendor: TokenVendor) -> None:
    store = _Patient()
    tokens = AccessTokens(grant(vendor.url), account="acme", store=store, timeout_seconds=120)
    ask(Transport(vendor.url, credentials=tokens, timeout_seconds=120, connections=1))
    assert store.waited == [timedelta(seconds=25)]


def test_a_database_that_ends_idle_transactions_does_not_take_the_lock_away(
    vendor: TokenVendor, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        name = connection.execute(sa.text("select current_database()")).scalar_one()
        connection.execute(sa.text(f"alter database {name} set idle_in_transaction_session_timeout = '500ms'"))
    engine.dispose()  # new sessions begin with it
    table, key = TokenTable(engine), TokenKey("acme", "k")
    with table.fetching(key, patience=timedelta(seconds=5)) as alone:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as another:
            begun = another.execute(sa.text("select clock_timestamp()")).scalar_one()
            # Until the server's own clock says that it would have ended an idle transaction.
            while another.execute(sa.text("select clock_timestamp()")).scalar_one() - begun < timedelta(seconds=1):
                pass
        assert alone
        with table.fetching(key, patience=timedelta(milliseconds=1)) as second:
            assert not second


def test_requests_go_where_the_tokens_answer_says(store: TokenStore, clock: FrozenClock) -> None:
    with token_vendor() as accounts, token_vendor() as api:
        accounts.extra = {"expires_in": 3600, "api_domain": api.url}
        api.given.append("1000.token-1")
        answer = process_of(accounts, store, clock, base_url_in="api_domain").send("GET", "/crm/v8/Leads?page=2")
        another = process_of(accounts, store, clock, base_url_in="api_domain").send("GET", "/crm/v8/Leads")
        stays = process_of(accounts, store, clock).send("GET", "/here")
    assert isinstance(answer, HttpAnswer)
    assert isinstance(another, HttpAnswer)
    assert isinstance(stays, HttpAnswer)
    assert [sent.path for sent in api.listener.sent] == ["/crm/v8/Leads?page=2", "/crm/v8/Leads"]
    assert api.listener.sent[0].headers["host"] == api.url.removeprefix("http://")
    assert accounts.listener.sent[-1].path == "/here"


def test_a_tokens_answer_moves_nothing_to_an_address_that_is_not_encrypted(store: TokenStore) -> None:
    tokens = AccessTokens(
        grant("https://accounts.example"), account="acme", store=store, timeout_seconds=5, base_url_in="api_domain"
    )
    assert tokens._base_url({"api_domain": "http://api.example"}) is None
    assert tokens._base_url({"api_domain": "https://api.example"}) == "https://api.example"


def test_who_reads_the_table_has_no_token(vendor: TokenVendor, engine: sa.Engine, clock: FrozenClock) -> None:
    ask(process_of(vendor, TokenTable(engine), clock))
    with engine.connect() as connection:
        row = connection.execute(sa.text("select * from access_tokens")).one()
    held = b"".join([row.token, repr(tuple(row)).encode()])
    for secret in ("1000.token-1", CLIENT_SECRET, REFRESH_TOKEN):
        assert secret.encode() not in held


def test_a_changed_secret_fetches_a_token_of_its_own(
    vendor: TokenVendor, store: TokenStore, clock: FrozenClock
) -> None:
    ask(process_of(vendor, store, clock))
    ask(process_of(vendor, store, clock, client_secret="another"))
    ask(process_of(vendor, store, clock))
    assert [form["client_secret"] for form in vendor.asked_for_tokens] == [[CLIENT_SECRET], ["another"]]


def test_a_damaged_row_is_replaced(vendor: TokenVendor, engine: sa.Engine, clock: FrozenClock) -> None:
    ask(process_of(vendor, TokenTable(engine), clock))
    with engine.begin() as connection:
        connection.execute(sa.text("update access_tokens set token = 'x'::bytea"))
    assert ask(process_of(vendor, TokenTable(engine), clock)) == (200, False)
    assert len(vendor.given) == 2


def test_no_secret_is_shown(vendor: TokenVendor, store: TokenStore, clock: FrozenClock) -> None:
    tokens = tokens_of(vendor, store, clock)
    with closing(Transport(vendor.url, credentials=tokens, timeout_seconds=5, connections=1)) as transport:
        ask(transport)
    shown = f"{tokens!r} {tokens._held!r} {tokens._grant!r}"
    for secret in ("1000.token-1", CLIENT_SECRET, REFRESH_TOKEN):
        assert secret not in shown


class _Arrivals:
    """A lock that tells when ``expected`` threads hold it or wait for it."""

    def __init__(self, expected: int) -> None:
        self.all_are_there = Event()
        self._lock, self._left = Lock(), Semaphore(expected - 1)

    def __enter__(self) -> None:
        if not self._left.acquire(blocking=False):
            self.all_are_there.set()
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()


class _Patient(MemoryTokens):
    """Remembers for how long it was to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[timedelta] = []

    @contextmanager
    def fetching(self, key: TokenKey, *, patience: timedelta) -> Iterator[bool]:
        self.waited.append(patience)
        with super().fetching(key, patience=patience) as alone:
            yield alone


class _Impatient:
    """A table at which nobody waits."""

    PATIENCE = timedelta(milliseconds=1)

    def __init__(self, table: TokenTable) -> None:
        self._table = table

    def __getattr__(self, name: str) -> object:
        return getattr(self._table, name)

    def fetching(self, key: object, *, patience: object) -> object:
        return self._table.fetching(key, patience=self.PATIENCE)  # type: ignore[arg-type] - handed on
