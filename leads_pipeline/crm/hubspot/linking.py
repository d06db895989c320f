"""HubSpot's records by their keys, as ``crm.linking`` asks for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from leads_pipeline.crm import linking, parts
from leads_pipeline.crm.hubspot import removing
from leads_pipeline.crm.hubspot.answers import (
    existing_id,
    not_reported,
    read_batch,
    read_found,
    read_missing,
    refusal_of,
)
from leads_pipeline.crm.hubspot.requests import ContactRequests, Ids, Part
from leads_pipeline.crm.port import Courier, CrmRecord, CrmResponse, RecordVerdict, Verdict

_in_parts = partial(parts.in_parts, refusal_of=refusal_of)


@dataclass(frozen=True, slots=True)
class HubSpotRecords:
    """See ``linking.KeyedRecords``."""

    courier: Courier
    requests: ContactRequests
    vendor: str = "HubSpot"

    def held(self, records: Part) -> tuple[Ids, list[RecordVerdict]]:
        return removing.held(records, courier=self.courier, requests=self.requests)

    def keys(self, records: Part, ids: Ids) -> tuple[Mapping[str, str], list[RecordVerdict]]:
        keys: dict[str, str] = {}

        def read(part: Part, response: CrmResponse) -> list[RecordVerdict]:
            found = read_found(response, key_property=self.requests.key)
            keys.update({item.crm_record_id: item.key for item in found})
            if len(found) + len(read_missing(response)) >= len(part):
                return []
            return not_reported([record for record in part if ids[record.outbox_id] not in keys])

        build = partial(self.requests.read_by_id, ids=ids)
        return keys, _in_parts(records, courier=self.courier, build=build, read=read)

    def upsert(self, records: Part) -> list[RecordVerdict]:
        read = partial(read_batch, key_property=self.requests.key)
        verdicts = _in_parts(records, courier=self.courier, build=self.requests.upsert, read=read)
        holders = {
            item.outbox_id: holder
            for item in verdicts
            if item.verdict is Verdict.CONFLICT and (holder := existing_id(item))
        }
        return linking.link(records, verdicts, holders, self)

    def update(self, records: Part, ids: Ids, *, purpose: str) -> list[RecordVerdict]:
        read = partial(read_batch, key_property=self.requests.key, targets=ids)
        build = partial(self.requests.update, ids=ids, purpose=purpose)
        return _in_parts(records, courier=self.courier, build=build, read=read)

    def change(self, records: Part, ids: Ids) -> list[RecordVerdict]:
        read = partial(read_batch, key_property=self.requests.key, targets=ids)
        build = partial(self.requests.change, ids=ids)
        return _in_parts(records, courier=self.courier, build=build, read=read)

    def archive(self, records: Part) -> list[RecordVerdict]:
        return removing.archive(records, courier=self.courier, requests=self.requests)

    def held_by_another(self, record: CrmRecord, *, holder_id: str, contact_id: str) -> RecordVerdict:
        return RecordVerdict(
            record.outbox_id,
            Verdict.CONFLICT,
            code="CONFLICT",
            holder_id=holder_id,
            explanation=f"HubSpot's record {holder_id} has the same address and is contact {contact_id}'s. What helps: "
            "if they are one person, merge the contacts with `leads contact merge`, unless they are two tenants': then "
            "let one of them send it; else correct one of the addresses.",
        )
