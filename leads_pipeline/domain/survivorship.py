"""Which of its leads' values a contact keeps: the golden record.

``survive`` is a pure function of the *set* of member leads: their order, how they were batched and how often they are
given make no difference. Values that belong together are taken together, from one lead: a first name never meets
another lead's last name, nor a street another lead's city.

A value wins by, in this order: its quality (an own mailbox before an office's, a whole name before half of one), the
latest receipt, the source's priority, how many leads say the same, its length, and at last the larger lead id.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
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
    """Fields that survive together. ``quality`` ranks a lead's values before anything else, higher first."""

    fields: tuple[str, ...]
    quality: Callable[[Member], int]


# What decided, in the order in which it is asked.
CRITERIA = ("better_quality", "most_recent", "source_priority", "most_frequent", "longest", "lead_id")
ONLY_VALUE = "only_value"  # nothing had to be decided: all who say anything say this


def survive(members: Iterable[Member]) -> GoldenRecord:
    """The golden record of a contact with these leads, of which there must be at least one.

    Of several revisions of a lead the latest speaks.
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
    for group in GROUPS:
        winner = _winner(leads, group)
        if winner is None:
            continue
        member, rule = winner
        for name in group.fields:
            if (value := member.values.get(name)) is not None:
                values[name] = value
                provenance[name] = _source_of(member, rule)
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


def _winner(leads: Sequence[Member], group: Group) -> tuple[Member, str] | None:
    """The lead whose values of the group survive, and the criterion that set it apart; ``None`` if none has any."""
    candidates = [member for member in leads if any(member.values.get(name) is not None for name in group.fields)]
    if not candidates:
        return None
    if len(candidates) == 1:  # most contacts have one lead
        return candidates[0], ONLY_VALUE
    said = {member.lead_id: _comparable(member, group) for member in candidates}
    frequency = Counter(said.values())

    def rank(member: Member) -> tuple[int, datetime, int, int, int, UUID]:
        length = sum(len(str(member.values[name])) for name in group.fields if member.values.get(name) is not None)
        return (
            group.quality(member),
            member.received_at,
            member.priority,
            frequency[said[member.lead_id]],
            length,
            member.lead_id,
        )

    best = max(candidates, key=rank)
    others = [member for member in candidates if said[member.lead_id] != said[best.lead_id]]
    if not others:
        return best, ONLY_VALUE
    runner_up = max(others, key=rank)
    decided_by = next(i for i, (a, b) in enumerate(zip(rank(best), rank(runner_up), strict=True)) if a != b)
    return best, CRITERIA[decided_by]


def _comparable(member: Member, group: Group) -> tuple[str | None, ...]:
    """What the lead says in this group, with spelling that means nothing taken off."""
    said = (member.values.get(name) for name in group.fields)
    return tuple(None if value is None else letters_digits_key(str(value)) or str(value) for value in said)


def _source_of(member: Member, rule: str) -> dict[str, str]:
    return {"lead_id": str(member.lead_id), "received_at": member.received_at.isoformat(), "rule": rule}


def _touch(member: Member) -> dict[str, str]:
    return {
        **member.attribution,
        "source": member.source,
        "lead_id": str(member.lead_id),
        "received_at": member.received_at.isoformat(),
    }


def _any_value(_member: Member) -> int:
    return 0


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


def _email_quality(member: Member) -> int:
    """One's own mailbox, then a probably misspelt one, an office's, one soon to be gone, one that takes no mail."""
    if member.email_verdict is Standing.INVALID:
        return -1
    for rank, flag in enumerate(
        ("disposable_mailbox", "email_domain_reserved", "role_mailbox", "email_typo_suspected")
    ):
        if flag in member.flags:
            return rank
    return 4


def _name_quality(member: Member) -> int:
    return sum(member.values.get(name) is not None for name in ("first_name", "last_name"))


def _address_quality(member: Member) -> int:
    """An address that a letter reaches, then one that names a town, then a region."""
    has = {name for name in ("address", "city", "postcode") if member.values.get(name) is not None}
    if "address" in has and len(has) > 1:
        return 2
    return 1 if has else 0


def _birth_quality(member: Member) -> int:
    return -int("date_unlikely" in member.flags) - int("date_ambiguous" in member.flags)


GROUPS: tuple[Group, ...] = (
    Group(("email", "email_key"), _email_quality),
    Group(("phone",), _any_value),
    Group(("first_name", "last_name"), _name_quality),
    Group(("company",), _any_value),
    Group(("job_title",), _any_value),
    Group(("date_of_birth",), _birth_quality),
    Group(("address", "city", "state", "postcode", "country"), _address_quality),
)
