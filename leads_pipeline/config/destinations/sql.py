"""What a table of a PostgreSQL database has besides what every destination has."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from leads_pipeline.config.base import SecretRef
from leads_pipeline.config.destinations.generic import GenericSettings

_MOST_BYTES = 63  # of a name; PostgreSQL cuts what is longer, and another object would be meant
_TABLE = re.compile(r"[^.\"\x00]+(\.[^.\"\x00]+)?")


def _identifier(value: str) -> str:
    if not value or "\x00" in value or len(value.encode()) > _MOST_BYTES:
        raise ValueError(f"not a column's name; allowed: 1 to {_MOST_BYTES} bytes, written as PostgreSQL shows it")
    return value


def _table(value: str) -> str:
    if not _TABLE.fullmatch(value) or any(len(part.encode()) > _MOST_BYTES for part in value.split(".")):
        raise ValueError("not a table's name; allowed: schema.table, or table, without quotation marks")
    return value


Column = Annotated[str, AfterValidator(_identifier)]


class SqlSettings(GenericSettings):
    """A table of a PostgreSQL database, one row for each contact."""

    vendor: Literal["sql"] = Field(description="Whose API it speaks.")
    url: SecretRef = Field(description="Names the variable that holds postgresql://user:password@host/name.")
    table: Annotated[str, AfterValidator(_table)] = Field(
        description="schema.table, or table (of the schema public); upper and lower case as PostgreSQL has them."
    )
    key_column: Column = Field("contact_id", description="Holds our contact id; has a unique index of its own.")
    version_column: Column = Field(
        "version", description="Holds the version of what stands in the row; an older one changes nothing."
    )
    tenant_column: Column | None = Field(None, description="Holds the tenant, if there is one.")
    archive: Literal["mark", "delete"] = Field(
        "mark", description="What becomes of the row of a contact that is no more; one that is erased is deleted."
    )
    archived_column: Column = Field("archived_at", description="For `mark`: holds when; empty while the contact is.")
    batch_size: Annotated[int, Field(gt=0, le=5000)] = Field(500, description="Rows in one transaction.")

    def key(self) -> str:
        """See ``DestinationSettings.key``."""
        return self.key_column

    def own_columns(self) -> dict[str, str]:
        """The columns that we fill in beside the mapping, by their setting."""
        columns = {"key_column": self.key_column, "version_column": self.version_column}
        if self.tenant_column is not None:
            columns["tenant_column"] = self.tenant_column
        if self.archive == "mark":
            columns["archived_column"] = self.archived_column
        return columns

    @model_validator(mode="after")
    def _a_column_has_one_meaning(self) -> Self:
        mapped, seen = self.properties(), dict[str, str]()
        for setting, column in self.own_columns().items():
            other = seen.setdefault(column, setting)
            if other != setting or column in mapped:
                where = other if other != setting else "mapping or constants"
                raise ValueError(f"{setting} and {where} both fill in the column {column!r}; give each its own")
        return self
