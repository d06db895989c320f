"""A table of any PostgreSQL database: one row for each contact, one transaction for each batch.

A request is a transaction, and takes its turn at the limiter as one. Rows are known by our contact id, and hold the
version that they show: an older one changes nothing. The books have a status as HTTP would say it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.rows import dict_row

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.config import SqlSettings
from leads_pipeline.crm.parts import Refusal, in_parts, unanswered
from leads_pipeline.crm.port import (
    Courier,
    CrmRecord,
    CrmRequest,
    CrmResponse,
    NetworkFailure,
    RecordVerdict,
    Traits,
    Verdict,
)
from leads_pipeline.crm.sql_table.schema import misfits, schema_of
from leads_pipeline.crm.sql_table.sessions import NotConnected, Sessions, readable_url
from leads_pipeline.crm.sql_table.sqlstates import (
    DATATYPE_MISMATCH,
    QUERY_CANCELED,
    UNDEFINED_COLUMN,
    Fault,
)
from leads_pipeline.crm.sql_table.statements import COLUMNS, TYPES, Table, table_of
from leads_pipeline.crm.sql_table.transaction import RefusedWhole, Row, RowWriter, fault_of
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.domain.snapshot import is_empty
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.access_tokens import TokenStore

# A withdrawal of consent, of a contact of whom nothing else may be sent any more.
_UPDATE = "update"
_DESCRIBE = "describe"

_TOO_LONG = Fault(QUERY_CANCELED)
_TIME_OUTS_TO_HALVE_IN = 4

_NEWER = (
    "the table holds a newer version of this contact, as after our database was set back to an earlier day: delete the "
    "row, or empty its version"
)


class SqlTable:
    """One table, as ``CrmClient``."""

    def __init__(
        self, sessions: Sessions, table: Table, *, batch_size: int, timeout_seconds: float, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._table = table
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._is_as_needed = False
        self._traits = Traits(
            max_batch=batch_size, partial_updates=False, operations=frozenset(Operation), withdrawals=True
        )

    @property
    def traits(self) -> Traits:
        """See ``CrmClient.traits``."""
        return self._traits

    def close(self) -> None:
        """Close the connections."""
        self._sessions.close()

    def send(self, request: CrmRequest) -> CrmResponse:
        """Carry out one request in a transaction of its own. Never raises for what a database can do."""
        try:
            connection = self._sessions.begin()
        except NotConnected as refused:
            if refused.sqlstate is None:
                return CrmResponse(status=None, failure=NetworkFailure.NOT_SENT)
            return _refused(Fault(refused.sqlstate))
        committing = False
        try:
            body = self._carried_out(connection, request)
            committing = True
            connection.commit()
        except RefusedWhole as refused:
            return self._taken_back(connection, refused.fault, request)
        except psycopg.Error as error:
            if error.sqlstate is not None and not connection.closed:
                return self._taken_back(connection, fault_of(error), request)
            self._sessions.give_up(connection)
            if error.sqlstate is None and not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                raise  # a mistake of ours, and no trouble of the database
            # Only a commit may have been carried out, also one after which the server ended the connection.
            lost = NetworkFailure.NO_ANSWER if committing else NetworkFailure.NOT_SENT
            return CrmResponse(status=None, failure=lost)
        self._sessions.give_back(connection)
        return CrmResponse(status=200, body=body)

    def describe(self, *, courier: Courier) -> DestinationSchema:
        """See ``CrmClient.describe``."""
        response = courier(CrmRequest(purpose=_DESCRIBE, method="SQL", path=self._table.full_name, records=0))
        refusal = _refusal_of(response)
        if refusal is not None:
            said = refusal.explanation or "the database cannot be reached: ask again later"
            raise CrmError(f"the database did not tell the columns of {self._table.full_name} ({refusal.code}); {said}")
        schema = self._schema_of(response.body["columns"])
        missing = [name for name in (self._table.key, *self._own_columns()) if name not in schema.fields]
        if missing:
            raise CrmError(
                f"the database did not tell of any column {', '.join(missing)} in {self._table.full_name}: make the "
                "table as docs/destinations.md says, name its columns in leads.yaml, or let the URL's user see them"
            )
        if found := misfits(schema, self._table):
            raise CrmError(f"{self._table.full_name} cannot be written to: {'; '.join(found)}")
        return schema

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Write, mark or delete the rows; see ``CrmClient.deliver``."""
        whole = [record for record in records if record.complete or record.operation is not Operation.UPSERT]
        alone = [record for record in records if record not in whole]
        verdicts: list[RecordVerdict] = []
        halved_until = self._clock.monotonic() + _TIME_OUTS_TO_HALVE_IN * self._timeout_seconds
        for part, purpose in ((whole, str(records[0].operation)), (alone, _UPDATE)):
            if part:
                verdicts += in_parts(
                    part,
                    courier=courier,
                    build=self._builder(purpose),
                    read=_read,
                    refusal_of=self._refusal_until(halved_until),
                    largest=self._traits.max_batch,
                )
        return verdicts

    def _refusal_until(self, halved_until: float) -> Callable[[CrmResponse], Refusal | None]:
        """What takes too long is halved as well, though not for ever: a database that hangs takes nothing."""

        def refusal_of(response: CrmResponse) -> Refusal | None:
            refusal = _refusal_of(response)
            if refusal is None or refusal.code != _TOO_LONG.code:
                return refusal
            return replace(refusal, divisible=self._clock.monotonic() < halved_until)

        return refusal_of

    def _builder(self, purpose: str) -> Callable[[Sequence[CrmRecord]], CrmRequest]:
        def build(part: Sequence[CrmRecord]) -> CrmRequest:
            body = {"rows": [self._row(record) for record in part]}
            return CrmRequest(purpose=purpose, method="SQL", path=self._table.full_name, records=len(part), body=body)

        return build

    def _row(self, record: CrmRecord) -> dict[str, Any]:
        row: dict[str, Any] = {name: None if is_empty(value) else value for name, value in record.properties.items()}
        row |= {self._table.key: str(record.contact_id), self._table.version: record.version}
        if self._table.tenant is not None and record.operation is Operation.UPSERT:
            row[self._table.tenant] = record.tenant
        return row

    def _own_columns(self) -> list[str]:
        named = (self._table.version, self._table.tenant, self._table.archived)
        return [name for name in named if name is not None]

    def _carried_out(self, connection: psycopg.Connection, request: CrmRequest) -> dict[str, Any]:
        if request.purpose == _DESCRIBE:
            return {"columns": self._columns(connection)}
        table = self._checked(connection)
        deadline = self._clock.monotonic() + self._timeout_seconds
        writer = RowWriter(connection, key=table.key, seconds_left=lambda: deadline - self._clock.monotonic())
        rows: Sequence[Row] = (request.body or {})["rows"]
        for columns, group in _by_columns(rows).items():
            match request.purpose:
                case Operation.UPSERT:
                    statement = table.upsert(columns)
                case Operation.ARCHIVE:
                    statement = table.archive()
                case Operation.ERASE:
                    statement = table.erase()
                case _:
                    statement = table.update(columns)
            writer.write(group, statement)
        writer.judge(rows)
        written = writer.written
        passed = [row for row in rows if row[table.key] not in written.keys | written.faults.keys()]
        newer = writer.present(passed, table.present()) if passed else set()
        return {"written": written.keys, "faults": written.faults, "newer": newer}

    def _checked(self, connection: psycopg.Connection) -> Table:
        """The table with its types. Whether our own columns are what they must be is looked at once.

        Raises:
            RefusedWhole: they are not. Every row would be refused for what no contact did.
        """
        if not self._is_as_needed:
            if found := misfits(self._schema_of(self._columns(connection)), self._table):
                raise RefusedWhole(Fault(DATATYPE_MISMATCH, "; ".join(found)))
            self._is_as_needed = True
        types = connection.execute(TYPES, (self._table.schema, self._table.name)).fetchall()
        return replace(self._table, types=dict(types))

    def _schema_of(self, columns: Sequence[Mapping[str, Any]]) -> DestinationSchema:
        return schema_of(columns, ours=frozenset(self._own_columns()))

    def _columns(self, connection: psycopg.Connection) -> list[dict[str, Any]]:
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(COLUMNS, (self._table.schema, self._table.name)).fetchall()

    def _taken_back(self, connection: psycopg.Connection, fault: Fault, request: CrmRequest) -> CrmResponse:
        """The answer to what the database refuses as a whole. Which columns there are is asked and not guessed."""
        missing: tuple[str, ...] = ()
        try:
            connection.rollback()
            if fault.sqlstate == UNDEFINED_COLUMN:
                there = {row["column_name"] for row in self._columns(connection)}
                sent = dict.fromkeys(name for row in (request.body or {})["rows"] for name in row)
                missing = tuple(name for name in sent if name not in there)
                connection.rollback()
        except psycopg.Error:
            self._sessions.give_up(connection)
            return _refused(fault)
        self._sessions.give_back(connection)
        return _refused(fault, missing=missing)


def _by_columns(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(sorted(row))].append(row)
    return groups


def _refused(fault: Fault, *, missing: tuple[str, ...] = ()) -> CrmResponse:
    return CrmResponse(status=fault.status, body={"fault": fault, "missing": missing})


def _refusal_of(response: CrmResponse) -> Refusal | None:
    lost = unanswered(response)
    if lost is not None or response.status == 200:
        return lost
    fault: Fault = response.body["fault"]
    return Refusal(
        fault.verdict,
        fault.code,
        divisible=fault.is_of_a_row and fault.verdict is not Verdict.AUTH,
        explanation=fault.explanation,
        refused_properties=response.body["missing"],
    )


def _read(part: Sequence[CrmRecord], response: CrmResponse) -> list[RecordVerdict]:
    body: Mapping[str, Any] = response.body
    return [_verdict(record, str(record.contact_id), body) for record in part]


def _verdict(record: CrmRecord, key: str, body: Mapping[str, Any]) -> RecordVerdict:
    fault: Fault | None = body["faults"].get(key)
    if fault is not None:
        return RecordVerdict(record.outbox_id, fault.verdict, code=fault.code, explanation=fault.explanation)
    if key in body["written"]:
        return RecordVerdict(record.outbox_id, Verdict.DELIVERED)
    if key in body["newer"]:
        return RecordVerdict(record.outbox_id, Verdict.CONFLICT, code="NEWER_VERSION", explanation=_NEWER)
    if record.operation is Operation.UPSERT and record.complete:
        return RecordVerdict(record.outbox_id, Verdict.AMBIGUOUS, code="NOT_REPORTED")
    return RecordVerdict(record.outbox_id, Verdict.DELIVERED, code="NOT_THERE")


def build(settings: SqlSettings, _tokens: TokenStore, *, clock: Clock | None = None) -> SqlTable:
    """The client of one table; the caller closes it. Nothing is connected before the first request.

    Raises:
        ConfigError: the URL's environment variable is not set, or holds no URL of a PostgreSQL.
    """
    url = readable_url(settings.url.resolve(), variable=settings.url.env)
    return SqlTable(
        Sessions(url, timeout_seconds=settings.timeout_seconds),
        table_of(settings),
        batch_size=settings.batch_size,
        timeout_seconds=settings.timeout_seconds,
        clock=clock or SystemClock(),
    )
