"""Tokens that the sandbox gives out, and that end."""

import httpx
import pytest

from leads_pipeline.clock import FrozenClock
from leads_pipeline_tests.crm.sandbox.conftest import Api, Started

FORM = {"grant_type": "refresh_token", "client_id": "app", "client_secret": "s", "refresh_token": "secret"}


def ask(api: Api, **changed: str) -> httpx.Response:
    form = {name: value for name, value in {**FORM, **changed}.items() if value}
    return api.http.post("/oauth/v1/token", data=form, headers={"Authorization": ""})


def status_with(api: Api, token: str) -> int:
    return api.http.get("/crm/v3/objects/contacts", headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.mark.parametrize("demanded", ["secret", None])
def test_a_token_that_was_given_out_holds_for_its_time_and_no_longer(
    started: Started, clock: FrozenClock, demanded: str | None
):
    with started(token=demanded, token_seconds=60) as (sandbox, api):
        given_out = ask(api).json()
        token = given_out["access_token"]
        assert (given_out["expires_in"], given_out["token_type"]) == (60, "bearer")
        clock.advance(59)
        assert status_with(api, token) == 200
        clock.advance(1)
        assert status_with(api, token) == 401
        assert status_with(api, ask(api).json()["access_token"]) == 200
        assert sandbox.report()["applications"] == {"0": 3, "1": 2}


def test_tokens_that_were_given_out_can_be_ended_at_once_and_lasting_ones_cannot(started: Started):
    with started(token="secret") as (sandbox, api):
        token = ask(api).json()["access_token"]
        assert sandbox.expire_tokens() == 1
        assert (status_with(api, token), status_with(api, "secret")) == (401, 200)


def test_a_given_token_is_of_the_application_of_its_refresh_token(started: Started):
    with started(token="secret", other_tokens=("theirs",)) as (sandbox, api):
        status_with(api, ask(api, refresh_token="theirs").json()["access_token"])
        assert [item["application"] for item in sandbox.arrivals()] == [0, 2]


def test_asking_for_a_token_costs_no_quota(started: Started):
    with started(token="secret", requests=1, daily=1) as (_sandbox, api):
        assert [ask(api).status_code for _ in range(3)] == [200] * 3
        assert status_with(api, "secret") == 200


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"grant_type": "password"}, "BAD_GRANT_TYPE"),
        ({"client_id": ""}, "BAD_CLIENT_ID"),
        ({"client_secret": ""}, "BAD_CLIENT_ID"),
        ({"refresh_token": "wrong"}, "BAD_REFRESH_TOKEN"),
        ({"refresh_token": ""}, "BAD_REFRESH_TOKEN"),
    ],
)
def test_what_gets_no_token(started: Started, changed: dict[str, str], said: str):
    with started(token="secret") as (_sandbox, api):
        response = ask(api, **changed)

    assert (response.status_code, response.json()["status"]) == (400, said)
    assert "access_token" not in response.json()


def test_no_token_shows_in_what_the_sandbox_tells(started: Started):
    with started(token="secret", other_tokens=("theirs",)) as (sandbox, api):
        token = ask(api).json()["access_token"]
        status_with(api, token)
        shown = str([sandbox.report(), list(sandbox.arrivals())]) + api.http.get("/").text

    for secret in ("secret", "theirs", token):
        assert secret not in shown
