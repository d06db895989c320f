"""Which column of a file means which field of a lead.

Common column names map themselves (``CanonicalField.aliases``); a person's own mapping goes before. Where several
columns want one field, the best one wins and the others fill in where it is empty. What maps to nothing is kept.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from leads_pipeline.domain.consent import Channel, read_yes_or_no
from leads_pipeline.domain.lead import CANONICAL_FIELDS, FIELDS_BY_NAME
from leads_pipeline.errors import ImportFileError

# Names of a lead that a kept column must not take.
_RESERVED = frozenset(FIELDS_BY_NAME) | {"consent", "consent_malformed"}
KEPT_PREFIX = "column."
# What an error file says beside a row; the row's own import does not store it.
REJECTED_BECAUSE = "rejected_because"
_NOT_KEPT = frozenset({"consent", REJECTED_BECAUSE})

_OPT_IN = {
    "consent": Channel.ANY, "optin": Channel.ANY, "optedin": Channel.ANY, "gdprconsent": Channel.ANY,
    "marketingconsent": Channel.ANY, "marketingoptin": Channel.ANY, "acceptsmarketing": Channel.ANY,
    "consentany": Channel.ANY, "newsletter": Channel.EMAIL, "newsletteroptin": Channel.EMAIL,
    "subscribed": Channel.EMAIL, "emailoptin": Channel.EMAIL, "emailconsent": Channel.EMAIL,
    "consentemail": Channel.EMAIL, "phoneoptin": Channel.PHONE, "phoneconsent": Channel.PHONE,
    "consentphone": Channel.PHONE, "smsoptin": Channel.PHONE,
}  # fmt: skip
_OPT_OUT = {
    "optout": Channel.ANY, "optedout": Channel.ANY, "donotcontact": Channel.ANY, "unsubscribed": Channel.EMAIL,
    "emailoptout": Channel.EMAIL, "donotemail": Channel.EMAIL, "hasoptedoutofemail": Channel.EMAIL,
    "donotcall": Channel.PHONE, "phoneoptout": Channel.PHONE,
}  # fmt: skip
_CONSENT_TIME = frozenset(
    {"consentdate", "consentedat", "consenttime", "consenttimestamp", "optindate", "optintime", "optintimestamp"}
)
# What --map may name besides the canonical fields.
CONSENT_TARGETS = {"consent": Channel.ANY, "consent_email": Channel.EMAIL, "consent_phone": Channel.PHONE}

_BY_PERSON = -1
_NESTED = 1_000  # a column inside a nested object means less than one at the top


@dataclass(frozen=True, slots=True)
class ColumnUse:
    """What one column is used for. ``field`` is ``None`` for a column that is kept as it was sent, or left out."""

    column: str
    field: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """How the rows of one file become leads."""

    uses: tuple[ColumnUse, ...]
    sources: Mapping[str, tuple[str, ...]]  # field → its columns, best first
    consent: Mapping[str, tuple[Channel, bool]] = field(default_factory=dict)  # column → channel, whether yes grants
    consent_time: str | None = None

    def apply(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The lead that a row is: its fields, everything else under its column's name, and ``consent``."""
        lead: dict[str, Any] = {}
        used: set[str] = set(self.consent)
        if self.consent_time is not None:
            used.add(self.consent_time)
        for name, columns in self.sources.items():
            for column in columns:
                value = first_scalar(row.get(column))
                if value is not None:
                    lead[name] = value
                    used.add(column)
                    break
        for column, value in row.items():
            if column not in used and column not in _NOT_KEPT and not _is_blank(value):
                lead[kept_name(column)] = value
        consent = self._consent_of(row)
        return {**lead, "consent": consent} if consent else lead

    def for_cells(self, columns: Sequence[str]) -> Callable[[Sequence[str]], dict[str, Any]]:
        """``apply`` for rows that are text cells in the order of ``columns``: the same in a quarter of the time."""
        place = {column: index for index, column in enumerate(columns)}
        several = [
            (name, [(place[column], None if column in _NOT_KEPT else kept_name(column)) for column in candidates])
            for name, candidates in self.sources.items()
            if len(candidates) > 1
        ]
        single = [(name, place[candidates[0]]) for name, candidates in self.sources.items() if len(candidates) == 1]
        wanted = {column for candidates in self.sources.values() for column in candidates}
        elsewhere = {*wanted, *self.consent, *_NOT_KEPT, self.consent_time}
        single += [(kept_name(column), place[column]) for column in columns if column not in elsewhere]
        consent = [(column, place[column]) for column in self.consent]
        if self.consent_time is not None:
            consent.append((self.consent_time, place[self.consent_time]))

        def lead_of(cells: Sequence[str]) -> dict[str, Any]:
            lead: dict[str, Any] = {
                name: value for name, index in single if (value := cells[index]) and not value.isspace()
            }
            for name, candidates in several:
                is_taken = False
                for index, kept_name in candidates:
                    value = cells[index]
                    if value and not value.isspace():
                        if (target := kept_name if is_taken else name) is not None:
                            lead[target] = value
                        is_taken = True
            if consent and (statements := self._consent_of({column: cells[index] for column, index in consent})):
                lead["consent"] = statements
            return lead

        return lead_of

    def _consent_of(self, row: Mapping[str, Any]) -> list[Any]:
        given = row.get("consent")
        statements: list[Any] = []
        if isinstance(given, dict | list):  # statements in a file of JSON are taken as they are
            statements.extend(given if isinstance(given, list) else [given])
        occurred_at = None if self.consent_time is None else row.get(self.consent_time)
        for column, (channel, yes_grants) in self.consent.items():
            value = row.get(column)
            if _is_blank(value) or isinstance(value, dict | list):
                continue
            answer = read_yes_or_no(value)
            if answer is False and not yes_grants:
                continue  # not opted out is not a consent
            granted: Any = value if answer is None else answer is yes_grants
            statement = {"granted": granted, "purpose": "marketing", "channel": channel.value, "column": column}
            if not _is_blank(occurred_at):
                statement["occurred_at"] = str(occurred_at)
            statements.append(statement)
        return statements


def map_columns(columns: Sequence[str], own: Mapping[str, str | None] | None = None) -> ColumnMapping:
    """Map a file's columns; ``own`` is a person's mapping of some of them (``None``: no field).

    Raises:
        ImportFileError: ``own`` names a column that is not there, or a field that does not exist.
    """
    own = own or {}
    _check(columns, own)
    wanted: dict[str, list[tuple[int, int, str, str]]] = {}
    uses: dict[str, ColumnUse] = {}
    consent: dict[str, tuple[Channel, bool]] = {}
    consent_time: str | None = None
    for position, column in enumerate(columns):
        plain = _plain(column)
        if column == REJECTED_BECAUSE:
            uses[column] = ColumnUse(column, None, "left out: it says why the row was rejected before")
        elif column in own:
            target = own[column]
            if target is None:
                uses[column] = ColumnUse(column, None, "kept as sent: the map says so")
            elif target in CONSENT_TARGETS:
                consent[column] = (CONSENT_TARGETS[target], True)
                uses[column] = ColumnUse(column, "consent", f"yes or no, {CONSENT_TARGETS[target]}: the map says so")
            else:
                wanted.setdefault(target, []).append((_BY_PERSON, position, column, "the map says so"))
        elif plain in _OPT_IN or plain in _OPT_OUT:
            channel, grants = (_OPT_IN[plain], True) if plain in _OPT_IN else (_OPT_OUT[plain], False)
            consent[column] = (channel, grants)
            meaning = "yes grants" if grants else "yes withdraws"
            uses[column] = ColumnUse(
                column, "consent", f"{meaning}, marketing by {channel}{' channel' if channel == 'any' else ''}"
            )
        elif plain in _CONSENT_TIME and consent_time is None:
            consent_time = column
            uses[column] = ColumnUse(column, "consent", "when it was given")
        else:
            found = usual_field(column)
            if found is None:
                uses[column] = ColumnUse(column, None, "kept as sent")
            else:
                name, rank, reason = found
                wanted.setdefault(name, []).append((rank, position, column, reason))
    sources = {name: _ranked(name, candidates, uses) for name, candidates in wanted.items()}
    return ColumnMapping(tuple(uses[column] for column in columns), sources, consent, consent_time)


def _ranked(name: str, candidates: list[tuple[int, int, str, str]], uses: dict[str, ColumnUse]) -> tuple[str, ...]:
    ordered = sorted(candidates)
    rank, _position, winner, reason = ordered[0]
    for other_rank, _other_position, column, _other_reason in ordered[1:]:
        why = "comes first in the file" if other_rank == rank else _BETTER.get(rank, "is the more usual name")
        uses[column] = ColumnUse(column, name, f"only where {winner} is empty, else kept as sent: {winner} {why}")
    uses[winner] = ColumnUse(winner, name, reason if len(ordered) == 1 else f"wins: {reason}")
    return tuple(column for _rank, _position, column, _reason in ordered)


_BETTER = {_BY_PERSON: "is what the map says", 0: "is the field's own name"}


def usual_field(column: str) -> tuple[str, int, str] | None:
    """The field that a column's name usually means, how unusual the name is for it (0: its own), and why."""
    found = _BY_PLAIN_NAME.get(_plain(column))
    if found is not None:
        name, rank = found
        return name, rank, "the field's own name" if rank == 0 else f"a usual name of {name}"
    if "." not in column:
        return None
    found = _BY_PLAIN_NAME.get(_plain(column.rpartition(".")[2]))
    return None if found is None else (found[0], found[1] + _NESTED, f"its last part is a usual name of {found[0]}")


def _check(columns: Sequence[str], own: Mapping[str, str | None]) -> None:
    faults = [
        f"there is no column {column!r}; the file has: {', '.join(columns)}" for column in own if column not in columns
    ]
    allowed = (*FIELDS_BY_NAME, *CONSENT_TARGETS)
    faults += [
        f"{column}: there is no field {target!r}; allowed: {', '.join(allowed)}, or null to keep the column as sent"
        for column, target in own.items()
        if target is not None and target not in allowed
    ]
    if faults:
        raise ImportFileError("the column map does not fit: " + "; ".join(faults))


def kept_name(column: str) -> str:
    """Under which name of the lead a column is kept that is no field."""
    return f"{KEPT_PREFIX}{column}" if column in _RESERVED else column


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())


def _aliases() -> Iterable[tuple[str, tuple[str, int]]]:
    for known in CANONICAL_FIELDS:
        for rank, alias in enumerate(known.aliases, start=1):
            yield alias, (known.name, rank)
    for known in CANONICAL_FIELDS:
        yield _plain(known.name), (known.name, 0)


_BY_PLAIN_NAME: dict[str, tuple[str, int]] = dict(_aliases())


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def first_scalar(value: object) -> object:
    """The value that a field takes: of a list its first entry."""
    if isinstance(value, list):
        value = next((item for item in value if not _is_blank(item) and not isinstance(item, dict | list)), None)
    return None if _is_blank(value) else value
