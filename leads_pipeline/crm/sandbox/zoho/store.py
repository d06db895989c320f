"""The sandbox's records, in SQLite: in memory, or in a file that survives a restart and a kill.

One transaction per request, committed before the answer. Keep out: what a value may be (``fields``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from leads_pipeline.crm.sandbox.store_file import StoreFile
from leads_pipeline.crm.sandbox.vendor import Tally
from leads_pipeline.crm.sandbox.zoho.answers import timestamp
from leads_pipeline.crm.sandbox.zoho.fields import EMAIL

_VERSION = 1001  # no other vendor's file is one of ours
_SCHEMA = """
create table if not exists records (
    id integer primary key autoincrement, module text not null, properties text not null, email text, lead_key text,
    created_at text not null, modified_at text not null, deleted_at text
);
create index if not exists records_email on records (module, lower(email)) where deleted_at is null;
create index if not exists records_key on records (module, lower(lead_key)) where deleted_at is null;
create index if not exists records_modified on records (modified_at);
insert into sqlite_sequence (name, seq) select 'records', 6493490000001500000
    where not exists (select 1 from sqlite_sequence where name = 'records');
"""
_COLUMNS = "id, module, properties, created_at, modified_at, deleted_at"


@dataclass(frozen=True, slots=True)
class Record:
    """One record. ``deleted_at``: it lies in the recycle bin."""

    id: str
    module: str
    properties: dict[str, Any]
    created_at: str
    modified_at: str
    deleted_at: str | None = None


class RecordStore(StoreFile):
    """Records of all modules. Not safe for several threads: the caller holds the lock."""

    def __init__(self, path: Path | None, *, key_property: str) -> None:
        self._key = key_property
        super().__init__(path, vendor="Zoho", version=_VERSION, schema=_SCHEMA)

    def by_id(self, module: str, record_id: str) -> Record | None:
        """A record that is not deleted."""
        return self._one("id = ? and module = ? and deleted_at is null", (_number(record_id), module))

    def deleted(self, record_id: str) -> Record | None:
        """A record in the recycle bin."""
        return self._one("id = ? and deleted_at is not null", (_number(record_id),))

    def holder(self, module: str, name: str, value: Any) -> Record | None:
        """The first record that holds a value in a field that can be compared: the key, the address; no case."""
        column = {self._key: "lead_key", EMAIL: "email"}.get(name)
        if column is None or not isinstance(value, str):
            return None
        return self._one(
            f"module = ? and lower({column}) = lower(?) and deleted_at is null order by id limit 1", (module, value)
        )

    def insert(self, module: str, values: Mapping[str, Any], *, now: datetime) -> Record:
        """A new record."""
        at = timestamp(now)
        cursor = self._db.execute(
            "insert into records (module, properties, created_at, modified_at) values (?, '{}', ?, ?)", (module, at, at)
        )
        return self._write(Record(str(cursor.lastrowid), module, {}, at, at), values, at=at)

    def update(self, record: Record, values: Mapping[str, Any], *, now: datetime) -> Record:
        """Set values; ``None`` clears one."""
        return self._write(record, {**record.properties, **values}, at=timestamp(now))

    def delete(self, record: Record, *, now: datetime) -> None:
        """Put a record into the recycle bin; its values become free."""
        self._db.execute("update records set deleted_at = ? where id = ?", (timestamp(now), int(record.id)))

    def purge(self, record: Record) -> None:
        """Remove a record for good."""
        self._db.execute("delete from records where id = ?", (int(record.id),))

    def page(self, *, after: int, limit: int, deleted: bool = False) -> list[Record]:
        """Records with ids above ``after``, in the order of ids."""
        return self._many("id > ? and (deleted_at is not null) = ? order by id limit ?", (after, deleted, limit))

    def newest(self, limit: int) -> list[Record]:
        """The records written last, newest first."""
        return self._many("true order by modified_at desc, id desc limit ?", (limit,))

    def tally(self) -> Tally:
        """Count everything, from the rows themselves. A duplicate is a living record beyond the first with its key."""
        living, deleted = self._db.execute(
            "select count(*) filter (where deleted_at is null), count(*) filter (where deleted_at is not null) "
            "from records"
        ).fetchone()
        (duplicates,) = self._db.execute(
            "select count(*) from records c where deleted_at is null and exists (select 1 from records o "
            "where o.module = c.module and lower(o.lead_key) = lower(c.lead_key) and o.deleted_at is null "
            "and o.id < c.id)"
        ).fetchone()
        histogram = self._keys_by_writes()
        return Tally(living, deleted, duplicates, sum(histogram.values()), histogram)

    def clear(self) -> None:
        """Forget everything."""
        with self.transaction():
            self._db.execute("delete from records")
            self._db.execute("delete from key_writes")

    def _write(self, record: Record, values: Mapping[str, Any], *, at: str) -> Record:
        kept = {name: value for name, value in values.items() if value is not None}
        key = kept.get(self._key)
        self._db.execute(
            "update records set properties = ?, email = ?, lead_key = ?, modified_at = ? where id = ?",
            (msgspec.json.encode(kept).decode(), kept.get(EMAIL), key, at, int(record.id)),
        )
        if key is not None:
            self._count_write(key)
        return Record(record.id, record.module, kept, record.created_at, at)

    def _one(self, where: str, values: tuple[Any, ...]) -> Record | None:
        return next(iter(self._many(where, values)), None)

    def _many(self, where: str, values: tuple[Any, ...]) -> list[Record]:
        rows = self._db.execute(f"select {_COLUMNS} from records where {where}", values)  # noqa: S608 - ours
        return [
            Record(str(row[0]), row[1], msgspec.json.decode(row[2], type=dict[str, Any]), row[3], row[4], row[5])
            for row in rows
        ]


def _number(record_id: str) -> int:
    number = int(record_id) if record_id.isascii() and record_id.isdigit() and len(record_id) < 20 else -1
    return number if number < 2**63 else -1
