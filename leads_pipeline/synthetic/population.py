"""Invented people, their employers and their households: the truth behind the leads."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from anyascii import anyascii

from leads_pipeline.synthetic.markets import Market, Town, market, market_shares, pools

# Invented mail providers. A person's address at one of them outlives a job.
MAIL_PROVIDERS = ("quickmail.example", "postbox.example", "mailhaven.example", "inboxly.example", "netpost.example")
PROVIDER_WEIGHTS = (50, 20, 12, 10, 8)

_NOT_LETTERS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Company:
    name: str
    domain: str
    switchboard: str
    address: str
    postcode: str
    town: Town
    # A market holds all its names: hashing them took a third of the time that leads are made in.
    market: Market = field(hash=False)
    mail_pattern: Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Employment:
    company: Company
    title: str
    email: str
    phone: str


@dataclass(frozen=True, slots=True)
class Person:
    """One truth. ``employments`` are in the order of time; most people have one."""

    person_id: str
    market: Market
    first_name: str
    last_name: str
    date_of_birth: str
    town: Town
    address: str
    postcode: str
    mobile: str
    home_phone: str
    personal_email: str
    employments: tuple[Employment, ...]


def mail_name(name: str) -> str:
    """A name as the left part of an e-mail address writes it: ``Müller-Lüdenscheidt`` → ``muellerluedenscheidt``."""
    for umlaut, letters in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        name = name.lower().replace(umlaut, letters)
    return _NOT_LETTERS.sub("", anyascii(name).lower()) or "x"


MAIL_PATTERNS: tuple[tuple[Callable[[str, str], str], int], ...] = (
    (lambda first, last: f"{first}.{last}", 50),
    (lambda first, last: f"{first[:1]}{last}", 20),
    (lambda first, _last: first, 10),
    (lambda first, last: f"{first}{last[:1]}", 8),
    (lambda first, last: f"{first[:1]}.{last}", 7),
    (lambda first, last: f"{last}.{first}", 5),
)


class Population:
    """Makes people one after another; employers and households are shared between them."""

    def __init__(self, size: int, *, rng: random.Random) -> None:
        self._rng = rng
        self._markets = [market(country) for country in market_shares()]
        self._weights = list(market_shares().values())
        self._words = pools()["companies"]
        self._titles = pools()["job_titles"]
        # About five people of each employer turn up; a few employers have many (Pareto), most have one or two.
        self._companies: dict[str, list[Company]] = {}
        self._domains: set[str] = set()
        self._mail_taken: set[str] = set()
        for item, weight in zip(self._markets, self._weights, strict=True):
            count = max(3, int(size * weight / 5))
            self._companies[item.country] = [self._company(item) for _ in range(count)]
        self._made = 0

    def household(self) -> list[Person]:
        """One person, or a couple, or a parent with a child of the same name."""
        home = self._rng.choices(self._markets, self._weights)[0]
        person = self._person(home)
        draw = self._rng.random()
        if draw < 0.05:
            return [person, self._person(home, relative=person)]
        if draw < 0.055:
            return [person, self._person(home, relative=person, namesake=True)]
        return [person]

    def _person(self, home: Market, *, relative: Person | None = None, namesake: bool = False) -> Person:
        rng = self._rng
        self._made += 1
        female = rng.random() < 0.48
        first_name = (home.female if female else home.male).draw(rng)
        last_name = home.surnames.draw(rng)
        birth_year = rng.randint(1955, 2002)
        if relative is not None:
            last_name = relative.last_name
            if namesake:
                first_name, birth_year = relative.first_name, int(relative.date_of_birth[:4]) - 28
        town = relative.town if relative else rng.choice(home.towns)
        if home.country != "US" and rng.random() < 0.03:
            first_name = f"{first_name}-{(home.female if female else home.male).draw(rng)}"
        if rng.random() < 0.02:
            last_name = f"{last_name}-{home.surnames.draw(rng)}"
        return Person(
            person_id=f"p{self._made:07d}",
            market=home,
            first_name=first_name,
            last_name=last_name,
            date_of_birth=f"{birth_year}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
            town=town,
            address=relative.address if relative else home.address(rng),
            postcode=relative.postcode if relative else home.postcode(town, rng),
            mobile=home.mobile_number(town, rng),
            home_phone=relative.home_phone if relative else home.landline(town, rng),
            personal_email=self._personal_email(first_name, last_name, birth_year),
            employments=self._employments(home, first_name, last_name),
        )

    def _personal_email(self, first_name: str, last_name: str, birth_year: int) -> str:
        rng = self._rng
        first, last = mail_name(first_name), mail_name(last_name)
        local = rng.choice(
            (f"{first}.{last}", f"{first}{last}", f"{first}{birth_year % 100:02d}", f"{first[:1]}{last}")
        )
        provider = rng.choices(MAIL_PROVIDERS, PROVIDER_WEIGHTS)[0]
        return self._free_address(local, provider)

    def _free_address(self, local: str, domain: str) -> str:
        """``local@domain``, or the first numbered one that nobody has: two people never share an address."""
        address = f"{local}@{domain}"
        while address in self._mail_taken:
            address = f"{local}{self._rng.randint(1, 9999)}@{domain}"
        self._mail_taken.add(address)
        return address

    def _employments(self, home: Market, first_name: str, last_name: str) -> tuple[Employment, ...]:
        count = 2 if self._rng.random() < 0.2 else 1
        companies = self._companies[home.country]
        # Skewed towards the front of the list: those are the large employers.
        chosen = [companies[int(len(companies) * self._rng.random() ** 1.6)] for _ in range(count)]
        return tuple(self._employment(company, first_name, last_name) for company in dict.fromkeys(chosen))

    def _employment(self, company: Company, first_name: str, last_name: str) -> Employment:
        rng = self._rng
        local = company.mail_pattern(mail_name(first_name), mail_name(last_name))
        return Employment(
            company=company,
            title=rng.choice(self._titles),
            email=self._free_address(local, company.domain),
            phone=company.switchboard if rng.random() < 0.45 else company.market.landline(company.town, rng),
        )

    def _company(self, home: Market) -> Company:
        rng = self._rng
        town = rng.choice(home.towns)
        stem = rng.choice(self._words["stems"]) + rng.choice(self._words["endings"])
        draw = rng.random()
        if draw < 0.25:
            stem = home.surnames.draw(rng)
        elif draw < 0.4:
            stem = f"{home.surnames.draw(rng)} & {home.surnames.draw(rng)}"
        name = f"{stem} {rng.choice(self._words['trades'])}"
        form = rng.choice(home.company_forms)
        domain = f"{_NOT_LETTERS.sub('-', anyascii(name).lower()).strip('-')}.example"
        while domain in self._domains:
            domain = f"{domain.removesuffix('.example')}-{town.dial}{rng.randint(1, 99)}.example"
        self._domains.add(domain)
        patterns, weights = zip(*MAIL_PATTERNS, strict=True)
        return Company(
            name=f"{name} {form}",
            domain=domain,
            switchboard=home.landline(town, rng),
            address=home.address(rng),
            postcode=home.postcode(town, rng),
            town=town,
            market=home,
            mail_pattern=rng.choices(patterns, weights)[0],
        )
