"""The shapes of the OpenAPI document: what a lead, an answer and a refusal look like.

They say what the door takes, not what it wishes for: a schema that is stricter than the door is as untrue as one that
is laxer. schemathesis holds both directions against the running service.
"""

from typing import Any

from leads_pipeline.capture.refusals import REFUSALS, Code
from leads_pipeline.domain.consent import Channel
from leads_pipeline.domain.lead import CANONICAL_FIELDS
from leads_pipeline.domain.posted_lead import MAX_CONSENT_STATEMENTS, MAX_DEPTH

Schema = dict[str, Any]

# All that ``in_request`` can answer; a test compares them.
IN_REQUEST_REASONS = (
    "bad_syntax", "disposable", "dns_failure", "domain_not_found", "no_mail_server", "null_mx", "placeholder", "role",
    "timeout",
)  # fmt: skip

_UUID: Schema = {"type": "string", "format": "uuid"}


def schemas() -> dict[str, Schema]:
    """``components.schemas``."""
    return {
        "Lead": _lead(),
        "ConsentStatement": _CONSENT_STATEMENT,
        "Stored": _stored("accepted", "The lead is committed: it is not lost any more."),
        "Duplicate": _stored("duplicate", "The same post came before; this is the id of its lead."),
        "Verification": _VERIFICATION,
        "BatchResult": _BATCH_RESULT,
        "Counts": _COUNTS,
        "FieldFault": _FIELD_FAULT,
        "Error": error_schema(*Code),
        "BatchItemError": _batch_item_error(),
    }


def error_schema(*codes: Code) -> Schema:
    """The body of a refusal that can have these codes."""
    return _closed({"error": _closed(_error_properties(codes), optional=("field", "fields"))})


def _lead() -> Schema:
    fields: dict[str, Schema] = {
        field.name: {
            "type": ["string", "number", "null"],
            "description": f"{field.title}. Validation takes up to {field.max_length} characters.",
        }
        for field in CANONICAL_FIELDS
    }
    fields["consent"] = {
        "description": "What the person agreed to: one statement, or a list of them. One that cannot be read is kept "
        "with the lead and counted; nothing is guessed. A bare yes or no speaks for marketing on any channel.",
        "anyOf": [
            {"$ref": "#/components/schemas/ConsentStatement"},
            {
                "type": "array",
                "items": {"anyOf": [{"$ref": "#/components/schemas/ConsentStatement"}, _ANYTHING]},
                "maxItems": MAX_CONSENT_STATEMENTS,
            },
            {"type": ["boolean", "string", "number", "object", "null"]},
        ],
    }
    return {
        "type": "object",
        "description": "The fields that the pipeline understands; any other is kept as it was sent. null means not "
        f"sent, and a lead needs at least one field. Nested {MAX_DEPTH} levels at most. Whether the values make a "
        "usable lead is decided later, by validation: here only what cannot be stored is refused.",
        "minProperties": 1,
        "properties": fields,
        "additionalProperties": True,
        # Not: nothing but consent and nulls.
        "not": {"properties": {"consent": True}, "additionalProperties": {"type": "null"}},
        "examples": [
            {
                "email": "ada@example.org",
                "first_name": "Ada",
                "last_name": "Lovelace",
                "company": "Analytical Engines",
                "consent": {"granted": True, "purpose": "marketing", "channel": "email", "text_version": "2026-01"},
            }
        ],
    }


_ANYTHING: Schema = {}
_CONSENT_STATEMENT: Schema = {
    "type": "object",
    "required": ["granted"],
    "properties": {
        "granted": {
            "type": ["boolean", "string", "number"],
            "description": "true or false, or the usual words: yes, no, on, off, granted, withdrawn …",
        },
        "purpose": {"type": ["string", "null"], "description": "marketing if not said."},
        "channel": {"enum": [*(str(channel) for channel in Channel), None], "description": "any if not said."},
        "legal_basis": {"type": ["string", "null"], "description": "Such as consent or legitimate_interest."},
        "text_version": {"type": ["string", "number", "null"], "description": "Which text the person saw."},
        "occurred_at": {"type": ["string", "null"], "description": "ISO 8601; when it came, if not said."},
    },
}


def _stored(status: str, description: str) -> Schema:
    said = {
        "lead_id": _UUID,
        "status": {"const": status},
        "verification": {"$ref": "#/components/schemas/Verification"},
    }
    return {**_closed(said, optional=("verification",)), "description": description}


def _closed(properties: dict[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": properties,
        "additionalProperties": False,
    }


_VERIFICATION: Schema = {
    **_closed(
        {
            "email": _closed(
                {
                    "standing": {
                        "enum": ["valid", "invalid", "risky", "unverified"],
                        "description": "valid: the domain takes mail; whether the mailbox exists is asked later. "
                        "risky: it reaches somebody, perhaps not the person. unverified: nothing is known yet.",
                    },
                    "reasons": {
                        "type": "array",
                        "items": {"enum": list(IN_REQUEST_REASONS)},
                        "description": "Why; empty where there is nothing to say.",
                    },
                    "suggestion": {"type": "string", "description": "The domain that was probably meant."},
                },
                optional=("suggestion",),
            )
        }
    ),
    "description": "Where the source says verify_in_request and the lead has an e-mail address: what is known of it by "
    "now. The lead is stored whatever it says.",
}
_COUNTS: Schema = {
    **_closed({"accepted": {"type": "integer", "minimum": 0}, "duplicate": {"type": "integer", "minimum": 0}}),
    "description": "A delivery of several leads, or of none: how many are new and how many came before.",
}
_FIELD_FAULT: Schema = {
    "type": "object",
    "required": ["field", "message"],
    "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
    "additionalProperties": False,
}


def _error_properties(codes: tuple[Code, ...]) -> dict[str, Schema]:
    return {
        "code": {"enum": [str(code) for code in codes]},
        "message": {"type": "string", "description": "For people; never repeats what was sent."},
        "request_id": {"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "Finds the request in the log."},
        "field": {"type": "string", "description": "The first field at fault, if one is."},
        "fields": {"type": "array", "items": {"$ref": "#/components/schemas/FieldFault"}},
    }


def _batch_item_error() -> Schema:
    status: Schema = {"enum": sorted({refusal.status for refusal in REFUSALS.values()})}
    return _closed({"status": status, **_error_properties(tuple(Code))}, optional=("field", "fields"))


_BATCH_RESULT: Schema = {
    **_closed(
        {
            "accepted": {"type": "integer", "minimum": 0},
            "duplicate": {"type": "integer", "minimum": 0},
            "refused": {"type": "integer", "minimum": 0},
            "results": {
                "type": "array",
                "items": {
                    "oneOf": [
                        _closed(
                            {
                                "index": {"type": "integer", "minimum": 0},
                                "status": {"enum": ["accepted", "duplicate"]},
                                "lead_id": _UUID,
                            }
                        ),
                        _closed(
                            {
                                "index": {"type": "integer", "minimum": 0},
                                "status": {"const": "refused"},
                                "error": {"$ref": "#/components/schemas/BatchItemError"},
                            }
                        ),
                    ]
                },
            },
        }
    ),
    "description": "One result for each lead, in order. Read it: a lead that is refused is refused by itself.",
}
