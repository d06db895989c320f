"""Blocking keys: two records are compared only if they share one that few have (``domain.candidates``).

A key is a kind and a value; what is stored is a hash, so the index holds no readable value. Which kinds exist was
decided by recall on data with known truth (the documentation has the table): a kind that finds no pair that another
does not find only costs. Keep out: how alike two records are, which is ``leads_pipeline.matching``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from nicknames import NickNamer

from leads_pipeline.domain.mailbox_lists import KNOWN
from leads_pipeline.domain.spellings import sound, spelling

# What records are found and compared by: their keys, the fields that make them, and the values that are counted
# (``matching.pairs.terms_of``). Raise it with each change of these: records that stand in a database were made by those
# of their day, until `leads matching reindex` makes them anew. 0 is the release without a number.
INDEX_VERSION = 1

# A local part that a mailbox of any company may have finds strangers.
_MIN_LOCAL_PART = 5
# Letters that most misspellings leave alone, and that few others share.
_FIRST_OF_PLACE = 4
_FIRST_OF_WORK = 8
_FIRST_OF_MAILBOX = 3
_LAST_OF_PHONE = 4


@dataclass(frozen=True, slots=True)
class MatchFields:
    """What identity resolution sees of a lead: normalised for comparing, never shown.

    ``external_id_key`` is ``<source>:<id>``. ``phone_kind`` is ``mobile``, ``other``, or ``None`` where the numbering
    plan does not tell (``domain.match_fields`` makes all of them from a validated lead).
    """

    email_key: str | None = None
    phone_key: str | None = None
    first_name_key: str | None = None
    last_name_key: str | None = None
    company_key: str | None = None
    date_of_birth: date | None = None
    address_key: str | None = None
    city_key: str | None = None
    postcode_key: str | None = None
    state_key: str | None = None
    job_title_key: str | None = None
    external_id_key: str | None = None
    phone_kind: str | None = None
    email_verified: bool = False
    role_mailbox: bool = False


class MatchKey(NamedTuple):
    """``key_hash`` is of kind and value, as a signed 64-bit integer."""

    kind: str
    key_hash: int


@lru_cache(maxsize=8_192)
def match_keys(fields: MatchFields) -> tuple[MatchKey, ...]:
    """The distinct keys of a record, in no order that means anything.

    Remembered, since a chunk looks for the keys of its leads first and writes them when it is done.
    """
    return tuple(MatchKey(kind, _hashed(kind, value)) for kind, value in dict.fromkeys(_values(fields)))


def _values(fields: MatchFields) -> Iterator[tuple[str, str]]:
    first, last = fields.first_name_key, fields.last_name_key
    root = given_name_root(first) if first else None
    # Given and family name are often exchanged, and a name that stands alone may be either: a key has one of them, and
    # does not say which.
    given, family = root and sound(spelling(root)), last and sound(spelling(last))
    parts = [part for part in dict.fromkeys((given, family)) if part]
    if fields.email_key:
        yield "email", fields.email_key
    if fields.phone_key:
        yield "phone", fields.phone_key
    if fields.external_id_key:
        yield "external_id", fields.external_id_key
    works = _works(fields)
    for part in parts:
        for work in works:
            yield "part_work", f"{part}|{work}"
    if given and family:
        yield from _of_name("|".join(sorted((given, family))), works, fields)
    if fields.date_of_birth:
        yield from _of_birth(fields.date_of_birth.isoformat(), parts, fields)
    if fields.date_of_birth or not (fields.email_key or fields.phone_key):
        # Where they live finds mostly strangers. Others are found by their addresses and by where they work: among
        # 250,000 contacts these were 28 % of what a lead was compared with, for 4 in 1,000 of the pairs that belong.
        yield from _of_place(parts, fields)
    if fields.email_key and not fields.role_mailbox:
        yield from _of_mailbox(fields.email_key, parts)


def _of_name(name: str, works: Sequence[str], fields: MatchFields) -> Iterator[tuple[str, str]]:
    """``name``: both parts, in either order."""
    yield "name", name
    for work in works:
        yield "name_work", f"{name}|{work}"
    if fields.job_title_key:
        yield "name_title", f"{name}|{fields.job_title_key}"
    if fields.phone_key:
        yield "name_phone", f"{name}|{fields.phone_key[-_LAST_OF_PHONE:]}"
    if fields.date_of_birth:
        yield "name_year", f"{name}|{fields.date_of_birth.year:04}"
    if fields.email_key and not fields.role_mailbox:
        digits = "".join(filter(str.isdigit, fields.email_key.partition("@")[0]))
        if len(digits) > 1:
            yield "name_digits", f"{name}|{digits}"


def _of_birth(born: str, parts: Sequence[str], fields: MatchFields) -> Iterator[tuple[str, str]]:
    year, place = born[:4], fields.city_key and fields.city_key[:_FIRST_OF_PLACE]
    yield "born", born
    for part in parts:
        yield "part_born", f"{part}|{born}"
        yield "part_year", f"{part}|{year}"
    if place:
        yield "city_born", f"{place}|{born}"
        yield "city_year", f"{place}|{year}"
        for part in parts:
            yield "part_city_year", f"{part}|{place}|{year}"


def _of_place(parts: Sequence[str], fields: MatchFields) -> Iterator[tuple[str, str]]:
    if fields.city_key:
        for part in parts:
            yield "part_city", f"{part}|{fields.city_key[:_FIRST_OF_PLACE]}"
    if fields.postcode_key:
        near = area(fields.postcode_key)
        yield "area", near
        for part in parts:
            yield "part_area", f"{part}|{near}"


def _of_mailbox(email: str, parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    local, _, domain = email.partition("@")
    if len(local) >= _MIN_LOCAL_PART or (len(local) > 2 and not local.isalpha()):
        yield "mailbox", local
    if not KNOWN.is_free(domain):
        for part in parts or ("",):  # those without a name meet each other
            yield "part_mailbox", f"{part}|{local[:_FIRST_OF_MAILBOX]}@{domain}"


def _works(fields: MatchFields) -> list[str]:
    """Where one works, as the company is called and as its address on the internet is: mostly it begins alike."""
    works = [fields.company_key] if fields.company_key else []
    domain = fields.email_key.partition("@")[2] if fields.email_key else None
    if domain and not KNOWN.is_free(domain):
        # Of acme.co.uk and mail.acme.com the longest part is the name most often, of equals the last one.
        label = max(domain.split(".")[-2::-1], key=len, default="")
        works.append(label if label.isalnum() else "".join(filter(str.isalnum, label)))
    return list(dict.fromkeys(work[:_FIRST_OF_WORK] for work in works if work))


def area(postcode: str) -> str:
    """What a postcode has in common with those near it: all but its last two characters, three at least."""
    return postcode[: max(3, len(postcode) - 2)]


def _hashed(kind: str, value: str) -> int:
    digest = blake2b(f"{kind}:{value}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@lru_cache(maxsize=65_536)
def given_name_root(name: str) -> str:
    """The full form that ``name`` is most probably short for, or ``name``: bob → robert, robert → robert."""
    namer = _nicknamer()
    forms = {name, *namer.canonicals_of(name)}
    # The form with the most short forms is the one that parents give; the name itself breaks ties.
    return max(forms, key=lambda form: (len(namer.nicknames_of(form)), form))


@lru_cache(maxsize=65_536)
def given_name_forms(name: str) -> tuple[str, ...]:
    """``name`` and every full form that it may be short for. Names that share one may be the same person's."""
    return tuple(sorted({name, given_name_root(name), *_nicknamer().canonicals_of(name)}))


@lru_cache(maxsize=1)
def _nicknamer() -> NickNamer:
    return NickNamer()
