"""The buffer in PostgreSQL, for steps and commands (``PostgresBuffer``) and for the capture service
(``AsyncPostgresBuffer``). Both send the statements of ``storage.ingest``.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import sqlalchemy as sa

from leads_pipeline.buffer.port import BufferDepth, BufferedLead, EncodedLead, Moved, NewLead, Posted, PostResult
from leads_pipeline.buffer.reconnecting import ReconnectingConnection
from leads_pipeline.domain.ids import first_uuid7_at, midnight_before, uuid7
from leads_pipeline.domain.stage import Chunk, Lane
from leads_pipeline.errors import DatabaseUnavailable, Unavailability
from leads_pipeline.storage.database import translated_errors
from leads_pipeline.storage.ingest import (
    APPEND,
    APPEND_SETTING,
    DEPTHS,
    MOVE,
    MOVE_SETTINGS,
    TAKES_WRITES,
    TENANTS_WAITING,
)

# SQLSTATE 54: a limit of the program, such as the size of one jsonb value. With DataError, a refusal of this value.
_PROGRAM_LIMIT_CLASS = "54"
# Stands for a lead that ``APPEND`` did not send back: it was new.
_NEW = Posted(PostResult.ACCEPTED, UUID(int=0))
# Five million leads that were never vacuumed are counted in some seconds.
COUNT_SECONDS = 60.0


_json = msgspec.json.Decoder().decode


class PostgresBuffer:
    """The buffer for callers with an engine. ``append`` commits by itself."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def append(self, leads: Sequence[NewLead], *, now: datetime) -> list[Posted]:
        found: dict[UUID, Posted] = {}
        waiting = [[lead.encoded() for lead in leads]]
        while waiting:
            group = waiting.pop()
            if not group:
                continue
            try:
                with translated_errors("storing leads"), self._engine.begin() as connection:
                    connection.exec_driver_sql("set local {} = {}".format(*APPEND_SETTING))
                    rows = connection.exec_driver_sql(APPEND, append_parameters(group, now=now)).all()
            except sa.exc.DBAPIError as error:
                if not refuses_value(error.orig):
                    raise
                waiting.extend(_bisect(group, found))
                continue
            found.update(posted_from(group, rows))
            waiting.append([lead for lead in group if lead.lead_id not in found])
        return [found[lead.lead_id] for lead in leads]

    def move(self, connection: sa.Connection, chunk: Chunk) -> Moved:
        moved: list[BufferedLead] = []
        connection.exec_driver_sql(MOVE_SETTINGS)
        for lane in sorted(chunk.lanes, key=list(Lane).index):
            room = chunk.limit - len(moved)
            if room <= 0:
                break
            rows: Sequence[Any] = connection.exec_driver_sql(
                MOVE,
                {
                    "tenant": chunk.tenant,
                    "lane": str(lane),
                    "limit": room,
                    "batch_id": chunk.batch_id,
                    "runner_id": chunk.runner_id,
                    "now": chunk.now,
                },
            ).all()
            moved.extend(
                BufferedLead(lead_id, lane, received_at, _json(consent or "[]"), _json(context or "{}"))
                for lead_id, received_at, consent, context in rows
            )
        return Moved(moved)

    def tenants_waiting(self, connection: sa.Connection, *, lanes: Sequence[Lane]) -> list[str]:
        rows = connection.exec_driver_sql(TENANTS_WAITING, {"lanes": [str(lane) for lane in lanes]})
        return [row.tenant for row in rows]

    def depths(self, connection: sa.Connection) -> list[BufferDepth]:
        rows = connection.exec_driver_sql(DEPTHS)
        return [BufferDepth(row.tenant, Lane(row.lane), row.waiting, row.oldest_received_at) for row in rows]

    def close(self) -> None:
        """The engine is its owner's to close."""


class AsyncPostgresBuffer:
    """The buffer for the capture service: one connection of its own, one statement a commit."""

    def __init__(self, url: str, *, application_name: str) -> None:
        name, value = APPEND_SETTING
        # Whatever the database or the role says: a sender is answered for what a crash cannot take back.
        session = {name: value, "synchronous_commit": "on"}
        self._connection = ReconnectingConnection(url, application_name=application_name, session=session)

    async def append(self, leads: Sequence[EncodedLead], *, now: datetime) -> list[Posted]:
        found: dict[UUID, Posted] = {}
        waiting = [list(leads)]
        while waiting:
            group = waiting.pop()
            if not group:
                continue
            try:
                rows = await self._connection.fetch(APPEND, append_parameters(group, now=now))
            except psycopg.Error as error:
                if not refuses_value(error):
                    raise
                waiting.extend(_bisect(group, found))
                continue
            found.update(posted_from(group, rows))
            waiting.append([lead for lead in group if lead.lead_id not in found])
        return [found[lead.lead_id] for lead in leads]

    async def check(self) -> None:
        [(takes_writes,)] = await self._connection.fetch(TAKES_WRITES)
        if not takes_writes:
            raise DatabaseUnavailable("the database is read-only for now; try again", why=Unavailability.READ_ONLY)

    async def close(self) -> None:
        await self._connection.close()


class AsyncPostgresDepths:
    """What waits, for the capture service. On a connection of its own: a count may take longer than many commits."""

    def __init__(self, url: str, *, application_name: str) -> None:
        self._connection = ReconnectingConnection(url, application_name=application_name, answer_seconds=COUNT_SECONDS)

    async def read(self) -> list[BufferDepth]:
        """As ``LeadBuffer.depths``.

        Raises:
            DatabaseUnavailable: nothing is known.
        """
        return [BufferDepth(tenant, Lane(lane), *rest) for tenant, lane, *rest in await self._connection.fetch(DEPTHS)]

    async def close(self) -> None:
        """Let go of the connection."""
        await self._connection.close()


def append_parameters(leads: Sequence[EncodedLead], *, now: datetime) -> dict[str, Any]:
    """What ``APPEND`` is given: all leads as one JSON array, because adapting lists costs more than the insert."""
    midnight = midnight_before(now)
    begins, ends = first_uuid7_at(midnight), first_uuid7_at(midnight + timedelta(days=1))
    array = b"[" + b",".join(lead.json for lead in leads) + b"]"
    return {
        "leads": array.decode(),
        "batch_id": uuid7(now),
        "now": now,
        "of_one_day": all(begins <= lead.lead_id < ends for lead in leads),
    }


def posted_from(group: Sequence[EncodedLead], rows: Sequence[Any]) -> dict[UUID, Posted]:
    """What ``APPEND`` answered for a group, by the posted lead's id; without those that must be sent again."""
    known = {lead_id: _known(lead_id, first_lead_id, same_body) for lead_id, first_lead_id, same_body in rows}
    found: dict[UUID, Posted] = {}
    for lead in group:
        posted = known.get(lead.lead_id, _NEW)
        if posted is not None:
            found[lead.lead_id] = Posted(PostResult.ACCEPTED, lead.lead_id) if posted is _NEW else posted
    return found


def _known(lead_id: UUID, first_lead_id: UUID | None, same_body: bool | None) -> Posted | None:
    if first_lead_id is None:
        return None
    if first_lead_id == lead_id:
        return Posted(PostResult.ACCEPTED, lead_id)
    return Posted(PostResult.DUPLICATE if same_body else PostResult.KEY_REUSED, first_lead_id)


def refuses_value(error: BaseException | None) -> bool:
    """Whether PostgreSQL refused a value, and not the statement or the connection."""
    if not isinstance(error, psycopg.Error):
        return False
    return isinstance(error, psycopg.DataError) or (error.sqlstate or "").startswith(_PROGRAM_LIMIT_CLASS)


def _bisect(group: list[EncodedLead], found: dict[UUID, Posted]) -> list[list[EncodedLead]]:
    """Halve a refused group until the lead that cannot be stored is alone; then it is refused by itself."""
    if len(group) == 1:
        lead_id = group[0].lead_id
        found[lead_id] = Posted(PostResult.UNSTORABLE, lead_id)
        return []
    middle = len(group) // 2
    return [group[:middle], group[middle:]]
