"""One transaction of rows: what can be written is written, what cannot is told row by row, and all of it commits once.

A statement that fails is taken back to its savepoint and halved until what is at fault stands alone. A lock of somebody
else's is waited for once; the rows behind others are then left for the next attempt.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg.sql import Composed

from leads_pipeline.crm.sql_table.sqlstates import LOCK_NOT_AVAILABLE, QUERY_CANCELED, ROW_CHECKS, Fault
from leads_pipeline.crm.sql_table.statements import REST_OF_TIME, SHORT_LOCK_WAIT
from leads_pipeline.domain.delivery import Verdict

Row = Mapping[str, Any]

# Each waits for 100 ms: a table that somebody has locked as a whole must not hold a request up row by row.
_MOST_LOCK_WAITS = 20


class RefusedWhole(Exception):
    """The database refuses, for a reason that all rows have alike. Nothing is written."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.code)


@dataclass(slots=True)
class Written:
    """The keys that were written, and the faults of those that were not. A key in neither was passed over."""

    keys: set[str] = field(default_factory=set)
    faults: dict[str, Fault] = field(default_factory=dict)


class RowWriter:
    """Runs statements in the transaction of ``connection``. ``key``: the column by which a row is known.

    ``seconds_left``: of the transaction's time, which all of its statements share.
    """

    def __init__(self, connection: psycopg.Connection, *, key: str, seconds_left: Callable[[], float]) -> None:
        self.written = Written()
        self._connection = connection
        self._key = key
        self._seconds_left = seconds_left
        self._tries = 0
        self._lock_waits = 0

    def write(self, rows: Sequence[Row], statement: Composed) -> None:
        """Run ``statement`` over ``rows``.

        Raises:
            RefusedWhole: the rows are not at fault.
            psycopg.OperationalError: the connection is lost.
        """
        parts = [list(rows)]
        while parts:
            part = parts.pop()
            fault = self._left_out() or self._tried(part, statement)
            if fault is None:
                continue
            if not fault.is_of_a_row and fault.sqlstate != LOCK_NOT_AVAILABLE:
                raise RefusedWhole(fault)
            if len(part) > 1 and not self._left_out():
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                self.written.faults |= {row[self._key]: fault for row in part}

    def judge(self, rows: Sequence[Row]) -> None:
        """After the last of ``rows``: what only some of them were refused is of those, whatever the code says.

        Raises:
            RefusedWhole: all were refused what is of the table or of our rights to it.
        """
        faults = self.written.faults
        ours = {key: fault for key, fault in faults.items() if fault.verdict is Verdict.AUTH}
        if ours and len(ours) == len(rows):
            raise RefusedWhole(next(iter(ours.values())))
        faults |= {key: replace(fault, of_one_row=True) for key, fault in ours.items()}

    def present(self, rows: Iterable[Row], statement: Composed) -> set[str]:
        """The keys of ``rows`` that ``statement`` finds."""
        found = self._connection.execute(statement, [_as_json(rows)]).fetchall()
        return {key for (key,) in found}

    def _tried(self, rows: Sequence[Row], statement: Composed) -> Fault | None:
        left = self._seconds_left()
        if left <= 0:
            return Fault(QUERY_CANCELED)
        if self._tries:
            self._connection.execute(REST_OF_TIME, [f"{max(1, int(left * 1000))}ms"])
        self._tries += 1
        try:
            with self._connection.transaction():  # a savepoint: one has begun already
                found = self._connection.execute(statement, [_as_json(rows)]).fetchall()
        except psycopg.Error as error:
            if error.sqlstate is None or self._connection.closed:
                raise
            fault = fault_of(error)
            if fault.sqlstate == LOCK_NOT_AVAILABLE:
                self._lock_waits += 1
                self._connection.execute(SHORT_LOCK_WAIT)
            return fault
        self.written.keys |= {key for (key,) in found}
        return None

    def _left_out(self) -> Fault | None:
        """Why nothing more is tried, if so."""
        if self._lock_waits >= _MOST_LOCK_WAITS or (self._lock_waits and self._seconds_left() <= 0):
            return Fault(LOCK_NOT_AVAILABLE)
        return None


def fault_of(error: psycopg.Error) -> Fault:
    """A driver's error that has a code. Only the server's own sentence is kept, without the row that it may add."""
    return Fault(
        error.sqlstate or "XX000",
        error.diag.message_primary or "",
        of_one_row=error.diag.source_function in ROW_CHECKS,
    )


def _as_json(rows: Iterable[Row]) -> str:
    return json.dumps(list(rows), ensure_ascii=False)
