"""The rules of validation: what can be noticed about a field, what follows, and what the sender can do.

``docs/validation.md`` shows this table; a test compares the two. Add a rule here, let ``domain.validation`` or a
field's module find it, and raise ``RULE_VERSION``. A rule's words never hold a lead's value.
"""

from dataclasses import dataclass
from enum import StrEnum

RULE_VERSION = "3"


class Effect(StrEnum):
    """What follows when a rule is met."""

    REJECTS = "rejects"  # the lead is quarantined
    DROPS = "drops"  # the field is left out, the lead goes on if something else identifies it
    NOTES = "notes"  # the lead goes on with a flag of the rule's name


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. ``name`` and ``value_class`` together are unique; ``*`` means any field."""

    name: str
    field: str
    value_class: str
    effect: Effect
    remedy: str


_D, _N, _R = Effect.DROPS, Effect.NOTES, Effect.REJECTS

RULES: tuple[Rule, ...] = (
    Rule("email_invalid", "email", "no_at_sign", _D, "Send an address of the form name@domain."),
    Rule(
        "email_invalid", "email", "several_addresses", _D, "Send one address; put the others into leads of their own."
    ),
    Rule(
        "email_invalid", "email", "bad_domain", _D, "Check the part after the @ sign: it is no name of a mail domain."
    ),
    Rule(
        "email_invalid",
        "email",
        "bad_local_part",
        _D,
        "Check the part before the @ sign: it holds what no mailbox may.",
    ),
    Rule(
        "email_invalid",
        "email",
        "address_too_long",
        _D,
        "Send an address of at most 254 characters, 64 before the @ sign.",
    ),
    Rule("email_placeholder", "email", "placeholder", _D, "Leave the field out when there is no address."),
    Rule("role_mailbox", "email", "role", _N, "Ask for a personal address: several people read this one."),
    Rule("free_mailbox", "email", "free_provider", _N, "Nothing, unless you sell to companies only."),
    Rule(
        "disposable_mailbox",
        "email",
        "disposable_provider",
        _N,
        "Ask for a lasting address: this one will soon be gone.",
    ),
    Rule(
        "email_typo_suspected",
        "email",
        "misspelt_provider",
        _N,
        "Ask the person: the domain is nearly a large provider's.",
    ),
    Rule(
        "email_domain_reserved", "email", "reserved_domain", _N, "Nothing in a test; in earnest no mail arrives there."
    ),
    Rule("phone_invalid", "phone", "no_digits", _D, "Send a number, best with a plus sign and the country code."),
    Rule(
        "phone_invalid",
        "phone",
        "not_assigned",
        _D,
        "Send the whole number, best with a plus sign and the country code.",
    ),
    Rule(
        "phone_invalid",
        "phone",
        "scientific_notation",
        _D,
        "Format the column as text: the spreadsheet cut the number off.",
    ),
    Rule("phone_invalid", "phone", "several_numbers", _D, "Send one number; put the others into the message."),
    Rule("phone_placeholder", "phone", "placeholder", _D, "Leave the field out when there is no number."),
    Rule(
        "phone_country_assumed", "phone", "other_country", _N, "Send the number with a plus sign and the country code."
    ),
    Rule(
        "phone_extension_dropped", "phone", "extension", _N, "Send the extension in the message if a caller needs it."
    ),
    Rule("name_invalid", "*", "no_letters", _D, "Send a name; it must hold a letter."),
    Rule("name_invalid", "*", "email_address", _D, "Send the address in the field email."),
    Rule("name_invalid", "*", "link", _D, "Send a name without a link."),
    Rule("name_placeholder", "*", "placeholder", _D, "Leave the field out when there is no name."),
    Rule("company_placeholder", "company", "placeholder", _D, "Leave the field out when there is no company."),
    Rule("company_unnamed", "company", "no_company", _N, "Nothing: the words say that there is no company."),
    Rule("date_invalid", "date_of_birth", "unknown_format", _D, "Send the date as YYYY-MM-DD."),
    Rule("date_invalid", "date_of_birth", "impossible_date", _D, "Send a day that is in the calendar, as YYYY-MM-DD."),
    Rule("date_invalid", "date_of_birth", "future_date", _D, "Send a date that has come."),
    Rule("date_placeholder", "date_of_birth", "placeholder", _D, "Leave the field out when there is no date."),
    Rule(
        "date_ambiguous",
        "date_of_birth",
        "day_or_month",
        _N,
        "Send the date as YYYY-MM-DD: day and month could be swapped.",
    ),
    Rule("date_century_assumed", "date_of_birth", "two_digit_year", _N, "Send the year with four digits."),
    Rule(
        "date_unlikely",
        "date_of_birth",
        "unlikely_age",
        _N,
        "Check the date: the person would be under 13 or over 120.",
    ),
    Rule(
        "postcode_invalid",
        "postcode",
        "no_postcode",
        _D,
        "Send the postcode alone: at least 3 characters, one a digit.",
    ),
    Rule(
        "postcode_zero_restored",
        "postcode",
        "lost_zero",
        _N,
        "Format the column as text: a spreadsheet drops leading zeros.",
    ),
    Rule("country_unknown", "country", "unknown_country", _D, "Send an ISO 3166 code such as AT, or the English name."),
    Rule("value_placeholder", "*", "placeholder", _D, "Leave the field out when there is nothing to say."),
    Rule("too_long", "*", "too_long", _D, "Shorten the value: the documentation of the fields has the limits."),
    Rule("not_text", "*", "not_text", _D, "Send text or a number."),
    Rule(
        "nothing_identifying",
        "lead",
        "no_identity",
        _R,
        "Send an e-mail address, a phone number, a name with a date of birth, company, address or postcode, or both "
        "names with a city.",
    ),
    Rule(
        "validator_failed",
        "lead",
        "unreadable",
        _R,
        "Report this to the operator: the fault is in the rules, the lead is kept.",
    ),
    Rule(
        "unreadable_body",
        "lead",
        "broken_body",
        _R,
        "Mend the sender's template: values must be escaped for JSON. The body is kept as it came.",
    ),
    Rule("robot", "lead", "hidden_field_filled", _R, "Nothing, unless people can see the form's hidden field."),
    Rule("test", "lead", "vendor_test", _R, "Nothing: the vendor says that it is a trial, with made-up data."),
    Rule("echo", "lead", "own_delivery", _R, "Nothing: the CRM tells of a contact that was delivered to it from here."),
    Rule(
        "not_fetched",
        "lead",
        "not_at_the_vendor",
        _R,
        "Nothing: the vendor named a lead and, asked for it, does not have it any more.",
    ),
)

RULES_BY_KEY: dict[tuple[str, str], Rule] = {(rule.name, rule.value_class): rule for rule in RULES}


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a lead met, and the field that met it."""

    name: str
    field: str
    value_class: str

    @property
    def rule(self) -> Rule:
        return RULES_BY_KEY[self.name, self.value_class]

    def as_reason(self) -> dict[str, str]:
        """What is stored and shown: never the value."""
        return {"rule": self.name, "field": self.field, "value_class": self.value_class, "remedy": self.rule.remedy}


# Why the door, or asking the vendor, set a lead aside: named in its context, and no field of it is read.
QUARANTINES = frozenset({"unreadable_body", "robot", "test", "echo", "not_fetched"})

# The class of value behind each rule that notes something: such a rule has exactly one.
NOTES: dict[str, Rule] = {rule.name: rule for rule in RULES if rule.effect is Effect.NOTES}
