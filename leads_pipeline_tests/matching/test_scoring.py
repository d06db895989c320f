"""The way into Splink: the weights are the model's, whatever Splink's internals do."""

import math
from dataclasses import replace
from datetime import date

import pytest

from leads_pipeline.domain.match_keys import MatchFields
from leads_pipeline.domain.name_frequencies import expected_share
from leads_pipeline.matching.model import ADJUSTED_FIELDS, COMPARISONS, FREQUENCY_FIELDS
from leads_pipeline.matching.pairs import Frequencies, ScoredPair, count_terms, terms_of, with_exchanged_names
from leads_pipeline.matching.record_columns import own_mailbox
from leads_pipeline.matching.scoring import (
    FREQUENCY_PRIOR_CONTACTS,
    LOST_PER_DOUBLING,
    PairScorer,
    least_full_name_share,
    prior_shift,
)

MANY = Frequencies(contacts=50_000)
ANNA = MatchFields(
    email_key="anna.kowalczyk@northwind.com",
    phone_key="+14155552671",
    first_name_key="anna",
    last_name_key="kowalczyk",
    company_key="northwind",
    date_of_birth=date(1980, 4, 5),
    city_key="graz",
    postcode_key="8010",
)


def scored(scorer: PairScorer, left: MatchFields, right: MatchFields, frequencies: Frequencies = MANY) -> ScoredPair:
    (pair,) = scorer.score([left, right], [(0, 1)], frequencies=frequencies, explain_from=-math.inf)
    return pair


def level(scorer: PairScorer, comparison: str, name: str) -> float:
    m, u = scorer.parameters.levels[comparison][name]
    return math.log2(m / u)


def prior(scorer: PairScorer, contacts: int) -> float:
    odds = scorer.parameters.prior / (1 - scorer.parameters.prior)
    return math.log2(odds) - LOST_PER_DOUBLING * math.log2(contacts / scorer.parameters.prior_contacts)


def test_a_weight_is_the_prior_and_the_sum_of_the_levels(scorer: PairScorer) -> None:
    left = MatchFields(first_name_key="kristina", last_name_key="kowalczyk", date_of_birth=date(1980, 4, 5))
    right = MatchFields(first_name_key="kristima", last_name_key="kowalczyks", date_of_birth=date(1980, 4, 6))
    expected = {
        "prior": prior(scorer, 50_000),
        "first_name": level(scorer, "first_name", "typo"),
        "last_name": level(scorer, "last_name", "typo"),
        "born": level(scorer, "born", "one_character"),
    }
    found = scored(scorer, left, right)
    assert found.evidence == pytest.approx(expected, abs=0.001)
    assert found.match_weight == pytest.approx(sum(expected.values()), abs=0.001)


def test_agreement_weighs_by_how_common_the_value_is_among_contacts(scorer: PairScorer) -> None:
    name = MatchFields(last_name_key="quist")
    m, u = scorer.parameters.levels["last_name"]["same"]
    for occurrences in (1, 40, 4_000):
        frequencies = Frequencies(50_000, {("last_name", "quist"): occurrences})
        frequency = (occurrences + u * FREQUENCY_PRIOR_CONTACTS) / (50_000 + FREQUENCY_PRIOR_CONTACTS)
        found = scored(scorer, name, name, frequencies)
        assert found.evidence["last_name"] == pytest.approx(math.log2(m / frequency), abs=0.01)


def test_a_name_that_is_common_at_large_is_no_rare_one_among_few_contacts(scorer: PairScorer) -> None:
    m, _u = scorer.parameters.levels["last_name"]["same"]
    share = expected_share("last_name", "smith")
    assert share is not None
    for occurrences, contacts in ((1, 100), (900, 100_000)):
        frequency = (occurrences + share * FREQUENCY_PRIOR_CONTACTS) / (contacts + FREQUENCY_PRIOR_CONTACTS)
        name = MatchFields(last_name_key="smith")
        found = scored(scorer, name, name, Frequencies(contacts, {("last_name", "smith"): occurrences}))
        assert found.evidence["last_name"] == pytest.approx(math.log2(m / frequency), abs=0.01)


def test_twice_the_contacts_take_a_little_more_than_one_from_every_weight(scorer: PairScorer) -> None:
    other = MatchFields(first_name_key="annna")
    some = scored(scorer, MatchFields(first_name_key="anna"), other, Frequencies(20_000))
    more = scored(scorer, MatchFields(first_name_key="anna"), other, Frequencies(40_000))
    assert some.match_weight - more.match_weight == pytest.approx(LOST_PER_DOUBLING, abs=1e-6)
    assert LOST_PER_DOUBLING > 1


def test_fewer_contacts_than_it_was_trained_on_give_one_for_each_halving(scorer: PairScorer) -> None:
    parameters = replace(scorer.parameters, prior_contacts=16_000)
    assert [prior_shift(parameters, contacts=count) for count in (16_000, 8_000, 4_000)] == [0.0, 1.0, 2.0]


def test_the_order_within_a_pair_does_not_matter(scorer: PairScorer) -> None:
    other = MatchFields(
        first_name_key="kowalczyk", last_name_key="anna", email_key="anna.kowalczik@northwind.com", city_key="gratz"
    )
    assert scored(scorer, ANNA, other).evidence == scored(scorer, other, ANNA).evidence


def test_pairs_come_back_in_the_order_of_their_places_with_evidence_where_it_is_wanted(scorer: PairScorer) -> None:
    stranger = MatchFields(first_name_key="bertil", last_name_key="quist", city_key="linz")
    records = [ANNA, stranger, MatchFields(email_key=ANNA.email_key, first_name_key="zoe", last_name_key="other")]
    found = scorer.score(records, [(1, 2), (0, 1), (0, 2)], frequencies=MANY, explain_from=100.0)
    assert [(pair.left, pair.right) for pair in found] == [(0, 1), (0, 2), (1, 2)]
    assert [bool(pair.evidence) for pair in found] == [False, True, False]  # the same e-mail is always explained
    assert scorer.score(records, [], frequencies=MANY) == []


def test_the_second_call_gives_what_the_first_gave_and_leaves_no_tables(scorer: PairScorer) -> None:
    other = MatchFields(first_name_key="ana", last_name_key="kowalczyk", city_key="graz")
    first, second = scored(scorer, ANNA, other), scored(scorer, ANNA, other)
    assert first == second
    assert scorer._connection.execute("select count(*) from duckdb_tables()").fetchall() == [(0,)]
    different = scored(scorer, ANNA, MatchFields(first_name_key="zoe", last_name_key="quist"))
    assert different.match_weight < first.match_weight


@pytest.mark.parametrize(
    ("left", "right", "comparison", "name"),
    [
        ({"first_name_key": "bob"}, {"first_name_key": "robert"}, "first_name", "short_form"),
        ({"first_name_key": "j"}, {"first_name_key": "john"}, "first_name", "initial"),
        ({"first_name_key": "anna"}, {"first_name_key": "peter"}, "first_name", "different"),
        ({"last_name_key": "smith"}, {"last_name_key": "okafor"}, "last_name", "different"),
        ({"date_of_birth": date(1980, 4, 5)}, {"date_of_birth": date(1980, 5, 4)}, "born", "day_and_month_swapped"),
        ({"date_of_birth": date(1980, 4, 5)}, {"date_of_birth": date(1972, 11, 30)}, "born", "different"),
        ({"date_of_birth": date(1980, 4, 5)}, {"date_of_birth": date(1955, 11, 30)}, "born", "a_generation"),
        ({"date_of_birth": date(1980, 4, 5)}, {"date_of_birth": date(1980, 4, 28)}, "born", "two_parts"),
        ({"date_of_birth": date(1980, 4, 5)}, {"date_of_birth": date(1980, 5, 14)}, "born", "near"),
        ({"date_of_birth": date(1980, 4, 28)}, {"date_of_birth": date(1981, 5, 19)}, "born", "one_or_ten_years"),
        (
            {"first_name_key": "kowalczyk"},
            {"first_name_key": "anna", "last_name_key": "kowalczyk"},
            "first_name",
            "is_last_name_of_other",
        ),
        ({"last_name_key": "mueller"}, {"last_name_key": "muller"}, "last_name", "other_spelling"),
        ({"last_name_key": "smith"}, {"last_name_key": "smithjones"}, "last_name", "similar"),
        (
            {"phone_key": "+436641234567", "phone_kind": "mobile"},
            {"phone_key": "+436769876543", "phone_kind": "mobile"},
            "phone",
            "other_mobile",
        ),
        ({"company_key": "northwind"}, {"company_key": "northwindtraders"}, "company", "part"),
        (
            {"email_key": "a@firm.com", "role_mailbox": True},
            {"email_key": "b@other.com", "role_mailbox": True},
            "company",
            "other_domain",
        ),
        (
            {"postcode_key": "tn85jy", "city_key": "edenbridge"},
            {"postcode_key": "tn85hl", "city_key": "edenbridge"},
            "place",
            "same_area_and_city",
        ),
        ({"postcode_key": "tn85jy"}, {"postcode_key": "tn85hl"}, "place", "same_area"),
        ({"job_title_key": "cto"}, {"job_title_key": "founder"}, "job_title", "different"),
        ({"phone_key": "+14155552671"}, {"phone_key": "+14155552672"}, "phone", "typo"),
        ({"phone_key": "+14155552671"}, {"phone_key": "+441632960001"}, "phone", "different"),
        ({"company_key": "northwind"}, {"company_key": "nortwhind"}, "company", "typo"),
        ({"postcode_key": "8010"}, {"postcode_key": "9010"}, "place", "postcode_typo"),
        ({"address_key": "12 elm st graz"}, {"address_key": "12 elm st graz"}, "place", "same_address"),
        (
            {"address_key": "12 elm st", "city_key": "graz"},
            {"address_key": "12 elm st"},
            "place",
            "same_address",
        ),
        (
            {"address_key": "12 elm st", "city_key": "graz"},
            {"address_key": "12 elm st", "city_key": "wien"},
            "place",
            "different",
        ),
        ({"email_key": "kowalczyk@firm.com"}, {"email_key": "kowalczyk@frim.com"}, "email", "typo"),
        ({"email_key": "skyfall88@a.com"}, {"email_key": "skyfall88@b.org"}, "email", "same_own_mailbox_name"),
        ({"email_key": "skyfall88@a.com"}, {"email_key": "kowalczyk@b.com"}, "email", "different"),
    ],
)
def test_each_degree_of_agreement_is_told_from_the_others(
    scorer: PairScorer, left: dict[str, object], right: dict[str, object], comparison: str, name: str
) -> None:
    evidence = scored(scorer, MatchFields(**left), MatchFields(**right)).evidence  # type: ignore[arg-type]
    assert evidence[comparison] == pytest.approx(level(scorer, comparison, name), abs=0.001)
    # Two domains are two employers', a second clue beside the mailboxes.
    assert evidence.keys() - {"company"} == {"prior", comparison} - {"company"}


def test_an_address_without_a_number_and_a_town_says_nothing(scorer: PairScorer) -> None:
    street = MatchFields(address_key="main st")
    assert scored(scorer, street, street).evidence.keys() == {"prior"}


def test_exchanged_names_are_one_clue_and_not_two(scorer: PairScorer) -> None:
    evidence = scored(
        scorer,
        MatchFields(first_name_key="anna", last_name_key="kowalczyk"),
        MatchFields(first_name_key="kowalczyk", last_name_key="anna"),
    ).evidence
    # As rare as the whole name is, in either order.
    _m, usual = scorer.parameters.levels["first_name"]["same_full_name"]
    rarity = math.log2(usual / least_full_name_share(MANY.contacts))
    swapped = level(scorer, "first_name", "swapped_with_last_name") + rarity
    assert evidence["first_name"] == pytest.approx(swapped, abs=0.001)
    assert "last_name" not in evidence


def test_a_switchboard_is_no_clue_for_people_of_other_names_and_the_company_no_second_one(scorer: PairScorer) -> None:
    office = {"phone_key": "+14155552671", "company_key": "northwind", "postcode_key": "8010"}
    colleagues = scored(
        scorer,
        MatchFields(first_name_key="anna", **office),
        MatchFields(first_name_key="peter", **office),  # type: ignore[arg-type]
    ).evidence
    assert colleagues.keys() == {"prior", "first_name"}
    herself = scored(
        scorer,
        MatchFields(first_name_key="anna", **office),
        MatchFields(first_name_key="anna", **office),  # type: ignore[arg-type]
    ).evidence
    assert herself.keys() == {"prior", "first_name", "phone"}


def test_an_address_one_letter_off_is_a_colleagues_if_the_names_differ(scorer: PairScorer) -> None:
    left = MatchFields(email_key="lester@firm.com", first_name_key="ann", last_name_key="lester")
    right = MatchFields(email_key="fester@firm.com", first_name_key="ian", last_name_key="festerokafor")
    evidence = scored(scorer, left, right).evidence
    assert evidence["mailbox"] == pytest.approx(level(scorer, "mailbox", "different"), abs=0.001)


@pytest.mark.parametrize(
    ("email", "other", "name"),
    [
        ("kowalczyk@firm.com", "kowalczk@firm.com", "typo"),
        ("skyfall88@firm.com", "skyfall89@firm.com", "different"),
        ("anna.smith@firm.com", "annasmith@firm.com", "different"),
    ],
)
def test_two_mailboxes_of_one_domain_are_one_persons_only_if_it_was_a_slip(
    scorer: PairScorer, email: str, other: str, name: str
) -> None:
    evidence = scored(scorer, MatchFields(email_key=email), MatchFields(email_key=other)).evidence
    assert evidence["mailbox"] == pytest.approx(level(scorer, "mailbox", name), abs=0.001)
    assert "email" not in evidence


def test_a_shared_mailbox_is_no_clue_for_people_of_other_given_names(scorer: PairScorer) -> None:
    home = {"email_key": "thesmiths@mail.com", "last_name_key": "smith"}
    couple = scored(scorer, MatchFields(first_name_key="anna", **home), MatchFields(first_name_key="peter", **home))
    assert "mailbox" not in couple.evidence


def test_of_a_role_mailbox_only_the_domain_is_a_clue(scorer: PairScorer) -> None:
    office = MatchFields(email_key="info@firm.com", role_mailbox=True)
    assert scored(scorer, office, office).evidence.keys() == {"prior", "company"}


def test_whole_names_that_agree_are_one_clue_whose_weight_is_bounded(scorer: PairScorer) -> None:
    name = MatchFields(first_name_key="zebedee", last_name_key="quist")
    m, _u = scorer.parameters.levels["first_name"]["same_full_name"]
    evidence = scored(scorer, name, name, Frequencies(1_000_000)).evidence
    assert evidence.keys() == {"prior", "first_name"}
    assert evidence["first_name"] == pytest.approx(math.log2(m / least_full_name_share(1_000_000)), abs=0.01)
    common = Frequencies(1_000_000, {("first_name", "zebedee"): 20_000, ("last_name", "quist"): 10_000})
    assert scored(scorer, name, name, common).evidence["first_name"] < evidence["first_name"]


def test_a_family_name_that_was_left_out_is_looked_for_in_the_address(scorer: PairScorer) -> None:
    left = MatchFields(first_name_key="anna", email_key="anna.kowalczyk@firm.com")
    right = MatchFields(first_name_key="anna", last_name_key="kowalczyk")
    assert scored(scorer, left, right).evidence["last_name"] == pytest.approx(
        level(scorer, "last_name", "in_mailbox"), abs=0.001
    )
    herself = MatchFields(first_name_key="kowalczyk", email_key="kowalczyk@firm.com")
    assert "last_name" not in scored(scorer, herself, right).evidence


@pytest.mark.parametrize(
    ("email", "own"),
    [
        ("anna.kowalczyk@firm.com", None),
        ("akowalczyk@firm.com", None),
        ("kowalczyk_a@firm.com", None),
        ("info@firm.com", None),
        ("skyfall@firm.com", "skyfall"),
        ("anna.kowalczyk77@firm.com", "anna.kowalczyk77"),
    ],
)
def test_a_mailbox_name_that_the_name_explains_is_no_evidence_of_its_own(email: str, own: str | None) -> None:
    assert own_mailbox(MatchFields(email_key=email, first_name_key="anna", last_name_key="kowalczyk")) == own


def test_values_are_counted_by_those_who_are_clearly_different_people() -> None:
    records = [
        MatchFields(first_name_key="anna", last_name_key="smith", city_key="graz"),
        MatchFields(first_name_key="anna", last_name_key="smith", city_key="graz", company_key="northwind"),
        MatchFields(first_name_key="anna", last_name_key="smith", company_key="northwind"),
        MatchFields(first_name_key="anna", last_name_key="smith"),
        MatchFields(first_name_key="peter", last_name_key="smith", city_key="graz"),
    ]
    counted = count_terms(records)
    assert counted.contacts == 3
    assert counted.occurrences == {
        ("last_name", "smith"): 3,
        ("first_name", "anna"): 2,
        ("first_name", "peter"): 1,
        ("city", "graz"): 2,
        ("company", "northwind"): 1,
    }


def test_half_a_name_tells_who_one_is_with_the_date_of_birth_and_a_place_but_not_without() -> None:
    anna = MatchFields(first_name_key="anna", last_name_key="smith", date_of_birth=date(1980, 4, 5), city_key="graz")
    hanna, elsewhere = replace(anna, first_name_key="hanna"), replace(anna, first_name_key="hanna", city_key="linz")
    assert count_terms([anna, hanna]).contacts == 1
    assert count_terms([anna, elsewhere]).contacts == 2


def test_an_office_mailbox_makes_nobody_one_person_for_counting() -> None:
    anna = MatchFields(first_name_key="anna", last_name_key="smith", email_key="info@northwind.com", role_mailbox=True)
    assert count_terms([anna, anna]).contacts == 2


def test_every_field_with_a_frequency_is_looked_up() -> None:
    fields = {level.frequency_of for comparison in COMPARISONS for level in comparison.levels} - {None}
    assert set(terms_of(replace(ANNA, job_title_key="cto"))) == set(FREQUENCY_FIELDS)
    assert fields == set(ADJUSTED_FIELDS)


def test_exchanged_names_are_as_rare_as_in_the_order_in_which_they_are_commoner() -> None:
    scorer = PairScorer.load()
    usual = MatchFields(first_name_key="jurgen", last_name_key="muller", company_key="northwind")
    exchanged = MatchFields(first_name_key="muller", last_name_key="jurgen", company_key="southwind")
    seen = {("first_name", "jurgen"): 2_000, ("last_name", "muller"): 1_500}
    frequencies = Frequencies(100_000, with_exchanged_names(seen))
    (one,) = scorer.score([usual, exchanged], [(0, 1)], frequencies=frequencies)
    (other,) = scorer.score([exchanged, usual], [(0, 1)], frequencies=frequencies)
    assert one.match_weight == pytest.approx(other.match_weight)
    rare = {("first_name", "jurgen"): 2, ("last_name", "muller"): 2}
    (unusual,) = scorer.score(
        [exchanged, usual], [(0, 1)], frequencies=Frequencies(100_000, with_exchanged_names(rare))
    )
    assert unusual.match_weight > other.match_weight + 5


def test_names_are_looked_up_in_either_place() -> None:
    counted = {("first_name", "james"): 3, ("last_name", "smith"): 2, ("last_name", "james"): 1, ("city", "graz"): 4}
    assert with_exchanged_names(counted) == {**counted, ("first_name", "smith"): 0}
