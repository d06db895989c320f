"""HTTP to a CRM or another vendor: the only module that knows httpx.

A destination says what to send and reads what came back; this module adds the credentials and the time-out, and turns
every way in which a network can fail into one of two: surely not sent, or unknown. Keep out: what a status means, and
any retry; the outbox and the verification step are the retry loops.

No key is in an object that is printed or logged: it is put into the request while that is sent. httpx and its httpcore
log addresses of requests, which may hold a key or a lead's e-mail; here they log nothing.
"""

import json
import logging
from collections.abc import Generator, Mapping
from contextlib import closing
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# httpx is asked for by name; its maintained fork keeps the interface, so that this line is the switch.
import httpx
from pydantic import SecretStr

from leads_pipeline import __version__
from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.errors import ConfigError

MAX_ANSWER_BYTES = 10_000_000
CONNECT_SECONDS = 10.0  # an answer may take its time, a connection does not

# Raised before a byte of the request has left.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks")
_sending: ContextVar[bool] = ContextVar("sending", default=False)


class NetworkFailure(StrEnum):
    """Why there is no answer."""

    NOT_SENT = "not_sent"  # no connection: the vendor never saw the request
    NO_ANSWER = "no_answer"  # it was sent, what became of it is unknown


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A status with its headers (names in lower case) and the JSON body, or ``None`` where the body is none."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: Any = field(repr=False)


class _Credentials(httpx.Auth):
    """Puts the key into the request only while it is sent. ``key_in``: see ``Transport``."""

    def __init__(self, key: SecretStr, key_in: str, user: str | None) -> None:
        self._key = key
        self._place, _, self._name = key_in.partition(":")
        self._basic = httpx.BasicAuth(user or "", key.get_secret_value()) if self._place == "basic" else None
        if self._place not in ("bearer", "basic", "header", "query", "body", "form") or (
            (self._place in ("bearer", "basic")) is bool(self._name)
        ):
            raise ValueError(f"there is no place {key_in!r} for a key")

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        key = self._key.get_secret_value()
        if self._basic is not None:
            yield from self._basic.auth_flow(request)
            return
        if self._place == "bearer":
            request.headers["Authorization"] = f"Bearer {key}"
        elif self._place == "header":
            request.headers[self._name] = key
        elif self._place == "query":
            request.url = request.url.copy_set_param(self._name, key)
        elif self._place == "body":
            body = json.loads(request.content or b"{}")
            request = _with_content(request, json={**body, self._name: key})
        else:
            fields = httpx.QueryParams(request.content.decode())
            request = _with_content(request, data=dict(fields.set(self._name, key)))
        yield request


class Transport:
    """A connection pool to one vendor's account. Safe to share between threads.

    ``key_in`` says where the key goes: ``bearer``, ``basic`` (with ``user``), ``header:NAME``, ``query:NAME``,
    ``body:NAME`` (of a JSON object) or ``form:NAME``.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: SecretStr | None,
        timeout_seconds: float,
        connections: int,
        key_in: str = "bearer",
        user: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        """No credentials are sent without ``token``.

        Raises:
            ConfigError: the token holds what cannot be sent, such as a line break.
        """
        self._timeout_seconds = timeout_seconds
        self._clock = clock or SystemClock()
        self._client = httpx.Client(
            base_url=base_url,
            auth=_Credentials(_sendable(token, base_url), key_in, user) if token is not None else None,
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
    ) -> HttpAnswer | NetworkFailure:
        """Send one request, without a body if there is none. What a network can do comes back as a value.

        An answer of more than ``MAX_ANSWER_BYTES``, or one that drips in after the time-out, counts as none.
        """
        request = self._client.build_request(method, path, params=query or None, json=body, data=form)
        deadline = self._clock.monotonic() + self._timeout_seconds
        ours = _sending.set(True)
        try:
            with closing(self._client.send(request, stream=True)) as response:
                content = self._read(response, deadline=deadline)
        except _NOT_SENT:
            return NetworkFailure.NOT_SENT
        except httpx.HTTPError:
            # A time-out or a broken connection after the first byte.
            return NetworkFailure.NO_ANSWER
        finally:
            _sending.reset(ours)
        if content is None:
            return NetworkFailure.NO_ANSWER
        headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpAnswer(response.status_code, headers, _json(content))

    def close(self) -> None:
        """Close the pool."""
        self._client.close()

    def _read(self, response: httpx.Response, *, deadline: float) -> bytes | None:
        """The body as it was sent; ``None`` if it is too much or takes too long."""
        content = bytearray()
        for part in response.iter_raw():
            content += part
            if len(content) > MAX_ANSWER_BYTES or self._clock.monotonic() > deadline:
                return None
        return bytes(content)


def _not_ours(_record: logging.LogRecord) -> bool:
    """Whether a record of httpx is of somebody else's request."""
    return not _sending.get()


def _sendable(key: SecretStr, base_url: str) -> SecretStr:
    value = key.get_secret_value()
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise ConfigError(
            f"the key for {httpx.URL(base_url).host} cannot be sent: it holds a line break, a blank at an end or a "
            "character that is not ASCII; set its environment variable to the bare key"
        )
    return key


def _with_content(request: httpx.Request, **content: Any) -> httpx.Request:
    """The same request with other content. The extensions hold its time-out."""
    headers = request.headers.copy()
    for name in ("Content-Length", "Content-Type"):
        headers.pop(name, None)
    return httpx.Request(request.method, request.url, headers=headers, extensions=request.extensions, **content)


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # the latter for a body of brackets only
        return None
