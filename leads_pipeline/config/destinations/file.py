"""What a folder of files has besides what every destination has."""

from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from leads_pipeline.config.destinations.generic import GenericSettings

# The columns of a CSV file, and the keys of a line, that are not the contact's.
FILE_FIELDS = ("contact_id", "tenant", "version", "operation")


def _absolute(value: str) -> str:
    if not PurePath(value).is_absolute() or "\x00" in value:
        raise ValueError("allowed: an absolute path, such as /srv/exports/contacts")
    return value


class FileSettings(GenericSettings):
    """A folder that batches of contacts are written to, a file for each."""

    vendor: Literal["file"] = Field(description="Whose API it speaks.")
    directory: Annotated[str, AfterValidator(_absolute)] = Field(
        description="An absolute path; it must be there, so that an unmounted disk is not taken for an empty one."
    )
    format: Literal["ndjson", "csv"] = Field("ndjson", description="NDJSON keeps every value as it is; CSV is text.")
    batch_size: Annotated[int, Field(gt=0, le=10_000)] = Field(1000, description="Most contacts in one file.")

    @model_validator(mode="after")
    def _a_column_has_one_meaning(self) -> Self:
        taken = sorted(set(self.properties()) & set(FILE_FIELDS)) if self.format == "csv" else []
        if taken:
            raise ValueError(f"every CSV file has a column {taken[0]!r} already; map the field to another name")
        return self
