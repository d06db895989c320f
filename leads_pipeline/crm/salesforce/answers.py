"""How an answer of Salesforce is read: which class a refusal is of, and which record an entry is about.

Pure. Three habits shape it. A limit that is reached is a 403, and only its ``errorCode`` tells it from one that a
person must see to; no answer says how long to wait. The results of a collection come in the order of its records, and a
200 may hold nothing but refusals. Codes mean the same in REST, in collections and in the CSV of a bulk job.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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

DAY_SECONDS = 86_400  # the quota's window slides
# Too many long calls at once: the shortest of them ends within seconds.
_PAUSE_CONCURRENT = 10.0
# A limit that is not known by its message.
_PAUSE_UNKNOWN = 60.0

REQUEST_LIMIT_EXCEEDED = "REQUEST_LIMIT_EXCEEDED"
_LOCKED = "UNABLE_TO_LOCK_ROW"
REQUIRED_FIELD_MISSING = "REQUIRED_FIELD_MISSING"
DUPLICATES_DETECTED = "DUPLICATES_DETECTED"
CONVERTED = "CANNOT_UPDATE_CONVERTED_LEAD"
_NO_SUCH_FIELD = "No such column"
# The server may have written before it failed.
_MAYBE_WRITTEN = frozenset({408, 500, 502, 504})

_VERDICTS: Mapping[str, Verdict] = {
    REQUEST_LIMIT_EXCEEDED: Verdict.THROTTLED,
    _LOCKED: Verdict.LOCKED,
    DUPLICATES_DETECTED: Verdict.CONFLICT,
    "DUPLICATE_VALUE": Verdict.CONFLICT,
    "DUPLICATE_EXTERNAL_ID": Verdict.CONFLICT,
    CONVERTED: Verdict.CONFLICT,
    **dict.fromkeys(
        (
            REQUIRED_FIELD_MISSING, "INVALID_FIELD", "STRING_TOO_LONG", "INVALID_EMAIL_ADDRESS",
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "FIELD_CUSTOM_VALIDATION_EXCEPTION", "MALFORMED_ID",
            "INVALID_TYPE_ON_FIELD_IN_RECORD", "NUMBER_OUTSIDE_VALID_RANGE", "FIELD_FILTER_VALIDATION_EXCEPTION",
            "INVALID_CROSS_REFERENCE_KEY", "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY", "FIELD_INTEGRITY_EXCEPTION",
            "ENTITY_IS_DELETED", "MISSING_ARGUMENT", "INVALID_INPUT", "JSON_PARSER_ERROR", "VALIDATION_ERROR",
        ),
        Verdict.INVALID,
    ),
    **dict.fromkeys(
        (
            "INVALID_SESSION_ID", "API_DISABLED_FOR_ORG", "INVALID_FIELD_FOR_INSERT_UPDATE", "INVALID_TYPE",
            "INSUFFICIENT_ACCESS", "INSUFFICIENT_ACCESS_OR_READONLY", "STORAGE_LIMIT_EXCEEDED",
        ),
        Verdict.AUTH,
    ),
}  # fmt: skip

# What entries alone say: an id that is not there, and a trigger of the org's own that fails. As the answer to a whole
# request the first is about the address.
_NOT_FOUND = "NOT_FOUND"
TRIGGER_FAILED = "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
# Also where it is said of a few: nothing new is taken, while what is there can be changed.
_OF_ALL_RECORDS = frozenset({"STORAGE_LIMIT_EXCEEDED"})

# What helps where Salesforce's own words do not say it.
_ADVICE = {
    "INVALID_FIELD_FOR_INSERT_UPDATE": "let the integration's user edit the field, or take it out of "
    "destinations.NAME.mapping",
    _NO_SUCH_FIELD: "create the field in Salesforce and let the integration's user see it, or mend "
    "destinations.NAME.mapping or key_property",
    "INVALID_EMAIL_ADDRESS": "correct the address with `leads dead-letters fix`",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": "add the value in Salesforce, or give destinations.NAME.mapping a table "
    "of values",
    "REQUIRED_FIELD_MISSING": "map the field, or give it a value in destinations.NAME.placeholders",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": "a validation rule of the org refuses it: correct the contact with "
    "`leads dead-letters fix`, or the rule",
    "STORAGE_LIMIT_EXCEEDED": "the org's storage is full: free some, or buy more",
    "API_DISABLED_FOR_ORG": "give the integration's user the permission API Enabled, in an edition that has the API",
    "INVALID_SESSION_ID": "check the connected app's secret or certificate and its run-as user",
    _NOT_FOUND: "mend destinations.NAME.api_version or object_type, or let the integration's user see the object",
    "INSUFFICIENT_ACCESS_OR_READONLY": "let the integration's user create and edit the object, and this record of it",
    TRIGGER_FAILED: "a trigger of the org fails at it: correct the contact with `leads dead-letters fix`, or the "
    "trigger",
    "DUPLICATE_EXTERNAL_ID": "several records hold this contact's key: merge them in Salesforce, and make the key's "
    "field unique",
}

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_COLUMN = re.compile(r"No such column '([A-Za-z][A-Za-z0-9_]{0,99})'")
_USAGE = re.compile(r"(?:^|[\s,;])api-usage=(\d+)/(\d+)")
_HOLDER = re.compile(r"record with id: ([A-Za-z0-9]{15,18})")


@dataclass(frozen=True, slots=True)
class Found:
    """A record that the org has, and the key of ours that it holds (empty: none)."""

    crm_record_id: str
    key: str
    deleted: bool = False
    master_id: str | None = None  # of a deleted one: into which it was merged
    converted_to: str | None = None  # of a lead: the contact that people made of it


def response_of(answer: HttpAnswer) -> CrmResponse:
    """What Salesforce's headers and error codes say, in the port's words."""
    code, message = _error(answer.body)
    throttled = code == REQUEST_LIMIT_EXCEEDED
    spent = throttled and "TotalRequests" in message
    pause = None
    if throttled and not spent:
        pause = _PAUSE_CONCURRENT if "Concurrent" in message else _PAUSE_UNKNOWN
    return CrmResponse(
        status=answer.status,
        body=answer.body,
        text=answer.text,
        credentials_renewed=answer.credentials_renewed,
        throttled=throttled,
        pause_seconds=pause,
        until_reset=spent,
        readings=_readings(answer),
    )


def refusal_of(response: CrmResponse) -> Refusal | None:
    """Why the request as a whole did nothing, or may have; ``None`` when the answer speaks of each record."""
    status = response.status
    if status is None:
        return unanswered(response)
    if status < 300:
        return _failed_trigger(response.body)
    code, message = _error(response.body)
    code = code or f"HTTP_{status}"
    names = _property_names(message, _first(response.body))
    if response.throttled:
        return Refusal(Verdict.THROTTLED, code, retry_after=response.pause_seconds)
    if status in _MAYBE_WRITTEN:
        return Refusal(Verdict.AMBIGUOUS, code)
    if status > 500:
        return Refusal(Verdict.TRANSIENT, code)
    if status == 400:
        verdict = _verdict(code, message, unknown=Verdict.INVALID)
        divisible = verdict in (Verdict.INVALID, Verdict.CONFLICT)
        return Refusal(verdict, code, divisible, explanation=_explained(message, code), refused_properties=names)
    # 401 and 403, but also 404, 405 or a redirect: the address, the user or its rights are wrong, not the record.
    verdict = _verdict(code, message, unknown=Verdict.AUTH) if status == 404 else Verdict.AUTH
    return Refusal(verdict, code, explanation=_explained(message, code), refused_properties=names)


def _failed_trigger(results: Any) -> Refusal | None:
    """A trigger that fails at one record fails for all that are sent with it: who is at fault is found by halving."""
    entries = _dicts(results)
    errors = [_first(entry.get("errors")) for entry in entries]
    if len(entries) < 2 or not all(_code(error) == TRIGGER_FAILED for error in errors):
        return None
    if any(_LOCKED in _text(error.get("message")) for error in errors):
        return None
    return Refusal(Verdict.INVALID, TRIGGER_FAILED, divisible=True)


def read_results(part: Sequence[CrmRecord], response: CrmResponse) -> list[RecordVerdict]:
    """One verdict per record of ``part``, from the results in their order.

    Where their number differs nothing is known of any: an answer that leaves one out says not of which it speaks.
    """
    entries = response.body if isinstance(response.body, list) else []
    if len(entries) != len(part):
        return not_reported(part)
    return told_apart([read_entry(record, entry) for record, entry in zip(part, entries, strict=True)])


def told_apart(verdicts: Sequence[RecordVerdict]) -> list[RecordVerdict]:
    """The verdicts of one answer, where a right that some records lack is no fault of the destination.

    Salesforce says the same of an object that the user must not write and of a single record that is another's: it is
    about the object where it is said of every record. A property that is named is refused by itself.
    """
    if all(item.verdict is Verdict.AUTH for item in verdicts):
        return list(verdicts)
    return [
        replace(item, verdict=Verdict.INVALID)
        if item.verdict is Verdict.AUTH and item.code not in _OF_ALL_RECORDS and not item.refused_properties
        else item
        for item in verdicts
    ]


def read_entry(record: CrmRecord, entry: Any) -> RecordVerdict:
    """The verdict of one result: of a collection, or of a request about one record."""
    if not isinstance(entry, dict) or not isinstance(entry.get("success"), bool):
        return RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS, code="NOT_REPORTED")
    if entry["success"]:
        created, crm_record_id = entry.get("created"), entry.get("id")
        return RecordVerdict(
            record.outbox_id,
            Verdict.DELIVERED,
            crm_record_id=crm_record_id if isinstance(crm_record_id, str) else None,
            created=created if isinstance(created, bool) else None,
        )
    error = _first(entry.get("errors"))
    code, message = _code(error), _text(error.get("message"))
    return refused(record, code, message, names=_property_names(message, error))


def refused(record: CrmRecord, code: str | None, message: str, *, names: tuple[str, ...] = ()) -> RecordVerdict:
    """The verdict on a record that Salesforce refuses with ``code``, wherever it says so."""
    verdict = _verdict(code or "", message, unknown=Verdict.TRANSIENT)
    if code in (_NOT_FOUND, TRIGGER_FAILED):
        verdict = Verdict.LOCKED if _LOCKED in message else Verdict.INVALID
    holder = _HOLDER.search(message)
    return RecordVerdict(
        record.outbox_id,
        verdict,
        code=code,
        holder_id=holder[1] if holder and verdict is Verdict.CONFLICT else None,
        explanation=_explained(message, code),
        refused_properties=names,
    )


def not_reported(records: Sequence[CrmRecord]) -> list[RecordVerdict]:
    """The verdict on records that an answer does not speak of."""
    return [RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS, code="NOT_REPORTED") for record in records]


def read_found(response: CrmResponse, *, key_property: str) -> list[Found] | None:
    """The records that a query found; ``None`` if the answer does not say so of all that there are."""
    body = response.body if isinstance(response.body, dict) else {}
    records = body.get("records")
    if body.get("done") is not True or not isinstance(records, list) or body.get("totalSize") != len(records):
        return None
    return [
        Found(
            entry["Id"],
            _text(entry.get(key_property)),
            deleted=entry.get("IsDeleted") is True,
            master_id=_text(entry.get("MasterRecordId")) or None,
            converted_to=_text(entry.get("ConvertedContactId")) or None,
        )
        for entry in records
        if isinstance(entry, dict) and isinstance(entry.get("Id"), str)
    ]


def matched_ids(response: CrmResponse) -> list[str]:
    """The records for which a duplicate rule refused one; Salesforce tells them of single records only."""
    result = _first(response.body).get("duplicateResult")
    found = []
    for match in _dicts(result.get("matchResults") if isinstance(result, dict) else None):
        for item in _dicts(match.get("matchRecords")):
            record = item.get("record")
            if isinstance(record, dict) and isinstance(record.get("Id"), str):
                found.append(record["Id"])
    return found


def _readings(answer: HttpAnswer) -> tuple[QuotaReading, ...]:
    """What is left of the 24 hours, of all applications together: the header says used/limit, /limits what remains."""
    usage = _USAGE.search(answer.headers.get("sforce-limit-info", ""))
    if usage is not None:
        used, limit = int(usage[1]), int(usage[2])
        return (QuotaReading(Unit.REQUESTS, DAY_SECONDS, limit, max(0, limit - used)),)
    daily = answer.body.get("DailyApiRequests") if isinstance(answer.body, dict) else None
    if isinstance(daily, dict) and isinstance(daily.get("Max"), int) and isinstance(daily.get("Remaining"), int):
        return (QuotaReading(Unit.REQUESTS, DAY_SECONDS, daily["Max"], max(0, daily["Remaining"])),)
    return ()


def _verdict(code: str, message: str, *, unknown: Verdict) -> Verdict:
    if code == "INVALID_FIELD" and (_NO_SUCH_FIELD in message or "External ID" in message):
        return Verdict.AUTH  # the mapping, or the key, names what the org does not have
    return _VERDICTS.get(code, unknown)


def _error(body: Any) -> tuple[str | None, str]:
    error = _first(body)
    return _code(error), _text(error.get("message"))


def _first(entries: Any) -> Mapping[str, Any]:
    return next(iter(_dicts(entries)), {})


def _code(error: Mapping[str, Any]) -> str | None:
    """The error's code: never a sentence, which could quote the lead."""
    for name in ("statusCode", "errorCode"):
        code = error.get(name)
        if isinstance(code, str) and _CODE.fullmatch(code):
            return code
    return None


def _explained(message: str, code: str | None) -> str | None:
    """Salesforce's words, and what helps."""
    advice = _ADVICE.get(_NO_SUCH_FIELD if message.startswith(_NO_SUCH_FIELD) else code or "")
    return " ".join(filter(None, (message, advice and f"What helps: {advice}."))) or None


def _property_names(message: str, error: Mapping[str, Any]) -> tuple[str, ...]:
    fields = error.get("fields")
    named = [item for item in fields if isinstance(item, str)] if isinstance(fields, list) else []
    named += _COLUMN.findall(message)
    return tuple(dict.fromkeys(name for name in named if _NAME.fullmatch(name)))


def _dicts(entries: Any) -> list[dict[str, Any]]:
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
