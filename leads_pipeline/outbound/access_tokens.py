"""OAuth access tokens as ``Credentials``: one token for all processes of an account, fetched by one of them.

Vendors allow few: Zoho gives 10 in ten minutes, and the 16th that lives ends the oldest. So the token lies in a table;
who finds none that holds takes a lock, looks again, and only then asks the vendor. What was asked for is written down
before, so that no crash and no number of processes gets past the pace. After a 401 the token is renewed once, unless
another process has done so already. A vendor who does not answer is asked at the same pace, and whoever waited for that
answer has waited long enough: nothing is wrong with the credentials, and nobody has to see to them.

The token is sealed (Fernet: AES-128-CBC and HMAC-SHA256) with a key derived by HKDF from the very secrets with which it
is fetched. There is no other key to look after; a copy of the database is worth nothing without the environment of the
processes, and who has that can fetch tokens anyway. A changed secret unseals nothing, and a new token is fetched.

Keep out: the ways to ask for a token (``token_grants``), the table (``storage.access_tokens``).
"""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import httpx
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.errors import CredentialsRefused
from leads_pipeline.outbound.credentials import CredentialsUnreachable
from leads_pipeline.outbound.token_grants import TokenGrant
from leads_pipeline.outbound.transport import HttpAnswer, NetworkFailure, Transport
from leads_pipeline.storage.access_tokens import Fetch, StoredToken, TokenKey
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# Zoho's pace; nobody needs more. A token that is refused right after it was made is not what is wrong.
PACES = ((10, timedelta(minutes=10)), (2, timedelta(minutes=1)))
# A token is asked for while a request's contacts are claimed; whoever waits for another's fetch waits a bit longer.
LONGEST_SECONDS = 20.0
# A token is not used to its last second: clocks differ, and a request takes its time to arrive.
SAFETY_MARGIN = timedelta(seconds=60)
SAFETY_SHARE = 10  # of a short life, no more than a tenth

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{1,63}")
_KEY_BYTES, _FINGERPRINT_BYTES = 32, 8


class TokenStore(Protocol):
    """Where tokens lie. ``storage.access_tokens.TokenTable`` for all processes, ``MemoryTokens`` for one."""

    def read(self, key: TokenKey) -> StoredToken | None: ...
    def fetching(self, key: TokenKey, *, patience: timedelta) -> AbstractContextManager[bool]: ...
    def fetches(self, key: TokenKey) -> list[Fetch]: ...
    def note_fetches(self, key: TokenKey, fetches: Sequence[Fetch]) -> None: ...
    def write(self, key: TokenKey, token: StoredToken) -> None: ...


class MemoryTokens:
    """The tokens of this process, for what is gone with it, such as a rehearsal."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tokens: dict[TokenKey, StoredToken] = {}
        self._fetches: dict[TokenKey, list[Fetch]] = {}

    def read(self, key: TokenKey) -> StoredToken | None:
        """See ``TokenTable.read``."""
        return self._tokens.get(key)

    @contextmanager
    def fetching(self, key: TokenKey, *, patience: timedelta) -> Iterator[bool]:
        """See ``TokenTable.fetching``."""
        locked = self._lock.acquire(timeout=patience.total_seconds())
        try:
            yield locked
        finally:
            if locked:
                self._lock.release()

    def fetches(self, key: TokenKey) -> list[Fetch]:
        """See ``TokenTable.fetches``."""
        return list(self._fetches.get(key, ()))

    def note_fetches(self, key: TokenKey, fetches: Sequence[Fetch]) -> None:
        """See ``TokenTable.note_fetches``."""
        self._fetches[key] = list(fetches)

    def write(self, key: TokenKey, token: StoredToken) -> None:
        """See ``TokenTable.write``."""
        self._tokens[key] = token


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token, and the address that its requests are to go to, where the vendor named one."""

    value: str = field(repr=False)
    base_url: str | None
    expires_at: datetime | None  # safety margin taken off


class AccessTokens:
    """The credentials of one account. Safe to share between threads."""

    def __init__(
        self,
        grant: TokenGrant,
        *,
        account: str,
        store: TokenStore,
        timeout_seconds: float,
        scheme: str = "Bearer",
        base_url_in: str | None = None,
        ended: Callable[[Any], bool] = lambda _body: True,
        advice: str = "check the client id, its secret and what it is allowed",
        clock: Clock | None = None,
    ) -> None:
        """``scheme``: before the token in the header Authorization.

        ``base_url_in``: the key of the token's answer (``api_domain``, ``instance_url``) that says where requests are
        to go instead of the transport's address; ``None``: they go where they are sent. ``ended``: whether a 401 with
        this body means that the token holds no longer; another token is allowed no more than this one. ``advice``: what
        a person does who reads that no token is given. ``timeout_seconds``: of the request for a token,
        ``LONGEST_SECONDS`` at most.
        """
        self._grant = grant
        self._store = store
        self._timeout_seconds = min(timeout_seconds, LONGEST_SECONDS)
        self._scheme = scheme
        self._base_url_in = base_url_in
        self._ended = ended
        self._advice = advice
        self._clock = clock or SystemClock()
        self._account = account
        self._seal, fingerprint = _seal_of(grant, account=account)
        self._key = TokenKey(account, fingerprint)
        self._turn = threading.Lock()
        self._held: AccessToken | None = None
        self._unanswered = 0  # fetches

    def apply(self, request: httpx.Request) -> httpx.Request:
        """See ``Credentials.apply``."""
        held = self._held
        token = held if held is not None and self._holds(held) else self._obtain(refused=None)
        request.headers["Authorization"] = f"{self._scheme} {token.value}"
        return request if self._base_url_in is None else _moved(request, token.base_url)

    def refused(self, request: httpx.Request, body: Any) -> bool:
        """See ``Credentials.refused``. Renews the token once, if no other process or thread has done so."""
        if not self._ended(body):
            return False
        try:
            self._obtain(refused=request.headers.get("Authorization", "").removeprefix(f"{self._scheme} "))
        except (CredentialsRefused, CredentialsUnreachable):
            return False
        return True

    def _obtain(self, *, refused: str | None) -> AccessToken:
        """A token that holds and is another than the one that was ``refused``."""
        unanswered = self._unanswered
        with self._turn:
            token = self._held if self._passes(self._held, refused) else self._stored(refused)
            if token is None:
                if self._unanswered != unanswered:  # what another thread asked while we waited
                    raise CredentialsUnreachable
                try:
                    token = self._fetched_alone(refused)
                except CredentialsUnreachable:
                    self._unanswered += 1
                    raise
            self._held = token
            return token

    def _fetched_alone(self, refused: str | None) -> AccessToken:
        """A token that we fetch, or that another process has fetched while we waited for it."""
        patience = timedelta(seconds=self._timeout_seconds + 5)
        with self._store.fetching(self._key, patience=patience) as alone:
            token = self._stored(refused)
            if token is None and not alone:
                raise CredentialsUnreachable
            return token or self._fetch()

    def _stored(self, refused: str | None) -> AccessToken | None:
        stored = self._store.read(self._key)
        if stored is None:
            return None
        try:
            opened = json.loads(self._seal.decrypt(stored.sealed))
        except InvalidToken:  # a damaged row; a changed secret looks for another one
            return None
        token = AccessToken(opened["token"], opened["base_url"], stored.expires_at)
        return token if self._passes(token, refused) else None

    def _passes(self, token: AccessToken | None, refused: str | None) -> bool:
        return token is not None and token.value != refused and self._holds(token)

    def _holds(self, token: AccessToken) -> bool:
        return token.expires_at is None or self._clock.now() < token.expires_at

    def _fetch(self) -> AccessToken:
        now = self._clock.now()
        longest = max(length for _most, length in PACES)
        fetches = [fetch for fetch in self._store.fetches(self._key) if now - fetch.at < longest]
        for most, length in PACES:
            lately = [fetch.at for fetch in fetches if now - fetch.at < length]
            if len(lately) >= most and not fetches[-1].answered:
                raise CredentialsUnreachable
            if len(lately) >= most:
                raise CredentialsRefused(
                    f"account {self._account}: {len(lately)} access tokens were asked for in {length}, and no more are "
                    f"until {min(lately) + length:%H:%M:%S} UTC. Tokens are refused soon after they are made, or not "
                    f"given: {self._advice}; see who else uses the same credentials",
                    code="TOO_MANY_TOKENS",
                )
        self._store.note_fetches(self._key, [*fetches, Fetch(now)])
        answer = self._ask(now)
        body = answer.body if isinstance(answer.body, dict) else {}
        value = body.get("access_token")
        if answer.status >= 500:
            log.warning("access_token_not_given", account=self._account, http_status=answer.status)
            raise CredentialsUnreachable
        self._store.note_fetches(self._key, [*fetches, Fetch(now, answered=True)])
        # Zoho answers 200 without a token when too many were asked for.
        if answer.status >= 300 or not _sendable(value):
            code = _code(body) or f"HTTP_{answer.status}"
            log.warning("access_token_refused", account=self._account, code=code)
            raise CredentialsRefused(
                f"account {self._account}: {httpx.URL(self._grant.token_url).host} gave no access token ({code}): "
                f"{self._advice}",
                code=code,
            )
        token = AccessToken(str(value), self._base_url(body), _expiry(body, now=now))
        sealed = self._seal.encrypt(json.dumps({"token": token.value, "base_url": token.base_url}).encode())
        self._store.write(self._key, StoredToken(sealed, token.expires_at))
        log.info("access_token_fetched", account=self._account, expires_at=token.expires_at)
        return token

    def _ask(self, now: datetime) -> HttpAnswer:
        url = httpx.URL(self._grant.token_url)
        # A connection of its own: it is needed once an hour.
        transport = Transport(
            str(url.copy_with(raw_path=b"/")),
            credentials=None,
            timeout_seconds=self._timeout_seconds,
            connections=1,
            clock=self._clock,
        )
        try:
            answer = transport.send("POST", url.raw_path.decode(), form=self._grant.form(now=now))
        finally:
            transport.close()
        if isinstance(answer, NetworkFailure):
            log.warning("access_token_not_given", account=self._account, failure=str(answer))
            raise CredentialsUnreachable
        return answer

    def _base_url(self, body: dict[str, Any]) -> str | None:
        """Where the vendor says that requests are to go. Never from https to an address that is not."""
        told = body.get(self._base_url_in) if self._base_url_in is not None else None
        if not isinstance(told, str) or not told:
            return None
        safe = told.startswith("https://") or self._grant.token_url.startswith("http://")
        return told if safe else None


def _seal_of(grant: TokenGrant, *, account: str) -> tuple[Fernet, str]:
    """What seals the account's token, and a fingerprint of the secrets that tells nothing of them.

    HKDF and no slow hash of passwords: a client's secret is random and long.
    """
    info = b"leads_pipeline access token 1 " + account.encode()
    derived = HKDF(SHA256(), length=_KEY_BYTES + _FINGERPRINT_BYTES, salt=None, info=info).derive(
        json.dumps(grant.secrets()).encode()
    )
    return Fernet(base64.urlsafe_b64encode(derived[:_KEY_BYTES])), derived[_KEY_BYTES:].hex()


def _moved(request: httpx.Request, base_url: str | None) -> httpx.Request:
    """The request, to the origin of ``base_url``."""
    if base_url is not None:
        origin = httpx.URL(base_url)
        request.url = request.url.copy_with(scheme=origin.scheme, host=origin.host, port=origin.port)
        request.headers["Host"] = request.url.netloc.decode("ascii")
    return request


def _expiry(body: dict[str, Any], *, now: datetime) -> datetime | None:
    seconds = body.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < 10**9:
        return None
    life = timedelta(seconds=seconds)
    return now + life - min(SAFETY_MARGIN, life / SAFETY_SHARE)


def _sendable(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable() and " " not in value


def _code(body: dict[str, Any]) -> str | None:
    """The error's name as a code. Not its description, which may repeat what it was sent."""
    name = body.get("error")
    if not isinstance(name, str) or not _CODE.fullmatch(name):
        return None
    return re.sub(r"[ -]", "_", name).upper()
