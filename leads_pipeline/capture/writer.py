"""Group commit by natural batching: what arrives while one commit is under way shares the next one.

There is no timer. Measured against fixed windows of 2 and 5 ms, waiting only added latency; against a commit per lead,
sharing gave ten times the rate. A sender is answered after the commit that holds its lead.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

from leads_pipeline.buffer.port import AsyncLeadBuffer, EncodedLead, Posted
from leads_pipeline.clock import Clock
from leads_pipeline.errors import DatabaseUnavailable, LeadsError, Unavailability
from leads_pipeline.telemetry import get_logger

MAX_GROUP_LEADS = 1_000
# One commit is one jsonb array, which PostgreSQL holds to 256 MB; this also bounds how long others wait for it.
MAX_GROUP_BYTES = 8 * 1024 * 1024
# A restart of PostgreSQL takes a second or two: it is waited for, so that most senders see a slow answer, not a 503.
RECONNECT_PATIENCE_SECONDS = 2.0
RECONNECT_PAUSE_SECONDS = 0.1
# In safe mode every lead is refused at once, and the store is asked this often whether it is well again.
PROBE_PAUSE_SECONDS = 0.25


class QueueFull(LeadsError):
    """More leads wait for a commit than there is room for; the sender keeps the lead and tries again."""


class _Single:
    """The one lead of a request, as nearly every request has: the answer is its result."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done: asyncio.Future[Posted] = asyncio.get_running_loop().create_future()

    def settle(self, _index: int, posted: Posted) -> None:
        if not self.done.done():
            self.done.set_result(posted)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Submission:
    """The leads of one request, and how many of them still wait for their commit."""

    def __init__(self, leads: Sequence[EncodedLead]) -> None:
        self.results: list[Posted | None] = [None] * len(leads)
        self.missing = len(leads)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, index: int, posted: Posted) -> None:
        self.results[index] = posted
        self.missing -= 1
        if self.missing == 0 and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


_Queued = tuple[_Submission | _Single, int, EncodedLead]


class GroupCommit:
    """The only writer of the capture process. ``close`` finishes what ``submit`` took."""

    def __init__(self, buffer: AsyncLeadBuffer, *, clock: Clock, max_queued: int) -> None:
        self._buffer = buffer
        self._clock = clock
        self._max_queued = max_queued
        self._queue: deque[_Queued] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._closed = asyncio.Event()
        self._committing = False
        self.safe_mode: Unavailability | None = None
        self._task: asyncio.Task[None] | None = None
        self.commits = 0

    @property
    def queued(self) -> int:
        """Leads that no commit has taken up yet."""
        return len(self._queue)

    def has_room(self, leads: int) -> bool:
        """Whether so many more leads may wait. An empty queue takes any request, or a large one would never fit."""
        return not self._queue or len(self._queue) + leads <= self._max_queued

    async def check(self) -> None:
        """Raises ``DatabaseUnavailable`` or ``QueueFull`` unless a lead would be stored now."""
        if self.safe_mode is not None:
            raise DatabaseUnavailable("the store takes no leads for now", why=self.safe_mode)
        if not self._committing:  # a commit under way holds the connection, and will say by itself
            await self._buffer.check()
        if not self.has_room(1):
            raise QueueFull("the queue of the capture service is full")

    def start(self) -> None:
        """Begin to write, in a task of the running loop."""
        self._task = asyncio.create_task(self._write_until_closed(), name="group commit")

    async def submit(self, leads: Sequence[EncodedLead]) -> list[Posted]:
        """Store leads and return when they are durable, with one result each, in order.

        Raises:
            QueueFull: nothing was taken.
            DatabaseUnavailable: it is unknown which were stored; the same keys are safe to send again.
        """
        self._check_room(len(leads))
        if not leads:
            return []
        submission = _Submission(leads)
        self._queue.extend((submission, index, lead) for index, lead in enumerate(leads))
        self._arrived.set()
        await submission.done
        return [posted for posted in submission.results if posted is not None]

    async def submit_one(self, lead: EncodedLead) -> Posted:
        """``submit`` for a single lead."""
        self._check_room(1)
        single = _Single()
        self._queue.append((single, 0, lead))
        self._arrived.set()
        return await single.done

    def _check_room(self, leads: int) -> None:
        if self._closing:
            raise DatabaseUnavailable("the capture service is shutting down")
        if self.safe_mode is not None:
            raise DatabaseUnavailable("the store takes no leads for now", why=self.safe_mode)
        if not self.has_room(leads):
            raise QueueFull("the queue of the capture service is full")

    async def close(self) -> None:
        """Finish what was taken, then let go of the buffer."""
        self._closing = True
        self._closed.set()
        self._arrived.set()
        if self._task is not None:
            await self._task
        await self._buffer.close()

    async def _write_until_closed(self) -> None:
        while True:
            if self.safe_mode is not None and not self._closing:
                await self._recover()
            if not self._queue:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            group = self._next_group()
            self._committing = True
            try:
                results = await self._append_patiently([lead for _submission, _index, lead in group])
            except DatabaseUnavailable as error:
                self._enter_safe_mode(group, error)
            except Exception as error:  # noqa: BLE001 - the writer must outlive any one commit; the door answers 500
                get_logger(__name__).error("group commit failed", leads=len(group), error_class=type(error).__name__)
                for submission, _index, _lead in group:
                    submission.fail(error)
            else:
                self.commits += 1
                for (submission, index, _lead), posted in zip(group, results, strict=True):
                    submission.settle(index, posted)
            finally:
                self._committing = False

    def _next_group(self) -> list[_Queued]:
        group: list[_Queued] = []
        size = 0
        while self._queue and len(group) < MAX_GROUP_LEADS:
            size += len(self._queue[0][2].json)
            if group and size > MAX_GROUP_BYTES:
                break
            queued = self._queue.popleft()
            if not queued[0].done.done():  # failed with an earlier group: its sender was told to send again
                group.append(queued)
        return group

    async def _append_patiently(self, leads: Sequence[EncodedLead]) -> list[Posted]:
        """Append, also when the connection is lost on the way: the keys make the second try find what the first stored.

        A store that answers, but takes no writes, is not waited for.
        """
        loop = asyncio.get_running_loop()  # the pauses between two tries are of its time
        deadline = loop.time() + RECONNECT_PATIENCE_SECONDS
        while True:
            try:
                return await self._buffer.append(leads, now=self._clock.now())
            except DatabaseUnavailable as error:
                if error.why is not Unavailability.UNREACHABLE or loop.time() >= deadline:
                    raise
                await asyncio.sleep(RECONNECT_PAUSE_SECONDS)

    def _enter_safe_mode(self, group: Sequence[_Queued], error: DatabaseUnavailable) -> None:
        """Fail everyone who waits, at once: each of them still has its lead."""
        waiting, self._queue = self._queue, deque()
        get_logger(__name__).warning("safe mode began", why=error.why, refused=len(group) + len(waiting))
        self.safe_mode = error.why
        for submission, _index, _lead in [*group, *waiting]:
            submission.fail(error)

    async def _recover(self) -> None:
        """Ask the store until it takes leads again, or the service is to end.

        The pause comes first: a full disk answers every question and refuses the next lead, as often as it is asked.
        """
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), PROBE_PAUSE_SECONDS)
            try:
                await self._buffer.check()
            except DatabaseUnavailable as error:
                self.safe_mode = error.why
            except Exception as error:  # noqa: BLE001 - whatever the store says, the writer must not end over it
                get_logger(__name__).error("safe mode goes on", error_class=type(error).__name__)
            else:
                get_logger(__name__).info("safe mode ended")
                self.safe_mode = None
                return
