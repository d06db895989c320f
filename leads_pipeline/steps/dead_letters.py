"""What an operator does with a dead letter: send it again, or take it out for good.

Each call is one transaction per letter and safe to repeat: a letter that is resolved already is left alone. Keep out:
how letters come to be; see ``crm.batch``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from leads_pipeline.errors import NotFound
from leads_pipeline.storage.dead_letters import (
    DeadLetter,
    dispose_undelivered_leads,
    get_dead_letter,
    resolve,
    take_out,
    wait_again,
)
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What became of one letter. ``changed`` is ``False`` when somebody, or a delivery, was quicker."""

    dead_letter_id: UUID
    changed: bool
    leads_discarded: int = 0


def redrive(engine: sa.Engine, dead_letter_ids: Iterable[UUID], *, actor: str, now: datetime) -> list[Resolution]:
    """Let the letters' contacts be sent again, as they are now, with a fresh budget.

    Raises:
        NotFound: there is no such letter; those before it were redriven.
    """
    return [_redrive(engine, letter_id, actor=actor, now=now) for letter_id in dead_letter_ids]


def discard(engine: sa.Engine, dead_letter_id: UUID, *, actor: str, reason: str, now: datetime) -> Resolution:
    """Give up on the letter's version of its contact.

    The leads that waited for it become ``discarded``, so that they stay accounted for; leads that an earlier version
    delivered stay delivered. A new lead of the same person is delivered as usual.

    Raises:
        NotFound: there is no such letter.
    """
    with engine.begin() as connection:
        letter = _locked(connection, dead_letter_id)
        if letter.resolved_at is not None or not take_out(connection, letter.outbox_id, now=now):
            return Resolution(dead_letter_id, changed=False)
        leads = dispose_undelivered_leads(connection, letter, actor=actor, reason=reason, now=now)
        resolve(connection, dead_letter_id, resolution=f"discarded by {actor}", now=now)
    log.info("dead_letter_discarded", dead_letter_id=str(dead_letter_id), actor=actor, leads=len(leads))
    return Resolution(dead_letter_id, changed=True, leads_discarded=len(leads))


def _redrive(engine: sa.Engine, dead_letter_id: UUID, *, actor: str, now: datetime) -> Resolution:
    with engine.begin() as connection:
        letter = _locked(connection, dead_letter_id)
        if letter.resolved_at is not None or not wait_again(connection, letter.outbox_id, now=now):
            return Resolution(dead_letter_id, changed=False)
        resolve(connection, dead_letter_id, resolution=f"redriven by {actor}", now=now)
    log.info("dead_letter_redriven", dead_letter_id=str(dead_letter_id), actor=actor)
    return Resolution(dead_letter_id, changed=True)


def _locked(connection: sa.Connection, dead_letter_id: UUID) -> DeadLetter:
    letter = get_dead_letter(connection, dead_letter_id, for_update=True)
    if letter is None:
        raise NotFound(f"there is no dead letter {dead_letter_id}; `leads dead-letters list` shows what there is")
    return letter
