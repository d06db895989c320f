"""Leads of a time window that go through the pipeline once more, one portion a call.

They come as a new revision (from validation), or their contacts are made anew (from golden). A contact that comes out
as it was is not sent again: a destination's snapshot holds what it has.
"""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.domain.stage import Stage
from leads_pipeline.errors import LeadsError
from leads_pipeline.storage.database import translated_errors
from leads_pipeline.storage.replays import PutBack, Window, put_back

FROM_STAGES = (Stage.VALIDATED_LEADS, Stage.GOLDEN_CONTACTS)


def replay_leads(
    engine: sa.Engine,
    window: Window,
    *,
    stage: Stage,
    replay: str,
    actor: str,
    after: UUID | None,
    limit: int,
    now: datetime,
    dry_run: bool = False,
) -> PutBack:
    """Put the next portion of a window back at the door of ``stage``, in one transaction.

    Raises:
        LeadsError: there is no replay from this stage.
    """
    if stage not in FROM_STAGES:
        known = ", ".join(FROM_STAGES)
        raise LeadsError(f"no replay from {stage}; allowed: {known}. `leads matching rebuild` resolves identities anew")
    with translated_errors("a replay puts leads back"), engine.begin() as connection:
        return put_back(
            connection,
            window,
            stage=stage,
            replay=replay,
            actor=actor,
            after=after,
            limit=limit,
            now=now,
            dry_run=dry_run,
        )
