"""What is looked up and billed, faults, and the control side."""

import json
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from leads_pipeline.cli import cli
from leads_pipeline.errors import LeadsError
from leads_pipeline_tests.verification.sandbox.conftest import Started, neverbounce_job, zerobounce_batch


def test_a_look_up_that_is_repeated_is_seen(started: Started):
    with started("zerobounce") as (sandbox, http):
        zerobounce_batch(http, "ada@acme.example", "bob@acme.example", "greylisted@acme.example")
        zerobounce_batch(http, "ADA@acme.example", "greylisted@acme.example")
        report = sandbox.report()

        assert (report["looked_up"], report["looked_up_twice"]) == (5, 2)
        assert (report["billed"], report["billed_twice"]) == (3, 1)  # what is unknown is never billed
        assert sandbox.lookups(at_least=2) == {
            "ada@acme.example": {"looked_up": 2, "billed": 2},
            "greylisted@acme.example": {"looked_up": 2, "billed": 0},
        }
        assert report["verdicts"] == {"unknown": 2, "valid": 3}


def test_the_look_ups_are_listed_in_pages(started: Started):
    with started("zerobounce") as (sandbox, http):
        zerobounce_batch(http, *(f"a{number}@acme.example" for number in range(5)))
        page = http.get("/_sandbox/lookups", params={"limit": 2}).json()
        wrong = http.get("/_sandbox/lookups", params={"limit": "x"})

        assert (list(page["lookups"]), page["after"]) == (["a0@acme.example", "a1@acme.example"], "a1@acme.example")
        assert wrong.status_code == 400
        assert len(sandbox.lookups()) == 5


def test_a_batch_that_cannot_be_paid_is_not_looked_up(started: Started):
    with started("zerobounce", credit=3) as (sandbox, http):
        zerobounce_batch(http, "a@acme.example", "b@acme.example")
        refused = zerobounce_batch(http, "c@acme.example", "d@acme.example")

        assert refused.json()["email_batch"] == []
        assert (sandbox.report()["credit_left"], sandbox.report()["looked_up"]) == (1, 2)


@pytest.mark.parametrize("kind", ["timeout", "reset_connection", "answered_then_lost"])
def test_a_lost_answer_is_billed_only_if_it_was_made(started: Started, kind: str):
    with started("zerobounce") as (sandbox, http):
        sandbox.set_faults([{"kind": kind, "count": 1}])
        http.timeout = httpx.Timeout(30, read=1 if kind == "timeout" else 30)
        with pytest.raises(httpx.HTTPError):
            zerobounce_batch(http, "ada@acme.example")
        report = sandbox.report()

        assert report["billed"] == (1 if kind == "answered_then_lost" else 0)
        assert (report["unanswered"], report["faults"]) == (1, {kind: 1})


def test_a_throttle_storm_ends_after_its_count_and_shuts_no_door(started: Started):
    with started("neverbounce") as (sandbox, http):
        sandbox.set_faults([{"kind": "throttle", "count": 3, "endpoint": "jobs/create"}])
        said = [neverbounce_job(http, "ada@acme.example")["status"] for _ in range(4)]

        assert said == ["throttle_triggered"] * 3 + ["success"]
        assert (sandbox.report()["throttled"], sandbox.report()["calls_over_limit"]) == (3, 0)


@pytest.mark.parametrize(
    ("vendor", "path", "query"),
    [
        ("kickbox", "/v2/verify", {"apikey": "live_k", "email": "Ada@Bad.example"}),
        ("hunter", "/v2/email-verifier", {"api_key": "k", "email": "Ada@Bad.example"}),
    ],
)
def test_a_rule_can_be_about_one_address_in_a_query(started: Started, vendor: Any, path: str, query: dict[str, str]):
    with started(vendor) as (sandbox, http):
        sandbox.set_faults([{"kind": "http_503", "match": "@bad.example"}])

        assert http.get(path, params=query).status_code == 503
        assert http.get(path, params=query | {"email": "valid@good.example"}).status_code == 200


@pytest.mark.parametrize("kind", ["http_429", "per_record_error", "written_then_500", "no_such_kind"])
def test_a_kind_that_a_provider_does_not_know_is_refused(started: Started, kind: str):
    with started("zerobounce") as (sandbox, _http), pytest.raises(LeadsError, match="answered_then_lost"):
        sandbox.set_faults([{"kind": kind}])


def test_a_kind_that_only_providers_know_is_refused_by_the_crm():
    from leads_pipeline.crm.sandbox.running import running_sandbox

    with running_sandbox() as crm, pytest.raises(LeadsError, match="written_then_500"):
        crm.set_faults([{"kind": "out_of_credit"}])


def test_a_reset_forgets_bills_jobs_limits_and_faults(started: Started):
    with started("neverbounce", calls_per_minute=2) as (sandbox, http):
        neverbounce_job(http, "ada@acme.example")
        neverbounce_job(http, "bob@acme.example")
        sandbox.set_faults([{"kind": "http_500"}])
        sandbox.reset()

        assert (sandbox.report()["looked_up"], sandbox.faults()) == (0, [])
        assert neverbounce_job(http, "ada@acme.example")["job_id"] == 150_970


def test_report_and_faults_are_reached_by_the_command_line(started: Started):
    with started("zerobounce") as (sandbox, http):
        at = ["--url", sandbox.base_url]
        made = CliRunner().invoke(cli, ["sandbox", "faults", "set", "out_of_credit", "--count", "1", *at])
        refused = zerobounce_batch(http, "ada@acme.example").json()
        report = CliRunner().invoke(cli, ["sandbox", "report", *at])

        assert json.loads(made.output)["kind"] == "out_of_credit"
        assert refused["errors"][0]["email_address"] == "all"
        assert json.loads(report.output)["vendor"] == "zerobounce"


def test_what_is_no_request_is_answered_as_the_vendor_would(started: Started):
    with started("zerobounce") as (sandbox, http):
        statuses = [
            http.post("/v2/validatebatch", content=b"\xff{", headers={"Content-Type": "application/json"}).status_code,
            http.post("/v2/validatebatch", json={"api_key": "k"}).status_code,
            http.post("/v2/validatebatch", json={"api_key": "k", "email_batch": [{"email": "a@b.c"}]}).status_code,
            http.get("/v2/nowhere", params={"api_key": "k"}).status_code,
        ]

        assert statuses == [200, 400, 400, 404]  # without a key that can be read it is a wrong key: inside a 200
        assert sandbox.report()["looked_up"] == 0
