"""Many upserts as one job of Bulk API 2.0: made, handed a CSV, closed, asked how far it is, and read for each record.

Until a job is closed Salesforce changes nothing for it: one that may have been handed its records by a process that
died is aborted, and another one is made. What became of a record is read by our key, never by its place: Salesforce
gives values back as it understood them. Results are kept for seven days.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

from leads_pipeline.crm.parts import Refusal
from leads_pipeline.crm.port import (
    Courier,
    CrmRecord,
    CrmRequest,
    CrmResponse,
    JobState,
    JobStep,
    RecordVerdict,
    Verdict,
)
from leads_pipeline.crm.salesforce.answers import (
    REQUIRED_FIELD_MISSING,
    TRIGGER_FAILED,
    not_reported,
    refusal_of,
    refused,
    told_apart,
)
from leads_pipeline.crm.salesforce.requests import SalesforceRequests
from leads_pipeline.domain.delivery import PropertyValue

_NULL = "#N/A"  # clears a field; an empty cell leaves it as it is
_AT_WORK = frozenset({"UploadComplete", "InProgress"})
_OVER = frozenset({"JobComplete", "Failed", "Aborted"})
_CSV = "text/csv; charset=UTF-8"
_FIELD_NOT_FOUND = "Field name not found : "
# What an org has left of its day's batches; a job of up to 10,000 rows is one.
_BATCHES_LEFT = "DailyBulkApiBatches"
_NO_BATCHES_LEFT = "BULK_BATCHES_SPENT"


def advance(
    job: JobState,
    records: Sequence[CrmRecord],
    *,
    courier: Courier,
    requests: SalesforceRequests,
    overdue: bool,
) -> JobState | list[RecordVerdict]:
    """See ``JobClient.advance``."""
    bulk = _Bulk(records, courier, requests)
    match job.step:
        case JobStep.PLANNED:
            return bulk.create() if not overdue else bulk.given_up()
        case JobStep.CREATED:
            return bulk.upload(job) if job.fresh else bulk.begin_anew(job, overdue=overdue)
        case JobStep.UPLOADED:
            return bulk.close(job, overdue=overdue)
        case JobStep.CLOSED:
            return bulk.result(job, overdue=overdue)


class _Bulk:
    """The requests of one job."""

    def __init__(self, records: Sequence[CrmRecord], courier: Courier, requests: SalesforceRequests) -> None:
        self._records = records
        self._courier = courier
        self._requests = requests
        self._jobs = f"{requests.api}/jobs/ingest"

    def create(self) -> JobState | list[RecordVerdict]:
        limits = self._courier(self._requests.limits())
        if _nothing_left(limits):
            return self._each(Verdict.THROTTLED, _NO_BATCHES_LEFT)
        body = {
            "object": self._requests.object_type,
            "operation": "upsert",
            "externalIdFieldName": self._requests.key,
            "contentType": "CSV",
            "lineEnding": "LF",
        }
        response = self._ask("bulk_create", "POST", self._jobs, body=body)
        crm_job_id = response.body.get("id") if isinstance(response.body, dict) else None
        if response.status is not None and response.status < 300 and isinstance(crm_job_id, str):
            return JobState(JobStep.CREATED, crm_job_id, fresh=True)
        refusal = refusal_of(response)
        if refusal is None:
            return self._each(Verdict.TRANSIENT, "JOB_NOT_CREATED")
        return self._not_begun(refusal)  # a job that was made all the same stays empty

    def _not_begun(self, refusal: Refusal) -> list[RecordVerdict]:
        """Nothing was changed: a job that is refused is refused for the org's set-up, not for what is in it."""
        lost = refusal.verdict in (Verdict.TRANSIENT, Verdict.AMBIGUOUS)
        verdict = Verdict.TRANSIENT if lost else Verdict.AUTH
        verdict = Verdict.THROTTLED if refusal.verdict is Verdict.THROTTLED else verdict
        return [replace(refusal, verdict=verdict).of(record) for record in self._records]

    def upload(self, job: JobState) -> JobState | list[RecordVerdict]:
        response = self._courier(
            CrmRequest(
                purpose="bulk_upload",
                method="PUT",
                path=f"{self._jobs}/{job.crm_job_id}/batches",
                records=len(self._records),
                content=csv_of(self._records, self._requests),
                content_type=_CSV,
            ).about(self._records)
        )
        refusal = refusal_of(response)
        if refusal is None:
            return JobState(JobStep.UPLOADED, job.crm_job_id, fresh=True)
        if refusal.verdict is Verdict.AMBIGUOUS:
            self._change_state(job, "Aborted")  # it may have the records; open, it would keep them for seven days
        return self._not_begun(refusal)

    def begin_anew(self, job: JobState, *, overdue: bool) -> JobState | list[RecordVerdict]:
        """Nobody knows whether it has the records: they must not be in it twice."""
        response = self._change_state(job, "Aborted")
        gone = response.status is not None and (response.status < 300 or response.status in (400, 404))
        if not gone and overdue:
            return self.given_up()  # nobody closes it any more
        return JobState() if gone else job

    def close(self, job: JobState, *, overdue: bool) -> JobState | list[RecordVerdict]:
        if not job.fresh:
            response = self._ask("bulk_poll", "GET", f"{self._jobs}/{job.crm_job_id}")
            state = _text(response, "state")
            if response.status == 404:
                return JobState()  # somebody deleted it
            if state in _AT_WORK | _OVER:
                return JobState(JobStep.CLOSED, job.crm_job_id)
            if state != "Open":
                return job
        if overdue:
            self._change_state(job, "Aborted")
            return self.given_up()
        response = self._courier(self._state_change(job, "UploadComplete").about(self._records))
        if response.status == 404:
            return JobState()
        done = response.status is not None and response.status < 300
        return JobState(JobStep.CLOSED, job.crm_job_id) if done else replace(job, fresh=False)

    def result(self, job: JobState, *, overdue: bool) -> JobState | list[RecordVerdict]:
        response = self._ask("bulk_poll", "GET", f"{self._jobs}/{job.crm_job_id}")
        if response.status == 404:
            return not_reported(self._records)  # deleted there: what it did is not told any more
        state = _text(response, "state")
        if state not in _OVER:
            if overdue:
                self._change_state(job, "Aborted")
            return job
        parts = [self._rows(job, name) for name in ("successfulResults", "failedResults", "unprocessedrecords")]
        successful, failed, unprocessed = parts
        if successful is None or failed is None or unprocessed is None:
            return not_reported(self._records) if overdue else job
        error = _text(response, "errorMessage") if state == "Failed" else ""
        return told_apart([self._verdict(record, successful, failed, unprocessed, error) for record in self._records])

    def given_up(self) -> list[RecordVerdict]:
        return self._each(Verdict.TRANSIENT, "JOB_NOT_STARTED")

    def _verdict(
        self,
        record: CrmRecord,
        successful: Mapping[str, dict[str, str]],
        failed: Mapping[str, dict[str, str]],
        unprocessed: Mapping[str, dict[str, str]],
        error: str,
    ) -> RecordVerdict:
        key = str(record.contact_id)
        if key in successful:
            row = successful[key]
            return RecordVerdict(
                record.outbox_id,
                Verdict.DELIVERED,
                crm_record_id=row.get("sf__Id") or None,
                created=row.get("sf__Created") == "true",
            )
        if key in failed:
            code, _, rest = failed[key].get("sf__Error", "").partition(":")
            message, _, fields = rest.rpartition(":")
            names = tuple(name for name in fields.removesuffix("--").strip().split(",") if name)
            verdict = refused(record, code or None, message, names=names)
            # Deleted there since: a request of its own makes it anew, with what a new one must have. A trigger may fail
            # for a neighbour, whom only other requests find.
            anew = code == REQUIRED_FIELD_MISSING and record.crm_record_id is not None
            again = anew or (code == TRIGGER_FAILED and verdict.verdict is Verdict.INVALID)
            return replace(verdict, verdict=Verdict.TRANSIENT) if again else verdict
        if key in unprocessed:
            if _FIELD_NOT_FOUND in error:
                name = error.rpartition(_FIELD_NOT_FOUND)[2].strip()
                return refused(record, "INVALID_FIELD", f"No such column '{name}' in a bulk job", names=(name,))
            return RecordVerdict(record.outbox_id, Verdict.TRANSIENT, code="UNPROCESSED", explanation=error or None)
        return not_reported([record])[0]

    def _rows(self, job: JobState, name: str) -> dict[str, dict[str, str]] | None:
        """The rows of one of the three results, by our key; ``None``: it was not told."""
        path = f"{self._jobs}/{job.crm_job_id}/{name}"
        response = self._courier(
            CrmRequest(purpose="bulk_results", method="GET", path=path, headers={"Accept": "text/csv"}, records=0)
        )
        if response.status != 200 or response.body is not None:
            return None
        return {
            row.get(self._requests.key) or "": row for row in csv.DictReader(io.StringIO(response.text, newline=""))
        }

    def _change_state(self, job: JobState, state: str) -> CrmResponse:
        return self._courier(self._state_change(job, state))

    def _state_change(self, job: JobState, state: str) -> CrmRequest:
        path = f"{self._jobs}/{job.crm_job_id}"
        return CrmRequest(purpose="bulk_close", method="PATCH", path=path, body={"state": state}, records=0)

    def _ask(self, purpose: str, method: str, path: str, *, body: Mapping[str, object] | None = None) -> CrmResponse:
        return self._courier(CrmRequest(purpose=purpose, method=method, path=path, body=body, records=0))

    def _each(self, verdict: Verdict, code: str) -> list[RecordVerdict]:
        return [RecordVerdict(record.outbox_id, verdict, code=code) for record in self._records]


def csv_of(records: Sequence[CrmRecord], requests: SalesforceRequests) -> bytes:
    """The records as a job takes them: a column for each property that one of them has."""
    rows = [requests.values(record) for record in records]
    names = sorted({name for row in rows for name in row})
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([requests.key, *names])
    for record, row in zip(records, rows, strict=True):
        writer.writerow([str(record.contact_id), *(_cell(row[name]) if name in row else "" for name in names)])
    return out.getvalue().encode()


def _cell(value: PropertyValue) -> str:
    if value is None or value == "":
        return _NULL
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _nothing_left(limits: CrmResponse) -> bool:
    batches = limits.body.get(_BATCHES_LEFT) if isinstance(limits.body, dict) else None
    return isinstance(batches, dict) and batches.get("Remaining") == 0


def _text(response: CrmResponse, name: str) -> str:
    value = response.body.get(name) if isinstance(response.body, dict) else None
    return value if isinstance(value, str) else ""
