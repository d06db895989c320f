"""Every refusal of the capture service: one table, one shape.

Add a refusal here, to docs/capture.md and to the test that walks the table; the test fails until all three agree. A
message never repeats what was sent.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from leads_pipeline.domain.posted_lead import Fault, FieldFault, Unreadable


class Code(StrEnum):
    """The names of the refusals, as they stand in ``error.code``."""

    MALFORMED_JSON = "malformed_json"
    NOT_AN_ARRAY = "not_an_array"
    INVALID_IDEMPOTENCY_KEY = "invalid_idempotency_key"
    UNKNOWN_SOURCE = "unknown_source"
    BAD_KEY = "bad_key"
    BAD_SIGNATURE = "bad_signature"
    WRONG_SCOPE = "wrong_scope"
    SOURCE_MISMATCH = "source_mismatch"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_SLOW = "body_too_slow"
    KEY_REUSED = "key_reused"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_LEADS = "too_many_leads"
    TOO_MANY_OUTCOMES = "too_many_outcomes"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    NOT_AN_OBJECT = "not_an_object"
    EMPTY_LEAD = "empty_lead"
    WRONG_TYPE = "wrong_type"
    NUL_CHARACTER = "nul_character"
    LONE_SURROGATE = "lone_surrogate"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    TOO_DEEP = "too_deep"
    UNSTORABLE = "unstorable"
    WRONG_SHAPE = "wrong_shape"
    INVALID_LOOKUP = "invalid_lookup"
    INVALID_OUTCOME = "invalid_outcome"
    TOO_MANY_REQUESTS = "too_many_requests"
    INTERNAL_ERROR = "internal_error"
    QUEUE_FULL = "queue_full"
    BUFFER_FULL = "buffer_full"
    SOURCE_NOT_READY = "source_not_ready"
    LOOKUP_UNAVAILABLE = "lookup_unavailable"
    DATABASE_UNAVAILABLE = "database_unavailable"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refusal says. ``retry_after_seconds`` is the hint for the sender; ``None`` means: not as it stands."""

    code: Code
    status: int
    message: str
    retry_after_seconds: int | None = None


_TABLE = (
    Refusal(Code.MALFORMED_JSON, 400, "The body is not valid JSON in UTF-8."),
    Refusal(Code.NOT_AN_ARRAY, 400, "A batch must be a JSON array, or one JSON object a line (application/x-ndjson)."),
    Refusal(Code.INVALID_IDEMPOTENCY_KEY, 400, "Idempotency-Key must be 1 to 255 visible ASCII characters."),
    Refusal(Code.UNKNOWN_SOURCE, 400, "The source is not configured for this key's tenant in leads.yaml."),
    Refusal(Code.BAD_KEY, 401, "Send an API key in force: 'Authorization: Bearer lp_…' or 'X-API-Key: lp_…'."),
    Refusal(
        Code.BAD_SIGNATURE, 401, "The request is not signed by the secret of this source, or not within 5 minutes."
    ),
    Refusal(Code.WRONG_SCOPE, 403, "This key is not for this: keys post leads, look contacts up or tell outcomes."),
    Refusal(Code.SOURCE_MISMATCH, 403, "The source that the request names is not the one that this key is for."),
    Refusal(Code.ORIGIN_NOT_ALLOWED, 403, "This site is not among the source's cors_origins in leads.yaml."),
    Refusal(Code.NOT_FOUND, 404, "There is nothing here; leads go to /v1/leads, see /docs."),
    Refusal(Code.METHOD_NOT_ALLOWED, 405, "This address does not take that method; see the Allow header."),
    Refusal(Code.BODY_TOO_SLOW, 408, "The body did not come in time; send it again.", 1),
    Refusal(Code.KEY_REUSED, 409, "This Idempotency-Key came before with another body; nothing was stored."),
    Refusal(Code.BODY_TOO_LARGE, 413, "The body is too large; send it in smaller parts."),
    Refusal(Code.TOO_MANY_LEADS, 413, "The batch holds too many leads; send it in smaller parts."),
    Refusal(Code.TOO_MANY_OUTCOMES, 413, "The list holds more than 1,000 outcomes; send it in smaller parts."),
    Refusal(
        Code.UNSUPPORTED_MEDIA_TYPE,
        415,
        "Send application/json in UTF-8 without Content-Encoding; for a batch also application/x-ndjson; to a source's "
        "own address what its kind sends.",
    ),
    Refusal(Code.NOT_AN_OBJECT, 422, "What is posted must be a JSON object."),
    Refusal(Code.EMPTY_LEAD, 422, "The lead has no field."),
    Refusal(Code.WRONG_TYPE, 422, "A field has the wrong type; each is named under 'fields'."),
    Refusal(Code.NUL_CHARACTER, 422, "A text holds the character U+0000, which cannot be stored."),
    Refusal(Code.LONE_SURROGATE, 422, "A text holds half of a surrogate pair, which is not Unicode text."),
    Refusal(Code.NUMBER_OUT_OF_RANGE, 422, "A number is beyond the range of a double."),
    Refusal(Code.TOO_DEEP, 422, "The lead is nested too deeply."),
    Refusal(Code.UNSTORABLE, 422, "The lead holds a value that the database cannot represent."),
    Refusal(Code.WRONG_SHAPE, 422, "The body is not what this kind of source sends."),
    Refusal(Code.INVALID_LOOKUP, 422, "This asks for no contact; what is wrong is named under 'fields'."),
    Refusal(Code.INVALID_OUTCOME, 422, "This is no outcome; what is wrong is named under 'fields'."),
    Refusal(
        Code.TOO_MANY_REQUESTS, 429, "This sender posts more often than it may; Retry-After says when to go on.", 1
    ),
    Refusal(Code.INTERNAL_ERROR, 500, "Something failed here; the request_id finds it in the log.", 5),
    Refusal(Code.QUEUE_FULL, 503, "More leads are waiting to be stored than there is room for; send again.", 1),
    Refusal(Code.BUFFER_FULL, 503, "The buffer takes no more leads of this lane for now; send again.", 30),
    Refusal(
        Code.SOURCE_NOT_READY, 503, "This source's secret is not set where the service runs; send again later.", 60
    ),
    Refusal(Code.LOOKUP_UNAVAILABLE, 503, "Contacts cannot be looked up for now; ask again.", 2),
    Refusal(
        Code.DATABASE_UNAVAILABLE,
        503,
        "It is not certain that it was stored; send the same request again, it will not be doubled.",
        2,
    ),
)

REFUSALS: dict[Code, Refusal] = {refusal.code: refusal for refusal in _TABLE}


@dataclass(frozen=True, slots=True)
class Refused:
    """One refusal of one request, or of one lead in a batch."""

    code: Code
    fields: tuple[FieldFault, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    wait_seconds: int | None = None  # when it is known better than the table knows it

    @property
    def retry_after_seconds(self) -> int | None:
        """The hint for the sender."""
        return self.refusal.retry_after_seconds if self.wait_seconds is None else self.wait_seconds

    @property
    def refusal(self) -> Refusal:
        """The row of the table."""
        return REFUSALS[self.code]

    def error(self, request_id: str) -> dict[str, Any]:
        """The one error shape."""
        error: dict[str, Any] = {"code": self.code, "message": self.refusal.message, "request_id": request_id}
        if self.fields:
            error["field"] = self.fields[0].field
            error["fields"] = [{"field": fault.field, "message": fault.message} for fault in self.fields]
        return error


def refused_for(unreadable: Unreadable) -> Refused:
    """The refusal of something that cannot be taken as a lead."""
    return Refused(_BY_FAULT[unreadable.fault], unreadable.fields)


_BY_FAULT: dict[Fault, Code] = {fault: Code(fault.value) for fault in Fault}
