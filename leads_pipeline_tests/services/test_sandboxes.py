"""The sandboxes that stand in for the vendors of a configuration."""

from pathlib import Path

import httpx

from leads_pipeline.config import parse_settings
from leads_pipeline.crm.sandbox.client import SandboxClient
from leads_pipeline.services.sandboxes import local_sandboxes
from leads_pipeline_tests.crm.sandbox.test_persistence import serving

_YAML = """
version: 1
state_dir: {state}
tenants:
  acme: {{sources: {{website: {{}}}}, destinations: [hubspot]}}
destinations:
  hubspot:
    vendor: hubspot
    account: sandbox
    base_url: http://127.0.0.1:8090
    token: {{env: LEADS_HUBSPOT_TOKEN}}
    limits:
      windows: [{{records: 500, seconds: 2}}, {{requests: 100, seconds: 2}}, {{requests: 300, seconds: 10}}]
"""


def test_the_sandbox_has_every_window_of_requests_of_the_account(tmp_path: Path):
    settings = parse_settings(_YAML.format(state=tmp_path), path=tmp_path / "leads.yaml")
    [sandbox] = local_sandboxes(settings)
    arguments = list(sandbox.arguments)
    del arguments[arguments.index("--port") : arguments.index("--port") + 2]  # a free one instead

    with serving(*arguments, environment={"LEADS_HUBSPOT_TOKEN": "t"}) as (_process, url):
        windows = SandboxClient(url).report()["windows"]

    assert [(window["limit"], window["seconds"]) for window in windows] == [(100, 2), (300, 10)]


def test_a_salesforce_org_of_this_machine_is_played_with_the_fields_and_limits_that_it_is_expected_to_have(
    tmp_path: Path,
):
    text = f"""
version: 1
state_dir: {tmp_path}
tenants:
  acme: {{sources: {{website: {{}}}}, destinations: [sales]}}
destinations:
  sales:
    vendor: salesforce
    account: org
    base_url: http://127.0.0.1:8097
    client_id: consumer
    client_secret: {{env: LEADS_SALESFORCE_SECRET}}
    mapping: {{last_name: LastName, company: Company, risk_score: Risk__c}}
    limits: {{windows: [{{requests: 5000, seconds: 86400}}], daily: null}}
"""
    [sandbox] = local_sandboxes(parse_settings(text, path=tmp_path / "leads.yaml"))
    arguments = list(sandbox.arguments)
    del arguments[arguments.index("--port") : arguments.index("--port") + 2]  # a free one instead

    with serving(*arguments, environment={"LEADS_SALESFORCE_SECRET": "s"}) as (_process, url):
        report = SandboxClient(url).report()
        form = {"grant_type": "client_credentials", "client_id": "consumer", "client_secret": "s"}
        token = httpx.post(f"{url}/services/oauth2/token", data=form, timeout=60).json()["access_token"]
        described = httpx.get(
            f"{url}/services/data/v66.0/sobjects/Lead/describe",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )

    assert sandbox.secret_envs == ("LEADS_SALESFORCE_SECRET",)
    assert (report["vendor"], report["limit"], report["window_seconds"]) == ("salesforce", 5000, 86400)
    assert {"Risk__c", "Lead_Key__c"} <= {field["name"] for field in described.json()["fields"]}
    assert described.headers["Sforce-Limit-Info"] == "api-usage=1/5000"


def test_an_organisation_at_zoho_of_this_machine_is_played_with_the_fields_and_credits_that_it_is_expected_to_have(
    tmp_path: Path,
):
    text = f"""
version: 1
state_dir: {tmp_path}
tenants:
  acme: {{sources: {{website: {{}}}}, destinations: [zoho]}}
destinations:
  zoho:
    vendor: zoho
    account: org
    base_url: http://127.0.0.1:8098
    client_id: 1000.c
    client_secret: {{env: LEADS_ZOHO_CLIENT_SECRET}}
    refresh_token: {{env: LEADS_ZOHO_REFRESH_TOKEN}}
    mapping: {{last_name: Last_Name, risk_score: Risk}}
    limits: {{windows: [{{credits: 4, seconds: 86400}}], shared_in_flight: 2}}
"""
    [sandbox] = local_sandboxes(parse_settings(text, path=tmp_path / "leads.yaml"))
    arguments = list(sandbox.arguments)
    del arguments[arguments.index("--port") : arguments.index("--port") + 2]  # a free one instead

    with serving(*arguments, environment={"LEADS_ZOHO_REFRESH_TOKEN": "r"}) as (_process, url):
        report = SandboxClient(url).report()
        form = {"grant_type": "refresh_token", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
        token = httpx.post(f"{url}/oauth/v2/token", data=form, timeout=60).json()["access_token"]
        headers = {"Authorization": f"Zoho-oauthtoken {token}"}
        told = [
            httpx.get(f"{url}/crm/v8/settings/fields?module=Leads", headers=headers, timeout=60) for _time in range(2)
        ]

    assert sandbox.secret_envs == ("LEADS_ZOHO_REFRESH_TOKEN", "LEADS_ZOHO_CLIENT_SECRET")
    assert (report["vendor"], report["limit"], report["window_seconds"]) == ("zoho", 4, 86400)
    assert {"Risk", "Lead_Key"} <= {field["api_name"] for field in told[0].json()["fields"]}
    assert told[1].headers["X-API-CREDITS-REMAINING"] == "2"


def test_another_application_of_the_account_has_a_token_of_its_own():
    environment = {"LEADS_HUBSPOT_TOKEN": "ours", "OTHER_TOKEN": "theirs"}
    arguments = ("--other-token-env", "OTHER_TOKEN", "--requests", "2", "--window", "100/60")
    with serving(*arguments, environment=environment) as (_process, url):
        statuses = [
            httpx.get(f"{url}/crm/v3/objects/contacts", headers={"Authorization": f"Bearer {token}"}).status_code
            for token in ("ours", "theirs", "nobody", "theirs")
        ]
        applications = [item["application"] for item in SandboxClient(url).arrivals()]

    assert (statuses, applications) == ([200, 200, 401, 429], [1, 2, 0, 2])
