"""How a receiver's answer is read: as Standard Webhooks has it, and by a result for each event where it gives them.

``{"results": [{"id": …, "status": "delivered"}, …]}``: ``id`` is the event's, ``status`` one of ``STATUSES``; ``code``,
``message``, ``record_id``, ``retry_after`` and ``properties`` may stand beside it. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from leads_pipeline.crm.parts import Refusal, unanswered
from leads_pipeline.crm.port import CrmRecord, CrmResponse, RecordVerdict, Verdict
from leads_pipeline.crm.webhook.events import event_id
from leads_pipeline.outbound.retry_after import LONGEST_SECONDS, retry_after_seconds
from leads_pipeline.outbound.transport import HttpAnswer

# What a receiver may say of one event. Of its credentials, and of what it does not know itself, it has nothing to say.
STATUSES = tuple(verdict for verdict in Verdict if verdict not in (Verdict.AUTH, Verdict.AMBIGUOUS))

# A receiver that is slow to say how long is asked again after this.
_PAUSE_SECONDS = 10.0
# One that wants no more is hardly asked again, though soon enough for whoever has mended the address.
_GONE_PAUSE_SECONDS = 900.0

_THROTTLED = frozenset({425, 429})
# The server may have taken it before it failed.
_MAYBE_TAKEN = frozenset({408, 500, 502, 504, 520, 524})
_SETUP = {
    401: "the receiver refuses our signature or its headers: compare destinations.NAME.secret and headers with it",
    403: "the receiver refuses our signature or its headers: compare destinations.NAME.secret and headers with it",
    404: "nothing is at destinations.NAME.url: mend it",
    405: "what is at destinations.NAME.url takes no POST: mend it",
    407: "a proxy on the way wants credentials: mend destinations.NAME.url",
    410: "the receiver wants no more events: take the destination out of leads.yaml, or give it another url",
}
_REDIRECTED = "destinations.NAME.url leads elsewhere, and what is signed is not sent on: name the address it leads to"
_ADVICE = {
    413: "the receiver takes no event of this size: map fewer properties, or let it take more",
    415: "the receiver takes no application/json: let it take what Standard Webhooks sends",
}
_UNREPORTED = (
    "the receiver took the request and said nothing of this event: let it answer as docs/destinations.md says, or set "
    "destinations.NAME.batch_size to 1"
)

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_MAX_MESSAGE, _MAX_ID = 1000, 255


def response_of(answer: HttpAnswer, *, now: datetime) -> CrmResponse:
    """What the status and the headers say, in the port's words."""
    asked = retry_after_seconds(answer.headers.get("retry-after"), now=now)
    pause = asked if answer.status == 503 else None
    if answer.status in _THROTTLED:
        pause = asked if asked is not None else _PAUSE_SECONDS
    elif answer.status == 410:
        pause = _GONE_PAUSE_SECONDS
    return CrmResponse(
        status=answer.status,
        body=answer.body,
        text=answer.text,
        throttled=answer.status in _THROTTLED,
        pause_seconds=pause,
    )


def refusal_of(response: CrmResponse) -> Refusal | None:
    """Why nothing of a request was taken; ``None`` when it was."""
    lost = unanswered(response)
    status = response.status
    if lost is not None or status is None:
        return lost
    if 200 <= status < 300:
        return None
    code = f"HTTP_{status}"
    if status in _SETUP:
        return Refusal(Verdict.AUTH, "GONE" if status == 410 else code, explanation=_SETUP[status])
    if 300 <= status < 400:
        return Refusal(Verdict.AUTH, "REDIRECTED", explanation=_REDIRECTED)
    if status in _THROTTLED:
        return Refusal(Verdict.THROTTLED, code, retry_after=response.pause_seconds)
    if status in (409, 423):
        return Refusal(Verdict.LOCKED if status == 423 else Verdict.CONFLICT, code, divisible=status == 409)
    if status in _MAYBE_TAKEN:
        return Refusal(Verdict.AMBIGUOUS, code)
    if status >= 500:
        return Refusal(Verdict.TRANSIENT, code, retry_after=response.pause_seconds)
    said = _message(response.body, response.text)
    return Refusal(
        Verdict.INVALID, code, divisible=True, explanation=" ".join(filter(None, (said, _ADVICE.get(status)))) or None
    )


def read_results(part: Sequence[CrmRecord], response: CrmResponse, *, batches: bool) -> list[RecordVerdict]:
    """One verdict for each record of ``part``.

    A 2xx to a request of one event is that event's own result. Of several, each is delivered by its own entry alone.
    """
    results = response.body.get("results") if isinstance(response.body, dict) else None
    if not isinstance(results, list):
        if not batches:
            return [RecordVerdict(record.outbox_id, Verdict.DELIVERED) for record in part]
        results = []
    entries = {entry["id"]: entry for entry in results if isinstance(entry, dict) and isinstance(entry.get("id"), str)}
    return [_verdict(record, entries.get(event_id(record))) for record in part]


def _verdict(record: CrmRecord, entry: Mapping[str, Any] | None) -> RecordVerdict:
    if entry is None:
        return RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS, code="NOT_REPORTED", explanation=_UNREPORTED)
    status, code, record_id = entry.get("status"), entry.get("code"), entry.get("record_id")
    if status not in STATUSES:
        advice = f"a result's status is one of {', '.join(STATUSES)}"
        return RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS, code="UNKNOWN_STATUS", explanation=advice)
    named = entry.get("properties")
    return RecordVerdict(
        record.outbox_id,
        Verdict(status),
        code=code if isinstance(code, str) and _CODE.fullmatch(code) else None,
        crm_record_id=record_id if isinstance(record_id, str) and 0 < len(record_id) <= _MAX_ID else None,
        explanation=_message(entry, ""),
        retry_after=_seconds(entry.get("retry_after")),
        refused_properties=tuple(name for name in record.properties if isinstance(named, list) and name in named),
    )


def _message(body: Any, text: str) -> str | None:
    said = body.get("message") or body.get("error") if isinstance(body, dict) else text
    return said[:_MAX_MESSAGE] if isinstance(said, str) and said else None


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(value, LONGEST_SECONDS)) if value >= 0 else None  # an integer may be too large for a float
