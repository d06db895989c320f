"""A vendor that gives out access tokens and takes requests with the newest of them, on 127.0.0.1."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from leads_pipeline.outbound.token_grants import RefreshToken
from leads_pipeline_tests.outbound.http_listener import Listener, hang_up, listening

TOKEN_PATH = "/oauth/v2/token"
CLIENT_SECRET = "s3cret-of-the-client"
REFRESH_TOKEN = "1000.refresh-of-ada"


@dataclass
class TokenVendor:
    """``refusal``: what is answered instead of a token, with its status. ``extra``: more keys of a token's answer.

    ``refused_with``: what every request is answered with 401, whatever its token.
    """

    listener: Listener
    extra: dict[str, Any] = field(default_factory=lambda: {"expires_in": 3600})
    refusal: tuple[int, Any] | None = None
    given: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    refused_with: Any = None

    @property
    def url(self) -> str:
        return self.listener.url

    @property
    def asked_for_tokens(self) -> list[dict[str, list[str]]]:
        """The forms that the token endpoint was sent."""
        return [parse_qs(sent.content.decode()) for sent in self.listener.sent if _of_tokens(sent.path)]

    @property
    def used(self) -> list[str]:
        """What stood in Authorization of each other request."""
        return [sent.headers["authorization"] for sent in self.listener.sent if not _of_tokens(sent.path)]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        status, body = self._answer(handler)
        content = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _answer(self, handler: BaseHTTPRequestHandler) -> tuple[int, Any]:
        if not _of_tokens(handler.path):
            if self.refused_with is not None:
                return 401, self.refused_with
            token = handler.headers["Authorization"].rpartition(" ")[2]
            return (200, {}) if token in self.given and token not in self.revoked else (401, {"code": "INVALID_TOKEN"})
        if self.refusal is not None:
            return self.refusal
        self.given.append(f"1000.token-{len(self.given) + 1}")
        return 200, {"access_token": self.given[-1], "token_type": "Bearer", **self.extra}


def grant(url: str, *, client_secret: str = CLIENT_SECRET) -> RefreshToken:
    """The way that the tests ask this vendor for tokens."""
    return RefreshToken(url + TOKEN_PATH, "client-1", SecretStr(client_secret), SecretStr(REFRESH_TOKEN))


@contextmanager
def token_vendor() -> Iterator[TokenVendor]:
    with listening() as listener:
        vendor = TokenVendor(listener)
        listener.answer_with = vendor.answer
        yield vendor


def hangs_up(vendor: TokenVendor) -> None:
    """From now on, break connections instead of answering."""
    vendor.listener.answer_with = hang_up


def _of_tokens(path: str) -> bool:
    return urlsplit(path).path == TOKEN_PATH
