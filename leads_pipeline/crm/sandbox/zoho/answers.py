"""The shapes of Zoho's answers. Bodies follow recorded answers and Zoho's reference; docs/sandbox.md names guesses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from leads_pipeline.sandbox.answers import Answer

CREDITS_LEFT = "X-API-CREDITS-REMAINING"
_USER = {"name": "Sandbox", "id": "6493490000000486001"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one record of a list was refused."""

    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """As an entry of ``data``."""
        return {"code": self.code, "details": dict(self.details), "message": self.message, "status": "error"}


def invalid_data(name: str, *, place: int, **details: Any) -> Refusal:
    """A value that its field does not take."""
    return Refusal("INVALID_DATA", "invalid data", {**details, **_where(name, place)})


def missing(name: str, *, place: int) -> Refusal:
    """A field that must have a value has none."""
    return Refusal("MANDATORY_NOT_FOUND", "required field not found", _where(name, place))


def duplicate(name: str, holder_id: str, *, module: str, place: int) -> Refusal:
    """Another record holds a value that must be unique."""
    held = {"duplicate_record": {"id": holder_id, "Owner": _USER, "module": {"api_name": module}}}
    return Refusal("DUPLICATE_DATA", "duplicate data", {**_where(name, place), **held})


def no_such_record(record_id: str) -> Refusal:
    """There is no record of this id."""
    return Refusal("INVALID_DATA", "the id given seems to be invalid", {"id": record_id})


def success(message: str, record_id: str, *, created_at: str, modified_at: str, **more: Any) -> dict[str, Any]:
    """One record that was written. ``more``: what only an upsert says."""
    details = {
        "Modified_Time": modified_at,
        "Modified_By": _USER,
        "Created_Time": created_at,
        "id": record_id,
        "Created_By": _USER,
    }
    return {"code": "SUCCESS", **more, "details": details, "message": message, "status": "success"}


def removed(message: str, record_id: str) -> dict[str, Any]:
    """One record that was deleted."""
    return {"code": "SUCCESS", "details": {"id": record_id}, "message": message, "status": "success"}


def listed(entries: Sequence[dict[str, Any]], *, status: int, partly: int, key: str = "data") -> Answer:
    """An entry for each record, in their order: 400 where each of them was refused."""
    refused = sum(entry["status"] == "error" for entry in entries)
    if refused:
        status = 400 if refused == len(entries) else partly
    return Answer(status, {key: list(entries)})


def failure(status: int, code: str, message: str, **details: Any) -> Answer:
    """A request that was refused as a whole."""
    return Answer(status, {"code": code, "details": details, "message": message, "status": "error"})


def too_many_requests() -> Answer:
    """A 429 does not say which limit was reached, nor when to come back."""
    return failure(
        429,
        "TOO_MANY_REQUESTS",
        "Number of API requests for the 24 hour period is exceeded or the concurrency limit of the user for the app is "
        "exceeded",
    )


def timestamp(instant: datetime) -> str:
    """ISO 8601 with an offset and whole seconds."""
    return instant.replace(microsecond=0).isoformat()


def _where(name: str, place: int) -> dict[str, Any]:
    return {"api_name": name, "json_path": f"$.data[{place}].{name}"}
