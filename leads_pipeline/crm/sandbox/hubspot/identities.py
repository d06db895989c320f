"""Who holds which e-mail, unique value and former id: a primary key each, as at the vendor, so none has two holders."""

import sqlite3
from collections.abc import Mapping

from leads_pipeline.crm.sandbox.hubspot.properties import EMAIL, Property

SCHEMA = """
create table if not exists unique_values (
    property text not null, value text not null, contact_id integer not null, primary key (property, value)
) without rowid;
create index if not exists unique_values_contact on unique_values (contact_id);
create table if not exists former_ids (id integer primary key, contact_id integer not null);
create index if not exists former_ids_contact on former_ids (contact_id);
create table if not exists blocked_emails (email text primary key) without rowid;
"""
TABLES = ("unique_values", "former_ids", "blocked_emails")


class Identities:
    """Works inside the caller's transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    def holder_of(self, name: str, value: str) -> int | None:
        """The contact that holds a unique value; an e-mail also as a secondary one."""
        folded = value.strip().lower() if name == EMAIL else value
        row = self._db.execute(
            "select contact_id from unique_values where property = ? and value = ?", (name, folded)
        ).fetchone()
        return None if row is None else int(row[0])

    def survivor_of(self, former_id: int) -> int | None:
        """The contact that another one was merged into."""
        row = self._db.execute("select contact_id from former_ids where id = ?", (former_id,)).fetchone()
        return None if row is None else int(row[0])

    def change(
        self, contact_id: int, *, before: Mapping[str, str], after: Mapping[str, str], known: Mapping[str, Property]
    ) -> None:
        """Hand over the unique values that differ. The caller has made sure that no other contact holds a new one."""
        for name in before.keys() | after.keys():
            old, new = before.get(name), after.get(name)
            if old == new or name not in known or not known[name].unique:
                continue
            for value in {old, new} - {None}:  # the new one may have been this contact's secondary e-mail
                self._db.execute(
                    "delete from unique_values where property = ? and value = ? and contact_id = ?",
                    (name, value, contact_id),
                )
            if new is not None:
                self.hold(contact_id, name, new)

    def hold(self, contact_id: int, name: str, value: str) -> None:
        """Give a value that is free to a contact."""
        self._db.execute("insert into unique_values values (?, ?, ?)", (name, value, contact_id))

    def held_by(self, contact_id: int) -> list[tuple[str, str]]:
        """Every unique value of a contact, secondary e-mails too."""
        rows = self._db.execute(
            "select property, value from unique_values where contact_id = ? order by property, value", (contact_id,)
        )
        return rows.fetchall()

    def release(self, contact_id: int) -> None:
        """Free everything that a contact holds."""
        self._db.execute("delete from unique_values where contact_id = ?", (contact_id,))

    def lead(self, former_id: int, *, to: int) -> None:
        """Let a former id, and whatever led to it, lead to a survivor."""
        self._db.execute("update former_ids set contact_id = ? where contact_id = ?", (to, former_id))
        if former_id != to:
            self._db.execute("insert or replace into former_ids values (?, ?)", (former_id, to))

    def forget_former(self, contact_id: int) -> None:
        """Drop the former ids of a contact that is erased."""
        self._db.execute("delete from former_ids where contact_id = ?", (contact_id,))

    def block(self, email: str) -> None:
        """Refuse an e-mail from now on."""
        self._db.execute("insert or ignore into blocked_emails values (?)", (email.strip().lower(),))

    def is_blocked(self, email: str) -> bool:
        """Whether an e-mail was erased under the GDPR."""
        return self._db.execute("select 1 from blocked_emails where email = ?", (email,)).fetchone() is not None
