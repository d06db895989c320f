"""Which fields a destination has and what each takes, whatever the vendor.

Pure. Add what a mapping can be checked against. Keep out: how a vendor tells it (``crm``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class FieldType(StrEnum):
    """What a field takes."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    CHOICE = "choice"  # one of its options
    CHOICES = "choices"  # any number of its options
    OTHER = "other"  # a file, a reference to another record: what a golden contact has no value for


@dataclass(frozen=True, slots=True)
class FieldSchema:
    """One field under the vendor's name. ``options`` of ``None``: any value, or a list that is not told."""

    name: str
    type: FieldType
    required: bool = False
    read_only: bool = False
    unique: bool = False
    max_length: int | None = None  # characters
    options: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class DestinationSchema:
    """The fields of a destination's contacts, by name; one that ``is_open`` takes whatever else it is sent, too."""

    fields: Mapping[str, FieldSchema]
    is_open: bool = False
