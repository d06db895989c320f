"""Monthly partitions of the tables that grow with every lead, by ranges of the time-ordered lead id.

Each such table also has a default partition, so that a lead is stored even where nobody made its month; when the month's
partition is made later, those rows move into it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import first_uuid7_at
from leads_pipeline.storage.schema import PARTITIONED, SCHEMA

# Racing callers must not both find a partition missing. Any constant that nobody else uses serves.
_LOCK_KEY = 0x1EAD5_0002


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month in UTC, and the lead ids that were made in it."""

    year: int
    month: int

    @classmethod
    def of(cls, instant: datetime) -> "Month":
        """The month that holds ``instant``."""
        utc = instant.astimezone(UTC)
        return cls(utc.year, utc.month)

    def plus(self, months: int) -> "Month":
        """The month so many months later, or earlier."""
        count = self.year * 12 + self.month - 1 + months
        return Month(count // 12, count % 12 + 1)

    @property
    def first_id(self) -> UUID:
        """The smallest lead id of the month: its inclusive lower bound, and the exclusive upper one of the last."""
        return first_uuid7_at(datetime(self.year, self.month, 1, tzinfo=UTC))

    def partition_of(self, table: str) -> str:
        """The name of the month's partition of ``table``."""
        return f"{table}_y{self.year:04d}m{self.month:02d}"


def ensure_partitions(connection: sa.Connection, *, now: datetime, months_ahead: int = 3) -> list[str]:
    """Make the partitions from last month to ``months_ahead`` months after ``now``, and each table's default one.

    Returns the names of those that were missing. Takes an advisory lock until the transaction ends. The connection's
    user must own the tables.
    """
    connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    existing = set(
        connection.execute(
            sa.text(
                "select child.relname from pg_inherits join pg_class child on child.oid = inhrelid "
                "where child.relnamespace = cast(:schema as regnamespace)"
            ),
            {"schema": SCHEMA},
        ).scalars()
    )
    created = []
    for table in PARTITIONED:
        default = f"{table}_default"
        if default not in existing:
            connection.exec_driver_sql(f"create table {SCHEMA}.{default} partition of {SCHEMA}.{table} default")
            created.append(default)
        # A lead that was captured just before midnight is moved in the new month with an id of the old one.
        for offset in range(-1, months_ahead + 1):
            month = Month.of(now).plus(offset)
            name = month.partition_of(table)
            if name not in existing:
                _create(connection, table=table, name=name, month=month)
                created.append(name)
    return created


def _create(connection: sa.Connection, *, table: str, name: str, month: Month) -> None:
    """Build the partition aside and attach it, so that writers of the other months never wait.

    ``create table … partition of`` would lock the whole parent, and fail on rows of the month in the default partition.
    """
    lower, upper = month.first_id, month.plus(1).first_id
    default = f"{table}_default"
    connection.exec_driver_sql(f"create table {SCHEMA}.{name} (like {SCHEMA}.{table} including all)")
    connection.exec_driver_sql(f"lock table {SCHEMA}.{default} in access exclusive mode")
    connection.exec_driver_sql(
        f"with stray as (delete from {SCHEMA}.{default} "  # noqa: S608 - names of our own tables, bounds are UUIDs
        f"where lead_id >= '{lower}' and lead_id < '{upper}' returning *) "
        f"insert into {SCHEMA}.{name} select * from stray"
    )
    connection.exec_driver_sql(
        f"alter table {SCHEMA}.{table} attach partition {SCHEMA}.{name} for values from ('{lower}') to ('{upper}')"
    )
