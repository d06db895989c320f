"""Leads that are hard to tell apart: the yardstick of identity resolution, much harder than the demo's leads.

One person leaves several leads, by work and by private e-mail, before and after a change of job, name, home or number;
companies share a switchboard, an office and role mailboxes; households share a home, its telephone and sometimes a
mailbox; parents and children, and strangers at two companies, share a name. Names come short, misspelt, exchanged, in
other romanisations or in their own letters, addresses at mail providers are numbered, and some values are left over
from somebody else. Names are drawn by frequency, so the namesakes of a person grow with the number of people.

What nobody could find: 2.0 to 2.3 % of the true pairs (``unfindable_share``) share nothing but a name, or not even
that. The rest are joined, directly or over other leads of the person, by a mailbox, a number, an employer, a home or a
date of birth; typos may have spoilt what they share. Splink's defaults reach a pairwise F1 of about .89 at 10,000 leads
and .83 at 100,000.

Keep the seeds apart: what is chosen by looking at figures is chosen on ``TUNING_SEEDS`` (and models are trained on
them), figures are reported on ``REPORTING_SEEDS``.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heappop, heappush
from typing import TypeVar

from leads_pipeline.synthetic import noise
from leads_pipeline.synthetic.hard_people import ROLES, HardPerson, HardPopulation, Home, Job, Name
from leads_pipeline.synthetic.leads import PERIOD, SyntheticLead

TUNING_SEEDS = (11, 12, 13, 14)
REPORTING_SEEDS = (9_001, 9_002, 9_003)

_LEADS_PER_PERSON = ((1, 0.62), (2, 0.21), (3, 0.09), (4, 0.04), (5, 0.025), (8, 0.015))
_LEADS_PER_HOUSEHOLD = 1.8
# Of the leads that would share nothing with the person's others, so many are left alone.
_LEFT_ALONE = 0.15
_ROLE_MAILBOX = 0.07
_PARTNERS_MAILBOX = 0.06
_LEFT_OVER_PHONE = 0.01
_LEFT_OVER_EMAIL = 0.003
# Values of so many people before may be left over.
_REMEMBERED = 500
_WORK_SHARE = {"work": 0.97, "private": 0.03, "either": 0.5}
# The share of leads that are typed with care: nothing is spoilt.
_CAREFUL = 0.42


@dataclass(frozen=True, slots=True)
class _Source:
    """What one source asks for: the chance that a field is there."""

    name: str
    share: float
    email: float
    phone: float
    company: float
    job_title: float
    place: float
    address: float
    date_of_birth: float
    country: float
    whole_name: float


_SOURCES = (
    _Source("website", 0.5, 0.95, 0.50, 0.75, 0.30, 0.25, 0.05, 0.00, 0.5, 0.10),
    _Source("webinar", 0.3, 0.99, 0.30, 0.90, 0.60, 0.20, 0.00, 0.00, 0.7, 0.25),
    _Source("partner", 0.2, 0.75, 0.85, 0.80, 0.40, 0.80, 0.60, 0.35, 0.9, 0.40),
)
_SOURCE_SHARES = [source.share for source in _SOURCES]


@dataclass(slots=True)
class _Draft:
    """A lead on its way: its fields as they are true, and what of them points to its person (``clues``)."""

    offset: timedelta
    source: _Source
    first: Name
    last: Name
    fields: dict[str, str] = field(default_factory=dict)
    clues: set[str] = field(default_factory=set)

    def give(self, name: str, value: str, *, clue: str) -> None:
        self.fields[name] = value
        self.clues.add(clue)


@dataclass(frozen=True, slots=True)
class _Present:
    """What of a person's things is true as a lead is left."""

    job: Job
    home: Home
    mobile: str
    mailbox: str


def hard_leads(count: int, *, seed: int) -> Iterator[SyntheticLead]:
    """``count`` leads one by one in the order in which they occur; the same arguments give the same leads.

    All are meant to be usable and none is a re-post to the letter by the sender. ``truth`` is the person. Memory: the
    companies and the leads that are still to come of people who have begun; 1,000,000 leads take two minutes and less
    than 1 GB.
    """
    return (lead for lead, _clues in _leads_and_clues(count, seed=seed))


def unfindable_share(count: int, *, seed: int) -> float:
    """The share of true pairs that nothing joins, neither directly nor over other leads of the person.

    Counted on what was meant, before typos: a mailbox, a line of one's own, an employer, a home, a date of birth.
    """
    groups: dict[str, list[tuple[int, set[str]]]] = {}
    for lead, clues in _leads_and_clues(count, seed=seed):
        joined, apart = (1, set(clues)), []
        for size, known in groups.get(lead.truth, []):
            if known.isdisjoint(clues):
                apart.append((size, known))
            else:
                joined = (joined[0] + size, joined[1] | known)
        groups[lead.truth] = [*apart, joined]
    people = [[size for size, _clues in found] for found in groups.values()]
    pairs = sum(_pairs(sum(sizes)) for sizes in people)
    return 1 - sum(_pairs(size) for sizes in people for size in sizes) / pairs


def _pairs(size: int) -> int:
    return size * (size - 1) // 2


def _leads_and_clues(count: int, *, seed: int) -> Iterator[tuple[SyntheticLead, set[str]]]:
    rng = random.Random(f"hard {seed}")  # noqa: S311 - reproducible on purpose
    households = max(1, round(count / _LEADS_PER_HOUSEHOLD))
    population = HardPopulation(households, rng=rng)
    left_over = _LeftOver(rng)
    waiting: list[tuple[timedelta, int, SyntheticLead, set[str]]] = []
    made = given = household = 0
    while given < count:
        begins = PERIOD * min(1.0, household / households)
        while waiting and given < count and (waiting[0][0] <= begins or household > households):
            _offset, _made, lead, clues = heappop(waiting)
            yield lead, clues
            given += 1
        for person in population.household():
            for lead, clues in _leads_of(person, begins, left_over, rng):
                heappush(waiting, (lead.occurred_offset, made, lead, clues))
                made += 1
        household += 1


@dataclass
class _LeftOver:
    """Values of other people that a form had kept, a list had mixed up or a carrier had given to somebody new."""

    rng: random.Random
    _phones: list[str] = field(default_factory=list)
    _emails: list[str] = field(default_factory=list)

    def remember(self, person: HardPerson) -> None:
        for known, value in ((self._phones, person.mobiles[0]), (self._emails, person.jobs[0].email)):
            if len(known) < _REMEMBERED:
                known.append(value)
            else:
                known[self.rng.randrange(_REMEMBERED)] = value

    def into(self, fields: dict[str, str]) -> None:
        if "phone" in fields and self._phones and self.rng.random() < _LEFT_OVER_PHONE:
            fields["phone"] = self.rng.choice(self._phones)
        if "email" in fields and self._emails and self.rng.random() < _LEFT_OVER_EMAIL:
            fields["email"] = self.rng.choice(self._emails)


def _leads_of(
    person: HardPerson, begins: timedelta, left_over: _LeftOver, rng: random.Random
) -> list[tuple[SyntheticLead, set[str]]]:
    count = rng.choices([number for number, _ in _LEADS_PER_PERSON], [share for _, share in _LEADS_PER_PERSON])[0]
    rest = PERIOD - begins
    offsets = sorted(begins + rest * rng.random() for _ in range(count))
    drafts = _drafts(person, offsets, rng)
    _connect(drafts, person, rng)
    leads = []
    for draft in drafts:
        left_over.into(draft.fields)
        leads.append((_written(draft, person, rng), draft.clues))
    left_over.remember(person)
    return leads


def _drafts(person: HardPerson, offsets: list[timedelta], rng: random.Random) -> list[_Draft]:
    """The leads of one person, with what changes in between."""
    habit = rng.choices(("work", "private", "either"), (0.45, 0.17, 0.38))[0]
    # Each of a person's things changes between two leads, if it changes.
    job, surname, home, mobile, mailbox = (rng.randint(1, max(1, len(offsets) - 1)) for _ in range(5))
    drafts = []
    for at, offset in enumerate(offsets):
        present = _Present(
            _at(person.jobs, at >= job),
            _at(person.homes, at >= home),
            _at(person.mobiles, at >= mobile),
            _at(person.mailboxes, at >= mailbox),
        )
        source = rng.choices(_SOURCES, _SOURCE_SHARES)[0]
        draft = _Draft(offset, source, person.first, _at(person.surnames, at >= surname))
        _fill(draft, person, present, is_work=rng.random() < _WORK_SHARE[habit], rng=rng)
        drafts.append(draft)
    return drafts


_Thing = TypeVar("_Thing")


def _at(things: tuple[_Thing, ...], is_changed: bool) -> _Thing:
    return things[-1 if is_changed else 0]


def _fill(draft: _Draft, person: HardPerson, present: _Present, *, is_work: bool, rng: random.Random) -> None:
    source, fields = draft.source, draft.fields
    job = present.job
    if rng.random() < source.email:
        _give_email(draft, person, present, is_work=is_work, rng=rng)
    if rng.random() < source.phone:
        _give_phone(draft, present, is_work=is_work, rng=rng)
    if rng.random() < source.company * (1.0 if is_work else 0.6):
        draft.give("company", job.company.name, clue=job.company.domain)
    if rng.random() < source.job_title:
        fields["job_title"] = job.title
    _give_place(draft, present, is_work=is_work, rng=rng)
    if rng.random() < source.date_of_birth:
        draft.give("date_of_birth", person.date_of_birth, clue=person.date_of_birth)
    if rng.random() < source.country:
        fields["country"] = person.market.country if rng.random() < 0.6 else person.market.country_name
    if fields.keys().isdisjoint(("email", "phone", "company")):
        draft.give("company", job.company.name, clue=job.company.domain)


def _give_email(draft: _Draft, person: HardPerson, present: _Present, *, is_work: bool, rng: random.Random) -> None:
    company, draw = present.job.company, rng.random()
    if is_work and draw < _ROLE_MAILBOX:
        # Of a company's role mailboxes its people know two: info@ and one more.
        role = ROLES[0] if draw < _ROLE_MAILBOX / 2 else ROLES[len(company.domain) % len(ROLES)]
        draft.give("email", f"{role}@{company.domain}", clue=company.domain)
    elif is_work:
        draft.give("email", present.job.email, clue=present.job.email)
        draft.clues.add(company.domain)
    elif person.partner_email is not None and draw < _PARTNERS_MAILBOX:
        draft.give("email", person.partner_email, clue=person.partner_email)
    else:
        draft.give("email", present.mailbox, clue=present.mailbox)


def _give_phone(draft: _Draft, present: _Present, *, is_work: bool, rng: random.Random) -> None:
    job, draw = present.job, rng.random()
    if draw < (0.5 if is_work else 0.75):
        draft.give("phone", present.mobile, clue=present.mobile)
    elif draw < 0.9:
        draft.give("phone", job.direct_line or job.company.switchboard, clue=job.company.domain)
    else:
        draft.give("phone", present.home.phone, clue=present.home.phone)


def _give_place(draft: _Draft, present: _Present, *, is_work: bool, rng: random.Random) -> None:
    source, company = draft.source, present.job.company
    # A partner sells private addresses as often as business ones; the other sources see the office.
    is_home = rng.random() < (0.6 if source.name == "partner" or not is_work else 0.2)
    place = present.home if is_home else company
    if rng.random() < source.place:
        draft.fields["city"] = place.town.name
        if rng.random() < 0.75:
            draft.give("postcode", place.postcode, clue=place.postcode if is_home else company.domain)
        if rng.random() < 0.5:
            draft.fields["state"] = place.town.state
    if rng.random() < source.address:
        draft.give("address", place.address, clue=place.address if is_home else company.domain)


def _connect(drafts: list[_Draft], person: HardPerson, rng: random.Random) -> None:
    """Let most leads share something with an earlier one of their person: they gave their own number or mailbox."""
    known = set(drafts[0].clues)
    for at, draft in enumerate(drafts[1:], start=1):
        if known.isdisjoint(draft.clues) and rng.random() >= _LEFT_ALONE:
            earlier = drafts[rng.randrange(at)]
            if rng.random() < 0.6:
                name, value = "phone", person.mobiles[0]
            else:
                name, value = "email", person.mailboxes[0]
            for lead in (earlier, draft):
                lead.give(name, value, clue=value)
        known |= draft.clues


def _written(draft: _Draft, person: HardPerson, rng: random.Random) -> SyntheticLead:
    """The lead as it was typed: names in one of their spellings, slips, numbers as people write them."""
    fields = {"first_name": _spelling(draft.first, rng), "last_name": _spelling(draft.last, rng), **draft.fields}
    if rng.random() >= _CAREFUL:
        _spoil(fields, rng)
    if "last_name" in fields and rng.random() < draft.source.whole_name:
        first, last = fields.pop("first_name"), fields.pop("last_name")
        reverse = draft.source.name == "partner" and rng.random() < 0.6
        fields["full_name"] = f"{last}, {first}" if reverse else f"{first} {last}"
    at = person.market
    is_understood = at.country == "US" or "country" in fields
    if is_understood and fields.get("phone", "").startswith(f"+{at.dial_code}"):
        fields["phone"] = noise.written_phone(
            fields["phone"], dial_code=at.dial_code, national_prefix=at.national_prefix, rng=rng
        )
    return SyntheticLead(draft.source.name, fields, [], person.person_id, None, draft.offset)


def _spelling(name: Name, rng: random.Random) -> str:
    if len(name.spellings) == 1:
        return name.own
    draw = rng.random()
    if name.native is not None and draw < 0.06:
        return name.native
    return name.own if draw < 0.75 else rng.choice(name.spellings)


def _spoil(fields: dict[str, str], rng: random.Random) -> None:
    """Apply, with the chance beside it, each kind of noise to the fields that are there."""
    for chance, name, spoil in _NOISE:
        if name in fields and rng.random() < chance:
            fields[name] = spoil(fields[name], rng)
    draw = rng.random()
    if draw < 0.06:
        fields["first_name"], fields["last_name"] = fields["last_name"], fields["first_name"]
    elif draw < 0.09 and fields.keys() & {"email", "phone"}:
        del fields["last_name"]
    elif draw < 0.12:
        fields["first_name"] = fields["first_name"].strip()[:1] + "."
    elif draw < 0.14:
        fields["first_name"] += f" {rng.choice('ABCDEFGHJKLMNPRSTW')}."


def _short_company(company: str, _rng: random.Random) -> str:
    """Without its form: ``Smith & Jones Foods LLC`` → ``Smith & Jones Foods``."""
    return company.rpartition(" ")[0] or company


def _trading_name(company: str, _rng: random.Random) -> str:
    """Without its trade: ``Smith & Jones``."""
    words = company.split()
    return " ".join(words[:-2]) if len(words) > 3 else company


def _date_slip(text: str, rng: random.Random) -> str:
    year, month, day = text.split("-")
    match rng.randrange(3):
        case 0 if int(day) <= 12:
            return f"{year}-{day}-{month}"
        case 1:
            return f"{int(year) + rng.choice((-10, -1, 1, 10))}-{month}-{day}"
        case _:
            return f"{year}-01-01"


def _misspelt_domain(address: str, rng: random.Random) -> str:
    local, _, domain = address.partition("@")
    name, _, ending = domain.rpartition(".")
    return f"{local}@{noise.typo(name, rng).strip('-')}.{ending}"


def _tagged(address: str, rng: random.Random) -> str:
    local, _, domain = address.partition("@")
    return f"{local}+{rng.choice(('news', 'web', 'trial', 'leads'))}@{domain}"


_Spoil = Callable[[str, random.Random], str]
_NOISE: tuple[tuple[float, str, _Spoil], ...] = (
    (0.22, "first_name", noise.short_name),
    (0.12, "first_name", noise.typo),
    (0.14, "last_name", noise.typo),
    (0.15, "first_name", noise.transliterated),
    (0.30, "last_name", noise.transliterated),
    (0.10, "email", noise.email_typo),
    (0.03, "email", _misspelt_domain),
    (0.04, "email", _tagged),
    (0.08, "phone", noise.typo),
    (0.14, "company", noise.typo),
    (0.30, "company", _short_company),
    (0.08, "company", _trading_name),
    (0.10, "city", noise.typo),
    (0.12, "postcode", noise.typo),
    (0.15, "address", noise.typo),
    (0.25, "date_of_birth", _date_slip),
    (0.10, "email", lambda text, _rng: text.upper()),
    (0.15, "first_name", noise.odd_case),
    (0.15, "last_name", noise.odd_case),
    (0.15, "company", noise.odd_case),
)
