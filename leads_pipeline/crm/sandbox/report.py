"""What ``GET /_sandbox/report`` says: numbers only."""

from typing import Any

from leads_pipeline.crm.sandbox.account import PlayedAccount
from leads_pipeline.crm.sandbox.limits import API


def report(played: PlayedAccount) -> dict[str, Any]:
    """Counts of requests since the start, counts of contacts as they stand, and exact window maxima.

    ``max_accepted_in_any_window`` is what the limit is about; ``max_requests_in_any_window`` counts refused ones and
    searches too. Both are of the first window; ``windows`` has them of each.
    """
    played.catch_up()
    seen, limits = played.observations, played.shared.limits
    tally = played.vendor.tally()
    windows = [
        {
            "seconds": window.seconds,
            "limit": window.most,
            "max_accepted": accepted,
            "max_requests": arrivals.peak,
        }
        for window, accepted, arrivals in zip(played.options.windows, limits.peaks(API), seen.arrivals, strict=True)
    ]
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
        "window_seconds": windows[0]["seconds"],
        "limit": windows[0]["limit"],
        "max_accepted_in_any_window": windows[0]["max_accepted"],
        "max_requests_in_any_window": windows[0]["max_requests"],
        "windows": windows,
        "daily_limit": limits.daily,
        "accepted_today": limits.spent_today(played.clock.now()),
        "max_in_flight": seen.max_in_flight,
        "applications": {str(number): count for number, count in sorted(seen.applications.items())},
        **seen.shown(),
        "lead_keys": tally.lead_keys,
        "writes_per_lead_key": {str(times): keys for times, keys in tally.writes_per_lead_key.items()},
    }
