"""What every destination must do, whatever the vendor: a vendor's test module inherits the contracts that hold for it.

Each case speaks to the vendor's client over the real thing, such as HTTP, and looks at what the played vendor then
holds. A vendor gives a fixture ``vendor`` (see ``Vendor``). Add a case here when it must hold for more than one vendor;
keep out what the engine does with a verdict, which is the same for all (``test_delivery.py``).

A contract is one ability. ``RecordContract``, ``BatchContract``, ``HttpContract`` and ``QuotaContract`` bundle those of
a whole CRM; a destination with fewer abilities names the single ones that it has, so that what it lacks can be read
from its bases. Nothing is skipped.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import UUID

import pytest

from leads_pipeline.crm.port import CrmClient, CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Verdict
from leads_pipeline.domain.delivery import NOT_THERE, PropertyValue
from leads_pipeline.domain.destination_schema import FieldType
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.sandbox.faults import FaultKind

# Troubles that end by the client's time-out only.
_LASTING = (FaultKind.TIMEOUT, FaultKind.WRITTEN_THEN_TIMEOUT)


@dataclass(frozen=True)
class Held:
    """A record that the vendor holds, under the vendor's names; what is empty is left out.

    ``crm_record_id`` of ``None``: the vendor has no ids of its own.
    """

    crm_record_id: str | None
    properties: Mapping[str, str]


class Vendor(Protocol):
    """A vendor that is played for one test."""

    # Our names of fields to the vendor's: email, first_name, last_name and company at least.
    names: Mapping[str, str]
    # The vendor's field that holds our contact's id.
    key: str

    def client(self, *, timeout_seconds: float = 5, base_url: str | None = None) -> CrmClient:
        """A client; the vendor closes it with the test."""
        ...

    def held(self) -> dict[UUID, Held]:
        """The records that bear our key, archived ones left out."""
        ...

    def made_by_people(self, **fields: str) -> str:
        """Make a record as the vendor's users do, without our key; returns its id."""
        ...

    def count(self) -> int:
        """How many records there are, with our key or without."""
        ...

    def archived(self) -> set[str]:
        """The ids of the records that people could restore. Asked of vendors that keep ``MergeContract``."""
        ...

    def fail(self, *rules: Mapping[str, Any]) -> None:
        """Arm these fault rules, and no others."""
        ...

    def limited(self, requests: int) -> None:
        """Be an account, empty again, that allows so many requests in its shortest window. No vendor begins as one."""
        ...


@dataclass
class Sending:
    """A courier without limiter and books, and what went through it."""

    client: CrmClient
    asked: list[CrmRequest] = field(default_factory=list)
    answered: list[CrmResponse] = field(default_factory=list)

    def __call__(self, request: CrmRequest) -> CrmResponse:
        self.asked.append(request)
        self.answered.append(self.client.send(request))
        return self.answered[-1]


def contact(
    vendor: Vendor, number: int = 1, *, operation: Operation = Operation.UPSERT, version: int = 1,
    crm_record_id: str | None = None, claims_record: str | None = None, taken_over: bool | None = None,
    **fields: PropertyValue,
) -> CrmRecord:  # fmt: skip
    """A contact of the contract: ``fields`` are named as we name them. One without an e-mail has one of its own."""
    given: dict[str, PropertyValue] = {}
    if operation is Operation.UPSERT:
        given = {"email": f"person{number}@example.com", "first_name": "Ada", "last_name": "Byron", **fields}
    properties = {vendor.names[name]: value for name, value in given.items()}
    contact_id = UUID(int=number)
    return CrmRecord(
        number, "acme", contact_id, version, operation, crm_record_id, claims_record, taken_over, properties=properties
    )


def change(vendor: Vendor, number: int = 1, **fields: PropertyValue) -> CrmRecord:
    """The next version of that contact: nothing but ``fields`` has changed."""
    properties = {vendor.names[name]: value for name, value in fields.items()}
    crm_record_id = vendor.held()[UUID(int=number)].crm_record_id
    return CrmRecord(
        number, "acme", UUID(int=number), 2, Operation.UPSERT, crm_record_id, properties=properties, complete=False
    )


def deliver(
    vendor: Vendor, *records: CrmRecord, sending: Sending | None = None, **options: Any
) -> dict[int, RecordVerdict]:
    """Deliver, and hold the client to its promise of one verdict for each record."""
    sending = sending or Sending(vendor.client(**options))
    verdicts = sending.client.deliver(records, courier=sending)
    assert sorted(verdict.outbox_id for verdict in verdicts) == sorted(record.outbox_id for record in records)
    return {verdict.outbox_id: verdict for verdict in verdicts}


def classes(verdicts: Mapping[int, RecordVerdict]) -> set[Verdict]:
    """The classes that occur."""
    return {item.verdict for item in verdicts.values()}


def at_request(place: int, kind: FaultKind) -> list[dict[str, Any]]:
    """Rules that let ``place`` requests pass, and make one fail."""
    spared = [{"kind": FaultKind.SLOW, "count": place}] if place else []
    return [*spared, {"kind": kind, "count": 1}]


class LifeContract:
    """One record and its life."""

    def test_a_contact_that_is_not_there_is_created_with_our_key(self, vendor: Vendor) -> None:
        verdicts = deliver(vendor, contact(vendor, company="Analytical Engines"))
        [(contact_id, held)] = vendor.held().items()
        assert contact_id == UUID(int=1)
        assert (verdicts[1].verdict, verdicts[1].crm_record_id) == (Verdict.DELIVERED, held.crm_record_id)
        assert held.properties[vendor.names["email"]] == "person1@example.com"
        assert held.properties[vendor.names["company"]] == "Analytical Engines"

    def test_a_change_changes_the_same_record(self, vendor: Vendor) -> None:
        before = deliver(vendor, contact(vendor))[1]
        after = deliver(vendor, contact(vendor, version=2, first_name="Augusta"))[1]
        assert (after.verdict, after.crm_record_id) == (Verdict.DELIVERED, before.crm_record_id)
        assert vendor.held()[UUID(int=1)].properties[vendor.names["first_name"]] == "Augusta"
        assert vendor.count() == 1

    def test_what_is_none_is_cleared(self, vendor: Vendor) -> None:
        deliver(vendor, contact(vendor, company="Analytical Engines"))
        assert classes(deliver(vendor, contact(vendor, version=2, company=None))) == {Verdict.DELIVERED}
        held = vendor.held()[UUID(int=1)].properties
        assert vendor.names["company"] not in held
        assert held[vendor.names["first_name"]] == "Ada"

    def test_the_same_again_changes_nothing(self, vendor: Vendor) -> None:
        deliver(vendor, contact(vendor))
        before = vendor.held()
        assert classes(deliver(vendor, contact(vendor))) == {Verdict.DELIVERED}
        assert (vendor.held(), vendor.count()) == (before, 1)

    @pytest.mark.parametrize("operation", [Operation.ARCHIVE, Operation.ERASE])
    def test_what_is_removed_is_gone_or_it_is_said_why_it_is_not(self, vendor: Vendor, operation: Operation) -> None:
        record_id = deliver(vendor, contact(vendor))[1].crm_record_id
        deliver(vendor, contact(vendor, 2))
        for version in (2, 3):  # once more: there is nothing left to do
            removal = contact(vendor, operation=operation, version=version, crm_record_id=record_id)
            verdict = deliver(vendor, removal)[1]
            if operation in vendor.client().traits.operations:
                assert verdict.verdict is Verdict.DELIVERED
                assert vendor.held().keys() == {UUID(int=2)}
            else:
                assert (verdict.verdict, verdict.code) == (Verdict.INVALID, "OPERATION_NOT_SUPPORTED")
                assert verdict.explanation
                assert vendor.held().keys() == {UUID(int=1), UUID(int=2)}

    def test_a_vendor_that_tells_whether_it_created_a_record_tells_the_truth(self, vendor: Vendor) -> None:
        first = deliver(vendor, contact(vendor))[1]
        second = deliver(vendor, contact(vendor, version=2, first_name="Augusta"), contact(vendor, 2))
        assert first.created is not False
        assert second[1].created is not True
        assert second[2].created is first.created

    def test_an_archived_contact_that_is_wanted_again_is_there_again(self, vendor: Vendor) -> None:
        record_id = deliver(vendor, contact(vendor))[1].crm_record_id
        deliver(vendor, contact(vendor, operation=Operation.ARCHIVE, version=2, crm_record_id=record_id))
        again = deliver(vendor, contact(vendor, version=3, crm_record_id=record_id, first_name="Augusta"))[1]
        assert again.verdict is Verdict.DELIVERED
        held = vendor.held()[UUID(int=1)]
        assert (held.crm_record_id, held.properties[vendor.names["first_name"]]) == (again.crm_record_id, "Augusta")

    def test_what_never_was_there_is_archived_in_peace(self, vendor: Vendor) -> None:
        assert classes(deliver(vendor, contact(vendor, operation=Operation.ARCHIVE))) == {Verdict.DELIVERED}


class DifferenceContract:
    """Vendors that keep what an upsert does not name."""

    def test_what_a_difference_does_not_name_stays(self, vendor: Vendor) -> None:
        assert vendor.client().traits.partial_updates
        deliver(vendor, contact(vendor, company="Analytical Engines"))
        assert classes(deliver(vendor, change(vendor, first_name="Augusta"))) == {Verdict.DELIVERED}
        held = vendor.held()[UUID(int=1)].properties
        assert held[vendor.names["first_name"]] == "Augusta"
        assert held[vendor.names["company"]] == "Analytical Engines"


class WithdrawalContract:
    """Vendors whose upsert makes a record where there is none, which a withdrawal of consent must not."""

    def test_a_withdrawal_changes_what_is_there_and_makes_nothing(self, vendor: Vendor) -> None:
        record_id = deliver(vendor, contact(vendor, company="Analytical Engines"))[1].crm_record_id
        before = vendor.held()[UUID(int=1)].properties
        properties = {vendor.names["company"]: "withdrawn"}
        told = CrmRecord(
            1,
            "acme",
            UUID(int=1),
            2,
            Operation.UPSERT,
            record_id,
            properties=properties,
            complete=False,
            withdrawal=True,
        )
        nowhere = replace(told, outbox_id=2, contact_id=UUID(int=2), crm_record_id=None)
        verdicts = deliver(vendor, told, nowhere, contact(vendor, 3))
        assert classes(verdicts) == {Verdict.DELIVERED}
        assert (verdicts[1].code, verdicts[2].code) == (None, NOT_THERE)
        assert vendor.held().keys() == {UUID(int=1), UUID(int=3)}
        assert vendor.held()[UUID(int=1)].properties == {**before, **properties}

    def test_a_withdrawal_is_told_to_the_record_that_is_to_change_hands_and_to_the_contact_s_own(
        self, vendor: Vendor
    ) -> None:
        ids = [deliver(vendor, contact(vendor, number, company="Analytical Engines"))[number].crm_record_id
               for number in (1, 2)]  # fmt: skip
        properties = {vendor.names["company"]: "withdrawn"}
        told = CrmRecord(
            1, "acme", UUID(int=1), 2, Operation.UPSERT, ids[0], ids[1], properties=properties, complete=False,
            withdrawal=True,
        )  # fmt: skip
        gone = replace(told, outbox_id=3, contact_id=UUID(int=3), crm_record_id=None, claims_record=ids[0])
        assert classes(deliver(vendor, told, gone)) == {Verdict.DELIVERED}
        held = vendor.held()
        assert {key: item.crm_record_id for key, item in held.items()} == {UUID(int=1): ids[0], UUID(int=2): ids[1]}
        assert {item.properties[vendor.names["company"]] for item in held.values()} == {"withdrawn"}


class WholeContract:
    """Vendors that take a record whole only; a withdrawal of consent is told alone, and makes no record."""

    def test_a_withdrawal_alone_changes_nothing_else(self, vendor: Vendor) -> None:
        traits = vendor.client().traits
        assert (traits.partial_updates, traits.withdrawals) == (False, True)
        deliver(vendor, contact(vendor, company="Analytical Engines"))
        assert classes(deliver(vendor, change(vendor, first_name="Augusta"))) == {Verdict.DELIVERED}
        held = vendor.held()[UUID(int=1)].properties
        assert held[vendor.names["first_name"]] == "Augusta"
        assert held[vendor.names["company"]] == "Analytical Engines"

    def test_a_withdrawal_of_somebody_whom_the_vendor_does_not_have_makes_no_record(self, vendor: Vendor) -> None:
        deliver(vendor, contact(vendor))
        withdrawal = change(vendor, first_name="Augusta")
        deliver(vendor, contact(vendor, operation=Operation.ERASE, version=2))
        assert classes(deliver(vendor, replace(withdrawal, version=3))) == {Verdict.DELIVERED}
        assert vendor.held() == {}


class RecordContract(LifeContract, DifferenceContract, WithdrawalContract):
    """A record of a CRM that takes differences."""


class FullBatchContract:
    """A batch, and a verdict of its own for each record of it."""

    def test_a_full_batch_is_one_request_and_each_verdict_bears_its_own_record(self, vendor: Vendor) -> None:
        sending = Sending(vendor.client())
        records = [contact(vendor, number) for number in range(1, sending.client.traits.max_batch + 1)]
        verdicts = deliver(vendor, *records, sending=sending)
        assert [request.records for request in sending.asked] == [len(records)]
        held = vendor.held()
        assert {item.contact_id for item in records} == held.keys()
        assert {item.outbox_id: held[item.contact_id].crm_record_id for item in records} == {
            number: verdict.crm_record_id for number, verdict in verdicts.items()
        }


class BadRecordContract:
    """Vendors that judge what a record holds."""

    def test_one_bad_record_among_many_is_refused_alone(self, vendor: Vendor) -> None:
        records = [contact(vendor, number) for number in range(1, vendor.client().traits.max_batch)]
        verdicts = deliver(vendor, *records, contact(vendor, 5000, email="not-an-address"))
        assert verdicts.pop(5000).verdict is Verdict.INVALID
        assert classes(verdicts) == {Verdict.DELIVERED}
        assert vendor.held().keys() == {record.contact_id for record in records}


class BisectionContract:
    """Vendors that may refuse a request as a whole."""

    @pytest.mark.parametrize("bad", [1, 7, 8])
    def test_of_a_batch_that_is_refused_whole_only_what_is_at_fault_is_refused(self, vendor: Vendor, bad: int) -> None:
        records = [contact(vendor, number) for number in range(1, 9)]
        vendor.fail({"kind": FaultKind.REFUSED_400, "match": f"person{bad}@"})
        sending = Sending(vendor.client())
        verdicts = deliver(vendor, *records, sending=sending)
        assert verdicts.pop(bad).verdict is Verdict.INVALID
        assert classes(verdicts) == {Verdict.DELIVERED}
        assert vendor.count() == 7
        assert [request.records for request in sending.asked].count(1) == 2  # the last half and its neighbour


class ReportContract:
    """Vendors that answer with an entry for each record."""

    def test_what_the_answer_does_not_speak_of_is_ambiguous_and_repeated_without_harm(self, vendor: Vendor) -> None:
        records = [contact(vendor, number) for number in (1, 2, 3)]
        vendor.fail({"kind": FaultKind.UNREPORTED, "match": "person2@"})
        verdicts = deliver(vendor, *records)
        assert [verdicts[number].verdict for number in (1, 2, 3)] == [
            Verdict.DELIVERED, Verdict.AMBIGUOUS, Verdict.DELIVERED,
        ]  # fmt: skip
        vendor.fail()
        assert classes(deliver(vendor, records[1])) == {Verdict.DELIVERED}
        assert vendor.count() == 3


class FieldsContract:
    """Vendors that have some fields and no others."""

    def test_a_property_that_the_vendor_does_not_have_is_not_left_out_in_silence(self, vendor: Vendor) -> None:
        record = contact(vendor)
        record = replace(record, properties={**record.properties, "no_such_property": "x"})
        [verdict] = deliver(vendor, record).values()
        assert verdict.verdict in (Verdict.AUTH, Verdict.INVALID)
        assert verdict.code is not None
        assert verdict.refused_properties == ("no_such_property",)
        assert vendor.count() == 0


class BatchContract(FullBatchContract, BadRecordContract, BisectionContract, ReportContract, FieldsContract):
    """A batch of a CRM."""


class OpenSchemaContract:
    """Vendors that take whatever is mapped."""

    def test_any_property_is_taken_as_it_is(self, vendor: Vendor) -> None:
        sending = Sending(vendor.client())
        schema = sending.client.describe(courier=sending)
        assert (schema.is_open, dict(schema.fields)) == (True, {})
        assert {request.purpose for request in sending.asked} <= {"describe"}
        record = contact(vendor)
        record = replace(record, properties={**record.properties, "no_such_property": 3.5})
        assert classes(deliver(vendor, record)) == {Verdict.DELIVERED}
        assert vendor.held().keys() == {UUID(int=1)}


class SchemaContract:
    """Vendors that tell which fields they have."""

    def test_the_fields_that_we_send_are_among_those_that_the_vendor_tells(self, vendor: Vendor) -> None:
        sending = Sending(vendor.client())
        fields = sending.client.describe(courier=sending).fields
        assert {fields[name].type for name in vendor.names.values()} == {FieldType.TEXT}
        assert not any(fields[name].read_only for name in vendor.names.values())
        assert fields[vendor.key].unique
        assert any(field.read_only for field in fields.values())
        assert any(field.type is FieldType.CHOICE and field.options for field in fields.values())
        assert {request.purpose for request in sending.asked} == {"describe"}

    @pytest.mark.parametrize("kind", [FaultKind.FORBIDDEN_403, FaultKind.HTTP_503, FaultKind.RESET_CONNECTION])
    def test_a_vendor_that_does_not_tell_its_fields_is_no_vendor_without_fields(
        self, vendor: Vendor, kind: FaultKind
    ) -> None:
        vendor.fail({"kind": kind})
        client = vendor.client()
        with pytest.raises(CrmError, match="did not tell"):
            client.describe(courier=Sending(client))


class ConflictContract:
    """Vendors that let one record only hold an address."""

    def test_an_address_that_another_contact_of_ours_holds_is_a_conflict_that_names_the_holder(
        self, vendor: Vendor
    ) -> None:
        holder = deliver(vendor, contact(vendor, email="ada@example.com"))[1]
        verdicts = deliver(vendor, contact(vendor, 2, email="ada@example.com"), contact(vendor, 3))
        assert (verdicts[2].verdict, verdicts[3].verdict) == (Verdict.CONFLICT, Verdict.DELIVERED)
        assert verdicts[2].holder_id == holder.crm_record_id
        assert vendor.held().keys() == {UUID(int=1), UUID(int=3)}

    def test_a_record_that_people_made_is_taken_over_and_known_as_theirs(self, vendor: Vendor) -> None:
        record_id = vendor.made_by_people(email="ada@example.com", company="Analytical Engines")
        [verdict] = deliver(vendor, contact(vendor, email="ada@example.com")).values()
        assert (verdict.verdict, verdict.crm_record_id) == (Verdict.DELIVERED, record_id)
        assert verdict.linked
        assert vendor.held()[UUID(int=1)].properties[vendor.names["company"]] == "Analytical Engines"
        assert vendor.count() == 1
        [again] = deliver(vendor, contact(vendor, 2)).values()
        assert not again.linked


class MergeContract:
    """Vendors whose records can be given to another contact of ours, after contacts were merged."""

    # Whether it has a call that takes away for good what was archived.
    PURGES = True

    def test_a_contact_takes_over_the_record_of_one_that_was_merged_into_it(self, vendor: Vendor) -> None:
        theirs = deliver(vendor, contact(vendor, company="Analytical Engines"))[1].crm_record_id
        verdict = deliver(vendor, contact(vendor, 2, claims_record=theirs, first_name="Augusta"))[2]
        assert (verdict.verdict, verdict.crm_record_id) == (Verdict.DELIVERED, theirs)
        [(contact_id, held)] = vendor.held().items()
        assert (contact_id, held.crm_record_id) == (UUID(int=2), theirs)
        assert held.properties[vendor.names["first_name"]] == "Augusta"
        assert held.properties[vendor.names["company"]] == "Analytical Engines"
        assert vendor.count() == 1

    def test_the_record_that_we_made_for_it_before_gives_way(self, vendor: Vendor) -> None:
        delivered = deliver(vendor, contact(vendor), contact(vendor, 2), contact(vendor, 3))
        theirs, own = delivered[1].crm_record_id, delivered[2].crm_record_id
        claim = contact(vendor, 2, version=2, crm_record_id=own, claims_record=theirs, taken_over=False)
        for _ in range(2):  # again, as after a kill before the answer was read
            verdict = deliver(vendor, claim)[2]
            assert (verdict.verdict, verdict.crm_record_id) == (Verdict.DELIVERED, theirs)
            held = vendor.held()
            assert (held.keys(), held[UUID(int=2)].crm_record_id) == ({UUID(int=2), UUID(int=3)}, theirs)

    def test_a_record_that_is_gone_by_then_is_no_hindrance(self, vendor: Vendor) -> None:
        theirs = deliver(vendor, contact(vendor))[1].crm_record_id
        deliver(vendor, contact(vendor, operation=Operation.ARCHIVE, version=2, crm_record_id=theirs))
        verdicts = deliver(vendor, contact(vendor, 2, claims_record=theirs), contact(vendor, 3))
        assert classes(verdicts) == {Verdict.DELIVERED}
        assert vendor.held().keys() == {UUID(int=2), UUID(int=3)}

    def test_an_erasure_reaches_every_record_that_the_contact_had(self, vendor: Vendor) -> None:
        """One that was taken over, our own that gave way to it, and one that was let go; no other contact's."""
        delivered = deliver(vendor, contact(vendor), contact(vendor, 2), contact(vendor, 3))
        theirs, own = delivered[1].crm_record_id, delivered[2].crm_record_id
        claim = contact(vendor, 2, version=2, crm_record_id=own, claims_record=theirs, taken_over=False)
        assert deliver(vendor, claim)[2].crm_record_id == theirs
        let_go = vendor.made_by_people(email="ada@example.com", company="Analytical Engines")
        others = delivered[3].crm_record_id
        assert own
        assert others
        erased = contact(vendor, 2, operation=Operation.ERASE, version=3, crm_record_id=theirs)
        erased = replace(erased, former_records=(own, let_go, others))
        never_there = contact(vendor, 4, operation=Operation.ERASE, version=3)
        for _ in range(2):  # what is gone is gone
            assert classes(deliver(vendor, erased, never_there)) == {Verdict.DELIVERED}
            assert (vendor.held().keys(), vendor.count()) == ({UUID(int=3)}, 1)
            assert vendor.archived() == (set() if self.PURGES else {own, let_go, theirs})

    def test_an_erasure_of_several_records_that_is_interrupted_is_finished_by_the_same_again(
        self, vendor: Vendor
    ) -> None:
        kept = [vendor.made_by_people(email=f"ada{number}@example.com") for number in range(3)]
        erased = contact(vendor, operation=Operation.ERASE, version=2, crm_record_id=kept[0])
        erased = replace(erased, former_records=tuple(kept[1:]))
        for place in range(8):
            vendor.fail(*at_request(place, FaultKind.HTTP_503))
            if deliver(vendor, erased)[1].verdict is Verdict.DELIVERED:
                assert (place > 0, vendor.count()) == (True, 0)
        vendor.fail()
        assert classes(deliver(vendor, erased)) == {Verdict.DELIVERED}
        assert vendor.count() == 0

    @pytest.mark.parametrize("taken_over", [True, None])
    def test_of_two_records_that_people_made_none_is_touched(self, vendor: Vendor, taken_over: bool | None) -> None:
        delivered = deliver(vendor, contact(vendor), contact(vendor, 2))
        before = vendor.held()
        verdict = deliver(
            vendor,
            contact(
                vendor, 2, version=2, crm_record_id=delivered[2].crm_record_id,
                claims_record=delivered[1].crm_record_id, taken_over=taken_over, first_name="Augusta",
            ),
        )[2]  # fmt: skip
        assert (verdict.verdict, verdict.holder_id) == (Verdict.CONFLICT, delivered[1].crm_record_id)
        assert verdict.explanation
        assert vendor.held() == before

    def test_a_record_that_people_made_is_let_go_and_not_archived(self, vendor: Vendor) -> None:
        record_id = vendor.made_by_people(email="ada@example.com", company="Analytical Engines")
        assert deliver(vendor, contact(vendor, email="ada@example.com"), contact(vendor, 2))[1].linked
        removal = contact(vendor, operation=Operation.ARCHIVE, version=2, crm_record_id=record_id, taken_over=True)
        for _ in range(2):
            assert classes(deliver(vendor, removal)) == {Verdict.DELIVERED}
            assert (vendor.held().keys(), vendor.count()) == ({UUID(int=2)}, 2)

    @pytest.mark.parametrize("kind", [FaultKind.HTTP_503, FaultKind.SILENT_200, FaultKind.WRITTEN_THEN_RESET])
    @pytest.mark.parametrize("place", range(5))
    def test_a_take_over_that_is_interrupted_anywhere_is_finished_by_the_same_again(
        self, vendor: Vendor, kind: FaultKind, place: int
    ) -> None:
        delivered = deliver(vendor, contact(vendor), contact(vendor, 2))
        theirs, own = delivered[1].crm_record_id, delivered[2].crm_record_id
        claim = contact(vendor, 2, version=2, crm_record_id=own, claims_record=theirs, taken_over=False)
        vendor.fail(*at_request(place, kind))
        interrupted = deliver(vendor, claim)[2]
        held = vendor.held()
        if interrupted.verdict is Verdict.DELIVERED:
            assert held[UUID(int=2)].crm_record_id == theirs
        vendor.fail()
        assert deliver(vendor, claim)[2].crm_record_id == theirs
        held = vendor.held()
        assert (held.keys(), held[UUID(int=2)].crm_record_id, vendor.count()) == ({UUID(int=2)}, theirs, 1)


class TroubleContract:
    """What networks and servers do to a request."""

    # How many records go in the request that has the trouble.
    TOGETHER = 3
    # The kind, the class that it comes to, and whether the vendor had written.
    TROUBLES: Sequence[tuple[FaultKind, Verdict, bool]] = (
        (FaultKind.HTTP_500, Verdict.AMBIGUOUS, False),
        (FaultKind.HTTP_503, Verdict.TRANSIENT, False),
        (FaultKind.SILENT_200, Verdict.AMBIGUOUS, False),
        (FaultKind.RESET_CONNECTION, Verdict.AMBIGUOUS, False),
        (FaultKind.TIMEOUT, Verdict.AMBIGUOUS, False),
        (FaultKind.WRITTEN_THEN_500, Verdict.AMBIGUOUS, True),
        (FaultKind.WRITTEN_THEN_RESET, Verdict.AMBIGUOUS, True),
        (FaultKind.WRITTEN_THEN_TIMEOUT, Verdict.AMBIGUOUS, True),
    )
    # Of a removal, at any of its requests.
    INTERRUPTIONS: Sequence[FaultKind] = (FaultKind.HTTP_503, FaultKind.SILENT_200, FaultKind.WRITTEN_THEN_RESET)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A vendor has its own troubles."""
        if "written" in metafunc.fixturenames:
            metafunc.parametrize(("kind", "verdict", "written"), self.TROUBLES)
        elif "interruption" in metafunc.fixturenames:
            metafunc.parametrize("interruption", self.INTERRUPTIONS)

    def test_after_any_trouble_the_same_again_gives_each_record_once(
        self, vendor: Vendor, kind: FaultKind, verdict: Verdict, written: bool
    ) -> None:
        records = [contact(vendor, number) for number in range(1, self.TOGETHER + 1)]
        vendor.fail({"kind": kind, "count": 1})
        seconds = 0.5 if kind in _LASTING else 30  # a short time-out hits what is only slow as well
        assert classes(deliver(vendor, *records, timeout_seconds=seconds)) == {verdict}
        assert vendor.count() == (self.TOGETHER if written else 0)
        assert classes(deliver(vendor, *records)) == {Verdict.DELIVERED}
        assert vendor.count() == self.TOGETHER

    @pytest.mark.parametrize("operation", [Operation.ARCHIVE, Operation.ERASE])
    @pytest.mark.parametrize("place", range(4))
    def test_nothing_is_taken_for_removed_while_it_is_there(
        self, vendor: Vendor, operation: Operation, interruption: FaultKind, place: int
    ) -> None:
        record_id = deliver(vendor, contact(vendor))[1].crm_record_id
        removal = contact(vendor, operation=operation, version=2, crm_record_id=record_id)
        vendor.fail(*at_request(place, interruption))
        if operation not in vendor.client().traits.operations:
            assert deliver(vendor, removal)[1].code == "OPERATION_NOT_SUPPORTED"
            assert vendor.held().keys() == {UUID(int=1)}
            return
        if deliver(vendor, removal)[1].verdict is Verdict.DELIVERED:
            assert vendor.held() == {}
        vendor.fail()
        assert deliver(vendor, removal)[1].verdict is Verdict.DELIVERED
        assert vendor.held() == {}


class ReachContract:
    """Vendors that are somewhere else."""

    def test_a_vendor_that_cannot_be_reached_has_written_nothing(self, vendor: Vendor) -> None:
        assert classes(deliver(vendor, contact(vendor), base_url="http://127.0.0.1:9")) == {Verdict.TRANSIENT}


class CredentialsContract:
    """Vendors that want to know who asks."""

    @pytest.mark.parametrize("kind", [FaultKind.AUTH, FaultKind.FORBIDDEN_403])
    def test_refused_credentials_are_nobodys_fault_and_stop_the_batch(self, vendor: Vendor, kind: FaultKind) -> None:
        sending = Sending(vendor.client())
        vendor.fail({"kind": kind})
        verdicts = deliver(vendor, contact(vendor, 1), contact(vendor, 2), sending=sending)
        assert classes(verdicts) == {Verdict.AUTH}
        assert len(sending.asked) == 1 + sending.answered[0].credentials_renewed


class TokenContract:
    """Vendors that want an access token, which is given for a secret in the environment: ``vendor.secret``."""

    def test_a_secret_for_which_no_token_is_given_is_nobodys_fault_and_says_what_to_do(
        self, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(vendor.secret, "of-yesterday")  # type: ignore[attr-defined]  # vendors of this contract have it
        sending = Sending(vendor.client())
        verdicts = deliver(vendor, contact(vendor, 1), contact(vendor, 2), sending=sending)
        assert classes(verdicts) == {Verdict.AUTH}
        assert all(item.code and item.explanation for item in verdicts.values())
        assert len(sending.asked) == 1
        with pytest.raises(CrmError, match="gave no access token"):
            sending.client.describe(courier=sending)
        assert vendor.count() == 0


class LockContract:
    """Vendors where somebody else may work on a record."""

    def test_a_lock_of_somebody_else_is_known_as_one(self, vendor: Vendor) -> None:
        vendor.fail({"kind": FaultKind.LOCKED_423, "count": 1})
        assert classes(deliver(vendor, contact(vendor))) == {Verdict.LOCKED}


class SilenceContract:
    """What must not be told."""

    def test_no_value_shows_in_a_representation_or_in_the_log(
        self, vendor: Vendor, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        sending = Sending(vendor.client())
        records = [
            contact(vendor, 1, email="ada@example.com", first_name="Augusta"),
            contact(vendor, 2, email="not-an-address"),
            contact(vendor, 3, operation=Operation.ARCHIVE),
        ]
        shown = [deliver(vendor, *records[:2], sending=sending), deliver(vendor, records[2], sending=sending)]
        text = repr([records, sending.client, sending.asked, sending.answered, shown]) + caplog.text
        for value in ("ada@example.com", "Augusta", "not-an-address"):
            assert value not in text


class HttpContract(TroubleContract, ReachContract, CredentialsContract, LockContract, SilenceContract):
    """What befalls the requests of a CRM, over HTTP."""


class LimitContract:
    """Vendors that ask for a pause."""

    def test_a_pause_that_is_asked_for_is_told_and_nothing_is_written(self, vendor: Vendor) -> None:
        sending = Sending(vendor.client())
        vendor.fail({"kind": FaultKind.HTTP_429, "count": 1})
        assert classes(deliver(vendor, contact(vendor), sending=sending)) == {Verdict.THROTTLED}
        [response] = sending.answered
        assert (response.throttled, response.until_reset) == (True, False)
        assert (response.pause_seconds or 0) > 0
        assert vendor.count() == 0


class QuotaContract(LimitContract):
    """Vendors with limits that they tell of."""

    @pytest.mark.parametrize(("kind", "until_reset"), [(FaultKind.HTTP_429, False), (FaultKind.QUOTA_SPENT, True)])
    def test_a_limit_that_is_reached_is_told_as_such_and_says_how_long_to_wait(
        self, vendor: Vendor, kind: FaultKind, until_reset: bool
    ) -> None:
        sending = Sending(vendor.client())
        vendor.fail({"kind": kind, "count": 1})
        verdicts = deliver(vendor, contact(vendor, 1), contact(vendor, 2), sending=sending)
        assert classes(verdicts) == {Verdict.THROTTLED}
        [response] = sending.answered
        assert (response.throttled, response.until_reset) == (True, until_reset)
        assert until_reset or (response.pause_seconds or 0) > 0
        assert vendor.count() == 0

    def test_each_answer_tells_what_is_left_until_the_limit_itself_refuses(self, vendor: Vendor) -> None:
        vendor.limited(3)
        sending = Sending(vendor.client())
        verdicts = [deliver(vendor, contact(vendor, number), sending=sending)[number] for number in (1, 2, 3, 4)]
        assert [item.verdict for item in verdicts] == [Verdict.DELIVERED] * 3 + [Verdict.THROTTLED]
        assert vendor.held().keys() == {UUID(int=number) for number in (1, 2, 3)}
        told = [[item.remaining for item in response.readings if item.seconds] for response in sending.answered]
        assert told == [[2], [1], [0], [0]]
        assert all(item.limit == 3 for response in sending.answered for item in response.readings if item.seconds)
        refused = sending.answered[-1]
        assert (refused.throttled, refused.until_reset) == (True, False)
        assert (refused.pause_seconds or 0) > 0
