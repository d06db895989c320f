"""The statements by which rows are written, for one table. Every name is quoted; values are parameters only. Pure.

Rows come as one JSON array, which PostgreSQL reads into the types of the columns that are sent. Rows of one statement
have the same columns: what we do not know of a contact is left as it is, as the table's users may have filled it in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from psycopg.sql import SQL, Composable, Composed, Identifier

from leads_pipeline.config import SqlSettings

_DEFAULT_SCHEMA = "public"

# The columns that our role may see; whether one alone is unique; the labels of an enumeration.
COLUMNS = """
select c.column_name, c.data_type, c.udt_name, c.character_maximum_length,
    c.is_nullable = 'NO' and c.column_default is null and c.is_identity = 'NO' as required,
    c.is_generated <> 'NEVER' or coalesce(c.identity_generation = 'ALWAYS', false) as read_only,
    exists (
        select from pg_index i
        join pg_class t on t.oid = i.indrelid join pg_namespace n on n.oid = t.relnamespace
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
        where n.nspname = c.table_schema and t.relname = c.table_name and a.attname = c.column_name
            and i.indisunique and i.indisvalid and i.indnkeyatts = 1 and i.indpred is null
    ) as is_unique,
    (
        select array_agg(cast(e.enumlabel as text)) from pg_enum e
        join pg_type y on y.oid = e.enumtypid join pg_namespace n on n.oid = y.typnamespace
        where y.typname = c.udt_name and n.nspname = c.udt_schema
    ) as labels
from information_schema.columns c
where c.table_schema = %s and c.table_name = %s
order by c.ordinal_position
"""

# Without lengths: those are checked as the row is written, and may be changed meanwhile.
TYPES = """
select a.attname, format_type(a.atttypid, -1)
from pg_attribute a join pg_class t on t.oid = a.attrelid join pg_namespace n on n.oid = t.relnamespace
where n.nspname = %s and t.relname = %s and a.attnum > 0 and not a.attisdropped
"""

# For this transaction alone, so that a pool of connections on the way hands nothing on. Constraints that wait for the
# commit would blame it on nobody.
BEGIN = """
select set_config('statement_timeout', %(statement)s, true), set_config('lock_timeout', %(lock)s, true),
    set_config('idle_in_transaction_session_timeout', %(idle)s, true)
"""
CONSTRAINTS_AT_ONCE = "set constraints all immediate"
REST_OF_TIME = "select set_config('statement_timeout', %s, true)"
SHORT_LOCK_WAIT = "select set_config('lock_timeout', '100ms', true)"


@dataclass(frozen=True, slots=True)
class Table:
    """A table and the columns of it that have a meaning of ours. ``archived`` of ``None``: archived rows go.

    ``types``: the columns' types, as SQL writes them; without them there are no statements.
    """

    schema: str
    name: str
    key: str
    version: str
    tenant: str | None
    archived: str | None
    types: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """For people."""
        return f"{self.schema}.{self.name}"

    def upsert(self, columns: Sequence[str]) -> Composed:
        """Rows with these columns, the key and the version among them. A newer version stays, and is not returned."""
        changed = [name for name in columns if name != self.key]
        if self.archived is not None and self.archived not in changed:
            changed.append(self.archived)
        all_columns = [self.key, *changed]
        return SQL(
            "insert into {table} as held ({columns}) select {columns} from {given} "
            "on conflict ({key}) do update set {changes} "
            "where coalesce(excluded.{version} >= held.{version}, true) returning cast({key} as text)"
        ).format(
            **self._names(),
            columns=SQL(", ").join(map(_name, all_columns)),
            given=self._given(all_columns),
            changes=SQL(", ").join(SQL("{0} = excluded.{0}").format(_name(name)) for name in changed),
        )

    def update(self, columns: Sequence[str]) -> Composed:
        """The same of rows that are there; none is made."""
        changed = [name for name in columns if name != self.key]
        return SQL(
            "update {table} as held set {changes} from {given} "
            "where held.{key} = given.{key} and coalesce(given.{version} >= held.{version}, true) "
            "returning cast(held.{key} as text)"
        ).format(
            **self._names(),
            given=self._given([self.key, *changed]),
            changes=SQL(", ").join(SQL("{0} = given.{0}").format(_name(name)) for name in changed),
        )

    def archive(self) -> Composed:
        """Mark the rows, or delete them; a newer version stays as it is."""
        return SQL(
            "{removed} {given} "
            "where held.{key} = given.{key} and coalesce(given.{version} >= held.{version}, true) "
            "returning cast(held.{key} as text)"
        ).format(
            **self._names(),
            removed=self._deleted() if self.archived is None else self._marked(self.archived),
            given=self._given([self.key, self.version]),
        )

    def erase(self) -> Composed:
        """Delete the rows, whatever their version."""
        return SQL(
            "delete from {table} as held using {given} "
            "where held.{key} = given.{key} returning cast(held.{key} as text)"
        ).format(**self._names(), given=self._given([self.key]))

    def present(self) -> Composed:
        """Which of these keys have a row."""
        return SQL(
            "select cast(held.{key} as text) from {table} as held join {given} on held.{key} = given.{key}"
        ).format(**self._names(), given=self._given([self.key]))

    def _deleted(self) -> Composed:
        return SQL("delete from {table} as held using").format(**self._names())

    def _marked(self, archived: str) -> Composed:
        return SQL(
            "update {table} as held set {archived} = coalesce(held.{archived}, now()), {version} = given.{version} from"
        ).format(**self._names(), archived=_name(archived))

    def _given(self, columns: Sequence[str]) -> Composed:
        """The rows that are sent. One of a column that is not there is any: the database will say that it is not."""
        typed = [SQL("{} {}").format(_name(name), _type(self.types.get(name, "text"))) for name in columns]
        return SQL("jsonb_to_recordset(%s) as given ({})").format(SQL(", ").join(typed))

    def _names(self) -> dict[str, Composable]:
        return {
            "table": SQL(".").join(map(_name, (self.schema, self.name))),
            "key": _name(self.key),
            "version": _name(self.version),
        }


def _name(name: str) -> Identifier:
    """A name, quoted. Where there are parameters the driver reads % as the beginning of one, in quotes as well."""
    return Identifier(name.replace("%", "%%"))


def _type(name: str) -> SQL:
    """A type as the database itself writes it, quoted where it must be."""
    return SQL(name.replace("%", "%%"))


def table_of(settings: SqlSettings) -> Table:
    """The table that leads.yaml names."""
    schema, _, name = settings.table.rpartition(".")
    return Table(
        schema=schema or _DEFAULT_SCHEMA,
        name=name,
        key=settings.key_column,
        version=settings.version_column,
        tenant=settings.tenant_column,
        archived=settings.archived_column if settings.archive == "mark" else None,
    )
