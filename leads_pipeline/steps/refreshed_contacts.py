"""Contacts back to the door of ``golden_contacts``: what decides about all of them has changed, as survivorship has."""

import sqlalchemy as sa

from leads_pipeline.clock import Clock
from leads_pipeline.domain.stage import Lane, Stage
from leads_pipeline.storage.golden import living_page
from leads_pipeline.storage.pending import Waiting, enqueue

# Contacts in one transaction.
PAGE = 5_000


def ask_for_all_contacts(engine: sa.Engine, *, tenant: str, clock: Clock) -> int:
    """Put every living contact of a tenant at the door, in the batch lane; how many there were.

    What waits there keeps its place and its lane, and a contact that comes out as it was is not sent again: repeating
    it, or going on after it was cut off, does no harm.
    """
    asked, after = 0, None
    while True:
        now = clock.now()
        with engine.begin() as connection:
            page = living_page(connection, tenant=tenant, after=after, limit=PAGE)
            waiting = [Waiting(contact_id, tenant, Lane.BATCH, 1, now) for contact_id in page]
            enqueue(connection, Stage.GOLDEN_CONTACTS, waiting)
        if not page:
            return asked
        asked, after = asked + len(page), page[-1]
