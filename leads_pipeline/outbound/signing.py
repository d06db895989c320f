"""Requests signed as standardwebhooks.com says, at the moment at which they leave.

A repeat is signed anew, because receivers refuse a signature that is minutes old; its ``webhook-id``, which the request
brings, stays the same. Keep out: what is posted, and what an id is made of (``crm.webhook``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from pydantic import SecretStr

from leads_pipeline.clock import Clock
from leads_pipeline.domain.standard_webhooks import (
    ID_HEADER,
    KEY_PREFIX,
    MAX_KEY_BYTES,
    MIN_KEY_BYTES,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    key_of,
    signature,
)
from leads_pipeline.errors import ConfigError


class StandardSigning:
    """``Credentials`` of a receiver: a signature by each of its keys, and the headers that it wants beside it."""

    def __init__(self, keys: Sequence[bytes], *, headers: Mapping[str, SecretStr], clock: Clock) -> None:
        """More than one key: the receiver takes either while it changes from one to the other; the newest first."""
        self._keys = tuple(keys)
        self._headers = dict(headers)
        self._clock = clock

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._keys)} keys)"

    def apply(self, request: httpx.Request) -> httpx.Request:
        """See ``Credentials.apply``. The request has its ``webhook-id``."""
        message_id, timestamp = request.headers[ID_HEADER], str(int(self._clock.now().timestamp()))
        body = request.read()
        request.headers[TIMESTAMP_HEADER] = timestamp
        request.headers[SIGNATURE_HEADER] = " ".join(
            signature(key, message_id=message_id, timestamp=timestamp, body=body) for key in self._keys
        )
        for name, value in self._headers.items():
            request.headers[name] = value.get_secret_value()
        return request

    def refused(self, request: httpx.Request, body: Any) -> bool:
        """There are no other keys."""
        return False


def signing_key(secret: SecretStr, *, variable: str) -> bytes:
    """The key in a secret; ``variable`` of the environment holds it.

    Raises:
        ConfigError: it is no key, or one so short that it can be guessed.
    """
    text = secret.get_secret_value()
    key = key_of(text) if text.startswith(KEY_PREFIX) else b""
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ConfigError(
            f"the environment variable {variable} holds no secret of Standard Webhooks: {KEY_PREFIX} and then "
            f"{MIN_KEY_BYTES} to {MAX_KEY_BYTES} random bytes in base64. "
            f"Make one with: echo {KEY_PREFIX}$(head -c 32 /dev/urandom | base64 -w0)"
        )
    return key


def header_value(secret: SecretStr, *, variable: str) -> SecretStr:
    """The value of a header; ``variable`` of the environment holds it.

    Raises:
        ConfigError: it cannot be sent.
    """
    value = secret.get_secret_value()
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise ConfigError(
            f"the environment variable {variable} cannot be sent as a header: it holds a line break, a blank at an end "
            "or a character that is not ASCII; set it to the bare value"
        )
    return secret
