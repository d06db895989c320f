"""Records of a CRM that a contact of ours is to become: those that people made, and those of merged contacts.

For CRMs in whose records a unique field holds our key. Add what does not depend on a vendor; keep out how one is asked,
which ``KeyedRecords`` hides.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Protocol

from leads_pipeline.crm.port import LINK, CrmRecord, RecordVerdict, Verdict
from leads_pipeline.crm.withdrawing import Ids, tell_withdrawals

Records = Sequence[CrmRecord]


class KeyedRecords(Protocol):
    """What is asked of a CRM. Each call answers for all of ``records``, in any order, and never raises."""

    @property
    def vendor(self) -> str:
        """Its name, for people."""
        ...

    def held(self, records: Records) -> tuple[Ids, list[RecordVerdict]]:
        """The ids of what holds our keys now, and the verdicts of those that could not be looked up."""
        ...

    def keys(self, records: Records, ids: Ids) -> tuple[Mapping[str, str], list[RecordVerdict]]:
        """The key that each record of ``ids`` holds, where it is there, and what kept us from knowing.

        ``""``: it holds none.
        """
        ...

    def upsert(self, records: Records) -> list[RecordVerdict]:
        """Write the records by our key, making those that are not there."""
        ...

    def update(self, records: Records, ids: Ids, *, purpose: str) -> list[RecordVerdict]:
        """Write the records and their keys into the CRM's records ``ids``."""
        ...

    def change(self, records: Records, ids: Ids) -> list[RecordVerdict]:
        """Write the records into ``ids``, and leave the keys there alone."""
        ...

    def archive(self, records: Records) -> list[RecordVerdict]:
        """Take away what the contacts have there, if we made it."""
        ...

    def held_by_another(self, record: CrmRecord, *, holder_id: str, contact_id: str) -> RecordVerdict:
        """The conflict with a record that is another contact's of ours, and what helps."""
        ...


def upsert(records: Records, crm: KeyedRecords) -> list[RecordVerdict]:
    """Upsert ``records``: withdrawals only where something is there, and into a record that is to be taken over."""
    told = [record for record in records if record.withdrawal]
    verdicts = tell_withdrawals(told, held=crm.held, present=crm.keys, change=crm.change) if told else []
    claiming = [r for r in records if r.claims_record not in (None, r.crm_record_id) and r not in told]
    rest = [record for record in records if record not in claiming and record not in told]
    if claiming:
        rekeyed, gone = _re_key(claiming, crm)
        verdicts, rest = verdicts + rekeyed, rest + gone
    return verdicts + (crm.upsert(rest) if rest else [])


def link(records: Records, verdicts: Sequence[RecordVerdict], holders: Ids, crm: KeyedRecords) -> list[RecordVerdict]:
    """The same verdicts; conflicts with one of ``holders`` that has no key of ours are settled by taking it over.

    A sales person made it before we came. Who has a record already takes no second one: there would be two of one
    person. That conflict mostly ends by itself, when the other record gets its new address or is archived.
    """
    by_id = {record.outbox_id: record for record in records}
    targets: dict[int, str] = {}
    for outbox_id, holder_id in holders.items():
        if by_id[outbox_id].crm_record_id is None and holder_id not in targets.values():
            targets[outbox_id] = holder_id
    if not targets:
        return list(verdicts)
    settled = {item.outbox_id: item for item in _take_over([by_id[i] for i in targets], targets, crm)}
    return [settled.get(item.outbox_id, item) for item in verdicts]


def make_anew(
    records: Records,
    verdicts: Sequence[RecordVerdict],
    *,
    code: str,
    known: AbstractSet[str],
    make: Callable[[Records], list[RecordVerdict]],
) -> list[RecordVerdict]:
    """The same verdicts; records that we thought were there, and that were not, are sent as new ones.

    That is what ``code`` says of them, which names the fields that a new record must have; ``known``: those for which
    leads.yaml says what to put in their place.
    """
    lacking = {item.outbox_id for item in verdicts if item.code == code and known >= {*item.refused_properties}}
    again = [replace(r, crm_record_id=None) for r in records if r.outbox_id in lacking and r.crm_record_id]
    made = {item.outbox_id: item for item in make(again)} if again else {}
    return [made.get(item.outbox_id, item) for item in verdicts]


def _take_over(records: Records, targets: Ids, crm: KeyedRecords) -> list[RecordVerdict]:
    """Take over the records ``targets`` that hold no key of ours. Only what changed its verdict is returned."""
    keys, failed = crm.keys(records, targets)
    free = [record for record in records if keys.get(targets[record.outbox_id]) in ("", str(record.contact_id))]
    # A failed look-up leaves the conflict standing: it is tried again with the record's next attempt.
    parked = [verdict for verdict in failed if verdict.verdict in (Verdict.THROTTLED, Verdict.AUTH)]
    taken = crm.update(free, targets, purpose=LINK)
    others = [
        crm.held_by_another(record, holder_id=targets[record.outbox_id], contact_id=key)
        for record in records
        if record not in free and (key := keys.get(targets[record.outbox_id]))
    ]
    return [*parked, *others, *(replace(item, linked=item.verdict is Verdict.DELIVERED) for item in taken)]


def _re_key(records: Records, crm: KeyedRecords) -> tuple[list[RecordVerdict], list[CrmRecord]]:
    """Give each record's ``claims_record`` our key and the record's properties.

    Also returned: the records of which none is there, to be upserted by key. The record that a contact had until now is
    archived before, so that the key is free, if we made it. If people did, or may have, nothing is changed, and the
    conflict says what to do. A repetition goes on where the last one ended.
    """
    claimed = {record.outbox_id: record.claims_record for record in records if record.claims_record}
    two = [record for record in records if record.crm_record_id and record.taken_over is not False]
    one = [record for record in records if record not in two]
    keys, verdicts = crm.keys(one, claimed)
    failed = {verdict.outbox_id for verdict in verdicts}
    # By the id of a record that was merged in the CRM its survivor may be found, who is somebody else's record.
    gone = [r for r in one if claimed[r.outbox_id] not in keys and r.outbox_id not in failed]
    present = [r for r in one if claimed[r.outbox_id] in keys]

    own = [r for r in present if r.crm_record_id and keys[claimed[r.outbox_id]] != str(r.contact_id)]
    kept = [item for item in (crm.archive(own) if own else []) if item.verdict is not Verdict.DELIVERED]
    failed = {verdict.outbox_id for verdict in kept}
    ready = [record for record in present if record.outbox_id not in failed]
    updated = crm.update(ready, claimed, purpose="re_key")
    return [*verdicts, *kept, *updated, *(_two_records(record, crm.vendor) for record in two)], gone


def _two_records(record: CrmRecord, vendor: str) -> RecordVerdict:
    return RecordVerdict(
        record.outbox_id,
        Verdict.CONFLICT,
        code="TWO_RECORDS",
        holder_id=record.claims_record,
        explanation=f"people made the records {record.crm_record_id} and {record.claims_record} of one contact: merge "
        f"them in {vendor}, then redrive",
    )
