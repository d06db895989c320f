"""Which address does what, below ``/services/data/{version}`` of any version."""

from dataclasses import dataclass

from leads_pipeline.crm.sandbox.salesforce import bulk, collections, query, records
from leads_pipeline.crm.sandbox.salesforce.answers import WholeRefused, not_found
from leads_pipeline.crm.sandbox.salesforce.calls import Call, Operation
from leads_pipeline.crm.sandbox.salesforce.writing import LEAD, convert
from leads_pipeline.sandbox.answers import Answer

DATA = "/services/data/{version}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation: its name in reports and fault rules, its method, and its paths below ``prefix``."""

    name: str
    method: str
    paths: tuple[str, ...]
    operation: Operation
    prefix: str = DATA
    is_limited: bool = True


def limits(call: Call) -> Answer:
    """``GET /limits``: a few of the many that Salesforce lists."""
    window, remaining = call.org.limits.left("api", tick=call.incoming.tick)[0]
    used = call.org.kept.bulk_batches
    return Answer(
        200,
        {
            "DailyApiRequests": {"Max": window.most, "Remaining": remaining},
            "DailyBulkApiBatches": {"Max": bulk.BATCHES_PER_DAY, "Remaining": bulk.BATCHES_PER_DAY - used},
            "DailyBulkV2QueryJobs": {"Max": 10_000, "Remaining": 10_000},
        },
    )


def versions(_call: Call) -> Answer:
    """``GET /services/data``."""
    return Answer(
        200,
        [
            {"label": f"{season} '26", "url": f"/services/data/v{number}.0", "version": f"{number}.0"}
            for season, number in (("Spring", 66), ("Summer", 67))
        ],
    )


def convert_lead(call: Call) -> Answer:
    """``POST /_sandbox/leads/{id}/convert``: as people do it in Salesforce; REST has no call for it."""
    lead = call.org.store.by_id(call.path["id"])
    if lead is None or lead.object_type != LEAD or lead.deleted_at is not None:
        raise WholeRefused(not_found())
    with call.org.store.transaction():
        contact = convert(call.org, lead, now=call.incoming.now)
    return Answer(200, {"contactId": contact.id})


def no_such_address(_call: Call) -> Answer:
    """What an address that is not Salesforce's gets."""
    return not_found()


_OBJECT, _JOB, _QUERY = "/sobjects/{object}", "/jobs/ingest/{id}", "/jobs/query/{id}"
# Order matters: the first path that fits answers.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("collections/upsert", "PATCH", ("/composite/sobjects/{object}/{field}",), collections.upsert_collection),
    Endpoint("collections/update", "PATCH", ("/composite/sobjects",), collections.update_collection),
    Endpoint("collections/create", "POST", ("/composite/sobjects",), collections.create_collection),
    Endpoint("collections/delete", "DELETE", ("/composite/sobjects",), collections.delete_collection),
    Endpoint("query", "GET", ("/query", "/query/"), query.query),
    Endpoint("query/more", "GET", ("/query/{locator}",), query.more),
    Endpoint("queryAll", "GET", ("/queryAll", "/queryAll/"), query.query_all),
    Endpoint("limits", "GET", ("/limits", "/limits/"), limits),
    Endpoint("jobs/create", "POST", ("/jobs/ingest",), bulk.create_job),
    Endpoint("jobs/list", "GET", ("/jobs/ingest",), bulk.list_jobs),
    Endpoint("jobs/upload", "PUT", (f"{_JOB}/batches",), bulk.upload),
    Endpoint("jobs/state", "PATCH", (_JOB,), bulk.change_state),
    Endpoint("jobs/read", "GET", (_JOB,), bulk.read_job),
    Endpoint("jobs/delete", "DELETE", (_JOB,), bulk.delete_job),
    Endpoint("jobs/successful", "GET", (f"{_JOB}/successfulResults",), bulk.successful_results),
    Endpoint("jobs/failed", "GET", (f"{_JOB}/failedResults",), bulk.failed_results),
    Endpoint(
        "jobs/unprocessed", "GET", (f"{_JOB}/unprocessedrecords", f"{_JOB}/unprocessedRecords"),
        bulk.unprocessed_records,
    ),
    Endpoint("jobs/query", "POST", ("/jobs/query",), bulk.create_query),
    Endpoint("jobs/query/read", "GET", (_QUERY,), bulk.read_query),
    Endpoint("jobs/query/results", "GET", (f"{_QUERY}/results",), bulk.query_results),
    Endpoint("sobjects", "GET", ("/sobjects", "/sobjects/"), records.describe_all),
    Endpoint("describe", "GET", (f"{_OBJECT}/describe", f"{_OBJECT}/describe/"), records.describe),
    Endpoint("deleted", "GET", (f"{_OBJECT}/deleted", f"{_OBJECT}/deleted/"), records.deleted_records),
    Endpoint("updated", "GET", (f"{_OBJECT}/updated", f"{_OBJECT}/updated/"), records.updated_records),
    Endpoint("metadata", "GET", (_OBJECT, f"{_OBJECT}/"), records.metadata),
    Endpoint("create", "POST", (_OBJECT, f"{_OBJECT}/"), records.create_record),
    Endpoint("read", "GET", (f"{_OBJECT}/{{id}}",), records.read_record),
    Endpoint("update", "PATCH", (f"{_OBJECT}/{{id}}",), records.update_record),
    Endpoint("delete", "DELETE", (f"{_OBJECT}/{{id}}",), records.delete_record),
    Endpoint("upsert", "PATCH", (f"{_OBJECT}/{{field}}/{{value:path}}",), records.upsert_record),
    Endpoint("read/key", "GET", (f"{_OBJECT}/{{field}}/{{value:path}}",), records.read_by_key),
    Endpoint("versions", "GET", ("/services/data", "/services/data/"), versions, prefix=""),
    Endpoint("convert", "POST", ("/_sandbox/leads/{id}/convert",), convert_lead, prefix="", is_limited=False),
)  # fmt: skip
NO_SUCH_ADDRESS = Endpoint("unknown", "*", (), no_such_address)
