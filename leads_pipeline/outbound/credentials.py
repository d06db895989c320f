"""What proves to a vendor who asks: put into a request only while that is sent, so that it is in nothing that is shown.

Add another way to prove it as a class with the methods of ``Credentials``. Keep out: where the secret comes from.
"""

import json
from typing import Any, Protocol

import httpx
from pydantic import SecretStr

from leads_pipeline.errors import ConfigError

_PLACES = ("bearer", "basic", "header", "query", "body", "form")
_WITHOUT_NAME = ("bearer", "basic")


class Credentials(Protocol):
    """Used by the threads of one ``Transport``. Never shows a secret in its representation."""

    def apply(self, request: httpx.Request) -> httpx.Request:
        """The request with the proof in it.

        Raises:
            CredentialsRefused: there is none, and a person has to see to it; nothing was sent.
            CredentialsUnreachable: there is none just now; nothing was sent.
        """
        ...

    def refused(self, request: httpx.Request, body: Any) -> bool:
        """Whether ``request``, answered 401 with this JSON, may pass with newer credentials.

        The next ``apply`` uses them. ``body`` is ``None`` where it is no JSON.
        """
        ...


class CredentialsUnreachable(Exception):
    """Who gives the proof out cannot be reached, or has trouble of its own."""


class StaticKey:
    """A key that holds until a person changes it."""

    def __init__(self, key: SecretStr, *, base_url: str, key_in: str = "bearer", user: str | None = None) -> None:
        """``key_in`` says where the key goes.

        ``bearer``, ``basic`` (with ``user``), ``header:NAME``, ``query:NAME``, ``body:NAME`` (of a JSON object) or
        ``form:NAME``. ``base_url``: of the vendor, for the fault's message.

        Raises:
            ConfigError: the key holds what cannot be sent, such as a line break.
        """
        self._key = _sendable(key, base_url)
        self._place, _, self._name = key_in.partition(":")
        if self._place not in _PLACES or (self._place in _WITHOUT_NAME) is bool(self._name):
            raise ValueError(f"there is no place {key_in!r} for a key")
        self._basic = httpx.BasicAuth(user or "", key.get_secret_value()) if self._place == "basic" else None

    def apply(self, request: httpx.Request) -> httpx.Request:
        """See ``Credentials.apply``."""
        key = self._key.get_secret_value()
        if self._basic is not None:
            return next(self._basic.auth_flow(request))
        if self._place == "bearer":
            request.headers["Authorization"] = f"Bearer {key}"
        elif self._place == "header":
            request.headers[self._name] = key
        elif self._place == "query":
            request.url = request.url.copy_set_param(self._name, key)
        elif self._place == "body":
            body = json.loads(request.content or b"{}")
            return _with_content(request, json={**body, self._name: key})
        else:
            fields = httpx.QueryParams(request.content.decode())
            return _with_content(request, data=dict(fields.set(self._name, key)))
        return request

    def refused(self, request: httpx.Request, body: Any) -> bool:
        """There is no other key."""
        return False


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
