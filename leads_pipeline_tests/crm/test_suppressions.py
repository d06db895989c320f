"""Who must not be sent is not sent, at the last moment, and is sent again when that ends."""

from uuid import uuid4

import pytest
import sqlalchemy as sa

from leads_pipeline.clock import FrozenClock
from leads_pipeline.config import Settings
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline.domain.sending_gate import SuppressionKind
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import ConfigError, NotFound
from leads_pipeline.steps import suppressed_contacts
from leads_pipeline.storage.outbox_demand import Demand, demand, withdraw
from leads_pipeline.storage.schema import contacts, golden_contacts
from leads_pipeline_tests.conftest import NOW
from leads_pipeline_tests.crm.delivering import (
    Contact,
    add_contacts,
    change,
    merge_away,
    people_did,
    row_of,
    settings_for,
    states,
    sync,
)

WITHDRAWN = {"marketing": {"email": {"granted": False, "as_of": "2026-01-15T12:00:00+00:00", "lead_id": "x"}}}
GRANTED = {"marketing": {"email": {"granted": True, "as_of": "2026-01-15T12:00:00+00:00", "lead_id": "x"}}}


def _list(
    engine: sa.Engine, settings: Settings, kind: SuppressionKind, value: str, *, destination: str | None = None
) -> int | None:
    who = suppressed_contacts.named(settings, tenant="acme", kind=kind, value=value)
    return suppressed_contacts.suppress(
        engine,
        who,
        settings=settings,
        tenant="acme",
        destination=destination,
        actor="ops",
        reason="ticket",
        clock=FrozenClock(NOW),
    )


def _say(engine: sa.Engine, contact: Contact, consent: dict, *, version: int) -> None:
    """A new version of the contact, with what the person said since, as the golden step wants it."""
    with engine.begin() as connection:
        connection.execute(
            golden_contacts.update()
            .where(golden_contacts.c.contact_id == contact.contact_id)
            .values(version=version, consent=consent)
        )
        wanted = [Demand(contact.contact_id, "hubspot", version, Lane.BATCH)]
        demand(connection, wanted, tenant="acme", now=FrozenClock(NOW).now())


@pytest.mark.parametrize("kind", SuppressionKind)
def test_who_is_listed_is_held_back_and_the_others_arrive(
    kind: SuppressionKind, engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [listed] = add_contacts(engine, email="ada@listed.example", phone="+14155552671")
    others = add_contacts(engine, 3)
    [elsewhere] = add_contacts(engine, tenant="globex", email="ada@listed.example", phone="+14155552671")
    settings = settings_for(sandbox.base_url)
    value = {
        SuppressionKind.EMAIL: "Ada@listed.example",
        SuppressionKind.PHONE: "415-555-2671",
        SuppressionKind.DOMAIN: "listed.example",
        SuppressionKind.CONTACT: str(listed.contact_id),
    }[kind]
    assert _list(engine, settings, kind, value) is not None
    assert _list(engine, settings, kind, value) is None  # it stands already
    report = sync(engine, settings, clock)
    assert (report.delivered, report.suppressed, report.cancelled) == (4, 1, 0)
    row = row_of(engine, listed)
    assert (row["state"], row["suppressed_for"], row["claimed_by"]) == ("suppressed", "listed", None)
    assert states(engine, [*others, elsewhere]) == {"delivered"}


def test_who_was_listed_by_a_contact_s_id_stays_listed_when_that_contact_is_merged_into_another(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [survivor] = add_contacts(engine)
    others = add_contacts(engine, 2)
    gone = uuid4()
    settings = settings_for(sandbox.base_url)
    assert _list(engine, settings, SuppressionKind.CONTACT, str(gone)) is not None
    with engine.begin() as connection:
        connection.execute(
            contacts.insert().values(
                contact_id=gone,
                tenant="acme",
                founding_lead_id=uuid4(),
                created_at=NOW,
                merged_into=survivor.contact_id,
            )
        )
    sync(engine, settings, clock)
    assert (states(engine, [survivor]), states(engine, others)) == ({"suppressed"}, {"delivered"})
    with engine.begin() as connection:
        connection.execute(contacts.update().values(merged_into=None))
    _say(engine, survivor, {}, version=2)
    assert sync(engine, settings, clock).delivered == 1, "the merge was undone"


def test_an_entry_for_another_destination_does_not_hold(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, email="ada@listed.example")
    settings = settings_for(sandbox.base_url)
    _list(engine, settings, SuppressionKind.EMAIL, "ada@listed.example", destination="hubspot")
    with engine.begin() as connection:
        connection.execute(sa.text("update suppressions set destination = 'another'"))
    assert sync(engine, settings, clock).delivered == 1
    assert row_of(engine, contact)["state"] == "delivered"


def test_when_an_entry_ends_who_was_held_back_is_delivered(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    one, two = (add_contacts(engine, email=f"{name}@listed.example")[0] for name in ("ada", "byron"))
    settings = settings_for(sandbox.base_url)
    first = _list(engine, settings, SuppressionKind.EMAIL, "ada@listed.example")
    second = _list(engine, settings, SuppressionKind.EMAIL, "byron@listed.example")
    assert sync(engine, settings, clock).suppressed == 2
    with pytest.raises(NotFound):
        suppressed_contacts.end(engine, [first, 4711], actor="ops", clock=clock)
    assert states(engine, [one, two]) == {"suppressed"}  # nothing was ended
    ended = suppressed_contacts.end(engine, [first], actor="ops", clock=clock)
    assert ended.waiting_again == 2
    report = sync(engine, settings, clock)
    assert (report.delivered, report.suppressed) == (1, 1)
    assert (row_of(engine, one)["state"], row_of(engine, two)["state"]) == ("delivered", "suppressed")
    with pytest.raises(NotFound):
        suppressed_contacts.end(engine, [first], actor="ops", clock=clock)
    assert second is not None


def test_a_withdrawal_while_a_contact_waits_holds_it_back_and_a_new_consent_lets_it_go(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)
    _say(engine, contact, WITHDRAWN, version=2)
    assert sync(engine, settings, clock).suppressed == 1
    row = row_of(engine, contact)
    assert (row["state"], row["suppressed_for"], row["delivered_version"]) == ("suppressed", "withdrawn", None)
    assert list(sandbox.contacts()) == []
    _say(engine, contact, GRANTED, version=3)
    assert row_of(engine, contact)["suppressed_for"] is None
    assert sync(engine, settings, clock).delivered == 1


def test_a_withdrawal_itself_reaches_the_crm_and_nothing_beside_it(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, consent=GRANTED)
    [stranger] = add_contacts(engine, consent=WITHDRAWN)
    settings = _telling(sandbox)
    assert sync(engine, settings, clock).delivered == 1
    [before] = sandbox.contacts()
    with engine.begin() as connection:
        connection.execute(golden_contacts.update().values(first_name="Augusta"))
    _say(engine, contact, WITHDRAWN, version=2)
    report = sync(engine, settings, clock)
    assert (report.suppressed, report.requests) == (1, 2)  # with the look-up of what is there
    [after] = sandbox.contacts()
    assert (before["properties"]["jobtitle"], after["properties"]["jobtitle"]) == ("true", "false")
    assert after["properties"]["firstname"] == "Ada"
    row = row_of(engine, contact)
    assert (row["state"], row["suppressed_for"], row["delivered_version"]) == ("suppressed", "withdrawn", 1)
    assert row_of(engine, stranger)["state"] == "suppressed"
    _say(engine, contact, GRANTED, version=3)
    assert sync(engine, settings, clock).delivered == 1
    [again] = sandbox.contacts()
    assert (again["properties"]["jobtitle"], again["properties"]["firstname"]) == ("true", "Augusta")


def test_a_withdrawal_is_told_although_the_answer_to_the_first_request_was_lost(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _telling(sandbox)
    [contact] = add_contacts(engine, consent=GRANTED)
    sandbox.set_faults([{"kind": "written_then_500", "count": 1}])
    sync(engine, settings, clock)
    _say(engine, contact, WITHDRAWN, version=2)
    clock.advance(10)
    assert sync(engine, settings, clock).suppressed == 1
    assert _opted_in(sandbox) == ["false"]
    with engine.begin() as connection:  # something is there although nothing was ever delivered
        assert withdraw(connection, {contact.contact_id: None}, tenant="acme", now=NOW) == (1, 0)


def test_a_withdrawal_of_who_is_listed_is_told(engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer) -> None:
    settings = _telling(sandbox)
    [contact] = add_contacts(engine, consent=GRANTED, email="ada@listed.example")
    sync(engine, settings, clock)
    _list(engine, settings, SuppressionKind.EMAIL, "ada@listed.example")
    change(engine, contact, first_name="Augusta")
    assert sync(engine, settings, clock).requests == 0  # only a withdrawal is told
    _say(engine, contact, WITHDRAWN, version=3)
    sync(engine, settings, clock)
    assert _opted_in(sandbox) == ["false"]
    row = row_of(engine, contact)
    assert (row["state"], row["suppressed_for"]) == ("suppressed", "listed")


@pytest.mark.parametrize("gone", ["archived by us", "deleted by people"])
def test_a_withdrawal_makes_no_record_of_who_is_not_there_any_more(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer, gone: str
) -> None:
    settings = _telling(sandbox)
    [contact] = add_contacts(engine, consent=GRANTED)
    [other] = add_contacts(engine, consent=GRANTED)
    sync(engine, settings, clock)
    if gone == "archived by us":
        with engine.begin() as connection:
            withdraw(connection, {contact.contact_id: None}, tenant="acme", now=NOW)
        sync(engine, settings, clock)
    else:
        people_did(sandbox, "batch/archive", {"inputs": [{"id": row_of(engine, contact)["crm_record_id"]}]})
    for version, person in ((4, contact), (2, other)):
        _say(engine, person, WITHDRAWN, version=version)
    assert sync(engine, settings, clock).suppressed == 2
    assert _opted_in(sandbox) == ["false"]
    row = row_of(engine, contact)
    assert (row["state"], row["suppressed_for"], row["snapshot"]) == ("suppressed", "withdrawn", {})
    _say(engine, contact, GRANTED, version=5)
    assert sync(engine, settings, clock).delivered == 1
    assert sorted(_opted_in(sandbox)) == ["false", "true"]


def test_a_withdrawal_is_told_to_the_record_that_a_contact_is_to_take_over(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    settings = _telling(sandbox)
    [loser] = add_contacts(engine, consent=GRANTED)
    [survivor] = add_contacts(engine, consent=WITHDRAWN)
    sync(engine, settings, clock)
    with engine.begin() as connection:
        connection.execute(golden_contacts.delete().where(golden_contacts.c.contact_id == loser.contact_id))
        withdraw(
            connection,
            {loser.contact_id: Lane.REAL_TIME},
            survivors={loser.contact_id: survivor.contact_id},
            hand_on=["hubspot"],
            tenant="acme",
            now=NOW,
        )
    _say(engine, survivor, WITHDRAWN, version=2)
    requests = [sync(engine, settings, clock).requests for _ in range(2)]
    assert requests == [3, 0]  # told once
    assert _opted_in(sandbox) == ["false"]
    _say(engine, survivor, GRANTED, version=3)
    assert sync(engine, settings, clock).delivered == 1
    [there] = sandbox.contacts()
    assert (there["properties"]["lead_key"], there["properties"]["jobtitle"]) == (str(survivor.contact_id), "true")


def _telling(sandbox: SandboxServer) -> Settings:
    """Settings with consent in the mapping."""
    settings = settings_for(sandbox.base_url)
    hubspot = settings.destinations["hubspot"]
    mapping = {**hubspot.mapping, "consent.marketing.email": "jobtitle"}  # a text property that every account has
    return settings.model_copy(update={"destinations": {"hubspot": hubspot.model_copy(update={"mapping": mapping})}})


def _opted_in(sandbox: SandboxServer) -> list[str]:
    return [record["properties"]["jobtitle"] for record in sandbox.contacts()]


def test_a_destination_may_ask_for_consent_or_for_nothing(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [silent] = add_contacts(engine)
    settings = settings_for(sandbox.base_url)

    def asking(require: str) -> Settings:
        hubspot = settings.destinations["hubspot"]
        gate = hubspot.gate.model_copy(update={"require": require})
        return settings.model_copy(update={"destinations": {"hubspot": hubspot.model_copy(update={"gate": gate})}})

    assert sync(engine, asking("granted"), clock).suppressed == 1
    assert row_of(engine, silent)["suppressed_for"] == "no_consent"
    assert sync(engine, asking("nothing"), clock).delivered == 0  # nobody asked for it again
    assert suppressed_contacts.judge_again(engine, tenant="acme", destination=None, clock=clock) == 1
    assert sync(engine, asking("nothing"), clock).delivered == 1


def test_who_must_not_be_sent_may_still_be_archived(
    engine: sa.Engine, clock: FrozenClock, sandbox: SandboxServer
) -> None:
    [contact] = add_contacts(engine, email="ada@listed.example")
    settings = settings_for(sandbox.base_url)
    sync(engine, settings, clock)
    _list(engine, settings, SuppressionKind.EMAIL, "ada@listed.example")
    merge_away(engine, contact)
    assert sync(engine, settings, clock).delivered == 1
    assert list(sandbox.contacts()) == []


def test_what_is_no_address_and_whose_tenant_or_destination_is_unknown_is_refused_with_what_to_do(
    engine: sa.Engine, sandbox: SandboxServer
) -> None:
    settings = settings_for(sandbox.base_url)
    with pytest.raises(ConfigError, match="is no email"):
        _list(engine, settings, SuppressionKind.EMAIL, "nobody")
    with pytest.raises(ConfigError, match="nobody"):
        suppressed_contacts.named(settings, tenant="nobody", kind=SuppressionKind.EMAIL, value="ada@listed.example")
    with pytest.raises(ConfigError, match="is no destination of acme"):
        _list(engine, settings, SuppressionKind.EMAIL, "ada@listed.example", destination="nowhere")


def test_the_list_holds_no_address(engine: sa.Engine, sandbox: SandboxServer) -> None:
    _list(engine, settings_for(sandbox.base_url), SuppressionKind.EMAIL, "ada@listed.example")
    with engine.connect() as connection:
        [kept] = connection.execute(sa.text("select s::text from suppressions s")).scalars()
    assert "ada" not in kept
    assert "listed" not in kept
