"""A small database of which every figure is known: what the marts must make of it is counted by hand.

Its rows are of yesterday and of the day before, by the database's own clock, as the marts go by that.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.latency import bucket_of
from leads_pipeline.storage.schema import outbox
from leads_pipeline_tests.defs.rows import Flow


@dataclass
class Filled:
    """Where to write further rows, and which leads are which."""

    connection: sa.Connection
    yesterday: datetime = field(init=False)
    website: Flow = field(init=False)
    webinar: Flow = field(init=False)

    def __post_init__(self) -> None:
        now = self.connection.execute(sa.text("select now()")).scalar_one().astimezone(UTC)
        self.yesterday = now.replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=1)
        self.website = Flow(self.connection, self.yesterday)
        self.webinar = Flow(self.connection, self.yesterday, source="webinar", lane="near_real_time")

    def sent(self, lead: UUID, *verdicts: str, first: timedelta = timedelta(seconds=30)) -> None:
        """The lead's contact was sent once for each verdict, a minute apart."""
        contact = self.website.contact_of(lead)
        outbox_id = self.connection.execute(
            sa.select(outbox.c.outbox_id).where(outbox.c.contact_id == contact)
        ).scalar_one()
        for number, verdict in enumerate(verdicts):
            at = self.yesterday + first + number * timedelta(minutes=1)
            batch = {"batch_id": uuid7(at), "destination": "hubspot", "sent_at": at}
            self.website.insert("crm_sync_batches", records=1, operation="upsert", answered_at=at, **batch)
            attempt = {"contact_id": contact, "outbox_id": outbox_id, "version": 1, "attempt": number + 1}
            self.website.insert("sync_attempts", verdict=verdict, settled_at=at, **batch, **attempt)

    def told(self, kind: str, *, at: datetime | None = None, **values: object) -> None:
        at = at or self.yesterday + timedelta(hours=1)
        self.website.insert("outcomes", kind=kind, occurred_at=at, **{"received_at": at, **values})

    def evaluated(self, verdict: str, hour: int, *, slo: str = "delivered_in_a_day", **values: object) -> None:
        at = self.yesterday.replace(hour=hour)
        row = {"slo": slo, "tenant": "acme", "lane": "", "evaluated_at": at, "verdict": verdict}
        self.website.insert("slo_history", **{"good": 990, "bad": 10, **row, **values})

    def took(self, stage: str, seconds: float, leads: int, *, minute: int = 0, destination: str = "") -> None:
        at = self.yesterday + timedelta(minutes=minute)
        row = {"stage": stage, "lane": "real_time", "destination": destination, "began_at": at, "leads": leads}
        self.website.insert("latency_histograms", bucket=bucket_of(seconds), span_seconds=60, **row)

    def decided(self, kind: str, actor: str, **values: object) -> UUID:
        merge = uuid7(self.yesterday)
        self.website.insert("merge_log", **{"merge_id": merge, "kind": kind, "actor": actor, "lead_ids": [], **values})
        return merge

    def asked(self, state: str, *, cause: str = "grey") -> None:
        row = {"state": state, "cause": cause, "actor": "model:v1", "opened_at": self.yesterday}
        self.website.insert("match_reviews", **row)


def fill(connection: sa.Connection) -> None:
    """Leads of two sources, refusals that were overcome and that were not, and what was measured of them."""
    filled = Filled(connection)
    website, webinar = filled.website, filled.webinar
    # Seven website leads are delivered, two are refused, one waits for its golden contact; three were posted twice.
    plain = [website.delivered() for _ in range(3)]
    throttled, failed, corrected = website.delivered(), website.delivered(), website.delivered()
    for lead in plain:
        filled.sent(lead, "delivered")
    filled.sent(throttled, "throttled", "throttled", "delivered")
    filled.sent(failed, "ambiguous", "delivered")
    filled.sent(corrected, "invalid", "delivered")
    website.merged(into=plain[0])
    website.rejected()
    website.rejected()
    website.at_golden()
    website.insert("capture_batches", captured=0, duplicates=3, lane="real_time", committed_at=filled.yesterday)
    # Of the webinar's three, one is delivered, one refused by the CRM for good, one rejected.
    bounced = webinar.delivered()
    filled.sent(bounced, "delivered")
    filled.sent(webinar.dead(), "invalid")
    webinar.rejected()
    connection.execute(sa.text("update dead_letters set destination = 'hubspot'"))
    founders = "select founding_lead_id from contacts"
    connection.execute(sa.text(f"update deduped_leads set decision = 'new' where lead_id in ({founders})"))

    filled.told("hard_bounce", lead_id=bounced)
    filled.told("hard_bounce", lead_id=bounced)
    filled.told("opportunity", contact_id=website.contact_of(plain[0]))
    filled.told("won", contact_id=website.contact_of(plain[0]), amount=500)
    # Another tenant may name our lead: that tells nothing.
    website.insert("outcomes", tenant="globex", kind="hard_bounce", lead_id=plain[1])

    filled.evaluated("kept", 9, budget_left=0.9, value=0.999)
    filled.evaluated("burning", 10, budget_left=0.2, value=0.991, burn_rate=7.5)
    filled.evaluated("no_data", 11, budget_left=None, value=None)
    filled.evaluated("kept", 12, budget_left=0.4, value=0.992)
    filled.evaluated("kept", 12, slo="rejection_rate", budget_left=1.0, value=0.1)
    filled.evaluated("no_data", 12, slo="opportunities", budget_left=None, value=None, good=0, bad=0)

    for stage in ("raw_leads", "validated_leads", "verified", "deduped_leads"):
        filled.took(stage, 1.0, 10)
        filled.took(stage, 1.0, 2, minute=5)
    filled.took("golden_contacts", 2.0, 12)
    filled.took("delivered", 4.0, 9, destination="hubspot")
    filled.took("delivered", 40.0, 3, minute=1, destination="hubspot")

    taken_back = filled.decided("join", "rule:same_email")
    filled.decided("join", "rule:same_email")
    filled.decided("merge", "model:v1")
    filled.decided("undo", "person:jane", undoes=taken_back)
    for state in ("open", "accepted", "rejected"):
        filled.asked(state)
    filled.asked("open", cause="refused")
