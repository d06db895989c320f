"""What the sandbox answers has the keys of the answers in ``recorded``, which follow the vendors' documentation."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from leads_pipeline_tests.verification.sandbox.conftest import (
    Started,
    neverbounce,
    neverbounce_job,
    zerobounce_batch,
)

RECORDED = Path(__file__).parents[1] / "recorded"


def recorded(case: str) -> tuple[int, Any]:
    answer = json.loads((RECORDED / f"{case}.json").read_text(encoding="utf-8"))["answer"]
    return answer["status"], answer.get("body")


def shape(document: Any) -> Any:
    """Keys, all the way down; lists by their first element."""
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items()}
    return [shape(item) for item in document[:1]] if isinstance(document, list) else None


def missing(expected: Any, found: Any) -> list[str]:
    """The keys of one shape that the other has not."""
    if isinstance(expected, list) and isinstance(found, list):
        return missing(expected[0], found[0]) if expected and found else []
    if not isinstance(expected, dict):
        return []
    if not isinstance(found, dict):
        return list(expected)
    return [name for name in expected if name not in found] + [
        f"{name}.{inner}" for name in expected if name in found for inner in missing(expected[name], found[name])
    ]


def check(case: str, answer: httpx.Response) -> None:
    status, body = recorded(case)
    assert answer.status_code == status
    if body is not None:
        assert missing(shape(body), shape(answer.json())) == []


def test_zerobounce(started: Started):
    with started("zerobounce", key="k", credit=1) as (_sandbox, http):
        check("zerobounce/every_status", zerobounce_batch(http, "valid@acme.example"))
        check("zerobounce/key_or_credit", zerobounce_batch(http, "ada@acme.example"))
        check("zerobounce/key_or_credit", zerobounce_batch(http, "ada@acme.example", key="wrong"))
        check("zerobounce/batch_refused", zerobounce_batch(http, *["ada@acme.example"] * 101))
        alone = http.get("/v2/validate", params={"api_key": "wrong", "email": "ada@acme.example"})
        check("zerobounce/key_or_credit_on_top", alone)
        assert http.get("/v2/getcredits", params={"api_key": "k"}).json() == {"Credits": "0"}
        assert http.get("/v2/getcredits", params={"api_key": "wrong"}).json() == {"Credits": "-1"}
        assert http.get("/v2/validate", params={"api_key": "k"}).status_code == 400


def test_neverbounce(started: Started):
    with started("neverbounce", key="k", credit=1, job_seconds=20) as (_sandbox, http):
        check("neverbounce/bad_key", http.post("/v4.2/jobs/create", json={"key": "wrong"}))
        made = http.post(
            "/v4.2/jobs/create",
            json={"key": "k", "input_location": "supplied", "auto_start": True, "input": [{"email": "a@b.example"}]},
        )
        check("neverbounce/job_created", made)
        query = {"key": "k", "job_id": made.json()["job_id"]}
        started.clock.advance(10)
        check("neverbounce/job_running", http.get("/v4.2/jobs/status", params=query))
        check("neverbounce/misunderstood", http.get("/v4.2/jobs/results", params=query))
        started.clock.advance(10)
        check("neverbounce/job_complete", http.post("/v4.2/jobs/status", json=query))
        results = http.post("/v4.2/jobs/results", json={**query, "items_per_page": 1000})
        assert results.json()["results"][0]["data"] == {"email": "a@b.example"}
        expected = recorded("neverbounce/results")[1]
        del expected["results"][0]["data"]["id"]  # sent back as it was sent
        assert missing(shape(expected), shape(results.json())) == []
        no_credit = {"key": "k", "input_location": "supplied", "auto_start": True, "input": [{"email": "c@d.example"}]}
        check("neverbounce/no_credits", http.post("/v4.2/jobs/create", json=no_credit))


def test_neverbounce_takes_forms_and_starts_a_job_when_it_is_told_to(started: Started):
    with started("neverbounce") as (sandbox, http):
        job = neverbounce_job(http, "ada@acme.example", auto_start=False)["job_id"]
        assert neverbounce(http, "jobs/status", job_id=job)["job_status"] == "waiting"
        assert sandbox.report()["billed"] == 0
        assert http.post("/v4/jobs/start", data={"key": "k", "job_id": job}).json()["status"] == "success"
        assert http.post("/v4/jobs/start", data={"key": "k", "job_id": job}).json()["status"] == "general_failure"
        assert neverbounce(http, "jobs/status", job_id=job)["job_status"] == "parsing"
        assert sandbox.report()["billed"] == 1
        started.clock.advance(60)
        assert neverbounce(http, "account/info")["job_counts"]["completed"] == 1


def test_neverbounce_counts_duplicates_and_bad_syntax_apart(started: Started):
    with started("neverbounce") as (sandbox, http):
        job = neverbounce_job(http, "ada@acme.example", "ADA@acme.example", "nobody", "invalid@acme.example")["job_id"]
        started.clock.advance(60)
        total = neverbounce(http, "jobs/status", job_id=job)["total"]
        page = neverbounce(http, "jobs/results", job_id=job, items_per_page=3, page=2)

        assert {name: total[name] for name in ("records", "billable", "duplicates", "bad_syntax", "invalid")} == {
            "records": 4,
            "billable": 2,
            "duplicates": 1,
            "bad_syntax": 1,
            "invalid": 1,
        }
        assert (page["total_results"], page["total_pages"], len(page["results"])) == (4, 2, 1)
        assert (sandbox.report()["billed"], sandbox.report()["billed_twice"]) == (2, 0)


def test_kickbox(started: Started):
    def verify(http: httpx.Client, email: str, key: str = "live_k") -> httpx.Response:
        return http.get("/v2/verify", params={"email": email, "apikey": key})

    with started("kickbox", key="live_k", credit=1) as (_sandbox, http):
        check("kickbox/bad_key", verify(http, "ada@acme.example", key="live_x"))
        answer = verify(http, "valid@acme.example")
        check("kickbox/deliverable", answer)
        assert answer.headers["X-Kickbox-Balance"] == "0"
        assert verify(http, "ada@acme.example").json() == {"success": False, "message": "Balance Depleted"}
        by_token = http.get("/v2/balance", headers={"Authorization": "Bearer live_k"})
        assert by_token.json()["balance"] == 0


@pytest.mark.parametrize(
    ("case", "address"),
    [
        ("valid", "valid@acme.example"),
        ("in_progress", "pending@acme.example"),
        ("smtp_failed", "unreachable@acme.example"),
        ("objection", "objection@acme.example"),
        ("bad_address", "nobody"),
        ("accept_all", "catch-all@acme.example"),
        ("disposable", "disposable@acme.example"),
        ("webmail", "valid@gmail.com"),
    ],
)
def test_hunter(started: Started, case: str, address: str):
    with started("hunter", key="k") as (_sandbox, http):
        answer = http.get("/v2/email-verifier", params={"email": address}, headers={"X-API-KEY": "k"})
        check(f"hunter/{case}", answer)
        status, body = recorded(f"hunter/{case}")
        if status == 200:
            assert answer.json()["data"]["status"] == body["data"]["status"]
        elif status != 202:
            assert answer.json()["errors"][0]["id"] == body["errors"][0]["id"]


def test_hunters_refusals(started: Started):
    with started("hunter", key="k", credit=0, calls_per_minute=1) as (_sandbox, http):
        query = {"api_key": "k", "email": "valid@acme.example"}
        check("hunter/bad_key", http.get("/v2/email-verifier", params=query | {"api_key": "wrong"}))
        check("hunter/quota", http.get("/v2/email-verifier", params=query))
        check("hunter/rate", http.get("/v2/email-verifier", params=query))
        assert http.get("/v2/account", params=query).json()["data"]["requests"]["verifications"]["available"] == 0


@pytest.mark.parametrize(
    ("case", "address"),
    [
        ("safe", "valid@acme.example"),
        ("bad_syntax", "nobody"),
        ("no_mail", "ada@nodata.example"),
        ("no_mailbox", "mailbox-not-found@acme.example"),
        ("catch_all", "catch-all@acme.example"),
        ("disposable", "disposable@acme.example"),
        ("full_role", "full@acme.example"),
        ("smtp_error", "greylisted@acme.example"),
        ("bad_request", ""),
    ],
)
def test_reacher(started: Started, case: str, address: str):
    with started("reacher") as (_sandbox, http):
        answer = http.post("/v1/check_email", json={"to_email": address})
        check(f"reacher/{case}", answer)
        status, body = recorded(f"reacher/{case}")
        if status == 200:
            assert answer.json()["is_reachable"] == body["is_reachable"]


def test_reachers_refusals(started: Started):
    with started("reacher", key="k", calls_per_minute=1) as (_sandbox, http):
        check("reacher/wrong_secret", http.post("/v1/check_email", json={"to_email": "ada@acme.example"}))
        with_secret = {"json": {"to_email": "ada@acme.example"}, "headers": {"x-reacher-secret": "k"}}
        assert http.post("/v1/check_email", **with_secret).status_code == 200
        answer = http.post("/v1/check_email", **with_secret)
        check("reacher/throttled", answer)
        assert answer.json() == {"error": "Rate limit per minute exceeded, please wait 60.000s"}


@pytest.mark.parametrize(
    ("case", "number"),
    [
        ("mobile", "+12025550142"),
        ("landline", "+12025550175"),
        ("fixed_voip", "+12025550186"),
        ("non_fixed_voip", "+12025550190"),
        ("toll_free", "+12025550192"),
        ("premium", "+12025550193"),
        ("unknown_type", "+12025550194"),
        ("canada", "+14165550142"),
        ("not_assigned", "+12025550199"),
        ("too_short", "+1202555"),
        ("too_long", "+4366412345678901"),
        ("no_such_number", "nobody"),
    ],
)
def test_twilio(started: Started, case: str, number: str):
    with started("twilio", key="k", account="AC1") as (_sandbox, http):
        query = {"Fields": "line_type_intelligence"}
        answer = http.get(f"/v2/PhoneNumbers/{number}", params=query, auth=("AC1", "k"))
        check(f"twilio/{case}", answer)
        body = recorded(f"twilio/{case}")[1]
        found = answer.json()
        if "valid" in body:
            assert (found["valid"], found["validation_errors"]) == (body["valid"], body["validation_errors"])
            assert (found["line_type_intelligence"] or {}).get("type") == (body["line_type_intelligence"] or {}).get(
                "type"
            )


def test_twilios_refusals(started: Started):
    with started("twilio", key="k", account="AC1", calls_per_minute=1) as (sandbox, http):
        path = "/v2/PhoneNumbers/+12025550142"
        for auth in (("AC1", "wrong"), ("AC2", "k"), None):
            check("twilio/bad_key", http.get(path, auth=auth) if auth else http.get(path))
        assert http.get(path, auth=("AC1", "k")).json()["line_type_intelligence"] is None
        check("twilio/too_many", http.get(path, auth=("AC1", "k")))
        assert (sandbox.report()["unauthorized"], sandbox.report()["billed"]) == (3, 0)  # asked without a package
    with started("twilio") as (_sandbox, http):
        wrong = http.get(path, params={"Fields": "horoscope"}, auth=("AC1", "k"))
        assert (wrong.status_code, wrong.json()["code"]) == (400, 60617)
        elsewhere = http.get("/v1/PhoneNumbers/+12025550142", auth=("AC1", "k"))
        assert (elsewhere.status_code, elsewhere.json()["code"]) == (404, 20404)
