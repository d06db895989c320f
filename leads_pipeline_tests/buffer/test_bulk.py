"""Appending by COPY is held to the buffer's contract."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from leads_pipeline.buffer.bulk import append_in_bulk
from leads_pipeline.buffer.port import NewLead, Posted, PostResult
from leads_pipeline.buffer.postgresql import PostgresBuffer
from leads_pipeline.storage.database import translated_errors
from leads_pipeline_tests.buffer.contract import BufferContract, Parts, captured, new_lead
from leads_pipeline_tests.conftest import NOW


class _InBulk(PostgresBuffer):
    """Appends as an import does: what is of one source and instant at once."""

    def append(self, leads: Sequence[NewLead], *, now: datetime) -> list[Posted]:
        found: dict[UUID, Posted] = {}
        for of in dict.fromkeys((lead.tenant, lead.source, lead.lane, lead.received_at) for lead in leads):
            group = [lead for lead in leads if (lead.tenant, lead.source, lead.lane, lead.received_at) == of]
            with translated_errors("storing leads"), self._engine.begin() as connection:
                posted = append_in_bulk(connection, group, now=now)
            found.update(zip((lead.lead_id for lead in group), posted, strict=True))
        return [found[lead.lead_id] for lead in leads]


class TestInBulk(BufferContract):
    @pytest.fixture
    def parts(self, engine: sa.Engine) -> Parts:
        return Parts(_InBulk(engine), engine, lambda: captured(engine))


@pytest.mark.parametrize(
    "value",
    ["tab\there", "line\nbreak", "back\\slash", "\\.", "\\N", "quote\"'", "\x01\x1f\x7f", "日本 🎉", "", "\\u0041"],
)
def test_a_value_comes_out_as_it_went_in_whatever_copy_thinks_of_it(engine: sa.Engine, value: str) -> None:
    lead = new_lead({"message": value, value or "key": "x"}, consent=[{"granted": value}])
    with engine.begin() as connection:
        append_in_bulk(connection, [lead], now=NOW)
        row: Any = connection.execute(sa.text("select * from buffer")).one()
    assert (row.payload, row.consent, row.context) == (lead.payload, lead.consent, lead.context)


def test_a_lead_that_cannot_be_stored_costs_only_itself(engine: sa.Engine) -> None:
    leads = [new_lead({"n": number, "m": "\x00" if number in (3, 9) else "x"}) for number in range(12)]
    with engine.begin() as connection:
        posted = append_in_bulk(connection, leads, now=NOW)
    assert [place for place, answer in enumerate(posted) if answer.result is PostResult.UNSTORABLE] == [3, 9]
    assert sum(answer.result is PostResult.ACCEPTED for answer in posted) == 10
    assert captured(engine) == (10, 0)


def test_a_transaction_that_is_taken_back_leaves_nothing(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        append_in_bulk(connection, [new_lead({"email": "a"})], now=NOW)
        connection.rollback()
        assert connection.execute(sa.text("select count(*) from ingest_keys")).scalar() == 0
    assert captured(engine) == (0, 0)
