"""Access tokens that all processes of an account share: sealed, so that who reads the table cannot use them.

Keep out: when a token is fetched, and what seals it (``outbound.access_tokens``).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

_PURPOSE = 771_403  # sets this lock apart from those for other ends

_READ = sa.text("select token, expires_at from access_tokens where account = :account and credentials = :credentials")
_FETCHES = sa.text("select fetches from access_tokens where account = :account and credentials = :credentials")
_NOTE = sa.text(
    """
    insert into access_tokens (account, credentials, fetches)
    values (:account, :credentials, cast(:fetches as jsonb))
    on conflict (account, credentials) do update set fetches = excluded.fetches
    """
)
_WRITE = sa.text(
    """
    insert into access_tokens (account, credentials, token, expires_at)
    values (:account, :credentials, :token, :expires_at)
    on conflict (account, credentials) do update set token = excluded.token, expires_at = excluded.expires_at
    """
)
# The session's own limits would end the wait, or take the lock away while the vendor is asked.
_PATIENCE = sa.text(
    """
    select set_config('lock_timeout', :milliseconds, true), set_config('statement_timeout', '0', true),
        set_config('idle_in_transaction_session_timeout', '0', true)
    """
)
_LOCK = sa.text("select pg_advisory_xact_lock(cast(:purpose as integer), hashtext(:name))")


class TokenKey(NamedTuple):
    """Whose token it is. ``credentials``: a fingerprint of what it is fetched with, from which nothing can be told."""

    account: str
    credentials: str


class Fetch(NamedTuple):
    """When a token was asked for, and whether the vendor answered: with a token, or that there is none."""

    at: datetime
    answered: bool = False


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as it lies in the table. ``expires_at`` ``None``: it holds until the vendor refuses it."""

    sealed: bytes
    expires_at: datetime | None


class TokenTable:
    """The table ``access_tokens``, as ``outbound.access_tokens.TokenStore``. Each call is a transaction of its own."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def read(self, key: TokenKey) -> StoredToken | None:
        """The token that is there."""
        with self._engine.connect() as connection:
            row = connection.execute(_READ, key._asdict()).one_or_none()
        return None if row is None or row.token is None else StoredToken(row.token, row.expires_at)

    @contextmanager
    def fetching(self, key: TokenKey, *, patience: timedelta) -> Iterator[bool]:
        """Keep every other process from fetching until the block ends; ``False``: one has been at it for too long.

        Takes an advisory lock, which the server lets go of when its holder dies. It holds no row, so that the fetch can
        be written down meanwhile. Nor does it hold a place in the pool: as long as a vendor is slow, those who deliver
        elsewhere, and who write the fetch down, would wait for one.
        """
        with self._engine.connect() as connection:
            connection.detach()
            connection.begin()
            milliseconds = str(max(1, round(patience.total_seconds() * 1000)))
            connection.execute(_PATIENCE, {"milliseconds": milliseconds})
            try:
                connection.execute(_LOCK, {"purpose": _PURPOSE, "name": json.dumps(key)})
            except sa.exc.OperationalError as error:
                if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
                    raise
                locked = False
            else:
                locked = True
            yield locked

    def fetches(self, key: TokenKey) -> list[Fetch]:
        """When a token was asked for lately, the last one last."""
        with self._engine.connect() as connection:
            found: list[dict[str, Any]] | None = connection.execute(_FETCHES, key._asdict()).scalar_one_or_none()
        return [Fetch(datetime.fromisoformat(item["at"]), item["answered"]) for item in found or ()]

    def note_fetches(self, key: TokenKey, fetches: Sequence[Fetch]) -> None:
        """Write down when a token was asked for, before it is: what a killed process asked for counts as well."""
        noted = [{"at": fetch.at.isoformat(), "answered": fetch.answered} for fetch in fetches]
        with self._engine.begin() as connection:
            connection.execute(_NOTE, {**key._asdict(), "fetches": json.dumps(noted)})

    def write(self, key: TokenKey, token: StoredToken) -> None:
        """Put a token in the place of the one before."""
        values = {"token": token.sealed, "expires_at": token.expires_at}
        with self._engine.begin() as connection:
            connection.execute(_WRITE, {**key._asdict(), **values})
