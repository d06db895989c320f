"""What the records API does: insert, update, upsert, read, delete, and the recycle bin.

A list of records is worked on in its order, each for itself; the answer has an entry for each in that order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from leads_pipeline.crm.sandbox.vendor import Incoming, Shared
from leads_pipeline.crm.sandbox.zoho.answers import (
    Refusal,
    duplicate,
    failure,
    listed,
    no_such_record,
    removed,
    success,
)
from leads_pipeline.crm.sandbox.zoho.fields import EMAIL, MODULES, Field, checked
from leads_pipeline.crm.sandbox.zoho.options import ZohoOptions
from leads_pipeline.crm.sandbox.zoho.store import Record, RecordStore
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultKind

MAX_RECORDS = 100
_PAGE = 200

Entry = Mapping[str, Any]


class Refused(Exception):
    """Ends an operation with an answer to the whole request."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Call:
    """One request after the token, the limits and the faults."""

    options: ZohoOptions
    store: RecordStore
    fields: Mapping[str, Field]
    shared: Shared
    incoming: Incoming
    endpoint: str

    @property
    def module(self) -> str:
        """The module that the address names."""
        module = self.incoming.path.get("module", "")
        if module not in MODULES:
            message = "the module name given seems to be invalid"
            raise Refused(failure(400, "INVALID_MODULE", message, resource_path_index=0))
        return module

    def refuse_unknown_module(self) -> None:
        """As Zoho does before it looks at the body."""
        self.module  # noqa: B018 - it refuses by itself

    def document(self) -> dict[str, Any]:
        """The body, a JSON object, whatever its media type: Zoho's own client sends none."""
        document = document_of(self.incoming.body)
        if document is None:
            raise Refused(failure(400, "INVALID_DATA", "body", expected_data_type="jsonobject"))
        return document

    def records(self) -> list[dict[str, Any]]:
        """The list ``data`` of the body."""
        data = self.document().get("data")
        if data is None:
            message = "required field not found"
            raise Refused(failure(400, "MANDATORY_NOT_FOUND", message, api_name="data", json_path="$.data"))
        details: dict[str, Any] = {"api_name": "data", "json_path": "$.data"}
        if not isinstance(data, list) or not data or not all(isinstance(item, dict) for item in data):
            details |= {"expected_data_type": "jsonarray"}
            raise Refused(failure(400, "INVALID_DATA", "invalid data", **details))
        if len(data) > MAX_RECORDS:
            details |= {"maximum_length": MAX_RECORDS}
            raise Refused(failure(400, "INVALID_DATA", "invalid data", **details))
        return data

    def ids(self) -> list[str]:
        """The ids that the address names, as one or as a list."""
        one = self.incoming.path.get("id")
        ids = [one] if one else [item for item in self.incoming.query.get("ids", "").split(",") if item]
        if not ids:
            raise Refused(
                failure(400, "REQUIRED_PARAM_MISSING", "One of the expected parameter is missing", param="ids")
            )
        if len(ids) > MAX_RECORDS:
            raise Refused(failure(400, "LIMIT_EXCEEDED", "more ids than allowed", param="ids", limit=MAX_RECORDS))
        return ids


Operation = Callable[[Call], Answer]


def document_of(body: bytes | None) -> dict[str, Any] | None:
    """The body as a JSON object, if it is one."""
    try:
        document = msgspec.json.decode(body or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def upsert(call: Call) -> Answer:
    """Change what a field of ``duplicate_check_fields`` finds, the first that does; else insert."""
    named = call.document().get("duplicate_check_fields")
    names = named if isinstance(named, list) and named else [EMAIL, call.options.key_property]

    def write(call: Call, entry: Entry, place: int) -> dict[str, Any] | Refusal:
        for name in names:
            found = call.store.holder(call.module, str(name), entry.get(name))
            if found is not None:
                return _changed(call, found, entry, place=place, action="update", duplicate_field=name)
        return _inserted(call, entry, place=place, action="insert", duplicate_field=None)

    return _each(call, write, status=200)


def insert(call: Call) -> Answer:
    """Insert each record, unless another one holds a unique value of it."""
    return _each(call, lambda call, entry, place: _inserted(call, entry, place=place), status=201)


def update(call: Call) -> Answer:
    """Change records by id, which stands in each of them or in the address."""
    one = call.incoming.path.get("id")

    def write(call: Call, entry: Entry, place: int) -> dict[str, Any] | Refusal:
        record_id = str(one or entry.get("id") or "")
        found = call.store.by_id(call.module, record_id)
        return no_such_record(record_id) if found is None else _changed(call, found, entry, place=place)

    return _each(call, write, status=200)


def read(call: Call) -> Answer:
    """The records of some ids, or a page of all: 204 if there is none."""
    fields = [name for name in call.incoming.query.get("fields", "").split(",") if name]
    if call.incoming.path.get("id") or call.incoming.query.get("ids"):
        found = [record for record_id in call.ids() if (record := call.store.by_id(call.module, record_id)) is not None]
    else:
        found = [item for item in call.store.page(after=0, limit=_PAGE) if item.module == call.module]
    if not found:
        return Answer(204)
    info = {"per_page": _PAGE, "count": len(found), "page": 1, "more_records": False}
    return Answer(200, {"data": [_shown(record, fields) for record in found], "info": info})


def delete(call: Call) -> Answer:
    """Put records into the recycle bin."""
    return _remove(call, "record deleted", lambda record_id: call.store.by_id(call.module, record_id), bin_it=True)


def empty_bin(call: Call) -> Answer:
    """Take records out of the recycle bin, for good."""
    return _remove(call, "record deleted permanently", call.store.deleted, bin_it=False)


def settings_fields(call: Call) -> Answer:
    """The fields of a module."""
    module = call.incoming.query.get("module")
    if module not in MODULES:
        return failure(400, "INVALID_MODULE", "the module name given seems to be invalid", param="module")
    return Answer(200, {"fields": [item.shown(place) for place, item in enumerate(call.fields.values())]})


def _each(call: Call, write: Callable[[Call, Entry, int], dict[str, Any] | Refusal], *, status: int) -> Answer:
    call.refuse_unknown_module()
    entries = call.records()
    told: list[dict[str, Any]] = []
    seen = call.shared.observations
    with call.store.transaction():
        for place, entry in enumerate(entries):
            rule = _fault_of(call, entry)
            if rule is FaultKind.PER_RECORD_ERROR:
                told.append(Refusal("INVALID_DATA", "refused by a fault rule of the sandbox").shown())
                continue
            written = write(call, entry, place)
            if isinstance(written, Refusal):
                told.append(written.shown())
                continue
            new = written["message"] == "record added"
            seen.records_created += new
            seen.records_updated += not new
            # Zoho tells of each record; what is kept back stands for an answer that cannot be read.
            told.append({"code": "", "details": {}, "message": "", "status": ""} if rule else written)
    return listed(told, status=status, partly=call.options.partial_status)


def _inserted(call: Call, entry: Entry, *, place: int, **more: Any) -> dict[str, Any] | Refusal:
    values = checked(entry, call.fields, place=place, new=True)
    if isinstance(values, Refusal):
        return values
    taken = _taken(call, values, place=place, by_other_than=None)
    if taken is not None:
        return taken
    return _told(call.store.insert(call.module, values, now=call.incoming.now), "record added", **more)


def _changed(call: Call, record: Record, entry: Entry, *, place: int, **more: Any) -> dict[str, Any] | Refusal:
    values = checked(entry, call.fields, place=place, new=False)
    if isinstance(values, Refusal):
        return values
    taken = _taken(call, values, place=place, by_other_than=record.id)
    if taken is not None:
        return taken
    return _told(call.store.update(record, values, now=call.incoming.now), "record updated", **more)


def _taken(call: Call, values: Entry, *, place: int, by_other_than: str | None) -> Refusal | None:
    for name, value in values.items():
        if call.fields[name].unique and value is not None:
            holder = call.store.holder(call.module, name, value)
            if holder is not None and holder.id != by_other_than:
                return duplicate(name, holder.id, module=call.module, place=place)
    return None


def _told(record: Record, message: str, **more: Any) -> dict[str, Any]:
    return success(message, record.id, created_at=record.created_at, modified_at=record.modified_at, **more)


def _remove(call: Call, message: str, find: Callable[[str], Record | None], *, bin_it: bool) -> Answer:
    told: list[dict[str, Any]] = []
    with call.store.transaction():
        for record_id in call.ids():
            found = find(record_id)
            if found is None:
                told.append(no_such_record(record_id).shown())
                continue
            if bin_it:
                call.store.delete(found, now=call.incoming.now)
            else:
                call.store.purge(found)
            told.append(removed(message, record_id))
    return listed(told, status=200, partly=call.options.partial_status, key="data" if bin_it else "recycle_bin")


def _shown(record: Record, fields: Sequence[str]) -> dict[str, Any]:
    own = {"Created_Time": record.created_at, "Modified_Time": record.modified_at}
    values = {**own, **record.properties}
    chosen = {name: values.get(name) for name in fields} if fields else values
    return {**chosen, "id": record.id}


def _fault_of(call: Call, entry: Entry) -> FaultKind | None:
    texts = [str(value) for value in (entry.get(call.options.key_property), *entry.values()) if value] or [""]
    rule = call.shared.faults.for_record(call.endpoint, texts)
    if rule is None:
        return None
    call.shared.observations.faults[rule.kind] += 1
    return rule.kind
