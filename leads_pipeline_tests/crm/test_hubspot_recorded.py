"""Every answer that was recorded from HubSpot (``recorded/hubspot``) is read to the verdict that it deserves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from leads_pipeline.crm.hubspot.answers import read_batch, refusal_of, response_of
from leads_pipeline.crm.port import CrmRecord, RecordVerdict, Verdict
from leads_pipeline.domain.stage import Operation
from leads_pipeline.outbound.transport import HttpAnswer

RECORDED = Path(__file__).parent / "recorded" / "hubspot"
UNKNOWN = ("first000name", "last000name")


@dataclass(frozen=True)
class Reading:
    """How an answer is read: its status, whom the records are taken for, and what becomes of each.

    ``targets`` are the CRM's ids of the records 1, 2 …; ``divisible``: refused whole, and a part might pass.
    """

    status: int
    verdicts: tuple[RecordVerdict, ...]
    targets: tuple[str, ...] = ()
    divisible: bool | None = field(default=None)


def _refused(verdict: Verdict, code: str, **told: Any) -> tuple[RecordVerdict, ...]:
    return tuple(RecordVerdict(number, verdict, code=code, **told) for number in (1, 2))


READINGS: Mapping[str, Reading] = {
    # A create tells neither our key nor a trace id of ours: nobody can say whose these records are.
    "batch-create-success": Reading(201, _refused(Verdict.AMBIGUOUS, "NOT_REPORTED")),
    "batch-create-err-conflict": Reading(409, _refused(Verdict.CONFLICT, "CONFLICT"), divisible=True),
    "batch-create-err-many-invalid-properties": Reading(
        400, _refused(Verdict.AUTH, "PROPERTY_DOESNT_EXIST", refused_properties=UNKNOWN), divisible=False
    ),
    "batch-create-err-partial-success": Reading(
        207,
        (
            RecordVerdict(1, Verdict.CONFLICT, code="CONFLICT", holder_id="171591000198"),
            RecordVerdict(2, Verdict.DELIVERED, crm_record_id="171596044870"),
        ),
        targets=("", "171596044870"),
    ),
    "batch-update-success": Reading(
        200,
        (
            RecordVerdict(1, Verdict.DELIVERED, crm_record_id="171591000198"),
            RecordVerdict(2, Verdict.DELIVERED, crm_record_id="171591000199"),
        ),
        targets=("171591000198", "171591000199"),
    ),
    "batch-update-err-partial-success": Reading(
        207,
        (
            RecordVerdict(1, Verdict.DELIVERED, crm_record_id="171591000199"),
            # Gone since it was looked up: by its key it is made anew with the next attempt.
            RecordVerdict(2, Verdict.TRANSIENT, code="OBJECT_NOT_FOUND"),
        ),
        targets=("171591000199", "unknownIdentifier888"),
    ),
    "batch-update-err-duplicate-ids": Reading(400, _refused(Verdict.INVALID, "VALIDATION_ERROR"), divisible=True),
    "batch-update-err-many-invalid-properties": Reading(
        400, _refused(Verdict.AUTH, "PROPERTY_DOESNT_EXIST", refused_properties=UNKNOWN), divisible=False
    ),
    # The address in leads.yaml is wrong, and no record: each of them alone would be refused, and die of it.
    "search-err-invalid-object": Reading(400, _refused(Verdict.AUTH, "UNKNOWN_OBJECT_TYPE"), divisible=False),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDED.glob("*.json")))
def test_a_recorded_answer_comes_to_its_verdict(name: str) -> None:
    reading = READINGS[name]
    # The first record of these bears the trace id that the recording calls "0".
    records = [
        CrmRecord(number, "acme", UUID(int=number), 1, Operation.UPSERT, properties={"email": f"{number}@example.com"})
        for number in (1, 2)
    ]
    document = (RECORDED / f"{name}.json").read_text(encoding="utf-8").replace('["0"]', '["1:1"]')
    response = response_of(HttpAnswer(reading.status, {}, json.loads(document)))
    refusal = refusal_of(response)
    assert (None if refusal is None else refusal.divisible) == reading.divisible
    if refusal is not None:
        verdicts = [refusal.of(record) for record in records]
    else:
        targets = {number: target for number, target in enumerate(reading.targets, start=1) if target}
        verdicts = read_batch(records, response, key_property="lead_key", targets=targets)

    told = tuple(sorted(verdicts, key=lambda verdict: verdict.outbox_id))
    explained = [bool(verdict.explanation) for verdict in told]
    assert tuple(_without_explanation(verdict) for verdict in told) == reading.verdicts
    assert explained == [verdict.verdict not in (Verdict.DELIVERED, Verdict.AMBIGUOUS) for verdict in told]


def _without_explanation(verdict: RecordVerdict) -> RecordVerdict:
    from dataclasses import replace

    return replace(verdict, explanation=None)
