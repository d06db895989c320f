"""``POST /v1/outcomes``: what became of leads after delivery, told by whoever mails or sells.

Posted with an API key of scope ``outcomes``, which can do nothing else, over a connection of its own whose role may add
outcomes and read nothing of them but their ids. So whether a lead or contact of that id exists is not judged here: what
matches none is kept and shown as unmatched (``storage.outcomes``). Answered when it is committed.
"""

import json
from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from leads_pipeline.buffer.reconnecting import ReconnectingConnection
from leads_pipeline.capture.bodies import JSON_TYPES, media_type
from leads_pipeline.capture.call import Answer, Call, as_json, refusal
from leads_pipeline.capture.key_ring import KeyHolder
from leads_pipeline.capture.refusals import Code, Refused
from leads_pipeline.domain.ids import sorted_uuid7s
from leads_pipeline.domain.outcomes import Outcome, read_outcome
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.storage.api_keys import KeyScope

if TYPE_CHECKING:
    from datetime import datetime

    from leads_pipeline.capture.door import Door

OUTCOMES_PATH = "/v1/outcomes"
MAX_OUTCOMES = 1_000
MAX_BODY_BYTES = 1_048_576

# A conflict of either constraint is a repetition: no target is named, which would need the right to read it. The row
# that was there first stays. In the order of the keys, so that two posts of the same events cannot deadlock.
_INSERT = """
    insert into outcomes (
        outcome_id, tenant, kind, lead_id, contact_id, key_sha256, amount, key_id, occurred_at, received_at
    )
    select t.outcome_id, %(tenant)s, t.kind, t.lead_id, t.contact_id, decode(t.key_sha256, 'hex'), t.amount,
        %(key_id)s, t.occurred_at, %(received_at)s
    from jsonb_to_recordset(%(rows)s::jsonb) as t(
        outcome_id uuid, kind text, lead_id uuid, contact_id uuid, key_sha256 text, amount numeric,
        occurred_at timestamptz
    )
    order by t.key_sha256, t.outcome_id
    on conflict do nothing
    returning outcome_id
"""


class OutcomeStore:
    """One worker's way to the outcomes. It connects with the first of them."""

    def __init__(self, *, database_url: str) -> None:
        self._connection = ReconnectingConnection(
            database_url, application_name="leads_capture outcomes", session={"synchronous_commit": "on"}
        )

    async def add(self, outcomes: Sequence[Outcome], *, holder: KeyHolder, now: "datetime") -> list[bool]:
        """Add outcomes, and say of each whether it is new: the first of several with one key.

        Raises:
            DatabaseUnavailable: which of them were stored is unknown; the same are safe to send again.
        """
        if not outcomes:
            return []
        ids = sorted_uuid7s(now, len(outcomes))
        parameters = {
            "tenant": holder.tenant,
            "key_id": holder.key_id,
            "received_at": now,
            "rows": json.dumps([_row(outcome_id, item) for outcome_id, item in zip(ids, outcomes, strict=True)]),
        }
        try:
            stored = await self._connection.fetch(_INSERT, parameters)
        except DatabaseUnavailable:  # as after every restart of PostgreSQL: the next statement connects anew
            stored = await self._connection.fetch(_INSERT, parameters)
        new: set[UUID] = {outcome_id for (outcome_id,) in stored}
        return [outcome_id in new for outcome_id in ids]

    async def close(self) -> None:
        await self._connection.close()


def _row(outcome_id: UUID, outcome: Outcome) -> dict[str, str | None]:
    return {
        "outcome_id": str(outcome_id),
        "kind": outcome.kind,
        "lead_id": str(outcome.lead_id) if outcome.lead_id else None,
        "contact_id": str(outcome.contact_id) if outcome.contact_id else None,
        "key_sha256": outcome.key_sha256.hex(),
        "amount": None if outcome.amount is None else str(outcome.amount),
        "occurred_at": outcome.occurred_at.isoformat(),
    }


async def post_outcomes(door: "Door", call: Call) -> Answer:
    """One outcome: 202 when it is durable, 200 when it came before. A list of them: 202 with one result each."""
    holder = await _holder(door, call)
    if isinstance(holder, Refused):
        return refusal(holder, call)
    given = await _body(call)
    if isinstance(given, Refused):
        return refusal(given, call)
    now = door.clock.now()
    if isinstance(given, dict):
        outcome = read_outcome(given, now=now)
        if not isinstance(outcome, Outcome):
            return refusal(Refused(Code.INVALID_OUTCOME, fields=outcome), call)
        [new] = await door.outcomes.add([outcome], holder=holder, now=now)
        return as_json(202 if new else 200, {"status": _status(new=new)})
    return as_json(202, await _add_each(door, given, holder=holder, request_id=call.request_id, now=now))


async def _add_each(
    door: "Door", given: Sequence[object], *, holder: KeyHolder, request_id: str, now: "datetime"
) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    read: list[Outcome] = []
    places: list[int] = []
    for index, item in enumerate(given):
        outcome = _read_item(item, now=now)
        if isinstance(outcome, Refused):
            error = {"status": outcome.refusal.status, **outcome.error(request_id)}
            results.append({"index": index, "status": "refused", "error": error})
        else:
            results.append({"index": index})
            read.append(outcome)
            places.append(index)
    for index, new in zip(places, await door.outcomes.add(read, holder=holder, now=now), strict=True):
        results[index]["status"] = _status(new=new)
    tally = {status: sum(item["status"] == status for item in results) for status in STATUSES}
    return {**tally, "results": results}


STATUSES = ("accepted", "duplicate", "refused")


def _status(*, new: bool) -> str:
    return STATUSES[0] if new else STATUSES[1]


def _read_item(item: object, *, now: "datetime") -> Outcome | Refused:
    if not isinstance(item, dict):
        return Refused(Code.NOT_AN_OBJECT)
    outcome = read_outcome(item, now=now)
    return outcome if isinstance(outcome, Outcome) else Refused(Code.INVALID_OUTCOME, fields=outcome)


async def _holder(door: "Door", call: Call) -> KeyHolder | Refused:
    """Whose key it is, and whether it may tell now. A key in the address is not looked at: proxies write it down."""
    holder = await door.keys.holder_of(call.key_in_headers)
    if holder is None or holder.tenant not in door.settings.tenants:
        return Refused(Code.BAD_KEY, headers=(("WWW-Authenticate", 'Bearer realm="leads"'),))
    if holder.scope is not KeyScope.OUTCOMES:
        return Refused(Code.WRONG_SCOPE)
    wait = door.rates.wait_seconds(holder.key_id, door.settings.capture.rate, now=door.clock.monotonic())
    return Refused(Code.TOO_MANY_REQUESTS, wait_seconds=ceil(wait)) if wait else holder


async def _body(call: Call) -> dict[object, object] | list[object] | Refused:
    kind = media_type(call.headers, JSON_TYPES)
    if isinstance(kind, Refused):
        return kind
    body = await call.body(limit=MAX_BODY_BYTES)
    if isinstance(body, Refused):
        return body
    try:
        given = msgspec.json.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
        return Refused(Code.MALFORMED_JSON)
    if isinstance(given, list):
        return given if len(given) <= MAX_OUTCOMES else Refused(Code.TOO_MANY_OUTCOMES)
    return given if isinstance(given, dict) else Refused(Code.NOT_AN_OBJECT)
