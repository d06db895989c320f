"""The requests that Zoho's records API takes, as documented. Pure; what is asked when stands in ``client``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from leads_pipeline.config.destinations.zoho import price_of
from leads_pipeline.crm.port import CrmRecord, CrmRequest, Unit
from leads_pipeline.domain.delivery import PropertyValue

Part = Sequence[CrmRecord]
# The CRM's ids of records, by outbox id.
Ids = Mapping[int, str]

LAST_NAME = "Last_Name"

# An instant as our mapping makes it.
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,6})?Z")


@dataclass(frozen=True, slots=True)
class RecordRequests:
    """Requests of one module. ``root``: /crm/v8; ``key``: the field that holds our id."""

    root: str
    module: str
    key: str
    if_unknown: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> CrmRequest:
        """Every field that the module has."""
        path = f"{self.root}/settings/fields"
        return _read(CrmRequest(purpose="describe", method="GET", path=path, query={"module": self.module}, records=0))

    def upsert(self, part: Part) -> CrmRequest:
        """Create or change what holds our key. Nothing is put in the place of what a record that is there says."""
        entries = [self._entry(record, may_be_new=record.crm_record_id is None) for record in part]
        return self._upsert("upsert", entries)

    def make(self, part: Part) -> CrmRequest:
        """The same for records that turned out not to be there, with all that Zoho demands of a new one."""
        entries = [{**self.if_unknown, **self._entry(record, may_be_new=True)} for record in part]
        return self._upsert("upsert", entries)

    def find(self, part: Part) -> CrmRequest:
        """An upsert of the key and nothing else, which tells the ids of what holds our keys.

        Where nothing does it is refused, as Zoho demands a Last_Name. A search would need a further scope, and its
        index lags behind.
        """
        return self._upsert("look_up", [{self.key: str(record.contact_id)} for record in part])

    def update(self, part: Part, ids: Ids, *, purpose: str) -> CrmRequest:
        """Change the records of these ids, and give them our key."""
        entries = [{"id": ids[record.outbox_id], **self._entry(record, may_be_new=False)} for record in part]
        return self._change(purpose, entries)

    def change(self, part: Part, ids: Ids) -> CrmRequest:
        """Change the records of these ids, whatever keys they hold."""
        return self._change("withdraw", [{"id": ids[record.outbox_id], **record.properties} for record in part])

    def unlink(self, part: Part, ids: Ids) -> CrmRequest:
        """Take our key away, and change nothing else."""
        return self._change("unlink", [{"id": ids[record.outbox_id], self.key: None} for record in part])

    def read(self, part: Part, ids: Ids) -> CrmRequest:
        """Which keys the records of these ids hold."""
        query = {"ids": ",".join(ids[record.outbox_id] for record in part), "fields": self.key}
        path = f"{self.root}/{self.module}"
        return _read(CrmRequest(purpose="look_up", method="GET", path=path, query=query, records=len(part)))

    def delete(self, part: Part, ids: Ids, *, purpose: str) -> CrmRequest:
        """Put records into the recycle bin, where they stay for 60 days."""
        query = {"ids": ",".join(ids[record.outbox_id] for record in part), "wf_trigger": "false"}
        path = f"{self.root}/{self.module}"
        return _read(CrmRequest(purpose=purpose, method="DELETE", path=path, query=query, records=len(part)))

    def purge(self, part: Part, ids: Ids) -> CrmRequest:
        """Take records out of the recycle bin, for good."""
        query = {"ids": ",".join(ids[record.outbox_id] for record in part)}
        path = f"{self.root}/settings/recycle_bin"
        return _read(CrmRequest(purpose="erase", method="DELETE", path=path, query=query, records=len(part)))

    def _entry(self, record: CrmRecord, *, may_be_new: bool) -> dict[str, PropertyValue]:
        """What a record is sent as. Zoho takes none without its mandatory fields, and does not let go of one."""
        entry = {name: _sendable(value) for name, value in record.properties.items()}
        for name in {LAST_NAME, *self.if_unknown}:
            if entry.get(name) in (None, "") and (record.complete or name in entry):
                entry.pop(name, None)
                if may_be_new and name in self.if_unknown:
                    entry[name] = self.if_unknown[name]
        return {**entry, self.key: str(record.contact_id)}

    def _upsert(self, purpose: str, entries: list[dict[str, PropertyValue]]) -> CrmRequest:
        body = {"data": entries, "duplicate_check_fields": [self.key], "trigger": []}
        return _write(purpose, "POST", f"{self.root}/{self.module}/upsert", body)

    def _change(self, purpose: str, entries: list[dict[str, PropertyValue]]) -> CrmRequest:
        return _write(purpose, "PUT", f"{self.root}/{self.module}", {"data": entries, "trigger": []})


def _sendable(value: PropertyValue) -> PropertyValue:
    """Zoho reads instants to the second, with an offset in digits."""
    instant = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    return value if instant is None else f"{instant[1]}+00:00"


def _write(purpose: str, method: str, path: str, body: Mapping[str, Any]) -> CrmRequest:
    records = len(body["data"])
    price = price_of(records)
    return CrmRequest(
        purpose=purpose,
        method=method,
        path=path,
        body=body,
        records=records,
        endpoint_class=price.endpoint_class,
        cost={Unit.REQUESTS: 1, Unit.CREDITS: price.credits},
    )


def _read(request: CrmRequest) -> CrmRequest:
    """The same, at the price of whatever is no batch of writes."""
    return replace(request, cost={**request.cost, Unit.REQUESTS: 1, Unit.CREDITS: 1})
