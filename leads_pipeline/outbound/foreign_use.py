"""What other applications use of an account's windows, known by the answers that we get.

Pure. An answer says how much of a window is left for everybody. What is used, less what we had been granted when the
request was, is other applications'. It is taken to go on as last measured: what ages out is replaced by as much.
Nothing is added up, so an error ends with the next answer.

Requests of several processes do not arrive in the order of their grants, so one answer may tell too little by as many
as overtook it. Hence a larger measurement holds at once, a smaller one only when the larger is a tenth of the window
old.
"""

import math
from collections.abc import Mapping

from leads_pipeline.domain.delivery import QuotaReading
from leads_pipeline.outbound.limiter_state import ForeignUse, WindowKey

# Of a window of 24 hours it is asked again so often whether there is room: nobody tells us when there is.
_LONGEST_VALIDITY_MS = 900_000
# One request finds out, the others wait so long for its answer.
_PROBE_MS = 5_000


def measured(
    reading: QuotaReading,
    *,
    seconds: int,
    before: ForeignUse | None,
    ours: int,
    most: int,
    round_trip_ms: int,
    now_ms: int,
) -> ForeignUse:
    """What an answer tells of others' use of a window of so many ``seconds``.

    ``ours`` is how much of it we had been granted with the request's own grant, ``most`` our limit, for vendors that
    tell what remains and not of how much. What others may use on the way of a request is added.
    """
    limit = most if reading.limit is None else reading.limit
    count = max(0, limit - reading.remaining - ours)
    count += math.ceil(count * round_trip_ms / (seconds * 1000))
    if (
        before is not None
        and before.limit == limit
        and count < before.used
        and 0 <= now_ms - before.measured_at < seconds * 100
    ):
        return before
    return ForeignUse(count, limit, now_ms)


def valid_until(use: ForeignUse, *, seconds: int) -> int:
    """How long a measurement is taken to go on; Unix milliseconds. Then one request finds out."""
    return use.measured_at + min(seconds * 1000, _LONGEST_VALIDITY_MS)


def in_window(known: Mapping[WindowKey, ForeignUse], key: WindowKey, *, most: int, now_ms: int) -> ForeignUse | None:
    """Others' use of a window: as measured, else as windows of other lengths suggest; ``None`` where nothing is known.

    What a longer window holds is taken to be spread evenly; what a shorter one holds, the longer one holds too.
    """
    if key in known:
        use = known[key]
        return use if now_ms < valid_until(use, seconds=key.seconds) else None
    related = {
        other.seconds: use
        for other, use in known.items()
        if other[:2] == key[:2] and now_ms < valid_until(use, seconds=other.seconds)
    }
    longer = min((seconds for seconds in related if seconds > key.seconds), default=None)
    shorter = max((seconds for seconds in related if seconds < key.seconds), default=None)
    counts = []
    if longer is not None:
        counts.append((math.ceil(related[longer].used * key.seconds / longer), related[longer].measured_at))
    if shorter is not None:
        counts.append((related[shorter].used, related[shorter].measured_at))
    if not counts:
        return None
    count, measured_at = max(counts)
    return ForeignUse(count, most, measured_at)


def probing(use: ForeignUse, *, seconds: int, now_ms: int) -> ForeignUse:
    """A measurement that has grown old, once a request has been let out although it spoke against it.

    Half of it holds until that request's answer may be expected; if no answer speaks of it any more, it fades away.
    """
    validity = min(seconds * 1000, _LONGEST_VALIDITY_MS)
    return ForeignUse(use.used // 2, use.limit, now_ms - validity + min(_PROBE_MS, validity // 2))
