"""What ``GET /_sandbox/report`` says: numbers only."""

from typing import Any

from leads_pipeline.crm.sandbox.account import PlayedAccount


def report(played: PlayedAccount) -> dict[str, Any]:
    """Counts of requests since the start, counts of contacts as they stand, and exact window maxima.

    ``max_accepted_in_any_window`` is what the limit is about; ``max_requests_in_any_window`` counts refused ones and
    searches too.
    """
    seen, limits = played.observations, played.limits
    tally = played.shared.store.tally()
    return {
        "vendor": played.options.vendor,
        "requests": seen.requests,
        "accepted": seen.accepted,
        "unauthorized": seen.unauthorized,
        "http_429": seen.statuses[429],
        "records_written": seen.records_created + seen.records_updated,
        "records_created": seen.records_created,
        "records_updated": seen.records_updated,
        "contacts": tally.contacts,
        "archived": tally.archived,
        "duplicates": tally.duplicates,
        "window_seconds": limits.window.seconds,
        "limit": limits.requests,
        "max_accepted_in_any_window": limits.window.peak,
        "max_requests_in_any_window": seen.arrivals.peak,
        "daily_limit": limits.daily,
        "accepted_today": limits.spent_today(played.clock.now()),
        **seen.shown(),
        "lead_keys": tally.lead_keys,
        "writes_per_lead_key": {str(times): keys for times, keys in tally.writes_per_lead_key.items()},
    }
