"""A record as the comparisons see it: columns that Python makes of its fields, and what DuckDB makes of those.

Column by column, since the cost of a record is in every pair that it is compared in. Keep out: how common the values
are (``scoring``), and what agrees with what (``model``).
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa

from leads_pipeline.domain.match_keys import MatchFields, given_name_forms
from leads_pipeline.domain.spellings import spelling
from leads_pipeline.matching.pairs import work_domain

GIVEN_COLUMNS = pa.schema(
    {
        "record": pa.int32(),
        "first_name": pa.string(),
        "last_name": pa.string(),
        "email": pa.string(),
        "phone": pa.string(),
        "born": pa.string(),
        "company": pa.string(),
        "address": pa.string(),
        "city": pa.string(),
        "postcode": pa.string(),
        "first_name_forms": pa.list_(pa.string()),
        "own_mailbox": pa.string(),
        "first_spelling": pa.string(),
        "last_spelling": pa.string(),
        "domain": pa.string(),
        "phone_kind": pa.string(),
        "job_title": pa.string(),
    }
)
# As DuckDB SQL over those.
DERIVED_COLUMNS: dict[str, str] = {
    "full_name": "first_name || ' ' || last_name",
    "mailbox": "split_part(email, '@', 1)",
    "mail_domain": "split_part(email, '@', 2)",
    "mailbox_digits": "regexp_replace(split_part(email, '@', 1), '[^0-9]', '', 'g')",
    "born_swapped": "left(born, 5) || right(born, 2) || '-' || substr(born, 6, 2)",
    "born_days": "datediff('day', date '1970-01-01', cast(born as date))",
    "area": "left(postcode, greatest(3, length(postcode) - 2))",
}


RECORDS = f"select *, {', '.join(f'{sql} as {name}' for name, sql in DERIVED_COLUMNS.items())} from given_records"  # noqa: S608 - names of columns
"""SQL that makes records of the table ``given_records`` of the ``GIVEN_COLUMNS``, with those that are derived."""


@contextmanager
def given(connection: duckdb.DuckDBPyConnection, **tables: pa.Table) -> Iterator[None]:
    """Meanwhile SQL can read these by their names. They are not copied."""
    try:
        for name, table in tables.items():
            connection.register(name, table)
        yield
    finally:
        for name in tables:
            connection.unregister(name)


def record_columns(
    records: Sequence[MatchFields], *, first: int = 0, mailboxes: Collection[str] | None = None
) -> dict[str, list[Any]]:
    """The ``GIVEN_COLUMNS`` of ``records``, which are numbered from ``first``.

    A role mailbox is nobody's, so of its address only the domain is seen: it says where one works. ``mailboxes``: those
    of which it matters whether they say more than the name, all if not given.
    """
    names = [fields.first_name_key or None for fields in records]
    families = [fields.last_name_key or None for fields in records]
    return {
        "record": list(range(first, first + len(records))),
        "first_name": names,
        "last_name": families,
        "email": [None if fields.role_mailbox else fields.email_key or None for fields in records],
        "phone": [fields.phone_key or None for fields in records],
        "born": [fields.date_of_birth and fields.date_of_birth.isoformat() for fields in records],
        "company": [fields.company_key or None for fields in records],
        "address": [fields.address_key for fields in records],
        "city": [fields.city_key or None for fields in records],
        "postcode": [fields.postcode_key or None for fields in records],
        "first_name_forms": [given_name_forms(name) if name else None for name in names],
        "own_mailbox": [
            own_mailbox(fields)
            if fields.email_key
            and not fields.role_mailbox
            and (mailboxes is None or fields.email_key.partition("@")[0] in mailboxes)
            else None
            for fields in records
        ],
        "first_spelling": [spelling(name) if name else None for name in names],
        "last_spelling": [spelling(name) if name else None for name in families],
        "domain": [work_domain(fields.email_key) if fields.email_key else None for fields in records],
        "phone_kind": [fields.phone_kind if fields.phone_key else None for fields in records],
        "job_title": [fields.job_title_key or None for fields in records],
    }


def own_mailbox(fields: MatchFields) -> str | None:
    """The part before the @, unless it is short or can be told from the name: then it is no evidence of its own."""
    if not fields.email_key:
        return None
    local = fields.email_key.partition("@")[0]
    plain = local if local.isalnum() else "".join(filter(str.isalnum, local))
    if len(plain) < 5:
        return None
    names = tuple(name for name in (fields.first_name_key, fields.last_name_key) if name)
    if not any(name in plain for name in names):  # most mailboxes of strangers: only initials could explain them
        return None if {name[0] for name in names}.issuperset(plain) else local
    return None if _made_of(plain, names) else local


@lru_cache(maxsize=65_536)
def _made_of(local: str, names: tuple[str, ...]) -> bool:
    """Whether ``local`` is nothing but names and initials, in any order."""
    parts = {part for name in names for part in (name, name[:1])}
    if not local:
        return True
    return any(local.startswith(part) and _made_of(local[len(part) :], names) for part in parts)
