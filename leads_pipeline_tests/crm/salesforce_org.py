"""A Salesforce sandbox with two tenants that deliver to it, for tests of the engine."""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

from leads_pipeline.config import Settings, parse_settings
from leads_pipeline.crm.sandbox.running import SandboxServer

SECRET_ENV = "LEADS_SALESFORCE_SECRET"

_YAML = """
version: 1
tenants:
  acme: {{sources: {{website: {{}}}}, destinations: [salesforce]}}
  globex: {{sources: {{website: {{}}}}, destinations: [salesforce]}}
destinations:
  salesforce:
    vendor: salesforce
    account: org
    base_url: {base_url}
    client_id: consumer
    client_secret: {{env: LEADS_SALESFORCE_SECRET}}
    timeout_seconds: {timeout_seconds}
    bulk: {{above: {above}, most: {most}, poll_seconds: 10, deadline_seconds: 3600}}
    limits:
      windows: [{{requests: 100000, seconds: 86400}}]
      daily: null
      in_flight: {in_flight}
pipeline: {{run_seconds: 60}}
"""


def settings_for(base_url: str, **changed: Any) -> Settings:
    """Settings of an org at ``base_url``; ``above`` and ``most`` of its bulk jobs, the time-out, requests in flight."""
    return parse_settings(yaml_for(base_url, **changed), path=Path("leads.yaml"))


def yaml_for(base_url: str, **changed: Any) -> str:
    """The file that ``settings_for`` reads."""
    defaults: dict[str, Any] = {"above": "null", "most": 1000, "timeout_seconds": 5, "in_flight": 2}
    assert changed.keys() <= defaults.keys()
    return _YAML.format(base_url=base_url, **(defaults | changed))


def keys_held(sandbox: SandboxServer) -> Counter[UUID]:
    """How many living records hold each of our keys."""
    return Counter(UUID(item["properties"]["Lead_Key__c"]) for item in sandbox.contacts())


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(text, newline="")))
