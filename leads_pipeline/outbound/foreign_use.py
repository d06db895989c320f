"""What other applications use of an account's windows, known by the answers that we get.

Pure. An answer says how much of a window is left for everybody. What is used, less what we had been granted when the
request was, is other applications'. It is taken to go on as last measured: what ages out is replaced by as much.
Nothing is added up, so an error ends with the next answer.

Their usual use is left to them also when they use less for a moment. Without that we would fill each gap, they would
be refused, use still less, and be crowded out; and whenever one of theirs came between an answer and our next request,
we would be refused (simulated: 30 times a minute beside one that takes 30 %).
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from leads_pipeline.domain.delivery import QuotaReading
from leads_pipeline.outbound.limiter_state import ForeignUse, WindowKey

# Of a window of 24 hours it is asked again so often whether there is room: nobody tells us when there is.
_LONGEST_VALIDITY_MS = 900_000
# A smaller measurement holds after a tenth of the window, of a long one after so long.
_LONGEST_HOLD_MS = 60_000
# One request finds out, the others wait so long for its answer.
_PROBE_MS = 5_000
# Their usual use is an average over some windows, of a budget of hours it is what was measured last.
_LONGEST_AVERAGED_SECONDS = 3_600
_AVERAGED_WINDOWS = 2


class Estimate(NamedTuple):
    """What is taken to be other applications' of a window, of which limit, and until when; Unix milliseconds."""

    used: int
    limit: int
    until: int


def measured(
    reading: QuotaReading,
    *,
    seconds: int,
    before: ForeignUse | None,
    ours: int,
    ours_now: int,
    most: int,
    on_its_way_ms: int,
    now_ms: int,
) -> ForeignUse | None:
    """What an answer tells of others' use of a window of so many ``seconds``.

    ``ours`` is how much of it we had been granted with the request's own grant, ``ours_now`` how much by the time of
    the answer, ``most`` our limit, for vendors that tell what remains and not of how much. ``on_its_way_ms`` is how
    long it may take from what an answer says to the next request's arrival. ``None``: nobody else is known to be there.

    Requests of several processes do not arrive in the order of their grants, so one answer may tell too little or too
    much by as many as overtook each other. Hence a larger measurement holds at once, a smaller one when the larger is a
    tenth of a window old, or a minute; and others are there only once more is used than all that we were granted.
    """
    limit = most if reading.limit is None else reading.limit
    used = limit - reading.remaining
    if before is None and used <= ours_now and limit >= most:
        return None
    count = max(0, used - ours)
    usual = float(count)
    if before is not None and before.limit == limit:
        passed = max(0, now_ms - before.measured_at)
        if count < before.measured and passed < min(seconds * 100, _LONGEST_HOLD_MS):
            return before
        if seconds <= _LONGEST_AVERAGED_SECONDS:
            usual += (before.usual - count) * math.exp(-passed / (_AVERAGED_WINDOWS * seconds * 1000))
    ahead = math.ceil(max(count, usual) * on_its_way_ms / (seconds * 1000))
    return ForeignUse(count, limit, now_ms, round(usual, 2), ahead)


def valid_until(use: ForeignUse, *, seconds: int) -> int:
    """How long a measurement is taken to go on; Unix milliseconds. Then one request finds out."""
    return use.measured_at + min(seconds * 1000, _LONGEST_VALIDITY_MS)


def in_window(known: Mapping[WindowKey, ForeignUse], key: WindowKey, *, most: int, now_ms: int) -> Estimate | None:
    """Others' use of a window: as measured, else as windows of other lengths suggest; ``None`` where nothing is known.

    What a longer window holds is taken to be spread by chance; what a shorter one holds, the longer one holds too. What
    is lent holds for as long as the measurement that it comes from.
    """
    if key in known:
        use, until = known[key], valid_until(known[key], seconds=key.seconds)
        return Estimate(use.used, use.limit, until) if now_ms < until else None
    related = {
        other.seconds: (use.used, until)
        for other, use in known.items()
        if other[:2] == key[:2] and now_ms < (until := valid_until(use, seconds=other.seconds))
    }
    longer = min((seconds for seconds in related if seconds > key.seconds), default=None)
    shorter = max((seconds for seconds in related if seconds < key.seconds), default=None)
    found = []
    if longer is not None:
        used, until = related[longer]
        found.append((_with_chance(used * key.seconds / longer), until))
    if shorter is not None:
        found.append(related[shorter])
    if not found:
        return None
    count, until = max(found)
    return Estimate(count, most, until)


def probing(use: ForeignUse, *, against: bool, seconds: int, now_ms: int) -> ForeignUse:
    """A measurement that has grown old, once a request has been let out.

    If it speaks ``against`` that request, no other is let out until the answer may be expected. Half of the usual use
    is remembered, so that what no answer speaks of any more fades away.
    """
    faded = int(use.usual) // 2
    if not against or faded == 0:
        return ForeignUse(faded, use.limit, now_ms, usual=faded, ahead=0)
    validity = min(seconds * 1000, _LONGEST_VALIDITY_MS)
    measured_at = now_ms - validity + min(_PROBE_MS, validity // 2)
    return ForeignUse(use.limit, use.limit, measured_at, usual=faded, ahead=0)


def _with_chance(expected: float) -> int:
    """What hardly more than so many, on average, come to in a stretch of time when they come by chance."""
    return math.ceil(expected + 2 * math.sqrt(expected))
