"""The one way into Splink: score pairs of records, with the reasons.

Splink has no public call that scores an arbitrary list of pairs in a small batch; ``realtime.compare_records`` does,
with a join of our choosing, and stands under ``internals``: the version is pinned, and a test holds the weights to the
formula.

The prior is for the number of contacts that the model was trained on. Twice as many contacts are twice as many chances
that two strangers look alike, and a little more, so every weight is shifted (``prior_shift``): thresholds keep their
meaning.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from splink import DuckDBAPI
from splink.internals.realtime import compare_records

from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.name_frequencies import expected_share
from leads_pipeline.matching.model import (
    ADJUSTED_FIELDS,
    COMPARISONS,
    FREQUENCY_FIELDS,
    Comparison,
    Parameters,
    shipped_parameters,
    splink_settings,
)
from leads_pipeline.matching.pairs import Frequencies, ScoredPair
from leads_pipeline.matching.record_columns import GIVEN_COLUMNS, RECORDS, given, record_columns

# A tenant's own frequencies say little while it has few contacts: they are mixed with the model's, as from this many,
# and with those of common names among people at large.
FREQUENCY_PRIOR_CONTACTS = 1_000

# With twice the contacts a stranger looks like somebody twice as often, and more: namesakes at one firm, relatives in
# one house agree in several values at once. With a loss of 1 for each doubling a model that was trained on 12,000
# contacts joins 3.3 of 100 pairs wrongly among 600,000, where it joins 1.5 among 6,000.
LOST_PER_DOUBLING = 1.15

# Of so many contacts the name is another's too, however rare it is: a parent's, a child's, a cousin's.
NAMESAKES = 0.008

# Only agreeing values are adjusted. One is as common on one side as on the other, and Splink takes the side that knows.
_FREQUENCIES = pa.schema({"record": pa.int32()} | {f"tf_{name}": pa.float64() for name in ADJUSTED_FIELDS})
_PAIRS = pa.schema({"l": pa.int32(), "r": pa.int32()})
_UNKNOWN = ", ".join(f"cast(null as double) as tf_{name}" for name in ADJUSTED_FIELDS)
_KNOWN = ", ".join(f"given_frequencies.tf_{name} as tf_{name}" for name in ADJUSTED_FIELDS)
_JOIN = "l.partner = r.record"


# The level of a comparison that has nothing to compare.
MISSING = -1


@dataclass(frozen=True, slots=True)
class Observations:
    """What a model is learned from: a row for each pair and a column for each of ``COMPARISONS``.

    ``levels`` are numbered as the comparison has them, or ``MISSING``. ``rarity`` is -log2 of the value's frequency
    where the level has one of its own, else 0.
    """

    levels: npt.NDArray[np.int8]
    rarity: npt.NDArray[np.float32]


class PairScorer:
    """Scores pairs with one model. Not for several threads at once: it owns one DuckDB in memory."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._settings = splink_settings(parameters)
        # Making the SQL is most of an uncached call. Splink's cache is one for the process: the key names the model.
        self._cache_key = f"leads_pipeline:{sha256(msgspec.json.encode(self._settings)).hexdigest()}"
        self._expected = {
            name: parameters.average_frequency(name) * FREQUENCY_PRIOR_CONTACTS for name in FREQUENCY_FIELDS
        }
        # What is used is built in; nothing is to be fetched from the network behind our back.
        self._connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})

    @classmethod
    def load(cls) -> "PairScorer":
        """The scorer with the shipped model."""
        return cls(shipped_parameters())

    @property
    def version(self) -> str:
        """The model's, for the merge log."""
        return self.parameters.version

    def score(
        self,
        records: Sequence[MatchFields],
        pairs: Sequence[tuple[int, int]],
        *,
        frequencies: Frequencies,
        explain_from: float = 0.0,
    ) -> list[ScoredPair]:
        """Score ``pairs`` of places in ``records``, in the order of the pairs' places.

        Pairs from ``explain_from`` on, and those with the same e-mail or phone, come with their evidence.
        """
        if not pairs:
            return []
        shift = prior_shift(self.parameters, contacts=frequencies.contacts)
        evidence = ", ".join(evidence_columns())
        table = self._compare(records, pairs, frequencies)
        try:
            # Read to the end: DuckDB refuses the next statement while a result is open.
            rows = self._connection.execute(
                f"select record_l, record_r, match_weight from {table} order by record_l, record_r"  # noqa: S608 - names of columns
            ).fetchall()
            reasons = {
                (row[0], row[1]): row[2:]
                for row in self._connection.execute(
                    f"select record_l, record_r, {evidence} from {table} "  # noqa: S608 - names of columns
                    "where match_weight >= ? or email_l = email_r or phone_l = phone_r",
                    [explain_from - shift],
                ).fetchall()
            }
        finally:
            self._drop_tables()
        prior = prior_weight(self.parameters) + shift
        return [
            ScoredPair(left, right, weight + shift, evidence_of(prior, reasons.get((left, right))))
            for left, right, weight in rows
        ]

    def observe(
        self, records: Sequence[MatchFields], pairs: Sequence[tuple[int, int]], *, frequencies: Frequencies
    ) -> "Observations":
        """Which level each of the pairs reaches, and how rare the values are on which they agree.

        In the order of the pairs' places.
        """
        table = self._compare(records, pairs, frequencies)
        levels = ", ".join(f"gamma_{comparison.name}" for comparison in COMPARISONS)
        adjusted = [comparison.name for comparison in COMPARISONS if _is_adjusted(comparison)]
        adjustments = ", ".join(f"mw_tf_adj_{name}" for name in adjusted)
        try:
            found = self._connection.execute(
                f"select {levels}, {adjustments} from {table} order by record_l, record_r"  # noqa: S608 - names of columns
            ).fetchnumpy()
        finally:
            self._drop_tables()
        reached = np.full((len(pairs), len(COMPARISONS)), MISSING, np.int8)
        rarity = np.zeros((len(pairs), len(COMPARISONS)), np.float32)
        for column, comparison in enumerate(COMPARISONS):
            # Splink numbers the levels from the last (0) up; -1 is missing.
            gamma = np.asarray(found[f"gamma_{comparison.name}"], np.int8)
            reached[:, column] = np.where(gamma < 0, MISSING, len(comparison.levels) - 1 - gamma)
            if not _is_adjusted(comparison):
                continue
            adjustment = np.ma.filled(np.ma.asarray(found[f"mw_tf_adj_{comparison.name}"]), 0.0)
            for number, level in enumerate(comparison.levels):
                if level.frequency_of is not None:
                    # Splink's adjustment is log2(u / frequency).
                    u = self.parameters.levels[comparison.name][level.name][1]
                    here = reached[:, column] == number
                    rarity[here, column] = adjustment[here] - math.log2(u)
        return Observations(reached, rarity)

    def levels(self, records: Sequence[MatchFields], pairs: Sequence[tuple[int, int]]) -> dict[str, dict[str, int]]:
        """How many of the pairs reach each level: comparison → level → pairs."""
        reached = self.observe(records, pairs, frequencies=Frequencies(contacts=1)).levels
        return {
            comparison.name: {
                level.name: int(np.count_nonzero(reached[:, column] == number))
                for number, level in enumerate(comparison.levels)
            }
            for column, comparison in enumerate(COMPARISONS)
        }

    def _compare(
        self, records: Sequence[MatchFields], pairs: Sequence[tuple[int, int]], frequencies: Frequencies
    ) -> str:
        """The name of the table with one row per pair."""
        connection = self._connection
        lefts = sorted({left for left, _right in pairs})
        # Whether a mailbox says more than the name is asked of those that another record has as well.
        seen = Counter(fields.email_key.partition("@")[0] for fields in records if fields.email_key)
        columns = record_columns(records, mailboxes={mailbox for mailbox, count in seen.items() if count > 1})
        shares = self._shares(
            {name: [columns[name][place] for place in lefts] for name in FREQUENCY_FIELDS}, frequencies
        )
        frequencies_of = {"record": lefts} | {f"tf_{name}": shares[name] for name in ADJUSTED_FIELDS}
        sides = {side: [pair[place] for pair in pairs] for place, side in enumerate(_PAIRS.names)}
        with given(
            connection,
            given_records=pa.table(columns, schema=GIVEN_COLUMNS),
            given_frequencies=pa.table(frequencies_of, schema=_FREQUENCIES),
            given_pairs=pa.table(sides, schema=_PAIRS),
        ):
            connection.execute(f"create temp table leads_record as select *, {_UNKNOWN} from ({RECORDS})").fetchall()  # noqa: S608 - names of columns
            connection.execute(
                f"create temp table leads_left as select leads_record.* replace ({_KNOWN}), r as partner "  # noqa: S608 - names of columns
                "from given_pairs join leads_record on leads_record.record = l "
                "join given_frequencies on given_frequencies.record = l"
            ).fetchall()
        # A new interface object for each call: it remembers every table that it was ever shown.
        interface = DuckDBAPI(connection)
        compared = compare_records(
            "leads_left",
            "leads_record",
            self._settings,
            interface,
            sql_cache_key=self._cache_key,
            join_condition=_JOIN,
        )
        return str(compared.physical_name)

    def _shares(
        self, columns: Mapping[str, Sequence[str | None]], frequencies: Frequencies
    ) -> dict[str, list[float | None]]:
        """The shares of contacts that have these values, by field; of a whole name in the order that is commoner."""
        found = {name: self._shares_of(name, values, frequencies) for name, values in columns.items()}
        usual = _together(found["first_name"], found["last_name"])
        exchanged = _together(
            self._shares_of("first_name", columns["last_name"], frequencies),
            self._shares_of("last_name", columns["first_name"], frequencies),
        )
        least = least_full_name_share(frequencies.contacts)
        found["full_name"] = [
            max(one, other, least) if one else None for one, other in zip(usual, exchanged, strict=True)
        ]
        return found

    def _shares_of(self, name: str, values: Sequence[str | None], frequencies: Frequencies) -> list[float | None]:
        """As ``frequency_share`` has it, once for each value."""
        of = frequencies.contacts + FREQUENCY_PRIOR_CONTACTS
        expected = self._expected[name]
        shares = {
            value: (
                max(frequencies.occurrences.get((name, value), 1), 1)
                + max(expected, (expected_share(name, value) or 0.0) * FREQUENCY_PRIOR_CONTACTS)
            )
            / of
            for value in set(values)
            if value is not None
        }
        return [None if value is None else shares[value] for value in values]

    def _drop_tables(self) -> None:
        # By SQL: Splink refuses to drop what came out of its statement cache.
        names = self._connection.execute(
            "select table_name from duckdb_tables() where table_name like 'leads\\_%' escape '\\' "
            "or table_name like '\\_\\_splink%' escape '\\'"
        ).fetchall()
        views = self._connection.execute(
            "select view_name from duckdb_views() where view_name like '\\_\\_splink%' escape '\\'"
        ).fetchall()
        for (name,) in views:
            self._connection.execute(f'drop view if exists "{name}"').fetchall()
        for (name,) in names:
            self._connection.execute(f'drop table if exists "{name}"').fetchall()


def _together(firsts: Sequence[float | None], lasts: Sequence[float | None]) -> list[float]:
    """The share that both names have together, 0 where one is missing."""
    return [0.0 if first is None or last is None else first * last for first, last in zip(firsts, lasts, strict=True)]


def frequency_share(parameters: Parameters, name: str, *, seen: int, contacts: int, at_large: float = 0.0) -> float:
    """The share of contacts with a value, leaning on the model's average where there are few contacts.

    ``at_large``: the share of people at large, if it is known that they are more.
    """
    expected = max(parameters.average_frequency(name), at_large) * FREQUENCY_PRIOR_CONTACTS
    return (max(seen, 1) + expected) / (contacts + FREQUENCY_PRIOR_CONTACTS)


def least_full_name_share(contacts: int) -> float:
    """No whole name is rarer than this, however rare its parts are: families hand both down."""
    return NAMESAKES / max(contacts, FREQUENCY_PRIOR_CONTACTS)


def prior_weight(parameters: Parameters) -> float:
    """The weight of two records of which nothing is known, among as many contacts as the model was trained on."""
    return math.log2(parameters.prior / (1 - parameters.prior))


def prior_shift(parameters: Parameters, *, contacts: int) -> float:
    """What every weight gains because there are fewer contacts than the model was trained on, or loses."""
    doublings = math.log2(max(contacts, FREQUENCY_PRIOR_CONTACTS) / parameters.prior_contacts)
    return -doublings * (LOST_PER_DOUBLING if doublings > 0 else 1)


def evidence_columns() -> list[str]:
    """For each comparison the SQL that adds up what it weighs, over a table of compared pairs."""
    columns = []
    for comparison in COMPARISONS:
        extra = f" + mw_tf_adj_{comparison.name}" if _is_adjusted(comparison) else ""
        columns.append(f"mw_{comparison.name}{extra}")
    return columns


def _is_adjusted(comparison: Comparison) -> bool:
    return any(level.frequency_of for level in comparison.levels)


def evidence_of(prior: float, weights: Sequence[float] | None) -> dict[str, float]:
    """Weights by comparison and the ``prior``, rounded; comparisons that say nothing are left out."""
    if weights is None:
        return {}
    named = zip((comparison.name for comparison in COMPARISONS), weights, strict=True)
    return {"prior": round(prior, 3), **{name: round(weight, 3) for name, weight in named if weight}}
