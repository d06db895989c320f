"""Every answer that was recorded from Salesforce (``recorded/salesforce``) is read to the verdict that it deserves."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from leads_pipeline.crm.port import CrmRecord, CrmRequest, CrmResponse, JobState, JobStep, RecordVerdict, Verdict
from leads_pipeline.crm.salesforce import bulk
from leads_pipeline.crm.salesforce.answers import read_entry, read_results, refusal_of, response_of
from leads_pipeline.crm.salesforce.requests import SalesforceRequests
from leads_pipeline.domain.stage import Operation
from leads_pipeline.outbound.transport import HttpAnswer

RECORDED = Path(__file__).parent / "recorded" / "salesforce"
ROLLED_BACK = "ALL_OR_NONE_OPERATION_ROLLED_BACK"
REQUESTS = SalesforceRequests(api="/services/data/v60.0", object_type="Opportunity", key="external_id__c")
JOB = JobState(JobStep.CLOSED, "750ak000009BWKLAA4")


@dataclass(frozen=True)
class Reading:
    """The status of an answer, and the verdict and code of each record."""

    status: int
    verdicts: tuple[tuple[Verdict, str | None], ...]
    refused_properties: tuple[str, ...] = ()


READINGS: Mapping[str, Reading] = {
    "batch-create-success": Reading(200, ((Verdict.DELIVERED, None),) * 2),
    "batch-create-err-bad-request": Reading(400, ((Verdict.INVALID, "REQUIRED_FIELD_MISSING"),) * 2),
    "batch-create-partial-but-allOrNone": Reading(
        200, ((Verdict.INVALID, "REQUIRED_FIELD_MISSING"), (Verdict.TRANSIENT, ROLLED_BACK)), ("LastName",)
    ),
    "batch-update-success": Reading(200, ((Verdict.DELIVERED, None),) * 2),
    "batch-update-err-each-no-ids": Reading(200, ((Verdict.INVALID, "MISSING_ARGUMENT"),) * 2),
    # The mapping names a field that the org does not have: no record is at fault.
    "batch-update-partial-but-allOrNone": Reading(
        200, ((Verdict.TRANSIENT, ROLLED_BACK), (Verdict.AUTH, "INVALID_FIELD")), ("unknownField_LastName",)
    ),
    "unknown-field": Reading(400, ((Verdict.AUTH, "INVALID_FIELD"),) * 2, ("AccountNumer",)),
    "invalid-field-upsert": Reading(400, ((Verdict.AUTH, "INVALID_FIELD_FOR_INSERT_UPDATE"),) * 2, ("MasterRecordId",)),
    "delete-not-found": Reading(404, ((Verdict.INVALID, "ENTITY_IS_DELETED"),) * 2),
}
ONE: Mapping[str, tuple[Verdict, str | None]] = {
    "create-ok": (Verdict.DELIVERED, None),
    "success-with-errors": (Verdict.INVALID, "MALFORMED_ID"),
}
# The step that follows each, or the verdict of the job's record.
JOBS: Mapping[str, tuple[JobState, JobState | Verdict]] = {
    "bulk-created": (JobState(), JobState(JobStep.CREATED, "750ak000009BWKLAA4")),
    "bulk-closed": (
        JobState(JobStep.UPLOADED, "750ak000009BWKLAA4", fresh=True),
        JobState(JobStep.CLOSED, "750ak000009BWKLAA4"),
    ),
    "bulk-in-progress": (JOB, JOB),
    "bulk-success": (JOB, Verdict.AMBIGUOUS),  # its results are not recorded: nothing is known of the record
    "bulk-partial-failure": (JOB, Verdict.INVALID),
    "bulk-complete-failure": (JOB, Verdict.AUTH),
}


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def records(count: int) -> list[CrmRecord]:
    return [CrmRecord(number, "acme", UUID(int=number), 1, Operation.UPSERT) for number in range(1, count + 1)]


def test_every_recorded_answer_is_read_here() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} == READINGS.keys() | ONE.keys() | JOBS.keys()


@pytest.mark.parametrize("name", sorted(READINGS))
def test_a_recorded_answer_comes_to_its_verdicts(name: str) -> None:
    reading = READINGS[name]
    response = response_of(HttpAnswer(reading.status, {}, recorded(name)))
    refusal = refusal_of(response)
    part = records(2)
    verdicts = read_results(part, response) if refusal is None else [refusal.of(record) for record in part]

    assert [(item.verdict, item.code) for item in verdicts] == list(reading.verdicts)
    assert {name for item in verdicts for name in item.refused_properties} == {*reading.refused_properties}
    ids = [entry.get("id") for entry in recorded(name)] if refusal is None else [None, None]
    assert [item.crm_record_id for item in verdicts] == [
        crm_record_id if item.verdict is Verdict.DELIVERED else None
        for item, crm_record_id in zip(verdicts, ids, strict=True)
    ]


@pytest.mark.parametrize("name", sorted(ONE))
def test_a_recorded_answer_about_one_record_comes_to_its_verdict(name: str) -> None:
    verdict = read_entry(records(1)[0], recorded(name))
    assert (verdict.verdict, verdict.code) == ONE[name]


@pytest.mark.parametrize("name", sorted(JOBS))
def test_a_recorded_answer_about_a_job_comes_to_its_next_step_or_verdict(name: str) -> None:
    state, expected = JOBS[name]
    # The key of the row that was recorded; a contact's would be a UUID.
    key = cast("UUID", "external-id-3")
    record = CrmRecord(1, "acme", key, 1, Operation.UPSERT, properties={"Name": "Noemi Miller"})
    outcome = bulk.advance(state, [record], courier=_answering(name), requests=REQUESTS, overdue=False)

    if isinstance(expected, JobState):
        assert outcome == expected
        return
    assert isinstance(outcome, list)
    [verdict] = outcome
    assert verdict.verdict is expected
    if name == "bulk-partial-failure":
        assert (verdict.code, verdict.refused_properties) == ("INVALID_FIELD", ("CloseDate",))
    if name == "bulk-complete-failure":
        assert verdict.refused_properties == ("StageName_invalid_field_on_purpose",)


def _answering(name: str) -> Callable[[CrmRequest], CrmResponse]:
    """A courier for which Salesforce answers as recorded; of results that were not recorded there are none."""

    def courier(request: CrmRequest) -> CrmResponse:
        last = request.path.rpartition("/")[2]
        if last not in ("successfulResults", "failedResults", "unprocessedrecords"):
            return response_of(HttpAnswer(200, {}, recorded(name)))
        text = f'"sf__Id","{REQUESTS.key}"\n'
        if last == "failedResults" and name == "bulk-partial-failure":
            text = (RECORDED / "bulk-partial-failure.csv").read_text()
        if last == "unprocessedrecords" and name == "bulk-complete-failure":
            text = f'"{REQUESTS.key}"\n"external-id-3"\n'
        return response_of(HttpAnswer(200, {}, None, text=text))

    return courier


def _verdict_of(errors: list[dict[str, Any]]) -> RecordVerdict:
    response = response_of(HttpAnswer(200, {}, [{"success": False, "errors": errors}]))
    return read_results(records(1), response)[0]


@pytest.mark.parametrize(
    ("code", "message", "verdict"),
    [
        ("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record", Verdict.LOCKED),
        ("DUPLICATES_DETECTED", "Use one of these records?", Verdict.CONFLICT),
        ("DUPLICATE_VALUE", "duplicate value found: Key__c … record with id: 00Qak00000AbCdE", Verdict.CONFLICT),
        ("STRING_TOO_LONG", "Last Name: data value too large", Verdict.INVALID),
        ("FIELD_CUSTOM_VALIDATION_EXCEPTION", "no", Verdict.INVALID),
        ("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", Verdict.THROTTLED),
        ("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", Verdict.AUTH),
        ("SOMETHING_NEW", "what nobody has seen", Verdict.TRANSIENT),
        ("NOT_FOUND", "The requested resource does not exist", Verdict.INVALID),
        ("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "OnLead: execution of BeforeInsert", Verdict.INVALID),
        ("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "OnLead: UNABLE_TO_LOCK_ROW, try again", Verdict.LOCKED),
    ],
)
def test_a_status_code_of_one_record_is_of_its_class(code: str, message: str, verdict: Verdict) -> None:
    given = _verdict_of([{"statusCode": code, "message": message, "fields": []}])
    assert (given.verdict, given.code) == (verdict, code)
    assert given.holder_id == ("00Qak00000AbCdE" if code == "DUPLICATE_VALUE" else None)


@pytest.mark.parametrize(
    ("status", "code", "message", "throttled", "until_reset", "pauses"),
    [
        (403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", True, True, False),
        (403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded.", True, False, True),
        (403, "API_DISABLED_FOR_ORG", "The REST API is not enabled", False, False, False),
    ],
)
def test_a_403_is_a_limit_only_by_its_code(
    status: int, code: str, message: str, throttled: bool, until_reset: bool, pauses: bool
) -> None:
    response = response_of(HttpAnswer(status, {}, [{"errorCode": code, "message": message}]))
    refusal = refusal_of(response)
    assert (response.throttled, response.until_reset, response.pause_seconds is not None) == (
        throttled, until_reset, pauses,
    )  # fmt: skip
    assert refusal is not None
    assert refusal.verdict is (Verdict.THROTTLED if throttled else Verdict.AUTH)


@pytest.mark.parametrize(
    ("header", "left"),
    [
        ("api-usage=18/5000", (5000, 4982)),
        ("api-usage=5001/5000; per-app-api-usage=17/250(appName=sample-app)", (5000, 0)),
        ("per-app-api-usage=17/250(appName=sample-app)", None),
        ("", None),
    ],
)
def test_the_header_says_what_is_used_and_not_what_is_left(header: str, left: tuple[int, int] | None) -> None:
    response = response_of(HttpAnswer(200, {"sforce-limit-info": header}, []))
    told = [(item.limit, item.remaining, item.seconds) for item in response.readings]
    assert told == ([] if left is None else [(*left, 86_400)])


def test_an_answer_that_leaves_one_out_says_not_of_which_it_speaks() -> None:
    response = response_of(HttpAnswer(200, {}, [{"id": "00Qak0000000001EAA", "success": True, "errors": []}]))
    assert {item.verdict for item in read_results(records(2), response)} == {Verdict.AMBIGUOUS}


def test_a_trigger_that_fails_for_all_is_looked_for_in_parts() -> None:
    failed = {"success": False, "errors": [{"statusCode": "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "message": "OnLead"}]}
    good = {"success": True, "id": "00Qak0000000001EAA", "errors": []}
    refusal = refusal_of(response_of(HttpAnswer(200, {}, [failed] * 3)))
    assert refusal is not None
    assert (refusal.verdict, refusal.divisible) == (Verdict.INVALID, True)
    # Alone, or beside one that passed, it is the record's.
    assert refusal_of(response_of(HttpAnswer(200, {}, [failed]))) is None
    mixed = response_of(HttpAnswer(200, {}, [failed, good]))
    assert refusal_of(mixed) is None
    assert [item.verdict for item in read_results(records(2), mixed)] == [Verdict.INVALID, Verdict.DELIVERED]
