"""What a failure may say in Dagster: where it happened and of which kind, never a value.

Dagster stores an exception's message, and those of its causes, in the event log. A driver's message quotes the row
that it choked on, and a lead must not end there. Every asset, check, op and I/O manager does its work inside
``shielded``.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import sqlalchemy as sa

from leads_pipeline.errors import DatabaseUnavailable, LeadsError
from leads_pipeline.storage.database import is_unavailable
from leads_pipeline.telemetry import get_logger

log = get_logger(__name__)

# A lost connection is worth two more tries within the run. Anything else would only fail again; the sensor asks later.
LOST_CONNECTION = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


@contextmanager
def shielded(doing: str) -> Iterator[None]:
    """Turn an exception into a failure without values; only a lost connection may be retried under ``RetryPolicy``."""
    try:
        yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:  # noqa: BLE001 - a door: whatever it was, it is logged and answered
        chain = _chain(error)
        kinds = " <- ".join(_kind(item) for item in chain)
        at = _frames(chain[-1:])[-1]
        with suppress(
            OSError, ValueError
        ):  # a full disk, a closed stream: what came out instead would carry the values
            log.error("run_failed", doing=doing, reason=_message(error), kinds=kinds, at=at)  # noqa: TRY400 - a traceback quotes messages
        raise dg.Failure(
            description=f"{doing}: {_message(error)}",
            metadata={"kinds": kinds, "trace": dg.MetadataValue.md(_trace(chain))},
            allow_retries=any(isinstance(item, DatabaseUnavailable) or _lost(item) for item in chain),
        ) from None


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (below := chain[-1].__cause__) is not None:
        chain.append(below)
    return chain


def _lost(error: BaseException) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and is_unavailable(error)


def _kind(error: BaseException) -> str:
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return f"{type(error).__name__}[{state}]" if state else type(error).__name__


def _message(error: Exception) -> str:
    # Our own messages hold no values by rule; anybody else's may.
    return (
        str(error) if isinstance(error, LeadsError) else f"{_kind(error)}, its message is withheld: it may hold values"
    )


def _frames(chain: list[BaseException]) -> list[str]:
    """Where each exception of the chain passed, the first cause first, without source lines or messages."""
    return [
        f"{_kind(error)} at {Path(frame.filename).name}:{frame.lineno} in {frame.name}"
        for error in reversed(chain)
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def _trace(chain: list[BaseException]) -> str:
    return "\n".join(["```", *_frames(chain), "```"])
