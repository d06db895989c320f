"""What PostgreSQL's error codes say of a row, or of the whole table. Pure."""

from dataclasses import dataclass, field

from psycopg import errors

from leads_pipeline.domain.delivery import Verdict

UNDEFINED_COLUMN = "42703"
DATATYPE_MISMATCH = "42804"
LOCK_NOT_AVAILABLE = "55P03"

# The longest beginning that fits holds. What is not here is of the table or of our rights to it.
_VERDICTS = {
    "08": Verdict.TRANSIENT,  # the connection
    "22": Verdict.INVALID,  # a value
    "23": Verdict.INVALID,  # a constraint
    "23505": Verdict.CONFLICT,  # another row has the value
    "25006": Verdict.TRANSIENT,  # a standby, for the time of a switch-over
    "40": Verdict.LOCKED,  # deadlock, or a snapshot that is too old
    "44": Verdict.INVALID,  # a view's condition
    "53": Verdict.TRANSIENT,  # disk full, too many connections
    "54": Verdict.INVALID,  # too large for its index
    "55P03": Verdict.LOCKED,
    "55006": Verdict.LOCKED,
    "57": Verdict.TRANSIENT,  # shut down, or the statement's time is over
    "58": Verdict.TRANSIENT,
    "P0001": Verdict.INVALID,  # a trigger refuses the row
    "XX": Verdict.TRANSIENT,
}
# Those that one row has and its neighbours may not.
_OF_ROWS = (Verdict.INVALID, Verdict.CONFLICT)

_STATUSES = {
    Verdict.INVALID: 422,
    Verdict.CONFLICT: 409,
    Verdict.LOCKED: 423,
    Verdict.TRANSIENT: 503,
    Verdict.AUTH: 403,
}

_ADVICE = {
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
    "P0001": "a trigger of the table refuses the row",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of the database. ``message`` may quote the row: never log it."""

    sqlstate: str
    message: str = field(default="", repr=False)

    @property
    def verdict(self) -> Verdict:
        """The class that it is of."""
        found = [_VERDICTS[self.sqlstate[:size]] for size in (5, 2) if self.sqlstate[:size] in _VERDICTS]
        return found[0] if found else Verdict.AUTH

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
        return self.verdict in _OF_ROWS

    @property
    def status(self) -> int:
        """As HTTP would say it, for the books."""
        return _STATUSES.get(self.verdict, 503)

    @property
    def explanation(self) -> str:
        """The database's words, and what helps."""
        advice = next((_ADVICE[self.sqlstate[:size]] for size in (5, 2) if self.sqlstate[:size] in _ADVICE), None)
        return " ".join(filter(None, (self.message, advice and f"What helps: {advice}."))) or self.code
