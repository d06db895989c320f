"""The buffer in Redis Streams, for steps and commands; ``redis_door`` is its other side.

One stream for each tenant and lane, one consumer group. A lead is committed by one script together with its key and
the counters. It is taken with an acknowledged read, written to PostgreSQL, and only then acknowledged and deleted. What
a dead worker had taken is given out again after ``LEASE``; PostgreSQL knows which of it was settled
(``storage.redis_moves``).
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import redis.exceptions
import sqlalchemy as sa

from leads_pipeline.buffer.port import BufferDepth, BufferedLead, Moved, NewLead, Posted
from leads_pipeline.buffer.postgresql import refuses_value
from leads_pipeline.buffer.redis_append import AppendCall, groups_of
from leads_pipeline.buffer.redis_connection import SETTINGS, connect, objections, refusal, translated_errors
from leads_pipeline.buffer.redis_entries import (
    Snapshot,
    Taken,
    as_text,
    by_lane,
    counted,
    depths_of,
    places_of,
    read_entry,
    read_taken,
)
from leads_pipeline.buffer.redis_keys import CAPTURED, CONSUMER, DUPLICATES, GROUP, INCARNATION, Keys
from leads_pipeline.buffer.redis_moved import RedisMoved, buffered, new_row
from leads_pipeline.buffer.redis_scripts import ACKNOWLEDGE, APPEND, TAKE, TRANSFER
from leads_pipeline.domain.ids import instant_of
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.storage import redis_moves
from leads_pipeline.telemetry import get_logger

# A chunk takes well under a second. What is taken longer ago than this belongs to a worker that is gone.
LEASE = timedelta(seconds=60)

_LANES = tuple(Lane)
_Entries = list[tuple[bytes, dict[bytes, bytes]]]
_PUT_BACK_AT_ONCE = 1_000


class RedisBuffer:
    """The buffer for callers with an engine; ``append`` commits by itself."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        key_seconds: int,
        accept_losing_a_second: bool = False,
        lease: timedelta = LEASE,
        seconds: float | None = None,
    ) -> None:
        self._client = connect(url, seconds=seconds)
        self.keys = Keys(prefix)
        self._key_seconds = key_seconds
        self._accept_losing_a_second = accept_losing_a_second
        self._lease = lease
        self._append = self._client.register_script(APPEND)
        self._take_script = self._client.register_script(TAKE)
        self._acknowledge_script = self._client.register_script(ACKNOWLEDGE)
        self._transfer = self._client.register_script(TRANSFER)
        self._is_trusted = False
        self.noted: str | None = None  # the name under which PostgreSQL knows this buffer, once it does

    # --- the way in ------------------------------------------------------------------------------------------------

    def append(self, leads: Sequence[NewLead], *, now: datetime) -> list[Posted]:
        self.verify()
        found: dict[UUID, Posted] = {}
        for group in groups_of([lead.encoded() for lead in leads]):
            call = AppendCall.of(group, keys=self.keys, key_seconds=self._key_seconds)
            found.update(call.refused)
            with self._translated("storing leads"):
                found.update(call.results(self._append(keys=call.keys, args=call.arguments)))
        return [found[lead.lead_id] for lead in leads]

    def verify(self) -> None:
        """Ask the server, once, whether it can be trusted with leads.

        Raises:
            ConfigError: it cannot; each reason says what to set.
            DatabaseUnavailable: it does not answer.
        """
        if self._is_trusted:
            return
        with self._translated("asking Redis for its settings"):
            info = self._client.info("everything")
            settings: Mapping[str | None, str | None] | None = None
            with contextlib.suppress(redis.exceptions.ResponseError, redis.exceptions.NoPermissionError):
                settings = self._client.config_get(*SETTINGS)
        found = objections(info, settings, accept_losing_a_second=self._accept_losing_a_second)
        if found:
            raise refusal(found)
        self._is_trusted = True

    def introduce(self, connection: sa.Connection, *, now: datetime) -> None:
        """Give the buffer its name, if it has none, and let PostgreSQL remember it: so is noticed if it is emptied."""
        self.verify()
        call = AppendCall.of([], keys=self.keys, key_seconds=self._key_seconds)
        with self._translated("naming the buffer"):
            self._append(keys=call.keys, args=call.arguments)
            name = as_text(self._client.hget(self.keys.counters, INCARNATION))
        if name is not None:
            redis_moves.note_incarnation(connection, name, now=now)

    # --- the way out -----------------------------------------------------------------------------------------------

    def move(self, connection: sa.Connection, chunk: Chunk) -> Moved:
        with self._translated("taking leads"):
            taken = self._take(chunk)
            if not taken:
                return Moved()
            name, captured = self._counters(chunk.tenant, taken)
        try:
            return self._store(connection, chunk, taken, name=name, captured=captured)
        except BaseException:
            self.give_back(chunk.tenant, taken)
            raise

    def _take(self, chunk: Chunk) -> list[Taken]:
        taken: list[Taken] = []
        for lane in sorted(chunk.lanes, key=_LANES.index):
            room = chunk.limit - len(taken)
            if room > 0:
                stream = self.keys.stream(chunk.tenant, lane)
                answer = self._take_script(keys=[stream], args=[GROUP, CONSUMER, self._lease_ms, room])
                taken.extend(read_taken(chunk.tenant, lane, *answer))
        return taken

    def _counters(self, tenant: str, taken: Sequence[Taken]) -> tuple[str | None, dict[tuple[str, Lane], int]]:
        """The buffer's name, and what the door counted for each source and lane in hand."""
        sources = sorted({(item.entry.source, item.lane) for item in taken if item.entry is not None})
        fields = [INCARNATION, *(f"{CAPTURED}{tenant}:{source}:{lane}" for source, lane in sources)]
        name, *counts = self._client.hmget(self.keys.counters, fields)
        captured = {key: int(count or 0) for key, count in zip(sources, counts, strict=True)}
        return as_text(name), captured

    def _store(
        self,
        connection: sa.Connection,
        chunk: Chunk,
        taken: Sequence[Taken],
        *,
        name: str | None,
        captured: Mapping[tuple[str, Lane], int],
    ) -> Moved:
        earlier = redis_moves.settled_earlier(connection, tenant=chunk.tenant)
        readable = [item for item in taken if item.entry is not None]
        fresh = [item for item in readable if item.entry is not None and item.entry.lead_id not in earlier]
        poison = [item for item in taken if item.entry is None]
        leads: list[BufferedLead] = []
        moved: defaultdict[tuple[str, Lane], Counter[date]] = defaultdict(Counter)
        duplicates: Counter[tuple[str, Lane]] = Counter()
        entries = [item.entry for item in fresh if item.entry is not None]
        if entries and redis_moves.store_new(connection, [new_row(entry) for entry in entries], chunk=chunk):
            for entry in entries:
                moved[entry.source, entry.lane][instant_of(entry.lead_id).date()] += 1
            leads.extend(buffered(entry) for entry in entries)
        else:
            for row in self._write(connection, chunk, fresh, poison):
                key = (row.source, Lane(row.lane))
                duplicates[key] += row.is_duplicate
                if row.is_new:
                    moved[key][instant_of(row.lead_id).date()] += 1
                    leads.append(
                        BufferedLead(row.lead_id, key[1], row.received_at, row.consent or [], row.context or {})
                    )
        settled = [item for item in readable if item not in poison] if poison else readable
        ids = [item.entry.lead_id for item in settled if item.entry is not None]
        counts = [
            redis_moves.Count(source, lane, moved[source, lane], duplicates[source, lane], captured[source, lane])
            for source, lane in sorted(captured)
        ]
        redis_moves.count_moves(connection, counts, tenant=chunk.tenant, batch_id=chunk.batch_id)
        note_id = uuid4()
        if ids:
            redis_moves.note_unacknowledged(connection, ids, tenant=chunk.tenant, note_id=note_id)
        return RedisMoved(
            self,
            chunk,
            leads,
            settled=settled,
            poison=poison,
            lead_ids=ids,
            note_id=note_id,
            earlier=sorted({earlier[lead_id] for lead_id in ids if lead_id in earlier}),
            duplicates=sum(duplicates.values()),
            name=name,
            engine=connection.engine,
        )

    def _write(
        self, connection: sa.Connection, chunk: Chunk, fresh: Sequence[Taken], poison: list[Taken]
    ) -> Iterator[Any]:
        """Write leads; halve a group that PostgreSQL refuses until what it refuses is alone, and add that to poison."""
        groups = [list(fresh)] if fresh else []
        while groups:
            group = groups.pop()
            parameters = {
                "leads": (b"[" + b",".join(item.json for item in group) + b"]").decode(),
                "tenant": chunk.tenant,
                "batch_id": chunk.batch_id,
                "runner_id": chunk.runner_id,
                "now": chunk.now,
            }
            try:
                with connection.begin_nested():
                    rows = connection.exec_driver_sql(redis_moves.STORE, parameters).all()
            except sa.exc.DBAPIError as error:
                if not refuses_value(error.orig):
                    raise
                if len(group) == 1:
                    poison.extend(group)
                else:
                    middle = len(group) // 2
                    groups.extend([group[middle:], group[:middle]])
                continue
            yield from rows

    def let_go(self, tenant: str, taken: Sequence[Taken]) -> None:
        """Acknowledge and delete leads that are safe in PostgreSQL. Repeating it changes nothing."""
        with self._translated("acknowledging leads"):
            for lane, ids in by_lane(taken).items():
                self._acknowledge_script(keys=[self.keys.stream(tenant, lane)], args=[GROUP, *ids])

    def give_back(self, tenant: str, taken: Sequence[Taken]) -> None:
        """Let others have the leads before the lease is over. If Redis is gone, the lease does it."""
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            for lane, ids in by_lane(taken).items():
                self._client.xclaim(
                    self.keys.stream(tenant, lane), GROUP, CONSUMER, 0, list(ids), idle=self._lease_ms, justid=True
                )

    def put_aside(self, tenant: str, taken: Sequence[Taken], *, reason: str) -> None:
        """Move leads where they hold nobody up; ``put_back`` is the way back."""
        with self._translated("setting leads aside"):
            for lane, ids in by_lane(taken).items():
                streams = [self.keys.stream(tenant, lane), self.keys.aside(tenant, lane)]
                self._transfer(keys=streams, args=[GROUP, reason, *ids])
        get_logger(__name__).error("set_aside", tenant=tenant, leads=len(taken), reason=reason)

    def put_back(self, tenant: str, *, lanes: Sequence[Lane] = _LANES) -> int:
        """Let what was set aside wait again, behind what waits. Says how many leads."""
        returned = 0
        with self._translated("putting leads back"):
            for lane in lanes:
                aside = self.keys.aside(tenant, lane)
                for _ in range(0, self._client.xlen(aside), _PUT_BACK_AT_ONCE):
                    entries = cast("_Entries", self._client.xrange(aside, count=_PUT_BACK_AT_ONCE))
                    ids = [entry_id for entry_id, _fields in entries]
                    returned += int(self._transfer(keys=[aside, self.keys.stream(tenant, lane)], args=["", "", *ids]))
        return returned

    def correct_captured(self, tenant: str, source: str, lane: Lane, leads: int) -> None:
        """Add to what the door counted, after a loss that an operator has accepted."""
        with self._translated("correcting a counter"):
            self._client.hincrby(self.keys.counters, f"{CAPTURED}{tenant}:{source}:{lane}", leads)

    # --- looking ---------------------------------------------------------------------------------------------------

    def tenants_waiting(self, connection: sa.Connection | None = None, *, lanes: Sequence[Lane]) -> list[str]:
        """The tenants with something that could be taken now: what another worker holds is not."""
        with self._translated("looking what waits"):
            places = [(tenant, lane) for tenant, lane in self._places() if lane in lanes]
            with self._client.pipeline(transaction=False) as pipe:
                for tenant, lane in places:
                    stream = self.keys.stream(tenant, lane)
                    pipe.xlen(stream)
                    pipe.xpending(stream, GROUP)
                    pipe.xpending_range(stream, GROUP, "-", "+", 1, idle=self._lease_ms)
                answers = pipe.execute(raise_on_error=False)
        found: set[str] = set()
        for (tenant, _lane), (length, held, abandoned) in zip(
            places, zip(*[iter(answers)] * 3, strict=True), strict=True
        ):
            if isinstance(length, Exception):
                raise length
            held_count = 0 if isinstance(held, Exception) else held["pending"]
            if length > held_count or (not isinstance(abandoned, Exception) and abandoned):
                found.add(tenant)
        return sorted(found)

    def depths(self, connection: sa.Connection | None = None) -> list[BufferDepth]:
        with self._translated("counting what waits"):
            places = self._places()
            with self._client.pipeline(transaction=False) as pipe:
                for tenant, lane in places:
                    pipe.xlen(self.keys.stream(tenant, lane))
                    pipe.xrange(self.keys.stream(tenant, lane), count=1)
                answers = pipe.execute()
        return depths_of(places, answers)

    def snapshot(self) -> Snapshot:
        """What Redis holds, read at one instant."""
        while True:
            with self._translated("counting what Redis holds"):
                places = self._places()
                with self._client.pipeline(transaction=True) as pipe:
                    pipe.hgetall(self.keys.counters)
                    for tenant, lane in places:
                        pipe.xlen(self.keys.stream(tenant, lane))
                        pipe.xlen(self.keys.aside(tenant, lane))
                    counters, *lengths = pipe.execute()
            if places_of(counters) == places:  # else a tenant's first lead came in between
                break
        return Snapshot(
            incarnation=counters[INCARNATION.encode()].decode() if INCARNATION.encode() in counters else None,
            captured=counted(counters, CAPTURED),
            duplicates=counted(counters, DUPLICATES),
            waiting=dict(zip(places, lengths[0::2], strict=True)),
            aside=dict(zip(places, lengths[1::2], strict=True)),
        )

    def taken_lead_ids(self) -> set[tuple[str, Lane, UUID]]:
        """The leads that workers have taken and not acknowledged, whether or not those workers still live."""
        found: set[tuple[str, Lane, UUID]] = set()
        with self._translated("reading what workers hold"):
            for tenant, lane in self._places():
                stream = self.keys.stream(tenant, lane)
                try:
                    held = self._client.xpending(stream, GROUP)["pending"]
                    ids = self._client.xpending_range(stream, GROUP, "-", "+", held) if held else []
                except redis.exceptions.ResponseError as error:
                    if not _has_no_group(error):
                        raise
                    continue
                with self._client.pipeline(transaction=False) as pipe:
                    for item in ids:
                        pipe.xrange(stream, item["message_id"], item["message_id"])
                    for entries in pipe.execute():
                        for entry_id, fields in entries:
                            entry = read_entry(tenant, lane, entry_id, fields).entry
                            if entry is not None:
                                found.add((tenant, lane, entry.lead_id))
        return found

    def close(self) -> None:
        self._client.close()

    # --- small parts -----------------------------------------------------------------------------------------------

    @property
    def _lease_ms(self) -> int:
        return int(self._lease / timedelta(milliseconds=1))

    def _places(self) -> list[tuple[str, Lane]]:
        """Every tenant and lane that the door ever counted a lead for."""
        return places_of(self._client.hkeys(self.keys.counters))

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            with translated_errors(doing):
                yield
        except Exception:
            self._is_trusted = False  # it may come back as another server, or with other settings
            raise


def _has_no_group(error: redis.exceptions.ResponseError) -> bool:
    return "NOGROUP" in str(error) or "no such key" in str(error)
