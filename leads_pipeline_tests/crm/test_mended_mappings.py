"""What is mended while contacts are under way reaches them; one refused property keeps no contact waiting."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.hubspot.answers import response_of
from leads_pipeline.crm.port import CrmRecord, CrmRequest, CrmResponse
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.domain.mapping import Fault, MappingRule
from leads_pipeline.domain.stage import Lane
from leads_pipeline.outbound.transport import HttpAnswer
from leads_pipeline.steps.fixed_dead_letters import fix_mapping
from leads_pipeline.storage.dead_letter_actions import DoneBy
from leads_pipeline.storage.destination_schemas import read_schema, write_schema
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import add_contacts, row_of, states, sync
from leads_pipeline_tests.crm.test_checked_mappings import _check, _died, _make_property, _settings
from leads_pipeline_tests.crm.test_engine import Watched

AT_ONCE = timedelta(0)


def _once(call: Callable[[], object]) -> Callable[[Sequence[CrmRecord]], None]:
    """What is to happen between the first claim and its request."""
    calls = [call]

    def happens(_records: Sequence[CrmRecord]) -> None:
        if calls:
            calls.pop()()

    return happens


def _of_ten(settings: Settings) -> Settings:
    hubspot = settings.destinations["hubspot"]
    return settings.model_copy(update={"destinations": {"hubspot": hubspot.model_copy(update={"batch_size": 10})}})


def _values(sandbox: SandboxServer, name: str) -> set[str | None]:
    return {record["properties"].get(name) for record in sandbox.contacts()}


def test_a_property_that_is_mended_during_a_run_reaches_all_whatever_became_of_them_meanwhile(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    """Those of one batch are delivered already, those of another are under way, and the others wait."""
    settings = _of_ten(_settings(sandbox, first_source="source_of_lead"))
    old = add_contacts(engine, 3)
    _check(engine, settings, clock)
    sync(engine, settings, clock)
    under_way = add_contacts(engine, 10)
    waiting = add_contacts(engine, 20)

    def mended() -> None:
        _make_property(sandbox, "source_of_lead")
        assert _check(engine, settings, clock, max_age=AT_ONCE).wanted_again == len(old)

    sync(engine, settings, clock, clients={"hubspot": Watched(settings, _once(mended))})
    assert states(engine, [*old, *under_way, *waiting]) == {"delivered"}
    assert _values(sandbox, "source_of_lead") == {"website"}
    assert row_of(engine, under_way[0])["withheld"] is None


def test_a_check_that_finds_nothing_new_wants_nobody_again(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox, first_source="source_of_lead")
    add_contacts(engine, 3)
    _check(engine, settings, clock)

    def checked() -> None:
        clock.advance(1)
        _check(engine, settings, clock, max_age=AT_ONCE)

    report = sync(engine, settings, clock, clients={"hubspot": Watched(settings, _once(checked))})
    assert (report.delivered, report.unchanged, report.requests) == (3, 0, 1)


def test_a_mapping_that_a_person_mends_during_a_run_is_what_the_letter_is_sent_by(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _of_ten(_settings(sandbox))
    [contact] = add_contacts(engine, company="x", city="Graz", lane=Lane.BATCH)
    letter = _died(engine, contact)
    add_contacts(engine, 30)

    def mended() -> None:
        rule = MappingRule("company", "city")
        fix_mapping(engine, letter, "company", rule, settings=settings, done=DoneBy("grace", NOW, "TICKET-7"))

    sync(engine, settings, clock, clients={"hubspot": Watched(settings, _once(mended))})
    assert row_of(engine, contact)["state"] == "delivered"
    assert "Graz" in _values(sandbox, "company")


class _Refusing(Watched):
    """HubSpot's client at an account whose token may not write ``name``, until it may."""

    def __init__(self, settings: Settings, name: str) -> None:
        super().__init__(settings, lambda _records: None)
        self.refused: str | None = name

    def send(self, request: CrmRequest) -> CrmResponse:
        inputs = (request.body or {}).get("inputs", [])
        if any(self.refused in item.get("properties", {}) for item in inputs):
            error = {"message": "x", "code": "READ_ONLY_VALUE", "context": {"propertyName": [self.refused]}}
            body = {"status": "error", "message": "Property values were not valid", "errors": [error]}
            return response_of(HttpAnswer(400, {}, body | {"category": "VALIDATION_ERROR"}))
        return super().send(request)


def test_a_property_that_is_refused_although_the_schema_allows_it_is_left_out_until_a_person_checks(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _of_ten(_settings(sandbox, city="city"))
    contacts = add_contacts(engine, 25, city="Graz")
    _check(engine, settings, clock)
    client = _Refusing(settings, "city")

    def delivered() -> None:
        for _ in range(3):
            sync(engine, settings, clock, clients={"hubspot": client})
            clock.advance(2)

    delivered()
    assert states(engine, contacts) == {"delivered"}
    assert _values(sandbox, "city") == {None}
    row = row_of(engine, contacts[0])
    assert (row["withheld"], row["attempts"]) == ({"city": "refused"}, 0)
    checked = _check(engine, settings, clock)
    assert [(item.name, item.fault, item.blocks) for item in checked.faults] == [("city", Fault.REFUSED, False)]
    assert checked.wanted_again == 0
    client.refused = None
    assert _check(engine, settings, clock, despite_breaker=True).wanted_again == len(contacts)
    delivered()
    assert _values(sandbox, "city") == {"Graz"}


def test_one_property_that_is_not_there_holds_nobody_back_where_fields_cannot_be_read(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox, first_source="source_of_lead")
    contacts = add_contacts(engine, 5)
    for _ in range(2):
        report = sync(engine, settings, clock)
        clock.advance(10)
    assert states(engine, contacts) == {"delivered"}
    assert (report.requests, report.dead) == (1, 0)
    assert row_of(engine, contacts[0])["withheld"] == {"source_of_lead": "refused"}


def test_a_property_that_the_crm_asks_of_everybody_is_not_left_out(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _settings(sandbox, city="city")
    contacts = add_contacts(engine, 5, city="Graz")
    _check(engine, settings, clock)
    with engine.begin() as connection:
        stored = read_schema(connection, "hubspot")
        assert stored is not None
        fields = stored.schema.fields | {"city": replace(stored.schema.fields["city"], required=True)}
        write_schema(connection, "hubspot", replace(stored, schema=replace(stored.schema, fields=fields)))
    report = sync(engine, settings, clock, clients={"hubspot": _Refusing(settings, "city")})
    assert report.parked["hubspot"].needs_somebody
    assert states(engine, contacts) == {"waiting"}


def test_the_key_is_not_left_out(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    settings = _settings(sandbox)
    add_contacts(engine, 2)
    report = sync(engine, settings, clock, clients={"hubspot": _Refusing(settings, "lead_key")})
    assert report.parked["hubspot"].needs_somebody
