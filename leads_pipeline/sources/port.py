"""What a kind of source is: who may speak for it, which posts one of its requests holds, and which fields a post has.

Everything here is pure: bytes and an instant in, values out. The door verifies before it reads, on the bytes as they
came; what it stores is the post as the vendor sent it. Validation reads ``fields`` from the stored post, so that a
mapping that is mended later also serves leads that came before.

Add a kind: a module with a class that meets ``SourceKind`` (``bases`` has what most share), a line in ``registry``, a
name in ``config.SourceKind``, a section in docs/sources.md. ``leads_pipeline_tests.sources.contract`` holds every kind
to the same promises.
"""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

# How far a signed request's time may be from ours, either way. What all vendors with a timestamp advise.
REPLAY_TOLERANCE = timedelta(minutes=5)

# Where a stored post keeps what its vendor was asked for afterwards; ``fields`` shows it like the rest.
FETCHED = "fetched"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request, as it came. ``headers`` have lower-case names; ``url`` is the address as the vendor calls it."""

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = field(repr=False)
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a source shares with its vendor; never shown."""

    signing: str = field(default="", repr=False)
    verify_token: str = field(default="", repr=False)


class Doubt(StrEnum):
    """Why a request does not prove that the vendor sent it. The sender is told only that it did not."""

    NO_SIGNATURE = "no_signature"
    BAD_SIGNATURE = "bad_signature"
    TOO_OLD = "too_old"  # or too new: outside of ``REPLAY_TOLERANCE``


class Fault(StrEnum):
    """Why a request that was verified holds nothing that can be kept as a lead."""

    MALFORMED_JSON = "malformed_json"
    WRONG_SHAPE = "wrong_shape"  # JSON, but not the vendor's


class Quarantine(StrEnum):
    """Why a post is kept and not used: validation rejects it with this reason."""

    UNREADABLE_BODY = "unreadable_body"  # the payload only keeps the body: see ``kept_raw``
    ROBOT = "robot"  # a hidden field was filled
    NOT_FETCHED = "not_fetched"  # the vendor named a lead that it has not any more
    ECHO = "echo"  # the vendor tells of what we delivered to it
    TEST = "test"  # the vendor says that it is a trial, with made-up data


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A request without posts. ``message`` names what is wrong, never a value."""

    fault: Fault
    message: str


@dataclass(frozen=True, slots=True)
class Post:
    """One lead of a request, as the vendor sent it.

    ``event_id`` is the vendor's own id of the event: it makes a repeated delivery the same post, whatever else in it
    changed. ``reference`` names a lead that must still be asked for. ``context`` is what the message says of the
    person's own browser (``ip``, ``user_agent``); the request's own address is the vendor's.
    """

    payload: dict[str, Any]
    event_id: str | None = None
    consent: tuple[Any, ...] = ()
    reference: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    quarantine: Quarantine | None = None
    redirect: str | None = None  # the page that a form asks its browser to be sent to


def kept_raw(body: bytes) -> Post:
    """A body that nobody could read, kept as it came: as text if it is text that can be stored, else in base 64."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        text = "\x00"
    if "\x00" in text:
        return Post({"raw_body_base64": base64.b64encode(body).decode("ascii")}, quarantine=Quarantine.UNREADABLE_BODY)
    return Post({"raw_body": text}, quarantine=Quarantine.UNREADABLE_BODY)


def with_fetched(payload: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    """The stored post with the vendor's answer to the question for its lead; an earlier answer is replaced."""
    return {**payload, FETCHED: dict(answer)}


def fetched_part(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the vendor answered, if it was asked."""
    answer = payload.get(FETCHED)
    return answer if isinstance(answer, Mapping) else {}


class SourceKind(Protocol):
    """One kind of source.

    ``signed``: requests prove themselves with the vendor's secret; otherwise they carry an API key of ours.
    ``answers_browsers``: a browser that asks for HTML is sent to a page and not given JSON.
    ``from_browser``: the request comes from the person's own browser, whose address and name are evidence of consent.
    ``usual``: which canonical field each of the kind's own fields means; a source's mapping in leads.yaml goes before,
    and of several fields that mean the same the first that is filled counts.
    ``usual_names``: fields with a common name of a canonical field (``domain.lead`` aliases) are taken for it.
    """

    name: str
    signed: bool
    from_browser: bool
    answers_browsers: bool
    media_types: frozenset[str]
    usual: Mapping[str, str]
    usual_names: bool

    def challenge(self, delivery: Delivery, secrets: Secrets) -> str | Doubt | None:
        """What a vendor's GET, with which it tries an address, is answered; ``None``: this kind has none."""
        ...

    def verify(self, delivery: Delivery, secrets: Secrets) -> Doubt | None:
        """Whether the vendor sent this: on the raw bytes, in constant time, within ``REPLAY_TOLERANCE``."""
        ...

    def read(self, delivery: Delivery, options: "SourceOptions") -> list[Post] | Unreadable:
        """The posts of a verified request. No post is a request without leads, such as a vendor's test."""
        ...

    def fields(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """A stored post as flat fields, named as mappings in leads.yaml name them; values are scalars or lists."""
        ...


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What leads.yaml says of a source and a kind needs for reading."""

    honeypot: str = ""


def same_secret(one: str, other: str) -> bool:
    """Whether two texts are equal, in time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def is_fresh(sent_at: datetime, received_at: datetime) -> bool:
    """Whether a signed time is near enough to ours, in both directions."""
    return abs(received_at - sent_at) <= REPLAY_TOLERANCE


def flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as dotted names, lists of objects with the place in it; lists of scalars stay lists.

    At most four levels: what lies deeper is kept with the lead, and is no field.
    """
    found: dict[str, Any] = {}
    _flatten(value, prefix, 4, found)
    return found


def _flatten(value: Mapping[str, Any], prefix: str, levels: int, found: dict[str, Any]) -> None:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            if levels > 1:
                _flatten(item, f"{name}.", levels - 1, found)
        elif isinstance(item, list) and any(isinstance(entry, Mapping | list) for entry in item):
            if levels > 1:
                numbered = {str(place): entry for place, entry in enumerate(item)}
                _flatten(numbered, f"{name}.", levels - 1, found)
        else:
            found[name] = item
