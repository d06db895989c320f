"""Senders that do not give up: each posts numbered leads, and posts each again as it was until it is acknowledged.

They run in a thread with an event loop of its own, over plain sockets: a client library would be slower than the door.
What they were told stands in the ``Ledger``, and the test compares it with what is stored.
"""

import asyncio
import itertools
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

import msgspec
import uvloop

from leads_pipeline.domain.ids import instant_of

SENDERS = 64
ANSWER_SECONDS = 30.0
# Retry-After is honoured, but not for longer: a recovery is measured, and a test must end.
LONGEST_PAUSE_SECONDS = 3.0
_TRY_AGAIN = (429, 503)


@dataclass
class Ledger:
    """What the senders were told. Written by their thread only; ``wrong`` holds what no sender may ever see."""

    acknowledged: dict[int, bytes] = field(default_factory=dict)  # a lead's number → its id
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    posted: int = 0  # numbers given out
    longest_gap: float = 0.0  # seconds without an acknowledgement, since it was last set to 0
    last_at: float = field(default_factory=time.monotonic)
    last_id: UUID | None = None

    @property
    def refused(self) -> int:
        """Requests that were told to come again."""
        return sum(count for said, count in self.answers.items() if said[:3] in ("429", "503"))

    def last_id_ahead_seconds(self) -> float:
        """How far the clock that made the last acknowledged id is ahead of this machine's."""
        return instant_of(self.last_id).timestamp() - time.time() if self.last_id else 0.0

    def acknowledge(self, number: int, lead_id: str) -> None:
        now = time.monotonic()
        self.longest_gap = max(self.longest_gap, now - self.last_at)
        self.last_at = now
        self.last_id = UUID(lead_id)
        stored = self.last_id.bytes
        if self.acknowledged.setdefault(number, stored) != stored:
            self.wrong.append(f"lead {number} was acknowledged under two ids")


@dataclass(frozen=True)
class Post:
    """One request: the numbers of its leads, and its bytes, the same at every try."""

    numbers: tuple[int, ...]
    request: bytes
    is_batch: bool


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    retry_after: float


class SenderLost(Exception):
    """The connection ended before the answer did, or was ended on purpose."""


class Senders:
    """So many retrying clients; the last ``batchers`` of them post batches of ``batch_leads``.

    ``impatience`` is the share of requests that are broken off: in mid-body, or before the answer is read.
    """

    def __init__(
        self,
        port: int,
        key: str,
        *,
        senders: int = SENDERS,
        batchers: int = 8,
        batch_leads: int = 20,
        pause_seconds: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.ledger = Ledger()
        self.impatience = 0.01
        self._port = port
        self._key = key
        self._senders = senders
        self._pause_seconds = pause_seconds
        self._batchers = batchers
        self._batch_leads = batch_leads
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="senders", daemon=True)

    def start(self) -> None:
        self.ledger.last_at = time.monotonic()
        self._thread.start()

    def finish(self, *, seconds: float) -> None:
        """Give out no more leads and wait until those given out are acknowledged."""
        self._ending = True
        self._thread.join(timeout=seconds)
        assert not self._thread.is_alive(), f"a lead was still refused after {seconds} s: {self.ledger.answers}"

    @property
    def are_done(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._send_all())

    async def _send_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for sender in range(self._senders):
                group.create_task(self._send_until_the_end(in_batches=sender >= self._senders - self._batchers))

    async def _send_until_the_end(self, *, in_batches: bool) -> None:
        wire = _Wire(self._port)
        try:
            while numbers := self._next(self._batch_leads if in_batches else 1):
                await self._send(wire, self._post_of(numbers, in_batch=in_batches))
                await asyncio.sleep(self._pause_seconds)
        finally:
            wire.drop()

    def _next(self, count: int) -> tuple[int, ...]:
        if self._ending:
            return ()
        numbers = tuple(itertools.islice(self._numbers, count))
        self.ledger.posted += len(numbers)
        return numbers

    def _post_of(self, numbers: tuple[int, ...], *, in_batch: bool) -> Post:
        leads = [{"number": number, "email": f"p{number}@chaos.example", "last_name": "Chaos"} for number in numbers]
        kind = "application/json"
        if not in_batch:
            body = json.dumps(leads[0])
        elif numbers[0] % 2:
            body = json.dumps(leads)
        else:
            body, kind = "\n".join(json.dumps(lead) for lead in leads), "application/x-ndjson"
        # Most under the sender's own key; the others are known again by what they say.
        named = f"Idempotency-Key: post-{numbers[0]}\r\n" if numbers[0] % 5 else ""
        head = (
            f"POST /v1/leads{'/batch' if in_batch else ''} HTTP/1.1\r\nHost: chaos\r\nContent-Type: {kind}\r\n"
            f"Authorization: Bearer {self._key}\r\n{named}Content-Length: {len(body)}\r\n\r\n"
        )
        return Post(numbers, (head + body).encode(), in_batch)

    async def _send(self, wire: "_Wire", post: Post) -> None:
        for attempt in itertools.count():
            try:
                answer = await self._ask(wire, post)
            except (OSError, asyncio.IncompleteReadError, SenderLost):
                wire.drop()
                self.ledger.answers["connection lost"] += 1
                await self._pause(0.05 * 2 ** min(attempt, 4))
                continue
            if answer.status in _TRY_AGAIN:
                self.ledger.answers[f"{answer.status} {_code(answer)}"] += 1
                await self._pause(answer.retry_after)
            elif answer.status in (200, 202):
                if self._take(post, answer):
                    return
                await self._pause(0.2)
            else:
                self.ledger.answers[f"{answer.status} {_code(answer)}"] += 1
                self.ledger.wrong.append(f"answered {answer.status} {_code(answer)}")
                return

    async def _ask(self, wire: "_Wire", post: Post) -> Answer:
        if self._random.random() >= self.impatience:
            return await wire.ask(post.request)
        if self._random.random() < 0.5:
            await wire.send(post.request[: self._random.randrange(1, len(post.request))])
        else:
            await wire.send(post.request)
        raise SenderLost

    def _take(self, post: Post, answer: Answer) -> bool:
        """Write down what was acknowledged; whether all of it was."""
        said = msgspec.json.decode(answer.body)
        if not post.is_batch:
            self.ledger.answers[f"{answer.status} {said['status']}"] += 1
            self.ledger.acknowledge(post.numbers[0], said["lead_id"])
            return True
        self.ledger.answers[f"{answer.status} batch"] += 1
        whole = True
        for number, item in zip(post.numbers, said["results"], strict=True):
            if item["status"] != "refused":
                self.ledger.acknowledge(number, item["lead_id"])
                continue
            whole = False
            self.ledger.answers[f"{item['error']['status']} {item['error']['code']} in a batch"] += 1
            if item["error"]["status"] not in _TRY_AGAIN:
                self.ledger.wrong.append(f"a lead of a batch was refused as {item['error']['code']}")
                whole = True
        return whole

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, LONGEST_PAUSE_SECONDS) * self._random.uniform(1, 1.5))


class _Wire:
    """One connection to the door, made anew when it is needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> asyncio.StreamReader:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        return reader

    async def ask(self, request: bytes) -> Answer:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader = await self.send(request)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers["content-length"]))
        except TimeoutError:
            raise SenderLost from None
        if headers.get("connection") == "close":
            self.drop()
        return Answer(int(head[0].split(" ")[1]), body, float(headers.get("retry-after", "1")))

    def drop(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


def _code(answer: Answer) -> str:
    try:
        code: str = msgspec.json.decode(answer.body)["error"]["code"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return "?"
    return code
