"""Leads as forms, webinars and partners would send them, with the person behind each one."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from leads_pipeline.synthetic import noise
from leads_pipeline.synthetic.population import Employment, Person, Population

PERIOD = timedelta(days=120)

# How many leads a person leaves: a third of all leads are repeats.
_LEADS_PER_PERSON = ((1, 0.70), (2, 0.17), (3, 0.08), (4, 0.03), (5, 0.02))
_REPOST_SHARE = 0.03
_UNUSABLE_SHARE = 0.03
_CAREFUL_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class SyntheticLead:
    """One post to the HTTP door.

    ``truth`` names the person. ``repost_of`` is the place in the list of the lead that this one repeats to the letter,
    as a sender does that saw no answer. ``occurred_offset`` counts from the start of the period.
    """

    source: str
    payload: dict[str, str]
    consent: list[dict[str, Any]]
    truth: str
    repost_of: int | None
    occurred_offset: timedelta


@dataclass(frozen=True, slots=True)
class _Source:
    """What one source asks for: the chance that a field is there."""

    name: str
    share: float
    work_email: float
    personal_email: float
    phone: float
    company: float
    job_title: float
    address: float
    place: float
    date_of_birth: float
    country: float
    whole_name: float
    channel: str


_SOURCES = (
    _Source("website", 0.5, 0.72, 0.2, 0.55, 0.8, 0.35, 0.05, 0.25, 0.0, 0.5, 0.1, "website"),
    _Source("webinar", 0.3, 0.75, 0.22, 0.3, 0.9, 0.6, 0.0, 0.2, 0.0, 0.7, 0.25, "webinar"),
    _Source("partner", 0.2, 0.45, 0.27, 0.85, 0.85, 0.4, 0.6, 0.8, 0.5, 0.9, 0.4, "partner"),
)
_CAMPAIGNS = ("spring-launch", "pricing-guide", "trade-fair", "summer-webinar", "partner-week", "autumn-offer")
_MESSAGES = (
    "Please call me back about pricing.",
    "We would like a demo for our team.",
    "How does this work with our CRM?",
    "Looking for a quote for 50 seats.",
    "Met you at the trade fair, let us talk.",
)


def generate_leads(count: int, *, seed: int) -> list[SyntheticLead]:
    """``count`` leads in the order in which they occur; the same seed gives the same leads.

    Re-posts and unusable leads are among them. Each unusable lead is nobody's: its truth is its own.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
    reposts = round(count * _REPOST_SHARE)
    unusable = round(count * _UNUSABLE_SHARE)
    usable = count - reposts - unusable
    posts = [*_posts_of_people(usable, rng), *(_unusable(number, rng) for number in range(unusable))]
    posts.sort(key=lambda post: post.occurred_offset)
    return _with_reposts(posts, reposts, rng)


def _posts_of_people(count: int, rng: random.Random) -> list[SyntheticLead]:
    population = Population(int(count / 1.5), rng=rng)
    numbers = [number for number, _ in _LEADS_PER_PERSON]
    weights = [weight for _, weight in _LEADS_PER_PERSON]
    posts: list[SyntheticLead] = []
    while len(posts) < count:
        for person in population.household():
            posts.extend(_posts_of(person, rng.choices(numbers, weights)[0], rng))
    return posts[:count]


def _posts_of(person: Person, count: int, rng: random.Random) -> list[SyntheticLead]:
    moments = sorted(rng.random() for _ in range(count))
    changed_job_at = rng.random() if len(person.employments) > 1 else 1.0
    return [
        _post(person, person.employments[0 if moment < changed_job_at else -1], moment * PERIOD, rng)
        for moment in moments
    ]


def _post(person: Person, job: Employment, offset: timedelta, rng: random.Random) -> SyntheticLead:
    source = rng.choices(_SOURCES, [item.share for item in _SOURCES])[0]
    fields = _true_fields(person, job, source, rng)
    if rng.random() > _CAREFUL_SHARE:
        _spoil(fields, rng)
    _write_name(fields, source, rng)
    _write_phone(fields, person, rng)
    if rng.random() < 0.5:
        fields["campaign"] = rng.choice(_CAMPAIGNS)
    if source.name == "website" and rng.random() < 0.4:
        fields["message"] = rng.choice(_MESSAGES)
    return SyntheticLead(source.name, fields, _consent(source, rng), person.person_id, None, offset)


def _true_fields(person: Person, job: Employment, source: _Source, rng: random.Random) -> dict[str, str]:
    fields = {"first_name": person.first_name, "last_name": person.last_name}

    def maybe(chance: float, name: str, value: str) -> None:
        if rng.random() < chance:
            fields[name] = value

    draw = rng.random()
    if draw < source.work_email:
        fields["email"] = job.email
    elif draw < source.work_email + source.personal_email:
        fields["email"] = person.personal_email
    maybe(source.phone, "phone", _phone(person, job, rng))
    maybe(source.company, "company", job.company.name)
    maybe(source.job_title, "job_title", job.title)
    # A partner sells private addresses as often as business ones; the other sources see the office.
    at_home = rng.random() < (0.6 if source.name == "partner" else 0.3)
    place = person if at_home else job.company
    if rng.random() < source.place:
        fields["city"] = place.town.name
        maybe(0.7, "postcode", place.postcode)
        maybe(0.5, "state", place.town.state)
    maybe(source.address, "address", place.address)
    maybe(source.date_of_birth, "date_of_birth", person.date_of_birth)
    maybe(source.country, "country", person.market.country if rng.random() < 0.6 else person.market.country_name)
    if not fields.keys() & {"email", "phone"}:
        fields["company"] = job.company.name  # a name alone is no lead
    return fields


def _phone(person: Person, job: Employment, rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.5:
        return person.mobile
    return job.phone if draw < 0.88 else person.home_phone


def _spoil(fields: dict[str, str], rng: random.Random) -> None:
    """Apply, with the chance beside it, each kind of noise to the fields that are there."""
    kinds: tuple[tuple[float, str, Callable[[str, random.Random], str]], ...] = (
        (0.22, "first_name", noise.short_name),
        (0.14, "first_name", noise.typo),
        (0.16, "last_name", noise.typo),
        (0.10, "first_name", noise.transliterated),
        (0.25, "last_name", noise.transliterated),
        (0.12, "email", noise.email_typo),
        (0.08, "phone", noise.typo),
        (0.18, "company", noise.typo),
        (0.30, "company", _without_form),
        (0.10, "city", noise.typo),
        (0.12, "postcode", noise.typo),
        (0.15, "address", noise.typo),
        (0.30, "date_of_birth", _date_typo),
        (0.20, "email", lambda text, _rng: text.upper()),
        (0.20, "first_name", noise.odd_case),
        (0.20, "last_name", noise.odd_case),
        (0.20, "company", noise.odd_case),
    )
    for chance, name, spoil in kinds:
        if name in fields and rng.random() < chance:
            fields[name] = spoil(fields[name], rng)
    if rng.random() < 0.06:
        fields["first_name"], fields["last_name"] = fields["last_name"], fields["first_name"]
    elif rng.random() < 0.04 and fields.keys() & {"email", "phone"}:
        del fields["last_name"]
    elif rng.random() < 0.04:
        fields["first_name"] = fields["first_name"].strip()[:1] + "."


def _without_form(company: str, _rng: random.Random) -> str:
    return company.rpartition(" ")[0] or company


def _date_typo(text: str, rng: random.Random) -> str:
    """Day and month exchanged, a digit off, another year, or a form's first of January."""
    year, month, day = text.split("-")
    match rng.randrange(4):
        case 0 if int(day) <= 12:
            return f"{year}-{day}-{month}"
        case 1:
            return f"{int(year) + rng.choice((-10, -1, 1, 10))}-{month}-{day}"
        case 2:
            return f"{year}-01-01"
        case _:
            return f"{year}-{month}-{int(day[:1]) % 2 + 1}{int(day[1:]) % 8 + 1}"


def _write_name(fields: dict[str, str], source: _Source, rng: random.Random) -> None:
    if "last_name" not in fields or rng.random() >= source.whole_name:
        return
    first_name, last_name = fields.pop("first_name"), fields.pop("last_name")
    reverse = source.name == "partner" and rng.random() < 0.6
    fields["full_name"] = f"{last_name}, {first_name}" if reverse else f"{first_name} {last_name}"


def _write_phone(fields: dict[str, str], person: Person, rng: random.Random) -> None:
    if "phone" not in fields:
        return
    market = person.market
    understood = market.country == "US" or "country" in fields
    if understood and fields["phone"].startswith(f"+{market.dial_code}"):
        fields["phone"] = noise.written_phone(
            fields["phone"], dial_code=market.dial_code, national_prefix=market.national_prefix, rng=rng
        )


def _consent(source: _Source, rng: random.Random) -> list[dict[str, Any]]:
    draw = rng.random()
    if draw < 0.3:
        return []
    statement = {"purpose": "marketing", "channel": "email", "legal_basis": "consent", "text_version": source.channel}
    statements: list[dict[str, Any]] = [{"granted": draw > 0.38, **statement}]
    if source.name != "webinar" and rng.random() < 0.2:
        statements.append({**statement, "granted": True, "channel": "phone"})
    return statements


def _unusable(number: int, rng: random.Random) -> SyntheticLead:
    # Each came from a page of its own, so that two of them are not one lead that was posted twice.
    payload = {**rng.choice(_UNUSABLE), "landing_page": f"https://www.example.com/offers/{number}"}
    return SyntheticLead("website", payload, [], f"nobody{number:06d}", None, rng.random() * PERIOD)


_UNUSABLE: tuple[dict[str, str], ...] = (
    {"first_name": "Test", "email": "test@"},
    {"email": "not an e-mail", "message": "hello"},
    {"first_name": "asdf", "last_name": "asdf", "email": "asdf"},
    {"email": "nobody@localhost", "first_name": "N/A"},
    {"phone": "12345", "first_name": "x"},
    {"phone": "000-000-0000"},
    {"first_name": "-", "last_name": "-", "company": "none"},
    {"message": "Buy cheap watches now"},
)


def _with_reposts(posts: list[SyntheticLead], count: int, rng: random.Random) -> list[SyntheticLead]:
    """Repeat ``count`` posts, each right after itself."""
    repeated = set(rng.sample(range(len(posts)), min(count, len(posts))))
    leads: list[SyntheticLead] = []
    for at, post in enumerate(posts):
        leads.append(post)
        if at in repeated:
            leads.append(replace(post, repost_of=len(leads) - 1))
    return leads
