"""The fields of leads and contacts: which exist, what their values may be, and Salesforce's words for a wrong one.

Lengths are those of the field reference (Lead's Title from memory). A subset, enough for leads; every org may add its
own, which are ``custom`` here and texts.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from leads_pipeline.crm.sandbox.salesforce.answers import RecordFault

MAX_TEXT = 255  # of a custom text field
_EMAIL = re.compile(r"[^\s@,;<>()\[\]\"\\]+@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_][\w-]*[^\W_]")
_TEXTS = frozenset({"string", "phone", "email", "url", "textarea", "id", "reference"})
_NUMBERS = frozenset({"int", "double", "currency"})
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object. ``options`` of a restricted picklist are all that it takes."""

    name: str
    label: str
    type: str = "string"
    length: int = 0
    required: bool = False
    options: tuple[str, ...] = ()
    restricted: bool = False
    external_id: bool = False
    unique: bool = False
    read_only: bool = False
    custom: bool = False
    default: Value = None

    def shown(self) -> dict[str, Any]:
        """As describe shows it, without the keys that nobody here reads."""
        return {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "length": self.length,
            "nillable": not self.required and self.type != "boolean",
            "createable": not self.read_only,
            "updateable": not self.read_only,
            "defaultedOnCreate": self.default is not None or self.type == "boolean",
            "externalId": self.external_id,
            "idLookup": self.external_id or self.type == "id",
            "unique": self.unique,
            "custom": self.custom,
            "calculated": False,
            "autoNumber": False,
            "restrictedPicklist": self.restricted,
            "picklistValues": [
                {"active": True, "defaultValue": option == self.default, "label": option, "validFor": None,
                 "value": option}
                for option in self.options
            ],
        }  # fmt: skip


def _texts(**lengths: int) -> list[Field]:
    return [Field(name, re.sub(r"(?<!^)(?=[A-Z])", " ", name), length=length) for name, length in lengths.items()]


_RATINGS = ("Hot", "Warm", "Cold")
_STATUSES = ("Open - Not Contacted", "Working - Contacted", "Closed - Converted", "Closed - Not Converted")
_SOURCES = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")
_OF_BOTH = (
    Field("Id", "Record ID", "id", 18, read_only=True),
    Field("IsDeleted", "Deleted", "boolean", read_only=True),
    Field("Name", "Full Name", length=121, read_only=True),
    Field("CreatedDate", "Created Date", "datetime", read_only=True),
    Field("LastModifiedDate", "Last Modified Date", "datetime", read_only=True),
    Field("SystemModstamp", "System Modstamp", "datetime", read_only=True),
    Field("MasterRecordId", "Master Record ID", "reference", 18, read_only=True),
    Field("LastName", "Last Name", length=80, required=True),
    Field("Email", "Email", "email", 80),
    Field("Phone", "Phone", "phone", 40),
    Field("MobilePhone", "Mobile Phone", "phone", 40),
    Field("Fax", "Fax", "phone", 40),
    Field("Description", "Description", "textarea", 32_000),
    Field("LeadSource", "Lead Source", "picklist", 255, options=_SOURCES),
    # An org chooses which of its picklists are restricted.
    Field("Salutation", "Salutation", "picklist", 40, options=("Mr.", "Ms.", "Dr."), restricted=True),
    Field("HasOptedOutOfEmail", "Email Opt Out", "boolean"),
    Field("DoNotCall", "Do Not Call", "boolean"),
    *_texts(FirstName=40, Title=128),
)
_FIELDS: Mapping[str, tuple[Field, ...]] = {
    "Lead": (
        *_OF_BOTH,
        Field("Company", "Company", length=255, required=True),
        Field("Street", "Street", "textarea", 255),
        Field("Website", "Website", "url", 255),
        Field("Status", "Status", "picklist", 255, options=_STATUSES, restricted=True, default=_STATUSES[0]),
        Field("Rating", "Rating", "picklist", 255, options=_RATINGS),
        Field("NumberOfEmployees", "Employees", "int"),
        Field("AnnualRevenue", "Annual Revenue", "currency"),
        Field("IsConverted", "Converted", "boolean", read_only=True),
        Field("ConvertedContactId", "Converted Contact ID", "reference", 18, read_only=True),
        *_texts(City=40, State=80, PostalCode=20, Country=80),
    ),
    "Contact": (
        *_OF_BOTH,
        Field("AccountId", "Account ID", "reference", 18),
        Field("Birthdate", "Birthdate", "date"),
        Field("Department", "Department", length=80),
        Field("MailingStreet", "Mailing Street", "textarea", 255),
        *_texts(MailingCity=40, MailingState=80, MailingPostalCode=20, MailingCountry=80),
    ),
}
OBJECTS = tuple(_FIELDS)


def names_beyond(names: Iterable[str], *, object_type: str) -> tuple[str, ...]:
    """Those of a mapping's fields that Salesforce does not bring: an org must have made them."""
    return tuple(sorted(set(names) - {field.name for field in _FIELDS[object_type]}))


def fields_of(object_type: str, *, key: str, unique: bool, custom: Iterable[str]) -> dict[str, Field]:
    """The object's standard fields, custom texts, and the external id that holds our key."""
    known = [
        *_FIELDS[object_type],
        *(Field(name, _label(name), length=MAX_TEXT, custom=True) for name in custom),
        Field(key, _label(key), length=MAX_TEXT, external_id=True, unique=unique, custom=True),
    ]
    return {field.name: field for field in known}


def checked(values: Mapping[str, Any], known: Mapping[str, Field], *, object_type: str) -> dict[str, Value]:
    """The values as Salesforce keeps them. Names count in any case.

    Raises:
        RecordFault: one is not taken.
    """
    names = {name.lower(): name for name in known}
    kept: dict[str, Value] = {}
    for name, value in values.items():
        field = known.get(names.get(name.lower(), ""))
        if field is None:
            raise RecordFault("INVALID_FIELD", f"No such column '{name}' on sobject of type {object_type}")
        if field.read_only:
            raise RecordFault(
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                f"Unable to create/update fields: {field.name}. Please check the security settings of this field and "
                "verify that it is read/write for your profile or permission set.",
                (field.name,),
            )
        kept[field.name] = _checked(field, value)
    return kept


def missing(values: Mapping[str, Value], known: Mapping[str, Field]) -> None:
    """Refuse a record without a field that it must have.

    Raises:
        RecordFault: one is missing.
    """
    names = [field.name for field in known.values() if field.required and values.get(field.name) in (None, "")]
    if names:
        raise RecordFault(
            "REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(sorted(names))}]", tuple(names)
        )


def _checked(field: Field, value: Any) -> Value:
    if value is None or value == "":
        return False if field.type == "boolean" else None
    if field.type in _TEXTS or field.type == "picklist":
        return _text(field, value if isinstance(value, str) else str(value))
    if field.type == "boolean":
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false", "1", "0"):
            return str(value).lower() in ("true", "1")
        raise _undeserializable(field, value)
    if field.type in _NUMBERS:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise _undeserializable(field, value) from None
        return int(number) if field.type == "int" else number
    try:
        parsed = date.fromisoformat(value) if field.type == "date" else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _undeserializable(field, value) from None
    return parsed.isoformat()


def _text(field: Field, value: str) -> str:
    if field.length and len(value) > field.length:
        raise RecordFault(
            "STRING_TOO_LONG",
            f"{field.label}: data value too large: {value} (max length={field.length})",
            (field.name,),
        )
    if field.type == "email" and not _EMAIL.fullmatch(value):
        raise RecordFault("INVALID_EMAIL_ADDRESS", f"{field.label}: invalid email address: {value}", (field.name,))
    if field.restricted and value not in field.options:
        raise RecordFault(
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            f"{field.label}: bad value for restricted picklist field: {value}",
            (field.name,),
        )
    return value


def _undeserializable(field: Field, value: Any) -> RecordFault:
    """As recorded of Bulk API; REST refuses the whole request, with other words (from memory)."""
    return RecordFault(
        "INVALID_FIELD",
        f"Failed to deserialize field at col 1. Due to, '{value}' is not a valid value for the type xsd:{field.type}",
        (field.name,),
        breaks_json=True,
    )


def _label(name: str) -> str:
    return name.removesuffix("__c").replace("_", " ")
