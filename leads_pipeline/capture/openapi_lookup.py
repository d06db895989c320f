"""The look-up of contacts in the OpenAPI document. A test compares the names with ``domain.contact_lookup``'s."""

from leads_pipeline.capture.bodies import JSON_TYPES
from leads_pipeline.capture.openapi_parts import Node, json_answer, refusals
from leads_pipeline.capture.refusals import Code

LOOKUP_FAULTS: tuple[Code, ...] = (
    Code.BAD_KEY,
    Code.WRONG_SCOPE,
    Code.INVALID_LOOKUP,
    Code.TOO_MANY_REQUESTS,
    Code.INTERNAL_ERROR,
    Code.LOOKUP_UNAVAILABLE,
)
LOOKUP_POST_FAULTS: tuple[Code, ...] = (
    *LOOKUP_FAULTS,
    Code.MALFORMED_JSON,
    Code.NOT_AN_OBJECT,
    Code.BODY_TOO_SLOW,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.QUEUE_FULL,
)
_SECURITY: list[dict[str, list[str]]] = [{"bearerKey": []}, {"headerKey": []}]
_TEXT_OR_NULL: Node = {"type": ["string", "null"]}
_UUID_OR_NULL: Node = {"type": ["string", "null"], "format": "uuid"}

ASKED_BY: dict[str, Node] = {
    "email": {"type": "string", "description": "Any address that the contact ever gave."},
    "phone": {"type": "string", "description": "Any number that the contact ever gave, as one dials it."},
    "lead_id": {"type": "string", "format": "uuid", "description": "The id that a posted lead was answered with."},
    "contact_id": {
        "type": "string",
        "format": "uuid",
        "description": "Our id, which CRMs hold as the lead key; one that was merged away stands for its survivor.",
    },
}
_COUNTRY: Node = {"type": "string", "description": "Where a phone number without a country code is dialled."}


def lookup_operations() -> Node:
    """The path's operations."""
    return {"get": _by_get(), "post": _by_post()}


def lookup_schemas() -> dict[str, Node]:
    """What is asked and what is told."""
    return {"ContactQuestion": _QUESTION, "ContactAnswer": _ANSWER}


def _by_get() -> Node:
    return {
        "operationId": "lookUpContact",
        "tags": ["contacts"],
        "summary": "What is known of one person; rather use POST.",
        "description": "As POST, with one of the four in the address. Addresses of requests are written down by "
        "proxies and browsers: post what names a person.",
        "security": _SECURITY,
        "parameters": [
            {"name": name, "in": "query", "schema": schema}
            for name, schema in {**ASKED_BY, "country": _COUNTRY}.items()
        ],
        "responses": {
            "200": json_answer("What is known, also that nothing is.", "ContactAnswer"),
            **refusals(LOOKUP_FAULTS),
        },
    }


def _by_post() -> Node:
    return {
        "operationId": "lookUpContactByPost",
        "tags": ["contacts"],
        "summary": "What is known of one person.",
        "description": "Asked by exactly one of email, phone, lead_id and contact_id, which is read as validation "
        "reads a lead. The key has scope lookup, belongs to the tenant of the contacts, and stands in a header.",
        "security": _SECURITY,
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"$ref": "#/components/schemas/ContactQuestion"}} for kind in sorted(JSON_TYPES)
            },
        },
        "responses": {
            "200": json_answer("What is known, also that nothing is.", "ContactAnswer"),
            **refusals(LOOKUP_POST_FAULTS),
        },
    }


def _closed(properties: dict[str, Node]) -> Node:
    return {
        "type": "object", "required": list(properties), "properties": properties, "additionalProperties": False
    }  # fmt: skip


_QUESTION: Node = {
    "type": "object",
    "properties": {
        **{name: {**schema, "type": [schema["type"], "null"]} for name, schema in ASKED_BY.items()},
        "country": {**_COUNTRY, "type": ["string", "null"]},
    },
    "additionalProperties": False,
    "examples": [{"email": "ada@example.org"}, {"phone": "0171 2345678", "country": "DE"}],
}
_STATEMENT = _closed({"granted": {"type": "boolean"}, "as_of": {"type": "string", "format": "date-time"}})
_ANSWER: Node = {
    **_closed(
        {
            "known": {"type": "boolean"},
            "contact_id": _UUID_OR_NULL,
            "first_name": _TEXT_OR_NULL,
            "last_name": _TEXT_OR_NULL,
            "company": _TEXT_OR_NULL,
            "job_title": _TEXT_OR_NULL,
            "email_verdict": {"enum": ["valid", "invalid", "risky", "unknown", "unverified", None]},
            "phone_verdict": {"enum": ["valid", "invalid", "risky", "unknown", "unverified", None]},
            "phone_line_type": _TEXT_OR_NULL,
            "last_seen_at": {"type": ["string", "null"], "format": "date-time"},
            "more_contacts": {
                "type": "integer",
                "minimum": 0,
                "description": "How many others gave the same address or number, as far as was looked: an office's.",
            },
            "consent": {
                "type": "object",
                "description": "By purpose and channel; what nobody said anything on is not there.",
                "additionalProperties": {"type": "object", "additionalProperties": _STATEMENT},
            },
            "do_not_contact": {
                **_closed({"email": {"type": "boolean"}, "phone": {"type": "boolean"}}),
                "description": "By which way marketing was withdrawn, by this contact or another with the "
                "address or number that was asked for. false is no consent yet: see consent.",
            },
        }
    ),
    "description": "Every key is always there, null where nothing is known.",
}
