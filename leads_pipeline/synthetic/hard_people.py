"""The people behind the hard leads: their names in several spellings, mailboxes, jobs, homes and what changes.

A person's things come in eras: ``homes``, ``mobiles``, ``mailboxes``, ``jobs`` and ``surnames`` are in the order of
time, and most people have one of each. Companies are shared, households share a home and its telephone.
"""

import random
import re
from dataclasses import dataclass, field
from hashlib import blake2b

from anyascii import anyascii

from leads_pipeline.synthetic.communities import ROMANISATIONS, communities, romanised
from leads_pipeline.synthetic.markets import Market, Town, Weighted, market, market_shares, pools
from leads_pipeline.synthetic.population import MAIL_PATTERNS, MAIL_PROVIDERS, PROVIDER_WEIGHTS, Company, mail_name

COMMUNITY_SHARE = 0.2
COUPLES = 0.08
NAMESAKE_CHILDREN = 0.02
# A person's things change with these chances over the period.
CHANGES_JOB = 0.30
CHANGES_SURNAME = 0.015
MOVES_HOME = 0.06
CHANGES_MOBILE = 0.06
HAS_TWO_MAILBOXES = 0.15
HAS_DIRECT_LINE = 0.3

# About twelve people of a company turn up; a few companies have many.
_PEOPLE_PER_COMPANY = 12
_NOT_LETTERS = re.compile(r"[^a-z0-9]+")
ROLES = ("info", "sales", "contact", "office", "hello", "team", "marketing", "admin")


@dataclass(frozen=True, slots=True)
class Home:
    town: Town
    address: str
    postcode: str
    phone: str


@dataclass(frozen=True, slots=True)
class Job:
    """``direct_line`` is ``None`` for those who are reached by the switchboard only."""

    company: Company
    title: str
    email: str
    direct_line: str | None


@dataclass(frozen=True, slots=True)
class Name:
    """``spellings``: the one that its bearer uses, then the others that are seen. ``native`` in its own letters."""

    spellings: tuple[str, ...]
    native: str | None = None

    @property
    def own(self) -> str:
        return self.spellings[0]


@dataclass(slots=True)
class HardPerson:
    """One truth. ``partner_email`` is a mailbox that somebody of the household has."""

    person_id: str
    market: Market
    first: Name
    surnames: tuple[Name, ...]
    date_of_birth: str
    homes: tuple[Home, ...]
    mobiles: tuple[str, ...]
    mailboxes: tuple[str, ...]
    jobs: tuple[Job, ...]
    partner_email: str | None = None


@dataclass
class HardPopulation:
    """Makes households one after another; ``size`` is the number of people for whom companies are founded.

    What is remembered beside the companies is a hash for each mailbox that is taken.
    """

    size: int
    rng: random.Random
    _companies: dict[str, list[Company]] = field(default_factory=dict)
    _domains: set[str] = field(default_factory=set)
    _taken: set[int] = field(default_factory=set)
    _made: int = 0

    def __post_init__(self) -> None:
        shares = market_shares()
        self._markets = [market(country) for country in shares]
        self._weights = list(shares.values())
        for item, weight in zip(self._markets, self._weights, strict=True):
            count = max(3, int(self.size * weight / _PEOPLE_PER_COMPANY))
            self._companies[item.country] = [self._company(item) for _ in range(count)]

    def household(self) -> list[HardPerson]:
        """One person, a couple, or a parent with a child of the same name."""
        rng = self.rng
        home_market = rng.choices(self._markets, self._weights)[0]
        person = self._person(home_market)
        draw = rng.random()
        if draw < COUPLES:
            partner = self._person(home_market, relative=person)
            person.partner_email, partner.partner_email = partner.mailboxes[0], person.mailboxes[0]
            return [person, partner]
        if draw < COUPLES + NAMESAKE_CHILDREN:
            return [person, self._person(home_market, relative=person, namesake=True)]
        return [person]

    def _person(self, at: Market, *, relative: HardPerson | None = None, namesake: bool = False) -> HardPerson:
        rng = self.rng
        self._made += 1
        first, last = self._names(at)
        birth_year = rng.randint(1955, 2002)
        if relative is not None:
            last = relative.surnames[0]
            if namesake:
                first, birth_year = relative.first, int(relative.date_of_birth[:4]) - 28
        surnames: tuple[Name, ...] = (last,)
        if not namesake and rng.random() < CHANGES_SURNAME:
            surnames = (last, self._names(at)[1])
        homes = relative.homes if relative else self._homes(at)
        mobiles = tuple(at.mobile_number(homes[0].town, rng) for _ in range(self._eras(CHANGES_MOBILE)))
        mailboxes = tuple(self._mailbox(first, last, birth_year) for _ in range(self._eras(HAS_TWO_MAILBOXES)))
        return HardPerson(
            person_id=f"h{self._made:07d}",
            market=at,
            first=first,
            surnames=surnames,
            date_of_birth=f"{birth_year}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
            homes=homes,
            mobiles=mobiles,
            mailboxes=mailboxes,
            jobs=self._jobs(at, first, last),
        )

    def _eras(self, chance: float) -> int:
        return 2 if self.rng.random() < chance else 1

    def _names(self, at: Market) -> tuple[Name, Name]:
        rng = self.rng
        female = rng.random() < 0.48
        if rng.random() >= COMMUNITY_SHARE:
            first, last = (at.female if female else at.male).draw(rng), at.surnames.draw(rng)
            if at.country != "US" and rng.random() < 0.03:
                first = f"{first}-{(at.female if female else at.male).draw(rng)}"
            if rng.random() < 0.02:
                last = f"{last}-{at.surnames.draw(rng)}"
            return Name((first,)), Name((last,))
        community = rng.choices(*communities())[0]
        pool, surnames = (
            (community.female, community.surnames_female) if female else (community.male, community.surnames_male)
        )
        if community.syllables:
            given, family = pool.draw(rng).split(), surnames.draw(rng).split("/")
            written = (" ".join(given).title(), "".join(given).title(), "-".join(given).capitalize())
            return Name(tuple(rng.sample(written, 3))), Name((rng.choice(family), *family))
        scheme = 0 if community.alphabet is None else rng.randrange(len(ROMANISATIONS[community.alphabet]))
        return (
            _spelt(pool, community.alphabet, scheme, rng),
            _spelt(surnames, community.alphabet, scheme, rng),
        )

    def _homes(self, at: Market) -> tuple[Home, ...]:
        rng = self.rng
        homes = []
        for _ in range(self._eras(MOVES_HOME)):
            town = rng.choice(at.towns)
            homes.append(Home(town, at.address(rng), at.postcode(town, rng), at.landline(town, rng)))
        return tuple(homes)

    def _mailbox(self, first: Name, last: Name, birth_year: int) -> str:
        rng = self.rng
        given, family = mail_name(first.own), mail_name(last.own)
        local = rng.choices(
            (
                f"{given}.{family}",
                f"{given}{family}",
                f"{given}{birth_year % 100:02d}",
                f"{given[:1]}{family}",
                f"{given}.{family}{rng.randint(1, 99)}",
                f"{family}{given[:1]}{birth_year % 100:02d}",
                f"{rng.choice(pools()['companies']['stems']).lower()}{rng.randint(10, 9999)}",
            ),
            (28, 18, 12, 10, 18, 8, 6),
        )[0]
        return self._free_address(local, rng.choices(MAIL_PROVIDERS, PROVIDER_WEIGHTS)[0])

    def _free_address(self, local: str, domain: str) -> str:
        """``local@domain``, or the first numbered one that nobody has: mailboxes of two people are never the same."""
        address, number = f"{local}@{domain}", 1
        while (digest := _digest(address)) in self._taken:
            number += self.rng.randint(1, 9)
            address = f"{local}{number}@{domain}"
        self._taken.add(digest)
        return address

    def _jobs(self, at: Market, first: Name, last: Name) -> tuple[Job, ...]:
        companies = self._companies[at.country]
        # Skewed towards the front of the list: those are the large employers.
        chosen = [companies[int(len(companies) * self.rng.random() ** 1.7)] for _ in range(self._eras(CHANGES_JOB))]
        return tuple(self._job(company, first, last) for company in dict.fromkeys(chosen))

    def _job(self, company: Company, first: Name, last: Name) -> Job:
        rng = self.rng
        local = company.mail_pattern(mail_name(first.own), mail_name(last.own))
        has_line = rng.random() < HAS_DIRECT_LINE
        return Job(
            company=company,
            title=rng.choice(pools()["job_titles"]),
            email=self._free_address(local, company.domain),
            direct_line=company.market.landline(company.town, rng) if has_line else None,
        )

    def _company(self, at: Market) -> Company:
        rng = self.rng
        words = pools()["companies"]
        town = rng.choice(at.towns)
        draw = rng.random()
        if draw < 0.25:
            stem = at.surnames.draw(rng)
        elif draw < 0.45:
            stem = f"{at.surnames.draw(rng)} & {at.surnames.draw(rng)}"
        else:
            stem = rng.choice(words["stems"]) + rng.choice(words["endings"])
        name = f"{stem} {rng.choice(words['trades'])}"
        base = _NOT_LETTERS.sub("-", anyascii(name).lower()).strip("-")
        domain = f"{base}.example"
        while domain in self._domains:
            domain = f"{base}-{town.dial}{rng.randint(1, 9999)}.example"
        self._domains.add(domain)
        patterns, weights = zip(*MAIL_PATTERNS, strict=True)
        return Company(
            name=f"{name} {rng.choice(at.company_forms)}",
            domain=domain,
            switchboard=at.landline(town, rng),
            address=at.address(rng),
            postcode=at.postcode(town, rng),
            town=town,
            market=at,
            mail_pattern=rng.choices(patterns, weights)[0],
        )


def _digest(address: str) -> int:
    return int.from_bytes(blake2b(address.encode(), digest_size=8).digest())


def _spelt(pool: Weighted, alphabet: str | None, scheme: int, rng: random.Random) -> Name:
    name = pool.draw(rng)
    if alphabet is None:
        return Name((name,))
    count = len(ROMANISATIONS[alphabet])
    schemes = [(scheme + step) % count for step in range(count)]
    return Name(tuple(dict.fromkeys(romanised(name, alphabet, item) for item in schemes)), native=name)
