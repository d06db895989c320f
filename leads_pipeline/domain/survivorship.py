"""Which of its leads' values a contact keeps: the golden record.

``survive`` is a pure function of the *set* of member leads and of the policy: the leads' order, how they were batched
and how often they are given make no difference. Values that belong together are taken together, from one lead: a first
name never meets another lead's last name, nor a street another lead's city. A lead that says nothing of a group does
not take part, so nothing never overwrites something.

A policy is, per group, an order of rules; the first rule that tells two values apart decides, and at last the larger
lead id. Which rules leads.yaml may name stands in ``config.survivorship``.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from leads_pipeline.domain.text import letters_digits_key
from leads_pipeline.domain.verification import UNVERIFIED, Standing

Value = str | date | int | None

GOLDEN_FIELDS: tuple[str, ...] = (
    "email", "email_key", "phone", "first_name", "last_name", "company", "job_title", "date_of_birth",
    "address", "city", "state", "postcode", "country",
)  # fmt: skip


# What verification says of a contact's address and number; who reads the golden record may act on it.
VERIFIED_FIELDS: tuple[str, ...] = ("email_verdict", "phone_verdict", "phone_line_type", "risk_score")


class Rule(StrEnum):
    """What tells two leads' values apart."""

    BETTER_QUALITY = "better_quality"  # an own mailbox before an office's, a whole name before half of one
    MOST_RECENT_VERIFIED = "most_recent_verified"  # known to exist, and of such the one that came last
    MOST_RECENT = "most_recent"
    OLDEST = "oldest"
    SOURCE_PRIORITY = "source_priority"
    MOST_FREQUENT = "most_frequent"  # what more leads of the contact say
    MOST_COMPLETE = "most_complete"  # more fields of the group
    LONGEST = "longest"


# What decided where no rule did: no reason, but always the same one.
LEAD_ID = "lead_id"
ONLY_VALUE = "only_value"  # nothing had to be decided: all who say anything say this


@dataclass(frozen=True, slots=True)
class Member:
    """One validated lead of a contact. ``values`` holds ``GOLDEN_FIELDS``; ``priority`` is its source's.

    The verdicts are those of its own look-ups, ``None`` as long as there are none.
    """

    lead_id: UUID
    revision: int
    received_at: datetime
    source: str
    priority: int
    values: Mapping[str, Value]
    flags: frozenset[str] = frozenset()
    attribution: Mapping[str, str] = field(default_factory=dict)
    email_verdict: Standing | None = None
    phone_verdict: Standing | None = None
    phone_line_type: str | None = None
    risk_score: int = 0


@dataclass(frozen=True, slots=True)
class GoldenRecord:
    """What a contact is. ``provenance`` says for each field which lead it came from, and by which rule."""

    values: dict[str, Value]
    provenance: dict[str, dict[str, str]]
    attribution: dict[str, dict[str, str]]
    lead_count: int
    first_source: str
    last_source: str
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that survive together.

    ``quality`` ranks a lead's values, higher first; it is given what is known of the value, from whichever lead.
    ``verified_by`` names the field that is looked up and the member's verdict on it.
    """

    name: str
    fields: tuple[str, ...]
    quality: Callable[[Member, Standing | None], int]
    verified_by: tuple[str, str] | None = None


class _Candidates:
    """The leads that say anything of a group, oldest first, and what only all of them together tell."""

    __slots__ = ("frequency", "group", "leads", "said", "standing")

    def __init__(self, leads: Sequence[Member], group: Group) -> None:
        self.group = group
        self.leads = leads
        self.said = {member.lead_id: _comparable(member, group) for member in leads}
        self.frequency = Counter(self.said.values())
        self.standing = _standings(leads, group.verified_by) if group.verified_by else {}

    def standing_of(self, member: Member) -> Standing | None:
        verified_by = self.group.verified_by
        return self.standing.get(member.values.get(verified_by[0])) if verified_by else None


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _verified_at(member: Member, among: _Candidates) -> datetime:
    return member.received_at if among.standing_of(member) is Standing.VALID else _LONG_AGO


def _filled(member: Member, among: _Candidates) -> list[Value]:
    return [value for name in among.group.fields if (value := member.values.get(name)) is not None]


# How a rule ranks a lead's values among those of the others, the largest first.
_RANKS: dict[Rule, Callable[[Member, _Candidates], Any]] = {
    Rule.BETTER_QUALITY: lambda member, among: among.group.quality(member, among.standing_of(member)),
    Rule.MOST_RECENT_VERIFIED: _verified_at,
    Rule.MOST_RECENT: lambda member, _among: member.received_at,
    Rule.OLDEST: lambda member, _among: _LONG_AGO - member.received_at,
    Rule.SOURCE_PRIORITY: lambda member, _among: member.priority,
    Rule.MOST_FREQUENT: lambda member, among: among.frequency[among.said[member.lead_id]],
    Rule.MOST_COMPLETE: lambda member, among: len(_filled(member, among)),
    Rule.LONGEST: lambda member, among: sum(len(str(value)) for value in _filled(member, among)),
}


class Policy:
    """By which rules each group survives, ready to be applied.

    ``rules``: the name of a group → its rules in their order; a group that is left out keeps ``DEFAULT_RULES``.
    """

    def __init__(self, rules: Mapping[str, Sequence[str]]) -> None:
        chosen = {name: tuple(Rule(rule) for rule in rules.get(name, DEFAULT_RULES[name])) for name in DEFAULT_RULES}
        self.groups = tuple(
            (group, chosen[group.name], tuple(_RANKS[rule] for rule in chosen[group.name])) for group in GROUPS
        )


def survive(members: Iterable[Member], policy: Policy | None = None) -> GoldenRecord:
    """The golden record of a contact with these leads, of which there must be at least one.

    Of several revisions of a lead the latest speaks. Without a policy the default rules hold.
    """
    latest: dict[UUID, Member] = {}
    for member in members:
        known = latest.get(member.lead_id)
        if known is None or member.revision > known.revision:
            latest[member.lead_id] = member
    if not latest:
        raise ValueError("a golden record needs a lead")
    leads = sorted(latest.values(), key=lambda member: (member.received_at, member.lead_id))
    values: dict[str, Value] = dict.fromkeys(GOLDEN_FIELDS)
    provenance: dict[str, dict[str, str]] = {}
    for group, rules, ranks in (policy or DEFAULT_POLICY).groups:
        winner = _winner(leads, group, rules, ranks)
        if winner is None:
            continue
        member, rule = winner
        origin = {"lead_id": str(member.lead_id), "received_at": member.received_at.isoformat(), "rule": rule}
        for name in group.fields:
            if (value := member.values.get(name)) is not None:
                values[name] = value
                provenance[name] = origin
    values |= _verified(leads, values)
    first, last = leads[0], leads[-1]
    return GoldenRecord(
        values=values,
        provenance=provenance,
        attribution={"first": _touch(first), "last": _touch(last)},
        lead_count=len(leads),
        first_source=first.source,
        last_source=last.source,
        first_seen_at=first.received_at,
        last_seen_at=last.received_at,
    )


def _winner(
    leads: Sequence[Member],
    group: Group,
    rules: Sequence[Rule],
    ranks: Sequence[Callable[[Member, _Candidates], Any]],
) -> tuple[Member, str] | None:
    """The lead whose values of the group survive, and the rule that set it apart; ``None`` if none has any."""
    candidates = [member for member in leads if any(member.values.get(name) is not None for name in group.fields)]
    if not candidates:
        return None
    if len(candidates) == 1:  # most contacts have one lead
        return candidates[0], ONLY_VALUE
    among = _Candidates(candidates, group)
    ranked = {member.lead_id: (*[rank(member, among) for rank in ranks], member.lead_id) for member in candidates}
    best = max(candidates, key=lambda member: ranked[member.lead_id])
    others = [member for member in candidates if among.said[member.lead_id] != among.said[best.lead_id]]
    if not others:
        return best, ONLY_VALUE
    first, second = ranked[best.lead_id], max(ranked[member.lead_id] for member in others)
    decided_by = next(place for place, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    return best, rules[decided_by] if decided_by < len(rules) else LEAD_ID


def _comparable(member: Member, group: Group) -> tuple[Value, ...]:
    """What the lead says in this group, with spelling that means nothing taken off."""
    if group.verified_by is not None:  # what is looked up has a form for comparing
        return (member.values.get(group.verified_by[0]),)
    said = (member.values.get(name) for name in group.fields)
    return tuple(None if value is None else letters_digits_key(str(value)) or str(value) for value in said)


def _standings(leads: Sequence[Member], verified_by: tuple[str, str]) -> dict[Value, Standing]:
    """What is known of each value, from whichever of the leads (oldest first) had it verified last."""
    subject, verdict = verified_by
    found: dict[Value, Standing] = {}
    for member in leads:
        told: Standing | None = getattr(member, verdict)
        value = member.values.get(subject)
        if told is not None and _tells(told, than=found.get(value, UNVERIFIED)):
            found[value] = told
    return found


def _touch(member: Member) -> dict[str, str]:
    return {
        **member.attribution,
        "source": member.source,
        "lead_id": str(member.lead_id),
        "received_at": member.received_at.isoformat(),
    }


def _verified(leads: Sequence[Member], values: Mapping[str, Value]) -> dict[str, Value]:
    """What is known of the address and the number that survived, from whichever lead had them verified last."""
    found: dict[str, Value] = dict.fromkeys(VERIFIED_FIELDS)
    found["email_verdict"] = None if values["email_key"] is None else UNVERIFIED
    found["phone_verdict"] = None if values["phone"] is None else UNVERIFIED
    for member in leads:  # oldest first: the latest lead that knows anything is heard last
        if values["email_key"] is not None and member.values.get("email_key") == values["email_key"]:
            found["risk_score"] = member.risk_score
            if _tells(member.email_verdict, than=found["email_verdict"]):
                found["email_verdict"] = member.email_verdict
        if values["phone"] is not None and member.values.get("phone") == values["phone"]:
            if values["email_key"] is None:
                found["risk_score"] = member.risk_score
            if _tells(member.phone_verdict, than=found["phone_verdict"]):
                found["phone_verdict"] = member.phone_verdict
            found["phone_line_type"] = member.phone_line_type or found["phone_line_type"]
    return found


def _tells(verdict: Standing | None, *, than: Value) -> bool:
    """Whether a later verdict says more: that nobody could tell does not take back what was told."""
    return verdict is not None and (than == UNVERIFIED or verdict is not Standing.UNKNOWN)


def _email_quality(member: Member, standing: Standing | None) -> int:
    """One's own mailbox, then a probably misspelt one, an office's, one soon to be gone, one that takes no mail."""
    if standing is Standing.INVALID:
        return -1
    for rank, flag in enumerate(
        ("disposable_mailbox", "email_domain_reserved", "role_mailbox", "email_typo_suspected")
    ):
        if flag in member.flags:
            return rank
    return 4


def _phone_quality(_member: Member, standing: Standing | None) -> int:
    """Any number before one that is known not to exist."""
    return -int(standing is Standing.INVALID)


def _name_quality(member: Member, _standing: Standing | None) -> int:
    return sum(member.values.get(name) is not None for name in ("first_name", "last_name"))


def _address_quality(member: Member, _standing: Standing | None) -> int:
    """An address that a letter reaches, then one that names a town, then a region."""
    has = {name for name in ("address", "city", "postcode") if member.values.get(name) is not None}
    if "address" in has and len(has) > 1:
        return 2
    return 1 if has else 0


def _birth_quality(member: Member, _standing: Standing | None) -> int:
    return -int("date_unlikely" in member.flags) - int("date_ambiguous" in member.flags)


def _one_as_good_as_another(_member: Member, _standing: Standing | None) -> int:
    return 0


GROUPS: tuple[Group, ...] = (
    Group("email", ("email", "email_key"), _email_quality, ("email_key", "email_verdict")),
    Group("phone", ("phone",), _phone_quality, ("phone", "phone_verdict")),
    Group("name", ("first_name", "last_name"), _name_quality),
    Group("company", ("company",), _one_as_good_as_another),
    Group("job_title", ("job_title",), _one_as_good_as_another),
    Group("date_of_birth", ("date_of_birth",), _birth_quality),
    Group("address", ("address", "city", "state", "postcode", "country"), _address_quality),
)

# What changes seldom or never: the latest lead that says otherwise is more often a slip than news.
_LASTING = (Rule.BETTER_QUALITY, Rule.MOST_FREQUENT, Rule.MOST_RECENT, Rule.SOURCE_PRIORITY, Rule.LONGEST)
_RECEIVED = (Rule.MOST_RECENT, Rule.SOURCE_PRIORITY, Rule.MOST_FREQUENT, Rule.LONGEST)
DEFAULT_RULES: dict[str, tuple[Rule, ...]] = {
    "email": (Rule.BETTER_QUALITY, Rule.MOST_RECENT_VERIFIED, *_RECEIVED),
    "phone": (Rule.BETTER_QUALITY, Rule.MOST_RECENT_VERIFIED, *_RECEIVED),
    "name": _LASTING,
    "company": _RECEIVED,
    "job_title": _RECEIVED,
    "date_of_birth": _LASTING,
    "address": (Rule.BETTER_QUALITY, *_RECEIVED),
}
DEFAULT_POLICY = Policy({})
