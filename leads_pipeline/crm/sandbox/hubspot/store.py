"""The sandbox's contacts, in SQLite: in memory, or in a file that survives a restart and a kill.

One transaction per request, committed before the answer. Which e-mail or unique value belongs to whom is a primary key,
as it is at the vendor. Keep out: what a value may be (``properties``), and what is answered.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from leads_pipeline.crm.sandbox.hubspot.answers import timestamp
from leads_pipeline.crm.sandbox.hubspot.properties import EMAIL, Property, built_in
from leads_pipeline.errors import LeadsError

_SCHEMA = """
create table if not exists contacts (
    id integer primary key autoincrement, properties text not null, email text, lead_key text,
    created_at text not null, updated_at text not null, archived_at text,
    writes integer not null, merges integer not null default 0
);
create index if not exists contacts_email on contacts (lower(email)) where archived_at is null;
create index if not exists contacts_lead_key on contacts (lead_key) where archived_at is null;
create index if not exists contacts_updated on contacts (updated_at);
create table if not exists unique_values (
    property text not null, value text not null, contact_id integer not null, primary key (property, value)
) without rowid;
create index if not exists unique_values_contact on unique_values (contact_id);
create table if not exists former_ids (id integer primary key, contact_id integer not null);
create table if not exists blocked_emails (email text primary key) without rowid;
create table if not exists custom_properties (name text primary key, definition text not null) without rowid;
insert into sqlite_sequence (name, seq) select 'contacts', 171591000000
    where not exists (select 1 from sqlite_sequence where name = 'contacts');
"""
_COLUMNS = "id, properties, created_at, updated_at, archived_at, merges"


@dataclass(frozen=True, slots=True)
class Contact:
    """One record. ``properties`` holds what was set, and what HubSpot sets itself."""

    id: str
    properties: dict[str, str]
    created_at: str
    updated_at: str
    archived_at: str | None
    merges: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers about all records. A duplicate is a living contact beyond the first with its e-mail or key."""

    contacts: int
    archived: int
    duplicates: int
    lead_keys: int
    writes_per_lead_key: dict[int, int]


class ContactStore:
    """Contacts and the account's properties. Not safe for several threads: the caller holds the lock."""

    def __init__(self, path: Path | None, *, key_property: str, custom_properties: tuple[str, ...] = ()) -> None:
        self._key_property = key_property
        self._custom_properties = custom_properties
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            # The journal outlives a killed process without an fsync per request; a power cut may cost the last second.
            self._db.executescript("pragma journal_mode = wal; pragma synchronous = normal;")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise LeadsError(f"the sandbox cannot keep its contacts in {path}: {error}") from error
        self.properties = built_in(key_property, custom_properties)
        for (definition,) in self._db.execute("select definition from custom_properties"):
            item = msgspec.json.decode(definition, type=Property)
            self.properties[item.name] = item

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

    def by_id(self, contact_id: str, *, archived: bool = False) -> Contact | None:
        """A contact by its id, or by one that it had before a merge."""
        if not (contact_id.isascii() and contact_id.isdigit() and len(contact_id) < 19):
            return None
        found = self._one("id = ?", int(contact_id))
        if found is None:
            survivor = self._db.execute("select contact_id from former_ids where id = ?", (int(contact_id),)).fetchone()
            found = self._one("id = ?", survivor[0]) if survivor else None
        return found if found is not None and (found.archived_at is not None) == archived else None

    def by_unique(self, name: str, value: str) -> Contact | None:
        """The living contact that holds a unique value; an e-mail also as a secondary one."""
        holder = self.holder_of(name, value)
        return None if holder is None else self._one("id = ?", int(holder))

    def holder_of(self, name: str, value: str) -> str | None:
        """The id of the living contact that holds a unique value."""
        folded = value.strip().lower() if name == EMAIL else value
        row = self._db.execute(
            "select contact_id from unique_values where property = ? and value = ?", (name, folded)
        ).fetchone()
        return None if row is None else str(row[0])

    def insert(self, values: dict[str, str], *, now: datetime) -> Contact:
        """A new record with HubSpot's own properties beside what was sent."""
        at = timestamp(now)
        cursor = self._db.execute(
            "insert into contacts (properties, created_at, updated_at, writes) values ('{}', ?, ?, 1)", (at, at)
        )
        assert cursor.lastrowid is not None
        contact_id = str(cursor.lastrowid)
        own = {
            "createdate": at,
            "hs_all_contact_vids": contact_id,
            "hs_is_contact": "true",
            "hs_is_unworked": "true",
            "hs_lifecyclestage_lead_date": str(int(now.timestamp() * 1000)),
            "hs_object_id": contact_id,
            "hs_object_source": "INTEGRATION",
            "hs_object_source_id": "1000001",
            "hs_object_source_label": "INTEGRATION",
            "hs_pipeline": "contacts-lifecycle-pipeline",
            "lifecyclestage": "lead",
            "num_notes": "0",
        }
        return self._keep(contact_id, own | values, at=at, changed=values, created_at=at)

    def update(self, contact: Contact, values: dict[str, str], *, now: datetime) -> Contact:
        """Set values; ``""`` clears one."""
        self._db.execute("update contacts set writes = writes + 1 where id = ?", (int(contact.id),))
        return self._keep(
            contact.id,
            contact.properties | values,
            at=timestamp(now),
            changed=values,
            created_at=contact.created_at,
            before=contact.properties,
            merges=contact.merges,
        )

    def archive(self, contact: Contact, *, now: datetime) -> None:
        """Take a contact out of sight; its e-mail and unique values become free."""
        self._db.execute("delete from unique_values where contact_id = ?", (int(contact.id),))
        self._db.execute("update contacts set archived_at = ? where id = ?", (timestamp(now), int(contact.id)))

    def erase(self, contact: Contact) -> None:
        """Remove a contact for good."""
        self._db.execute("delete from unique_values where contact_id = ?", (int(contact.id),))
        self._db.execute("delete from former_ids where contact_id = ?", (int(contact.id),))
        self._db.execute("delete from contacts where id = ?", (int(contact.id),))

    def block_email(self, email: str) -> None:
        """Refuse this e-mail from now on."""
        self._db.execute("insert or ignore into blocked_emails values (?)", (email.strip().lower(),))

    def is_blocked(self, email: str) -> bool:
        """Whether the e-mail was erased under the GDPR."""
        return self._db.execute("select 1 from blocked_emails where email = ?", (email,)).fetchone() is not None

    def merge(self, primary: Contact, other: Contact, *, keep_primary_id: bool, now: datetime) -> Contact:
        """Make one contact of two: the primary's values win, the other's e-mail becomes a secondary one.

        Both former ids, and the ids that were merged into them before, lead to the survivor.
        """
        values = {
            **{k: v for k, v in other.properties.items() if v},
            **{k: v for k, v in primary.properties.items() if v},
        }
        former = {primary.id, other.id}
        held = self._db.execute(
            "select property, value from unique_values where contact_id in (?, ?)", (int(primary.id), int(other.id))
        ).fetchall()
        for contact in (primary, other):
            self.archive(contact, now=now)
            self._db.execute("delete from contacts where id = ?", (int(contact.id),))
        merged_ids = [part for part in values.get("hs_merged_object_ids", "").split(";") if part]
        values["hs_merged_object_ids"] = ";".join(dict.fromkeys([*merged_ids, primary.id, other.id]))
        emails = [value for name, value in held if name == EMAIL and value != values.get(EMAIL)]
        if emails:
            values["hs_additional_emails"] = ";".join(sorted(emails))
        merges = primary.merges + other.merges + 1
        at = timestamp(now)
        cursor = self._db.execute(
            "insert into contacts (id, properties, created_at, updated_at, writes) values (?, '{}', ?, ?, 1)",
            (int(primary.id) if keep_primary_id else None, primary.created_at, at),
        )
        assert cursor.lastrowid is not None
        survivor = str(cursor.lastrowid)
        values["hs_object_id"] = survivor
        for old in former:
            self._db.execute("update former_ids set contact_id = ? where contact_id = ?", (int(survivor), int(old)))
            if old != survivor:
                self._db.execute("insert or replace into former_ids values (?, ?)", (int(old), int(survivor)))
        kept = self._keep(survivor, values, at=at, changed=values, created_at=primary.created_at, merges=merges)
        self._db.executemany(
            "insert or ignore into unique_values values (?, ?, ?)",
            [(EMAIL, email, int(survivor)) for email in emails],
        )
        return kept

    def page(self, *, after: int, limit: int, archived: bool = False) -> list[Contact]:
        """Contacts with ids above ``after``, in the order of ids."""
        rows = self._db.execute(
            f"select {_COLUMNS} from contacts where id > ? and (archived_at is not null) = ? order by id limit ?",  # noqa: S608
            (after, archived, limit),
        )
        return [_contact(row) for row in rows]

    def newest(self, limit: int) -> list[Contact]:
        """The contacts written last, newest first."""
        rows = self._db.execute(
            f"select {_COLUMNS} from contacts order by updated_at desc, id desc limit ?",  # noqa: S608
            (limit,),
        )
        return [_contact(row) for row in rows]

    def define(self, item: Property) -> None:
        """Add a custom property."""
        self.properties[item.name] = item
        self._db.execute("insert into custom_properties values (?, ?)", (item.name, msgspec.json.encode(item).decode()))

    def tally(self) -> Tally:
        """Count everything, from the rows themselves and not from the constraints."""
        living, archived = self._db.execute(
            "select count(*) filter (where archived_at is null), count(*) filter (where archived_at is not null) "
            "from contacts"
        ).fetchone()
        (duplicates,) = self._db.execute(
            """
            select count(*) from contacts c where archived_at is null and (
                exists (select 1 from contacts o where lower(o.email) = lower(c.email)
                        and o.archived_at is null and o.id < c.id)
                or exists (select 1 from contacts o where o.lead_key = c.lead_key
                           and o.archived_at is null and o.id < c.id))
            """
        ).fetchone()
        histogram = dict(
            self._db.execute(
                "select writes, count(*) from (select sum(writes) as writes from contacts "
                "where lead_key is not null group by lead_key) group by writes order by writes"
            ).fetchall()
        )
        return Tally(living, archived, duplicates, sum(histogram.values()), histogram)

    def writes(self, *, at_least: int, after: str, limit: int) -> dict[str, int]:
        """How often each lead key was written, archived records included; in the order of keys."""
        rows = self._db.execute(
            "select lead_key, sum(writes) from contacts where lead_key > ? "
            "group by lead_key having sum(writes) >= ? order by lead_key limit ?",
            (after, at_least, limit),
        )
        return dict(rows.fetchall())

    def clear(self) -> None:
        """Forget every contact, block and custom property."""
        with self.transaction():
            for table in ("contacts", "unique_values", "former_ids", "blocked_emails", "custom_properties"):
                self._db.execute(f"delete from {table}")  # noqa: S608
        self.properties = built_in(self._key_property, self._custom_properties)

    def _one(self, condition: str, value: Any) -> Contact | None:
        row = self._db.execute(f"select {_COLUMNS} from contacts where {condition}", (value,)).fetchone()  # noqa: S608
        return None if row is None else _contact(row)

    def _keep(
        self,
        contact_id: str,
        values: dict[str, str],
        *,
        at: str,
        changed: dict[str, str],
        created_at: str,
        before: Mapping[str, str] = MappingProxyType({}),
        merges: int = 0,
    ) -> Contact:
        values = {name: value for name, value in values.items() if value != ""}
        values |= {"lastmodifieddate": at, **_derived(values)}
        for name in changed.keys() & {name for name, item in self.properties.items() if item.unique}:
            self._db.execute("delete from unique_values where contact_id = ? and property = ?", (int(contact_id), name))
            if name in values:
                self._db.execute("insert into unique_values values (?, ?, ?)", (name, values[name], int(contact_id)))
        self._db.execute(
            "update contacts set properties = ?, email = ?, lead_key = ?, updated_at = ?, merges = ? where id = ?",
            (
                msgspec.json.encode(values).decode(),
                values.get(EMAIL),
                values.get(self._key_property),
                at,
                merges,
                int(contact_id),
            ),
        )
        return Contact(contact_id, values, created_at, at, None, merges)


def _derived(values: dict[str, str]) -> dict[str, str]:
    name = " ".join(part for part in (values.get("firstname"), values.get("lastname")) if part)
    email = values.get(EMAIL, "")
    derived = {"hs_full_name_or_email": name or email}
    if email:
        derived["hs_email_domain"] = email.rpartition("@")[2]
    return {key: value for key, value in derived.items() if value}


def _contact(row: Any) -> Contact:
    return Contact(
        id=str(row[0]),
        properties=msgspec.json.decode(row[1], type=dict[str, str]),
        created_at=row[2],
        updated_at=row[3],
        archived_at=row[4],
        merges=row[5],
    )
