"""Structured logs: a past-tense event, ids and counts, never a lead's content.

Doors call ``configure_logging`` once. Everything else takes ``get_logger(__name__)``.
"""

import contextlib
import io
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

# Keys that would carry personal data or a secret. A test feeds each one through; the value never reaches the stream.
FORBIDDEN_KEYS = frozenset(
    {
        "address", "authorization", "body", "company", "date_of_birth", "email", "first_name", "full_name", "ip",
        "key", "last_name", "password", "payload", "phone", "postcode", "properties", "secret", "token", "user_agent",
    }
)  # fmt: skip


def _mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in FORBIDDEN_KEYS & event.keys():
        event[key] = "[masked]"
    return event


class _StandardError(io.TextIOBase):
    """Standard error as it is at the moment of writing. A line that cannot be written is lost, and nothing else.

    A logger that raises would take the place of the failure that it was to report: its exception reaches Dagster with
    the driver's message, and the lead in it, as the context.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return sys.stderr.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure_logging(*, as_json: bool | None = None, level: int = logging.INFO) -> None:
    """Send structured events to standard error: JSON lines, or readable ones on a terminal."""
    if as_json is None:
        as_json = not sys.stderr.isatty()
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _StandardError())),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> Any:
    """A logger bound to the module that speaks."""
    return structlog.get_logger(module=name)
