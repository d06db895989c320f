"""The file in which a sandbox keeps what it was sent, and how often each key of ours was written.

In memory, or in a file that survives a restart and a kill. A vendor's store is derived from it and brings its own
tables; what they hold, and what is unique, is the vendor's business.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leads_pipeline.errors import LeadsError

_KEY_WRITES = (
    "create table if not exists key_writes (lead_key text primary key, writes integer not null) without rowid;"
)


class StoreFile:
    """An SQLite database. Not safe for several threads: the caller holds the lock."""

    def __init__(self, path: Path | None, *, vendor: str, version: int, schema: str) -> None:
        """``version``: no other vendor's, so that a file is not taken for another's.

        Raises:
            LeadsError: the file is another vendor's or another version's, or cannot be written.
        """
        self._db = _opened(path, vendor=vendor, version=version, schema=schema)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is kept, or nothing is."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def writes(self, *, at_least: int, after: str, limit: int) -> dict[str, int]:
        """How often each key of ours was written, also of records that are gone; in the order of keys."""
        rows = self._db.execute(
            "select lead_key, writes from key_writes where lead_key > ? and writes >= ? order by lead_key limit ?",
            (after, at_least, limit),
        )
        return dict(rows.fetchall())

    def _count_write(self, key: object) -> None:
        self._db.execute(
            "insert into key_writes values (?, 1) on conflict (lead_key) do update set writes = writes + 1", (key,)
        )

    def _keys_by_writes(self) -> dict[int, int]:
        """How many keys were written once, twice, …"""
        return dict(
            self._db.execute("select writes, count(*) from key_writes group by writes order by writes").fetchall()
        )


def _opened(path: Path | None, *, vendor: str, version: int, schema: str) -> sqlite3.Connection:
    try:
        if path is not None and not path.exists():
            path.touch(mode=0o600)  # it holds people; SQLite would take the umask's mode
        database = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        (found,) = database.execute("pragma user_version").fetchone()
        (tables,) = database.execute("select count(*) from sqlite_master").fetchone()
        if tables and found != version:
            database.close()
            raise LeadsError(
                f"{path} is not a store of this version's sandbox of {vendor}; delete it or name another file"
            )
        # The journal outlives a killed process without an fsync per request; a power cut may cost the last second.
        database.executescript("pragma journal_mode = wal; pragma synchronous = normal;")
        database.executescript(f"{schema}{_KEY_WRITES}pragma user_version = {version};")
    except (OSError, sqlite3.Error) as error:
        raise LeadsError(f"the sandbox cannot keep its records in {path}: {error}") from error
    return database
