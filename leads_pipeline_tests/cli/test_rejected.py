"""`leads rejected`, as an operator uses it."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from leads_pipeline.cli import cli
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings
from leads_pipeline.errors import LeadsError, NotFound
from leads_pipeline.steps.validated_leads import validate_leads
from leads_pipeline.storage import schema
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.rows import chunk, raw_lead, rows_of

Leads = Callable[..., Result]
ACTOR = ("--actor", "grace")


@pytest.fixture
def leads(engine: sa.Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leads:
    """Run ``leads rejected`` against this test's database."""
    (tmp_path / "leads.yaml").write_text(LEADS_YAML)
    monkeypatch.setenv(DATABASE_URL_VARIABLE, database_url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, answer: str | None = None, group: str = "rejected") -> Result:
        return CliRunner().invoke(cli, ["--config", str(tmp_path / "leads.yaml"), group, *arguments], input=answer)

    return run


@pytest.fixture
def found(engine: sa.Engine, settings: Settings) -> dict[str, UUID]:
    """Three rejected leads and an accepted one, captured in this order."""
    came = [NOW + timedelta(milliseconds=number) for number in range(4)]
    leads = {
        "email": raw_lead(engine, {"email": "anna.at.firm", "first_name": "Anna"}, received_at=came[0]),
        "phone": raw_lead(engine, {"phone": "+1 2", "first_name": "Bob"}, source="webinar", received_at=came[1]),
        "robot": raw_lead(
            engine, {"email": "c@firm.com"}, context={"quarantine": "robot"}, tenant="globex", received_at=came[2]
        ),
        "accepted": raw_lead(engine, {"email": "anna@firm.com"}, received_at=came[3]),
    }
    for tenant in ("acme", "globex"):
        validate_leads(engine, chunk(tenant=tenant, now=came[3]), settings=settings)
    return leads


def listed(result: Result) -> list[UUID]:
    assert result.exit_code == 0, result.output
    return [UUID(json.loads(line)["lead_id"]) for line in result.output.splitlines()]


def test_rejected_leads_are_listed_with_their_reasons_and_without_their_values(
    leads: Leads, found: dict[str, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = leads("list")
    assert "email_invalid (email)" in wide.output
    assert "phone_invalid (phone)" in wide.output
    assert "robot" in wide.output
    assert "nothing_identifying" not in wide.output  # what would have saved the lead says more
    monkeypatch.setenv("COLUMNS", "80")
    narrow = leads("list")
    for name in ("email", "phone", "robot"):
        assert str(found[name]) in narrow.output
    assert str(found["accepted"]) not in wide.output
    for output in (wide.output, leads("list", "--json").output, leads("list", "--by-rule").output):
        assert "anna" not in output.lower()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["email", "phone", "robot"]),
        (("--tenant", "globex"), ["robot"]),
        (("--source", "webinar"), ["phone"]),
        (("--rule", "email_invalid"), ["email"]),
        (("--rule", "nothing_identifying"), ["email", "phone"]),
        (("--field", "phone"), ["phone"]),
        (("--rule", "nothing_identifying", "--field", "phone"), []),
        (("--since", "2026-01-15T12:00:00"), ["email", "phone", "robot"]),
        (("--since", "2026-01-15T12:00:01"), []),
        (("--until", "2026-01-15T11:59:59"), []),
        (("--limit", "2"), ["email", "phone"]),
    ],
)
def test_lists_can_be_narrowed(
    leads: Leads, found: dict[str, UUID], options: tuple[str, ...], expected: list[str]
) -> None:
    assert listed(leads("list", "--json", *options)) == [found[name] for name in expected]


def test_a_list_goes_on_behind_its_last_lead(leads: Leads, found: dict[str, UUID]) -> None:
    first = leads("list", "--limit", "2")
    assert f"--after {found['phone']}" in first.output
    assert listed(leads("list", "--json", "--after", str(found["phone"]))) == [found["robot"]]


def test_leads_are_counted_by_rule(leads: Leads, found: dict[str, UUID]) -> None:
    counts = [json.loads(line) for line in leads("list", "--by-rule", "--json").output.splitlines()]
    assert [(item["rule"], item["value_class"], item["leads"]) for item in counts] == [
        ("nothing_identifying", "no_identity", 2),
        ("email_invalid", "no_at_sign", 1),
        ("phone_invalid", "not_assigned", 1),
        ("robot", "hidden_field_filled", 1),
    ]
    status = json.loads(leads("--full", "--json", group="status").output)
    assert status["rejected_by_rule"] == counts
    assert "hidden_field_filled" in leads("--full", group="status").output


def test_nothing_rejected_is_said(leads: Leads) -> None:
    assert leads("list").output == "no rejected leads\n"
    assert leads("list", "--by-rule").output == "no rejected leads\n"
    assert leads("retry", "--all", *ACTOR).output == "no rejected leads\n"


def test_a_rule_or_field_that_does_not_exist_is_refused_with_those_that_do(leads: Leads) -> None:
    rule, field = leads("list", "--rule", "email_wrong"), leads("list", "--field", "mail")
    assert (rule.exit_code, field.exit_code) == (2, 2)
    assert "email_invalid" in rule.output
    assert "date_of_birth" in field.output


def test_a_lead_is_shown_with_remedies_and_its_values_on_demand(leads: Leads, found: dict[str, UUID]) -> None:
    lead = str(found["email"])
    leads("fix", lead, "--set", "company=n/a", "--set", "phone=", *ACTOR, "--reason", "a guess")
    masked, revealed = leads("show", lead), leads("show", lead, "--values")
    for output in (masked.output, revealed.output):
        assert "email_invalid (email, no_at_sign): Send an address of the form name@domain." in output
        assert "by grace, revision 2: fix of company, phone" in output
        assert "a guess" in output
        assert "waits to be judged" in output
    assert "anna" not in masked.output.lower()
    assert "n/a" not in masked.output
    assert '"email": "anna.at.firm"' in revealed.output
    assert '"company": "n/a"' in revealed.output


def test_a_lead_that_was_never_rejected_or_never_came_is_not_shown(leads: Leads, found: dict[str, UUID]) -> None:
    accepted, missing = leads("show", str(found["accepted"])), leads("show", str(uuid4()))
    assert isinstance(accepted.exception, NotFound)
    assert isinstance(missing.exception, NotFound)
    assert "never rejected" in str(accepted.exception)
    assert "no lead" in str(missing.exception)


def test_a_fix_is_kept_and_says_what_happens_next(leads: Leads, engine: sa.Engine, found: dict[str, UUID]) -> None:
    lead = str(found["email"])
    fixed = leads("fix", lead, "--set", "email= anna@firm.com ", "--set", "first_name=", *ACTOR)
    assert fixed.output == f"{lead}  waits to be judged as revision 2\n"
    (row,) = rows_of(engine, schema.lead_corrections)
    assert row["fields"] == {"email": "anna@firm.com", "first_name": None}
    again = leads("fix", lead, "--set", "email=other@firm.com", *ACTOR)
    assert again.output == f"{lead}  left alone: it waits to be judged\n"


def test_a_dry_run_says_what_validation_would_say_and_values_only_on_demand(
    leads: Leads, engine: sa.Engine, found: dict[str, UUID]
) -> None:
    lead = str(found["email"])
    dry = ("fix", lead, *ACTOR, "--dry-run", "--set")
    good, shown = leads(*dry, "email=anna@gmail.com"), leads(*dry, "email=anna@gmail.com", "--values")
    bad = leads(*dry, "email=anna@")
    assert good.output == "would be accepted, with the flags free_mailbox\n"
    assert '"email": "anna@gmail.com"' in shown.output
    assert bad.output.startswith("would be rejected\n")
    assert "email_invalid (email, bad_domain)" in bad.output
    assert rows_of(engine, schema.lead_corrections) == []


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (("mail=anna@firm.com",), "no field of a lead: mail; its fields are email, phone"),
        (("email",), "number 1 is not FIELD=VALUE"),
        (("email=a@b.co", "email=c@d.co"), "email is set twice"),
    ],
)
def test_a_fix_that_makes_no_sense_is_refused_without_quoting_it(
    leads: Leads, engine: sa.Engine, found: dict[str, UUID], assignments: tuple[str, ...], said: str
) -> None:
    options = [part for assignment in assignments for part in ("--set", assignment)]
    refused = leads("fix", str(found["email"]), *options, *ACTOR)
    output = refused.output + str(refused.exception)
    assert said in output
    assert "@" not in output
    assert refused.exit_code != 0
    assert rows_of(engine, schema.lead_corrections) == []


def test_leads_are_retried_by_filter_after_a_yes(leads: Leads, engine: sa.Engine, found: dict[str, UUID]) -> None:
    refused = leads("retry", "--rule", "nothing_identifying", *ACTOR, answer="n\n")
    assert "2 leads will be judged again" in refused.output
    assert refused.exit_code == 1
    assert rows_of(engine, schema.lead_corrections) == []
    assert "1 leads waiting to be judged" in leads("retry", "--field", "phone", "--yes", *ACTOR).output
    assert "1 leads waiting to be judged" in leads("retry", "--all", *ACTOR, answer="y\n").output
    assert {row["lead_id"] for row in rows_of(engine, schema.lead_corrections)} == {found["email"], found["phone"]}


def test_a_retry_of_all_takes_at_most_so_many(leads: Leads, engine: sa.Engine, found: dict[str, UUID]) -> None:
    assert "1 leads waiting" in leads("retry", "--all", "--limit", "1", "--yes", *ACTOR).output
    assert [row["lead_id"] for row in rows_of(engine, schema.lead_corrections)] == [found["email"]]


def test_what_was_set_aside_is_left_out_and_named_unless_it_is_released(
    leads: Leads, engine: sa.Engine, found: dict[str, UUID]
) -> None:
    told = leads("retry", "--tenant", "globex", "--yes", *ACTOR)
    assert "1 leads that the door set aside are left out" in told.output
    by_id = leads("retry", str(found["robot"]), *ACTOR)
    assert isinstance(by_id.exception, LeadsError)
    assert "set aside (robot): judged only with --release" in str(by_id.exception)
    assert rows_of(engine, schema.lead_corrections) == []
    released = leads("retry", "--tenant", "globex", "--release", "--yes", *ACTOR)
    assert "1 leads waiting to be judged" in released.output
    assert "left out" not in released.output


def test_leads_are_discarded_by_id_or_filter_with_a_reason(
    leads: Leads, engine: sa.Engine, found: dict[str, UUID]
) -> None:
    assert leads("discard", str(found["email"]), *ACTOR).exit_code == 2
    one = leads("discard", str(found["email"]), str(found["accepted"]), *ACTOR, "--reason", "made up")
    assert f"{found['email']}  discarded" in one.output
    assert f"{found['accepted']}  left alone: it was accepted" in one.output
    assert "1 leads discarded" in leads("discard", "--rule", "robot", "--yes", *ACTOR, "--reason", "a robot").output
    assert listed(leads("list", "--json")) == [found["phone"]]
    assert "is discarded" in leads("show", str(found["email"])).output


@pytest.mark.parametrize("command", ["retry", "discard"])
def test_it_must_be_clear_which_leads_are_meant(command: str, leads: Leads, found: dict[str, UUID]) -> None:
    extra = (*ACTOR, "--reason", "x", "--yes")
    nothing, both = leads(command, *extra), leads(command, str(found["email"]), "--all", *extra)
    assert (nothing.exit_code, both.exit_code) == (2, 2)
    assert "--all means every rejected lead" in nothing.output
    assert "not by both" in both.output


@pytest.mark.parametrize("command", ["fix", "retry", "discard"])
def test_a_lead_that_does_not_exist_is_refused(command: str, leads: Leads) -> None:
    extra = {"fix": ("--set", "email=a@b.co"), "discard": ("--reason", "x")}.get(command, ())
    refused = leads(command, str(uuid4()), *extra, *ACTOR)
    assert isinstance(refused.exception, LeadsError)
    assert "there is no such lead" in str(refused.exception)


def test_nothing_is_decided_without_a_name(leads: Leads, found: dict[str, UUID]) -> None:
    refused = leads("retry", str(found["email"]))
    assert refused.exit_code == 2
    assert "--actor" in refused.output
