"""An answer before it is a response of the web server."""

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and what goes with it: a JSON ``body`` or a ``text`` of ``media_type``; ``None`` is an empty one."""

    status: int
    body: dict[str, Any] | list[Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = None
    media_type: str = "text/csv"

    def with_headers(self, headers: dict[str, str]) -> "Answer":
        """The same with more headers; its own win."""
        return replace(self, headers={**headers, **self.headers})

    def response(self) -> Response:
        """As the web server sends it."""
        if self.text is not None:
            return Response(self.text, self.status, self.headers, media_type=self.media_type)
        if self.body is None:
            return Response(status_code=self.status, headers=self.headers)
        content = msgspec.json.encode(self.body)
        return Response(content, self.status, self.headers, media_type="application/json;charset=utf-8")


def json_response(document: object, *, status: int = 200) -> Response:
    """A document of the sandbox's own side."""
    return Response(msgspec.json.encode(document), status, media_type="application/json")
