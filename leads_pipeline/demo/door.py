"""Sends leads through the HTTP door, as a browser (one by one) and as a partner (in batches) would.

A lead that the door did not take for now (503, a lost connection) is sent again: the door recognises it.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from leads_pipeline.errors import LeadsError

_SINGLES_AT_ONCE = 24
_BATCHES_AT_ONCE = 2
_TRIES = 5


@dataclass(frozen=True, slots=True)
class DemoLead:
    """A lead and the person that it really is; ``truth`` is ``None`` where nobody knows."""

    source: str
    payload: dict[str, Any]
    truth: str | None


@dataclass(slots=True)
class Sent:
    """What the door answered. ``truth_of`` maps the ids of captured leads to the person they are."""

    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    truth_of: dict[str, str] = field(default_factory=dict)

    def note(self, lead: DemoLead, *, lead_id: str, duplicate: bool) -> None:
        if duplicate:
            self.duplicates += 1
            return
        self.accepted += 1
        if lead.truth is not None:
            self.truth_of[lead_id] = lead.truth


async def send_leads(
    leads: Sequence[DemoLead],
    *,
    url: str,
    keys: dict[str, str],
    singles: int,
    batch_size: int,
    advance: Callable[[int], None],
) -> Sent:
    """Post the first ``singles`` leads one by one, many at once, and the rest in NDJSON batches per source.

    Re-posts must meet their originals, so a lead's order within its source is kept between the two ways.

    Raises:
        LeadsError: the door kept refusing, or refused a request that is the demo's own fault.
    """
    sent = Sent()
    limits = httpx.Limits(max_connections=_SINGLES_AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as client:
        gate = asyncio.Semaphore(_SINGLES_AT_ONCE)

        async def send_one(lead: DemoLead) -> None:
            async with gate:
                answer = await _post(
                    client, "/v1/leads", json.dumps(lead.payload), "application/json", keys[lead.source]
                )
                if answer.status_code in (200, 202):
                    body = answer.json()
                    sent.note(lead, lead_id=body["lead_id"], duplicate=answer.status_code == 200)
                else:
                    sent.refused += 1
                advance(1)

        await asyncio.gather(*(send_one(lead) for lead in leads[:singles]))

        wide_gate = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def send_batch(source: str, batch: Sequence[DemoLead]) -> None:
            async with wide_gate:
                body = "\n".join(json.dumps(lead.payload) for lead in batch)
                answer = await _post(client, "/v1/leads/batch", body, "application/x-ndjson", keys[source])
                if answer.status_code != 202:
                    raise LeadsError(f"the door refused a batch with {answer.status_code}: {answer.text[:300]}")
                for item in answer.json()["results"]:
                    if item["status"] == "refused":
                        sent.refused += 1
                    else:
                        lead = batch[item["index"]]
                        sent.note(lead, lead_id=item["lead_id"], duplicate=item["status"] == "duplicate")
                advance(len(batch))

        by_source: dict[str, list[DemoLead]] = {}
        for lead in leads[singles:]:
            by_source.setdefault(lead.source, []).append(lead)
        await asyncio.gather(
            *(
                send_batch(source, of_source[start : start + batch_size])
                for source, of_source in by_source.items()
                for start in range(0, len(of_source), batch_size)
            )
        )
    return sent


async def _post(client: httpx.AsyncClient, path: str, body: str, content_type: str, key: str) -> httpx.Response:
    headers = {"Content-Type": content_type, "Authorization": f"Bearer {key}"}
    for attempt in range(1, _TRIES + 1):
        try:
            answer = await client.post(path, content=body.encode(), headers=headers)
        except httpx.TransportError as error:
            if attempt == _TRIES:
                raise LeadsError(f"the door did not answer {path}: {type(error).__name__}") from error
        else:
            if answer.status_code != 503 or attempt == _TRIES:
                return answer
        await asyncio.sleep(0.2 * 2**attempt)
    raise AssertionError("the last try returns or raises")
