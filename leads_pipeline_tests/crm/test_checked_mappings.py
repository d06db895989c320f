"""A mapping held against what a CRM says that it has, and what is sent of contacts then."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.config.destinations import PropertySettings
from leads_pipeline.crm.clients import build_clients
from leads_pipeline.crm.health import Health
from leads_pipeline.crm.mapping import SCHEMA_KEPT, read_rule, rule_as_json, rule_from_json
from leads_pipeline.crm.parking import limiter_of, parked_now
from leads_pipeline.crm.port import Courier, CrmRequest, CrmResponse
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline.domain.destination_schema import DestinationSchema, FieldType
from leads_pipeline.domain.mapping import Fault, MappingRule
from leads_pipeline.domain.stage import ALL_LANES
from leads_pipeline.errors import LeadsError
from leads_pipeline.flows import FlowContext, deliver, plan_sync
from leads_pipeline.outbound.limiter import Grant
from leads_pipeline.steps.checked_mappings import CheckedMapping, check_mappings
from leads_pipeline.steps.crm_sync_batches import SyncReport
from leads_pipeline.steps.fixed_dead_letters import fix_mapping
from leads_pipeline.storage.dead_letter_actions import DoneBy, actions_of
from leads_pipeline.storage.destination_schemas import WithheldCount, read_schema, withheld_counts
from leads_pipeline.storage.mapping_overrides import current_overrides, withdraw_override
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import TOKEN, Contact, add_contacts, change, row_of, settings_for, sync
from leads_pipeline_tests.defs.rows import insert


def _settings(sandbox: SandboxServer, **changes: Any) -> Settings:
    """With these mapped fields beside the usual ones, and with these constants."""
    settings = settings_for(sandbox.base_url)
    hubspot = settings.destinations["hubspot"]
    constants = changes.pop("constants", {})
    update = {"mapping": {**hubspot.mapping, **changes}, "constants": constants}
    return settings.model_copy(update={"destinations": {"hubspot": hubspot.model_copy(update=update)}})


def _check(engine: sa.Engine, settings: Settings, clock: FrozenClock, **options: Any) -> CheckedMapping:
    [checked] = check_mappings(engine, settings=settings, clock=clock, runner_id="test", **options)
    return checked


def _make_property(sandbox: SandboxServer, name: str, *, unique: bool = False) -> None:
    made = httpx.post(
        f"{sandbox.base_url}/crm/v3/properties/contacts",
        headers={"Authorization": f"Bearer {TOKEN}"},
        json={
            "name": name,
            "label": name,
            "type": "string",
            "fieldType": "text",
            "groupName": "contactinformation",
            "hasUniqueValue": unique,
        },
    )
    assert made.status_code == 201, made.text


def _properties(sandbox: SandboxServer) -> dict[str, Any]:
    [stored] = sandbox.contacts()
    found: dict[str, Any] = stored["properties"]
    return found


def _deliver(engine: sa.Engine, settings: Settings, clock: FrozenClock) -> SyncReport:
    """A delivery as the flow has it: whoever has something due is asked for its fields first."""
    flow = FlowContext(engine, settings, clock)
    return deliver(flow, plan_sync(flow, lanes=ALL_LANES), runner_id="test")


def _asked(engine: sa.Engine) -> int:
    """How often the CRM was asked for its fields, by the books."""
    with engine.connect() as connection:
        statement = sa.text("select count(*) from crm_sync_batches where operation = 'describe'")
        return connection.execute(statement).scalar_one()


def test_an_unknown_property_is_left_out_and_named_and_sent_once_it_is_there(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox, first_source="source_of_lead")
    [contact] = add_contacts(engine)
    [fault] = _check(engine, settings, clock).faults
    assert (fault.name, fault.fault, fault.blocks) == ("source_of_lead", Fault.UNKNOWN_PROPERTY, False)
    assert sync(engine, settings, clock).delivered == 1
    assert "source_of_lead" not in _properties(sandbox)
    assert row_of(engine, contact)["withheld"] == {"source_of_lead": "unknown_property"}
    with engine.connect() as connection:
        found = withheld_counts(connection, ["hubspot"])
    assert found == [WithheldCount("hubspot", "source_of_lead", "unknown_property", 1)]

    _make_property(sandbox, "source_of_lead")
    assert _check(engine, settings, clock).wanted_again == 0
    clock.advance(SCHEMA_KEPT.total_seconds())
    checked = _check(engine, settings, clock)
    assert (checked.faults, checked.wanted_again) == ((), 1)
    assert row_of(engine, contact)["lane"] == "batch"
    assert sync(engine, settings, clock).delivered == 1
    assert _properties(sandbox)["source_of_lead"] == "website"
    assert row_of(engine, contact)["withheld"] is None
    clock.advance(SCHEMA_KEPT.total_seconds())
    assert _check(engine, settings, clock).wanted_again == 0


def test_a_mended_mapping_has_the_contacts_sent_again_without_asking_the_crm(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    wrong = _settings(sandbox, constants={"lifecyclestage": "led"})
    [contact] = add_contacts(engine)
    [fault] = _check(engine, wrong, clock).faults
    assert fault.fault is Fault.NOT_AN_OPTION
    assert "lead" in fault.advice
    sync(engine, wrong, clock)
    assert row_of(engine, contact)["withheld"] == {"lifecyclestage": "not_an_option"}
    mended = _settings(sandbox, constants={"lifecyclestage": "lead"})
    assert _check(engine, mended, clock).wanted_again == 1
    sync(engine, mended, clock)
    assert _properties(sandbox)["lifecyclestage"] == "lead"
    assert _asked(engine) == 1


def _died(engine: sa.Engine, contact: Contact) -> UUID:
    """The contact was refused; returns its letter."""
    letter = uuid4()
    with engine.begin() as connection:
        connection.execute(sa.text("update outbox set state = 'dead' where outbox_id = :id"), {"id": contact.outbox_id})
        insert(
            connection, "dead_letters", now=NOW, dead_letter_id=letter, contact_id=contact.contact_id,
            outbox_id=contact.outbox_id, tenant="acme", destination="hubspot",
        )  # fmt: skip
    return letter


def test_a_person_s_mapping_of_a_property_holds_for_the_destination_until_it_is_withdrawn(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox)
    [contact] = add_contacts(engine, company="Byron Ltd", city="Graz")
    done = DoneBy("grace", NOW, "TICKET-7")
    letter = _died(engine, contact)
    fix_mapping(engine, letter, "company", MappingRule("company", "city"), settings=settings, done=done)
    assert sync(engine, settings, clock).delivered == 1
    assert _properties(sandbox)["company"] == "Graz"
    with engine.connect() as connection:
        assert [item.action for item in actions_of(connection, letter)] == ["redrive", "fix"]
        [override] = current_overrides(connection, "hubspot")
    assert (override.property, override.actor, override.reason) == ("company", "grace", "TICKET-7")
    change(engine, contact, first_name="Augusta")
    sync(engine, settings, clock)
    assert _properties(sandbox)["company"] == "Graz"
    with engine.begin() as connection:
        assert withdraw_override(connection, "hubspot", "company", actor="ada", now=NOW)
        assert not withdraw_override(connection, "hubspot", "company", actor="ada", now=NOW)
    change(engine, contact, first_name="Ada")
    sync(engine, settings, clock)
    assert _properties(sandbox)["company"] == "Byron Ltd"


def test_a_property_that_a_person_leaves_out_is_not_sent_and_no_fault_any_more(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox, first_source="source_of_lead")
    [contact] = add_contacts(engine)
    assert _check(engine, settings, clock).faults
    letter = _died(engine, contact)
    fix_mapping(engine, letter, "source_of_lead", None, settings=settings, done=DoneBy("grace", NOW))
    assert _check(engine, settings, clock).faults == ()
    sync(engine, settings, clock)
    assert row_of(engine, contact)["withheld"] is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("firstnme", "first_name", "did you mean firstname"),
        ("hs_object_id", "first_name", "fills it in by itself"),
        ("lead_key", "email", "holds our contact id"),
        ("lifecyclestage", "{constant: led}", "it takes one of: customer"),
    ],
)
def test_a_mapping_that_the_crm_would_refuse_is_refused_and_nothing_is_written(
    name: str, text: str, words: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox)
    [contact] = add_contacts(engine)
    _check(engine, settings, clock)
    letter = _died(engine, contact)
    with pytest.raises(LeadsError, match=words):
        fix_mapping(engine, letter, name, read_rule(name, text), settings=settings, done=DoneBy("grace", NOW))
    assert row_of(engine, contact)["state"] == "dead"
    with engine.connect() as connection:
        assert current_overrides(connection, "hubspot") == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("city", MappingRule("p", "city")),
        (" ", None),
        ("consent.marketing.email", MappingRule("p", "consent.marketing.email")),
        ("{from: date_of_birth, as: text}", MappingRule("p", "date_of_birth", kind=FieldType.TEXT)),
        ("{from: country, values: {AT: A}, otherwise: B}",
         MappingRule("p", "country", values={"AT": "A"}, otherwise="B")),
        ("{constant: 7}", MappingRule("p", constant=7)),
    ],
)  # fmt: skip
def test_a_rule_is_read_as_it_is_written_and_kept_whole(text: str, rule: MappingRule | None) -> None:
    assert read_rule("p", text) == rule
    if rule is not None:
        assert rule_from_json("p", json.loads(json.dumps(rule_as_json(rule)))) == rule


@pytest.mark.parametrize("text", ["{", "shoe_size", "{from: city, constant: x}", "{constant: x, as: date}", "[city]"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(LeadsError, match="rule of p"):
        read_rule("p", text)


def test_a_value_that_is_withheld_later_leaves_what_is_there_and_can_still_be_cleared(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    table = PropertySettings.model_validate({"to": "industry", "values": {"AT": "Alpine"}})
    settings = _settings(sandbox, country=table)
    [contact] = add_contacts(engine, country="AT")
    _check(engine, settings, clock)
    sync(engine, settings, clock)
    change(engine, contact, country="FR", city="Paris")
    sync(engine, settings, clock)
    assert (_properties(sandbox)["industry"], _properties(sandbox)["city"]) == ("Alpine", "Paris")
    assert row_of(engine, contact)["withheld"] == {"industry": "no_value_mapped"}
    change(engine, contact, country=None)
    sync(engine, settings, clock)
    assert "industry" not in _properties(sandbox)


def test_a_crm_is_asked_once_an_hour_and_at_once_when_a_person_wants_to_know(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox)
    for expected in (1, 1):
        assert _check(engine, settings, clock).problem is None
        assert _asked(engine) == expected
    clock.advance(SCHEMA_KEPT.total_seconds())
    _check(engine, settings, clock)
    assert _asked(engine) == 2
    _check(engine, settings, clock, max_age=timedelta(0))
    assert _asked(engine) == 3


def test_a_crm_that_refuses_what_it_was_thought_to_have_is_asked_again_before_the_next_delivery(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    _make_property(sandbox, "source_of_lead")
    settings = _settings(sandbox, first_source="source_of_lead")
    [contact] = add_contacts(engine)
    _check(engine, settings, clock)
    with running_sandbox(HubSpotOptions(token=TOKEN).without_limits()) as other:  # as if somebody had removed it
        moved = _settings(other, first_source="source_of_lead")
        assert sync(engine, moved, clock).retried == 1
        clock.advance(120)
        assert [item.fault for item in _check(engine, moved, clock).faults] == [Fault.UNKNOWN_PROPERTY]
        assert sync(engine, moved, clock).delivered == 1
    assert row_of(engine, contact)["withheld"] == {"source_of_lead": "unknown_property"}


def test_a_crm_that_does_not_tell_is_checked_by_what_it_told_before(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(sandbox, first_source="source_of_lead")
    _check(engine, settings, clock)
    with engine.connect() as connection:
        before = read_schema(connection, "hubspot")
    clock.advance(SCHEMA_KEPT.total_seconds())
    monkeypatch.setenv("LEADS_HUBSPOT_TOKEN", "revoked")
    checked = _check(engine, settings, clock)
    assert checked.problem is not None
    assert "HubSpot did not tell" in checked.problem
    assert [item.name for item in checked.faults] == ["source_of_lead"]
    with engine.connect() as connection:
        after = read_schema(connection, "hubspot")
    assert before == after


def test_without_an_answer_nothing_is_checked_and_everything_is_sent(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(sandbox)
    [contact] = add_contacts(engine, city="Graz")
    monkeypatch.setenv("LEADS_HUBSPOT_TOKEN", "revoked")
    checked = _check(engine, settings, clock)
    assert (checked.told_at, checked.faults) == (None, ())
    monkeypatch.setenv("LEADS_HUBSPOT_TOKEN", TOKEN)
    sync(engine, settings, clock)
    assert _properties(sandbox)["city"] == "Graz"
    assert row_of(engine, contact)["withheld"] is None


def test_a_crm_that_fails_by_its_breaker_is_asked_for_its_fields_by_persons_alone(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox)
    health = Health(engine, "hubspot", policy=settings.delivery.breaker, clock=clock)
    health.after(refused=True, last=None)
    problem = _check(engine, settings, clock).problem
    assert problem is not None
    assert "(auth): ask again then" in problem
    assert _asked(engine) == 0, "each run would wait for its time-out"
    assert _check(engine, settings, clock, despite_breaker=True).problem is None


def test_a_crm_that_does_not_say_what_fields_it_has_is_left_alone_after_a_few_times(
    engine: sa.Engine, clock: FrozenClock
) -> None:
    settings = settings_for("http://127.0.0.1:9")
    for _ in range(settings.delivery.breaker.failures):
        assert "parked" not in str(_check(engine, settings, clock).problem)
    assert "parked" in str(_check(engine, settings, clock).problem)


def test_a_question_that_breaks_leaves_no_request_under_way(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox)
    hubspot = settings.destinations["hubspot"]
    limits = hubspot.limits.model_copy(update={"shared_in_flight": 1})
    destinations = {"hubspot": hubspot.model_copy(update={"limits": limits})}
    limited = settings.model_copy(update={"destinations": destinations})
    client = build_clients(limited, engine)["hubspot"]

    class Breaks:
        traits, close = client.traits, client.close

        def describe(self, *, courier: Courier) -> DestinationSchema:
            courier(CrmRequest("describe", "GET", "/crm/v3/properties/contacts", 0))
            raise AssertionError("it was not sent")

        def send(self, request: CrmRequest) -> CrmResponse:
            raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        _check(engine, limited, clock, clients={"hubspot": Breaks()})
    assert isinstance(limiter_of(engine, "hubspot", settings=limited, forecast=None).acquire(), Grant)
    client.close()


@pytest.mark.parametrize("mend", ["leads.yaml", "the CRM"])
def test_a_destination_that_can_take_nobody_as_it_is_mapped_is_parked_until_somebody_mends_it(
    mend: str, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    mended = settings_for(sandbox.base_url)
    hubspot = mended.destinations["hubspot"]
    wrong = mended.model_copy(
        update={"destinations": {"hubspot": hubspot.model_copy(update={"key_property": "company_key"})}}
    )
    [contact] = add_contacts(engine)
    report = _deliver(engine, wrong, clock)
    assert report.parked["hubspot"].reason == "mapping"
    assert "leads destinations check" in report.parked["hubspot"].advice
    assert (row_of(engine, contact)["state"], row_of(engine, contact)["attempts"]) == ("waiting", 0)
    assert parked_now(engine, settings=wrong, now=clock.now()).destinations["hubspot"].reason == "mapping"
    if mend == "leads.yaml":
        assert parked_now(engine, settings=mended, now=clock.now()).destinations == {}
        assert _deliver(engine, mended, clock).delivered == 1
    else:
        _make_property(sandbox, "company_key", unique=True)
        assert _check(engine, wrong, clock, max_age=timedelta(0)).faults == ()
        assert _deliver(engine, wrong, clock).delivered == 1


def test_each_type_of_field_arrives_in_a_property_of_its_type(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    rules = {
        "risk_score": {"to": "company", "as": "text"},
        "first_seen_at": {"to": "date_of_birth", "as": "date"},
        "consent.marketing.email": {"to": "message", "values": {"true": "agreed", "false": "refused"}},
    }
    settings = _settings(sandbox, **{name: PropertySettings.model_validate(rule) for name, rule in rules.items()})
    add_contacts(engine)
    with engine.begin() as connection:
        consent = """'{"marketing": {"email": {"granted": true}}}'"""
        connection.execute(sa.text(f"update golden_contacts set risk_score = 7, consent = {consent}"))
    assert _check(engine, settings, clock).faults == ()
    sync(engine, settings, clock)
    sent = _properties(sandbox)
    assert (sent["company"], sent["date_of_birth"], sent["message"]) == ("7", "2026-01-15", "agreed")
