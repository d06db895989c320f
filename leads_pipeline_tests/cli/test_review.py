"""`leads review`, as an operator uses it."""

import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.errors import IdentityRefused, NotFound
from leads_pipeline.storage import schema
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.identity_play import Play
from leads_pipeline_tests.steps.rows import rows_of

Leads = Callable[..., Result]

ANNA = {"full_name": "Anna Kowalczyk", "email": "anna@northwind.com", "company": "Northwind"}
GREY = {"full_name": "Anna Kowalczyk", "email": "a.kowalczyk@northwind.com", "company": "Northwind"}
SECRETS = ("kowalczyk", "northwind")
GRACE = ("--actor", "grace")


@pytest.fixture
def play(engine: sa.Engine, settings: Settings) -> Play:
    """Two leads about which a person is asked."""
    play = Play(engine, settings)
    play.arrive(**ANNA)
    play.arrive(**GREY)
    return play


@pytest.fixture
def leads(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, answer: str | None = None) -> Result:
        words = [str(item) for item in arguments]
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), "review", *words], input=answer)

    return run


def only(play: Play) -> dict[str, object]:
    (row,) = rows_of(play.engine, schema.match_reviews)
    return row


def state(play: Play) -> str:
    return str(only(play)["state"])


def test_open_reviews_are_listed_with_what_speaks_for_and_against(leads: Leads, play: Play) -> None:
    listed = leads("list")
    assert listed.exit_code == 0
    for shown in (
        str(only(play)["review_id"]), "acme", "4.00", "grey", "first name +5.0, last name +5.0, company +3.0",
        "e-mail -1.0",
    ):  # fmt: skip
        assert shown in listed.output
    assert not [value for value in SECRETS if value in listed.output.lower()]
    for filters in (
        ("--tenant", "globex"), ("--cause", "refused"), ("--min-weight", "5"), ("--max-weight", "4"),
        ("--state", "accepted"),
    ):  # fmt: skip
        assert "reviews\n" in leads("list", *filters).output
    assert str(only(play)["review_id"]) in leads("list", "--sort", "age", "--min-weight", "4").output


def test_a_review_is_shown_as_a_sum_and_with_values_side_by_side(leads: Leads, play: Play) -> None:
    shown = leads("show", only(play)["review_id"])
    assert shown.exit_code == 0, shown.exception
    for expected in (
        "grey: between the two cut-offs", "weighed   by model:plain", "before comparing", "a person is asked",
        "state     open", "+4.00", "against it: e-mail",
    ):  # fmt: skip
        assert expected in shown.output
    assert not [value for value in SECRETS if value in shown.output.lower()]
    with_values = leads("show", only(play)["review_id"], "--values").output
    order = [line.split()[-1] for line in with_values.splitlines() if re.match(r"  lead \d ", line)]
    assert order == [str(only(play)["lead_id"]), str(only(play)["other_lead_id"])], "as above"
    assert any(
        "anna@northwind.com" in line and "a.kowalczyk@northwind.com" in line for line in with_values.splitlines()
    )
    assert isinstance(leads("show", uuid7(NOW)).exception, NotFound)


def test_two_leads_are_explained_with_the_review_that_asks_about_them(leads: Leads, play: Play, tmp_path: Path) -> None:
    one, other = sorted(play.contact_of())
    told = CliRunner().invoke(
        cli, ["--config", str(tmp_path / "leads.yaml"), "contact", "explain", str(one), str(other)]
    )
    assert told.exit_code == 0, told.exception
    said = " ".join(told.output.split())
    assert f"Review {only(play)['review_id']} is open: weight 4.00, between the two cut-offs" in said


def test_one_is_accepted_by_name_and_kept_with_its_reason(leads: Leads, play: Play) -> None:
    review_id = only(play)["review_id"]
    assert leads("accept", review_id).exit_code == 2
    accepted = leads("accept", review_id, *GRACE, "--reason", "same signature")
    assert accepted.exit_code == 0
    assert f"{review_id}  accepted, decision " in accepted.output
    assert len(set(play.contact_of().values())) == 1
    assert (only(play)["state"], only(play)["decided_by"], only(play)["reason"]) == (
        "accepted", "person:grace", "same signature",
    )  # fmt: skip
    assert "no open reviews" in leads("list").output
    assert "person:grace" in leads("list", "--state", "accepted").output
    late = leads("reject", review_id, *GRACE)
    assert isinstance(late.exception, IdentityRefused)
    assert "Take it apart?" not in late.output
    again = leads("accept", review_id, *GRACE)
    assert isinstance(again.exception, IdentityRefused)
    assert "is accepted already by person:grace" in again.output
    assert "1 of 1 review(s) stay as they were" in str(again.exception)


def test_many_are_decided_by_a_filter_after_a_question(leads: Leads, play: Play) -> None:
    for nothing in ((), (only(play)["review_id"], "--all")):
        assert leads("reject", *nothing, *GRACE).exit_code == 2
    assert leads("reject", "--all", *GRACE, answer="n\n").exit_code == 1
    assert state(play) == "open"
    assert "no open reviews" in leads("reject", "--tenant", "globex", *GRACE).output
    asked = leads("reject", "--max-weight", "4.5", *GRACE, answer="y\n")
    assert "1 pair(s) will be rejected. Go on?" in asked.output
    assert state(play) == "rejected"
    assert len(set(play.contact_of().values())) == 2
    assert [kind for kind, _one, _other in play.links_in_force()] == ["cannot"]


def test_whoever_rejects_what_is_one_contact_by_now_is_asked_whether_to_split_it(leads: Leads, play: Play) -> None:
    one, other = sorted(play.contact_of())
    merged = play.merge(one, other)
    with play.engine.begin() as connection:  # the merge was not a word about this pair
        connection.execute(sa.text("update identity_links set withdrawn_at = now()"))
    review_id = only(play)["review_id"]
    refused = leads("reject", review_id, *GRACE, answer="n\n")
    assert refused.exit_code == 1
    assert "are one contact by now. Take it apart?" in refused.output
    assert len(set(play.contact_of().values())) == 1
    assert leads("reject", review_id, *GRACE, answer="y\n").exit_code == 0
    assert len(set(play.contact_of().values())) == 2
    assert state(play) == "rejected"
    assert isinstance(merged.merge_id, UUID)
