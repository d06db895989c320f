"""Kind ``google_ads``: lead forms of Google Ads.

Google signs nothing: it repeats in the body the key that was entered with the address. Neither is a time sent; a
request that is played again is known by its ``lead_id``, which is unique over all forms. The key is not kept.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from leads_pipeline.sources.bases import SignedKind
from leads_pipeline.sources.bodies import NOT_JSON, add_apart, add_repeated, is_scalar, json_of, text_of
from leads_pipeline.sources.port import (
    Delivery,
    Doubt,
    Fault,
    Post,
    Quarantine,
    Secrets,
    SourceOptions,
    Unreadable,
    flattened,
    same_secret,
)

_KEY = "google_key"
_COLUMNS = "user_column_data"
# JSON with values that are odd, such as half of a surrogate pair, is read the slow way; a lead has a few hundred bytes.
_MAX_ODD_BODY = 65_536


class _Keyed(msgspec.Struct):
    google_key: str = ""


_KEYED = msgspec.json.Decoder(_Keyed)


class GoogleAdsLeads(SignedKind):
    """One post a request; Google's trial leads are kept and set aside, as their person is made up."""

    name = "google_ads"
    usual: Mapping[str, str] = MappingProxyType(
        {
            "EMAIL": "email",
            "WORK_EMAIL": "email",
            "PHONE_NUMBER": "phone",
            "WORK_PHONE": "phone",
            "FULL_NAME": "full_name",
            "FIRST_NAME": "first_name",
            "LAST_NAME": "last_name",
            "COMPANY_NAME": "company",
            "JOB_TITLE": "job_title",
            "STREET_ADDRESS": "address",
            "CITY": "city",
            "REGION": "state",
            "POSTAL_CODE": "postcode",
            "COUNTRY": "country",
            "lead_id": "external_id",
            "campaign_id": "campaign",
        }
    )

    def verify(self, delivery: Delivery, secrets: Secrets) -> Doubt | None:
        key = _key(delivery.body)
        if not key:
            return Doubt.NO_SIGNATURE
        return None if same_secret(secrets.signing, key) else Doubt.BAD_SIGNATURE

    def read(self, delivery: Delivery, options: SourceOptions) -> list[Post] | Unreadable:
        lead = json_of(delivery.body)
        if not isinstance(lead, dict):  # not one that was verified
            return Unreadable(Fault.WRONG_SHAPE, "a lead must be a JSON object")
        payload = {name: value for name, value in lead.items() if name != _KEY}
        trial = lead.get("is_test") is True
        return [Post(payload, event_id=text_of(lead.get("lead_id")), quarantine=Quarantine.TEST if trial else None)]

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """What Google says of the lead, then each answer by its ``column_id``.

        An answer whose id is taken stands under ``user_column_data.`` and its id.
        """
        found = flattened({name: value for name, value in payload.items() if name != _COLUMNS})
        add_apart(found, _answers(payload.get(_COLUMNS)), under=_COLUMNS)
        return found


def _key(body: bytes) -> str:
    """The key that a body holds; empty if there is none.

    Whoever sent it is not known yet: what surrounds the key is skipped, not built.
    """
    try:
        return _KEYED.decode(body).google_key
    except (ValueError, RecursionError):
        lead = json_of(body) if len(body) <= _MAX_ODD_BODY else NOT_JSON
    key = lead.get(_KEY) if isinstance(lead, dict) else None
    return key if isinstance(key, str) else ""


def _answers(columns: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column in columns if isinstance(columns, list) else ():
        if not isinstance(column, Mapping):
            continue
        name = text_of(column.get("column_id")) or text_of(column.get("column_name"))
        value = column.get("string_value")
        if name is not None and is_scalar(value):
            add_repeated(found, name, value)
    return found
