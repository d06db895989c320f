"""What PostgreSQL's error codes say of a row, or of the whole table. Pure."""

from dataclasses import dataclass, field

from psycopg import errors

from leads_pipeline.domain.delivery import Verdict

UNDEFINED_COLUMN = "42703"
DATATYPE_MISMATCH = "42804"
LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"

# The longest beginning that fits holds. What else the standard defines is of the table or of our rights to it; the
# other codes are whatever somebody's function raises, and of the row that it refuses.
_VERDICTS = {
    "08": Verdict.TRANSIENT,  # the connection
    "09": Verdict.INVALID,  # a trigger
    "20": Verdict.INVALID,  # a function's CASE without the row's value
    "21": Verdict.INVALID,  # a function's query that found several rows
    "22": Verdict.INVALID,  # a value
    "23": Verdict.INVALID,  # a constraint
    "23505": Verdict.CONFLICT,  # another row has the value
    "25006": Verdict.TRANSIENT,  # a standby, for the time of a switch-over
    "27": Verdict.INVALID,  # a trigger that changes the row itself
    "2F": Verdict.INVALID,  # a function
    "38": Verdict.INVALID,
    "39": Verdict.INVALID,
    "40": Verdict.LOCKED,  # deadlock, or a snapshot that is too old
    "44": Verdict.INVALID,  # a view's condition
    "53": Verdict.TRANSIENT,  # disk full, too many connections
    "54": Verdict.INVALID,  # too large for its index
    "55": Verdict.AUTH,  # a table that is not in the state for it
    "55P03": Verdict.LOCKED,
    "55006": Verdict.LOCKED,
    "57": Verdict.TRANSIENT,  # shut down, or the statement's time is over
    "58": Verdict.TRANSIENT,
    "XX": Verdict.TRANSIENT,
}
# The standard defines those that begin so, and leaves the others to whoever writes a function.
_STANDARD = "01234ABCDEFGH"
# Certainly every row's: nothing is tried row by row.
_OF_THE_TABLE = ("28", "3D", "3F", "42703", "42804", "42P01", "42P10")
# Those that one row has and its neighbours may not. A refused right may be a policy's, which looks at the row.
_OF_ROWS = (Verdict.INVALID, Verdict.CONFLICT, Verdict.AUTH)
# Where PostgreSQL checks a policy, or a view's condition, and where a function raises what it likes.
ROW_CHECKS = ("ExecWithCheckOptions", "exec_stmt_raise")

_STATUSES = {
    Verdict.INVALID: 422,
    Verdict.CONFLICT: 409,
    Verdict.LOCKED: 423,
    Verdict.TRANSIENT: 503,
    Verdict.AUTH: 403,
}

_ADVICE = {
    "0A": "the table, or a rule of it, does not allow such statements: drop the rule, or name a plain table",
    "22001": "the column takes fewer characters: make it longer, or correct the contact",
    "23502": "a column wants a value that the contact has not: give it a default, or map a constant to it",
    "23503": "other rows refer to this one, or it refers to one that is not there: mend the foreign key",
    "23505": "another row holds what must be unique: delete it, or drop the constraint",
    "28": "put a URL with a name and password that hold into the environment variable of destinations.NAME.url",
    "3D": "the database is not there: mend the URL in the environment variable of destinations.NAME.url",
    "3F": "the schema is not there: mend destinations.NAME.table",
    "42501": "grant select, insert, update and delete on the table, and usage on its schema, to the URL's user",
    "42703": "the table lacks a column: add it, or mend destinations.NAME.mapping",
    "42804": "a column is of another type than what is sent: mend destinations.NAME.mapping, or the column",
    "42P01": "the table is not there: make it, or mend destinations.NAME.table",
    "42P10": "destinations.NAME.key_column has no unique index of its own: make one",
    "57014": "the table takes long: raise destinations.NAME.timeout_seconds, or lower its batch_size",
    "P0": "a trigger of the table refuses the row",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of the database. ``message`` may quote the row: never log it.

    ``of_one_row``: it is known to be of the row alone, whatever the code says.
    """

    sqlstate: str
    message: str = field(default="", repr=False)
    of_one_row: bool = False

    @property
    def verdict(self) -> Verdict:
        """The class that it is of."""
        unlisted = Verdict.AUTH if self.sqlstate[:1] in _STANDARD else Verdict.INVALID
        found = [_VERDICTS[self.sqlstate[:size]] for size in (5, 2) if self.sqlstate[:size] in _VERDICTS]
        verdict = found[0] if found else unlisted
        return Verdict.INVALID if self.of_one_row and verdict is Verdict.AUTH else verdict

    @property
    def code(self) -> str:
        """Its name in PostgreSQL's list, such as UNIQUE_VIOLATION."""
        try:
            name = errors.lookup(self.sqlstate).__name__
        except KeyError:
            return f"SQLSTATE_{self.sqlstate}"
        return "".join(f"_{sign}" if sign.isupper() else sign for sign in name).upper().lstrip("_")

    @property
    def is_of_a_row(self) -> bool:
        """Whether the rows beside it may pass."""
        return self.verdict in _OF_ROWS and (self.of_one_row or not self.sqlstate.startswith(_OF_THE_TABLE))

    @property
    def status(self) -> int:
        """As HTTP would say it, for the books."""
        return _STATUSES.get(self.verdict, 503)

    @property
    def explanation(self) -> str:
        """The database's words, and what helps."""
        advice = next((_ADVICE[self.sqlstate[:size]] for size in (5, 2) if self.sqlstate[:size] in _ADVICE), None)
        return " ".join(filter(None, (self.message, advice and f"What helps: {advice}."))) or self.code
