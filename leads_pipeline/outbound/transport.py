"""HTTP to a CRM or another vendor: with ``credentials`` the only modules that know httpx.

A destination says what to send and reads what came back; this module adds the credentials and the time-out, and turns
every way in which a network can fail into one of two: surely not sent, or unknown. Keep out: what a status means, and
any retry; the outbox and the verification step are the retry loops.

No key is in an object that is printed or logged: it is put into the request while that is sent. httpx and its httpcore
log addresses of requests, which may hold a key or a lead's e-mail; here they log nothing.
"""

import json
import logging
from collections.abc import Mapping
from contextlib import closing
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# httpx is asked for by name; its maintained fork keeps the interface, so that this line is the switch.
import httpx

from leads_pipeline import __version__
from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.errors import ConfigError
from leads_pipeline.outbound.credentials import Credentials, CredentialsUnreachable

MAX_ANSWER_BYTES = 10_000_000
CONNECT_SECONDS = 10.0  # an answer may take its time, a connection does not

# Raised before a byte of the request has left.
_NOT_SENT = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, CredentialsUnreachable,
)  # fmt: skip

_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks")
_sending: ContextVar[bool] = ContextVar("sending", default=False)


class NetworkFailure(StrEnum):
    """Why there is no answer."""

    NOT_SENT = "not_sent"  # no connection: the vendor never saw the request
    NO_ANSWER = "no_answer"  # it was sent, what became of it is unknown


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A status with its headers (names in lower case) and the JSON body, or ``None`` where the body is none.

    ``text`` is the body where it is not JSON, such as CSV. ``credentials_renewed``: the vendor refused credentials
    (401) of which there are newer ones by now, so the same request may pass.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: Any = field(repr=False)
    text: str = field(default="", repr=False)
    credentials_renewed: bool = False


class Transport:
    """A connection pool to one vendor's account. Safe to share between threads.

    Raises:
        ConfigError: ``base_url`` is no address.
    """

    def __init__(
        self,
        base_url: str,
        *,
        credentials: Credentials | None,
        timeout_seconds: float,
        connections: int,
        clock: Clock | None = None,
    ) -> None:
        self._credentials = credentials
        self._timeout_seconds = timeout_seconds
        self._clock = clock or SystemClock()
        self._client = httpx.Client(
            base_url=_url(base_url),
            auth=httpx.Auth(),  # ours are put in before; none is taken from an address
            timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, CONNECT_SECONDS)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={
                "User-Agent": f"leads_pipeline/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # a few compressed bytes could become more than MAX_ANSWER_BYTES
            },
            follow_redirects=False,  # a redirect would carry the token to another host
            trust_env=False,  # the environment is read in config only
        )
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_not_ours)  # the same filter is added once

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        answer_bytes: int = 0,
    ) -> HttpAnswer | NetworkFailure:
        """Send one request, without a body if there is none. What a network can do comes back as a value.

        At most one of ``body`` (JSON), ``form`` and ``content`` (of ``content_type``) is given. An answer of more than
        ``MAX_ANSWER_BYTES``, or one that drips in after the time-out, counts as none; ``answer_bytes`` allows for more.

        Raises:
            CredentialsRefused: the vendor gives no access token; nothing was sent. Not with a ``StaticKey``.
        """
        further = {**(headers or {}), **({"Content-Type": content_type} if content_type else {})}
        request = self._client.build_request(
            method, path, params=query or None, json=body, data=form, content=content, headers=further
        )
        ours = _sending.set(True)
        try:
            if self._credentials is not None:
                request = self._credentials.apply(request)  # which may take a request of its own
            deadline = self._clock.monotonic() + self._timeout_seconds
            with closing(self._client.send(request, stream=True)) as response:
                answered = self._read(response, deadline=deadline, most=max(answer_bytes, MAX_ANSWER_BYTES))
        except _NOT_SENT:
            return NetworkFailure.NOT_SENT
        except httpx.HTTPError:
            # A time-out or a broken connection after the first byte.
            return NetworkFailure.NO_ANSWER
        finally:
            _sending.reset(ours)
        if answered is None:
            return NetworkFailure.NO_ANSWER
        parsed = _json(answered)
        return HttpAnswer(
            response.status_code,
            {name.lower(): value for name, value in response.headers.items()},
            parsed,
            text="" if parsed is not None else answered.decode("utf-8", "replace"),
            credentials_renewed=(
                response.status_code == httpx.codes.UNAUTHORIZED
                and self._credentials is not None
                and self._credentials.refused(request, parsed)
            ),
        )

    def close(self) -> None:
        """Close the pool."""
        self._client.close()

    def _read(self, response: httpx.Response, *, deadline: float, most: int) -> bytes | None:
        """The body as it was sent; ``None`` if it is too much or takes too long."""
        content = bytearray()
        for part in response.iter_raw():
            content += part
            if len(content) > most or self._clock.monotonic() > deadline:
                return None
        return bytes(content)


def _not_ours(_record: logging.LogRecord) -> bool:
    """Whether a record of httpx is of somebody else's request."""
    return not _sending.get()


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # the latter for a body of brackets only
        return None


def _url(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
        _ = url.host  # which is read for each request, and fails for a name that is misspelt as an international one
    except (httpx.InvalidURL, ValueError):
        raise ConfigError(
            "its address in leads.yaml cannot be read: write the host's name as it is registered, and only signs that "
            "addresses have"
        ) from None
    return url
