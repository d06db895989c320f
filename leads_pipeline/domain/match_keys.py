"""Blocking keys: two records are compared only if they share one.

A key is a kind and a value; what is stored is a hash, so the index holds no readable value. Which kinds exist was
decided by recall on data with known truth (docs/matching.md has the table): a kind that finds no pair that another
does not find only costs. Keep out: how alike two records are, which is ``leads_pipeline.matching``.
"""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from nicknames import NickNamer

# A local part that a mailbox of any company may have finds strangers.
_MIN_LOCAL_PART = 5


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


def match_keys(fields: MatchFields) -> list[MatchKey]:
    """The distinct keys of a record, in no order that means anything."""
    return list({key: None for kind, value in _values(fields) for key in (MatchKey(kind, _hashed(kind, value)),)})


def _values(fields: MatchFields) -> list[tuple[str, str]]:
    first, last = fields.first_name_key, fields.last_name_key
    root = given_name_root(first) if first else None
    first_sound, last_sound = root and sound(root), last and sound(last)
    city, company = fields.city_key, fields.company_key
    born = fields.date_of_birth.isoformat() if fields.date_of_birth else None
    year = born and born[:4]
    values = [
        ("email", fields.email_key),
        ("phone", fields.phone_key),
        ("born", born),
        ("postcode", fields.postcode_key),
        ("address", fields.address_key),
        # Sorted, because given and family name are often exchanged.
        ("name", _joined(*sorted((root, last))) if root and last else None),
        ("name_sound", _joined(*sorted((first_sound, last_sound))) if first_sound and last_sound else None),
        ("name_start", _joined(*sorted((first_sound[:3], last_sound[:3]))) if first_sound and last_sound else None),
        ("last_company", _joined(last_sound, company)),
        ("first_company", _joined(root, company)),
        ("last_city", _joined(last_sound, city)),
        ("first_city", _joined(root, city)),
        ("last_year", _joined(last_sound, year)),
        ("first_year", _joined(root, year)),
        ("city_year", _joined(city, year)),
    ]
    if fields.email_key:
        local, _, domain = fields.email_key.partition("@")
        if len(local) >= _MIN_LOCAL_PART:
            values += [("mailbox", local), ("mailbox_start", f"{local[:4]}@{domain}")]
            values += [("mailbox_end", f"{local[-4:]}@{domain}")]
    return [(kind, value) for kind, value in values if value]


def _joined(*parts: str | None) -> str | None:
    return "|".join(part for part in parts if part) if all(parts) else None


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


_CODES = {
    **dict.fromkeys("bfpv", "1"),
    **dict.fromkeys("cgjkqsxz", "2"),
    **dict.fromkeys("dt", "3"),
    "l": "4",
    **dict.fromkeys("mn", "5"),
    "r": "6",
}


@lru_cache(maxsize=65_536)
def sound(name: str) -> str:
    """American Soundex of a name in lower-case Latin letters, with four digits rather than three."""
    digits: list[str] = []
    last = _CODES.get(name[0], "")
    for letter in name[1:]:
        code = _CODES.get(letter, "")
        if code and code != last:
            digits.append(code)
        if letter not in "hw":
            last = code
    return (name[0] + "".join(digits))[:5]
