"""What nobody foresaw at one destination: an answer that cannot be kept or read, or a mistake of our own.

It must cost neither the other destinations nor the contacts beside the one at fault. Keep out: what a CRM says of its
records, and a database that is away, which is everybody's trouble.
"""

import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from leads_pipeline.crm.port import CrmRecord, CrmResponse, RecordVerdict, Verdict
from leads_pipeline.errors import DatabaseError
from leads_pipeline.outbound.gate import GrantTaken
from leads_pipeline.storage.database import is_unavailable
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# The code of a record about which the CRM's answer could not be read; it may have been written.
UNREADABLE = "UNREADABLE"

# What JSON may hold and PostgreSQL may not: NUL, and halves of surrogate pairs.
_NOT_KEPT = re.compile("[\x00\ud800-\udfff]")
_INSTEAD = "\N{REPLACEMENT CHARACTER}"


def keepable(response: CrmResponse) -> CrmResponse:
    """The answer with all its texts such as the database can keep."""
    return replace(
        response,
        body=_keepable(response.body),
        text=_keepable(response.text),
        correlation_id=_keepable(response.correlation_id),
    )


def is_everybodys(error: Exception) -> bool:
    """Whether the database is away: then nobody can deliver."""
    if isinstance(error, sa.exc.DBAPIError):
        return is_unavailable(error)
    return isinstance(error, DatabaseError | sa.exc.TimeoutError)


def tell(event: str, error: Exception, *, destination: str) -> None:
    """Log where it happened. The message may quote a contact, and stays out."""
    passed = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error(event, destination=destination, error=type(error).__name__, at=passed[-3:])


def answers_of(
    deliver: Callable[[Sequence[CrmRecord]], list[RecordVerdict]], records: Sequence[CrmRecord], *, destination: str
) -> list[RecordVerdict]:
    """What ``deliver`` says of ``records``. One that it fails at is found by halving, and is ambiguous.

    That takes as many requests again as a few such records need; if there are more, their neighbours are ambiguous too.
    """
    verdicts: list[RecordVerdict] = []
    parts = [list(records)]
    halvings = 2 * len(records).bit_length()
    while parts:
        part = parts.pop()
        try:
            verdicts += deliver(part)
        except GrantTaken:
            raise
        except Exception as error:
            if is_everybodys(error):
                raise
            tell("crm_answer_unreadable", error, destination=destination)
            if len(part) == 1 or halvings == 0:
                verdicts += unreadable(part)
                continue
            halvings -= 1
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]
    return verdicts


def unreadable(records: Sequence[CrmRecord]) -> list[RecordVerdict]:
    """The verdict on records of which nothing could be read. It burns an attempt, so that it ends."""
    return [RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS, code=UNREADABLE) for record in records]


def _keepable(value: Any) -> Any:
    if isinstance(value, str):
        return _NOT_KEPT.sub(_INSTEAD, value)
    if isinstance(value, dict):
        return {_keepable(name): _keepable(item) for name, item in value.items()}
    return [_keepable(item) for item in value] if isinstance(value, list) else value
