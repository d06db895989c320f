"""One tool against the sandbox: run by ``delivery_peers.py`` with the Python of the tool's own environment.

    python delivery_peers_tools.py TOOL BASE_URL SECONDS WORKING_DIRECTORY

Sends new contacts for so long, as the tool's documentation shows it, and prints its version; what came of it stands in
the sandbox. The token is in LEADS_BENCHMARK_TOKEN.
"""

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, islice

TOKEN = "LEADS_BENCHMARK_TOKEN"  # the name of a variable
BATCH = 100


def contacts(*, until: float) -> Iterator[dict[str, str]]:
    """New people, until the time is over."""
    for number in count(1):
        if time.monotonic() >= until:
            return
        yield {
            "lead_key": f"{number:032x}", "email": f"person{number}@example.com", "firstname": "Ada",
            "lastname": f"Lovelace {number}", "company": "Analytical Engines", "city": "London",
        }  # fmt: skip


def batches(*, until: float) -> Iterator[list[dict[str, str]]]:
    """The same, a hundred at a time."""
    people = contacts(until=until)
    while batch := list(islice(people, BATCH)):
        yield batch


def drt(base_url: str, until: float, _directory: str) -> None:
    """drt's HubSpot destination, with its own rate limit and retries."""
    from drt.config.base import BearerAuth
    from drt.config.models import HubSpotDestinationConfig, SyncOptions
    from drt.destinations import hubspot

    hubspot._HUBSPOT_API = f"{base_url}/crm/v3/objects"
    config = HubSpotDestinationConfig(type="hubspot", auth=BearerAuth(type="bearer", token_env=TOKEN))
    destination = hubspot.HubSpotDestination()
    for batch in batches(until=until):
        # No larger a part at once than is sent in a second: a batch is not left before its end.
        for start in range(0, len(batch), 9):
            if time.monotonic() < until:
                destination.load(batch[start : start + 9], config, SyncOptions())


def dlt(base_url: str, until: float, directory: str) -> None:
    """A sink of dlt's, which posts a batch with the HTTP client that dlt brings for it (it tries 429s again)."""
    import dlt as library
    from dlt.sources.helpers import requests

    os.environ |= {"DLT_DATA_DIR": directory, "RUNTIME__DLTHUB_TELEMETRY": "false"}

    @library.destination(batch_size=BATCH, name="crm", naming_convention="direct", skip_dlt_columns_and_tables=True)
    def crm(items, _table) -> None:
        if time.monotonic() >= until:
            return
        inputs = [{"id": item["lead_key"], "idProperty": "lead_key", "properties": item} for item in items]
        for number, entry in enumerate(inputs):
            entry["objectWriteTraceId"] = str(number)
        answer = requests.post(
            f"{base_url}/crm/v3/objects/contacts/batch/upsert",
            json={"inputs": inputs},
            headers={"Authorization": f"Bearer {os.environ[TOKEN]}"},
        )
        answer.raise_for_status()

    pipeline = library.pipeline("crm", destination=crm, pipelines_dir=directory)
    seconds = until - time.monotonic()
    people = list(islice(contacts(until=until), int(seconds * 2_500)))
    with suppress(Exception):  # a job that failed for good ends the load: what arrived is counted
        pipeline.run(people, table_name="contacts")


def sdk(base_url: str, until: float, _directory: str) -> None:
    """HubSpot's own client in a loop, with the retries on 429 that its README shows."""
    from hubspot import HubSpot
    from hubspot.crm.contacts import BatchInputSimplePublicObjectBatchInputUpsert, SimplePublicObjectBatchInputUpsert
    from urllib3.util.retry import Retry

    retry = Retry(total=5, backoff_factor=0.3, status_forcelist=(429, 500, 502, 504), allowed_methods=None)
    client = HubSpot(access_token=os.environ[TOKEN], host=base_url, retry=retry)
    for batch in batches(until=until):
        inputs = [
            SimplePublicObjectBatchInputUpsert(
                id=item["lead_key"], id_property="lead_key", properties=item, object_write_trace_id=str(number)
            )
            for number, item in enumerate(batch)
        ]
        with suppress(Exception):  # a batch that is refused again and again is lost
            client.crm.contacts.batch_api.upsert(BatchInputSimplePublicObjectBatchInputUpsert(inputs=inputs))


TOOLS = {"drt": (drt, "drt-core"), "dlt": (dlt, "dlt"), "sdk": (sdk, "hubspot-api-client")}


def main() -> None:
    """Run one tool."""
    tool, base_url, seconds, directory = sys.argv[1:5]
    run, package = TOOLS[tool]
    began = time.monotonic()
    run(base_url, began + float(seconds), directory)
    print(json.dumps({"version": importlib.metadata.version(package), "seconds": time.monotonic() - began}))


# A script that nothing imports.
main()
