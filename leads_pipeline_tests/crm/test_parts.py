"""Sending in parts, whatever the vendor: what is refused whole is halved, what is parked is not lost."""

from collections.abc import Callable, Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.config import DestinationSettings, json_schema
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.parts import NOT_SENT, Refusal, in_parts, unsupported
from leads_pipeline.crm.port import CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Unit, Verdict
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import AccountParked
from leads_pipeline_tests.conftest import NOW


def _records(count: int) -> list[CrmRecord]:
    return [CrmRecord(number, "acme", UUID(int=number), 1, Operation.UPSERT) for number in range(count)]


def _request(part: Sequence[CrmRecord]) -> CrmRequest:
    ids = ",".join(str(record.outbox_id) for record in part)
    return CrmRequest("upsert", "POST", f"/{ids}", records=len(part))


def _ids(request: CrmRequest) -> set[int]:
    return {int(item) for item in request.path.removeprefix("/").split(",")}


def _read(part: Sequence[CrmRecord], _response: CrmResponse) -> list[RecordVerdict]:
    return [RecordVerdict(record.outbox_id, Verdict.DELIVERED) for record in part]


def _refusal(response: CrmResponse) -> Refusal | None:
    match response.status:
        case 400:
            return Refusal(Verdict.INVALID, "BAD", divisible=True)
        case 401:
            return Refusal(Verdict.AUTH, "TOKEN")
        case 503:
            return Refusal(Verdict.TRANSIENT, "DOWN")
    return None


def _send(records: Sequence[CrmRecord], courier: Callable[[CrmRequest], CrmResponse]) -> dict[int, RecordVerdict]:
    verdicts = in_parts(records, courier=courier, build=_request, read=_read, refusal_of=_refusal)
    assert sorted(verdict.outbox_id for verdict in verdicts) == [record.outbox_id for record in records]
    return {verdict.outbox_id: verdict for verdict in verdicts}


@given(count=st.integers(1, 100), data=st.data())
def test_whatever_is_poisoned_only_that_is_refused_in_few_requests(count: int, data: st.DataObject) -> None:
    poisoned = data.draw(st.sets(st.integers(0, count - 1), max_size=5))
    asked: list[CrmRequest] = []

    def courier(request: CrmRequest) -> CrmResponse:
        asked.append(request)
        return CrmResponse(status=400 if _ids(request) & poisoned else 200)

    verdicts = _send(_records(count), courier)
    assert {number for number, found in verdicts.items() if found.verdict is Verdict.INVALID} == poisoned
    assert len(asked) <= 1 + 2 * len(poisoned) * max(1, (count - 1).bit_length())


def test_a_part_that_is_down_is_not_halved_and_the_others_go_on() -> None:
    def courier(request: CrmRequest) -> CrmResponse:
        ids = _ids(request)
        return CrmResponse(status=400 if len(ids) == 8 else 503 if 0 in ids else 200)

    verdicts = _send(_records(8), courier)
    assert [str(verdicts[number].verdict) for number in range(8)] == ["transient"] * 4 + ["delivered"] * 4


def test_credentials_that_were_renewed_are_tried_once_and_no_more() -> None:
    statuses = [401, 200]

    def passes(_request: CrmRequest) -> CrmResponse:
        status = statuses.pop(0)
        return CrmResponse(status=status, credentials_renewed=status == 401)

    assert {item.verdict for item in _send(_records(3), passes).values()} == {Verdict.DELIVERED}
    asked: list[CrmRequest] = []

    def never_passes(request: CrmRequest) -> CrmResponse:
        asked.append(request)
        return CrmResponse(status=401, credentials_renewed=True)

    assert {item.verdict for item in _send(_records(3), never_passes).values()} == {Verdict.AUTH}
    assert len(asked) == 2


def test_what_a_parked_account_leaves_unsent_is_throttled() -> None:
    def courier(request: CrmRequest) -> CrmResponse:
        if len(_ids(request)) == 4:
            return CrmResponse(status=400)
        raise AccountParked("spent", until=NOW, reason="daily")

    verdicts = _send(_records(4), courier)
    assert {(item.verdict, item.code) for item in verdicts.values()} == {(Verdict.THROTTLED, NOT_SENT)}


def test_an_operation_that_the_vendor_does_not_have_is_explained() -> None:
    records = [CrmRecord(1, "acme", UUID(int=1), 1, Operation.ERASE)]
    [verdict] = unsupported(records, vendor="Elsewhere", advice="delete it there")
    assert (verdict.verdict, verdict.code) == (Verdict.INVALID, "OPERATION_NOT_SUPPORTED")
    assert verdict.explanation == "Elsewhere cannot erase a contact: delete it there"


def test_every_vendor_of_the_configuration_has_a_client() -> None:
    named = json_schema()["$defs"]
    vendors = {item["properties"]["vendor"]["const"] for name, item in named.items() if name in _settings_of_vendors()}
    assert vendors == BUILDERS.keys()


def _settings_of_vendors(kind: type[DestinationSettings] = DestinationSettings) -> set[str]:
    return {kind.__name__}.union(*map(_settings_of_vendors, kind.__subclasses__()))


def test_a_request_is_charged_its_records() -> None:
    assert CrmRequest("upsert", "POST", "/", records=40).cost == {Unit.REQUESTS: 1, Unit.RECORDS: 40}
    assert CrmRequest("describe", "GET", "/", records=0).cost == {Unit.REQUESTS: 1}
    priced = CrmRequest("upsert", "POST", "/", records=40, cost={Unit.REQUESTS: 1, Unit.CREDITS: 4})
    assert priced.cost == {Unit.REQUESTS: 1, Unit.RECORDS: 40, Unit.CREDITS: 4}
