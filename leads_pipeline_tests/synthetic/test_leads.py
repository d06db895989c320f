"""The generator: seeded, realistic, and nobody's data."""

from collections import Counter, defaultdict
from datetime import date, timedelta

import pytest

from leads_pipeline.domain.lead import FIELDS_BY_NAME
from leads_pipeline.domain.validation import Rejection, ValidLead, validate
from leads_pipeline.synthetic import SyntheticLead, generate_leads
from leads_pipeline.synthetic.leads import PERIOD

TODAY = date(2026, 1, 1)


@pytest.fixture(scope="module")
def leads() -> list[SyntheticLead]:
    return generate_leads(4_000, seed=12)


def usable(leads: list[SyntheticLead]) -> list[tuple[SyntheticLead, ValidLead]]:
    judged = [(lead, validate(lead.payload, country="US", today=TODAY)) for lead in leads if lead.repost_of is None]
    return [(lead, verdict) for lead, verdict in judged if isinstance(verdict, ValidLead)]


def test_one_seed_gives_one_set_of_leads_and_another_another(leads: list[SyntheticLead]) -> None:
    assert generate_leads(4_000, seed=12) == leads
    assert generate_leads(4_000, seed=13) != leads


@pytest.mark.parametrize("count", [0, 1, 2, 17, 100])
def test_there_are_as_many_leads_as_were_asked_for(count: int) -> None:
    assert len(generate_leads(count, seed=1)) == count


def test_payloads_hold_canonical_fields_as_text(leads: list[SyntheticLead]) -> None:
    for lead in leads:
        assert lead.payload.keys() <= FIELDS_BY_NAME.keys()
        assert all(isinstance(value, str) for value in lead.payload.values())
        assert lead.source in {"website", "webinar", "partner"}


def test_leads_come_in_the_order_in_which_they_occur(leads: list[SyntheticLead]) -> None:
    offsets = [lead.occurred_offset for lead in leads]
    assert offsets == sorted(offsets)
    assert timedelta(0) <= offsets[0] < offsets[-1] <= PERIOD


def test_a_repost_is_the_lead_before_it_to_the_letter(leads: list[SyntheticLead]) -> None:
    reposts = [(place, lead) for place, lead in enumerate(leads) if lead.repost_of is not None]
    assert len(reposts) == 120
    for place, lead in reposts:
        original = leads[place - 1]
        assert lead.repost_of == place - 1
        assert original.repost_of is None
        assert (lead.payload, lead.consent, lead.truth, lead.source) == (
            original.payload, original.consent, original.truth, original.source,
        )  # fmt: skip


def test_about_a_third_of_the_leads_are_repeats_of_a_person(leads: list[SyntheticLead]) -> None:
    posts = [lead for lead in leads if lead.repost_of is None]
    repeats = 1 - len({lead.truth for lead in posts}) / len(posts)
    assert 0.28 < repeats < 0.38


def test_unusable_leads_are_rejected_and_nobody_elses_are(leads: list[SyntheticLead]) -> None:
    rejected = [
        lead
        for lead in leads
        if lead.repost_of is None and isinstance(validate(lead.payload, country="US", today=TODAY), Rejection)
    ]
    nobody = [lead for lead in leads if lead.repost_of is None and lead.truth.startswith("nobody")]
    assert len(nobody) == 120
    assert {id(lead) for lead in nobody} <= {id(lead) for lead in rejected}
    assert len(rejected) <= len(nobody) + 5


def test_no_address_can_reach_a_real_mailbox(leads: list[SyntheticLead]) -> None:
    domains = {valid.email_key.rpartition(".")[2] for _lead, valid in usable(leads) if valid.email_key}
    assert domains == {"example"}


def test_two_people_never_share_an_address_unless_a_typo_made_them(leads: list[SyntheticLead]) -> None:
    owners: dict[str, set[str]] = defaultdict(set)
    for lead, valid in usable(leads):
        if valid.email_key:
            owners[valid.email_key].add(lead.truth)
    assert sum(len(people) > 1 for people in owners.values()) <= 2


def test_phones_are_mostly_valid_and_shared_by_colleagues_and_households(leads: list[SyntheticLead]) -> None:
    sent = [(lead, valid) for lead, valid in usable(leads) if "phone" in lead.payload]
    readable = [(lead, valid) for lead, valid in sent if valid.phone_key]
    assert len(readable) / len(sent) > 0.9
    people: dict[str, set[str]] = defaultdict(set)
    for lead, valid in readable:
        people[str(valid.phone_key)].add(lead.truth)
    assert sum(len(found) > 1 for found in people.values()) > 20


def test_names_are_as_unequal_as_in_life(leads: list[SyntheticLead]) -> None:
    surnames = Counter({lead.truth: valid.last_name_key for lead, valid in usable(leads)}.values())
    (_name, commonest), *_rest = surnames.most_common(1)
    assert 0.004 < commonest / surnames.total() < 0.02
    assert len(surnames) > 800


def test_what_people_do_wrong_is_there(leads: list[SyntheticLead]) -> None:
    by_person: dict[str, list[ValidLead]] = defaultdict(list)
    for lead, valid in usable(leads):
        by_person[lead.truth].append(valid)
    several = [found for found in by_person.values() if len(found) > 1]

    def differ(field: str) -> int:
        return sum(len({value for lead in found if (value := getattr(lead, field))}) > 1 for found in several)

    assert differ("email_key") > 100  # another job, another mailbox, a typo
    assert differ("first_name_key") > 50
    assert differ("company_key") > 30
    swapped = sum(
        any(a.first_name_key == b.last_name_key and a.last_name_key == b.first_name_key for a in found for b in found)
        for found in several
    )
    assert swapped > 5
