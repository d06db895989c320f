"""The shapes of Salesforce's answers: errors are lists, and REST and collections name their codes differently."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from leads_pipeline.sandbox.answers import Answer


@dataclass(eq=False)
class RecordFault(Exception):
    """Why a record is refused. ``breaks_json``: REST refuses the whole request for it, before it looks at records."""

    code: str
    message: str
    fields: tuple[str, ...] = ()
    status: int = 400
    breaks_json: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def entry(self) -> dict[str, Any]:
        """As it stands in the result of a collection."""
        error = {"statusCode": self.code, "message": self.message, "fields": list(self.fields)}
        return {"success": False, "errors": [error]}

    def answer(self) -> Answer:
        """As the answer to a request about one record."""
        error: dict[str, Any] = {"message": self.message, "errorCode": self.code, **self.more}
        if self.fields:
            error["fields"] = list(self.fields)
        return Answer(self.status, [error])

    def line(self) -> str:
        """As it stands in the column ``sf__Error`` of a bulk job, as recorded."""
        return f"{self.code}:{self.message}:{','.join(self.fields)} --"


class WholeRefused(Exception):
    """The request as a whole is refused."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def refused(status: int, code: str, message: str) -> Answer:
    """A refusal of the whole request."""
    return Answer(status, [{"message": message, "errorCode": code}])


def not_found() -> Answer:
    """What an address gets that is none of Salesforce's, or names what is not there."""
    return refused(404, "NOT_FOUND", "The requested resource does not exist")


def unparsed(message: str) -> Answer:
    """A body that is not the JSON that is wanted; the words are from memory."""
    return refused(400, "JSON_PARSER_ERROR", message)


def timestamp(instant: datetime) -> str:
    """ISO 8601 as Salesforce writes it, with milliseconds and an offset without a colon."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")
