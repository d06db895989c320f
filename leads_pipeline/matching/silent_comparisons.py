"""Why a comparison of the model says nothing of two records: one lacks the value, or a clue would count twice.

Each entry of ``_NEEDS`` belongs to a comparison of ``matching.model``; add one with it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from leads_pipeline.domain.ids import LeadId
from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.matching.pairs import terms_of

_Seen = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Silence:
    """A comparison that says nothing.

    ``lacking``: the leads that have no ``needed``; if none lacks it, ``why`` says what else keeps it silent.
    """

    name: str
    needed: str
    lacking: tuple[LeadId, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Needs:
    """``values``: one that both have is enough. ``otherwise``: why it is silent although they do."""

    needed: str
    values: tuple[str, ...]
    otherwise: Callable[[_Seen, _Seen], str] = lambda _one, _other: "another comparison tells it already"


_A_FAMILYS = "a family's or a company's: with other given names or births a generation apart it says nothing"


def why_silent(name: str, leads: tuple[LeadId, LeadId], records: Sequence[MatchFields]) -> Silence:
    """Why the comparison ``name`` says nothing of two leads that hold these records."""
    needs = _NEEDS[name]
    one, other = (_seen(record) for record in records)
    if any(value in one and value in other for value in needs.values):
        return Silence(name, needs.needed, (), needs.otherwise(one, other))
    lacking = tuple(
        lead for lead, seen in zip(leads, (one, other), strict=True) if not any(value in seen for value in needs.values)
    )
    return Silence(name, needs.needed, lacking, "" if lacking else f"one gives this, the other that: {needs.needed}")


def _seen(fields: MatchFields) -> _Seen:
    own_address = fields.email_key and not fields.role_mailbox
    return {
        **terms_of(fields),
        **({"email": fields.email_key or ""} if own_address else {}),
        **({"address": fields.address_key} if fields.address_key else {}),
    }


def _agree(one: _Seen, other: _Seen, *names: str) -> bool:
    return any(name in one and one[name] == other.get(name) for name in names)


def _no_mailbox(one: _Seen, other: _Seen) -> str:
    if one["email"] == other["email"]:
        return _A_FAMILYS
    return "at two domains: see e-mail"


def _no_last_name(_one: _Seen, _other: _Seen) -> str:
    return "the whole name is one clue: see first name"


def _no_email(_one: _Seen, _other: _Seen) -> str:
    return "at one domain: see mailbox"


def _no_phone(_one: _Seen, _other: _Seen) -> str:
    return _A_FAMILYS


def _no_company(one: _Seen, other: _Seen) -> str:
    return "one phone is one place of work: see phone" if _agree(one, other, "phone") else _A_FAMILYS


def _no_place(one: _Seen, other: _Seen) -> str:
    if _agree(one, other, "phone"):
        return "one phone is one place: see phone"
    if _agree(one, other, "company", "domain"):
        return "one company is one place: see company"
    towns = any(name in one and name in other for name in ("postcode", "city"))
    if not towns and not (_agree(one, other, "address") and re.search("[0-9]", one["address"])):
        return "without a town in both, an address counts only if number and street are the same"
    return _A_FAMILYS


_NEEDS: dict[str, _Needs] = {
    "first_name": _Needs("given name", ("first_name",)),
    "last_name": _Needs("family name", ("last_name",), _no_last_name),
    "mailbox": _Needs("e-mail address of a person's own", ("email",), _no_mailbox),
    "email": _Needs("e-mail address of a person's own", ("email",), _no_email),
    "phone": _Needs("phone", ("phone",), _no_phone),
    "born": _Needs("date of birth", ("born",)),
    "company": _Needs("company or work address", ("company", "domain"), _no_company),
    "place": _Needs("address, postcode or city", ("address", "postcode", "city"), _no_place),
    "job_title": _Needs("job title", ("job_title",)),
}
