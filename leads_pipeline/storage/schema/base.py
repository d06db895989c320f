"""The metadata that all tables share, and the columns that they are made of."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.schema import SchemaItem

SCHEMA = "leads"  # set as search_path by storage.database; Dagster's own tables live in "public"

# Partitioned by ranges of the UUIDv7 lead id, one partition a month: retention drops partitions.
PARTITIONED = ("raw_leads", "consent_events", "validated_leads", "rejected_leads")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def uuid_column(name: str, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, UUID(as_uuid=True), **{"nullable": False, **kw})


def text_column(name: str, *, personal: bool = False, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, info={"personal": personal}, **{"nullable": False, **kw})


def json_column(name: str, *, personal: bool = False, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, JSONB, info={"personal": personal}, **{"nullable": False, **kw})


def when_column(name: str, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), **{"nullable": False, **kw})


def int_column(name: str, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, **{"nullable": False, **kw})


def count_column(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def tenant_column() -> sa.Column[Any]:
    return text_column("tenant")


def stamp_columns() -> tuple[sa.Column[Any], ...]:
    """Who wrote the row: the chunk and the run, worker or command."""
    return uuid_column("batch_id"), text_column("runner_id")


def table(name: str, *items: SchemaItem, **kw: Any) -> sa.Table:
    if name in PARTITIONED:
        kw["postgresql_partition_by"] = "RANGE (lead_id)"
    return sa.Table(name, metadata, *items, **kw)
