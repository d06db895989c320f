"""HTTP to a CRM or another vendor: the only module that knows httpx.

A destination says what to send and reads what came back; this module adds the credentials and the time-out, and turns
every way in which a network can fail into one of two: surely not sent, or unknown. Keep out: what a status means, and
any retry; the outbox is the one retry loop.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# httpx is asked for by name; its maintained fork keeps the interface, so that this line is the switch.
import httpx
from pydantic import SecretStr

from leads_pipeline import __version__

# Raised before a byte of the request has left.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


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


class _Bearer(httpx.Auth):
    """Puts the token into the request only while it is sent, so that no object that is printed or logged holds it."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        yield request


class Transport:
    """A connection pool to one CRM account. Safe to share between threads."""

    def __init__(self, base_url: str, *, token: SecretStr, timeout_seconds: float, connections: int) -> None:
        self._client = httpx.Client(
            base_url=base_url,
            auth=_Bearer(token),
            timeout=timeout_seconds,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"User-Agent": f"leads_pipeline/{__version__}", "Accept": "application/json"},
            follow_redirects=False,  # a redirect would carry the token to another host
            trust_env=False,  # the environment is read in config only
        )

    def send(self, method: str, path: str, *, body: Mapping[str, Any] | None = None) -> HttpAnswer | NetworkFailure:
        """Send one request, without a body if there is none. What a network can do comes back as a value."""
        try:
            response = self._client.request(method, path, json=body)
        except _NOT_SENT:
            return NetworkFailure.NOT_SENT
        except httpx.HTTPError:
            # A time-out or a broken connection after the first byte. A body that cannot be decoded counts as well.
            return NetworkFailure.NO_ANSWER
        try:
            answer = response.json()
        except ValueError:
            answer = None
        headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpAnswer(response.status_code, headers, answer)

    def close(self) -> None:
        """Close the pool."""
        self._client.close()
