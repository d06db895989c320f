"""Salesforce's records by their keys, as ``crm.linking`` asks for them, and what its duplicate rules say of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from leads_pipeline.crm import linking
from leads_pipeline.crm.parts import NOT_SENT, OVERTAKEN, renewing
from leads_pipeline.crm.port import Courier, CrmRecord, RecordVerdict, Verdict
from leads_pipeline.crm.salesforce import removing
from leads_pipeline.crm.salesforce.answers import (
    CONVERTED,
    DUPLICATES_DETECTED,
    REQUIRED_FIELD_MISSING,
    Found,
    matched_ids,
    read_entry,
    read_results,
    refusal_of,
)
from leads_pipeline.crm.salesforce.looking_up import held, in_parts, known
from leads_pipeline.crm.salesforce.requests import Ids, Part, SalesforceRequests
from leads_pipeline.errors import AccountParked, Overtaken


@dataclass(frozen=True, slots=True)
class SalesforceRecords:
    """See ``linking.KeyedRecords``."""

    courier: Courier
    requests: SalesforceRequests
    vendor: str = "Salesforce"

    def held(self, records: Part) -> tuple[Ids, list[RecordVerdict]]:
        return held(records, courier=self.courier, requests=self.requests)

    def keys(self, records: Part, ids: Ids) -> tuple[Mapping[str, str], list[RecordVerdict]]:
        found, failed = known(records, ids, courier=self.courier, requests=self.requests)
        return {crm_record_id: item.key for crm_record_id, item in found.items()}, failed

    def upsert(self, records: Part) -> list[RecordVerdict]:
        send = partial(in_parts, courier=self.courier, build=self.requests.upsert, read=read_results)
        verdicts = linking.make_anew(
            records,
            send(records),
            code=REQUIRED_FIELD_MISSING,
            known=self.requests.placeholders.keys(),
            make=send,
        )
        return self._settled(records, verdicts)

    def update(self, records: Part, ids: Ids, *, purpose: str) -> list[RecordVerdict]:
        build = partial(self.requests.update, ids=ids, purpose=purpose)
        return in_parts(records, courier=self.courier, build=build, read=read_results)

    def change(self, records: Part, ids: Ids) -> list[RecordVerdict]:
        return in_parts(records, courier=self.courier, build=partial(self.requests.change, ids=ids), read=read_results)

    def archive(self, records: Part) -> list[RecordVerdict]:
        return removing.archive(records, courier=self.courier, requests=self.requests)

    def held_by_another(self, record: CrmRecord, *, holder_id: str, contact_id: str) -> RecordVerdict:
        return RecordVerdict(
            record.outbox_id,
            Verdict.CONFLICT,
            code=DUPLICATES_DETECTED,
            holder_id=holder_id,
            explanation=f"a duplicate rule of Salesforce takes the contact for record {holder_id}, which is contact "
            f"{contact_id}'s. What helps: if they are one person, merge the contacts with `leads contact merge`, "
            "unless they are two tenants': then let one of them send it; else correct one of them, or the rule.",
        )

    def _settled(self, records: Part, verdicts: list[RecordVerdict]) -> list[RecordVerdict]:
        """The same verdicts; those of duplicates and of converted leads say more, or are delivered after all.

        A duplicate rule of the org tells which record it means only when one record is sent by itself.
        """
        by_id = {record.outbox_id: record for record in records}
        duplicates = [by_id[item.outbox_id] for item in verdicts if item.code == DUPLICATES_DETECTED]
        converted = [by_id[item.outbox_id] for item in verdicts if item.code == CONVERTED]
        told: dict[int, RecordVerdict] = {}
        holders: dict[int, str] = {}
        for record in duplicates:
            answer = _alone(record, courier=self.courier, requests=self.requests)
            told[record.outbox_id] = answer.verdict
            if answer.matched:
                holders[record.outbox_id] = answer.matched[0]
            if answer.verdict.verdict in (Verdict.THROTTLED, Verdict.AUTH):
                break
        if converted:
            told |= {i.outbox_id: i for i in _converted(converted, courier=self.courier, requests=self.requests)}
        return linking.link(records, [told.get(item.outbox_id, item) for item in verdicts], holders, self)


@dataclass(frozen=True, slots=True)
class _Alone:
    """What a record that was sent by itself is answered. ``matched``: the records that a duplicate rule means."""

    verdict: RecordVerdict
    matched: list[str]


def _alone(record: CrmRecord, *, courier: Courier, requests: SalesforceRequests) -> _Alone:
    try:
        response = renewing(courier)(requests.upsert_one(record).about([record]))
    except (AccountParked, Overtaken) as error:
        code = OVERTAKEN if isinstance(error, Overtaken) else NOT_SENT
        return _Alone(RecordVerdict(record.outbox_id, Verdict.THROTTLED, code=code), [])
    refusal = refusal_of(response)
    if response.status == 300:  # several records hold our key
        return _Alone(
            RecordVerdict(
                record.outbox_id,
                Verdict.CONFLICT,
                code="DUPLICATE_EXTERNAL_ID",
                explanation=f"several records of Salesforce hold {requests.key} {record.contact_id}: merge them there, "
                "and make the field unique",
            ),
            [],
        )
    if refusal is None:
        return _Alone(read_entry(record, response.body), [])
    matched = matched_ids(response)
    verdict = replace(refusal.of(record), holder_id=matched[0] if matched else None)
    return _Alone(verdict, matched)


def _converted(records: Part, *, courier: Courier, requests: SalesforceRequests) -> list[RecordVerdict]:
    """Leads of which people made contacts. Which contact it is stands in the lead."""
    ids, _failed = held(records, courier=courier, requests=requests)
    present = [record for record in records if record.outbox_id in ids]
    found, _failed = known(present, ids, courier=courier, requests=requests)
    return [_is_a_contact_now(record, ids, found) for record in records]


def _is_a_contact_now(record: CrmRecord, ids: Ids, found: Mapping[str, Found]) -> RecordVerdict:
    lead_id = ids.get(record.outbox_id, record.crm_record_id or "")
    contact_id = found[lead_id].converted_to if lead_id in found else None
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code=CONVERTED,
        holder_id=contact_id,
        explanation=f"lead {lead_id} was converted into contact {contact_id or '(not told)'} in Salesforce, and takes "
        "no changes any more. What helps: discard, as the contact is the sales team's now; or deliver to a destination "
        "with object_type: Contact",
    )
