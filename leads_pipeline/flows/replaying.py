"""A replay's pace: a portion is put back and worked off before the next one, all of it in the batch lane.

So a replay of a year never has more than one portion at the doors, and the leads of today go before it.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.flows.context import FlowContext
from leads_pipeline.flows.draining import drain
from leads_pipeline.steps.replayed_leads import replay_leads
from leads_pipeline.storage.replays import Window, rejected_now

# Leads that a replay has at the doors at once.
PORTION = 2_000


@dataclass(slots=True)
class ReplayReport:
    """What a replay did: leads of the window that it looked at, what it put back, and what the stages did with that.

    ``rejected_now``: leads of a contact; it stays as it was, here and at its destinations. ``counts`` are of whatever
    was due in the batch lane.
    """

    seen: int = 0
    put_back: int = 0
    rejected_now: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def replay(
    context: FlowContext,
    window: Window,
    *,
    stage: Stage,
    replay_id: str,
    actor: str,
    runner_id: str,
    dry_run: bool = False,
    on_portion: Callable[[ReplayReport], None] = lambda _report: None,
) -> ReplayReport:
    """Replay a window from ``stage``, portion by portion. Ended half-way it is repeated under the same ``replay_id``.

    What is due in the batch lane besides is worked off with it.

    Raises:
        LeadsError: there is no replay from this stage.
        StageFailed: the chunks of a tenant failed; what they held is pending.
    """
    report = ReplayReport()
    after: UUID | None = None
    stages = (Stage.VALIDATED_LEADS, Stage.DEDUPED_LEADS, Stage.GOLDEN_CONTACTS)
    while True:
        portion = replay_leads(
            context.engine,
            window,
            stage=stage,
            replay=replay_id,
            actor=actor,
            after=after,
            limit=PORTION,
            now=context.clock.now(),
            dry_run=dry_run,
        )
        report.seen += portion.seen
        report.put_back += portion.put_back
        # At first also without: what an earlier try of this replay has put back may wait still.
        if (portion.put_back or (after is None and portion.seen)) and not dry_run:
            for drained in stages[stages.index(stage) :]:
                summary = drain(context, drained, lanes=(Lane.BATCH,), runner_id=runner_id)
                report.counts.update({f"{drained}_{name}": count for name, count in summary.counts.items()})
        if portion.last is None:
            return report
        if stage is Stage.VALIDATED_LEADS and not dry_run:
            with context.engine.connect() as connection:
                report.rejected_now += rejected_now(connection, replay=replay_id, after=after, last=portion.last)
        on_portion(report)
        after = portion.last
