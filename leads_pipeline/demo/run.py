"""The demo itself: start everything, send the leads, run the job, compare, print."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import httpx
import sqlalchemy as sa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from leads_pipeline.clock import Clock
from leads_pipeline.config import HubSpotSettings, Settings
from leads_pipeline.demo.door import DemoLead, Sent, send_leads
from leads_pipeline.demo.figures import ProviderView, SandboxView, busiest_lead, collect
from leads_pipeline.demo.place import DESTINATION, PROVIDER, TENANT, TOKEN_VARIABLE
from leads_pipeline.domain.stage import Stage
from leads_pipeline.errors import LeadsError
from leads_pipeline.services.marts import marts_being_prepared
from leads_pipeline.services.stack import Stack
from leads_pipeline.services.supervisor import Supervisor
from leads_pipeline.storage.api_keys import create_api_key
from leads_pipeline.storage.embedded import DATABASE, EmbeddedServer
from leads_pipeline.storage.open import open_database
from leads_pipeline.verification.sandbox.running import ProviderSandboxClient

# The first leads come one by one, as a campaign's visitors do; the rest in batches, as a partner sends them.
_SINGLES = 1_000
_BATCH_SIZE = 250
_RUN_LIMIT_SECONDS = 1_800


def run_demo(
    settings: Settings, leads: Sequence[DemoLead], *, clock: Clock, console: Console
) -> tuple[dict[str, Any], str | None]:
    """Send ``leads`` through the whole chain of ``settings``; the figures, and a lead that is worth a look.

    Raises:
        LeadsError: a service failed, a run failed, or the database and the sandbox disagree.
    """
    console.print(
        "Starting PostgreSQL, the capture service and sandboxes of CRM, DNS and verification …", highlight=False
    )
    server = EmbeddedServer(settings.state_path)
    server.start()
    server.drop_and_create_database(DATABASE)
    engine = open_database(settings)
    try:
        stack = Stack(settings)
        stack.prepare()
        environment = stack.environment()
        keys = _make_keys(engine, settings, clock)
        with (
            Supervisor(log_directory=settings.state_path / "logs", clock=clock) as supervisor,
            marts_being_prepared(environment),
        ):
            for service in stack.services(environment, dagster=False):
                supervisor.start(service)
            seconds: dict[str, float] = {}
            started = clock.monotonic()
            sent = _send(leads, url=stack.capture_url, keys=keys, console=console)
            seconds["capture"] = clock.monotonic() - started
            if sent.refused:
                console.print(f"  the door refused {sent.refused:,} of them", highlight=False)
            seconds |= _run_job(settings, environment, console)
            sandbox = _ask_sandbox(settings, environment[TOKEN_VARIABLE])
            with engine.connect() as connection:
                figures = collect(
                    connection,
                    settings=settings,
                    sandbox=sandbox,
                    provider=_ask_provider(settings),
                    truth_of=sent.truth_of,
                    seconds=seconds,
                )
                return figures, busiest_lead(connection)
    finally:
        engine.dispose()
        server.stop()


def _make_keys(engine: sa.Engine, settings: Settings, clock: Clock) -> dict[str, str]:
    with engine.begin() as connection:
        return {
            source: create_api_key(connection, tenant=TENANT, source=source, now=clock.now()).text
            for source in settings.tenants[TENANT].sources
        }


def _send(leads: Sequence[DemoLead], *, url: str, keys: dict[str, str], console: Console) -> Sent:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Leads through the door", total=len(leads))
        return asyncio.run(
            send_leads(
                leads,
                url=url,
                keys=keys,
                singles=min(_SINGLES, len(leads) // 5),
                batch_size=_BATCH_SIZE,
                advance=lambda count: progress.advance(task, count),
            )
        )


def _run_job(settings: Settings, environment: dict[str, str], console: Console) -> dict[str, float]:
    """Run the Dagster jobs in a process of their own, as the daemon would.

    Returns the seconds of each asset; ``verifications`` waits for its provider, ``reporting`` are the marts.
    """
    console.print("Running the Dagster job over the five assets until nothing is pending …", highlight=False)
    result = settings.state_path / "logs" / "runs.json"
    options = ["--marts", "--limit", str(_RUN_LIMIT_SECONDS), "--json", str(result)]
    command = [sys.executable, "-m", "leads_pipeline", "run", *options]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    said: list[str] = []
    with console.status("delivering at the CRM's pace"), process:
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith(("run ", "  check failed", "Building")):
                console.print(f"  {line.rstrip()}", highlight=False)
    if process.returncode != 0:
        tail = "\n".join(said[-15:])
        raise LeadsError(f"the Dagster job ended with exit code {process.returncode}:\n{tail}")
    if any("slo_real_time_in_crm" in line for line in said):
        console.print(
            "  That promise is broken because all leads come within seconds here, and ZeroBounce's limit is 30 calls a "
            "minute.",
            highlight=False,
        )
    totals = {**{str(stage): 0.0 for stage in Stage}, "verifications": 0.0, "reporting": 0.0}
    for run in json.loads(result.read_text(encoding="utf-8")):
        for step, spent in run["seconds"].items():
            totals[step if step in totals else "reporting"] += spent
    return totals


def _ask_sandbox(settings: Settings, token: str) -> SandboxView:
    destination = settings.destinations[DESTINATION]
    assert isinstance(destination, HubSpotSettings)  # as the demo's own file says
    answer = httpx.get(
        f"{destination.base_url}/_sandbox/report",
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
        trust_env=False,
    )
    answer.raise_for_status()
    seen = answer.json()
    return SandboxView(
        requests=seen["requests"],
        http_429=seen["http_429"],
        records=seen["records_written"],
        contacts=seen["contacts"],
        duplicates=seen["duplicates"],
        max_requests_in_any_window=seen["max_requests_in_any_window"],
        limit=seen["limit"],
    )


def _ask_provider(settings: Settings) -> ProviderView:
    url = settings.verification.providers[PROVIDER].base_url
    assert url is not None  # the demo's own configuration names it
    with closing(ProviderSandboxClient(url)) as client:
        seen = client.report()
    return ProviderView(
        calls=seen["requests"],
        billed=seen["billed"],
        billed_twice=seen["billed_twice"],
        over_limit=seen["calls_over_limit"],
    )
