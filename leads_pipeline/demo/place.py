"""Where a demo runs: its own configuration, database, Dagster home and sandbox, apart from the user's own leads."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from leads_pipeline.config import HUBSPOT_MAPPING, Settings, parse_settings
from leads_pipeline.services.stack import free_port

TENANT = "acme"
DESTINATION = "hubspot"
FILE_SOURCE = "file"
TOKEN_VARIABLE = "LEADS_DEMO_SANDBOX_TOKEN"  # noqa: S105 - the name of a variable
PROVIDER = "zerobounce"
PROVIDER_KEY_VARIABLE = "LEADS_DEMO_ZEROBOUNCE_KEY"
# Small enough that 5,000 leads run into it: about 40 requests are needed, 20 are allowed at once.
LIMIT_REQUESTS, LIMIT_SECONDS = 20, 10
SOURCES = {
    "website": {"lane": "real_time", "priority": 60, "description": "The contact form"},
    "webinar": {"lane": "near_real_time", "priority": 50, "description": "Sign-ups from webinars"},
    "partner": {"lane": "near_real_time", "priority": 40, "description": "Leads that partners send"},
    FILE_SOURCE: {"lane": "near_real_time", "priority": 30, "description": "The file given with --input"},
}


def _verification() -> dict[str, Any]:
    """Who asks for a demo or names a company is looked up in full; of the others DNS says whether they get mail."""
    return {
        "mx": {"enabled": True, "resolvers": [f"127.0.0.1:{free_port()}"], "queries_per_second": 500},
        "providers": {
            PROVIDER: {
                "vendor": "zerobounce",
                "base_url": f"http://127.0.0.1:{free_port()}",
                "key": {"env": PROVIDER_KEY_VARIABLE},
                "cost_per_lookup": 0.008,
                "budget": {"per_day": 20.0},
            }
        },
        "mailbox": [PROVIDER],
        # A demo waits for its look-ups; a form's lead would not.
        "tiers": {
            "full": {"lookups": ["mx", "mailbox"], "patience_seconds": 300},
            "minimal": {"lookups": ["mx"], "patience_seconds": 300},
            "none": {},
        },
        "value": [
            {"points": 40, "when": {"lane": ["real_time"]}},
            {"points": 30, "when": {"present": ["company"]}},
            {"points": 20, "when": {"present": ["phone"]}},
        ],
        "triage": [{"tier": "full", "when": {"value_at_least": 70}}, {"tier": "minimal"}],
        # Everybody in the demo has an address at one of five invented providers.
        "risk": {"max_leads_per_domain": 100_000},
    }


def prepare_place(directory: Path) -> Settings:
    """Empty ``directory`` of an earlier demo, except for its database server, and write the demo's leads.yaml."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("dagster", "logs"):
        shutil.rmtree(directory / name, ignore_errors=True)
    for store in directory.glob("sandbox-*.sqlite*"):
        store.unlink()
    document = {
        "version": 1,
        "state_dir": ".",
        "tenants": {
            TENANT: {
                "description": "The demo's tenant",
                "country": "US",
                "sources": SOURCES,
                "destinations": [DESTINATION],
            }
        },
        "destinations": {
            DESTINATION: {
                "vendor": "hubspot",
                "account": "demo-sandbox",
                "base_url": f"http://127.0.0.1:{free_port()}",
                "token": {"env": TOKEN_VARIABLE},
                "limits": {
                    "windows": [{"requests": LIMIT_REQUESTS, "seconds": LIMIT_SECONDS}],
                    "daily": {"requests": 250_000, "time_zone": "UTC"},
                },
                "mapping": {**HUBSPOT_MAPPING, "email_verdict": "email_verdict"},
            }
        },
        "capture": {"port": free_port()},
        "verification": _verification(),
    }
    path = directory / "leads.yaml"
    text = "# Written by `leads demo`, anew each time.\n" + yaml.safe_dump(document, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return parse_settings(text, path=path)
