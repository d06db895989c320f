"""Where a demo runs: its own configuration, database, Dagster home and sandbox, apart from the user's own leads."""

import shutil
from pathlib import Path

import yaml

from leads_pipeline.config import HUBSPOT_MAPPING, Settings, parse_settings
from leads_pipeline.services.stack import free_port

TENANT = "acme"
DESTINATION = "hubspot"
FILE_SOURCE = "file"
TOKEN_VARIABLE = "LEADS_DEMO_SANDBOX_TOKEN"  # noqa: S105 - the name of a variable
# Small enough that 5,000 leads run into it: about 40 requests are needed, 20 are allowed at once.
LIMIT_REQUESTS, LIMIT_SECONDS = 20, 10
SOURCES = {
    "website": {"lane": "real_time", "priority": 60, "description": "The contact form"},
    "webinar": {"lane": "near_real_time", "priority": 50, "description": "Sign-ups from webinars"},
    "partner": {"lane": "near_real_time", "priority": 40, "description": "Leads that partners send"},
    FILE_SOURCE: {"lane": "near_real_time", "priority": 30, "description": "The file given with --input"},
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
                "mapping": dict(HUBSPOT_MAPPING),
            }
        },
        "capture": {"port": free_port()},
    }
    path = directory / "leads.yaml"
    text = "# Written by `leads demo`, anew each time.\n" + yaml.safe_dump(document, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return parse_settings(text, path=path)
