"""The requests that HubSpot's contacts API takes, as documented. Pure; what is asked when stands in ``client``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leads_pipeline.crm.hubspot.answers import trace_id
from leads_pipeline.crm.port import CrmRecord, CrmRequest
from leads_pipeline.domain.delivery import PropertyValue

Part = Sequence[CrmRecord]
# The CRM's ids of records, by outbox id.
Ids = Mapping[int, str]


@dataclass(frozen=True, slots=True)
class ContactRequests:
    """Requests below ``contacts``, the path of the contacts API; ``key`` is the property that holds our id."""

    contacts: str
    properties: str
    key: str

    def describe(self) -> CrmRequest:
        """Every property that contacts have."""
        return CrmRequest(purpose="describe", method="GET", path=self.properties, records=0)

    def upsert(self, part: Part) -> CrmRequest:
        """Create or change what holds our key."""
        inputs = [{"id": str(record.contact_id), "idProperty": self.key, **self._input(record)} for record in part]
        return self._batch("upsert", "upsert", {"inputs": inputs}, part)

    def update(self, part: Part, ids: Ids, *, purpose: str) -> CrmRequest:
        """Change the records of these ids, and give them our key."""
        inputs = [{"id": ids[record.outbox_id], **self._input(record)} for record in part]
        return self._batch(purpose, "update", {"inputs": inputs}, part)

    def change(self, part: Part, ids: Ids) -> CrmRequest:
        """Change the records of these ids, whatever keys they hold."""
        inputs = [
            {
                "id": ids[record.outbox_id],
                "properties": {name: _text(value) for name, value in record.properties.items()},
                "objectWriteTraceId": trace_id(record),
            }
            for record in part
        ]
        return self._batch("withdraw", "update", {"inputs": inputs}, part)

    def unlink(self, part: Part, ids: Ids) -> CrmRequest:
        """Take our key away, and change nothing else."""
        inputs = [
            {"id": ids[record.outbox_id], "properties": {self.key: ""}, "objectWriteTraceId": trace_id(record)}
            for record in part
        ]
        return self._batch("unlink", "update", {"inputs": inputs}, part)

    def archive(self, part: Part, ids: Ids) -> CrmRequest:
        """Take the records of these ids out of sight; they can be restored for 90 days."""
        return self._batch("archive", "archive", {"inputs": [{"id": ids[record.outbox_id]} for record in part]}, part)

    def erase(self, record: CrmRecord, crm_record_id: str) -> CrmRequest:
        """Remove a record for good. HubSpot has no batch of these."""
        path = f"{self.contacts}/gdpr-delete"
        return CrmRequest(purpose="erase", method="POST", path=path, body={"objectId": crm_record_id}, records=1)

    def read_by_key(self, part: Part) -> CrmRequest:
        """What holds our keys."""
        inputs = [{"id": str(record.contact_id)} for record in part]
        body = {"idProperty": self.key, "inputs": inputs, "properties": [self.key]}
        return self._batch("look_up", "read", body, part)

    def read_by_id(self, part: Part, ids: Ids) -> CrmRequest:
        """Which keys the records of these ids hold."""
        body = {"inputs": [{"id": ids[record.outbox_id]} for record in part], "properties": [self.key]}
        return self._batch("look_up", "read", body, part)

    def read_one(self, crm_record_id: str, *, archived: bool) -> CrmRequest:
        """One record by an id that it has, or had before somebody merged it."""
        query = {"properties": self.key, "archived": str(archived).lower()}
        path = f"{self.contacts}/{crm_record_id}"
        return CrmRequest(purpose="look_up", method="GET", path=path, query=query, records=1)

    def _input(self, record: CrmRecord) -> dict[str, Any]:
        properties = {name: _text(value) for name, value in record.properties.items()}
        properties[self.key] = str(record.contact_id)
        return {"properties": properties, "objectWriteTraceId": trace_id(record)}

    def _batch(self, purpose: str, verb: str, body: Mapping[str, Any], part: Part) -> CrmRequest:
        path = f"{self.contacts}/batch/{verb}"
        return CrmRequest(purpose=purpose, method="POST", path=path, body=body, records=len(part))


def _text(value: PropertyValue) -> str:
    """HubSpot takes every value as text; an empty one clears the property."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
