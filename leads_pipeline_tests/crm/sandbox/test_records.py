"""One contact at a time, search, merge, erasure, and the account's properties."""

from typing import Any

import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline.crm.sandbox.running import SandboxServer
from leads_pipeline_tests.crm.sandbox.conftest import CONTACTS, Api, Started, entry

PROPERTIES = "/crm/v3/properties/contacts"


def test_a_contact_is_created_read_updated_and_archived(api: Api):
    contact = api.create(email="ann@example.com", firstname="Ann")

    read = api.get(f"/{contact}", properties="firstname,city")
    patched = api.http.patch(f"{CONTACTS}/{contact}", json={"properties": {"city": "Vienna"}})
    deleted = api.http.delete(f"{CONTACTS}/{contact}")

    assert read.json()["properties"]["firstname"] == "Ann"
    assert read.json()["properties"]["city"] is None
    assert (patched.status_code, patched.json()["properties"]["city"]) == (200, "Vienna")
    assert deleted.status_code == 204
    assert api.get(f"/{contact}").status_code == 404
    assert api.get(f"/{contact}", archived="true").json()["archived"] is True


def test_a_contact_is_found_by_a_unique_property(api: Api):
    api.upsert(entry("k1", email="ann@example.com"))

    assert api.get("/Ann@Example.com", idProperty="email").status_code == 200
    assert api.get("/k1", idProperty="lead_key").status_code == 200
    assert api.get("/k1").status_code == 404


def test_creating_an_email_twice_names_the_existing_contact(api: Api):
    contact = api.create(email="ann@example.com")

    response = api.post("", {"properties": {"email": "Ann@example.com"}})

    assert response.status_code == 409
    assert response.json()["message"] == f"Contact already exists. Existing ID: {contact}"
    assert "context" not in response.json()


def test_what_is_not_there_cannot_be_read_updated_or_merged(api: Api):
    responses = [
        api.get("/999"),
        api.get("/" + "9" * 30),
        api.http.patch(f"{CONTACTS}/999", json={"properties": {"city": "Vienna"}}),
        api.post("/merge", {"primaryObjectId": "998", "objectIdToMerge": "999"}),
        api.post("/gdpr-delete", {"objectId": "999"}),
    ]

    assert [response.status_code for response in responses] == [404] * 5
    assert {response.json()["category"] for response in responses} == {"OBJECT_NOT_FOUND"}
    assert api.http.delete(f"{CONTACTS}/999").status_code == 204


def test_contacts_are_listed_in_pages(api: Api):
    made = [api.create(email=f"p{number}@example.com") for number in range(5)]

    listed: list[str] = []
    after = ""
    while True:
        page = api.get(limit="2", after=after).json()
        listed += [contact["id"] for contact in page["results"]]
        if "paging" not in page:
            break
        after = page["paging"]["next"]["after"]

    assert listed == made


@pytest.mark.parametrize("keeps", [False, True])
def test_a_merge_leaves_one_contact_that_both_ids_and_both_emails_lead_to(started: Started, keeps: bool):
    with started(merge_keeps_primary_id=keeps) as (sandbox, api):
        primary = api.upsert(entry("k1", email="ann@example.com", city="Vienna")).json()["results"][0]["id"]
        other = api.upsert(entry("k2", email="ann@work.example", company="Acme")).json()["results"][0]["id"]

        merged = api.post("/merge", {"primaryObjectId": primary, "objectIdToMerge": other}).json()

        assert (merged["id"] == primary) is keeps
        assert merged["properties"]["company"] == "Acme"
        assert merged["properties"]["hs_additional_emails"] == "ann@work.example"
        assert merged["properties"]["lead_key"] == "k1"
        for path, query in ((primary, None), (other, None), ("ann@work.example", "email"), ("k1", "lead_key")):
            found = api.get(f"/{path}", **({"idProperty": query} if query else {}))
            assert found.json()["id"] == merged["id"]
        assert api.upsert(entry("k3", email="ann@work.example")).status_code == 409
        assert [contact["id"] for contact in sandbox.contacts()] == [merged["id"]]


def test_a_secondary_email_may_become_the_primary_one(api: Api):
    primary = api.create(email="ann@example.com")
    other = api.create(email="ann@work.example")
    merged = api.post("/merge", {"primaryObjectId": primary, "objectIdToMerge": other}).json()["id"]

    changed = api.http.patch(f"{CONTACTS}/{merged}", json={"properties": {"email": "ann@work.example"}})

    assert changed.status_code == 200
    assert api.get("/ann@work.example", idProperty="email").json()["id"] == merged


def test_a_profile_holds_at_most_250_merges(started: Started):
    with started(requests=None, daily=None) as (_sandbox, api):
        survivor = api.create(email="p0@example.com")
        for start in range(1, 252, 100):
            emails = [f"p{number}@example.com" for number in range(start, min(start + 100, 252))]
            made = api.post("/batch/create", {"inputs": [{"properties": {"email": email}} for email in emails]})
            for contact in made.json()["results"]:
                response = api.post("/merge", {"primaryObjectId": survivor, "objectIdToMerge": contact["id"]})
                survivor = response.json().get("id", survivor)

    assert response.status_code == 414
    assert "250" in response.json()["message"]


def test_an_erased_contact_is_gone_and_its_email_is_refused_from_then_on(api: Api, sandbox: SandboxServer):
    api.upsert(entry("k1", email="ann@example.com"))

    erased = api.post("/gdpr-delete", {"objectId": "Ann@example.com", "idProperty": "email"})

    assert erased.status_code == 204
    assert list(sandbox.contacts()) == list(sandbox.contacts(archived=True)) == []
    assert api.upsert(entry("k1", email="ANN@example.com")).status_code == 400


def test_an_unknown_email_can_be_blocked(api: Api):
    assert api.post("/gdpr-delete", {"objectId": "bob@example.com", "idProperty": "email"}).status_code == 204

    assert api.post("", {"properties": {"email": "bob@example.com"}}).status_code == 400


def test_search_lags_behind_writes(api: Api, clock: FrozenClock):
    api.create(email="ann@example.com")
    query = {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "EQ", "value": "ann@example.com"}]}]}

    before = api.post("/search", query).json()
    clock.advance(2)
    after = api.post("/search", query).json()

    assert before == {"total": 0, "results": []}
    assert after["total"] == 1
    assert after["results"][0]["properties"]["email"] == "ann@example.com"


@pytest.mark.parametrize(
    ("test", "found"),
    [
        ({"propertyName": "city", "operator": "EQ", "value": "vienna"}, "ab"),
        ({"propertyName": "city", "operator": "NEQ", "value": "Vienna"}, "c"),
        ({"propertyName": "zip", "operator": "GT", "value": "9"}, "bc"),
        ({"propertyName": "zip", "operator": "BETWEEN", "value": "5", "highValue": "10"}, "ab"),
        ({"propertyName": "zip", "operator": "LTE", "value": "5"}, "a"),
        ({"propertyName": "city", "operator": "IN", "values": ["graz"]}, "c"),
        ({"propertyName": "city", "operator": "NOT_IN", "values": ["graz"]}, "ab"),
        ({"propertyName": "company", "operator": "HAS_PROPERTY"}, "b"),
        ({"propertyName": "company", "operator": "NOT_HAS_PROPERTY"}, "ac"),
        ({"propertyName": "email", "operator": "CONTAINS_TOKEN", "value": "*@example.com"}, "ab"),
        ({"propertyName": "email", "operator": "NOT_CONTAINS_TOKEN", "value": "example"}, "c"),
    ],
)
def test_search_filters(api: Api, clock: FrozenClock, test: dict[str, Any], found: str):
    api.upsert(
        entry("a", email="a@example.com", city="Vienna", zip="5"),
        entry("b", email="b@example.com", city="Vienna", zip="10", company="Acme"),
        entry("c", email="c@other.net", city="Graz", zip="900"),
    )
    clock.advance(5)

    body = {"filterGroups": [{"filters": [test]}], "sorts": ["lead_key"], "properties": ["lead_key"]}
    results = api.post("/search", body).json()["results"]

    assert "".join(result["properties"]["lead_key"] for result in results) == found


def test_search_sorts_pages_and_looks_for_text(api: Api, clock: FrozenClock):
    api.upsert(*(entry(f"k{number}", firstname="Ann" if number % 2 else "Bob", zip=number) for number in range(9)))
    clock.advance(5)
    body = {"query": "ann", "sorts": [{"propertyName": "zip", "direction": "DESCENDING"}], "limit": 3}

    first = api.post("/search", body).json()
    second = api.post("/search", {**body, "after": first["paging"]["next"]["after"], "properties": ["zip"]}).json()

    assert (first["total"], len(first["results"])) == (4, 3)
    assert [result["properties"]["zip"] for result in second["results"]] == ["1"]
    assert "paging" not in second


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"limit": 100, "after": "9901"},
        {"query": "x" * 3_001},
        {"filterGroups": [{"filters": []}] * 6},
        {"filterGroups": [{"filters": [{"propertyName": "city", "operator": "HAS_PROPERTY"}] * 7}]},
        {"filterGroups": [{"filters": [{"propertyName": "nope", "operator": "EQ", "value": "x"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "city", "operator": "LIKE", "value": "x"}]}]},
    ],
)
def test_search_refuses_what_is_over_its_limits(api: Api, body: dict[str, Any]):
    assert api.post("/search", body).status_code == 400


def test_the_unique_key_property_is_there_from_the_start(started: Started):
    with started(key_property="our_key") as (sandbox, api):
        shown = api.http.get(f"{PROPERTIES}/our_key").json()
        api.upsert(entry("k1", by="our_key"))

        assert (shown["hasUniqueValue"], shown["hubspotDefined"]) == (True, False)
        assert sandbox.writes_per_lead_key() == {"k1": 1}


def test_custom_properties_can_be_there_from_the_start(started: Started):
    with started(custom_properties=("utm_source",)) as (_sandbox, api):
        assert api.upsert(entry("k1", utm_source="newsletter")).status_code == 200


def test_a_property_is_made_listed_and_used(api: Api):
    definition = {
        "name": "score", "label": "Score", "type": "enumeration", "fieldType": "select",
        "groupName": "contactinformation", "options": [{"label": "A", "value": "a"}],
    }  # fmt: skip
    assert api.upsert(entry("k1", score="a")).status_code == 400

    made = api.http.post(PROPERTIES, json=definition)

    assert made.status_code == 201
    assert "score" in {item["name"] for item in api.http.get(PROPERTIES).json()["results"]}
    assert api.http.get("/crm/properties/2026-03/contacts/score").json() == made.json()
    assert api.upsert(entry("k1", score="a")).status_code == 200
    assert api.upsert(entry("k1", score="b")).status_code == 400
    assert api.http.post(PROPERTIES, json=definition).status_code == 409
    assert api.http.get(f"{PROPERTIES}/nope").status_code == 404


def test_an_object_has_at_most_ten_unique_properties(api: Api):
    statuses = [
        api.http.post(
            PROPERTIES,
            json={"name": f"key{number}", "label": "Key", "type": "string", "fieldType": "text", "groupName": "g",
                  "hasUniqueValue": True},
        ).status_code
        for number in range(10)
    ]  # fmt: skip

    assert statuses == [201] * 9 + [400]  # lead_key is the tenth


def test_a_body_that_is_not_json_is_told_apart_by_its_kind(api: Api):
    path = f"{CONTACTS}/batch/upsert"
    json_header = {"Content-Type": "application/json"}

    assert api.http.post(path, content=b"{", headers=json_header).status_code == 400
    assert api.http.post(path, content=b"[]", headers=json_header).status_code == 400
    assert api.http.post(path, content=b'{"inputs":"\xff"}', headers=json_header).status_code == 400
    assert api.http.post(path, content=b"[" * 100_000, headers=json_header).status_code == 400
    assert api.http.post(path, content=b"a=b", headers={"Content-Type": "text/plain"}).status_code == 415
    assert api.http.post(path, content=b" " * (16 * 1024 * 1024 + 1), headers=json_header).status_code == 413


def test_an_address_that_is_not_hubspots_is_not_found(api: Api, sandbox: SandboxServer):
    assert api.http.get("/contacts/v1/contact/vid/1").status_code == 404
    assert sandbox.report()["endpoints"] == {"unknown": 1}
