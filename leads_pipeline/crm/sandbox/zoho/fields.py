"""The fields of a module: which exist, what their values may be, and Zoho's words for a wrong one.

A subset of the fields of Leads, enough for contacts. Names that no field has are ignored, as Zoho does.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from leads_pipeline.crm.sandbox.zoho.answers import Refusal, invalid_data, missing

EMAIL = "Email"
LAST_NAME = "Last_Name"
MODULES = ("Leads", "Contacts")

_EMAIL = re.compile(r"[^\s@,;<>()\[\]\"\\]+@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_][\w-]*[^\W_]")
# JSON's types of values, by the type of a field.
_NUMBERS = ("integer", "bigint", "double", "currency")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a module."""

    api_name: str
    data_type: str = "text"
    length: int = 255
    mandatory: bool = False
    unique: bool = False
    read_only: bool = False
    custom: bool = False
    options: tuple[str, ...] = ()

    def shown(self, place: int) -> dict[str, Any]:
        """As the settings API shows it."""
        shown: dict[str, Any] = {
            "id": str(6493490000000002000 + place),
            "api_name": self.api_name,
            "field_label": self.api_name.replace("_", " "),
            "display_label": self.api_name.replace("_", " "),
            "data_type": self.data_type,
            "json_type": "boolean" if self.data_type == "boolean" else "string",
            "length": self.length,
            "system_mandatory": self.mandatory,
            "read_only": self.read_only,
            "field_read_only": self.read_only,
            "custom_field": self.custom,
            "visible": True,
            "unique": {"casesensitive": False} if self.unique else {},
            "operation_type": {
                "web_create": not self.read_only,
                "web_update": not self.read_only,
                "api_create": not self.read_only,
                "api_update": not self.read_only,
            },
            "pick_list_values": [
                {"id": str(6493490000000003000 + number), "display_value": option, "actual_value": option,
                 "sequence_number": number, "type": "used"}
                for number, option in enumerate(self.options, start=1)
            ],
        }  # fmt: skip
        return shown


_SOURCES = ("-None-", "Advertisement", "Cold Call", "Employee Referral", "External Referral", "Web Download",
            "Web Research", "Trade Show")  # fmt: skip
_BUILT_IN = (
    Field(LAST_NAME, length=80, mandatory=True),
    Field("First_Name", length=40),
    Field("Phone", "phone", 30),
    Field("Mobile", "phone", 30),
    Field("Fax", length=30),
    Field("Company", length=100),
    Field("Designation", length=100),
    Field("Website", "website", 120),
    Field("Street", length=250),
    Field("City", length=100),
    Field("State", length=100),
    Field("Zip_Code", length=30),
    Field("Country", length=100),
    Field("Description", "textarea", 32_000),
    Field("Lead_Source", "picklist", 120, options=_SOURCES),
    Field("Email_Opt_Out", "boolean", 5),
    Field("Annual_Revenue", "currency", 16),
    Field("No_of_Employees", "integer", 9),
    Field("Tag", "text", read_only=True),
    Field("Created_Time", "datetime", read_only=True),
    Field("Modified_Time", "datetime", read_only=True),
)


def names_beyond(names: Iterable[str]) -> tuple[str, ...]:
    """Those of a mapping's fields that Zoho does not bring: an organisation must have made them."""
    return tuple(sorted(set(names) - built_in("").keys()))


def built_in(key_property: str, custom: Iterable[str] = (), *, unique_email: bool = False) -> dict[str, Field]:
    """Zoho's own fields, custom texts, and the custom unique one that holds our key."""
    known = (
        *_BUILT_IN,
        Field(EMAIL, "email", 100, unique=unique_email),
        *(Field(name, custom=True) for name in custom),
        Field(key_property, unique=True, custom=True),
    )
    return {item.api_name: item for item in known}


def checked(entry: Mapping[str, Any], known: Mapping[str, Field], *, place: int, new: bool) -> dict[str, Any] | Refusal:
    """The values of one record as Zoho keeps them (``None`` clears), or the first that it does not take."""
    kept: dict[str, Any] = {}
    for name, sent in entry.items():
        item = known.get(name)
        if item is None or item.read_only:
            continue
        value = None if sent == "" else sent
        if value is None and item.mandatory:
            return missing(name, place=place)
        fault = None if value is None else _fault(item, value, place=place)
        if fault is not None:
            return fault
        kept[name] = value
    if new:
        for item in known.values():
            if item.mandatory and kept.get(item.api_name) is None:
                return missing(item.api_name, place=place)
    return kept


def _fault(item: Field, value: Any, *, place: int) -> Refusal | None:
    name = item.api_name
    if item.data_type == "boolean":
        return None if isinstance(value, bool) else invalid_data(name, place=place, expected_data_type="boolean")
    if item.data_type in _NUMBERS:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if is_number else invalid_data(name, place=place, expected_data_type=item.data_type)
    if not isinstance(value, str):
        return invalid_data(name, place=place, expected_data_type="text")
    if len(value) > item.length:
        return invalid_data(name, place=place, maximum_length=item.length)
    if item.data_type == "email" and not _EMAIL.fullmatch(value):
        return invalid_data(name, place=place, expected_data_type="email")
    return None
