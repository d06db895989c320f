"""From a payload as it was sent to a lead that can be used, or to every reason why it cannot.

Pure: the same payload, country and day give the same answer. Each field is read by its own module; this one knows the
fields, gathers what was noticed and decides. What is left out of a valid lead stays in ``raw_leads``; nothing is ever
cut short, as half a value looks like a whole one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

from leads_pipeline.domain import companies, dates, emails, names, phones, places
from leads_pipeline.domain.lead import CANONICAL_FIELDS
from leads_pipeline.domain.mailbox_lists import KNOWN, MailboxLists
from leads_pipeline.domain.phone_engines import ENGINE, PhoneEngine
from leads_pipeline.domain.rules import QUARANTINES, RULES, Finding
from leads_pipeline.domain.text import as_text, cleaned, cleaned_lines, without_query

ATTRIBUTION_FIELDS: tuple[str, ...] = ("lead_source", "campaign", "utm_source", "utm_medium", "landing_page")
# Fields without rules of their own for "n/a" and its like.
_PLACEHOLDER_FIELDS = frozenset({"address", "city", "state", "job_title"})
# How a field is cleaned, its most characters, and whether "n/a" is looked for.
_READ: dict[str, tuple[Callable[[str], str], int, bool]] = {
    known.name: (
        cleaned_lines if known.name == "message" else cleaned,
        known.max_length,
        known.name in _PLACEHOLDER_FIELDS,
    )
    for known in CANONICAL_FIELDS
}
_ORDER = {known.name: position for position, known in enumerate(CANONICAL_FIELDS)}


@dataclass(slots=True, kw_only=True)
class ValidLead:
    """The columns of ``validated_leads`` that come from the payload. ``flags`` are names of rules, sorted.

    Nobody changes one. It is not frozen because that would cost as much as reading its name, company and address.
    """

    email_raw: str | None = None
    email: str | None = None
    email_key: str | None = None
    email_suggestion: str | None = None
    phone_raw: str | None = None
    phone: str | None = None
    phone_key: str | None = None
    phone_region: str | None = None
    phone_type: str | None = None
    phone_time_zone: str | None = None
    first_name: str | None = None
    first_name_key: str | None = None
    last_name: str | None = None
    last_name_key: str | None = None
    full_name: str | None = None
    company: str | None = None
    company_key: str | None = None
    job_title: str | None = None
    date_of_birth: date | None = None
    address: str | None = None
    address_key: str | None = None
    city: str | None = None
    city_key: str | None = None
    state: str | None = None
    postcode: str | None = None
    postcode_key: str | None = None
    country: str | None = None
    external_id: str | None = None
    message: str | None = None
    attribution: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a lead cannot be used: the verdict first, then every field that might have saved it."""

    reasons: tuple[Finding, ...]


VALIDATOR_FAILED = Rejection((Finding("validator_failed", "lead", "unreadable"),))

_SET_ASIDE = {
    rule.name: Rejection((Finding(rule.name, rule.field, rule.value_class),))
    for rule in RULES
    if rule.name in QUARANTINES
}


def set_aside(reason: str) -> Rejection:
    """The verdict on a lead that was set aside before validation; an unknown ``reason`` is a fault of ours."""
    return _SET_ASIDE.get(reason, VALIDATOR_FAILED)


def validate(
    payload: Mapping[str, object],
    *,
    country: str,
    today: date,
    lists: MailboxLists = KNOWN,
    engine: PhoneEngine = ENGINE,
) -> ValidLead | Rejection:
    """Judge one payload.

    ``country`` (ISO 3166) is the home market: it reads what the lead's own country does not, phone numbers without a
    country code and dates such as 3/4/1980. ``today`` is the day of receipt, so that a later run judges alike.
    ``lists`` are the tenant's, ``engine`` reads phone numbers: which one it is changes nothing but the time it takes.
    """
    return _Reading(payload, home=country, today=today, lists=lists, engine=engine).verdict()


class _Reading:
    """One payload on its way through the fields. What was noticed: ``_flags`` all of it, ``_faults`` what drops."""

    __slots__ = ("_engine", "_faults", "_flags", "_home", "_lists", "_payload", "_texts", "_today")

    def __init__(
        self, payload: Mapping[str, object], *, home: str, today: date, lists: MailboxLists, engine: PhoneEngine
    ) -> None:
        self._payload = payload
        self._home = home
        self._today = today
        self._lists = lists
        self._engine = engine
        self._faults: list[Finding] = []
        self._flags: list[str] = []
        self._texts = self._cleaned()

    def verdict(self) -> ValidLead | Rejection:
        values: dict[str, object] = {}
        texts = self._texts
        own_country = self._country(values)
        market = own_country or self._home
        if "email" in texts:
            self._email(values, texts["email"])
        if "phone" in texts:
            self._phone(values, texts["phone"], market)
        self._name(values)
        if "company" in texts:
            self._company(values, texts["company"])
        if "date_of_birth" in texts:
            self._birth_date(values, texts["date_of_birth"], market)
        self._place(values, own_country)
        for name in ("job_title", "external_id", "message"):
            if name in texts:
                values[name] = texts[name]
        if not _is_usable(values):
            unusable = Finding("nothing_identifying", "lead", "no_identity")
            return Rejection((unusable, *self._faults))
        flags = tuple(sorted(set(self._flags))) if self._flags else ()
        return ValidLead(**values, attribution=self._attribution(), flags=flags)  # type: ignore[arg-type]  # gathered by name

    def _cleaned(self) -> dict[str, str]:
        """The fields that hold text that fits; of the others the reason is noticed. White space alone is nothing."""
        texts: dict[str, str] = {}
        for name, value in self._payload.items():
            known = _READ.get(name)
            if known is None or value is None:
                continue
            clean, limit, has_placeholders = known
            text = value if type(value) is str else as_text(value)
            if text is None:
                self._found("not_text", name, "not_text")
                continue
            text = clean(text)
            if len(text) > limit:
                self._found("too_long", name, "too_long")
            elif has_placeholders and text and places.is_placeholder(text):
                self._found("value_placeholder", name, "placeholder")
            elif text:
                texts[name] = text
        if len(self._faults) > 1:
            self._faults.sort(key=lambda fault: _ORDER[fault.field])  # a sender's order of fields means nothing
        return texts

    def _as_sent(self, name: str) -> str:
        return str(as_text(self._payload[name])).strip()

    def _attribution(self) -> dict[str, str]:
        attribution = {name: self._texts[name] for name in ATTRIBUTION_FIELDS if name in self._texts}
        if "landing_page" in attribution:
            # Attribution is not personal data, and a form's address may carry what was typed into it.
            attribution["landing_page"] = without_query(attribution["landing_page"])
        return attribution

    def _found(self, name: str, field_name: str, value_class: str) -> None:
        self._faults.append(Finding(name, field_name, value_class))
        self._flags.append(name)

    def _country(self, values: dict[str, object]) -> str | None:
        text = self._texts.get("country")
        if text is None or places.is_placeholder_country(text):
            return None
        code = places.country_code(text)
        if code is None:
            self._found("country_unknown", "country", "unknown_country")
        values["country"] = code
        return code

    def _email(self, values: dict[str, object], text: str) -> None:
        values["email_raw"] = self._as_sent("email")
        email = emails.parse_email(text, lists=self._lists)
        if isinstance(email, emails.EmailFault):
            self._found(email.rule, "email", email.value_class)
            return
        values["email"], values["email_key"] = email.address, email.key
        values["email_suggestion"] = email.suggestion
        self._flags.extend(email.flags)

    def _phone(self, values: dict[str, object], text: str, country: str) -> None:
        values["phone_raw"] = self._as_sent("phone")
        phone = phones.parse_phone(text, country=country, fallback=self._home, engine=self._engine)
        if isinstance(phone, phones.PhoneFault):
            self._found(phone.rule, "phone", phone.value_class)
            return
        values["phone"], values["phone_key"] = phone.number, phone.key
        values["phone_region"], values["phone_type"] = phone.region, phone.type
        values["phone_time_zone"] = phone.time_zone
        self._flags.extend(phone.flags)

    def _name(self, values: dict[str, object]) -> None:
        texts = self._texts
        name = names.parse_name(first=texts.get("first_name"), last=texts.get("last_name"), full=texts.get("full_name"))
        values["first_name"], values["first_name_key"] = name.first, name.first_key
        values["last_name"], values["last_name_key"] = name.last, name.last_key
        values["full_name"] = name.full
        for fault in name.faults:
            self._found(fault.rule, fault.field, fault.value_class)

    def _company(self, values: dict[str, object], text: str) -> None:
        company = companies.parse_company(text)
        if isinstance(company, companies.CompanyFault):
            self._found(company.rule, "company", company.value_class)
            return
        values["company"], values["company_key"] = company.name, company.key
        if company.key is None:
            self._flags.append("company_unnamed")

    def _birth_date(self, values: dict[str, object], text: str, country: str) -> None:
        born = dates.parse_birth_date(text, country=country, today=self._today)
        if isinstance(born, dates.DateFault):
            self._found(born.rule, "date_of_birth", born.value_class)
            return
        values["date_of_birth"] = born.day
        self._flags.extend(born.flags)

    def _place(self, values: dict[str, object], own_country: str | None) -> None:
        texts = self._texts
        if "address" in texts:
            values["address"], values["address_key"] = texts["address"], places.address_key(texts["address"])
        if "city" in texts:
            values["city"], values["city_key"] = texts["city"], places.city_key(texts["city"])
        if "state" in texts:
            values["state"] = places.state_name(texts["state"], country=own_country or self._home)
        text = texts.get("postcode")
        if text is None:
            return
        postcode = places.parse_postcode(text, country=own_country)
        if postcode is None:
            self._found("postcode_invalid", "postcode", "no_postcode")
            return
        values["postcode"], values["postcode_key"], zero_restored = postcode
        if zero_restored:
            self._flags.append("postcode_zero_restored")


def _is_usable(values: Mapping[str, object]) -> bool:
    """With an e-mail, with a phone, or with a name and one thing that tells its bearer from others of that name.

    A city tells enough only beside a whole name.
    """
    if values.get("email_key") or values.get("phone_key"):
        return True
    first, last = values.get("first_name_key"), values.get("last_name_key")
    if first and last and values.get("city_key"):
        return True
    return bool(first or last) and any(
        values.get(name) for name in ("date_of_birth", "company_key", "address_key", "postcode_key")
    )
