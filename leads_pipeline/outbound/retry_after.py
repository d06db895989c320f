"""How long a server asks to be left alone, by its header ``Retry-After``. Pure."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Whoever asks for more is asked again after this all the same: nobody stops deliveries for good by a typing error.
LONGEST_SECONDS = 86_400.0


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """Seconds from ``now``, of a number of them or of a date; ``None`` if there is none, or it cannot be read."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_SECONDS)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_SECONDS)
