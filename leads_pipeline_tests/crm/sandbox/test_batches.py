"""Batches: all or nothing, or one verdict for each input."""

from typing import Any

import pytest

from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline_tests.crm.sandbox.conftest import Api, Started, entry


def keys_of(sandbox: SandboxServer) -> set[str]:
    return {contact["properties"].get("lead_key", "") for contact in sandbox.contacts()}


def test_an_upsert_creates_then_updates_and_says_which(api: Api, sandbox: SandboxServer):
    first = api.upsert(entry("k1", email="ann@example.com", firstname="Ann")).json()["results"][0]
    second = api.upsert(entry("k1", firstname="Anna", phone="+1 555 0100")).json()["results"][0]

    assert (first["new"], second["new"]) == (True, False)
    assert first["id"] == second["id"]
    (contact,) = sandbox.contacts()
    assert contact["properties"]["firstname"] == "Anna"
    assert contact["properties"]["email"] == "ann@example.com"
    assert contact["properties"]["lead_key"] == "k1"


def test_an_upsert_echoes_what_was_sent_and_not_the_whole_record(api: Api):
    api.upsert(entry("k1", email="ann@example.com", company="Acme"))

    properties = api.upsert(entry("k1", firstname="Anna")).json()["results"][0]["properties"]

    assert properties["firstname"] == "Anna"
    assert "company" not in properties
    assert "email" not in properties


def test_results_do_not_come_in_the_order_of_the_inputs(api: Api):
    keys = [f"k{number:02}" for number in range(20)]

    results = api.upsert(*(entry(key, trace=key) for key in keys)).json()["results"]

    order = [result["objectWriteTraceId"] for result in results]
    assert order != keys
    assert sorted(order) == keys


def test_an_account_that_does_not_echo_trace_ids_can_be_played(started: Started):
    with started(echo_trace_ids=False) as (_sandbox, api):
        result = api.upsert(entry("k1", trace="t1")).json()["results"][0]

    assert "objectWriteTraceId" not in result
    assert result["properties"]["lead_key"] == "k1"


def test_emails_come_back_in_lower_case(api: Api):
    result = api.upsert(entry("k1", email=" Ann@Example.COM ")).json()["results"][0]

    assert result["properties"]["email"] == "ann@example.com"


def test_without_trace_ids_one_wrong_input_leaves_nothing_written(api: Api, sandbox: SandboxServer):
    response = api.upsert(entry("k1", email="a@example.com"), entry("k2", email="not an address"))

    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "INVALID_EMAIL"
    assert keys_of(sandbox) == set()
    assert sandbox.report()["records_written"] == 0


def test_with_a_trace_id_each_every_input_has_its_own_verdict(api: Api, sandbox: SandboxServer):
    response = api.upsert(
        entry("k1", trace="t1", email="a@example.com"),
        entry("k2", trace="t2", email="not an address"),
        entry("k3", trace="t3", nope="x"),
    )

    body = response.json()
    assert response.status_code == 207
    assert [result["objectWriteTraceId"] for result in body["results"]] == ["t1"]
    assert body["numErrors"] == 2
    assert {error["context"]["objectWriteTraceId"][0]: error["category"] for error in body["errors"]} == {
        "t2": "VALIDATION_ERROR",
        "t3": "VALIDATION_ERROR",
    }
    assert keys_of(sandbox) == {"k1"}


@pytest.mark.parametrize("traces", [("t1", None), ("same", "same")])
def test_trace_ids_that_are_missing_or_repeated_do_not_count(
    api: Api, sandbox: SandboxServer, traces: tuple[str | None, str | None]
):
    response = api.upsert(entry("k1", trace=traces[0]), entry("k2", trace=traces[1], nope="x"))

    assert response.status_code == 400
    assert keys_of(sandbox) == set()


@pytest.mark.parametrize(
    ("by", "keys"), [("lead_key", ("k1", "k1")), ("email", ("ann@example.com", "Ann@Example.com "))]
)
def test_a_repeated_id_refuses_the_whole_batch_even_with_trace_ids(
    api: Api, sandbox: SandboxServer, by: str, keys: tuple[str, str]
):
    response = api.upsert(*(entry(key, trace=str(place), by=by) for place, key in enumerate(keys)))

    assert response.status_code == 400
    assert response.json()["context"]["ids"] == [keys[0]]
    assert list(sandbox.contacts()) == []


def test_a_hundred_inputs_are_taken_and_one_more_is_refused(api: Api, sandbox: SandboxServer):
    inputs = [entry(f"k{number}") for number in range(101)]

    assert api.upsert(*inputs[:100]).status_code == 200
    assert api.upsert(*inputs).status_code == 400
    assert sandbox.report()["contacts"] == 100


def test_an_email_of_another_contact_is_a_conflict_that_names_it(api: Api, sandbox: SandboxServer):
    holder = api.upsert(entry("k1", email="ann@example.com")).json()["results"][0]["id"]

    traced = api.upsert(entry("k2", trace="t", email="ANN@example.com"), entry("k3", trace="u"))
    untraced = api.upsert(entry("k2", email="ANN@example.com"), entry("k4"))

    error = traced.json()["errors"][0]
    assert (traced.status_code, error["category"], error["context"]["existingId"]) == (207, "CONFLICT", [holder])
    assert (untraced.status_code, untraced.json()["category"]) == (409, "CONFLICT")
    assert keys_of(sandbox) == {"k1", "k3"}


def test_two_inputs_with_one_email_conflict_with_each_other(api: Api, sandbox: SandboxServer):
    response = api.upsert(entry("k1", email="ann@example.com"), entry("k2", email="ann@example.com"))

    assert response.status_code == 409
    assert keys_of(sandbox) == set()


def test_a_key_of_another_contact_is_not_taken_over_by_an_update(api: Api):
    api.upsert(entry("k1"))
    other = api.create(email="bob@example.com")

    response = api.post("/batch/update", {"inputs": [{"id": other, "properties": {"lead_key": "k1"}}]})

    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "CONFLICTING_UNIQUE_VALUE"


def test_a_contact_without_our_key_is_linked_by_an_update(api: Api):
    existing = api.create(email="ann@example.com")

    api.post("/batch/update", {"inputs": [{"id": existing, "properties": {"lead_key": "k1"}}]})

    result = api.upsert(entry("k1", firstname="Ann")).json()["results"][0]
    assert (result["id"], result["new"]) == (existing, False)


def test_an_upsert_by_email_finds_the_contact_whatever_the_case(api: Api):
    first = api.upsert(entry("ann@example.com", by="email", firstname="Ann")).json()["results"][0]
    second = api.upsert(entry("ANN@example.com", by="email", lastname="Lee")).json()["results"][0]

    assert (second["id"], second["new"]) == (first["id"], False)


def test_a_changed_email_frees_the_old_one(api: Api):
    api.upsert(entry("k1", email="old@example.com"))
    api.upsert(entry("k1", email="new@example.com"))

    assert api.upsert(entry("k2", email="old@example.com")).json()["results"][0]["new"] is True
    assert api.upsert(entry("k3", email="new@example.com")).status_code == 409


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([{"properties": {}}], "[id]"),
        ([{"id": "k1", "idProperty": "lead_key"}], "[properties]"),
        ([{"id": "k1", "idProperty": "company", "properties": {}}], "not a unique property"),
        ([{"id": "k1", "idProperty": "nope", "properties": {}}], "does not exist"),
        ([{"id": "k1", "idProperty": "lead_key", "properties": {"firstname": ["Ann"]}}], "Cannot deserialize"),
        ([], "no inputs"),
        ("k1", "must be a list"),
        (["k1"], "must be a list"),
    ],
)
def test_an_upsert_that_is_not_well_formed_is_refused(api: Api, inputs: Any, said: str):
    response = api.post("/batch/upsert", {"inputs": inputs})

    assert response.status_code == 400
    assert response.json()["category"] == "VALIDATION_ERROR"
    assert said in response.json()["message"]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("email", "ann@example", "INVALID_EMAIL"),
        ("email", "ann@@example.com", "INVALID_EMAIL"),
        ("lifecyclestage", "nobody", "INVALID_OPTION"),
        ("hs_object_id", "1", "READ_ONLY_VALUE"),
        ("employees", "many", "INVALID_INTEGER"),
        ("born", "2026-02-30", "INVALID_DATE"),
        ("born", "1760000000001", "INVALID_DATE"),
        ("firstname", "x" * 65_537, "PROPERTY_VALUE_TOO_LONG"),
    ],
)
def test_a_value_that_does_not_fit_its_property_has_a_code(api: Api, name: str, value: str, code: str):
    for custom, kind in (("employees", "number"), ("born", "date")):
        definition = {
            "name": custom,
            "label": custom,
            "type": kind,
            "fieldType": kind,
            "groupName": "contactinformation",
        }
        assert api.http.post("/crm/v3/properties/contacts", json=definition).status_code == 201

    response = api.upsert(entry("k1", **{name: value}))

    assert response.status_code == 400
    assert [error["code"] for error in response.json()["errors"]] == [code]


def test_numbers_and_booleans_are_kept_as_text_and_an_empty_text_clears(api: Api, sandbox: SandboxServer):
    api.upsert(entry("k1", company="Acme", city="Vienna", zip=1010, message=True))
    api.upsert(entry("k1", company="", city=None))

    (contact,) = sandbox.contacts()
    assert contact["properties"]["zip"] == "1010"
    assert contact["properties"]["message"] == "true"
    assert "company" not in contact["properties"]
    assert "city" not in contact["properties"]


def test_archiving_a_batch_takes_contacts_away_and_ignores_unknown_ones(api: Api, sandbox: SandboxServer):
    first, second = (api.create(email=f"p{number}@example.com") for number in range(2))

    response = api.post("/batch/archive", {"inputs": [{"id": first}, {"id": "999"}]})

    assert (response.status_code, response.content) == (204, b"")
    assert [contact["id"] for contact in sandbox.contacts()] == [second]
    assert [contact["id"] for contact in sandbox.contacts(archived=True)] == [first]


def test_an_archived_contact_gives_its_email_and_key_free(api: Api, sandbox: SandboxServer):
    first = api.upsert(entry("k1", email="ann@example.com")).json()["results"][0]["id"]
    api.post("/batch/archive", {"inputs": [{"id": first}]})

    again = api.upsert(entry("k1", email="ann@example.com")).json()["results"][0]

    assert again["new"] is True
    assert again["id"] != first
    assert sandbox.writes_per_lead_key() == {"k1": 2}


def test_reading_a_batch_names_what_is_not_there(api: Api):
    api.upsert(entry("k1", email="ann@example.com", company="Acme"))
    body = {"idProperty": "lead_key", "properties": ["company", "city"], "inputs": [{"id": "k1"}, {"id": "k2"}]}

    response = api.post("/batch/read", body)

    assert response.status_code == 207
    properties = response.json()["results"][0]["properties"]
    assert (properties["company"], properties["city"]) == ("Acme", None)
    assert "email" not in properties
    assert response.json()["errors"][0]["context"] == {"ids": ["k2"]}
