"""Which values a golden contact keeps."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leads_pipeline.domain.survivorship import CRITERIA, GOLDEN_FIELDS, GROUPS, ONLY_VALUE, Member, Value, survive

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
    )


def rule(field: str, *leads: Member) -> tuple[Value, str]:
    golden = survive(leads)
    return golden.values[field], golden.provenance[field]["rule"]


def test_the_most_recent_value_wins() -> None:
    assert rule("company", lead(1, day=2, company="New"), lead(2, day=1, company="Old")) == ("New", "most_recent")


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
            )
        )
    return found


@settings(max_examples=100, deadline=None)
@given(_members(), st.randoms(use_true_random=False), st.data())
def test_order_and_repetition_make_no_difference(members: list[Member], random: object, data: st.DataObject) -> None:
    repeated = members + data.draw(st.lists(st.sampled_from(members), max_size=5))
    random.shuffle(repeated)  # type: ignore[attr-defined]
    assert survive(repeated) == survive(members)


@settings(max_examples=100, deadline=None)
@given(_members())
def test_every_group_comes_from_one_lead_that_says_just_that(members: list[Member]) -> None:
    golden = survive(members)
    by_id = {str(member.lead_id): member for member in members}
    for group in (EMAIL, NAME, ADDRESS, ("company",), ("date_of_birth",)):
        origins = {golden.provenance[name]["lead_id"] for name in group if name in golden.provenance}
        assert len(origins) <= 1
        for origin in origins:
            assert [golden.values[name] for name in group] == [by_id[origin].values[name] for name in group]
        if not origins:
            assert all(member.values[name] is None for member in members for name in group)


@settings(max_examples=100, deadline=None)
@given(_members())
def test_an_own_mailbox_is_never_passed_over(members: list[Member]) -> None:
    own = {
        member.values["email"] for member in members if member.values["email"] and not member.flags - {"date_ambiguous"}
    }
    if own:
        assert survive(members).values["email"] in own


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
    assert re.findall(r"^\| `(\w+)` \|", before, flags=re.MULTILINE) == [ONLY_VALUE, *CRITERIA]
    groups = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", after, flags=re.MULTILINE)
    assert {tuple(re.findall(r"\w+", group)) for group in groups} == {group.fields for group in GROUPS}
    assert {name for group in GROUPS for name in group.fields} == set(GOLDEN_FIELDS)
