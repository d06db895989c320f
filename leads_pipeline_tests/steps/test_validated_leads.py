"""The step from raw_leads to validated_leads or rejected_leads, on a real database."""

from typing import Any

import pytest
import sqlalchemy as sa

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.domain.rules import RULE_VERSION
from leads_pipeline.domain.stage import ChunkReport, Lane, Stage
from leads_pipeline.domain.validation import Rejection, ValidLead, validate
from leads_pipeline.steps.validated_leads import validate_leads
from leads_pipeline.storage import schema
from leads_pipeline_tests.conftest import LEADS_YAML, NOW
from leads_pipeline_tests.steps.rows import chunk, raw_lead, rows_of


def test_nothing_pending_is_nothing_done(engine: sa.Engine, settings: Settings) -> None:
    assert validate_leads(engine, chunk(), settings=settings) == ChunkReport(taken=0, passed=0, counts={})


def test_a_valid_lead_goes_on_and_a_useless_one_is_quarantined_with_its_reasons(
    engine: sa.Engine, settings: Settings
) -> None:
    good = raw_lead(
        engine, {"email": "Anna@GMAIL.com", "full_name": "anna smith", "campaign": "spring"}, lane=Lane.REAL_TIME
    )
    bad = raw_lead(engine, {"email": "anna.at.firm", "first_name": "test", "unknown_field": {"a": [1]}})
    this = chunk()

    report = validate_leads(engine, this, settings=settings)

    assert report == ChunkReport(taken=2, passed=1, counts={"rejected": 1, "flag_free_mailbox": 1, "tier_none": 1})
    (lead,) = rows_of(engine, schema.validated_leads)
    assert {name: lead[name] for name in ("lead_id", "revision", "tenant", "source", "received_at")} == {
        "lead_id": good, "revision": 1, "tenant": "acme", "source": "website", "received_at": NOW,
    }  # fmt: skip
    assert (lead["email_raw"], lead["email"], lead["email_key"]) == (
        "Anna@GMAIL.com",
        "Anna@gmail.com",
        "anna@gmail.com",
    )
    assert (lead["first_name"], lead["last_name_key"], lead["full_name"]) == ("Anna", "smith", "anna smith")
    assert (lead["attribution"], lead["flags"]) == ({"campaign": "spring"}, ["free_mailbox"])
    assert (lead["capture_lane"], lead["sync_lane"]) == ("real_time", "real_time")
    assert (lead["rule_version"], lead["batch_id"], lead["runner_id"], lead["validated_at"]) == (
        RULE_VERSION, this.batch_id, "test", NOW,
    )  # fmt: skip
    (rejected,) = rows_of(engine, schema.rejected_leads)
    assert (rejected["lead_id"], rejected["batch_id"], rejected["rejected_at"]) == (bad, this.batch_id, NOW)
    assert [(r["rule"], r["field"], r["value_class"]) for r in rejected["reasons"]] == [
        ("nothing_identifying", "lead", "no_identity"),
        ("email_invalid", "email", "no_at_sign"),
        ("name_placeholder", "first_name", "placeholder"),
    ]
    (waiting,) = rows_of(engine, schema.pending)
    assert (waiting["stage"], waiting["subject_id"], waiting["lane"], waiting["since"]) == (
        Stage.DEDUPED_LEADS, good, Lane.REAL_TIME, NOW,
    )  # fmt: skip
    assert len(rows_of(engine, schema.raw_leads)) == 2


def test_a_chunk_takes_no_more_than_its_limit_and_only_its_tenant(engine: sa.Engine, settings: Settings) -> None:
    for number in range(5):
        raw_lead(engine, {"email": f"p{number}@firm.com"})
    other = raw_lead(engine, {"email": "p@firm.com"}, tenant="globex")
    assert [validate_leads(engine, chunk(limit=2), settings=settings).taken for _ in range(4)] == [2, 2, 1, 0]
    assert [row["subject_id"] for row in rows_of(engine, schema.pending, stage="validated_leads")] == [other]


@pytest.mark.parametrize(
    ("source", "country", "number"),
    [
        ("website", None, "+14155552671"),
        ("london", None, None),
        ("london", "US", "+14155552671"),
        ("gone", None, "+14155552671"),
    ],
)
def test_a_phone_is_read_in_the_leads_country_then_its_sources_then_its_tenants(
    engine: sa.Engine, settings: Settings, source: str, country: str | None, number: str | None
) -> None:
    text = LEADS_YAML.replace(
        "    destinations: [hubspot]", "      london: {country: GB}\n    destinations: [hubspot]", 1
    )
    settings = parse_settings(text, path=settings.path)
    payload: dict[str, Any] = {"email": "anna@firm.com", "phone": "(415) 555-2671"}
    raw_lead(engine, payload | ({"country": country} if country else {}), source=source)
    validate_leads(engine, chunk(), settings=settings)
    (lead,) = rows_of(engine, schema.validated_leads)
    assert lead["phone"] == number


def test_a_lead_of_a_tenant_that_the_configuration_no_longer_knows_goes_on(
    engine: sa.Engine, settings: Settings
) -> None:
    raw_lead(engine, {"email": "anna@firm.com"}, tenant="former")
    assert validate_leads(engine, chunk(tenant="former"), settings=settings).passed == 1


def test_a_lead_on_which_the_validator_breaks_is_quarantined_and_its_neighbours_go_on(
    engine: sa.Engine, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    poison = raw_lead(engine, {"email": "poison@firm.com"})
    good = raw_lead(engine, {"email": "anna@firm.com"})

    def breaking(payload: dict[str, object], **how: Any) -> ValidLead | Rejection:
        if payload["email"] == "poison@firm.com":
            raise RuntimeError("cannot read poison@firm.com")
        return validate(payload, **how)

    report = validate_leads(engine, chunk(), settings=settings, validator=breaking)

    assert (report.taken, report.passed, report.counts["rejected"]) == (2, 1, 1)
    (rejected,) = rows_of(engine, schema.rejected_leads)
    assert (rejected["lead_id"], rejected["reasons"][0]["rule"]) == (poison, "validator_failed")
    assert [row["lead_id"] for row in rows_of(engine, schema.validated_leads)] == [good]
    printed = capsys.readouterr()
    assert "validator_failed" in printed.out + printed.err
    assert "poison@firm.com" not in printed.out + printed.err


def test_a_number_that_python_refuses_to_read_quarantines_its_lead_alone(engine: sa.Engine, settings: Settings) -> None:
    poison = raw_lead(engine, {"email": "poison@firm.com"})
    good = raw_lead(engine, {"email": "anna@firm.com"})
    with engine.begin() as connection:
        connection.execute(
            sa.text("update raw_leads set payload = cast(:payload as jsonb) where lead_id = :lead_id"),
            {"payload": f'{{"email": "poison@firm.com", "external_id": {"9" * 5_000}}}', "lead_id": poison},
        )
    assert validate_leads(engine, chunk(), settings=settings).passed == 1
    assert [row["lead_id"] for row in rows_of(engine, schema.rejected_leads)] == [poison]
    assert [row["lead_id"] for row in rows_of(engine, schema.validated_leads)] == [good]


def test_a_chunk_that_is_killed_before_its_commit_leaves_its_leads_at_the_door(
    engine: sa.Engine, settings: Settings
) -> None:
    lead_id = raw_lead(engine, {"email": "anna@firm.com"})

    class Killed(BaseException):
        """Ends the transaction as the death of the process does: without a commit."""

    def dying(_payload: dict[str, object], **_how: Any) -> ValidLead | Rejection:
        raise Killed

    with pytest.raises(Killed):
        validate_leads(engine, chunk(), settings=settings, validator=dying)
    assert rows_of(engine, schema.validated_leads) == []
    assert [row["subject_id"] for row in rows_of(engine, schema.pending)] == [lead_id]
    assert validate_leads(engine, chunk(), settings=settings).passed == 1


def test_judging_a_lead_again_changes_nothing(engine: sa.Engine, settings: Settings) -> None:
    good, bad = raw_lead(engine, {"email": "anna@firm.com"}), raw_lead(engine, {})
    validate_leads(engine, chunk(), settings=settings)
    before = (
        rows_of(engine, schema.validated_leads),
        rows_of(engine, schema.rejected_leads),
        rows_of(engine, schema.pending),
    )
    with engine.begin() as connection:
        for lead_id in (good, bad):
            connection.execute(
                sa.insert(schema.pending).values(
                    stage="validated_leads",
                    subject_id=lead_id,
                    tenant="acme",
                    lane="batch",
                    revision=1,
                    since=NOW,
                    due_at=NOW,
                )
            )
    assert validate_leads(engine, chunk(runner_id="another"), settings=settings).taken == 2
    after = (
        rows_of(engine, schema.validated_leads),
        rows_of(engine, schema.rejected_leads),
        rows_of(engine, schema.pending),
    )
    assert after == before


def test_two_workers_share_the_door_without_taking_a_lead_twice(engine: sa.Engine, settings: Settings) -> None:
    for number in range(4):
        raw_lead(engine, {"email": f"p{number}@firm.com"})
    taken: list[int] = []

    def meanwhile(payload: dict[str, object], **how: Any) -> ValidLead | Rejection:
        if not taken:
            taken.append(0)
            taken[0] = validate_leads(engine, chunk(), settings=settings).taken
        return validate(payload, **how)

    first = validate_leads(engine, chunk(limit=2), settings=settings, validator=meanwhile)
    assert (first.taken, taken) == (2, [2])
    assert len(rows_of(engine, schema.validated_leads)) == 4
