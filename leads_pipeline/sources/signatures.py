"""What the signed kinds share: keyed hashes, and whether a signed time is near."""

import hashlib
import hmac
from datetime import datetime, timedelta

from leads_pipeline.sources.port import REPLAY_TOLERANCE


def hmac_sha256(secret: str | bytes, message: bytes) -> bytes:
    """The HMAC-SHA256 of the message."""
    key = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    return hmac.new(key, message, hashlib.sha256).digest()


def is_near(timestamp: str, received_at: datetime, *, unit: timedelta) -> bool:
    """Whether a signed time, so many units since 1970, is within ``REPLAY_TOLERANCE`` of ours, in both directions."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 16):
        return False
    units_per_second = timedelta(seconds=1) / unit
    seconds_apart = int(timestamp) / units_per_second - received_at.timestamp()
    return abs(seconds_apart) <= REPLAY_TOLERANCE.total_seconds()
