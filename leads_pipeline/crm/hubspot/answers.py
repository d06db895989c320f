"""How an answer of HubSpot is read: which class a refusal is of, and which record an entry of a batch is about.

Pure. HubSpot's published schemas demand keys that its real answers leave out, so nothing here relies on a key: what
cannot be read makes its record ``ambiguous``, and an upsert by our key may be repeated.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leads_pipeline.crm.parts import Refusal, unanswered
from leads_pipeline.crm.port import (
    CrmRecord,
    CrmResponse,
    QuotaReading,
    RecordVerdict,
    Unit,
    Verdict,
)
from leads_pipeline.outbound.transport import HttpAnswer

# HubSpot's own SDK waits this long; a 429 of HubSpot carries no documented Retry-After.
_PAUSE_SECONDS = {"TEN_SECONDLY_ROLLING": 10.0, "SECONDLY": 1.0}
_PAUSE_UNKNOWN_POLICY = 10.0
_PAUSE_MIGRATION = 60.0
_WINDOW_SECONDS = 10  # of X-HubSpot-RateLimit-Remaining, where the header that tells it is missing
_MAX_PAUSE = 86_400.0  # a migration (477) may ask for up to a day

_DIVISIBLE = {
    400: Verdict.INVALID,
    409: Verdict.CONFLICT,
    413: Verdict.INVALID,
    414: Verdict.INVALID,
    422: Verdict.INVALID,
}
_LOCKED = frozenset({423})
_THROTTLED = frozenset({429, 477})
# The server may have written before it failed.
_MAYBE_WRITTEN = frozenset({408, 500, 502, 504, 520, 524})

_CATEGORIES = {
    "VALIDATION_ERROR": Verdict.INVALID,
    "CONFLICT": Verdict.CONFLICT,
    "RATE_LIMITS": Verdict.THROTTLED,
    "INVALID_AUTHENTICATION": Verdict.AUTH,
    "MISSING_SCOPES": Verdict.AUTH,
}
# The mapping names what the account does not have: every record with that field would be refused, and no record is bad.
_SETUP_CODES = frozenset({"PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE"})

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
# The account's set-up as well, although HubSpot gives it no code.
_SETUP_MESSAGES = {"Unable to infer object type from": "UNKNOWN_OBJECT_TYPE"}

# What helps where HubSpot's own words do not say it.
_ADVICE = {
    "GDPR_BLOCKLISTED": "the address was erased in HubSpot for good: discard, or give the contact another address",
    "INVALID_EMAIL": "correct the address with `leads dead-letters fix`",
    "PROPERTY_DOESNT_EXIST": "create the property in HubSpot, or mend destinations.NAME.mapping",
    "READ_ONLY_VALUE": "take the property out of destinations.NAME.mapping: HubSpot sets it itself",
    "INVALID_OPTION": "add the option in HubSpot, or give destinations.NAME.mapping a table of values",
    "MISSING_SCOPES": "give the token the scopes crm.objects.contacts.read and crm.objects.contacts.write",
    "INVALID_AUTHENTICATION": "put a token that holds into the environment variable of destinations.NAME.token",
    "UNKNOWN_OBJECT_TYPE": "mend destinations.NAME.api_prefix; HubSpot's is /crm/v3/objects",
}

_CODE_IN_MESSAGE = re.compile(r'"error":"([A-Z][A-Z0-9_]{1,63})"')
_NAME_IN_MESSAGE = re.compile(r'"name":"([A-Za-z0-9_]{1,100})"')
_EXISTING_ID = re.compile(r"Existing ID: (\d{1,20})")
_NAME = re.compile(r"[A-Za-z0-9_]{1,100}")


@dataclass(frozen=True, slots=True)
class Found:
    """A record that the CRM has, and the key of ours that it holds (empty: none)."""

    crm_record_id: str
    key: str


def trace_id(record: CrmRecord) -> str:
    """What an input is known by; unique in a batch, because the outbox holds a contact once per destination."""
    return f"{record.outbox_id}:{record.version}"


def response_of(answer: HttpAnswer) -> CrmResponse:
    """What HubSpot's headers say, in the port's words."""
    body = answer.body if isinstance(answer.body, dict) else {}
    policy = _text(body, "policyName")
    asked = _seconds(answer.headers.get("retry-after"))
    pause: float | None = asked if answer.status == 503 else None
    if answer.status == 429:
        pause = asked if asked is not None else _PAUSE_SECONDS.get(policy or "", _PAUSE_UNKNOWN_POLICY)
    elif answer.status == 477:
        pause = asked if asked is not None else _PAUSE_MIGRATION
    return CrmResponse(
        status=answer.status,
        body=answer.body,
        text=answer.text,
        correlation_id=_text(body, "correlationId") or answer.headers.get("x-hubspot-correlation-id"),
        credentials_renewed=answer.credentials_renewed,
        throttled=answer.status == 429,
        pause_seconds=pause,
        until_reset=answer.status == 429 and policy == "DAILY",
        readings=_readings(answer.headers),
    )


def refusal_of(response: CrmResponse) -> Refusal | None:
    """Why the request as a whole did nothing, or may have; ``None`` when the answer speaks of each record."""
    status = response.status
    if status is None:
        return unanswered(response)
    if status < 300:
        return None
    body = response.body if isinstance(response.body, dict) else {}
    code = _code(body) or f"HTTP_{status}"
    message = _text(body, "message")
    if status in _DIVISIBLE:
        names = _property_names(body)
        setup = next((known for words, known in _SETUP_MESSAGES.items() if (message or "").startswith(words)), None)
        explanation = _explained(message, setup or code)
        if setup is not None or code in _SETUP_CODES:
            return Refusal(Verdict.AUTH, setup or code, explanation=explanation, refused_properties=names)
        return Refusal(_DIVISIBLE[status], code, divisible=True, explanation=explanation, refused_properties=names)
    if status in _THROTTLED:
        return Refusal(Verdict.THROTTLED, _text(body, "policyName") or code, retry_after=response.pause_seconds)
    if status in _LOCKED:
        return Refusal(Verdict.LOCKED, code)
    if status in _MAYBE_WRITTEN:
        return Refusal(Verdict.AMBIGUOUS, code)
    if status >= 500:
        return Refusal(Verdict.TRANSIENT, code, retry_after=response.pause_seconds)
    # 401 and 403, but also 404, 405 or a redirect: the address, the token or its scopes are wrong, not the record.
    return Refusal(Verdict.AUTH, code, explanation=_explained(message, code))


def refusal_of_one(response: CrmResponse) -> Refusal | None:
    """The same for a request about one record, where a 404 says that it is not there. Ask only below a known path."""
    return None if response.status == 404 else refusal_of(response)


def read_batch(
    part: Sequence[CrmRecord], response: CrmResponse, *, key_property: str, targets: Mapping[int, str] | None = None
) -> list[RecordVerdict]:
    """One verdict per record of ``part``, from the entries of a 200 or 207.

    An entry is known by its trace id, else by our key among its properties, else by the CRM's id of its record
    (``targets``, by outbox id). What no entry speaks of is ambiguous: HubSpot has answered 200 with empty lists and
    written nothing.
    """
    names = {trace_id(record): record for record in part}
    names |= {str(record.contact_id): record for record in part}
    names |= {target: record for record in part if (target := (targets or {}).get(record.outbox_id))}
    verdicts: dict[int, RecordVerdict] = {}
    for result in _entries(response.body, "results"):
        record = _first(
            names, [result.get("objectWriteTraceId"), _properties(result).get(key_property), result.get("id")]
        )
        if record is not None:
            new = result.get("new")  # an upsert says it
            verdicts[record.outbox_id] = RecordVerdict(
                record.outbox_id,
                Verdict.DELIVERED,
                crm_record_id=_text(result, "id"),
                created=new if isinstance(new, bool) else None,
            )
    for error in _entries(response.body, "errors"):
        context = _context(error)
        for name in [*_strings(context.get("objectWriteTraceId")), *_strings(context.get("ids"))]:
            if name in names:
                outbox_id = names[name].outbox_id
                verdicts[outbox_id] = _entry_verdict(error, context, outbox_id=outbox_id)
    return [*verdicts.values(), *not_reported([record for record in part if record.outbox_id not in verdicts])]


def not_reported(records: Sequence[CrmRecord]) -> list[RecordVerdict]:
    """The verdict on records that an answer does not speak of."""
    return [RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS, code="NOT_REPORTED") for record in records]


def read_found(response: CrmResponse, *, key_property: str) -> list[Found]:
    """The records of an answer to batch/read."""
    return [
        Found(entry["id"], _properties(entry).get(key_property) or "")
        for entry in _entries(response.body, "results")
        if isinstance(entry.get("id"), str)
    ]


def read_missing(response: CrmResponse) -> set[str]:
    """The ids or keys of which an answer to batch/read says that they are not there."""
    return {
        name
        for error in _entries(response.body, "errors")
        if error.get("category") == "OBJECT_NOT_FOUND"
        for name in _strings(_context(error).get("ids"))
    }


def read_one(response: CrmResponse, *, key_property: str) -> Found | None:
    """The record of an answer that tells one, by its present id; ``None``: it is not there."""
    body = response.body if response.status == 200 and isinstance(response.body, dict) else {}
    crm_record_id = _text(body, "id")
    return Found(crm_record_id, _properties(body).get(key_property) or "") if crm_record_id else None


def existing_id(verdict: RecordVerdict) -> str | None:
    """The CRM record that stands in the way, when HubSpot named it."""
    if verdict.holder_id:
        return verdict.holder_id
    match = _EXISTING_ID.search(verdict.explanation or "")
    return match[1] if match else None


def _entry_verdict(error: Mapping[str, Any], context: Mapping[str, Any], *, outbox_id: int) -> RecordVerdict:
    code = _code(error)
    verdict = _CATEGORIES.get(_text(error, "category") or "", Verdict.TRANSIENT)
    if code in _SETUP_CODES:
        verdict = Verdict.AUTH
    holder = next(iter(_strings(context.get("existingId"))), None) if verdict is Verdict.CONFLICT else None
    return RecordVerdict(
        outbox_id,
        verdict,
        code=code,
        holder_id=holder,
        explanation=_explained(_text(error, "message"), code),
        refused_properties=_property_names(error),
    )


def _readings(headers: Mapping[str, str]) -> tuple[QuotaReading, ...]:
    """What the headers say is left of the window and of the day. OAuth apps are told no day, searches nothing."""
    milliseconds = _count(headers.get("x-hubspot-ratelimit-interval-milliseconds"))
    window = _WINDOW_SECONDS if milliseconds is None else max(1, milliseconds // 1000)
    told = []
    for name, seconds in (("", window), ("-daily", None)):
        remaining = _count(headers.get(f"x-hubspot-ratelimit{name}-remaining"))
        if remaining is not None:
            limit = _count(headers.get("x-hubspot-ratelimit" + (name or "-max")))
            told.append(QuotaReading(Unit.REQUESTS, seconds, limit, remaining))
    return tuple(told)


def _code(body: Mapping[str, Any]) -> str | None:
    """The most specific code that is a code: never a sentence, which could quote the lead."""
    named = [entry.get("code") for entry in _entries(body, "errors")]
    in_message = _CODE_IN_MESSAGE.search(_text(body, "message") or "")
    for candidate in [*named, in_message and in_message[1], body.get("category"), body.get("errorType")]:
        if isinstance(candidate, str) and _CODE.fullmatch(candidate):
            return candidate
    return None


def _explained(message: str | None, code: str | None) -> str | None:
    """HubSpot's words, and what helps."""
    advice = _ADVICE.get(code or "")
    return " ".join(filter(None, (message, advice and f"What helps: {advice}."))) or None


def _property_names(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The properties that a refusal names, each once. HubSpot may leave out some in one of the two places."""
    named = [name for entry in _entries(body, "errors") for name in _strings(_context(entry).get("propertyName"))]
    named += _NAME_IN_MESSAGE.findall(_text(body, "message") or "")
    return tuple(dict.fromkeys(name for name in named if _NAME.fullmatch(name)))


def _entries(body: Any, name: str) -> list[dict[str, Any]]:
    entries = body.get(name) if isinstance(body, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _context(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    context = entry.get("context")
    return context if isinstance(context, dict) else {}


def _properties(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = entry.get("properties")
    return properties if isinstance(properties, dict) else {}


def _first(names: Mapping[str, CrmRecord], candidates: Sequence[Any]) -> CrmRecord | None:
    return next((names[name] for name in candidates if isinstance(name, str) and name in names), None)


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value if isinstance(value, str) and value else None


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return min(seconds, _MAX_PAUSE) if seconds >= 0 else None


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None
