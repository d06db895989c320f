"""docs/destinations.md says of every vendor what it takes, and its examples are what is sent and what is read."""

import json
import re
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from annotated_types import Le
from pydantic import BaseModel

from leads_pipeline.config import Destination, SqlSettings, parse_settings
from leads_pipeline.config.destinations import VENDORS
from leads_pipeline.crm.files.lines import text_of
from leads_pipeline.crm.port import CrmRecord, CrmResponse
from leads_pipeline.crm.webhook.answers import STATUSES, read_results
from leads_pipeline.crm.webhook.events import event_id, request_of
from leads_pipeline.domain.delivery import Verdict
from leads_pipeline.domain.stage import Operation
from leads_pipeline.domain.standard_webhooks import key_of, signature

DOCS = (Path(__file__).resolve().parent.parent / "docs/destinations.md").read_text(encoding="utf-8")
MODELS: dict[str, type[BaseModel]] = dict(zip(VENDORS, get_args(get_args(Destination)[0]), strict=True))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, flags=re.DOTALL)


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendor_has_a_row_with_how_many_records_go_in_a_request(vendor: str) -> None:
    [row] = [line for line in DOCS.splitlines() if line.startswith(f"| `{vendor}` |")]
    size = MODELS[vendor].model_fields["batch_size"]
    most = next(item.le for item in size.metadata if isinstance(item, Le))
    said = row.split("|")[2]
    assert f"{size.default:,}" in said
    assert f"{most:,}" in said


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_example_of_settings_is_valid(text: str) -> None:
    assert parse_settings(f"tenants: {{acme: {{sources: {{website: {{}}}}}}}}\n{text}", path=Path("leads.yaml"))


EXAMPLE = CrmRecord(
    4711, "acme", UUID("0198c5a2-7c1e-7d02-9a4e-6f1b2c3d4e5f"), 3, Operation.UPSERT,
    properties={"email": "ada@example.com", "given_name": "Ada", "newsletter": True},
)  # fmt: skip


def test_the_example_of_an_event_is_what_is_sent_and_how_it_is_signed() -> None:
    request = request_of([EXAMPLE], batches=False)
    assert request.content is not None
    event = json.loads(request.content)
    assert event in [json.loads(block) for block in blocks("json")]
    [headers] = blocks("http")
    [secret] = re.findall(r"`(whsec_[A-Za-z0-9+/=]+)`", DOCS)
    timestamp = re.findall(r"webhook-timestamp: (\d+)", headers)[0]
    signed = signature(key_of(secret), message_id=event_id(EXAMPLE), timestamp=timestamp, body=request.content)
    assert f"webhook-id: {event_id(EXAMPLE)}\n" in headers
    assert f"webhook-signature: {signed}\n" in headers


def test_the_example_of_results_is_read_as_it_says() -> None:
    [answer] = [document for block in blocks("json") if "results" in (document := json.loads(block))]
    [verdict] = read_results([EXAMPLE], CrmResponse(status=200, body=answer), batches=True)
    assert verdict.verdict is Verdict.DELIVERED
    refused: dict[str, Any] = answer["results"][1]
    found = read_results([EXAMPLE], CrmResponse(status=200, body={"results": [{**refused, "id": event_id(EXAMPLE)}]}),
                         batches=True)[0]  # fmt: skip
    assert (found.verdict, found.code, found.explanation) == (Verdict.INVALID, refused["code"], refused["message"])
    assert all(f"`{status}`" in DOCS for status in STATUSES)


def test_the_example_of_a_line_is_what_is_written() -> None:
    record = CrmRecord(1, "acme", EXAMPLE.contact_id, 3, Operation.UPSERT, properties={"email": "ada@example.com"})
    line = text_of([record], format_="ndjson", properties=()).decode()
    assert line in blocks("json")


def test_the_example_of_a_table_has_the_columns_of_the_default_mapping() -> None:
    [statements] = blocks("sql")
    settings = SqlSettings(
        vendor="sql",
        account="a",
        url={"env": "X"},
        table="crm.contacts",
        tenant_column="tenant",  # type: ignore[arg-type] - as YAML has it
    )
    for column in (*settings.properties(), settings.key_column, *settings.own_columns().values()):
        assert re.search(rf"\b{column} (text|uuid|bigint|timestamptz)", statements), column
