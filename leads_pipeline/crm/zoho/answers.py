"""How an answer of Zoho is read: which class a refusal is of, and what became of each record.

Pure. Zoho answers 200, 207 or 400 with a list ``data``, which has an entry for each record in the order in which they
were sent; what stands there counts, whatever the status. An answer without it is about the request as a whole. Nothing
relies on a key: what cannot be read makes its record ``ambiguous``, and an upsert by our key may be repeated.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from leads_pipeline.crm.parts import Refusal, unanswered
from leads_pipeline.crm.port import CrmRecord, CrmResponse, QuotaReading, RecordVerdict, Unit, Verdict
from leads_pipeline.outbound.transport import HttpAnswer

# Told only once half of the day's credits is used.
_CREDITS_LEFT = "x-api-credits-remaining"
CREDIT_SECONDS = 86_400  # credits are counted over 24 hours on end

# By the code of an entry, or of a whole answer. What is not here is told by the status; of an entry, it is invalid.
_CODES = {
    "DUPLICATE_DATA": Verdict.CONFLICT,
    "RECORD_LOCKED": Verdict.LOCKED,
    "CANNOT_PROCESS": Verdict.TRANSIENT,
    "ALREADY_MODIFIED": Verdict.TRANSIENT,
    "INTERNAL_ERROR": Verdict.AMBIGUOUS,
    "TOO_MANY_REQUESTS": Verdict.THROTTLED,
    # Nothing of this destination passes until a person acts.
    "AUTHENTICATION_FAILURE": Verdict.AUTH,
    "AUTHORIZATION_FAILED": Verdict.AUTH,
    "CRMPLUS_FEATURE_NOT_AVAILABLE": Verdict.AUTH,
    "INVALID_MODULE": Verdict.AUTH,
    "INVALID_TOKEN": Verdict.AUTH,
    "INVALID_URL_PATTERN": Verdict.AUTH,
    "NO_PERMISSION": Verdict.AUTH,
    "OAUTH_SCOPE_MISMATCH": Verdict.AUTH,
    "STORAGE_SPACE_EXCEEDED": Verdict.AUTH,
}
# Also where it is said of a few: nothing new is taken, while what is there can be changed.
_OF_ALL_RECORDS = frozenset({"STORAGE_SPACE_EXCEEDED"})
MANDATORY_NOT_FOUND = "MANDATORY_NOT_FOUND"
_NEW_GRANT = "make a new refresh token and put it into the variable of destinations.NAME.refresh_token"
# What helps where Zoho's own words do not say it.
_ADVICE = {
    "AUTHENTICATION_FAILURE": _NEW_GRANT,
    "DUPLICATE_DATA": "another record has this value in a field that must be unique: merge the two in Zoho, or correct "
    "the value with `leads dead-letters fix`",
    "INVALID_DATA": "correct the value with `leads dead-letters fix`, or mend destinations.NAME.mapping",
    "INVALID_MODULE": "mend destinations.NAME.module: it is the module's API name, such as Leads",
    "INVALID_TOKEN": _NEW_GRANT,
    "INVALID_URL_PATTERN": "mend destinations.NAME.api_version or base_url; Zoho's is /crm/v8",
    MANDATORY_NOT_FOUND: "Zoho demands this field: map it, or say in destinations.NAME.if_unknown what to put there",
    "NO_PERMISSION": "give the user of the refresh token the right to write the module, and this record in it",
    "OAUTH_SCOPE_MISMATCH": "make a refresh token with the scopes ZohoCRM.modules.ALL, ZohoCRM.settings.fields.READ "
    "and ZohoCRM.settings.recycle_bin.DELETE",
    "STORAGE_SPACE_EXCEEDED": "the organisation's storage is full: delete records there, or buy more",
}
_DIVISIBLE = {400: Verdict.INVALID, 413: Verdict.INVALID, 422: Verdict.INVALID}
_BY_STATUS = {412: Verdict.TRANSIENT, 423: Verdict.LOCKED, 429: Verdict.THROTTLED}
# The server may have written before it failed.
_MAYBE_WRITTEN = frozenset({408, 500, 502, 504, 520, 524})

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_NAME = re.compile(r"[A-Za-z0-9_]{1,100}")
_ID = re.compile(r"\d{1,24}")


def response_of(
    answer: HttpAnswer, *, pause_after_429: Callable[[], float | None], asked_pause: float | None = None
) -> CrmResponse:
    """What Zoho's status and headers say, in the port's words.

    ``pause_after_429``: how long to leave the account alone, ``None``: until credits come back. Zoho documents neither
    that nor which of its limits is reached; an ``asked_pause`` (Retry-After) wins where there is one.
    """
    left = answer.headers.get(_CREDITS_LEFT, "")
    remaining = int(left) if left.isascii() and left.isdigit() and len(left) < 16 else None
    readings = () if remaining is None else (QuotaReading(Unit.CREDITS, CREDIT_SECONDS, None, remaining),)
    throttled = answer.status == 429
    pause = asked_pause if throttled or answer.status == 503 else None
    if throttled and pause is None and remaining != 0:
        pause = pause_after_429()
    return CrmResponse(
        status=answer.status,
        body=answer.body,
        text=answer.text,
        correlation_id=answer.headers.get("x-zoho-request-id"),
        credentials_renewed=answer.credentials_renewed,
        throttled=throttled,
        pause_seconds=pause,
        until_reset=throttled and pause is None,
        readings=readings,
    )


def refusal_of(response: CrmResponse) -> Refusal | None:
    """Why the request as a whole did nothing, or may have; ``None`` when the answer speaks of each record."""
    status = response.status
    if status is None:
        return unanswered(response)
    if status < 300 or (status in _DIVISIBLE and entries(response.body)):
        return None
    body = response.body if isinstance(response.body, dict) else {}
    code = _code(body) or f"HTTP_{status}"
    verdict = _CODES.get(code) or _BY_STATUS.get(status)
    if status in _MAYBE_WRITTEN or verdict is Verdict.AMBIGUOUS:
        return Refusal(Verdict.AMBIGUOUS, code)
    if verdict is None and status in _DIVISIBLE:
        return Refusal(
            _DIVISIBLE[status],
            code,
            divisible=True,
            explanation=_explained(body, code),
            refused_properties=_names(body),
        )
    if verdict is None and status >= 500:
        return Refusal(Verdict.TRANSIENT, code)
    if verdict is Verdict.THROTTLED:
        return Refusal(verdict, code, retry_after=response.pause_seconds)
    # 401 and 403, but also 404, 405 or a redirect: the address, the token or its scopes are wrong, not the record.
    return Refusal(verdict or Verdict.AUTH, code, explanation=_explained(body, code))


def token_ended(body: Any) -> bool:
    """Whether a 401 with this body is about the token; other codes are about what its user and its scopes allow."""
    return not isinstance(body, dict) or _code(body) in (None, "INVALID_TOKEN")


def read_batch(part: Sequence[CrmRecord], response: CrmResponse) -> list[RecordVerdict]:
    """One verdict for each record of ``part``, from the entries in their order.

    A list of another length speaks of nobody: whose its entries are cannot be told.
    """
    found = entries(response.body)
    if len(found) != len(part):
        return [not_reported(record) for record in part]
    return told_apart([entry_verdict(record, entry) for record, entry in zip(part, found, strict=True)])


def told_apart(verdicts: Sequence[RecordVerdict]) -> list[RecordVerdict]:
    """The verdicts of one answer, where a right that some records lack is no fault of the destination.

    Zoho says the same of a module that its user must not write and of a single record that is another's: it is about
    the module where it is said of every record.
    """
    if all(item.verdict is Verdict.AUTH for item in verdicts):
        return list(verdicts)
    return [
        replace(item, verdict=Verdict.INVALID)
        if item.verdict is Verdict.AUTH and item.code not in _OF_ALL_RECORDS
        else item
        for item in verdicts
    ]


def entry_verdict(record: CrmRecord, entry: Mapping[str, Any]) -> RecordVerdict:
    """What an entry says of its record."""
    code, details = _code(entry), _details(entry)
    if code == "SUCCESS" or entry.get("status") == "success":
        action = entry.get("action") or {"record added": "insert", "record updated": "update"}.get(
            str(entry.get("message"))
        )
        return RecordVerdict(
            record.outbox_id,
            Verdict.DELIVERED,
            crm_record_id=_id(details.get("id")),
            created={"insert": True, "update": False}.get(str(action)),
        )
    if code is None:
        return not_reported(record)
    verdict = _CODES.get(code, Verdict.INVALID)
    return RecordVerdict(
        record.outbox_id,
        verdict,
        code=code,
        explanation=_explained(entry, code),
        holder_id=_holder(details) if verdict is Verdict.CONFLICT else None,
        refused_properties=_names(entry),
    )


def not_reported(record: CrmRecord) -> RecordVerdict:
    """The verdict on a record of which an answer does not speak."""
    return RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS, code="NOT_REPORTED")


def keys_held(response: CrmResponse, *, key_property: str) -> dict[str, str]:
    """The key of ours that each record of an answer holds (empty: none), by the CRM's id."""
    return {
        crm_record_id: str(entry.get(key_property) or "")
        for entry in entries(response.body)
        if (crm_record_id := _id(entry.get("id"))) is not None
    }


def entries(body: Any) -> list[dict[str, Any]]:
    """The list ``data``, which the recycle bin calls by its own name; empty if it cannot be read as a whole."""
    found = body.get("data", body.get("recycle_bin")) if isinstance(body, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        return []
    return found


def reason(response: CrmResponse) -> str:
    """A code for an answer that does not tell what it was asked."""
    refusal = refusal_of(response)
    return "EMPTY_ANSWER" if refusal is None or refusal.code is None else refusal.code


def _code(body: Mapping[str, Any]) -> str | None:
    code = body.get("code")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def _details(body: Mapping[str, Any]) -> Mapping[str, Any]:
    details = body.get("details")
    return details if isinstance(details, dict) else {}


def _id(value: Any) -> str | None:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if _ID.fullmatch(text) else None


def _holder(details: Mapping[str, Any]) -> str | None:
    record = details.get("duplicate_record")
    return _id(record.get("id") if isinstance(record, dict) else details.get("id"))


def _names(body: Mapping[str, Any]) -> tuple[str, ...]:
    name = _details(body).get("api_name")
    return (name,) if isinstance(name, str) and _NAME.fullmatch(name) else ()


def _explained(body: Mapping[str, Any], code: str) -> str | None:
    """Zoho's words, which field they are about, what that field takes, and what helps."""
    details = _details(body)
    message = body.get("message")
    told = [message] if isinstance(message, str) and message else []
    told += [f"field {name}" for name in _names(body)]
    told += [
        f"{label} {details[key]}"
        for key, label in (("maximum_length", "at most characters:"), ("expected_data_type", "expected:"))
        if isinstance(details.get(key), int | str)
    ]
    told += [_ADVICE[code]] if code in _ADVICE else []
    return "; ".join(told) or None
