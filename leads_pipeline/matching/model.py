"""The Fellegi–Sunter model: its comparisons as code, its probabilities as data.

The comparisons are ours. Splink's own e-mail comparison scores equal user names, which counts a person's name twice
where work addresses are made from names; an equal user name counts here only if it says more than the name does.
``parameters.json`` holds what was learned: m and u of every level, the prior and the number of contacts that it is for.
Add a comparison here, then train again (``scripts/train_matching_model.py``).
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

PARAMETERS_FILE = "parameters.json"

# Columns with a frequency of their own, looked up for each record: an agreement on a rare value weighs more.
FREQUENCY_FIELDS = ("first_name", "last_name", "phone", "company", "born", "postcode", "city", "job_title", "domain")
# What Splink adjusts by: those, and the whole name, whose frequency follows from its parts (``scoring``).
ADJUSTED_FIELDS = (*FREQUENCY_FIELDS, "full_name")


@dataclass(frozen=True, slots=True)
class Level:
    """One degree of agreement. ``condition`` is DuckDB SQL over the two records' columns, ``…_l`` and ``…_r``.

    ``frequency_of``: an equal value weighs by its frequency instead of u; exchanged names by that of the whole name.
    """

    name: str
    condition: str
    frequency_of: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Degrees of agreement, the first that holds counts. ``missing`` says when there is nothing to compare."""

    name: str
    missing: str
    levels: tuple[Level, ...]


def _either_null(column: str) -> str:
    return f"{column}_l is null or {column}_r is null"


def _alike(left: str, right: str, least: float) -> str:
    return f"jaro_winkler_similarity({left}, {right}) >= {least}"


def _if(cheap: str, dear: str) -> str:
    """Both conditions, the dear one tried only where the cheap one holds: DuckDB evaluates all of an ``and``."""
    return f"case when {cheap} then {dear} else false end"


_SWAPPED = "first_name_l = last_name_r and last_name_l = first_name_r"
_SWAPPED_ALIKE = _if(
    "left(first_name_l, 1) = left(last_name_r, 1) and left(last_name_l, 1) = left(first_name_r, 1)",
    f"({_alike('first_name_l', 'last_name_r', 0.9)} or least(length(first_name_l), length(last_name_r)) = 1) and "
    f"({_alike('last_name_l', 'first_name_r', 0.9)} or least(length(last_name_l), length(first_name_r)) = 1)",
)
# A name that stands alone is a given name to one sender and a family name to another.
_ALONE_IS_FAMILY = _if(
    "last_name_l is null or last_name_r is null",
    "first_spelling_l = last_spelling_r or last_spelling_l = first_spelling_r "
    f"or coalesce({_alike('first_name_l', 'last_name_r', 0.92)}, false) "
    f"or coalesce({_alike('last_name_l', 'first_name_r', 0.92)}, false)",
)
_NO_TOWN = f"({_either_null('postcode')}) and ({_either_null('city')})"
# Some give all of an address in one line: a number and a street are enough, if no town speaks against it.
_SAME_ADDRESS = _if(
    "address_l = address_r",
    f"coalesce(postcode_l = postcode_r or city_l = city_r, {_NO_TOWN} and regexp_matches(address_l, '[0-9]'), false)",
)
_INITIAL = "(length(first_name_l) = 1 or length(first_name_r) = 1) and left(first_name_l, 1) = left(first_name_r, 1)"
_GIVEN_NAMES_COMPATIBLE = (
    f"(first_name_l is null or first_name_r is null or {_alike('first_name_l', 'first_name_r', 0.8)} "
    f"or list_has_any(first_name_forms_l, first_name_forms_r) or ({_INITIAL}) or coalesce({_SWAPPED_ALIKE}, false) "
    f"or coalesce({_ALONE_IS_FAMILY}, false))"
)
# Where addresses are made from names, an address that is one letter off belongs to a colleague if the names differ too.
_NAMES_COMPATIBLE = (
    f"(last_name_l is null or last_name_r is null or {_alike('last_name_l', 'last_name_r', 0.88)} "
    f"or coalesce({_SWAPPED_ALIKE}, false)) and {_GIVEN_NAMES_COMPATIBLE}"
)
# Parent and child of one name, unless it is a slip: those leave all but two characters, or day and month.
_A_GENERATION_APART = _if(
    "abs(born_days_l - born_days_r) > 5475",
    "damerau_levenshtein(born_l, born_r) > 2 and right(born_l, 5) != right(born_r, 5)",
)
_SAME_COMPANY = "coalesce(company_l = company_r or domain_l = domain_r, false)"
_FAMILY = f"(not {_GIVEN_NAMES_COMPATIBLE} or {_A_GENERATION_APART})"
# A telephone number is a company's or a family's as often as a person's. With another given name, or where the births
# lie a generation apart, it says nothing of who it is, nor does the address; and it says where one works, so the
# company's name is no second clue, nor the office's address a third.
_SHARED_PHONE = _if("phone_l = phone_r", _FAMILY)
_SHARED_ADDRESS = _if(_SAME_ADDRESS, _FAMILY) + " or " + _if("postcode_l = postcode_r", _A_GENERATION_APART)
_FAMILY_FIRM = _if(_SAME_COMPANY, _A_GENERATION_APART)
_SHARED_EMAIL = _if("email_l = email_r", _FAMILY)
_SAME_PHONE = "coalesce(phone_l = phone_r, false)"

# A sender who left the family name out may have it in the address.
_IN_MAILBOX = _if(
    "(last_name_l is null and length(last_name_r) > 3) or (last_name_r is null and length(last_name_l) > 3)",
    # A given name of its own there says nothing of the other's family name.
    "coalesce(contains(mailbox_l, last_name_r) and first_name_l is distinct from last_name_r, false) "
    "or coalesce(contains(mailbox_r, last_name_l) and first_name_r is distinct from last_name_l, false)",
)

COMPARISONS: tuple[Comparison, ...] = (
    Comparison(
        "first_name",
        _either_null("first_name"),
        (
            # How rare two names are together is one number, and bounded: rare names run in families too.
            Level("same_full_name", "full_name_l = full_name_r", "full_name"),
            Level("same", "first_name_l = first_name_r", "first_name"),
            # Two of one common name are two in either order.
            Level("swapped_with_last_name", _SWAPPED, "full_name"),
            Level("swapped_and_altered", _SWAPPED_ALIKE, "full_name"),
            Level("short_form", "list_has_any(first_name_forms_l, first_name_forms_r)"),
            Level("initial", _INITIAL),
            Level("other_spelling", "first_spelling_l = first_spelling_r"),
            Level("typo", _alike("first_name_l", "first_name_r", 0.9)),
            Level(
                "similar",
                f"{_alike('first_name_l', 'first_name_r', 0.8)} "
                "or starts_with(first_name_l, first_name_r) or starts_with(first_name_r, first_name_l)",
            ),
            Level("is_last_name_of_other", _ALONE_IS_FAMILY),
            Level("different", "else"),
        ),
    ),
    Comparison(
        "last_name",
        # The whole name, as it stands or exchanged, is one observation; the given name's comparison has counted it.
        f"(({_either_null('last_name')}) and not {_IN_MAILBOX}) or full_name_l = full_name_r or {_SWAPPED_ALIKE}",
        (
            Level("same", "last_name_l = last_name_r", "last_name"),
            Level("in_mailbox", f"({_either_null('last_name')}) and {_IN_MAILBOX}"),
            Level("other_spelling", "last_spelling_l = last_spelling_r"),
            Level("typo", _alike("last_name_l", "last_name_r", 0.92)),
            Level(
                "similar",
                f"{_alike('last_name_l', 'last_name_r', 0.82)} "
                "or starts_with(last_name_l, last_name_r) or starts_with(last_name_r, last_name_l) "
                "or ends_with(last_name_l, last_name_r) or ends_with(last_name_r, last_name_l)",
            ),
            Level("different", "else"),
        ),
    ),
    # Where an address is from says the company's comparison; here is whose it is among those of its domain.
    Comparison(
        "mailbox",
        f"{_either_null('email')} or mail_domain_l != mail_domain_r or {_SHARED_EMAIL}",
        (
            Level("same", "email_l = email_r"),
            Level(
                "typo",
                _if(
                    # Two people of one name have anna.smith and annasmith: a dot is no slip.
                    "abs(length(email_l) - length(email_r)) <= 2 and mailbox_digits_l = mailbox_digits_r "
                    "and replace(mailbox_l, '.', '') != replace(mailbox_r, '.', '')",
                    f"damerau_levenshtein(mailbox_l, mailbox_r) <= 2 and {_NAMES_COMPATIBLE}",
                ),
            ),
            Level("different", "else"),
        ),
    ),
    Comparison(
        "email",
        f"{_either_null('email')} or mail_domain_l = mail_domain_r",
        (
            Level(
                "typo",
                _if(
                    "abs(length(email_l) - length(email_r)) <= 3 and mailbox_digits_l = mailbox_digits_r "
                    "and left(mail_domain_l, 1) = left(mail_domain_r, 1)",
                    f"damerau_levenshtein(email_l, email_r) <= 3 and {_NAMES_COMPATIBLE}",
                ),
            ),
            Level("same_own_mailbox_name", "own_mailbox_l = own_mailbox_r"),
            Level("different", "else"),
        ),
    ),
    Comparison(
        "phone",
        f"{_either_null('phone')} or {_SHARED_PHONE}",
        (
            Level("same", "phone_l = phone_r", "phone"),
            Level("typo", _if("length(phone_l) = length(phone_r)", "damerau_levenshtein(phone_l, phone_r) <= 1")),
            Level("other_mobile", "phone_kind_l = 'mobile' and phone_kind_r = 'mobile'"),
            Level("different", "else"),
        ),
    ),
    Comparison(
        "born",
        _either_null("born"),
        (
            Level("same", "born_l = born_r", "born"),
            Level("one_character", "damerau_levenshtein(born_l, born_r) <= 1"),
            Level("day_and_month_swapped", "born_swapped_l = born_r"),
            Level("two_parts", "left(born_l, 7) = left(born_r, 7) or right(born_l, 5) = right(born_r, 5)"),
            Level("near", "abs(born_days_l - born_days_r) <= 40"),
            Level("same_year", "left(born_l, 4) = left(born_r, 4)"),
            Level(
                "one_or_ten_years",
                "abs(abs(born_days_l - born_days_r) - 365) <= 40 or abs(abs(born_days_l - born_days_r) - 3652) <= 60",
            ),
            Level("two_characters", "damerau_levenshtein(born_l, born_r) <= 2"),
            Level("a_generation", _A_GENERATION_APART),
            Level("different", "else"),
        ),
    ),
    Comparison(
        "company",
        f"(({_either_null('company')}) and ({_either_null('domain')})) or {_SAME_PHONE} or {_FAMILY_FIRM}",
        (
            Level("same", "company_l = company_r", "company"),
            Level("typo", "jaro_winkler_similarity(company_l, company_r) >= 0.93"),
            Level("same_domain", "domain_l = domain_r", "domain"),
            Level("part", "starts_with(company_l, company_r) or starts_with(company_r, company_l)"),
            Level("other_domain", _either_null("company")),
            Level("different", "else"),
        ),
    ),
    # One comparison for all that says where somebody is: a street implies a postcode, which implies a town.
    Comparison(
        "place",
        f"({_NO_TOWN} and not {_SAME_ADDRESS}) or {_SAME_PHONE} or {_SAME_COMPANY} or {_SHARED_ADDRESS}",
        (
            Level("same_address", _SAME_ADDRESS),
            Level("same_postcode", "postcode_l = postcode_r", "postcode"),
            Level("same_area_and_city", "area_l = area_r and city_l = city_r"),
            Level("same_area", "area_l = area_r"),
            Level("postcode_typo", "damerau_levenshtein(postcode_l, postcode_r) <= 1"),
            Level("same_city", "city_l = city_r", "city"),
            Level("city_typo", "jaro_winkler_similarity(city_l, city_r) >= 0.9"),
            Level("different", "else"),
        ),
    ),
    Comparison(
        "job_title",
        f"{_either_null('job_title')}",
        (
            Level("same", "job_title_l = job_title_r", "job_title"),
            Level("different", "else"),
        ),
    ),
)


@dataclass(frozen=True)
class Parameters:
    """What training found. ``levels`` maps comparison → level → (m, u)."""

    version: str
    prior: float
    prior_contacts: int
    levels: dict[str, dict[str, tuple[float, float]]]
    trained: dict[str, Any]

    @classmethod
    def from_json(cls, text: str) -> "Parameters":
        document = json.loads(text)
        levels = {
            comparison: {level: (item["m"], item["u"]) for level, item in found.items()}
            for comparison, found in document["levels"].items()
        }
        return cls(document["version"], document["prior"], document["prior_contacts"], levels, document["trained"])

    def to_json(self) -> str:
        levels = {
            comparison: {level: {"m": m, "u": u} for level, (m, u) in found.items()}
            for comparison, found in self.levels.items()
        }
        document = {
            "version": self.version,
            "prior": self.prior,
            "prior_contacts": self.prior_contacts,
            "trained": self.trained,
            "levels": levels,
        }
        return json.dumps(document, indent=2) + "\n"

    def average_frequency(self, field: str) -> float:
        """The chance that two records that are not of one person agree on ``field``, as trained."""
        return next(
            self.levels[comparison.name][level.name][1]
            for comparison in COMPARISONS
            for level in comparison.levels
            if level.frequency_of == field
        )


@cache
def shipped_parameters() -> Parameters:
    """The parameters that come with the package."""
    return Parameters.from_json(model_directory().joinpath(PARAMETERS_FILE).read_text(encoding="utf-8"))


def model_directory() -> Path:
    """Where the shipped parameters and their report are."""
    return Path(str(files("leads_pipeline.matching").joinpath("model")))


def splink_settings(parameters: Parameters) -> dict[str, Any]:
    """The model in Splink's own words."""
    return {
        "link_type": "dedupe_only",
        "unique_id_column_name": "record",
        "probability_two_random_records_match": parameters.prior,
        "retain_matching_columns": False,
        "retain_intermediate_calculation_columns": True,
        "comparisons": [
            _splink_comparison(comparison, parameters.levels[comparison.name]) for comparison in COMPARISONS
        ],
    }


def _splink_comparison(comparison: Comparison, probabilities: dict[str, tuple[float, float]]) -> dict[str, Any]:
    missing = {"sql_condition": comparison.missing, "label_for_charts": "missing", "is_null_level": True}
    levels: list[dict[str, Any]] = [missing]
    for level in comparison.levels:
        m, u = probabilities[level.name]
        described: dict[str, Any] = {
            "sql_condition": level.condition,
            "label_for_charts": level.name,
            "m_probability": m,
            "u_probability": u,
        }
        if level.frequency_of is not None:
            described["tf_adjustment_column"] = level.frequency_of
        levels.append(described)
    return {"output_column_name": comparison.name, "comparison_levels": levels}
