"""The buffer and its disk, on the way to their bounds."""

from collections.abc import Sequence

from leads_pipeline.buffer.bounds import Reading, gauge_for
from leads_pipeline.buffer.opening import open_lead_buffer
from leads_pipeline.domain.alerting import Health, Observation, Trouble
from leads_pipeline.domain.buffer_bounds import BATCH_REFUSED_FROM, HYSTERESIS, IMPORTS_SLOW_FROM
from leads_pipeline.domain.severity import Severity
from leads_pipeline.watching.alert_sources.watch import Watch

_MEANS_BATCH = "the door refuses the batch lane; at 97 % the near-real-time lane, at 100 % every lead"


def look_at_buffer(watch: Watch) -> Sequence[Observation]:
    """One observation for the buffer, one for the disk."""
    url = watch.engine.url.render_as_string(hide_password=False)
    gauge = gauge_for(watch.settings, database_url=url, clock=watch.clock)
    buffer = open_lead_buffer(watch.settings, watch.engine)
    try:
        with watch.engine.connect() as connection:
            reading = gauge.measured(buffer.depths(connection))
    finally:
        buffer.close()
    bounds = watch.settings.buffer.bounds
    fill = max(reading.fill.leads, reading.fill.age)
    waiting = ("leads that wait", f"{reading.waiting:,} (bound: {bounds.max_leads:,})")
    age = ("age of the oldest", f"{reading.fill.age * bounds.max_age_hours:.1f} h (bound: {bounds.max_age_hours:g} h)")
    found = [_seen("buffer:waiting", fill, "The buffer is filling", (waiting, age), "buffer-filling")]
    if reading.free_disk_bytes is None and bounds.min_free_disk_bytes:  # it cannot be asked, or is another machine's
        found.append(Observation("buffer:disk", Health.UNKNOWN))
    elif reading.free_disk_bytes is not None:
        found.append(_seen("buffer:disk", reading.fill.disk, "The disk is filling", _disk(reading, watch), "disk-full"))
    return found


def _disk(reading: Reading, watch: Watch) -> tuple[tuple[str, str], ...]:
    needed = watch.settings.buffer.bounds.min_free_disk_bytes
    return (("free", f"{(reading.free_disk_bytes or 0) / 1e9:,.1f} GB (at the bound: {needed / 1e9:,.1f} GB)"),)


def _seen(key: str, fill: float, title: str, facts: tuple[tuple[str, str], ...], playbook: str) -> Observation:
    if fill < IMPORTS_SLOW_FROM - HYSTERESIS:
        return Observation(key, Health.WELL)
    if fill < IMPORTS_SLOW_FROM:
        return Observation(key, Health.UNKNOWN)
    refused = fill >= BATCH_REFUSED_FROM
    facts = (
        ("fill", f"{100 * fill:.0f} % of the bound"),
        *facts,
        ("what it means", _MEANS_BATCH if refused else "imports slow down; at 90 % batches are refused"),
    )
    severity = Severity.PAGE if refused else Severity.TICKET
    title = f"{title}: the door refuses leads" if refused else title
    return Observation.of(key, Trouble(severity, title, facts, playbook, "leads buffer status"))
