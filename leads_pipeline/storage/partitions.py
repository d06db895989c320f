"""Monthly partitions of the tables that grow with every lead, by ranges of the time-ordered lead id.

Each such table also has a default partition, so that a lead is stored even where nobody made its month; when the
month's partition is made later, those rows move into it.
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


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a table; without a month, the default one."""

    table: str
    month: Month | None

    @property
    def name(self) -> str:
        if self.month is None:
            return f"{self.table}_default"
        return f"{self.table}_y{self.month.year:04d}m{self.month.month:02d}"


_EXISTING = sa.text(
    "select child.relname from pg_inherits join pg_class child on child.oid = inhrelid "
    "where child.relnamespace = to_regnamespace(:schema)"
)


def missing_partitions(connection: sa.Connection, *, now: datetime, months_ahead: int = 3) -> list[Partition]:
    """What ``ensure_partitions`` would make, default partitions first."""
    existing: set[str] = set(connection.execute(_EXISTING, {"schema": SCHEMA}).scalars())
    # A lead that was captured just before midnight is moved in the new month with an id of the old one.
    months = [None, *(Month.of(now).plus(offset) for offset in range(-1, months_ahead + 1))]
    wanted = [Partition(table, month) for table in PARTITIONED for month in months]
    return [partition for partition in wanted if partition.name not in existing]


def ensure_partitions(connection: sa.Connection, *, now: datetime, months_ahead: int = 3) -> list[str]:
    """Make the partitions from last month to ``months_ahead`` months after ``now``, and each table's default one.

    Returns the names of those that were missing. Takes an advisory lock until the transaction ends. The connection's
    user must own the tables.
    """
    connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    missing = missing_partitions(connection, now=now, months_ahead=months_ahead)
    for partition in missing:
        if partition.month is None:
            connection.exec_driver_sql(
                f"create table {SCHEMA}.{partition.name} partition of {SCHEMA}.{partition.table} default"
            )
        else:
            _attach(connection, partition, partition.month)
    return [partition.name for partition in missing]


def _attach(connection: sa.Connection, partition: Partition, month: Month) -> None:
    """Build a month's partition aside and attach it, so that writers of the other months never wait.

    ``create table … partition of`` would lock the whole parent, and fail on rows of the month in the default partition.
    """
    name, parent = f"{SCHEMA}.{partition.name}", f"{SCHEMA}.{partition.table}"
    lower, upper = f"'{month.first_id}'", f"'{month.plus(1).first_id}'"
    connection.exec_driver_sql(f"create table {name} (like {parent} including all)")
    connection.exec_driver_sql(f"lock table {parent}_default in access exclusive mode")
    connection.exec_driver_sql(
        f"with stray as (delete from {parent}_default "  # noqa: S608 - names of our own tables, bounds are UUIDs
        f"where lead_id >= {lower} and lead_id < {upper} returning *) "
        f"insert into {name} select * from stray"
    )
    connection.exec_driver_sql(f"alter table {parent} attach partition {name} for values from ({lower}) to ({upper})")
