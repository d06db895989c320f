"""Up to 200 records of one object in a request: a result for each, in their order.

With ``allOrNone`` the first refusal takes all back. What more than 200 get is from memory.
"""

from collections.abc import Callable
from typing import Any

from leads_pipeline.crm.sandbox.salesforce import writing
from leads_pipeline.crm.sandbox.salesforce.answers import RecordFault, WholeRefused, refused, unparsed
from leads_pipeline.crm.sandbox.salesforce.calls import Call
from leads_pipeline.crm.sandbox.salesforce.store import Stored
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultKind, FaultRule

MOST = 200
_ROLLED_BACK = RecordFault(
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using AllOrNone header",
)


class _RolledBack(Exception):
    """One record was refused, and all or none were wanted."""


def upsert_collection(call: Call) -> Answer:
    """``PATCH /composite/sobjects/{object}/{field}``."""
    field, object_type = call.path["field"], call.object_type
    seen: set[str] = set()

    def write(values: dict[str, Any]) -> dict[str, Any]:
        key = _key(values, field)
        if "id" in {name.lower() for name in values}:
            raise RecordFault("INVALID_FIELD", "The Id field should not be specified in the sobject data.", ("Id",))
        if key in seen:
            raise RecordFault("DUPLICATE_VALUE", f"Duplicate external id specified: {key}")
        seen.add(key)
        stored, created = writing.upsert(call.org, object_type, field, key, values, now=call.incoming.now)
        return {"id": stored.id, "success": True, "errors": [], "created": created}

    return _answer(call, write, object_type=object_type, key=lambda values: _key(values, field))


def update_collection(call: Call) -> Answer:
    """``PATCH /composite/sobjects``: by ids."""

    def write(values: dict[str, Any]) -> dict[str, Any]:
        found = _id_of(values)
        if found is None:
            raise RecordFault("MISSING_ARGUMENT", "Id not specified in an update call")
        stored = existing(call, found)
        rest = {name: value for name, value in values.items() if name.lower() != "id"}
        stored = writing.update(call.org, stored, rest, now=call.incoming.now)
        return {"id": stored.id, "success": True, "errors": []}

    return _answer(call, write, key=lambda values: _id_of(values) or "")


def create_collection(call: Call) -> Answer:
    """``POST /composite/sobjects``."""

    def write(values: dict[str, Any], object_type: str) -> dict[str, Any]:
        stored = writing.create(call.org, object_type, values, now=call.incoming.now)
        return {"id": stored.id, "success": True, "errors": []}

    return _answer(call, write, key=lambda values: str(values.get(call.org.options.key_property) or ""), typed=True)


def delete_collection(call: Call) -> Answer:
    """``DELETE /composite/sobjects?ids=…``."""
    ids = [item for item in call.incoming.query.get("ids", "").split(",") if item]
    if not ids:
        raise WholeRefused(refused(400, "REQUIRED_FIELD_MISSING", "At least 1 record is required"))
    _not_too_many(ids)
    results = []
    with call.org.store.transaction():
        for record_id in ids:
            fault = call.org.faults.for_record(call.endpoint, [record_id])
            try:
                refuse_by(fault)
                stored = existing(call, record_id, living=True)
                call.org.store.delete(stored, now=call.incoming.now)
                results.append({"id": stored.id, "success": True, "errors": []})
            except RecordFault as refusal:
                results.append({"id": record_id, **refusal.entry()})
    return Answer(200, results)


def existing(call: Call, record_id: str, *, living: bool = False) -> Stored:
    """The record of an id, which may be in the recycle bin unless it is to be ``living``.

    Raises:
        RecordFault: there is none.
    """
    stored = call.org.store.by_id(record_id)
    if stored is None:
        if len(record_id) not in (15, 18):
            raise RecordFault("MALFORMED_ID", f"malformed id {record_id}")
        raise RecordFault("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", status=404)
    if living and stored.deleted_at is not None:
        raise RecordFault("ENTITY_IS_DELETED", "entity is deleted", status=404)
    return stored


def refuse_by(rule: FaultRule | None) -> None:
    """Refuse the record that a fault rule befalls.

    Raises:
        RecordFault: in the words of the rule's category.
    """
    if rule is None or rule.kind is not FaultKind.PER_RECORD_ERROR:
        return
    if rule.category == "UNABLE_TO_LOCK_ROW":
        raise RecordFault(rule.category, "unable to obtain exclusive access to this record or 1 records")
    raise RecordFault(rule.category, "refused by a fault rule of the sandbox")


def _answer(
    call: Call,
    write: Callable[..., dict[str, Any]],
    *,
    key: Callable[[dict[str, Any]], str],
    object_type: str | None = None,
    typed: bool = False,
) -> Answer:
    body = call.json()
    all_or_none = bool(body.get("allOrNone", False))
    records = body.get("records")
    if not isinstance(records, list) or not all(isinstance(item, dict) for item in records):
        raise WholeRefused(unparsed("The property 'records' is required and must be an array of sobjects"))
    if not records:
        raise WholeRefused(refused(400, "REQUIRED_FIELD_MISSING", "At least 1 record is required"))
    _not_too_many(records)
    types = [_type_of(item) for item in records]
    if object_type is not None and any(name != object_type for name in types):
        raise WholeRefused(refused(400, "INVALID_INPUT", f"All records must be of type {object_type}"))
    results: list[dict[str, Any] | None] = []
    try:
        with call.org.store.transaction():
            for item, name in zip(records, types, strict=True):
                values = {field: value for field, value in item.items() if field != "attributes"}
                rule = call.org.faults.for_record(call.endpoint, [key(values), *map(str, values.values())])
                try:
                    refuse_by(rule)
                    done = write(values, name) if typed else write(values)
                    # What is not spoken of keeps its place, as results come in the order of records.
                    results.append(None if rule is not None and rule.kind is FaultKind.UNREPORTED else done)
                except RecordFault as refusal:
                    if refusal.breaks_json:
                        raise WholeRefused(unparsed(refusal.message)) from None
                    results.append(refusal.entry())
                    if all_or_none:
                        raise _RolledBack from None
    except _RolledBack:
        at_fault = len(results) - 1
        results = [item if place == at_fault else _ROLLED_BACK.entry() for place, item in enumerate(results)]
        results += [_ROLLED_BACK.entry()] * (len(records) - len(results))
    return Answer(200, results)


def _type_of(item: dict[str, Any]) -> str:
    attributes = item.get("attributes")
    name = attributes.get("type") if isinstance(attributes, dict) else None
    if not isinstance(name, str):
        raise WholeRefused(refused(400, "INVALID_INPUT", "attributes.type is required for each record"))
    return name


def _key(values: dict[str, Any], field: str) -> str:
    return str(next((value for name, value in values.items() if name.lower() == field.lower()), "") or "")


def _id_of(values: dict[str, Any]) -> str | None:
    return next((str(value) for name, value in values.items() if name.lower() == "id" and value), None)


def _not_too_many(items: list[Any]) -> None:
    if len(items) > MOST:
        raise WholeRefused(refused(400, "EXCEEDED_ID_LIMIT", f"record limit reached. cannot submit more than {MOST}"))
