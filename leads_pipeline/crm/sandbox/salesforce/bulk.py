"""Bulk API 2.0: jobs that take a CSV, work at it by themselves, and keep a CSV of what became of each row.

As documented and recorded: results hold ``sf__Id``, ``sf__Created`` or ``sf__Error`` before the columns that were sent;
a column that the object has not fails the whole job; ``#N/A`` clears a field and an empty cell leaves it. A job that is
not yet closed changes nothing. One upload to a job is taken; a second one is refused (from memory).
"""

import csv
import io
from dataclasses import dataclass, field
from typing import Any

from leads_pipeline.crm.sandbox.salesforce import writing
from leads_pipeline.crm.sandbox.salesforce.answers import RecordFault, WholeRefused, not_found, refused, timestamp
from leads_pipeline.crm.sandbox.salesforce.calls import Call
from leads_pipeline.crm.sandbox.salesforce.collections import existing, refuse_by
from leads_pipeline.crm.sandbox.salesforce.fields import OBJECTS
from leads_pipeline.crm.sandbox.salesforce.ids import record_id
from leads_pipeline.crm.sandbox.salesforce.query import selected
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultKind

ROWS_PER_BATCH = 10_000
BATCHES_PER_DAY = 15_000
_NULL = "#N/A"
_OPERATIONS = ("insert", "update", "upsert", "delete", "hardDelete")
_OVER = ("JobComplete", "Failed", "Aborted")


@dataclass(slots=True)
class Job:
    """One job. Its rows are kept as they came; each result has the row's columns behind its own."""

    id: str
    object_type: str
    operation: str
    external_id: str | None
    created_at: str
    state: str = "Open"
    query: str | None = None
    columns: list[str] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    uploaded: bool = False
    ends_at: float = 0.0
    successful: list[tuple[str, bool, dict[str, str]]] = field(default_factory=list)
    failed: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    unprocessed: list[dict[str, str]] = field(default_factory=list)
    error: str | None = None

    def shown(self, version: str) -> dict[str, Any]:
        """As an answer tells it."""
        told: dict[str, Any] = {
            "id": self.id,
            "operation": self.operation,
            "object": self.object_type,
            "createdById": "005ak000000AAAAAA0",
            "createdDate": self.created_at,
            "systemModstamp": self.created_at,
            "state": self.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": _number(version),
            "lineEnding": "LF",
            "columnDelimiter": "COMMA",
        }
        if self.external_id is not None:
            told["externalIdFieldName"] = self.external_id
        if self.state == "Open":
            told["contentUrl"] = f"services/data/{version}/jobs/ingest/{self.id}/batches"
        if self.state in ("InProgress", *_OVER):
            told |= {
                "jobType": "V2Ingest" if self.query is None else "V2Query",
                "numberRecordsProcessed": len(self.successful) + len(self.failed),
                "numberRecordsFailed": len(self.failed),
                "retries": 0,
                "totalProcessingTime": 100,
                "apiActiveProcessingTime": 100,
                "apexProcessingTime": 0,
            }
        return told if self.error is None else {**told, "errorMessage": self.error}


def create_job(call: Call) -> Answer:
    """``POST /jobs/ingest``."""
    body = call.json()
    operation = body.get("operation")
    if operation not in _OPERATIONS:
        raise WholeRefused(refused(400, "INVALIDJOB", f"Operation {operation} is not supported"))
    given = str(body.get("object") or "")
    object_type = next((name for name in OBJECTS if name.lower() == given.lower()), None)
    if object_type is None:
        raise WholeRefused(refused(400, "INVALIDENTITY", f"Entity '{given}' is not supported by the Bulk API."))
    external_id = body.get("externalIdFieldName")
    if operation == "upsert":
        writing.matching(call.org, object_type, str(external_id or ""), "-")
    job = _new(call, object_type, operation, external_id if operation == "upsert" else None)
    return Answer(200, job.shown(call.path["version"]))


def list_jobs(call: Call) -> Answer:
    """``GET /jobs/ingest``."""
    jobs = [job.shown(call.path["version"]) for job in call.org.kept.jobs.values() if job.query is None]
    return Answer(200, {"done": True, "records": jobs, "nextRecordsUrl": None})


def upload(call: Call) -> Answer:
    """``PUT /jobs/ingest/{id}/batches`` → 201."""
    job = _job(call)
    if job.state != "Open" or job.uploaded:
        raise WholeRefused(refused(400, "INVALIDJOBSTATE", "Job is not open for data, or has it already"))
    text = call.body.decode("utf-8-sig", "replace")
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        job.columns = next(reader)
    except StopIteration:
        raise WholeRefused(refused(400, "INVALIDBATCH", "The upload is empty")) from None
    job.rows = [dict(zip(job.columns, row, strict=False)) for row in reader if row]
    job.uploaded = True
    return Answer(201)


def change_state(call: Call) -> Answer:
    """``PATCH /jobs/ingest/{id}``: UploadComplete or Aborted."""
    job, wanted = _job(call), call.json().get("state")
    if wanted == "Aborted" and job.state not in _OVER:
        job.state, job.unprocessed = "Aborted", job.rows
    elif wanted == "UploadComplete" and job.state == "Open":
        batches = -(-len(job.rows) // ROWS_PER_BATCH)
        if call.org.kept.bulk_batches + batches > BATCHES_PER_DAY:
            raise WholeRefused(refused(400, "EXCEEDEDQUOTA", "Exceeded quota for number of batches per day"))
        call.org.kept.bulk_batches += batches
        job.state = "UploadComplete"
        job.ends_at = call.incoming.tick + call.org.options.job_seconds
    elif wanted not in ("Aborted", "UploadComplete") or job.state != wanted:
        raise WholeRefused(refused(400, "INVALIDJOBSTATE", f"Job cannot go from {job.state} to {wanted}"))
    return Answer(200, job.shown(call.path["version"]))


def read_job(call: Call) -> Answer:
    """``GET /jobs/ingest/{id}``: and the job goes on, as time does."""
    job = _job(call)
    if job.state in ("UploadComplete", "InProgress"):
        job.state = "InProgress"
        if call.incoming.tick >= job.ends_at:
            _work(call, job)
    return Answer(200, job.shown(call.path["version"]))


def delete_job(call: Call) -> Answer:
    """``DELETE /jobs/ingest/{id}`` → 204."""
    job = _job(call)
    if job.state not in (*_OVER, "Open"):
        raise WholeRefused(refused(400, "INVALIDJOBSTATE", "Job is still being worked at"))
    del call.org.kept.jobs[job.id]
    return Answer(204)


def successful_results(call: Call) -> Answer:
    """``GET /jobs/ingest/{id}/successfulResults``."""
    job = _told_as_csv(call)
    rows = [[record, "true" if created else "false", *row.values()] for record, created, row in job.successful]
    return _csv(["sf__Id", "sf__Created", *job.columns], rows)


def failed_results(call: Call) -> Answer:
    """``GET /jobs/ingest/{id}/failedResults``."""
    job = _told_as_csv(call)
    rows = [[record, error, *row.values()] for record, error, row in job.failed]
    return _csv(["sf__Id", "sf__Error", *job.columns], rows)


def unprocessed_records(call: Call) -> Answer:
    """``GET /jobs/ingest/{id}/unprocessedrecords``, in either spelling."""
    job = _told_as_csv(call)
    return _csv(job.columns, [list(row.values()) for row in job.unprocessed])


def create_query(call: Call) -> Answer:
    """``POST /jobs/query``."""
    body = call.json()
    job = _new(call, "", str(body.get("operation") or "query"), None)
    job.query, job.state = str(body.get("query") or ""), "UploadComplete"
    records, _count, names = selected(call, job.query, deleted=job.operation == "queryAll")
    job.columns = names
    job.rows = [{name: _cell(item[name]) for name in names} for item in records]
    return Answer(200, job.shown(call.path["version"]))


def read_query(call: Call) -> Answer:
    """``GET /jobs/query/{id}``."""
    job = _job(call)
    job.state = "JobComplete"
    return Answer(200, job.shown(call.path["version"]))


def query_results(call: Call) -> Answer:
    """``GET /jobs/query/{id}/results``: in one page."""
    job = _job(call)
    headers = {"Sforce-Locator": "null", "Sforce-NumberOfRecords": str(len(job.rows))}
    return _csv(job.columns, [list(row.values()) for row in job.rows]).with_headers(headers)


def _new(call: Call, object_type: str, operation: str, external_id: str | None) -> Job:
    kept = call.org.kept
    number = call.org.random.randrange(1, 62**5)
    job = Job(record_id("Job", number), object_type, operation, external_id, timestamp(call.incoming.now))
    kept.jobs[job.id] = job
    return job


def _job(call: Call) -> Job:
    job = call.org.kept.jobs.get(call.path["id"])
    if not isinstance(job, Job):
        raise WholeRefused(not_found())
    return job


def _told_as_csv(call: Call) -> Job:
    """The job, for a client that takes a CSV; what another one gets is a guess."""
    accepted = call.incoming.headers.get("accept", "*/*")
    if not any(kind in accepted for kind in ("text/csv", "text/*", "*/*")):
        raise WholeRefused(refused(406, "NOT_ACCEPTABLE", "Results are text/csv"))
    return _job(call)


def _work(call: Call, job: Job) -> None:
    known = {name.lower() for name in call.org.fields(job.object_type)}
    unknown = [name for name in job.columns if name.lower() not in known]
    if unknown:
        job.state, job.unprocessed = "Failed", job.rows
        job.error = f"InvalidBatch : Field name not found : {unknown[0]}"
        return
    with call.org.store.transaction():
        for row in job.rows:
            _do(call, job, row)
    job.state = "JobComplete"


def _do(call: Call, job: Job, row: dict[str, str]) -> None:
    values = {name: None if cell == _NULL else cell for name, cell in row.items() if cell != ""}
    rule = call.org.faults.for_record(call.endpoint, [row.get(job.external_id or "") or "", *row.values()])
    try:
        refuse_by(rule)
        stored_id, created = _write(call, job, values)
    except RecordFault as fault:
        job.failed.append((str(row.get("Id") or ""), fault.line(), row))
        return
    if rule is None or rule.kind is not FaultKind.UNREPORTED:
        job.successful.append((stored_id, created, row))


def _write(call: Call, job: Job, values: dict[str, Any]) -> tuple[str, bool]:
    now, org = call.incoming.now, call.org
    if job.operation == "insert":
        return writing.create(org, job.object_type, values, now=now).id, True
    if job.operation == "upsert":
        field_name = job.external_id or ""
        key = str(values.get(field_name) or "")
        stored, created = writing.upsert(org, job.object_type, field_name, key, values, now=now)
        return stored.id, created
    stored = existing(call, str(values.pop("Id", "") or values.pop("id", "") or ""))
    if job.operation == "update":
        return writing.update(org, stored, values, now=now).id, False
    if stored.deleted_at is not None:
        raise RecordFault("ENTITY_IS_DELETED", "entity is deleted")
    org.store.delete(stored, now=now)
    return stored.id, False


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _csv(columns: list[str], rows: list[list[str]]) -> Answer:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows(rows)
    return Answer(200, text=out.getvalue())


def _number(version: str) -> float:
    try:
        return float(version.removeprefix("v"))
    except ValueError:
        return 0.0
