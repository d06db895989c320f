"""The sandbox's contacts, in SQLite: in memory, or in a file that survives a restart and a kill.

One transaction per request, committed before the answer. Keep out: what a value may be (``properties``), who holds a
unique one (``identities``), and what is answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from leads_pipeline.crm.sandbox.hubspot import identities
from leads_pipeline.crm.sandbox.hubspot.answers import timestamp
from leads_pipeline.crm.sandbox.hubspot.identities import Identities
from leads_pipeline.crm.sandbox.hubspot.properties import EMAIL, Property, built_in
from leads_pipeline.crm.sandbox.store_file import StoreFile
from leads_pipeline.crm.sandbox.vendor import Tally

_VERSION = 1
_SCHEMA = """
create table if not exists contacts (
    id integer primary key autoincrement, properties text not null, email text, lead_key text,
    created_at text not null, updated_at text not null, archived_at text, merges integer not null default 0
);
create index if not exists contacts_email on contacts (lower(email)) where archived_at is null;
create index if not exists contacts_lead_key on contacts (lead_key) where archived_at is null;
create index if not exists contacts_updated on contacts (updated_at);
create table if not exists custom_properties (name text primary key, definition text not null) without rowid;
insert into sqlite_sequence (name, seq) select 'contacts', 171591000000
    where not exists (select 1 from sqlite_sequence where name = 'contacts');
"""
_TABLES = ("contacts", "key_writes", "custom_properties", *identities.TABLES)
_COLUMNS = "id, properties, created_at, updated_at, archived_at, merges"


@dataclass(frozen=True, slots=True)
class Contact:
    """One record. ``properties`` holds what was set, and what HubSpot sets itself."""

    id: str
    properties: dict[str, str]
    created_at: str
    updated_at: str
    archived_at: str | None = None
    merges: int = 0


class ContactStore(StoreFile):
    """Contacts and the account's properties. Not safe for several threads: the caller holds the lock."""

    def __init__(self, path: Path | None, *, key_property: str, custom_properties: tuple[str, ...] = ()) -> None:
        self._key_property = key_property
        self._custom_properties = custom_properties
        super().__init__(path, vendor="HubSpot", version=_VERSION, schema=_SCHEMA + identities.SCHEMA)
        self.identities = Identities(self._db)
        self.properties = built_in(key_property, custom_properties)
        for (definition,) in self._db.execute("select definition from custom_properties"):
            item = msgspec.json.decode(definition, type=Property)
            self.properties[item.name] = item

    def by_id(self, contact_id: str, *, archived: bool = False) -> Contact | None:
        """A contact by its id, or by one that it had before a merge."""
        if not (contact_id.isascii() and contact_id.isdigit() and len(contact_id) < 19):
            return None
        found = self._find(int(contact_id)) or self._find(self.identities.survivor_of(int(contact_id)))
        return found if found is not None and (found.archived_at is not None) == archived else None

    def by_unique(self, name: str, value: str) -> Contact | None:
        """The living contact that holds a unique value; an e-mail also as a secondary one."""
        return self._find(self.identities.holder_of(name, value))

    def insert(self, values: Mapping[str, str], *, now: datetime) -> Contact:
        """A new record with HubSpot's own properties beside what was sent."""
        at = timestamp(now)
        contact_id = self._new_row(None, created_at=at)
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
        return self._write(Contact(contact_id, {}, at, at), {**own, **values}, at=at)

    def update(self, contact: Contact, values: Mapping[str, str], *, now: datetime) -> Contact:
        """Set values; ``""`` clears one."""
        return self._write(contact, {**contact.properties, **values}, at=timestamp(now))

    def archive(self, contact: Contact, *, now: datetime) -> None:
        """Take a contact out of sight; its e-mail and unique values become free."""
        self.identities.release(int(contact.id))
        self._db.execute("update contacts set archived_at = ? where id = ?", (timestamp(now), int(contact.id)))

    def erase(self, contact: Contact) -> None:
        """Remove a contact for good."""
        self.identities.release(int(contact.id))
        self.identities.forget_former(int(contact.id))
        self._db.execute("delete from contacts where id = ?", (int(contact.id),))

    def merge(self, primary: Contact, other: Contact, *, keep_primary_id: bool, now: datetime) -> Contact:
        """Make one contact of two: the primary's values win, the other's e-mail becomes a secondary one.

        Both former ids, and the ids that were merged into them before, lead to the survivor.
        """
        at = timestamp(now)
        values = {**other.properties, **primary.properties}
        emails = []
        for contact in (primary, other):
            emails += [value for name, value in self.identities.held_by(int(contact.id)) if name == EMAIL]
            self.identities.release(int(contact.id))
            self._db.execute("delete from contacts where id = ?", (int(contact.id),))
        secondary = sorted(email for email in emails if email != values.get(EMAIL))
        merged = ";".join(c.properties.get("hs_merged_object_ids", "") for c in (primary, other)).split(";")
        survivor = self._new_row(int(primary.id) if keep_primary_id else None, created_at=primary.created_at)
        for former in (primary.id, other.id):
            self.identities.lead(int(former), to=int(survivor))
        values |= {
            "hs_additional_emails": ";".join(secondary),
            "hs_merged_object_ids": ";".join(filter(None, [*merged, primary.id, other.id])),
            "hs_object_id": survivor,
        }
        fresh = Contact(survivor, {}, primary.created_at, at, merges=primary.merges + other.merges + 1)
        kept = self._write(fresh, values, at=at, counted=False)
        for email in secondary:
            self.identities.hold(int(survivor), EMAIL, email)
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
        """Count everything, from the rows themselves and not from the constraints.

        A duplicate is a living contact beyond the first with its e-mail or key.
        """
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
        histogram = self._keys_by_writes()
        return Tally(living, archived, duplicates, sum(histogram.values()), histogram)

    def clear(self) -> None:
        """Forget every contact, count, block and custom property."""
        with self.transaction():
            for table in _TABLES:
                self._db.execute(f"delete from {table}")  # noqa: S608
        self.properties = built_in(self._key_property, self._custom_properties)

    def _find(self, contact_id: int | None) -> Contact | None:
        row = self._db.execute(f"select {_COLUMNS} from contacts where id = ?", (contact_id,)).fetchone()  # noqa: S608
        return None if row is None else _contact(row)

    def _new_row(self, contact_id: int | None, *, created_at: str) -> str:
        cursor = self._db.execute(
            "insert into contacts (id, properties, created_at, updated_at) values (?, '{}', ?, ?)",
            (contact_id, created_at, created_at),
        )
        return str(cursor.lastrowid)

    def _write(self, contact: Contact, values: Mapping[str, str], *, at: str, counted: bool = True) -> Contact:
        """Give a contact's row these values; ``contact`` is as it was before."""
        kept = {name: value for name, value in values.items() if value != ""}
        kept |= {"lastmodifieddate": at, **_derived(kept)}
        kept = {name: value for name, value in kept.items() if value != ""}
        self.identities.change(int(contact.id), before=contact.properties, after=kept, known=self.properties)
        key = kept.get(self._key_property)
        self._db.execute(
            "update contacts set properties = ?, email = ?, lead_key = ?, updated_at = ?, merges = ? where id = ?",
            (msgspec.json.encode(kept).decode(), kept.get(EMAIL), key, at, contact.merges, int(contact.id)),
        )
        if key is not None and counted:
            self._count_write(key)
        return Contact(contact.id, kept, contact.created_at, at, None, contact.merges)


def _derived(values: Mapping[str, str]) -> dict[str, str]:
    name = " ".join(part for part in (values.get("firstname"), values.get("lastname")) if part)
    email = values.get(EMAIL, "")
    return {"hs_full_name_or_email": name or email, "hs_email_domain": email.rpartition("@")[2]}


def _contact(row: Any) -> Contact:
    return Contact(
        id=str(row[0]),
        properties=msgspec.json.decode(row[1], type=dict[str, str]),
        created_at=row[2],
        updated_at=row[3],
        archived_at=row[4],
        merges=row[5],
    )
