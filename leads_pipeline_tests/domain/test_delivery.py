"""What must not show of a contact that is sent."""

from uuid import UUID

from leads_pipeline.domain.delivery import CrmRecord, RecordVerdict, Verdict
from leads_pipeline.domain.stage import Operation


def test_the_lead_s_values_do_not_show_in_representations() -> None:
    record = CrmRecord(1, "acme", UUID(int=1), 1, Operation.UPSERT, None, properties={"email": "ada@example.com"})
    verdict = RecordVerdict(1, Verdict.INVALID, explanation="Email address ada@example.com is invalid")
    assert "ada@example.com" not in repr(record) + repr(verdict)
