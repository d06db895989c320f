"""What ``GET /_sandbox/report`` says of a provider: numbers only."""

from typing import Any

from leads_pipeline.verification.sandbox.account import ProviderAccount


def report(played: ProviderAccount) -> dict[str, Any]:
    """Counts since the start or the last reset. ``calls_over_limit``: requests that a limit refused."""
    seen = played.observations
    return {
        "vendor": played.options.vendor,
        "requests": seen.requests,
        "accepted": seen.accepted,
        "unauthorized": seen.unauthorized,
        "throttled": played.throttled,
        **played.limits.shown(),
        "max_in_flight": seen.max_in_flight,
        **played.ledger.shown(),
        **seen.shown(),
    }
