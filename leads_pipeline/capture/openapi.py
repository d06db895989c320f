"""The OpenAPI document of the door, made from what the door itself goes by: the table of refusals, the fields of a
lead, the limits of leads.yaml and the kinds of sources. ``/openapi.json`` is this; ``/docs`` shows it to people.

Add a route's operation here; tests post to the running service what the document promises, and the opposite.
"""

from leads_pipeline import __version__
from leads_pipeline.capture.bodies import JSON_TYPES, NDJSON_TYPES
from leads_pipeline.capture.contact_lookup import LOOKUP_PATH
from leads_pipeline.capture.openapi_lookup import LOOKUP_FAULTS, LOOKUP_POST_FAULTS, lookup_operations, lookup_schemas
from leads_pipeline.capture.openapi_outcomes import OUTCOME_FAULTS, outcome_operations, outcome_schemas
from leads_pipeline.capture.openapi_parts import Node, header, json_answer, refusals
from leads_pipeline.capture.openapi_schemas import schemas
from leads_pipeline.capture.outcome_posts import OUTCOMES_PATH
from leads_pipeline.capture.refusals import Code
from leads_pipeline.config import CaptureSettings, Settings
from leads_pipeline.domain.buffer_bounds import Level
from leads_pipeline.domain.stage import Lane
from leads_pipeline.sources.registry import KINDS

_LEAD_FAULTS = (
    Code.MALFORMED_JSON,
    Code.NOT_AN_OBJECT,
    Code.EMPTY_LEAD,
    Code.WRONG_TYPE,
    Code.NUL_CHARACTER,
    Code.LONE_SURROGATE,
    Code.NUMBER_OUT_OF_RANGE,
    Code.TOO_DEEP,
    Code.UNSTORABLE,
    Code.KEY_REUSED,
)
_KEY_FAULTS = (Code.BAD_KEY, Code.WRONG_SCOPE, Code.SOURCE_MISMATCH, Code.UNKNOWN_SOURCE)
_NOT_NOW = (
    Code.TOO_MANY_REQUESTS,
    Code.INTERNAL_ERROR,
    Code.QUEUE_FULL,
    Code.BUFFER_FULL,
    Code.DATABASE_UNAVAILABLE,
)
_POST_FAULTS = (
    Code.INVALID_IDEMPOTENCY_KEY,
    Code.ORIGIN_NOT_ALLOWED,
    Code.BODY_TOO_SLOW,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    *_NOT_NOW,
)

REFUSED: dict[str, tuple[Code, ...]] = {
    "postLead": (*_KEY_FAULTS, *_POST_FAULTS, *_LEAD_FAULTS),
    "postBatch": (*_KEY_FAULTS, *_POST_FAULTS, Code.MALFORMED_JSON, Code.NOT_AN_ARRAY, Code.TOO_MANY_LEADS),
    "postToSource": (
        *_KEY_FAULTS,
        *_POST_FAULTS,
        *_LEAD_FAULTS,
        Code.BAD_SIGNATURE,
        Code.NOT_FOUND,
        Code.WRONG_SHAPE,
        Code.SOURCE_NOT_READY,
    ),
    "trySource": (Code.BAD_SIGNATURE, Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED, Code.SOURCE_NOT_READY),
    "lookUpContact": LOOKUP_FAULTS,
    "lookUpContactByPost": LOOKUP_POST_FAULTS,
    "postOutcomes": OUTCOME_FAULTS,
    "isReady": (Code.INTERNAL_ERROR, Code.QUEUE_FULL, Code.BUFFER_FULL, Code.DATABASE_UNAVAILABLE),
}

_SECURITY: list[dict[str, list[str]]] = [{"bearerKey": []}, {"headerKey": []}, {"queryKey": []}]


def openapi_document(settings: Settings) -> Node:
    """The document for these settings; a route that they switch off is not in it."""
    limits = settings.capture
    paths: dict[str, Node] = {
        "/v1/leads": {"post": _post_lead(limits)},
        "/v1/leads/batch": {"post": _post_batch(limits)},
        "/v1/in/{tenant}/{source}": {"parameters": _SOURCE_ADDRESS, "get": _try_source(), "post": _to_source(limits)},
        OUTCOMES_PATH: outcome_operations(),
        "/healthz": {"get": _healthz()},
        "/readyz": {"get": _readyz()},
    }
    if limits.lookup.enabled:
        paths[LOOKUP_PATH] = lookup_operations()
    if limits.metrics:
        paths["/metrics"] = {"get": _page("metrics", "Counts and depths for Prometheus.", "text/plain")}
    paths["/leads.js"] = {"get": _leads_js()}
    paths["/openapi.json"] = {"get": _page("openapi", "This document.", "application/json")}
    paths["/docs"] = {"get": _page("docs", "This document for people.", "text/html")}
    if limits.example_page:
        paths["/example"] = {"get": _page("example", "A form that posts with leads.js.", "text/html")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "leads capture",
            "version": __version__,
            "summary": "The door for leads: none that is acknowledged is lost.",
            "description": "A lead is answered with 202 only when it is committed. Sending again is safe: the same "
            "Idempotency-Key, or without one the same content, is the same post. Every refusal has one shape; where a "
            "Retry-After comes with it, send the same request again after so many seconds.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "leads", "description": "Leads in our own form, under an API key."},
            {"name": "sources", "description": "Forms and vendors' webhooks, each at its source's own address."},
            {"name": "contacts", "description": "What is known of one person, under a key of scope lookup."},
            {"name": "outcomes", "description": "What became of leads after delivery, under a key of scope outcomes."},
            {"name": "service", "description": "What people and machines ask about the service."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas() | outcome_schemas() | (lookup_schemas() if limits.lookup.enabled else {}),
            "securitySchemes": {
                "bearerKey": {"type": "http", "scheme": "bearer", "bearerFormat": "lp_…", "description": _KEY_TEXT},
                "headerKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": _KEY_TEXT},
                "queryKey": {"type": "apiKey", "in": "query", "name": "key", "description": "For plain HTML forms."},
            },
        },
    }


_KEY_TEXT = (
    "Made by `leads keys create --source NAME`; it says whose lead it is. Contacts take one made with "
    "--scope lookup, outcomes one made with --scope outcomes."
)


# --- operations --------------------------------------------------------------------------------------------------


def _post_lead(limits: CaptureSettings) -> Node:
    return {
        "operationId": "postLead",
        "tags": ["leads"],
        "summary": "Send one lead.",
        "description": f"A JSON object of at most {limits.max_body_bytes:,} bytes.",
        "security": _SECURITY,
        "parameters": [_IDEMPOTENCY_KEY, *_NAMED_SOURCE],
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"$ref": "#/components/schemas/Lead"}} for kind in sorted(JSON_TYPES)},
        },
        "responses": {
            "202": json_answer("The lead is committed.", "Stored"),
            "200": json_answer("The same post came before.", "Duplicate"),
            **refusals(REFUSED["postLead"]),
        },
    }


def _post_batch(limits: CaptureSettings) -> Node:
    items = {
        "description": "A lead, as in /v1/leads. What is none is refused by itself; its neighbours are stored.",
        "examples": [{"email": "ada@example.org"}],
    }
    array = {"type": "array", "maxItems": limits.max_batch_leads, "items": items}
    lines = {"type": "string", "description": "One JSON object a line."}
    return {
        "operationId": "postBatch",
        "tags": ["leads"],
        "summary": "Send many leads.",
        "description": f"At most {limits.max_batch_leads:,} leads in {limits.max_batch_body_bytes:,} bytes. Under an "
        "Idempotency-Key each place in the batch is its own post. A batch that is answered with 503 may be stored in "
        "part: send it again as it is.",
        "security": _SECURITY,
        "parameters": [_IDEMPOTENCY_KEY, *_NAMED_SOURCE],
        "requestBody": {
            "required": True,
            "content": {
                **{kind: {"schema": array} for kind in sorted(JSON_TYPES)},
                **{kind: {"schema": lines} for kind in sorted(NDJSON_TYPES)},
            },
        },
        "responses": {
            "202": json_answer("One result for each lead, in order.", "BatchResult"),
            **refusals(REFUSED["postBatch"]),
        },
    }


def _to_source(limits: CaptureSettings) -> Node:
    signed = ", ".join(sorted(name for name, kind in KINDS.items() if kind.signed))
    bodies = sorted({kind for source in KINDS.values() for kind in source.media_types})
    page = {"text/html": {"schema": {"type": "string"}}}
    stored = json_answer("The same post came before; or, of a delivery, how many leads are new.", "Duplicate")
    stored["content"]["application/json"]["schema"] = {
        "oneOf": [{"$ref": "#/components/schemas/Duplicate"}, {"$ref": "#/components/schemas/Counts"}]
    }
    stored["content"] |= page
    return {
        "operationId": "postToSource",
        "tags": ["sources"],
        "summary": "What a form or a vendor sends.",
        "description": f"At most {limits.max_body_bytes:,} bytes, of the media types of the source's kind. Signed "
        f"kinds ({signed}) prove themselves by the vendor's signature; the others carry an API key, also as "
        "?key=lp_… in the address. A browser that posts a form is answered with a page, or sent on to one.",
        "security": [*_SECURITY, {}],
        "parameters": [_IDEMPOTENCY_KEY, *_NAMED_SOURCE],
        "requestBody": {"required": True, "content": {kind: {"schema": {}} for kind in bodies}},
        "responses": {
            "202": json_answer("The lead is committed.", "Stored"),
            "200": stored,
            "303": {"description": "To a page of leads.yaml.", "headers": {"Location": header("uri-reference")}},
            **refusals(REFUSED["postToSource"]),
        },
    }


def _try_source() -> Node:
    return {
        "operationId": "trySource",
        "tags": ["sources"],
        "summary": "How a vendor tries the address before it posts.",
        "description": "Meta's subscription, for one: the answer repeats its hub.challenge. Other kinds take no GET.",
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "string"}}
            for name in ("hub.mode", "hub.verify_token", "hub.challenge")
        ],
        "responses": {
            "200": {
                "description": "The challenge, as it was sent.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
            **refusals(REFUSED["trySource"]),
        },
    }


def _healthz() -> Node:
    alive = {"type": "object", "required": ["status"], "properties": {"status": {"const": "alive"}}}
    return {
        "operationId": "isAlive",
        "tags": ["service"],
        "summary": "Whether the process lives.",
        "responses": {
            "200": {"description": "It does.", "content": {"application/json": {"schema": alive}}},
        },
    }


def _readyz() -> Node:
    ready = {
        "type": "object",
        "required": ["status", "queued_leads", "max_queued_leads", "buffer_level", "refused_lanes"],
        "properties": {
            "status": {"const": "ready"},
            "queued_leads": {"type": "integer", "minimum": 0},
            "max_queued_leads": {"type": "integer", "minimum": 1},
            "buffer_level": {"enum": [level.value for level in Level]},
            "refused_lanes": {"type": "array", "items": {"enum": [lane.value for lane in Lane]}},
        },
    }
    return {
        "operationId": "isReady",
        "tags": ["service"],
        "summary": "Whether leads can be stored now.",
        "description": "For load balancers.",
        "responses": {
            "200": {"description": "They can.", "content": {"application/json": {"schema": ready}}},
            **refusals(REFUSED["isReady"]),
        },
    }


def _leads_js() -> Node:
    operation = _page("leadsJs", "The browser snippet.", "text/javascript")
    operation["parameters"] = [{"name": "If-None-Match", "in": "header", "schema": {"type": "string"}}]
    operation["responses"]["200"]["headers"] = {"ETag": header()}
    operation["responses"]["304"] = {"description": "It is what you have.", "headers": {"ETag": header()}}
    return operation


def _page(name: str, summary: str, media_type: str) -> Node:
    schema: Node = {"type": "object"} if media_type == "application/json" else {"type": "string"}
    return {
        "operationId": name,
        "tags": ["service"],
        "summary": summary,
        "responses": {"200": {"description": summary, "content": {media_type: {"schema": schema}}}},
    }


# --- parts of operations -----------------------------------------------------------------------------------------

_IDEMPOTENCY_KEY: Node = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Names this post: under the same key the same body is stored once, another body is refused.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    "example": "form-7-submission-1234",
}
_NAMED_SOURCE: list[Node] = [
    {
        "name": name,
        "in": place,
        "description": "The source that is meant. If it is not the key's, the request is refused.",
        "schema": {"type": "string"},
    }
    for name, place in (("source", "query"), ("X-Leads-Source", "header"))
]
_SOURCE_ADDRESS: list[Node] = [
    {
        "name": name,
        "in": "path",
        "required": True,
        "description": "As leads.yaml names it.",
        "schema": {"type": "string"},
    }
    for name in ("tenant", "source")
]
