"""The post of outcomes in the OpenAPI document. A test compares the names with ``domain.outcomes``'."""

from leads_pipeline.capture.bodies import JSON_TYPES
from leads_pipeline.capture.openapi_parts import Node, json_answer, refusals
from leads_pipeline.capture.outcome_posts import MAX_BODY_BYTES, MAX_OUTCOMES, STATUSES
from leads_pipeline.capture.refusals import Code
from leads_pipeline.domain.outcomes import MAX_EVENT_ID, OPPORTUNITIES, OutcomeKind

OUTCOME_FAULTS: tuple[Code, ...] = (
    Code.BAD_KEY,
    Code.WRONG_SCOPE,
    Code.MALFORMED_JSON,
    Code.NOT_AN_OBJECT,
    Code.INVALID_OUTCOME,
    Code.BODY_TOO_SLOW,
    Code.BODY_TOO_LARGE,
    Code.TOO_MANY_OUTCOMES,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.TOO_MANY_REQUESTS,
    Code.INTERNAL_ERROR,
    Code.QUEUE_FULL,
    Code.DATABASE_UNAVAILABLE,
)
_SECURITY: list[dict[str, list[str]]] = [{"bearerKey": []}, {"headerKey": []}]


def outcome_operations() -> Node:
    """The path's operations."""
    many: Node = {
        "type": "array",
        "maxItems": MAX_OUTCOMES,
        "items": {"description": "An outcome. What is none is refused by itself; its neighbours are stored."},
    }
    return {
        "post": {
            "operationId": "postOutcomes",
            "tags": ["outcomes"],
            "summary": "Tell what became of leads.",
            "description": f"One outcome, or a list of at most {MAX_OUTCOMES:,} in {MAX_BODY_BYTES:,} bytes. The key "
            "has scope outcomes, belongs to the tenant of the leads, and stands in a header. What came before, by "
            "kind and event_id, is not counted again. Ids that we do not know are kept, and shown as unmatched.",
            "security": _SECURITY,
            "requestBody": {
                "required": True,
                "content": {kind: {"schema": {"anyOf": [_ref("Outcome"), many]}} for kind in sorted(JSON_TYPES)},
            },
            "responses": {
                "202": {
                    "description": "What is new is committed. Of a list: one result for each, in order.",
                    "content": {
                        "application/json": {"schema": {"oneOf": [_ref("OutcomeResult"), _ref("OutcomeResults")]}}
                    },
                },
                "200": json_answer("The same outcome came before.", "OutcomeResult"),
                **refusals(OUTCOME_FAULTS),
            },
        }
    }


def _ref(schema: str) -> Node:
    return {"$ref": f"#/components/schemas/{schema}"}


def outcome_schemas() -> dict[str, Node]:
    """What is told and what is answered."""
    return {"Outcome": _OUTCOME, "OutcomeResult": _RESULT, "OutcomeResults": _RESULTS}


_OUTCOME: Node = {
    "type": "object",
    "required": ["kind", "event_id"],
    "properties": {
        "kind": {"enum": [kind.value for kind in OutcomeKind]},
        "lead_id": {"type": "string", "format": "uuid", "description": "The id that a posted lead was answered with."},
        "contact_id": {"type": "string", "format": "uuid", "description": "Our id, which CRMs hold as the lead key."},
        "event_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_EVENT_ID,
            "pattern": "^[ -~]*$",
            "description": "Your own id of the event, of all systems that post for the tenant: put your system's name "
            "before it. The same kind and event_id again are the same outcome; the first one stays as it was told.",
        },
        "occurred_at": {
            "type": "string",
            "format": "date-time",
            "description": "With its offset; not in the future. Without it: when it came.",
        },
        "amount": {
            "type": ["number", "string"],
            "minimum": 0,
            "description": "In the tenant's currency, from 0 to below 10^12 with at most 4 decimals; stands only with "
            f"{', '.join(sorted(OPPORTUNITIES))}.",
        },
    },
    "oneOf": [{"required": ["lead_id"]}, {"required": ["contact_id"]}],
    "additionalProperties": False,
    "examples": [
        {
            "kind": "hard_bounce",
            "lead_id": "0198c1a5-7a3b-7f00-8000-000000000001",
            "event_id": "esp-81723",
            "occurred_at": "2026-03-01T09:30:00Z",
        }
    ],
}
_RESULT: Node = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"enum": [status for status in STATUSES if status != "refused"]}},
    "additionalProperties": False,
}
_RESULTS: Node = {
    "type": "object",
    "required": [*STATUSES, "results"],
    "properties": {
        **{status: {"type": "integer", "minimum": 0} for status in STATUSES},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "status"],
                "properties": {
                    "index": {"type": "integer", "minimum": 0},
                    "status": {"enum": list(STATUSES)},
                    "error": {"type": "object", "description": "As in a refusal, with its status."},
                },
            },
        },
    },
    "additionalProperties": False,
}
