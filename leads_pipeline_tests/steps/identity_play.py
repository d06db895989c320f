"""The identity of a few people, played through the real steps with a scorer that goes by plain rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.config import Settings
from leads_pipeline.domain.ids import LeadId, uuid7
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.domain.triage import UNWEIGHED
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.matching.pairs import Frequencies, ScoredPair
from leads_pipeline.steps import contact_decisions, contact_undo
from leads_pipeline.steps.deduped_leads import dedupe_leads
from leads_pipeline.steps.golden_contacts import refresh_golden_contacts
from leads_pipeline.storage import schema
from leads_pipeline.storage.contact_deciding import Decided, Ruling
from leads_pipeline.storage.leads import RawLead, insert_validated_leads
from leads_pipeline.storage.pending import Waiting, enqueue
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.steps.rows import TENANT, chunk, rows_of


class PlainScorer:
    """Weights that a reader can add up: no Splink, no database of its own."""

    version = "plain"

    def score(
        self,
        records: Sequence[MatchFields],
        pairs: Sequence[tuple[int, int]],
        *,
        frequencies: Frequencies,
        explain_from: float = 0.0,
    ) -> list[ScoredPair]:
        return [self._pair(records, left, right) for left, right in pairs]

    def _pair(self, records: Sequence[MatchFields], left: int, right: int) -> ScoredPair:
        one, other = records[left], records[right]
        evidence = {"prior": -8.0}
        for name, column, same, different in (
            ("first_name", "first_name_key", 5.0, -4.0),
            ("last_name", "last_name_key", 5.0, -5.0),
            ("email", "email_key", 8.0, -1.0),
            ("company", "company_key", 3.0, -1.0),
        ):
            values = getattr(one, column), getattr(other, column)
            if all(values):
                evidence[name] = same if values[0] == values[1] else different
        return ScoredPair(left, right, sum(evidence.values()), evidence)


@dataclass
class Play:
    """A tenant's leads and what is done to them. Each act is a minute after the last."""

    engine: sa.Engine
    settings: Settings
    now: datetime = NOW
    scorer: PlainScorer = field(default_factory=PlainScorer)

    def scorer_of(self, _tenant: str) -> PlainScorer:
        return self.scorer

    def later(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now

    def ruling(self, person: str = "grace", **options: Any) -> Ruling:
        return Ruling(person, self.later(), **options)

    def arrive(self, *, granted: bool | None = None, **payload: object) -> LeadId:
        """A valid lead, captured and resolved; ``granted``: what it says of marketing by e-mail."""
        lead_id = self.wait_at_the_door(granted=granted, **payload)
        self.run()
        return lead_id

    def wait_at_the_door(self, *, granted: bool | None = None, **payload: object) -> LeadId:
        at = self.later()
        lead_id = LeadId(uuid7(at))
        lead = validate(payload, country="US", today=NOW.date())
        assert isinstance(lead, ValidLead), lead
        this = chunk(now=at)
        stamp = {"tenant": TENANT, "batch_id": this.batch_id, "runner_id": "test"}
        with self.engine.begin() as connection:
            connection.execute(
                sa.insert(schema.raw_leads).values(
                    lead_id=lead_id, source="website", capture_lane=Lane.BATCH, received_at=at, payload=dict(payload),
                    context={}, moved_at=at, **stamp,
                )
            )  # fmt: skip
            connection.execute(
                sa.insert(schema.capture_batches).values(
                    batch_id=uuid7(at), tenant=TENANT, source="website", lane=Lane.BATCH, captured=1, committed_at=at
                )
            )
            insert_validated_leads(
                connection, [(RawLead(lead_id, 1, "website", Lane.BATCH, at, "{}"), lead, UNWEIGHED)], this
            )
            if granted is not None:
                connection.execute(
                    sa.insert(schema.consent_events).values(
                        lead_id=lead_id, position=1, granted=granted, purpose="marketing", channel="email",
                        occurred_at=at, **stamp,
                    )
                )  # fmt: skip
            enqueue(connection, Stage.DEDUPED_LEADS, [Waiting(lead_id, TENANT, Lane.BATCH, 1, at)])
        return lead_id

    def correct(self, lead: LeadId, *, revision: int, **payload: object) -> None:
        """A later revision of a lead, resolved."""
        self.wait_corrected(lead, revision=revision, **payload)
        self.run()

    def wait_corrected(self, lead: LeadId, *, revision: int, **payload: object) -> None:
        at = self.later()
        read = validate(payload, country="US", today=NOW.date())
        assert isinstance(read, ValidLead), read
        with self.engine.begin() as connection:
            insert_validated_leads(
                connection,
                [(RawLead(lead, revision, "website", Lane.BATCH, at, "{}"), read, UNWEIGHED)],
                chunk(now=at),
            )
            enqueue(connection, Stage.DEDUPED_LEADS, [Waiting(lead, TENANT, Lane.BATCH, revision, at)])

    def ask_again(self, lead: LeadId) -> None:
        """Put a lead that was resolved before at the door once more, as a run that was repeated would."""
        with self.engine.begin() as connection:
            enqueue(connection, Stage.DEDUPED_LEADS, [Waiting(lead, TENANT, Lane.BATCH, 1, self.now)])

    def run(self) -> None:
        dedupe_leads(self.engine, chunk(now=self.later()), settings=self.settings, scorer=self.scorer)
        self.refresh()

    def refresh(self) -> None:
        while refresh_golden_contacts(self.engine, chunk(now=self.later()), settings=self.settings).taken:
            pass

    def merge(self, contact: UUID, other: UUID, **options: Any) -> Decided:
        return self._then_refresh(contact_decisions.merge(self.engine, contact, other, self.ruling(**options)))

    def split(self, contact: UUID, *leads: UUID, **options: Any) -> Decided:
        return self._then_refresh(contact_decisions.split(self.engine, contact, leads, self.ruling(**options)))

    def link(self, lead: UUID, other: UUID, **options: Any) -> Decided:
        return self._then_refresh(contact_decisions.link(self.engine, lead, other, self.ruling(**options)))

    def unlink(self, lead: UUID, other: UUID, **options: Any) -> Decided:
        ruling = self.ruling(**options)
        return self._then_refresh(contact_decisions.unlink(self.engine, lead, other, ruling, scorer_of=self.scorer_of))

    def undo(self, merge_id: UUID | None, **options: Any) -> Decided:
        assert merge_id is not None
        return self._then_refresh(contact_undo.undo(self.engine, merge_id, self.ruling(**options)))

    def _then_refresh(self, decided: Decided) -> Decided:
        self.refresh()
        return decided

    def contact_of(self) -> dict[LeadId, UUID]:
        return {row["lead_id"]: row["contact_id"] for row in rows_of(self.engine, schema.deduped_leads)}

    def decisions(self) -> list[dict[str, Any]]:
        return sorted(rows_of(self.engine, schema.merge_log), key=lambda row: row["number"])

    def last_decision(self) -> UUID:
        return UUID(str(self.decisions()[-1]["merge_id"]))

    def golden(self) -> dict[UUID, dict[str, Any]]:
        return {row["contact_id"]: row for row in rows_of(self.engine, schema.golden_contacts)}

    def granted(self, contact: UUID) -> bool | None:
        statement = self.golden()[contact]["consent"].get("marketing", {}).get("email")
        return None if statement is None else statement["granted"]

    def identity(self) -> dict[str, Any]:
        """What identity is made of, as a value that can be compared; links and the log apart."""
        contacts = rows_of(self.engine, schema.contacts)
        return {
            "leads": self.contact_of(),
            "merged_into": {row["contact_id"]: row["merged_into"] for row in contacts},
            "founders": {row["contact_id"]: row["founding_lead_id"] for row in contacts},
            "records": {row["lead_id"]: row["contact_id"] for row in rows_of(self.engine, schema.match_records)},
            "sizes": [(row["records"], row["contacts"]) for row in rows_of(self.engine, schema.identity_sizes)],
            "golden": {contact: _content(row) for contact, row in self.golden().items()},
        }

    def links_in_force(self) -> list[tuple[str, frozenset[UUID], frozenset[UUID]]]:
        leads = rows_of(self.engine, schema.identity_link_leads)
        return [
            (
                row["kind"],
                frozenset(item["lead_id"] for item in leads if item["link_id"] == row["link_id"] and item["side"] == 0),
                frozenset(item["lead_id"] for item in leads if item["link_id"] == row["link_id"] and item["side"] == 1),
            )
            for row in rows_of(self.engine, schema.identity_links)
            if row["withdrawn_at"] is None
        ]


def _content(row: Mapping[str, Any]) -> dict[str, Any]:
    stamps = {"version", "batch_id", "runner_id", "updated_at"}
    return {name: value for name, value in row.items() if name not in stamps}
