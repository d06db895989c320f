"""Which values a golden contact keeps."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.config import SurvivorshipSettings
from leads_pipeline.config.survivorship import SurvivorshipRule
from leads_pipeline.domain.survivorship import (
    DEFAULT_RULES,
    GOLDEN_FIELDS,
    GROUPS,
    LEAD_ID,
    ONLY_VALUE,
    Member,
    Policy,
    Rule,
    Value,
    survive,
)
from leads_pipeline.domain.verification import Standing

START = datetime(2026, 1, 1, tzinfo=UTC)
NAME = ("first_name", "last_name")
ADDRESS = ("address", "city", "state", "postcode", "country")
EMAIL = ("email", "email_key")


def lead(
    number: int,
    *,
    day: int = 0,
    source: str = "website",
    priority: int = 50,
    revision: int = 1,
    flags: tuple[str, ...] = (),
    email_verdict: Standing | None = None,
    phone_verdict: Standing | None = None,
    **values: Value,
) -> Member:
    return Member(
        lead_id=UUID(int=number),
        revision=revision,
        received_at=START + timedelta(days=day),
        source=source,
        priority=priority,
        values=dict.fromkeys(GOLDEN_FIELDS) | values,
        flags=frozenset(flags),
        attribution={"campaign": f"c{number}"},
        email_verdict=email_verdict,
        phone_verdict=phone_verdict,
    )


def address(text: str) -> dict[str, Value]:
    return {"email": text, "email_key": text}


def rule(field: str, *leads: Member, **rules: tuple[Rule, ...]) -> tuple[Value, str]:
    golden = survive(leads, Policy(rules))
    return golden.values[field], golden.provenance[field]["rule"]


def test_the_most_recent_value_wins() -> None:
    assert rule("company", lead(1, day=2, company="New"), lead(2, day=1, company="Old")) == ("New", "most_recent")


def test_a_slip_in_the_latest_and_longest_name_or_date_of_birth_does_not_win_over_what_most_leads_say() -> None:
    right: dict[str, Value] = {"first_name": "Anna", "date_of_birth": date(1980, 4, 5)}
    slip: dict[str, Value] = {"first_name": "Annna", "date_of_birth": date(1980, 4, 6)}
    leads = [lead(day, day=day, **values) for day, values in enumerate([right, right, slip])]
    for field, value in right.items():
        assert rule(field, *leads) == (value, "most_frequent")
        assert rule(field, *leads, lead(4, day=4, **slip)) == (slip[field], "most_recent")


def test_nothing_never_overwrites_something() -> None:
    assert rule("company", lead(1, day=1, company="Acme"), lead(2, day=2)) == ("Acme", "only_value")


def test_at_one_instant_the_better_source_then_the_majority_then_the_longer_then_the_later_id_wins() -> None:
    assert rule("company", lead(1, company="A", priority=60), lead(2, company="BB")) == ("A", "source_priority")
    three = (lead(1, company="A"), lead(2, company="BB"), lead(3, company="A"))
    assert rule("company", *three) == ("A", "most_frequent")
    assert rule("company", lead(1, company="Longer"), lead(2, company="Long")) == ("Longer", "longest")
    assert rule("company", lead(1, company="Aa"), lead(2, company="Bb")) == ("Bb", "lead_id")


def test_spelling_that_means_nothing_is_not_another_value() -> None:
    assert rule("company", lead(1, day=1, company="ACME"), lead(2, company="Acme")) == ("ACME", "only_value")


def test_a_verified_address_outlives_a_later_one_that_nobody_has_looked_up() -> None:
    known = lead(1, day=1, email_verdict=Standing.VALID, **address("anna@firm.com"))
    later = lead(2, day=2, **address("a.smith@firm.com"))
    assert rule("email", known, later) == ("anna@firm.com", "most_recent_verified")
    verified_too = lead(2, day=2, email_verdict=Standing.VALID, **address("a.smith@firm.com"))
    assert rule("email", known, verified_too) == ("a.smith@firm.com", "most_recent_verified")
    nobody_could_tell = lead(2, day=2, email_verdict=Standing.UNKNOWN, **address("a.smith@firm.com"))
    assert rule("email", known, nobody_could_tell) == ("anna@firm.com", "most_recent_verified")


def test_a_verdict_is_about_the_value_whichever_lead_had_it_looked_up() -> None:
    known = lead(1, day=1, phone="+14155552671", phone_verdict=Standing.VALID)
    again, other = lead(2, day=4, phone="+14155552671"), lead(3, day=3, phone="+14155552672")
    golden = survive([known, again, other])
    assert golden.provenance["phone"]["lead_id"] == str(again.lead_id)
    assert rule("phone", known, again, other)[1] == "most_recent_verified"
    gone = lead(4, day=5, phone="+14155552671", phone_verdict=Standing.INVALID)
    assert rule("phone", known, again, other, gone) == ("+14155552672", "better_quality")


def test_each_rule_decides_where_it_is_named_first() -> None:
    old = lead(1, day=1, company="Acme Incorporated", priority=40)
    new = lead(2, day=2, company="Acme", priority=60)
    both = (old, new, lead(3, day=1, company="ACME incorporated", priority=40))
    for first, wins in {
        Rule.MOST_RECENT: "Acme",
        Rule.OLDEST: "ACME incorporated",
        Rule.SOURCE_PRIORITY: "Acme",
        Rule.MOST_FREQUENT: "ACME incorporated",
        Rule.LONGEST: "ACME incorporated",
    }.items():
        assert rule("company", *both, company=(first,)) == (wins, first)


def test_the_more_complete_address_may_win() -> None:
    full = lead(1, day=1, address="1 Main St", city="Boston", state="MA", postcode="02134", country="US")
    part = lead(2, day=2, address="2 Oak Ave", city="Denver")
    assert rule("city", full, part) == ("Denver", "most_recent")
    assert rule("city", full, part, address=(Rule.MOST_COMPLETE, Rule.MOST_RECENT)) == ("Boston", "most_complete")


def test_a_group_that_is_not_named_keeps_its_rules() -> None:
    leads = lead(1, day=1, company="Old", job_title="Boss"), lead(2, day=2, company="New", job_title="Clerk")
    assert rule("job_title", *leads, company=(Rule.OLDEST,)) == ("Clerk", "most_recent")


def test_a_name_is_taken_whole_from_one_lead() -> None:
    golden = survive(
        [
            lead(1, day=1, first_name="Robert", last_name="Smith"),
            lead(2, day=2, first_name="Bob"),
            lead(3, day=3, last_name="Smyth"),
        ]
    )
    assert (golden.values["first_name"], golden.values["last_name"]) == ("Robert", "Smith")
    assert golden.provenance["first_name"]["rule"] == "better_quality"


def test_an_address_is_taken_whole_from_one_lead() -> None:
    golden = survive(
        [
            lead(1, day=1, address="1 Main St", city="Boston", postcode="02134", country="US"),
            lead(2, day=2, city="Denver", state="CO"),
            lead(3, day=3, country="GB"),
        ]
    )
    assert [golden.values[name] for name in ADDRESS] == ["1 Main St", "Boston", None, "02134", "US"]


@pytest.mark.parametrize("flag", ["role_mailbox", "disposable_mailbox", "email_typo_suspected"])
def test_ones_own_mailbox_comes_before_a_doubtful_one_whatever_its_age(flag: str) -> None:
    own = lead(1, day=1, email="anna@firm.com", email_key="anna@firm.com")
    doubtful = lead(2, day=9, email="x@other.com", email_key="x@other.com", flags=(flag,))
    assert rule("email", own, doubtful) == ("anna@firm.com", "better_quality")
    assert rule("email", doubtful) == ("x@other.com", "only_value")


def test_a_date_that_had_to_be_guessed_gives_way() -> None:
    sure, guessed = date(1980, 4, 3), date(1980, 3, 4)
    members = lead(1, date_of_birth=sure), lead(2, day=9, date_of_birth=guessed, flags=("date_ambiguous",))
    assert rule("date_of_birth", *members) == (sure, "better_quality")


def test_the_first_and_the_last_touch_are_kept() -> None:
    golden = survive([lead(2, day=5, source="webinar"), lead(1, day=1), lead(3, day=3)])
    assert (golden.first_source, golden.last_source, golden.lead_count) == ("website", "webinar", 3)
    assert (golden.first_seen_at, golden.last_seen_at) == (START + timedelta(days=1), START + timedelta(days=5))
    assert golden.attribution["first"] == {
        "campaign": "c1", "source": "website", "lead_id": str(UUID(int=1)), "received_at": "2026-01-02T00:00:00+00:00",
    }  # fmt: skip
    assert golden.attribution["last"]["campaign"] == "c2"


def test_the_latest_revision_of_a_lead_speaks() -> None:
    golden = survive([lead(1, revision=2, company="Right"), lead(1, revision=1, company="Wrong")])
    assert (golden.values["company"], golden.lead_count) == ("Right", 1)


def test_a_contact_without_leads_is_no_contact() -> None:
    with pytest.raises(ValueError, match="needs a lead"):
        survive([])


def _texts(*values: str) -> st.SearchStrategy[str | None]:
    return st.one_of(st.none(), st.sampled_from(values))


@st.composite
def _members(draw: st.DrawFn) -> list[Member]:
    """Leads that agree often, differ in little and come at the same instant often: ties are the point."""
    found = []
    for number in draw(st.lists(st.integers(1, 30), min_size=1, max_size=8, unique=True)):
        email = draw(_texts("a@x.com", "b@x.com", "info@x.com"))
        found.append(
            lead(
                number,
                day=draw(st.integers(0, 2)),
                priority=draw(st.sampled_from([40, 50])),
                source=draw(st.sampled_from(["website", "import"])),
                flags=tuple(draw(st.sets(st.sampled_from(["role_mailbox", "disposable_mailbox", "date_ambiguous"])))),
                email=email,
                email_key=email,
                first_name=draw(_texts("Bob", "Rob", "ROB")),
                last_name=draw(_texts("Smith", "Smyth")),
                company=draw(_texts("Acme", "acme", "Widget Works")),
                date_of_birth=draw(st.one_of(st.none(), st.sampled_from([date(1980, 3, 4), date(1980, 4, 3)]))),
                address=draw(_texts("1 Main St", "2 Oak Ave")),
                city=draw(_texts("Boston", "Denver")),
                postcode=draw(_texts("02134", "80201")),
                country=draw(_texts("US", "GB")),
                phone=draw(_texts("+14155552671", "+14155552672")),
                email_verdict=draw(VERDICTS),
                phone_verdict=draw(VERDICTS),
            )
        )
    return found


VERDICTS = st.one_of(st.none(), st.sampled_from(Standing))
POLICIES = st.fixed_dictionaries(
    {}, optional={group.name: st.lists(st.sampled_from(Rule), unique=True) for group in GROUPS}
).map(Policy)


@settings(max_examples=200, deadline=None)
@given(_members(), POLICIES, st.randoms(use_true_random=False), st.data())
def test_order_and_repetition_make_no_difference_whatever_the_rules(
    members: list[Member], policy: Policy, random: object, data: st.DataObject
) -> None:
    repeated = members + data.draw(st.lists(st.sampled_from(members), max_size=5))
    random.shuffle(repeated)  # type: ignore[attr-defined]
    assert survive(repeated, policy) == survive(members, policy)


@settings(max_examples=200, deadline=None)
@given(_members(), POLICIES)
def test_every_group_comes_from_one_lead_that_says_just_that_whatever_the_rules(
    members: list[Member], policy: Policy
) -> None:
    golden = survive(members, policy)
    by_id = {str(member.lead_id): member for member in members}
    for group in GROUPS:
        origins = {golden.provenance[name]["lead_id"] for name in group.fields if name in golden.provenance}
        assert len(origins) <= 1
        for origin in origins:
            assert [golden.values[name] for name in group.fields] == [by_id[origin].values[n] for n in group.fields]
        if not origins:
            assert all(member.values[name] is None for member in members for name in group.fields)


@settings(max_examples=200, deadline=None)
@given(_members(), POLICIES)
def test_what_an_unrelated_lead_says_of_other_groups_makes_no_difference(members: list[Member], policy: Policy) -> None:
    """A field's winner depends on the leads that say anything of its group, and on nothing else."""
    golden = survive(members, policy)
    for group in GROUPS:
        speaking = [member for member in members if any(member.values[name] is not None for name in group.fields)]
        if speaking:
            alone = survive(speaking, policy)
            assert [alone.values[name] for name in group.fields] == [golden.values[name] for name in group.fields]
            assert [alone.provenance.get(n) for n in group.fields] == [golden.provenance.get(n) for n in group.fields]


@settings(max_examples=200, deadline=None)
@given(_members())
def test_a_verified_number_is_never_passed_over_for_one_that_is_not(members: list[Member]) -> None:
    told: dict[Value, set[Standing]] = {}
    for member in members:
        if member.values["phone"] is not None and member.phone_verdict is not None:
            told.setdefault(member.values["phone"], set()).add(member.phone_verdict)
    surely_valid = {number for number, verdicts in told.items() if verdicts <= {Standing.VALID, Standing.UNKNOWN}}
    surely_valid = {number for number in surely_valid if Standing.VALID in told[number]}
    if surely_valid:
        assert survive(members).values["phone"] in {
            number for number, verdicts in told.items() if Standing.VALID in verdicts
        }


@settings(max_examples=100, deadline=None)
@given(_members())
def test_an_own_mailbox_is_never_passed_over(members: list[Member]) -> None:
    gone = {member.values["email_key"] for member in members if member.email_verdict is Standing.INVALID}
    own = {
        member.values["email"]
        for member in members
        if member.values["email"] and member.values["email_key"] not in gone and not member.flags - {"date_ambiguous"}
    }
    flagged = {member.values["email"] for member in members if member.flags - {"date_ambiguous"}}
    if own - flagged:
        assert survive(members).values["email"] not in flagged - own - gone


@settings(max_examples=100, deadline=None)
@given(_members(), _members())
def test_how_the_leads_were_batched_makes_no_difference(first: list[Member], second: list[Member]) -> None:
    """The record is made of the leads, never of an earlier record: two chunks or one, the end is the same."""
    latest = {member.lead_id: member for member in [*first, *second]}
    survive(first)
    assert survive(latest.values()) == survive(sorted(latest.values(), key=lambda m: m.lead_id, reverse=True))


def test_the_documented_rules_and_groups_are_those_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "golden-contacts.md").read_text(encoding="utf-8")
    before, _, after = text.partition("## What belongs together")
    assert re.findall(r"^\| `(\w+)` \|", before, flags=re.MULTILINE) == [ONLY_VALUE, *Rule, LEAD_ID]
    groups = re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|", after, flags=re.MULTILINE)
    assert {name: tuple(re.findall(r"\w+", fields)) for name, fields in groups} == {
        group.name: group.fields for group in GROUPS
    }
    assert {name for group in GROUPS for name in group.fields} == set(GOLDEN_FIELDS)


def test_leads_yaml_names_the_rules_and_groups_of_the_code_and_has_its_defaults() -> None:
    assert set(SurvivorshipRule.__args__) == set(Rule)  # type: ignore[attr-defined]
    assert SurvivorshipSettings().rules() == DEFAULT_RULES
    assert list(DEFAULT_RULES) == [group.name for group in GROUPS]
