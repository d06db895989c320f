"""The org's records, in SQLite: in memory, or in a file that survives a restart and a kill.

One transaction per request, committed before the answer. What is deleted stays in the recycle bin. Keep out: what a
value may be (``fields``), and who may write what (``writing``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from leads_pipeline.crm.sandbox.salesforce.answers import timestamp
from leads_pipeline.crm.sandbox.salesforce.fields import Value
from leads_pipeline.crm.sandbox.salesforce.ids import number_of, record_id
from leads_pipeline.crm.sandbox.store_file import StoreFile
from leads_pipeline.crm.sandbox.vendor import Tally

_VERSION = 102  # others than HubSpot's, so that a file is not taken for another vendor's
_SCHEMA = """
create table if not exists records (
    number integer primary key autoincrement, object text not null, field_values text not null, record_key text,
    email text, created_at text not null, updated_at text not null, deleted_at text
);
create index if not exists records_key on records (object, record_key) where deleted_at is null;
create index if not exists records_email on records (object, email) where deleted_at is null;
create index if not exists records_updated on records (updated_at);
"""
_COLUMNS = "number, object, field_values, created_at, updated_at, deleted_at"


@dataclass(frozen=True, slots=True)
class Stored:
    """One record. ``values`` holds what is not empty, without what Salesforce sets itself."""

    number: int
    object_type: str
    values: dict[str, Value]
    created_at: str
    updated_at: str
    deleted_at: str | None

    @property
    def id(self) -> str:
        return record_id(self.object_type, self.number)

    def shown(self) -> dict[str, Value]:
        """With what Salesforce sets itself."""
        first, last = self.values.get("FirstName"), self.values.get("LastName")
        return {
            **self.values,
            "Id": self.id,
            "IsDeleted": self.deleted_at is not None,
            "Name": " ".join(str(part) for part in (first, last) if part),
            "CreatedDate": self.created_at,
            "LastModifiedDate": self.updated_at,
            "SystemModstamp": self.updated_at,
        }


class RecordStore(StoreFile):
    """Records of all objects. Not safe for several threads: the caller holds the lock."""

    def __init__(self, path: Path | None, *, key_property: str) -> None:
        self._key = key_property
        super().__init__(path, vendor="Salesforce", version=_VERSION, schema=_SCHEMA)

    def by_id(self, text: str) -> Stored | None:
        """A record by its id, also one that is in the recycle bin."""
        found = number_of(text)
        if found is None:
            return None
        rows = self._select("number = ? and object = ?", (found[1], found[0]))
        return rows[0] if rows else None

    def by_key(self, object_type: str, key: str) -> list[Stored]:
        """The living records that hold a key."""
        return self._select("object = ? and record_key = ? and deleted_at is null", (object_type, key))

    def by_email(self, object_type: str, email: str) -> list[Stored]:
        """The living records that hold an address, in any case."""
        return self._select("object = ? and email = ? and deleted_at is null", (object_type, email.lower()))

    def all_of(self, object_type: str) -> list[Stored]:
        """Every record of an object, the deleted ones too, in the order of ids."""
        return self._select("object = ?", (object_type,))

    def insert(self, object_type: str, values: Mapping[str, Value], *, now: datetime) -> Stored:
        """A new record."""
        at = timestamp(now)
        cursor = self._db.execute(
            "insert into records (object, field_values, created_at, updated_at) values (?, '{}', ?, ?)",
            (object_type, at, at),
        )
        number = cursor.lastrowid
        assert number is not None
        return self._write(Stored(number, object_type, {}, at, at, None), values, at=at)

    def update(self, stored: Stored, values: Mapping[str, Value], *, now: datetime) -> Stored:
        """Set values; ``None`` clears one."""
        return self._write(stored, {**stored.values, **values}, at=timestamp(now))

    def delete(self, stored: Stored, *, now: datetime) -> None:
        """Put a record in the recycle bin."""
        at = timestamp(now)
        self._db.execute("update records set deleted_at = ?, updated_at = ? where number = ?", (at, at, stored.number))

    def page(self, *, after: int, limit: int, archived: bool = False) -> list[Stored]:
        """Records with numbers above ``after``."""
        where = f"number > ? and deleted_at is {'not ' if archived else ''}null"
        return self._select(where, (after,), limit=limit)

    def newest(self, limit: int) -> list[Stored]:
        """The records written last, newest first."""
        return self._select("true", (), order="updated_at desc, number desc", limit=limit)

    def tally(self) -> Tally:
        """Count everything, from the rows. A duplicate is a living record beyond the first with its key."""
        living, deleted, keys, keyed = self._db.execute(
            "select count(*) filter (where deleted_at is null), count(*) filter (where deleted_at is not null), "
            "count(distinct object || ' ' || record_key) filter (where deleted_at is null and record_key is not null), "
            "count(*) filter (where deleted_at is null and record_key is not null) from records"
        ).fetchone()
        histogram = self._keys_by_writes()
        return Tally(living, deleted, keyed - keys, sum(histogram.values()), histogram)

    def clear(self) -> None:
        """Forget every record and count."""
        with self.transaction():
            self._db.execute("delete from records")
            self._db.execute("delete from key_writes")

    def _select(self, where: str, values: tuple[Any, ...], *, order: str = "number", limit: int = -1) -> list[Stored]:
        rows = self._db.execute(
            f"select {_COLUMNS} from records where {where} order by {order} limit ?",  # noqa: S608 - texts of ours
            (*values, limit),
        )
        return [Stored(row[0], row[1], msgspec.json.decode(row[2], type=dict[str, Value]), *row[3:]) for row in rows]

    def _write(self, stored: Stored, values: Mapping[str, Value], *, at: str) -> Stored:
        kept = {name: value for name, value in values.items() if value not in (None, "")}
        key, email = kept.get(self._key), kept.get("Email")
        self._db.execute(
            "update records set field_values = ?, record_key = ?, email = ?, updated_at = ? where number = ?",
            (msgspec.json.encode(kept).decode(), key, str(email).lower() if email else None, at, stored.number),
        )
        if key is not None:
            self._count_write(key)
        return Stored(stored.number, stored.object_type, kept, stored.created_at, at, None)
