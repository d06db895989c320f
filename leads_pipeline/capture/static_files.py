"""The files that the door serves as they are: leads.js and what the pages need. Read once, sent with an ETag."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

DIRECTORY = Path(__file__).parent / "static"

# An hour: a site's visitors ask again soon after an update. What they have serves on while that is being asked.
_CACHE = "public, max-age=3600, stale-while-revalidate=86400"
_HEADERS = {
    "Cache-Control": _CACHE,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # leads.js stands in other sites' pages, also in those with integrity= and in those that isolate themselves.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_INDENTATION_AND_COMMENT_LINES = re.compile(r"^[ ]*(?://[^\n]*)?(?:\n|(?=\S))", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file in memory."""

    content: bytes
    media_type: str
    etag: str

    def answer(self, request: Request) -> Response:
        """The file, or 304 to who has it."""
        headers = {**_HEADERS, "ETag": self.etag}
        known = request.headers.get("if-none-match", "")
        if self.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def read_file(name: str, *, media_type: str) -> StaticFile:
    """A file of ``static``. Scripts lose their comment lines and their indentation, which no visitor needs."""
    text = (DIRECTORY / name).read_text(encoding="utf-8")
    if media_type == "text/javascript":
        text = _INDENTATION_AND_COMMENT_LINES.sub("", text)
    content = text.encode()
    return StaticFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
