"""Zoho's records by their keys, as ``crm.linking`` asks for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from leads_pipeline.crm import linking
from leads_pipeline.crm.port import Courier, CrmRecord, RecordVerdict, Verdict
from leads_pipeline.crm.zoho import removing
from leads_pipeline.crm.zoho.answers import MANDATORY_NOT_FOUND, read_batch
from leads_pipeline.crm.zoho.looking_up import found_by_key, in_parts, keys_of
from leads_pipeline.crm.zoho.requests import Ids, Part, RecordRequests


@dataclass(frozen=True, slots=True)
class ZohoRecords:
    """See ``linking.KeyedRecords``."""

    courier: Courier
    requests: RecordRequests
    vendor: str = "Zoho"

    def held(self, records: Part) -> tuple[Ids, list[RecordVerdict]]:
        return found_by_key(records, courier=self.courier, requests=self.requests)

    def keys(self, records: Part, ids: Ids) -> tuple[Mapping[str, str], list[RecordVerdict]]:
        return keys_of(records, ids, courier=self.courier, requests=self.requests)

    def upsert(self, records: Part) -> list[RecordVerdict]:
        send = partial(in_parts, courier=self.courier, read=read_batch)
        verdicts = linking.make_anew(
            records,
            send(records, build=self.requests.upsert),
            code=MANDATORY_NOT_FOUND,
            known=self.requests.if_unknown.keys(),
            make=partial(send, build=self.requests.make),
        )
        holders = {item.outbox_id: item.holder_id for item in verdicts if item.holder_id}
        return linking.link(records, verdicts, holders, self)

    def update(self, records: Part, ids: Ids, *, purpose: str) -> list[RecordVerdict]:
        build = partial(self.requests.update, ids=ids, purpose=purpose)
        return in_parts(records, courier=self.courier, build=build, read=read_batch)

    def change(self, records: Part, ids: Ids) -> list[RecordVerdict]:
        return in_parts(records, courier=self.courier, build=partial(self.requests.change, ids=ids), read=read_batch)

    def archive(self, records: Part) -> list[RecordVerdict]:
        return removing.archive(records, courier=self.courier, requests=self.requests)

    def held_by_another(self, record: CrmRecord, *, holder_id: str, contact_id: str) -> RecordVerdict:
        return RecordVerdict(
            record.outbox_id,
            Verdict.CONFLICT,
            code="DUPLICATE_DATA",
            holder_id=holder_id,
            explanation=f"Zoho's record {holder_id} has the same value in a unique field and is contact "
            f"{contact_id}'s. If they are one person, merge the contacts with `leads contact merge`, unless they are "
            "two tenants': then let one of them send it; else correct one of the values.",
        )
