"""The hard leads: reproducible, streamed, nobody's data, and hard in the ways that they say."""

from collections import defaultdict
from collections.abc import Callable
from datetime import date, timedelta
from itertools import islice

import pytest

from leads_pipeline.domain.lead import FIELDS_BY_NAME
from leads_pipeline.domain.validation import ValidLead, validate
from leads_pipeline.synthetic import REPORTING_SEEDS, TUNING_SEEDS, SyntheticLead, hard_leads
from leads_pipeline.synthetic.communities import romanised
from leads_pipeline.synthetic.hard_leads import unfindable_share
from leads_pipeline.synthetic.hard_people import ROLES
from leads_pipeline.synthetic.leads import PERIOD
from leads_pipeline.synthetic.population import MAIL_PROVIDERS

TODAY = date(2026, 1, 1)
COUNT = 6_000

Judged = list[tuple[str, ValidLead]]


@pytest.fixture(scope="module")
def leads() -> list[SyntheticLead]:
    return list(hard_leads(COUNT, seed=TUNING_SEEDS[0]))


@pytest.fixture(scope="module")
def judged(leads: list[SyntheticLead]) -> Judged:
    verdicts = ((lead.truth, validate(lead.payload, country="US", today=TODAY)) for lead in leads)
    return [(truth, lead) for truth, lead in verdicts if isinstance(lead, ValidLead)]


def test_one_seed_gives_one_set_of_leads_and_another_another(leads: list[SyntheticLead]) -> None:
    assert list(hard_leads(COUNT, seed=TUNING_SEEDS[0])) == leads
    assert list(hard_leads(COUNT, seed=TUNING_SEEDS[1])) != leads


def test_seeds_for_tuning_are_not_those_for_reporting() -> None:
    assert set(TUNING_SEEDS).isdisjoint(REPORTING_SEEDS)


@pytest.mark.parametrize("count", [0, 1, 2, 17, 500])
def test_there_are_as_many_leads_as_were_asked_for(count: int) -> None:
    assert len(list(hard_leads(count, seed=1))) == count


def test_the_first_leads_of_many_come_before_the_last_are_made() -> None:
    assert len(list(islice(hard_leads(200_000, seed=1), 50))) == 50


def test_leads_come_in_the_order_in_which_they_occur(leads: list[SyntheticLead]) -> None:
    offsets = [lead.occurred_offset for lead in leads]
    assert offsets == sorted(offsets)
    assert timedelta(0) <= offsets[0] < offsets[-1] <= PERIOD


def test_leads_are_usable_canonical_text_that_reaches_no_real_mailbox(
    leads: list[SyntheticLead], judged: Judged
) -> None:
    assert all(lead.payload.keys() <= FIELDS_BY_NAME.keys() for lead in leads)
    assert all(isinstance(value, str) for lead in leads for value in lead.payload.values())
    assert len(judged) > 0.998 * len(leads)
    assert {lead.email_key.rpartition(".")[2] for _truth, lead in judged if lead.email_key} == {"example"}


@pytest.mark.parametrize("seed", TUNING_SEEDS[:2])
def test_hardly_any_pair_of_one_person_shares_nothing_but_a_name(seed: int) -> None:
    assert 0.01 < unfindable_share(10_000, seed=seed) < 0.03


def test_a_person_differs_from_lead_to_lead(judged: Judged) -> None:
    by_person: dict[str, list[ValidLead]] = defaultdict(list)
    for truth, lead in judged:
        by_person[truth].append(lead)
    several = [found for found in by_person.values() if len(found) > 1]

    def share(differ: Callable[[ValidLead], str | None]) -> float:
        return sum(len({value for lead in found if (value := differ(lead))}) > 1 for found in several) / len(several)

    assert share(lambda lead: lead.email_key) > 0.35
    assert share(lambda lead: lead.company_key) > 0.25
    assert share(lambda lead: lead.first_name_key) > 0.3
    assert share(lambda lead: lead.last_name_key) > 0.25
    assert share(lambda lead: lead.phone_key) > 0.1


def test_strangers_share_switchboards_role_mailboxes_mailbox_names_and_names(judged: Judged) -> None:
    def shared(value_of: Callable[[ValidLead], object]) -> int:
        bearers: dict[object, set[str]] = defaultdict(set)
        for truth, lead in judged:
            if value := value_of(lead):
                bearers[value].add(truth)
        return sum(len(people) > 1 for people in bearers.values())

    def role_mailbox(lead: ValidLead) -> str | None:
        return lead.email_key if lead.email_key and lead.email_key.partition("@")[0] in ROLES else None

    def provider_name(lead: ValidLead) -> str | None:
        local, _, domain = (lead.email_key or "").partition("@")
        return local if domain in MAIL_PROVIDERS else None

    assert shared(lambda lead: lead.phone_key) > 100
    assert shared(role_mailbox) > 30
    assert shared(provider_name) >= 5
    assert shared(lambda lead: lead.first_name_key and lead.last_name_key and lead.full_name) > 40


def test_namesakes_grow_with_the_number_of_people() -> None:
    def with_a_namesake(count: int) -> float:
        bearers: dict[tuple[str, str], set[int]] = defaultdict(set)
        for lead in hard_leads(count, seed=TUNING_SEEDS[0]):
            name = lead.payload.get("first_name", "").lower(), lead.payload.get("last_name", "").lower()
            if all(name):
                bearers[name].add(int(lead.truth.removeprefix("h")))
        people = sum(len(found) for found in bearers.values())
        # Those whose numbers follow each other are of one household.
        return sum(len(found) for found in bearers.values() if max(found) - min(found) > 1) / people

    assert with_a_namesake(20_000) > 2 * with_a_namesake(2_000)


def test_one_name_has_several_romanisations() -> None:
    assert [romanised("Щербакова-Юрьева", "cyrillic", scheme) for scheme in range(3)] == [
        "Shcherbakova-Yureva", "Shcherbakova-Iureva", "Schtscherbakowa-Jurewa",
    ]  # fmt: skip
    assert romanised("Αθανασίου", "greek", 0) == "Athanasioy"
