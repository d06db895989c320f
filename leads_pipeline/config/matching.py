"""What leads.yaml says about matching: the rules that decide by themselves, and the cut-offs of the model.

Weights are log2 Bayes factors (Splink match weights). What a field of a rule or a veto means stands in
``domain.match_rules``; a test compares the names.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from leads_pipeline.config.base import Model, Name

RuleField = Literal[
    "email", "own_email", "verified_email", "phone", "mobile", "external_id", "first_name", "last_name",
    "date_of_birth", "company", "job_title", "address", "postcode", "city", "state",
]  # fmt: skip
RuleVeto = Literal[
    "names_disagree", "first_names_disagree", "last_names_disagree", "dates_of_birth_disagree", "relatives",
    "companies_disagree", "external_ids_disagree", "role_mailbox",
]  # fmt: skip

# One of these, or both names with one of the others, is what few people share; anything less joins strangers.
IDENTIFYING_FIELDS: frozenset[str] = frozenset(
    {"email", "own_email", "verified_email", "phone", "mobile", "external_id"}
)
_WITH_BOTH_NAMES = frozenset({"date_of_birth", "address", "company", "postcode"})


# A field that agrees → those that then agree too.
_IMPLIED: dict[str, frozenset[str]] = {
    "own_email": frozenset({"email"}),
    "verified_email": frozenset({"own_email", "email"}),
    "mobile": frozenset({"phone"}),
}


class MatchRuleSettings(Model):
    """Two leads that agree in all fields of ``when`` are one person's, unless a veto holds."""

    name: Name = Field(description="Stands in the merge log as rule:NAME.")
    when: tuple[RuleField, ...] = Field(
        description="All of these must be known of both leads and agree. own_email: no role mailbox such as info@; "
        "verified_email: such a one that a look-up found valid; mobile: a number of a mobile plan."
    )
    veto: tuple[RuleVeto, ...] = Field(
        (),
        description="If one of these holds the model decides instead. names_disagree: the first and the last ones; "
        "relatives: given names that are no forms of one, and dates of birth.",
    )
    outranks_votes: bool = Field(
        False,
        description="It joins whatever the model says of other leads of the two contacts that it does not join itself.",
    )

    def forestalls(self, later: "MatchRuleSettings") -> bool:
        """Whether every pair that ``later`` would join is joined by this one before."""
        agreed = {name for field in later.when for name in (field, *_IMPLIED.get(field, ()))}
        return agreed.issuperset(self.when) and set(later.veto).issuperset(self.veto)

    @property
    def joins_colleagues(self) -> bool:
        """Whether the field that it goes by may be a company's or a family's, and nothing asks whose of them it is."""
        shared = {"phone", "mobile"} if "role_mailbox" in self.veto else {"phone", "mobile", "email"}
        telling = {"first_name", "last_name", "date_of_birth"} & set(self.when)
        return set(self.when) & IDENTIFYING_FIELDS <= shared and not telling

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        for where, names in (("when", self.when), ("veto", self.veto)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{where}: {', '.join(twice)} stands twice; allowed: each once")
        return self

    @model_validator(mode="after")
    def _says_who_somebody_is(self) -> Self:
        fields: set[str] = set(self.when)
        names = {"first_name", "last_name"} <= fields
        if not fields & IDENTIFYING_FIELDS and not (names and fields & _WITH_BOTH_NAMES):
            raise ValueError(
                f"when joins strangers; allowed: at least one of {', '.join(sorted(IDENTIFYING_FIELDS))}, "
                f"or first_name and last_name with one of {', '.join(sorted(_WITH_BOTH_NAMES))}"
            )
        return self


def _usual_rules() -> tuple[MatchRuleSettings, ...]:
    return (
        MatchRuleSettings(
            name="same_email", when=("own_email",), veto=("names_disagree", "relatives"), outranks_votes=True
        ),
        MatchRuleSettings(
            name="same_mobile_and_surname",
            when=("mobile", "last_name"),
            veto=("first_names_disagree", "dates_of_birth_disagree"),
        ),
        MatchRuleSettings(name="same_external_id", when=("external_id",), veto=("names_disagree",)),
        # American plans do not tell mobiles from lines at home or at work: there the whole name must fit.
        MatchRuleSettings(
            name="same_phone_and_name",
            when=("phone", "first_name", "last_name"),
            veto=("dates_of_birth_disagree",),
        ),
    )


class MatchingSettings(Model):
    """When two leads are one person."""

    rules: tuple[MatchRuleSettings, ...] = Field(
        default_factory=_usual_rules,
        description="The first that holds decides a pair; the model decides the others. With none it decides all.",
    )
    merge_weight: float = Field(5.0, description="At or above, the model merges. A weight is log2 of the odds.")
    review_weight: float = Field(3.0, description="At or above, below merge_weight: put before a person.")
    veto_weight: float = Field(-3.0, description="A pair below it votes against joining the two contacts it is of.")
    max_candidates_per_key: Annotated[int, Field(gt=0)] = Field(
        20,
        description="Lowers the limits of all kinds of keys: none compares a lead with more earlier records than this.",
    )
    max_records_per_contact: Annotated[int, Field(gt=0)] = Field(
        50, description="No rule and no model makes a contact of more distinct records: a person is asked."
    )
    max_contacts_per_merge: Annotated[int, Field(gt=0)] = Field(
        3, description="Nor does one join more contacts than this at once."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.review_weight > self.merge_weight:
            raise ValueError("review_weight must not be above merge_weight")
        if self.veto_weight >= self.review_weight:
            raise ValueError(f"veto_weight is {self.veto_weight:g}; allowed: less than review_weight")
        return self

    @model_validator(mode="after")
    def _rules_have_names_of_their_own(self) -> Self:
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rules: {', '.join(twice)} stands twice; allowed: one rule of a name")
        return self
