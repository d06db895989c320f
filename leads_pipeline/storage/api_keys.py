"""API keys: one names the tenant and what its holder may do: post leads of a source, ask for contacts, tell outcomes.

A key is ``lp_<key id>_<secret>``: the id is public, the secret has 256 random bits and is shown once. Only a SHA-256 is
kept; a slow hash would add nothing against guessing 256 bits, and the door checks every request.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from leads_pipeline.errors import NotFound
from leads_pipeline.storage.schema import api_keys

# What the door may know: the keys that are in force.
KEYS_IN_FORCE = "select key_id, tenant, scope, source, key_sha256 from api_keys where revoked_at is null"


class KeyScope(StrEnum):
    """What a key is for. None does two: a key that posts may stand in a public page."""

    POST = "post"
    LOOKUP = "lookup"
    OUTCOMES = "outcomes"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept. Only one that posts has a source."""

    key_id: str
    tenant: str
    scope: KeyScope
    source: str | None
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made; the only moment at which its ``text`` is known."""

    key_id: str
    text: str


def key_id_of(text: str) -> str | None:
    """The public part of a presented key, or ``None`` if it is no key of ours."""
    parts = text.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "lp" and parts[1] and parts[2] else None


def matches(text: str, key_sha256: str) -> bool:
    """Whether a presented key is the kept one, in constant time."""
    return hmac.compare_digest(_sha256(text), key_sha256)


def create_api_key(connection: sa.Connection, *, tenant: str, source: str, now: datetime) -> NewApiKey:
    """Make a key for a source. A source may have several, so that one can be replaced without a gap."""
    return _create(connection, tenant=tenant, scope=KeyScope.POST, source=source, now=now)


def create_lookup_key(connection: sa.Connection, *, tenant: str, now: datetime) -> NewApiKey:
    """Make a key that asks for the tenant's contacts."""
    return _create(connection, tenant=tenant, scope=KeyScope.LOOKUP, source=None, now=now)


def create_outcomes_key(connection: sa.Connection, *, tenant: str, now: datetime) -> NewApiKey:
    """Make a key that tells what became of the tenant's leads."""
    return _create(connection, tenant=tenant, scope=KeyScope.OUTCOMES, source=None, now=now)


def _create(connection: sa.Connection, *, tenant: str, scope: KeyScope, source: str | None, now: datetime) -> NewApiKey:
    key_id = secrets.token_hex(6)
    text = f"lp_{key_id}_{secrets.token_urlsafe(32)}"
    connection.execute(
        sa.insert(api_keys).values(
            key_id=key_id, tenant=tenant, scope=scope, source=source, key_sha256=_sha256(text), created_at=now
        )
    )
    return NewApiKey(key_id, text)


def list_api_keys(connection: sa.Connection) -> list[ApiKey]:
    """Every key, also the revoked ones, oldest first within a source."""
    rows = connection.execute(
        sa.select(*_COLUMNS).order_by(
            api_keys.c.tenant, api_keys.c.scope.desc(), api_keys.c.source, api_keys.c.created_at
        )
    )
    return [_api_key(row) for row in rows]


def revoke_api_key(connection: sa.Connection, key_id: str, *, now: datetime) -> ApiKey:
    """Put a key out of force; revoking it again keeps the first time. Doors notice within seconds.

    ``key_id`` may be the whole key, which is what somebody has who found it where it should not be.

    Raises:
        NotFound: there is no such key.
    """
    key_id = key_id_of(key_id) or key_id
    row = connection.execute(
        sa.update(api_keys)
        .where(api_keys.c.key_id == key_id)
        .values(revoked_at=sa.func.coalesce(api_keys.c.revoked_at, now))
        .returning(*_COLUMNS)
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no API key with the id {key_id!r}; `leads keys list` shows them")
    return _api_key(row)


_COLUMNS = (
    api_keys.c.key_id, api_keys.c.tenant, api_keys.c.scope, api_keys.c.source, api_keys.c.created_at,
    api_keys.c.revoked_at,
)  # fmt: skip


def _api_key(row: Any) -> ApiKey:
    return ApiKey(row.key_id, row.tenant, KeyScope(row.scope), row.source, row.created_at, row.revoked_at)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
