"""The shapes of HubSpot's answers.

Success and error bodies follow recorded answers and HubSpot's reference pages; docs/sandbox.md says which are guesses.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from leads_pipeline.sandbox.answers import Answer

VALIDATION_ERROR = "VALIDATION_ERROR"
CONFLICT = "CONFLICT"
OBJECT_NOT_FOUND = "OBJECT_NOT_FOUND"


class Policy(StrEnum):
    """Which limit refused, in HubSpot's words."""

    ROLLING = "TEN_SECONDLY_ROLLING"
    SECONDLY = "SECONDLY"
    DAILY = "DAILY"


@dataclass(frozen=True, slots=True)
class PropertyFault:
    """One property value that HubSpot does not take."""

    name: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request, or one input of a batch, was refused.

    ``spares_neighbours``: the other inputs are written even when the inputs carry no trace ids.
    """

    status: int
    category: str
    message: str
    context: dict[str, list[str]] = field(default_factory=dict)
    faults: tuple[PropertyFault, ...] = ()
    spares_neighbours: bool = False


def timestamp(instant: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and a Z."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def invalid(message: str, **context: list[str]) -> Refusal:
    """A 400 that is not about one property's value."""
    return Refusal(400, VALIDATION_ERROR, message, context)


def invalid_properties(faults: list[PropertyFault]) -> Refusal:
    """A 400 whose message holds a JSON list of every value that was not taken, as recorded."""
    listed = [{"isValid": False, "message": fault.message, "error": fault.code, "name": fault.name} for fault in faults]
    shown = json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
    return Refusal(400, VALIDATION_ERROR, f"Property values were not valid: {shown}", faults=tuple(faults))


def not_found(*ids: str) -> Refusal:
    """Inputs that name no living contact. Their neighbours are written all the same, as recorded."""
    return Refusal(
        404,
        OBJECT_NOT_FOUND,
        "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid.",
        {"ids": list(ids)},
        spares_neighbours=True,
    )


def already_exists(existing_id: str) -> Refusal:
    """The e-mail belongs to another contact."""
    return Refusal(409, CONFLICT, f"Contact already exists. Existing ID: {existing_id}", {"existingId": [existing_id]})


def refused(refusal: Refusal, *, correlation_id: str) -> Answer:
    """A refusal of the whole request."""
    body: dict[str, Any] = {"status": "error", "message": refusal.message, "correlationId": correlation_id}
    if refusal.faults:
        body["errors"] = [
            {"message": fault.message, "code": fault.code, "context": {"propertyName": [fault.name]}}
            for fault in refusal.faults
        ]
    if refusal.context:
        body["context"] = refusal.context
    body["category"] = refusal.category
    return Answer(refusal.status, body)


def refused_input(refusal: Refusal, *, trace_id: str | None) -> dict[str, Any]:
    """A refusal of one input, as it stands in ``errors`` of a 207."""
    context = dict(refusal.context)
    # Recorded: an unknown record is reported by its id alone, a conflict by the trace id.
    if trace_id is not None and not (refusal.spares_neighbours and refusal.context):
        context = {"objectWriteTraceId": [trace_id], **context}
    return {"status": "error", "category": refusal.category, "message": refusal.message, "context": context}


def batch_answer(
    results: list[dict[str, Any]], errors: list[dict[str, Any]], *, status: int, started: datetime, completed: datetime
) -> Answer:
    """The envelope of a batch: 207 as soon as one input was refused."""
    body: dict[str, Any] = {
        "status": "COMPLETE",
        "results": results,
        "startedAt": timestamp(started),
        "completedAt": timestamp(completed),
    }
    if errors:
        body |= {"errors": errors, "numErrors": len(errors)}
    return Answer(207 if errors else status, body)


def too_many_requests(policy: Policy, *, correlation_id: str, retry_after: int | None) -> Answer:
    """A 429. It has no ``category``, as recorded."""
    body = {
        "status": "error",
        "message": f"You have reached your {policy.lower()} limit.",
        "errorType": "RATE_LIMIT",
        "correlationId": correlation_id,
        "policyName": str(policy),
        "requestId": correlation_id,
    }
    return Answer(429, body, {} if retry_after is None else {"Retry-After": str(retry_after)})


def failure(status: int, message: str, *, category: str | None, correlation_id: str) -> Answer:
    """Anything that is refused before it is looked at."""
    body = {"status": "error", "message": message, "correlationId": correlation_id}
    return Answer(status, body if category is None else {**body, "category": category})
