"""Scoring of all records' pairs in bulk: the model of ``scoring.PairScorer``, in a DuckDB that may spill to disk.

Splink is asked once for its SQL, over two empty tables; then that SQL runs over a range of pairs at a time, with the
condition that keeps only what is of interest inside the statement. So what is in memory follows the range, not the
records, and no column is copied that nobody reads. Rules are asked about the pairs that agree in a column that one of
them wants equal. Keep out: what becomes of the pairs, which is ``full_groups``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from splink import DuckDBAPI
from splink.internals.realtime import compare_records

from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.match_rules import Rules
from leads_pipeline.domain.name_frequencies import COMMON_NAMES
from leads_pipeline.matching.full_candidates import Places
from leads_pipeline.matching.model import (
    ADJUSTED_FIELDS,
    COMPARISONS,
    FREQUENCY_FIELDS,
    Parameters,
    splink_settings,
)
from leads_pipeline.matching.record_columns import GIVEN_COLUMNS, RECORDS, given, record_columns
from leads_pipeline.matching.scoring import (
    evidence_columns,
    evidence_of,
    frequency_share,
    least_full_name_share,
    prior_shift,
    prior_weight,
)

# In place of a rule's number: the model's word.
NO_RULE = -1

_FIELDS = tuple(MatchFields.__dataclass_fields__)
_LEAD_FIELDS = pa.schema(
    {"record": pa.int32()}
    | dict.fromkeys(_FIELDS, pa.string())
    | {"date_of_birth": pa.date32(), "email_verified": pa.bool_(), "role_mailbox": pa.bool_()}
)
_EVIDENCE = tuple(f"weight_{comparison.name}" for comparison in COMPARISONS)
_LEFT, _RIGHT = "leads_left", "leads_right"


@dataclass(frozen=True, slots=True)
class EdgeArrays:
    """Pairs from the least weight on, or joined by a rule: their places, weights, the rule's number or ``NO_RULE``."""

    older: Places
    newer: Places
    weight: npt.NDArray[np.float64]
    rule: npt.NDArray[np.int8]


class BulkScorer:
    """Records and their edges, in a DuckDB file in ``work_directory``.

    Add all records, then ``weigh_values`` once, then score. Not for several threads at once.
    """

    def __init__(self, work_directory: Path, parameters: Parameters, rules: Rules, *, memory_limit: str) -> None:
        self._parameters = parameters
        self._rules = rules
        self._rule_numbers = {name: number for number, name in enumerate(rules.names)}
        self._hash_parts: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in rules.columns}
        self._column_hashes: dict[str, npt.NDArray[np.int64]] = {}
        self._connection = duckdb.connect(
            str(work_directory / "full.duckdb"),
            config={
                "autoinstall_known_extensions": "false",
                "memory_limit": memory_limit,
                "temp_directory": str(work_directory / "spill"),
                "preserve_insertion_order": "false",
            },
        )
        self.records = 0
        self.contacts = 0
        self._shift = 0.0
        self._compared = ""
        with _none_given(self._connection):
            self._run(f"create table raw_record as {RECORDS}")
            self._run("create table lead_fields as select * from given_fields")
        weights = ", ".join(f"{name} float" for name in _EVIDENCE)
        self._run(f"create table edge (older integer, newer integer, weight double, rule tinyint, {weights})")

    def close(self) -> None:
        self._connection.close()

    def add(self, records: Sequence[MatchFields]) -> None:
        """The next records; the first of all has place 0."""
        columns = record_columns(records, first=self.records)
        fields = {"record": columns["record"]} | {name: [getattr(item, name) for item in records] for name in _FIELDS}
        with given(
            self._connection,
            given_records=pa.table(columns, schema=GIVEN_COLUMNS),
            given_fields=pa.table(fields, schema=_LEAD_FIELDS),
        ):
            self._run(f"insert into raw_record {RECORDS}")
            self._run("insert into lead_fields select * from given_fields")
        for name, hashes in self._hash_parts.items():
            values = (getattr(fields, name) for fields in records)
            # Only equality is asked for, within this process; 0 stands for nothing.
            hashed = (0 if value is None else hash(value) or 1 for value in values)
            hashes.append(np.fromiter(hashed, dtype=np.int64, count=len(records)))
        self.records += len(records)

    def identities(self, fields: Sequence[Sequence[str]]) -> Iterator[npt.NDArray[np.uint64]]:
        """For each combination of columns a hash of the values by record; 0 where one is missing."""
        for names in fields:
            known = " and ".join(f"{name} is not null" for name in names)
            yield self._columns(
                f"select case when {known} then hash({', '.join(names)}) else 0 end as identity "  # noqa: S608 - names of columns
                "from raw_record order by record"
            )["identity"]

    def weigh_values(self, bearers: Places) -> None:
        """Count how common each value is, and prepare the records for scoring.

        ``bearers`` has a number for each record, the same for those that are clearly one person's: who leaves many
        leads must not make a name look common.
        """
        self.contacts = int(np.count_nonzero(np.bincount(bearers))) if self.records else 0
        self._shift = prior_shift(self._parameters, contacts=self.contacts)
        self._connection.register("bearer_view", {"record": np.arange(self.records, dtype=np.int32), "bearer": bearers})
        for name in FREQUENCY_FIELDS:
            common = COMMON_NAMES.get(name, {})
            self._run(
                f"create temp table seen_{name} as select {name} as term, count(distinct bearer) as seen, "  # noqa: S608 - names of columns
                "coalesce(any_value(share), 0) as at_large from raw_record join bearer_view using (record) "
                "left join (select unnest($1::varchar[]) as term, unnest($2::double[]) as share) as common "
                f"on common.term = {name} where {name} is not null group by 1",
                [list(common), list(common.values())],
            )
            counts = self._run(f"select distinct seen, at_large from seen_{name}")  # noqa: S608 - names of columns
            shares = [
                frequency_share(self._parameters, name, seen=seen, contacts=self.contacts, at_large=at_large)
                for seen, at_large in counts
            ]
            self._run(f"create temp table share_{name} (seen bigint, at_large double, share double)")
            seen, at_large = np.array(counts, np.float64).reshape(-1, 2).T
            self._connection.register("shares", {"seen": seen, "at_large": at_large, "share": np.array(shares)})
            self._run(f"insert into share_{name} select seen, at_large, share from shares")  # noqa: S608 - names of columns
            self._connection.unregister("shares")
        self._connection.unregister("bearer_view")
        # Of a whole name the commoner of its two orders counts.
        sought = [(name, name, f"found_{name}") for name in FREQUENCY_FIELDS]
        sought += [("first_name", "last_name", "exchanged_first"), ("last_name", "first_name", "exchanged_last")]
        joins = " ".join(
            f"left join (select term, share from seen_{name} join share_{name} "  # noqa: S608 - names of columns
            f"using (seen, at_large)) {found} on {found}.term = raw_record.{column}"
            for name, column, found in sought
        )
        shares_of = ", ".join(f"found_{name}.share as tf_{name}" for name in FREQUENCY_FIELDS)
        first, last = (
            frequency_share(self._parameters, name, seen=1, contacts=self.contacts)
            for name in ("first_name", "last_name")
        )
        shares_of += (
            ", greatest(found_first_name.share * found_last_name.share, "
            f"coalesce(exchanged_first.share, {first}) * coalesce(exchanged_last.share, {last}), "
            f"{least_full_name_share(self.contacts)}) as tf_full_name"
        )
        self._run(
            f"create table record as select raw_record.*, {shares_of} from raw_record {joins} "  # noqa: S608 - names of columns
            "order by raw_record.record"
        )
        for name in FREQUENCY_FIELDS:
            self._run(f"drop table seen_{name}")
            self._run(f"drop table share_{name}")
        self._run("drop table raw_record")
        none = np.empty(0, np.int64)
        self._column_hashes = {name: np.concatenate([none, *parts]) for name, parts in self._hash_parts.items()}
        self._hash_parts.clear()
        self._compared = self._splink_sql()

    def keep_edges(self, older: Places, newer: Places, *, least: float) -> int:
        """Score these pairs and keep those from ``least`` on, or joined by a rule. Returns how many a rule joins."""
        decided = self._decided(older, newer)
        rules = {
            "older": np.array([pair[0] for pair in decided], np.int32),
            "newer": np.array([pair[1] for pair in decided], np.int32),
            "rule": np.array([pair[2] for pair in decided], np.int8),
        }
        self._connection.register("decided", rules)
        with_rule = "left join decided on decided.older = record_l and decided.newer = record_r"
        evidence = ", ".join(evidence_columns())
        self._offer(older, newer)
        self._run(
            f"insert into edge select record_l, record_r, match_weight + $1, coalesce(rule, {NO_RULE}), {evidence} "  # noqa: S608 - names of columns
            f"from ({self._compared}) {with_rule} where match_weight + $1 >= $2 or rule is not null",
            [self._shift, least],
        )
        self._connection.unregister("decided")
        return len(decided)

    def votes_against(self, older: Places, newer: Places, *, below: float) -> tuple[Places, Places]:
        """Those of the pairs that weigh less than ``below`` and that no rule joins."""
        self._offer(older, newer)
        found = self._columns(
            f"select record_l, record_r from ({self._compared}) where match_weight + $1 < $2 "  # noqa: S608 - names of columns
            "and not exists (select 1 from edge where edge.older = record_l and edge.newer = record_r)",
            [self._shift, below],
        )
        return found["record_l"], found["record_r"]

    def edges(self) -> EdgeArrays:
        """All that ``keep_edges`` kept."""
        found = self._columns("select older, newer, weight, rule from edge")
        return EdgeArrays(found["older"], found["newer"], found["weight"], found["rule"])

    def evidence(self, pairs: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], dict[str, float]]:
        """What each comparison added, for those of the (older, newer) pairs that are edges."""
        older, newer = _arrays(pairs)
        self._connection.register("wanted", {"older": older, "newer": newer})
        rows = self._run(
            f"select older, newer, {', '.join(_EVIDENCE)} from edge join wanted using (older, newer)"  # noqa: S608 - names of columns
        )
        self._connection.unregister("wanted")
        prior = prior_weight(self._parameters) + self._shift
        return {(row[0], row[1]): evidence_of(prior, row[2:]) for row in rows}

    def fields(self, places: Places) -> dict[int, MatchFields]:
        """Records as they were added."""
        self._connection.register("wanted", {"record": places})
        rows = self._run(f"select record, {', '.join(_FIELDS)} from lead_fields join wanted using (record)")  # noqa: S608 - names of columns
        self._connection.unregister("wanted")
        return {row[0]: MatchFields(*row[1:]) for row in rows}

    def _decided(self, older: Places, newer: Places) -> list[tuple[int, int, int]]:
        """The pairs that a rule joins, with its number."""
        agree = np.zeros(len(older), bool)
        for hashes in self._column_hashes.values():
            own = hashes[older]
            agree |= (own != 0) & (own == hashes[newer])
        pairs = list(zip(older[agree].tolist(), newer[agree].tolist(), strict=True))
        fields = self.fields(np.unique(np.concatenate((older[agree], newer[agree]))))
        return [
            (left, right, self._rule_numbers[rule])
            for left, right in pairs
            if (rule := self._rules.decide(fields[left], fields[right])) is not None
        ]

    def _offer(self, older: Places, newer: Places) -> None:
        """Make these pairs what Splink's SQL compares."""
        self._connection.register("pair", {"older": older, "newer": newer})
        self._run(
            f"create or replace temp view {_LEFT} as "  # noqa: S608 - names of columns
            "select record.*, pair.newer as partner from pair join record on record.record = pair.older"
        )
        self._run(f"create or replace temp view {_RIGHT} as select * from record")  # noqa: S608 - names of columns

    def _splink_sql(self) -> str:
        """What Splink runs to compare the rows of ``leads_left`` with their partners in ``leads_right``."""
        connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
        try:
            shares = ", ".join(f"cast(null as double) as tf_{name}" for name in ADJUSTED_FIELDS)
            with _none_given(connection):
                connection.execute(f"create table {_RIGHT} as select *, {shares} from ({RECORDS})").fetchall()  # noqa: S608 - names of columns
            connection.execute(f"create table {_LEFT} as select *, 0 as partner from {_RIGHT}").fetchall()  # noqa: S608 - names of columns
            compared = compare_records(
                _LEFT,
                _RIGHT,
                splink_settings(self._parameters),
                DuckDBAPI(connection),
                join_condition="l.partner = r.record",
            )
            return str(compared.sql_used_to_create)
        finally:
            connection.close()

    def _columns(self, statement: str, values: Sequence[Any] = ()) -> dict[str, npt.NDArray[Any]]:
        found = self._connection.execute(statement, list(values)).fetchnumpy()
        return {name: np.asarray(column) for name, column in found.items()}

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        # Read to the end: DuckDB refuses the next statement while a result is open.
        return self._connection.execute(statement, list(values)).fetchall()


def _none_given(connection: duckdb.DuckDBPyConnection) -> AbstractContextManager[None]:
    return given(connection, given_records=GIVEN_COLUMNS.empty_table(), given_fields=_LEAD_FIELDS.empty_table())


def _arrays(pairs: Sequence[tuple[int, int]]) -> tuple[Places, Places]:
    table = np.array(pairs, np.int32).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()
