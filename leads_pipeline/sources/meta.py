"""Kind ``meta``: lead ads on Facebook and Instagram.

Meta names the lead and not the person: the answers are asked for afterwards, by ``reference``, within the ninety days
that Meta keeps them. It sends again what is not answered with 200, so what is signed and cannot be read is refused and
stays with it. No time is signed: a request that is played again is known by its ``leadgen_id``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from leads_pipeline.sources.bases import SignedKind
from leads_pipeline.sources.bodies import (
    MALFORMED,
    NOT_JSON,
    add_apart,
    add_repeated,
    is_scalar,
    json_of,
    one_or_all,
    reference_of,
    text_of,
)
from leads_pipeline.sources.port import (
    FETCHED,
    Delivery,
    Doubt,
    Fault,
    Post,
    Secrets,
    SourceOptions,
    Unreadable,
    fetched_part,
    flattened,
    same_secret,
)
from leads_pipeline.sources.signatures import hmac_sha256

# What the lead must be asked for.
LEAD_FIELDS: tuple[str, ...] = ("id", "created_time", "form_id", "ad_id", "ad_name", "campaign_id", "campaign_name",
                                "field_data")  # fmt: skip


class MetaLeads(SignedKind):
    """One post a ``leadgen`` change; other changes that a page was subscribed to are no leads."""

    name = "meta"
    usual: Mapping[str, str] = MappingProxyType(
        {
            "email": "email",
            "work_email": "email",
            "phone_number": "phone",
            "phone": "phone",
            "work_phone_number": "phone",
            "first_name": "first_name",
            "last_name": "last_name",
            "full_name": "full_name",
            "company_name": "company",
            "job_title": "job_title",
            "date_of_birth": "date_of_birth",
            "street_address": "address",
            "city": "city",
            "state": "state",
            "province": "state",
            "zip_code": "postcode",
            "post_code": "postcode",
            "country": "country",
            "leadgen_id": "external_id",
            "campaign_name": "campaign",
        }
    )

    def challenge(self, delivery: Delivery, secrets: Secrets) -> str | Doubt | None:
        """Meta's trial of the address: whoever knows the verify token is sent its challenge back."""
        token = delivery.query.get("hub.verify_token", "")
        if delivery.query.get("hub.mode") != "subscribe" or not token:
            return Doubt.NO_SIGNATURE
        if not same_secret(secrets.verify_token, token):
            return Doubt.BAD_SIGNATURE
        return delivery.query.get("hub.challenge", "")

    def verify(self, delivery: Delivery, secrets: Secrets) -> Doubt | None:
        signature = delivery.headers.get("x-hub-signature-256")
        if not signature:
            return Doubt.NO_SIGNATURE
        expected = "sha256=" + hmac_sha256(secrets.signing, delivery.body).hex()
        return None if secrets.signing and same_secret(expected, signature) else Doubt.BAD_SIGNATURE

    def read(self, delivery: Delivery, options: SourceOptions) -> list[Post] | Unreadable:
        message = json_of(delivery.body)
        if message is NOT_JSON:
            return MALFORMED
        changes = _changes(message)
        if changes is None:
            return Unreadable(Fault.WRONG_SHAPE, "Meta sends entries with their changes")
        return [
            Post(value, event_id=text_of(value.get("leadgen_id")), reference=reference_of(value.get("leadgen_id")))
            for value in changes
        ]

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """What the change says, then what Meta answered: each answer by its question's name.

        An answer to a question that has the name of something else stands under ``field_data.`` and its name.
        """
        answer = fetched_part(payload)
        found = flattened({name: value for name, value in answer.items() if name != "field_data"})
        found |= flattened({name: value for name, value in payload.items() if name != FETCHED})
        add_apart(found, _answers(answer.get("field_data")), under="field_data")
        return found


def _changes(message: Any) -> list[dict[str, Any]] | None:
    """The values of the ``leadgen`` changes, or ``None`` if this is not Meta's shape."""
    entries = message.get("entry") if isinstance(message, dict) else None
    if not isinstance(entries, list):
        return None
    found: list[dict[str, Any]] = []
    for entry in entries:
        changes = entry.get("changes", []) if isinstance(entry, dict) else None
        if not isinstance(changes, list):
            return None
        for change in changes:
            if not isinstance(change, dict):
                return None
            if change.get("field") != "leadgen":
                continue
            if not isinstance(change.get("value"), dict):
                return None
            found.append(change["value"])
    return found


def _answers(field_data: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in field_data if isinstance(field_data, list) else ():
        name = text_of(item.get("name")) if isinstance(item, Mapping) else None
        values = item.get("values") if name is not None else None
        if name is None or not isinstance(values, list):
            continue
        scalars = [value for value in values if is_scalar(value)]
        if scalars:
            add_repeated(found, name, one_or_all(scalars))
    return found
