"""Which address does what. The same paths answer under ``/crm/v3/…`` and under dated versions such as ``2026-03``."""

from dataclasses import dataclass

from leads_pipeline.crm.sandbox.hubspot import batches, records, schema, search
from leads_pipeline.crm.sandbox.hubspot.answers import failure
from leads_pipeline.crm.sandbox.hubspot.calls import Call, Operation
from leads_pipeline.crm.sandbox.limits import API
from leads_pipeline.sandbox.answers import Answer

CONTACTS = frozenset({"contacts", "contact", "0-1"})
SEARCH = "search"  # the class of endpoints with limits of its own
OBJECT_PREFIXES = ("/crm/v3/objects/{object_type}", "/crm/objects/{version}/{object_type}")
PROPERTY_PREFIXES = ("/crm/v3/properties/{object_type}", "/crm/properties/{version}/{object_type}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation: its name in reports and fault rules, its method, and its path below each prefix."""

    name: str
    method: str
    path: str
    operation: Operation
    prefixes: tuple[str, ...] = OBJECT_PREFIXES
    limited_as: str = API


# Order matters: the first path that fits answers.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("batch/upsert", "POST", "/batch/upsert", batches.upsert_batch),
    Endpoint("batch/create", "POST", "/batch/create", batches.create_batch),
    Endpoint("batch/update", "POST", "/batch/update", batches.update_batch),
    Endpoint("batch/archive", "POST", "/batch/archive", batches.archive_batch),
    Endpoint("batch/read", "POST", "/batch/read", batches.read_batch),
    Endpoint("search", "POST", "/search", search.search_records, limited_as=SEARCH),
    Endpoint("merge", "POST", "/merge", records.merge_records),
    Endpoint("gdpr-delete", "POST", "/gdpr-delete", records.erase_record),
    Endpoint("create", "POST", "", records.create_record),
    Endpoint("list", "GET", "", records.list_records),
    Endpoint("read", "GET", "/{id}", records.read_record),
    Endpoint("update", "PATCH", "/{id}", records.update_record),
    Endpoint("archive", "DELETE", "/{id}", records.archive_record),
    Endpoint("properties/list", "GET", "", schema.list_properties, PROPERTY_PREFIXES),
    Endpoint("properties/create", "POST", "", schema.create_property, PROPERTY_PREFIXES),
    Endpoint("properties/read", "GET", "/{name}", schema.read_property, PROPERTY_PREFIXES),
)


def no_such_address(call: Call) -> Answer:
    """What an address that is not HubSpot's gets."""
    return failure(404, "resource not found", category=None, correlation_id=call.correlation_id)


NO_SUCH_ADDRESS = Endpoint("unknown", "*", "", no_such_address, ())
