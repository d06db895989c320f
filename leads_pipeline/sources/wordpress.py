"""Kinds ``contact_form_7``, ``gravity_forms`` and ``wpforms``: what WordPress sends on for its forms' plugins.

They sign nothing and carry an API key, in a header or in the address. WordPress does not send again what is refused: a
body that cannot be read, such as Contact Form 7's JSON with a quote in it, is kept raw and set aside. The request comes
from the site's server: a person's address is only what the plugin writes into the body.
"""

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from leads_pipeline.sources.bases import KeyedKind
from leads_pipeline.sources.bodies import add_apart, add_repeated, is_scalar, json_of, one_or_all, text_of
from leads_pipeline.sources.form_bodies import MULTIPART, URL_ENCODED, NotAForm, form_of
from leads_pipeline.sources.port import (
    Delivery,
    Fault,
    Post,
    SourceOptions,
    Unreadable,
    flattened,
    kept_raw,
)

_MAX_AGENT = 500


class _WordPress(KeyedKind):
    """What the plugins share: how a body is read, whatever it is called."""

    media_types = frozenset({"application/json", "text/plain", URL_ENCODED, MULTIPART})
    # Where the plugin writes the person's address and browser.
    ip_field: ClassVar[str] = ""
    agent_field: ClassVar[str] = ""

    def read(self, delivery: Delivery, options: SourceOptions) -> list[Post] | Unreadable:
        if not delivery.body.strip():
            return Unreadable(Fault.WRONG_SHAPE, "the body is empty")
        payload = _payload(delivery)
        if payload is None:
            return [kept_raw(delivery.body)]
        return [Post(without_files(payload), context=self._context(payload))]

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        return {name: one_or_all(value) if isinstance(value, list) else value for name, value in _flat(payload)}

    def _context(self, payload: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        address = _address(payload.get(self.ip_field))
        if address is not None:
            found["ip"] = address
        agent = text_of(payload.get(self.agent_field))
        if agent is not None:
            found["user_agent"] = agent[:_MAX_AGENT]
        return found


class ContactForm7(_WordPress):
    """Through the plugin "CF7 to Webhook": a JSON object of the form's tags, each a text or a list."""

    name = "contact_form_7"
    ip_field = "_remote_ip"
    agent_field = "_user_agent"
    usual: Mapping[str, str] = MappingProxyType(
        {
            "your-email": "email",
            "your-tel": "phone",
            "your-phone": "phone",
            "your-name": "full_name",
            "your-first-name": "first_name",
            "your-last-name": "last_name",
            "your-company": "company",
            "your-message": "message",
            "_url": "landing_page",
        }
    )


class GravityForms(_WordPress):
    """Through the add-on "Webhooks": a whole entry with field ids as names, or the names that were mapped."""

    name = "gravity_forms"
    ip_field = "ip"
    agent_field = "user_agent"
    usual: Mapping[str, str] = MappingProxyType(
        {"name.first": "first_name", "name.last": "last_name", "source_url": "landing_page", "id": "external_id"}
    )

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The entry; ``name.first`` and ``name.last`` are parts .3 and .6 of its first field that looks like a name.

        Of a field with choices the parts are counted from .1, which a name does not have.
        """
        found = super().fields(payload)
        for name in list(found):
            field, _, part = name.rpartition(".")
            if part == "3" and field.isdigit() and f"{field}.6" in found and f"{field}.1" not in found:
                found.setdefault("name.first", found[name])
                found.setdefault("name.last", found[f"{field}.6"])
                break
        return found


class WpForms(_WordPress):
    """Through the add-on "Webhooks": the names that were chosen, or ``fields`` with a name and a value each."""

    name = "wpforms"
    usual: Mapping[str, str] = MappingProxyType({"Comment or Message": "message", "entry_id": "external_id"})

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """A nested field by its name; its parts, such as ``Name.first``, under it."""
        asked = payload.get("fields")
        items = asked.values() if isinstance(asked, Mapping) else asked if isinstance(asked, list) else ()
        nested = [item for item in items if isinstance(item, Mapping) and text_of(item.get("name")) is not None]
        if not nested:
            return super().fields(payload)
        found = super().fields({name: value for name, value in payload.items() if name != "fields"})
        answers: dict[str, Any] = {}
        for item in nested:
            for name, value in _nested_field(item):
                add_repeated(answers, name, value)
        add_apart(found, answers, under="fields")
        return found


def _nested_field(item: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A field's value under its name, and its filled parts under the name and a dot."""
    name, value = str(item["name"]), item.get("value")
    found: list[tuple[str, Any]] = []
    parts = {part: entry for part, entry in item.items() if part not in ("name", "value", "id", "type")}
    if isinstance(value, Mapping):
        parts |= value
    elif isinstance(value, list):
        found.append((name, [entry for entry in value if is_scalar(entry)]))
    elif is_scalar(value):
        found.append((name, value))
    return found + [(part, entry) for part, entry in flattened(parts, f"{name}.").items() if entry not in ("", None)]


def without_files(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload with each file's content, where a plugin sends it in base 64, replaced by how long it is."""
    return {name: _without_content(value) for name, value in payload.items()}


def _without_content(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_content(item) for item in value]
    if isinstance(value, dict) and isinstance(value.get("content"), str) and "filename" in value:
        kept = {name: item for name, item in value.items() if name != "content"}
        return kept | {"size": len(value["content"]) * 3 // 4}
    return value


def _payload(delivery: Delivery) -> dict[str, Any] | None:
    content_type = delivery.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() in (URL_ENCODED, MULTIPART):
        pairs = form_of(delivery.body, content_type)
        if isinstance(pairs, NotAForm) or not pairs:
            return None
        found: dict[str, Any] = {}
        for name, value in pairs:
            add_repeated(found, name, value)
        return found
    value = json_of(delivery.body)
    return value if isinstance(value, dict) and value else None


def _flat(payload: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(flattened(payload).items())


def _address(value: object) -> str | None:
    text = text_of(value)
    try:
        return None if text is None else str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return None
