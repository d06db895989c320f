"""`leads contact`, as an operator uses it, with the shipped model."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.errors import IdentityRefused, NotFound
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import delivered

Leads = Callable[..., Result]

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna@northwind.com", "company": "Northwind", "city": "Boston"}
OTHER_ANNA = {"full_name": "Anna Kowalczyk", "phone": "+14155552671", "company": "Northwind", "city": "Chicago"}
BERT = {"full_name": "Bertil Quist", "email": "b.quist@harbor.com", "company": "Harbor"}
SECRETS = ("kowalczyk", "bertil", "quist", "northwind", "harbor", "4155552671", "boston")
GRACE = ("--actor", "grace")


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    return Play(engine, settings)


@pytest.fixture
def leads(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        words = [str(item) for item in arguments]
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "contact", *words])

    return run


def text(result: Result) -> str:
    """What was printed; it fits a terminal."""
    assert result.exit_code == 0, (result.output, result.exception)
    assert not [line for line in result.output.splitlines() if len(line) > 80 and "drawn into" not in line]
    return result.output


def flat(result: Result) -> str:
    """What was printed, whatever the line breaks."""
    return " ".join(text(result).split())


def decision_in(output: str) -> str:
    found = re.search(r"decision +([0-9a-f-]{36})", output)
    assert found is not None, output
    return found[1]


def test_a_contact_is_shown_by_any_of_its_names_and_without_values(leads: Leads, play: Play) -> None:
    anna = play.arrive(**ANNA, granted=True)
    other = play.arrive(**OTHER_ANNA)
    contact = play.contact_of()[anna]
    delivered(play.engine, contact, crm_record_id="501")
    shown = text(leads("show", contact))
    for expected in (
        f"contact  {contact} (tenant acme)", "founded by lead 1\n", "golden   version 2",
        f"lead 2   {other}  website", "marketing by email: granted", "hubspot: upsert of version 2 is delivered",
        "record 501", "only_value", "values with --values",
    ):  # fmt: skip
        assert expected in shown
    assert not [value for value in SECRETS if value in shown.lower()]
    for name in (anna, other, "anna@northwind.com", "ANNA@northwind.com", "(415) 555-2671"):
        assert text(leads("show", name)) == shown
    with_values = text(leads("show", contact, "--values"))
    for value in ("Kowalczyk", "anna@northwind.com", "+14155552671"):
        assert value in with_values


def test_what_nobody_has_is_not_found_and_not_repeated(leads: Leads) -> None:
    for name in ("nobody@nowhere.com", "+14155550000"):
        result = leads("show", name)
        assert isinstance(result.exception, NotFound)
        assert name not in str(result.exception)
    assert isinstance(leads("show", uuid7(NOW)).exception, NotFound)
    assert leads("show", "what is this").exit_code == 2


def test_a_contact_of_another_tenant_is_not_shown_where_one_is_named(leads: Leads, play: Play) -> None:
    anna = play.arrive(**ANNA)
    assert isinstance(leads("show", anna, "--tenant", "globex").exception, NotFound)
    assert isinstance(leads("show", "anna@northwind.com", "--tenant", "globex").exception, NotFound)
    text(leads("show", anna, "--tenant", "acme"))


def test_the_history_tells_who_decided_what_and_what_was_taken_back(leads: Leads, play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    play.arrive(**OTHER_ANNA)
    old, new = play.contact_of()[anna], play.contact_of()[bert]
    merged = decision_in(text(leads("merge", anna, bert, *GRACE, "--reason", "she said so")))
    undone = decision_in(text(leads("undo", merged, "--actor", "ada")))
    lines = text(leads("history", old)).splitlines()
    told = flat(leads("history", old))
    assert [line.split()[2] for line in lines if re.match(r"20\d\d-", line)] == ["joined", "merged", "undone"]
    for expected in (
        "by model:plain, weight 5.00", f"{new} was merged into {old}, with lead {bert}", "by person:grace: she said so",
        f"taken back by {undone}", f"took back {merged}; lead {bert} moved", "by person:ada",
    ):  # fmt: skip
        assert expected in told
    assert not [value for value in SECRETS if value in told.lower()]
    assert flat(leads("history", "anna@northwind.com")) == flat(leads("history", "(415) 555-2671")) == told
    assert "no decision" in text(leads("history", play.arrive(full_name="Zoe Zander", email="zoe@zander.com")))
    assert isinstance(leads("history", uuid7(NOW)).exception, NotFound)


def test_a_contact_is_explained_step_by_step_until_the_sum(leads: Leads, play: Play) -> None:
    anna = play.arrive(**ANNA)
    other = play.arrive(**OTHER_ANNA)
    told = flat(leads("explain", anna))
    assert told == flat(leads("explain", "anna@northwind.com"))
    assert f"lead {other} joined {play.contact_of()[anna]}" in told
    assert "decided by model:plain" in told
    assert f"lead {other} was compared with lead {anna}" in told
    shown = text(leads("explain", anna))
    numbers = [float(found) for found in re.findall(r"  ([+-]\d+\.\d\d)  ", shown[: shown.index("merged from")])]
    *parts, total = numbers
    assert sum(parts) == pytest.approx(total) == pytest.approx(5.0)
    assert "enough to merge" in told
    assert "merged from 5, asked from 3" in told
    assert "Of 1 pair(s) of its leads" in told


def test_a_decision_is_explained_by_the_cut_offs_of_its_day(leads: Leads, play: Play, tmp_path: Path) -> None:
    anna = play.arrive(**ANNA)
    play.arrive(**OTHER_ANNA)
    (tmp_path / "leads.yaml").write_text(f"{LEADS_YAML}\nmatching: {{merge_weight: 9, review_weight: 6}}\n")
    assert "merged from 5, asked from 3" in flat(leads("explain", anna))
    with play.engine.begin() as connection:  # as version 0.1 left it
        connection.execute(
            sa.text("update merge_log set compared_lead_id = null, review_weight = null, merge_weight = null")
        )
    told = flat(leads("explain", anna))
    assert "merged from 9, asked from 6" in told
    assert "these are today's cut-offs" in told
    assert "was compared with" not in told


def test_what_was_not_compared_is_told_with_the_reason(leads: Leads, play: Play) -> None:
    anna = play.arrive(**ANNA)
    other = play.arrive(**OTHER_ANNA)
    told = flat(leads("explain", anna))
    assert f"lead {other} was compared with lead {anna}" in told
    assert "phone the second has no phone" in told
    assert "date of birth neither has a date of birth" in told
    told = flat(leads("explain", anna, other))
    assert "phone the first has no phone" in told
    assert "last name the whole name is one clue: see first name" in told


def test_a_lead_that_was_corrected_is_not_said_to_agree_as_it_did(leads: Leads, play: Play) -> None:
    anna = play.arrive(**ANNA)
    play.arrive(**OTHER_ANNA)
    with play.engine.begin() as connection:
        connection.execute(
            sa.text("update validated_leads set first_name_key = 'zoe' where lead_id = :id"), {"id": anna}
        )
    assert re.search(r"first name +not as it was then +\+5\.00", text(leads("explain", anna)))


def test_who_awaits_an_address_is_shown_with_who_holds_it(leads: Leads, play: Play) -> None:
    anna, again = play.arrive(**ANNA), play.arrive(**ANNA)
    assert "awaits" not in text(leads("show", anna))
    text(leads("split", anna, again, *GRACE))
    play.refresh()
    old, new = play.contact_of()[anna], play.contact_of()[again]
    assert f"awaits its e-mail address, which contact {old} holds" in flat(leads("show", new))
    assert "awaits" not in text(leads("show", old))
    both = flat(leads("show", "anna@northwind.com"))
    assert f"contact {old} (tenant acme)" in both
    assert f"contact {new} (tenant acme)" in both


def test_two_leads_are_explained_as_they_compare_now(leads: Leads, play: Play, tmp_path: Path) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    told = text(leads("explain", bert, anna))
    assert "They are two contacts." in told
    assert "not enough, says the model" in told
    for word in ("before comparing", "first name", "different", "against it: "):
        assert word in told
    assert not [value for value in SECRETS if value in told.lower()]
    numbers = [float(found) for found in re.findall(r"  ([+-]\d+\.\d\d)  ", told)]
    assert sum(numbers[:-1]) == pytest.approx(numbers[-1], abs=0.05)
    again = play.arrive(**{**ANNA, "company": "Northwind GmbH"})
    told = text(leads("explain", anna, again, "--values"))
    assert "They are one contact." in told
    assert "rule same_email agrees: it decides" in told
    assert "Northwind GmbH" in told
    assert isinstance(leads("explain", anna, uuid7(NOW)).exception, NotFound)


def test_links_that_decide_are_named_before_weights(leads: Leads, play: Play) -> None:
    anna, again = play.arrive(**ANNA), play.arrive(**ANNA)
    text(leads("split", anna, again, *GRACE))
    told = flat(leads("explain", anna, again))
    assert "They are two contacts." in told
    assert re.search(r"Decided by [0-9a-f-]{36}: lead .* are kept apart, by person:grace", told)


def test_a_chart_is_drawn_into_a_file_that_needs_no_network(leads: Leads, play: Play, tmp_path: Path) -> None:
    anna = play.arrive(**ANNA)
    other = play.arrive(**OTHER_ANNA)
    for ending in ("svg", "html", "json"):
        assert "drawn into" in text(leads("explain", anna, other, "--chart", tmp_path / f"why.{ending}"))
    svg = (tmp_path / "why.svg").read_text()
    root = ET.fromstring(svg)
    texts = [item.text or "" for item in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(item.startswith("sum: ") for item in texts)
    assert any(item.startswith("first name: same") for item in texts)
    page = (tmp_path / "why.html").read_text()
    assert svg.strip() in page
    assert not re.findall(r"(?:src|href)\s*=|@import|<script", page)
    assert [item for item in re.findall(r"https?://[^\"]+", page) if "www.w3.org/2000/svg" not in item] == []
    (figures,) = json.loads((tmp_path / "why.json").read_text())
    assert figures["prior"] + sum(item["weight"] for item in figures["comparisons"]) == pytest.approx(
        figures["match_weight"], abs=0.05
    )
    assert not [value for value in SECRETS if value in page.lower()]
    assert leads("explain", anna, other, "--chart", tmp_path / "why.png").exit_code == 2
    alone = play.arrive(**BERT)
    assert isinstance(leads("explain", alone, "--chart", tmp_path / "none.svg").exception, NotFound)


def test_a_merge_is_tried_decided_and_undone(leads: Leads, play: Play) -> None:
    anna, bert = play.arrive(**ANNA), play.arrive(**BERT)
    before = play.identity()
    tried = flat(leads("merge", anna, bert, *GRACE, "--dry-run"))
    assert "nothing was changed: a dry run" in tried
    assert f"{play.contact_of()[bert]} is merged into {play.contact_of()[anna]}" in tried
    assert play.identity() == before
    decided = decision_in(text(leads("merge", anna, bert, *GRACE)))
    assert len(set(play.contact_of().values())) == 1
    told = flat(leads("undo", decided, *GRACE))
    assert "lives again, with 1 lead(s)" in told
    assert "are kept apart, by person:grace" in told
    play.refresh()
    assert play.identity() == before
    refused = leads("undo", decided, *GRACE)
    assert refused.exit_code == 1
    assert isinstance(refused.exception, IdentityRefused)
    assert "taken back already" in str(refused.exception)
    refused = leads("merge", anna, bert, *GRACE)
    assert "--force withdraws it" in str(refused.exception)
    text(leads("merge", anna, bert, *GRACE, "--force"))


def test_leads_are_split_linked_and_unlinked(leads: Leads, play: Play) -> None:
    anna, again = play.arrive(**ANNA, granted=True), play.arrive(**ANNA, granted=False)
    told = text(leads("split", anna, again, *GRACE, "--reason", "father and son"))
    assert "is new, with 1 lead(s)" in told
    assert "1 withdrawal(s) hold for both parts" in told
    told = text(leads("link", anna, again, *GRACE, "--force"))
    assert "is merged into" in told
    assert "is withdrawn" in told
    assert "it was so already" in text(leads("link", anna, again, *GRACE))
    told = text(leads("unlink", anna, again, *GRACE, "--force"))
    assert "are kept apart" in told
    assert len(set(play.contact_of().values())) == 2
    assert "it was so already" in text(leads("unlink", anna, again, *GRACE))


@pytest.mark.parametrize("command", ["undo", "split", "merge", "link", "unlink"])
def test_nothing_is_decided_by_nobody(leads: Leads, command: str) -> None:
    names = [uuid7(NOW)] if command == "undo" else [uuid7(NOW), uuid7(NOW)]
    assert leads(command, *names).exit_code == 2
    assert isinstance(leads(command, *names, *GRACE).exception, NotFound)
    assert leads(command, *names, "--actor", " ").exit_code == 2


def test_a_lead_id_is_what_a_person_may_type(leads: Leads, play: Play) -> None:
    anna = play.arrive(**ANNA)
    assert UUID(str(anna)) == anna
    assert leads("split", anna, "not-an-id", *GRACE).exit_code == 2
