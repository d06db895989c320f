"""Every answer that was recorded from Zoho (``recorded/zoho``) is read to the verdict that it deserves."""

import json
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest

from leads_pipeline.crm.port import CrmRecord, RecordVerdict, Verdict
from leads_pipeline.crm.zoho.answers import read_batch, refusal_of, response_of
from leads_pipeline.domain.stage import Operation
from leads_pipeline.outbound.transport import HttpAnswer

RECORDED = Path(__file__).parent / "recorded" / "zoho"

# The status that it came with, and what becomes of the one record that was sent.
READINGS: Mapping[str, tuple[int, RecordVerdict]] = {
    "leads-write": (201, RecordVerdict(1, Verdict.DELIVERED, crm_record_id="6493490000001504003", created=True)),
    "updatecontact": (200, RecordVerdict(1, Verdict.DELIVERED, crm_record_id="6493490000001291001", created=False)),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDED.glob("*.json")))
def test_a_recorded_answer_comes_to_its_verdict(name: str) -> None:
    status, verdict = READINGS[name]
    document = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    response = response_of(HttpAnswer(status, {}, document), pause_after_429=lambda: 1.0)
    record = CrmRecord(1, "acme", UUID(int=1), 1, Operation.UPSERT)
    assert refusal_of(response) is None
    assert read_batch([record], response) == [verdict]


def test_a_recorded_answer_speaks_of_nobody_if_two_were_sent() -> None:
    document = json.loads((RECORDED / "leads-write.json").read_text(encoding="utf-8"))
    response = response_of(HttpAnswer(201, {}, document), pause_after_429=lambda: 1.0)
    records = [CrmRecord(number, "acme", UUID(int=number), 1, Operation.UPSERT) for number in (1, 2)]
    assert {verdict.verdict for verdict in read_batch(records, response)} == {Verdict.AMBIGUOUS}
