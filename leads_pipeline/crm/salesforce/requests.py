"""The requests that Salesforce's REST API takes, as documented. Pure; what is asked when stands in ``client``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from leads_pipeline.crm.port import CrmRecord, CrmRequest
from leads_pipeline.domain.delivery import PropertyValue

Part = Sequence[CrmRecord]
# Salesforce's ids of records, by outbox id.
Ids = Mapping[int, str]


@dataclass(frozen=True, slots=True)
class SalesforceRequests:
    """Requests below ``api``, such as ``/services/data/v66.0``, about records of one object.

    ``key`` is the external id that holds our contact's id. ``placeholders``: what a new record has in a field that
    Salesforce demands and the contact lacks.
    """

    api: str
    object_type: str
    key: str
    required: tuple[str, ...] = ()
    placeholders: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> CrmRequest:
        """Every field that the object has."""
        path = f"{self.api}/sobjects/{self.object_type}/describe"
        return CrmRequest(purpose="describe", method="GET", path=path, records=0)

    def limits(self) -> CrmRequest:
        """What is left of the org's limits."""
        return CrmRequest(purpose="limits", method="GET", path=f"{self.api}/limits", records=0)

    def upsert(self, part: Part) -> CrmRequest:
        """Create or change what holds our key; a result for each, in their order."""
        path = f"{self.api}/composite/sobjects/{self.object_type}/{self.key}"
        records = [{**self._typed(), self.key: str(record.contact_id), **self.values(record)} for record in part]
        return self._collection("upsert", "PATCH", path, records, part)

    def upsert_one(self, record: CrmRecord) -> CrmRequest:
        """The same of one record, whose refusal says more."""
        path = f"{self.api}/sobjects/{self.object_type}/{self.key}/{quote(str(record.contact_id), safe='')}"
        return CrmRequest(purpose="upsert", method="PATCH", path=path, body=self.values(record), records=1)

    def update(self, part: Part, ids: Ids, *, purpose: str) -> CrmRequest:
        """Change the records of these ids, and give them our key."""
        records = [
            {
                **self._typed(),
                "id": ids[record.outbox_id],
                self.key: str(record.contact_id),
                **self.values(record, exists=True),
            }
            for record in part
        ]
        return self._collection(purpose, "PATCH", f"{self.api}/composite/sobjects", records, part)

    def change(self, part: Part, ids: Ids) -> CrmRequest:
        """Change the records of these ids, whatever keys they hold."""
        records = [
            {**self._typed(), "id": ids[record.outbox_id], **self.values(record, exists=True)} for record in part
        ]
        return self._collection("withdraw", "PATCH", f"{self.api}/composite/sobjects", records, part)

    def unlink(self, part: Part, ids: Ids) -> CrmRequest:
        """Take our key away, and change nothing else."""
        records = [{**self._typed(), "id": ids[record.outbox_id], self.key: None} for record in part]
        return self._collection("unlink", "PATCH", f"{self.api}/composite/sobjects", records, part)

    def delete(self, part: Part, ids: Ids, *, purpose: str) -> CrmRequest:
        """Put the records of these ids in the recycle bin."""
        query = {"ids": ",".join(ids[record.outbox_id] for record in part), "allOrNone": "false"}
        path = f"{self.api}/composite/sobjects"
        return CrmRequest(purpose=purpose, method="DELETE", path=path, query=query, records=len(part))

    def find_by_key(self, part: Part) -> CrmRequest:
        """What holds our keys."""
        return self._find(self.key, (str(record.contact_id) for record in part), part, deleted=False)

    def find_by_id(self, part: Part, ids: Ids, *, deleted: bool = False) -> CrmRequest:
        """The records of these ids with the keys that they hold; also those in the recycle bin, if asked for."""
        return self._find("Id", (ids[record.outbox_id] for record in part), part, deleted=deleted)

    def values(self, record: CrmRecord, *, exists: bool = False) -> dict[str, PropertyValue]:
        """The fields of one record.

        What Salesforce demands is never emptied: a new record gets the placeholder, and one that exists keeps what it
        has, which may be what people wrote.
        """
        values = dict(record.properties)
        is_new = record.crm_record_id is None and not exists
        for name in self.required:
            if values.get(name) in (None, ""):
                values.pop(name, None)
                if is_new and name in self.placeholders:
                    values[name] = self.placeholders[name]
        return values

    def _find(self, field_name: str, wanted: Iterable[str], part: Part, *, deleted: bool) -> CrmRequest:
        names = ["Id", self.key]
        names += ["IsDeleted", "MasterRecordId"] if deleted else []
        names += ["ConvertedContactId"] if self.object_type == "Lead" else []
        listed = ",".join(f"'{value}'" for value in wanted)  # ids and keys of ours: nothing to escape
        soql = f"SELECT {','.join(names)} FROM {self.object_type} WHERE {field_name} IN ({listed})"  # noqa: S608 - SOQL, of ids
        path = f"{self.api}/{'queryAll' if deleted else 'query'}"
        return CrmRequest(purpose="look_up", method="GET", path=path, query={"q": soql}, records=len(part))

    def _typed(self) -> dict[str, Any]:
        return {"attributes": {"type": self.object_type}}

    def _collection(
        self, purpose: str, method: str, path: str, records: list[dict[str, Any]], part: Part
    ) -> CrmRequest:
        body = {"allOrNone": False, "records": records}
        return CrmRequest(purpose=purpose, method=method, path=path, body=body, records=len(part))
