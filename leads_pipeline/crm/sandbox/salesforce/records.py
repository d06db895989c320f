"""One record in a request: by its id, or by an external id."""

from typing import Any

from leads_pipeline.crm.sandbox.salesforce import writing
from leads_pipeline.crm.sandbox.salesforce.answers import RecordFault, not_found, timestamp
from leads_pipeline.crm.sandbox.salesforce.calls import Call
from leads_pipeline.crm.sandbox.salesforce.collections import existing
from leads_pipeline.crm.sandbox.salesforce.fields import OBJECTS
from leads_pipeline.crm.sandbox.salesforce.store import Stored
from leads_pipeline.sandbox.answers import Answer


def create_record(call: Call) -> Answer:
    """``POST /sobjects/{object}``."""
    object_type, values = call.object_type, call.json()
    with call.org.store.transaction():
        stored = writing.create(call.org, object_type, _plain(values), now=call.incoming.now)
    return Answer(201, {"id": stored.id, "success": True, "errors": []})


def upsert_record(call: Call) -> Answer:
    """``PATCH /sobjects/{object}/{field}/{value}``: 201, 200 since version 46 and 204 before, 300 for several."""
    object_type, field, value = call.object_type, call.path["field"], call.path["value"]
    values = call.json()
    if field.lower() == "id":
        return _update(call, _living(call, value), values)
    found = writing.matching(call.org, object_type, field, value)
    if len(found) > 1:
        version = call.path["version"]
        return Answer(300, [f"/services/data/{version}/sobjects/{object_type}/{item.id}" for item in found])
    with call.org.store.transaction():
        stored, created = writing.upsert(call.org, object_type, field, value, _plain(values), now=call.incoming.now)
    if not created and _version(call) < 46:
        return Answer(204)
    return Answer(201 if created else 200, {"id": stored.id, "success": True, "errors": [], "created": created})


def read_record(call: Call) -> Answer:
    """``GET /sobjects/{object}/{id}?fields=…``."""
    stored = _living(call, call.path["id"])
    return Answer(200, shown(call, stored))


def read_by_key(call: Call) -> Answer:
    """``GET /sobjects/{object}/{field}/{value}``."""
    found = writing.matching(call.org, call.object_type, call.path["field"], call.path["value"])
    return Answer(200, shown(call, found[0])) if found else not_found()


def update_record(call: Call) -> Answer:
    """``PATCH /sobjects/{object}/{id}`` → 204."""
    return _update(call, _living(call, call.path["id"]), call.json())


def delete_record(call: Call) -> Answer:
    """``DELETE /sobjects/{object}/{id}`` → 204, into the recycle bin."""
    stored = _living(call, call.path["id"])
    with call.org.store.transaction():
        call.org.store.delete(stored, now=call.incoming.now)
    return Answer(204)


def deleted_records(call: Call) -> Answer:
    """``GET /sobjects/{object}/deleted?start=…&end=…``; the times are not looked at."""
    gone = [item for item in call.org.store.all_of(call.object_type) if item.deleted_at is not None]
    return Answer(
        200,
        {
            "deletedRecords": [{"id": item.id, "deletedDate": item.deleted_at} for item in gone],
            "earliestDateAvailable": timestamp(call.incoming.now),
            "latestDateCovered": timestamp(call.incoming.now),
        },
    )


def updated_records(call: Call) -> Answer:
    """``GET /sobjects/{object}/updated?start=…&end=…``; the times are not looked at."""
    ids = [item.id for item in call.org.store.all_of(call.object_type) if item.deleted_at is None]
    return Answer(200, {"ids": ids, "latestDateCovered": timestamp(call.incoming.now)})


def describe(call: Call) -> Answer:
    """``GET /sobjects/{object}/describe``."""
    known = call.org.fields(call.object_type)
    return Answer(200, {**_about(call, call.object_type), "fields": [field.shown() for field in known.values()]})


def metadata(call: Call) -> Answer:
    """``GET /sobjects/{object}``."""
    recent = [item for item in call.org.store.newest(5) if item.object_type == call.object_type]
    return Answer(
        200,
        {
            "objectDescribe": _about(call, call.object_type),
            "recentItems": [{"attributes": _attributes(call, item), "Id": item.id} for item in recent],
        },
    )


def describe_all(call: Call) -> Answer:
    """``GET /sobjects``."""
    sobjects = [_about(call, name) for name in OBJECTS]
    return Answer(200, {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": sobjects})


def shown(call: Call, stored: Stored) -> dict[str, Any]:
    """A record with all its fields, or with those that the query names."""
    known, values = call.org.fields(stored.object_type), stored.shown()
    wanted = [name for name in call.incoming.query.get("fields", "").split(",") if name] or list(known)
    for name in wanted:
        if name not in known:
            raise RecordFault("INVALID_FIELD", f"No such column '{name}' on sobject of type {stored.object_type}")
    return {
        "attributes": _attributes(call, stored),
        **{name: _empty(known[name].type, values.get(name)) for name in wanted},
    }


def _empty(field_type: str, value: Any) -> Any:
    return bool(value) if field_type == "boolean" else value


def _update(call: Call, stored: Stored, values: dict[str, Any]) -> Answer:
    with call.org.store.transaction():
        writing.update(call.org, stored, _plain(values), now=call.incoming.now)
    return Answer(204)


def _living(call: Call, record_id: str) -> Stored:
    stored = existing(call, record_id)
    if stored.object_type != call.object_type:
        raise RecordFault("NOT_FOUND", "The requested resource does not exist", status=404)
    if stored.deleted_at is not None:
        raise RecordFault("ENTITY_IS_DELETED", "entity is deleted", status=404)
    return stored


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "attributes"}


def _attributes(call: Call, stored: Stored) -> dict[str, str]:
    url = f"/services/data/{call.path['version']}/sobjects/{stored.object_type}/{stored.id}"
    return {"type": stored.object_type, "url": url}


def _about(call: Call, name: str) -> dict[str, Any]:
    address = f"/services/data/{call.path['version']}/sobjects/{name}"
    return {
        "name": name,
        "label": name,
        "labelPlural": f"{name}s",
        "keyPrefix": {"Lead": "00Q", "Contact": "003"}[name],
        "custom": False,
        "createable": True,
        "updateable": True,
        "deletable": True,
        "queryable": True,
        "urls": {"sobject": address, "describe": f"{address}/describe", "rowTemplate": f"{address}/{{ID}}"},
    }


def _version(call: Call) -> float:
    try:
        return float(call.path["version"].removeprefix("v"))
    except ValueError:
        return 0.0
