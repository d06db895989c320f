"""The account's contact properties: which exist, what their values may be, and HubSpot's words for a wrong one.

A subset of HubSpot's own properties, enough for leads; more are made with ``POST …/properties/contacts``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from leads_pipeline.crm.sandbox.hubspot.answers import PropertyFault

MAX_TEXT = 65_536  # characters, through the API
MAX_UNIQUE_PROPERTIES = 10
EMAIL = "email"

_EMAIL = re.compile(r"[^\s@,;<>()\[\]\"\\]+@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_][\w-]*[^\W_]")


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a contact."""

    name: str
    label: str
    type: str = "string"
    field_type: str = "text"
    options: tuple[str, ...] = ()
    unique: bool = False
    read_only: bool = False
    custom: bool = False
    group: str = "contactinformation"

    def shown(self) -> dict[str, Any]:
        """As the properties API shows it."""
        return {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type,
            "description": "",
            "groupName": self.group,
            "options": [
                {"label": option, "value": option, "displayOrder": order, "hidden": False}
                for order, option in enumerate(self.options)
            ],
            "displayOrder": -1,
            "calculated": False,
            "externalOptions": False,
            "archived": False,
            "hasUniqueValue": self.unique,
            "hidden": False,
            "hubspotDefined": not self.custom,
            "modificationMetadata": {
                "archivable": self.custom,
                "readOnlyDefinition": not self.custom,
                "readOnlyValue": self.read_only,
            },
            "formField": not self.read_only,
        }


_LIFECYCLE = ("subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer",
              "evangelist", "other")  # fmt: skip
_LEAD_STATUS = ("NEW", "OPEN", "IN_PROGRESS", "OPEN_DEAL", "UNQUALIFIED", "ATTEMPTED_TO_CONTACT", "CONNECTED",
                "BAD_TIMING")  # fmt: skip
_TEXTS = ("firstname", "lastname", "phone", "mobilephone", "company", "jobtitle", "address", "city", "state", "zip",
          "country", "website", "fax", "salutation", "date_of_birth", "industry", "message", "degree", "school",
          "gender", "field_of_study", "hs_additional_emails", "hubspot_owner_id", "twitterhandle")  # fmt: skip
_READ_ONLY = ("hs_object_id", "hs_object_source", "hs_object_source_id", "hs_object_source_label", "hs_email_domain",
              "hs_full_name_or_email", "hs_is_contact", "hs_is_unworked", "hs_pipeline", "hs_merged_object_ids",
              "hs_all_contact_vids", "hs_analytics_source", "hs_lifecyclestage_lead_date", "num_notes",
              "num_unique_conversion_events", "hs_calculated_phone_number")  # fmt: skip


def names_beyond(names: Iterable[str]) -> tuple[str, ...]:
    """Those of a mapping's properties that HubSpot does not bring: an account must have made them."""
    return tuple(sorted(set(names) - built_in("").keys()))


def built_in(key_property: str, custom: Iterable[str] = ()) -> dict[str, Property]:
    """HubSpot's own properties, custom texts, and the custom unique one that holds our key."""
    known = [
        Property(EMAIL, "Email", unique=True),
        *(Property(name, name.replace("_", " ").capitalize()) for name in _TEXTS),
        Property("annualrevenue", "Annual revenue"),
        Property("lifecyclestage", "Lifecycle stage", "enumeration", "radio", _LIFECYCLE),
        Property("hs_lead_status", "Lead status", "enumeration", "radio", _LEAD_STATUS),
        Property("closedate", "Close date", "datetime", "date"),
        Property("createdate", "Create date", "datetime", "date", read_only=True),
        Property("lastmodifieddate", "Last modified date", "datetime", "date", read_only=True),
        *(Property(name, name.replace("_", " ").capitalize(), read_only=True) for name in _READ_ONLY),
        *(Property(name, name.replace("_", " ").capitalize(), custom=True) for name in custom),
        Property(key_property, "Lead key", unique=True, custom=True),
    ]
    return {item.name: item for item in known}


def check_values(
    sent: Mapping[str, str | None], known: Mapping[str, Property]
) -> tuple[dict[str, str], list[PropertyFault]]:
    """The values as HubSpot keeps them (e-mails in lower case, ``""`` for nothing) and every fault."""
    kept: dict[str, str] = {}
    faults: list[PropertyFault] = []
    for name, value in sent.items():
        item = known.get(name)
        if item is None:
            faults.append(PropertyFault(name, "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist'))
            continue
        text = "" if value is None else value
        fault = _fault(item, text)
        if fault is not None:
            faults.append(fault)
        else:
            kept[name] = text.strip().lower() if name == EMAIL else text
    return kept, faults


def _fault(item: Property, value: str) -> PropertyFault | None:
    if item.read_only:
        message = f'"{item.name}" is a read only property; its value cannot be set.'
        return PropertyFault(item.name, "READ_ONLY_VALUE", message)
    if value == "":
        return None
    if len(value) > MAX_TEXT:
        return PropertyFault(item.name, "PROPERTY_VALUE_TOO_LONG", f"The value is longer than {MAX_TEXT} characters.")
    if item.name == EMAIL:
        if _EMAIL.fullmatch(value.strip()):
            return None
        return PropertyFault(item.name, "INVALID_EMAIL", f"Email address {value} is invalid")
    options = ("true", "false") if item.type == "bool" else item.options
    if item.type in ("bool", "enumeration") and value not in options:
        message = f"{value} was not one of the allowed options: [{', '.join(options)}]"
        return PropertyFault(item.name, "INVALID_OPTION", message)
    if item.type == "number" and not _is_number(value):
        return PropertyFault(item.name, "INVALID_INTEGER", f"{value} was not a valid number.")
    if item.type == "date" and not _is_date(value):
        return PropertyFault(item.name, "INVALID_DATE", f"{value} was not a valid date.")
    return None


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _is_date(value: str) -> bool:
    # Either a day, or that day's midnight UTC in Unix milliseconds.
    if value.lstrip("-").isdigit():
        return int(value) % 86_400_000 == 0
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True
