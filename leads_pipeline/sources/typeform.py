"""Kind ``typeform``: Typeform's webhook, with its signature over the body.

Typeform sends again for hours what is refused (developer.typeform.com/webhooks, "Delivery retries") and keeps the
response: what is signed and cannot be read stays with it. A 404 or 410 it takes for the end of the webhook. No time is
signed: a request that is played again is known by the response's ``token``.
"""

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from leads_pipeline.sources.bases import SignedKind
from leads_pipeline.sources.bodies import MALFORMED, NOT_JSON, add_apart, add_repeated, is_scalar, json_of, text_of
from leads_pipeline.sources.port import (
    Delivery,
    Doubt,
    Fault,
    Post,
    Secrets,
    SourceOptions,
    Unreadable,
    flattened,
    same_secret,
)
from leads_pipeline.sources.signatures import hmac_sha256


class TypeformResponses(SignedKind):
    """One post a request."""

    name = "typeform"
    usual: Mapping[str, str] = MappingProxyType(
        {
            "type.email": "email",
            "type.phone_number": "phone",
            "hidden.email": "email",
            "hidden.phone": "phone",
            "hidden.utm_source": "utm_source",
            "hidden.utm_medium": "utm_medium",
            "hidden.utm_campaign": "campaign",
            "token": "external_id",
        }
    )

    def verify(self, delivery: Delivery, secrets: Secrets) -> Doubt | None:
        signature = delivery.headers.get("typeform-signature")
        if not signature:
            return Doubt.NO_SIGNATURE
        expected = "sha256=" + base64.b64encode(hmac_sha256(secrets.signing, delivery.body)).decode("ascii")
        return None if secrets.signing and same_secret(expected, signature) else Doubt.BAD_SIGNATURE

    def read(self, delivery: Delivery, options: SourceOptions) -> list[Post] | Unreadable:
        message = json_of(delivery.body)
        if message is NOT_JSON:
            return MALFORMED
        if not isinstance(message, dict) or not isinstance(response := message.get("form_response"), dict):
            return Unreadable(Fault.WRONG_SHAPE, "Typeform sends a form_response")
        return [Post(message, event_id=_event_id(message.get("event_type"), text_of(response.get("token"))))]

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Each answer by its field's ``ref``, or its ``id``; the response's own facts, and ``hidden.`` fields.

        ``type.email`` and ``type.phone_number`` are the first answers of these types, whatever their fields are called:
        Typeform makes up a ref where nobody chose one. An answer whose name is taken stands under ``answers.`` and it.
        """
        response = payload.get("form_response")
        if not isinstance(response, Mapping):
            return flattened(payload)
        found = flattened({name: value for name, value in payload.items() if name != "form_response"})
        found |= flattened({name: value for name, value in response.items() if name not in ("answers", "definition")})
        answers: dict[str, Any] = {}
        given = response.get("answers")
        for answer in given if isinstance(given, list) else ():
            if isinstance(answer, Mapping):
                _add_answer(answer, answers, found)
        add_apart(found, answers, under="answers")
        return found


def _event_id(kind: object, token: str | None) -> str | None:
    """A response that was broken off must not make the whole one, which may come later, a repetition."""
    return token if token is None or kind in (None, "form_response") else f"{text_of(kind)}/{token}"


def _add_answer(answer: Mapping[str, Any], answers: dict[str, Any], found: dict[str, Any]) -> None:
    asked = answer.get("field")
    kind = text_of(answer.get("type"))
    name = (text_of(asked.get("ref")) or text_of(asked.get("id"))) if isinstance(asked, Mapping) else None
    if name is None or kind is None:
        return
    value = _value(answer.get(kind))
    if isinstance(value, Mapping):  # such as a payment: its parts under the field's name
        for part, item in flattened(value, f"{name}.").items():
            add_repeated(answers, part, item)
    elif value is not None:
        add_repeated(answers, name, value)
        if kind in ("email", "phone_number"):
            found.setdefault(f"type.{kind}", value)


def _value(given: Any) -> Any:
    """An answer's value: of choices their labels, what was typed under "other" among them."""
    if isinstance(given, Mapping) and ("labels" in given or "label" in given or "other" in given):
        labels = given.get("labels")
        chosen = [label for label in labels if is_scalar(label)] if isinstance(labels, list) else []
        chosen += [given[name] for name in ("label", "other") if is_scalar(given.get(name))]
        if "labels" in given:
            return chosen
        return chosen[0] if chosen else None
    if isinstance(given, list):
        return [item for item in given if is_scalar(item)]
    return given
