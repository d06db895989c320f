"""From a vendor's signed webhook through the running door, its own answer and a Dagster run to a usable lead."""

import json
from collections.abc import Iterator

import dagster as dg
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.definitions import build_defs
from leads_pipeline.defs.runs import setbacks
from leads_pipeline.defs.sensors import leads_waiting
from leads_pipeline.flows import FlowContext
from leads_pipeline.storage import schema
from leads_pipeline_tests.capture.running import Capture, capture_service
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.defs.conftest import metadata_of
from leads_pipeline_tests.sources.signing import HUBSPOT_URL, SECRET, hubspot_headers, meta_headers
from leads_pipeline_tests.sources.vendors import TOKEN, Vendor, running_vendor
from leads_pipeline_tests.steps.rows import rows_of

YAML = """
version: 1
tenants:
  acme:
    sources:
      website: {{}}
      ads:
        kind: meta
        lane: real_time
        secret: {{env: TEST_VENDOR_SECRET}}
        access_token: {{env: TEST_VENDOR_TOKEN}}
        api_url: {url}
        consent: [{{path: newsletter, channel: email}}]
      crm:
        kind: hubspot
        lane: real_time
        public_url: {public_url}
        secret: {{env: TEST_VENDOR_SECRET}}
        access_token: {{env: TEST_VENDOR_TOKEN}}
        api_url: {url}
"""


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    monkeypatch.setenv("TEST_VENDOR_SECRET", SECRET)
    monkeypatch.setenv("TEST_VENDOR_TOKEN", TOKEN)
    with running_vendor() as vendor:
        yield vendor


@pytest.fixture
def settings(settings: Settings, vendor: Vendor) -> Settings:
    return parse_settings(YAML.format(url=vendor.base_url, public_url=HUBSPOT_URL), path=settings.path)


@pytest.fixture
def door(settings: Settings, database_url: str, engine: sa.Engine, clock: FrozenClock) -> Iterator[Capture]:
    with capture_service(settings, database_url=database_url, engine=engine, clock=clock) as door:
        yield door


def webhooks(door: Capture) -> None:
    """What Meta and HubSpot send when a form was filled in; neither says by whom."""
    change = {"field": "leadgen", "value": {"leadgen_id": "77", "form_id": "9", "page_id": "1"}}
    meta = json.dumps({"object": "page", "entry": [{"id": "1", "time": 1, "changes": [change]}]}).encode()
    event = {"eventId": 1, "portalId": 2, "subscriptionType": "contact.creation", "objectId": 501, "occurredAt": 1}
    hubspot = json.dumps([event]).encode()
    for path, body, headers in (
        ("/v1/in/acme/ads", meta, meta_headers(meta)),
        ("/v1/in/acme/crm", hubspot, hubspot_headers(hubspot, at=NOW)),
    ):
        answer = door.client.post(path, content=body, headers={"Content-Type": "application/json", **headers})
        assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "duplicate": 0})


def test_a_lead_that_was_only_named_is_a_usable_lead_after_one_run(
    door: Capture, engine: sa.Engine, settings: Settings, vendor: Vendor, clock: FrozenClock
) -> None:
    vendor.meta["77"] = {"email": "anna@firm.com", "full_name": "Anna Berg", "newsletter": "yes"}
    vendor.hubspot["501"] = {"email": "ben@firm.com", "firstname": "Ben", "lastname": "Kay", "company": "Kay Ltd"}
    webhooks(door)
    assert vendor.asked == [], "the door asks nobody"

    flow = FlowContext(engine, settings, clock)
    with dg.DagsterInstance.ephemeral() as instance:
        assert isinstance(
            leads_waiting(dg.build_sensor_context(instance=instance, resources={"flow": flow})), dg.RunRequest
        )
        result = build_defs(flow).resolve_job_def("near_real_time").execute_in_process(instance=instance)

    assert result.success
    counts = metadata_of(result, "raw_leads")
    assert (counts["taken"], counts["fetch_fetched"], counts["remaining"]) == (2, 2, 0)
    valid = {row["source"]: row for row in rows_of(engine, schema.validated_leads)}
    assert (valid["ads"]["email"], valid["ads"]["last_name"], valid["ads"]["external_id"]) == (
        "anna@firm.com", "Berg", "77",
    )  # fmt: skip
    assert (valid["crm"]["email"], valid["crm"]["company"]) == ("ben@firm.com", "Kay Ltd")
    [consent] = rows_of(engine, schema.consent_events)
    assert (consent["lead_id"], consent["granted"]) == (valid["ads"]["lead_id"], True)
    assert len(rows_of(engine, schema.golden_contacts)) == 2


def test_a_vendor_that_is_down_holds_up_no_run_and_is_asked_again_when_the_lead_is_due(
    door: Capture, engine: sa.Engine, settings: Settings, vendor: Vendor, clock: FrozenClock
) -> None:
    vendor.script = [(503, {}, {})] * 4
    webhooks(door)
    flow = FlowContext(engine, settings, clock)
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_defs(flow).resolve_job_def("near_real_time")
        result = job.execute_in_process(instance=instance)
        assert result.success
        assert (metadata_of(result, "raw_leads")["fetch_failed"], metadata_of(result, "raw_leads")["remaining"]) == (
            2,
            2,
        )
        assert not rows_of(engine, schema.validated_leads)

        clock.advance(2)
        again = metadata_of(job.execute_in_process(instance=instance), "raw_leads")
        assert (again["taken"], again["fetch_failed"]) == (0, 2)
        assert setbacks(instance, "near_real_time").runs == 0, "the sensor need not slow down for all leads' sake"

        vendor.meta["77"] = {"email": "anna@firm.com"}
        vendor.hubspot["501"] = {"email": "ben@firm.com"}
        clock.advance(4)
        assert job.execute_in_process(instance=instance).success
    assert len(rows_of(engine, schema.validated_leads)) == 2
