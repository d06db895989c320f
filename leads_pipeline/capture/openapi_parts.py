"""Parts that the operations of the OpenAPI document share: answers, refusals, headers."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from leads_pipeline.capture.openapi_schemas import error_schema
from leads_pipeline.capture.refusals import REFUSALS, Code

Node = dict[str, Any]


def json_answer(description: str, schema: str) -> Node:
    """An answer in JSON of a named schema."""
    content: Node = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def refusals(codes: Iterable[Code]) -> dict[str, Node]:
    """The refusals of an operation by status, each with the codes and the headers that come with it."""
    by_status: dict[int, list[Code]] = defaultdict(list)
    for code in sorted(set(codes), key=list(Code).index):
        by_status[REFUSALS[code].status].append(code)
    return {str(status): _refusal(found) for status, found in sorted(by_status.items())}


def _refusal(codes: list[Code]) -> Node:
    headers: Node = {"X-Request-Id": header(required=True)}
    hints = [REFUSALS[code].retry_after_seconds is not None for code in codes]
    if any(hints):
        headers["Retry-After"] = {
            "description": "Seconds to wait before the same request is sent again.",
            "required": all(hints),
            "schema": {"type": "integer", "minimum": 0},
        }
    if Code.BAD_KEY in codes:
        headers["WWW-Authenticate"] = header()
    if Code.METHOD_NOT_ALLOWED in codes:
        headers["Allow"] = header(required=True)
    return {
        "description": "\n".join(f"`{code}`: {REFUSALS[code].message}" for code in codes),
        "headers": headers,
        "content": {"application/json": {"schema": error_schema(*codes)}},
    }


def header(text_format: str | None = None, *, required: bool = False) -> Node:
    """A header with text."""
    schema: Node = {"type": "string"}
    if text_format is not None:
        schema["format"] = text_format
    return {"schema": schema, **({"required": True} if required else {})}
