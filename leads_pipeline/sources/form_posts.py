"""Kind ``form``: an HTML form of one's own site that posts here, with or without a script.

The key stands in the form's address and so is public: what it allows is to add to this one source. A robot that fills
the field that people do not see is answered like anybody, and set aside. A form that cannot be read is kept raw, as
nobody sends it again.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from leads_pipeline.domain.lead import FIELD_NAMES
from leads_pipeline.sources.bases import KeyedKind
from leads_pipeline.sources.bodies import add_repeated
from leads_pipeline.sources.form_bodies import MULTIPART, URL_ENCODED, NotAForm, form_of
from leads_pipeline.sources.port import (
    Delivery,
    Fault,
    Post,
    Quarantine,
    SourceOptions,
    Unreadable,
    flattened,
    kept_raw,
)

# The form's own field that says where its browser is sent afterwards.
REDIRECT_FIELD = "_redirect"


class FormPosts(KeyedKind):
    """One post a request."""

    name = "form"
    from_browser = True
    answers_browsers = True
    media_types = frozenset({URL_ENCODED, MULTIPART})
    usual: Mapping[str, str] = MappingProxyType({name: name for name in FIELD_NAMES})

    def read(self, delivery: Delivery, options: SourceOptions) -> list[Post] | Unreadable:
        pairs = form_of(delivery.body, delivery.headers.get("content-type", ""))
        if isinstance(pairs, NotAForm):
            return [kept_raw(delivery.body)]
        payload: dict[str, Any] = {}
        for name, value in pairs:
            add_repeated(payload, name, value)
        redirect = payload.pop(REDIRECT_FIELD, None)
        is_robot = _is_filled(payload.get(options.honeypot))
        if not is_robot:
            payload.pop(options.honeypot, None)
        if not payload:
            return Unreadable(Fault.WRONG_SHAPE, "the form has no field")
        return [
            Post(
                payload,
                quarantine=Quarantine.ROBOT if is_robot else None,
                redirect=redirect if isinstance(redirect, str) else None,
            )
        ]

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        return flattened(payload)


def _is_filled(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_filled(item) for item in value)
    return bool(value.strip()) if isinstance(value, str) else value is not None
