"""The sandbox against a model of a dozen lines, and against requests that nobody would write by hand."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from leads_pipeline.crm.sandbox.hubspot.endpoints import ENDPOINTS, Endpoint
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.running import SandboxServer, running_sandbox
from leads_pipeline_tests.crm.sandbox.conftest import Api, entry

KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])
EMAILS = st.sampled_from(["", "ann@example.com", "Ann@Example.com", "bob@example.com", "eve@example.com"])
INPUTS = st.lists(st.tuples(KEYS, st.none() | EMAILS, st.sampled_from(["Vienna", "Graz"])), min_size=1, max_size=4)


class SandboxMachine(RuleBasedStateMachine):
    """Upserts, archives, merges. ``living`` is what must be there by key, ``secondary`` the e-mails of merged ones."""

    sandbox: SandboxServer
    api: Api

    @initialize()
    def begin(self) -> None:
        self.sandbox.reset()
        self.living: dict[str, dict[str, str]] = {}
        self.secondary: dict[str, str] = {}  # e-mail: key
        self.ids: dict[str, str] = {}
        self.former: dict[str, str] = {}  # id: key
        self.writes: dict[str, int] = {}
        self.archived = 0

    @rule(inputs=INPUTS, traced=st.booleans())
    def upsert(self, inputs: list[tuple[str, str | None, str]], traced: bool) -> None:
        after = {key: dict(values) for key, values in self.living.items()}
        secondary = dict(self.secondary)
        refused = 0
        for key, email, city in inputs:
            folded = None if email is None else email.lower()
            holders = {values["email"]: other for other, values in after.items()} | secondary
            if folded and holders.get(folded, key) != key:
                refused += 1
                continue
            values = after.setdefault(key, {"lead_key": key, "email": ""})
            values["city"] = city
            if folded is not None:
                values["email"] = folded
                secondary.pop(folded, None)

        response = self.api.upsert(
            *(
                entry(
                    key,
                    trace=str(place) if traced else None,
                    lead_key=key,
                    city=city,
                    **({} if email is None else {"email": email}),
                )
                for place, (key, email, city) in enumerate(inputs)
            )
        )

        if len({key for key, _, _ in inputs}) < len(inputs):
            assert response.status_code == 400
        elif refused and not traced:
            assert response.status_code == 409
        else:
            results = response.json()["results"]
            assert response.status_code == (207 if refused else 200)
            assert len(results) == len(inputs) - refused
            for result in results:
                key = result["properties"]["lead_key"]
                assert result["new"] is (key not in self.living)
                assert self.ids.setdefault(key, result["id"]) == result["id"]
                self.writes[key] = self.writes.get(key, 0) + 1
            self.living, self.secondary = after, secondary

    @rule(key=KEYS)
    def archive(self, key: str) -> None:
        if key not in self.living:
            return
        assert self.api.post("/batch/archive", {"inputs": [{"id": self.ids.pop(key)}]}).status_code == 204
        del self.living[key]
        self.secondary = {email: holder for email, holder in self.secondary.items() if holder != key}
        self.former = {former: holder for former, holder in self.former.items() if holder != key}
        self.archived += 1

    @rule(primary=KEYS, other=KEYS)
    def merge(self, primary: str, other: str) -> None:
        if primary == other or not {primary, other} <= self.living.keys():
            return
        both = {"primaryObjectId": self.ids[primary], "objectIdToMerge": self.ids.pop(other)}
        self.ids[primary] = self.api.post("/merge", both).json()["id"]
        self.former = {former: primary if key == other else key for former, key in self.former.items()}
        self.former |= dict.fromkeys(both.values(), primary)
        gone = self.living.pop(other)
        self.secondary = {email: primary if key == other else key for email, key in self.secondary.items()}
        if not self.living[primary]["email"]:
            self.living[primary]["email"] = gone["email"]
        elif gone["email"]:
            self.secondary[gone["email"]] = primary

    @invariant()
    def the_sandbox_holds_what_the_model_holds(self) -> None:
        held = {
            contact["properties"]["lead_key"]: {
                name: contact["properties"].get(name, "") for name in ("lead_key", "email", "city")
            }
            for contact in self.sandbox.contacts()
        }
        assert held == self.living
        assert {email: self.api.get(f"/{email}", idProperty="email").json()["id"] for email in self.secondary} == {
            email: self.ids[key] for email, key in self.secondary.items()
        }
        assert {former: self.api.get(f"/{former}").json()["id"] for former in self.former} == {
            former: self.ids[key] for former, key in self.former.items()
        }
        report = self.sandbox.report()
        assert (report["contacts"], report["archived"], report["duplicates"]) == (len(self.living), self.archived, 0)
        assert self.sandbox.writes_per_lead_key() == self.writes


@pytest.fixture(scope="module")
def unlimited() -> Iterator[tuple[SandboxServer, Api]]:
    with running_sandbox(HubSpotOptions().without_limits(), random=Random(7)) as sandbox:
        api = Api(sandbox.base_url)
        yield sandbox, api
        api.http.close()


def test_the_sandbox_agrees_with_the_model(unlimited: tuple[SandboxServer, Api]):
    class Machine(SandboxMachine):
        sandbox, api = unlimited

    run_state_machine_as_test(Machine, settings=settings(max_examples=60, stateful_step_count=25, deadline=None))


NAMES = st.sampled_from(
    ["inputs", "id", "idProperty", "properties", "objectWriteTraceId", "filterGroups", "filters", "propertyName",
     "operator", "value", "values", "highValue", "sorts", "limit", "after", "query", "primaryObjectId",
     "objectIdToMerge", "objectId", "name", "label", "type", "fieldType", "groupName", "options", "email", "city"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["email", "lead_key", "city", "EQ", "IN", "BETWEEN", "string", "-city", "a@example.com", "1", ""]
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    endpoint=st.sampled_from([endpoint for endpoint in ENDPOINTS if endpoint.method in ("POST", "PATCH")]),
    document=DOCUMENTS,
)
def test_no_json_makes_the_sandbox_itself_fail(unlimited: tuple[SandboxServer, Api], endpoint: Endpoint, document: Any):
    path = (endpoint.prefixes[0] + endpoint.path).format(object_type="contacts", id="1", name="x")

    response = unlimited[1].http.request(endpoint.method, path, json=document)

    assert response.status_code < 500
    assert response.json() if response.content else response.status_code == 204


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    path=st.sampled_from(["", "/1", "/a%00b", "/%ff", "/" + "9" * 19]),
    query=st.dictionaries(
        st.sampled_from(["limit", "after", "idProperty", "properties", "archived"]), WORDS | st.text()
    ),
)
def test_no_query_makes_the_sandbox_itself_fail(unlimited: tuple[SandboxServer, Api], path: str, query: dict[str, str]):
    assert unlimited[1].get(path, **query).status_code < 500
