"""A sandbox CRM in this process: for tests, the demo and development.

with running_sandbox(HubSpotOptions(requests=20)) as sandbox:
    deliver_to(sandbox.base_url)
    assert sandbox.report()["http_429"] == 0
"""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.crm.sandbox.app import create_app
from leads_pipeline.crm.sandbox.client import SandboxClient
from leads_pipeline.crm.sandbox.hubspot.options import HubSpotOptions
from leads_pipeline.crm.sandbox.options import SandboxOptions
from leads_pipeline.sandbox.running import RunningSandbox, running


class SandboxServer(RunningSandbox, SandboxClient):
    """A sandbox CRM on a thread of its own."""

    def __init__(
        self,
        options: SandboxOptions | None = None,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Bind the port (0: a free one), so that ``base_url`` is known before ``start``; HubSpot without options."""
        app = create_app(options or HubSpotOptions(), clock=clock or SystemClock(), random=random or Random())  # noqa: S311
        super().__init__(app, host=host, port=port)


@contextmanager
def running_sandbox(
    options: SandboxOptions | None = None,
    *,
    clock: Clock | None = None,
    random: Random | None = None,
    port: int = 0,
) -> Iterator[SandboxServer]:
    """A sandbox that answers inside the block and is gone after it."""
    with running(SandboxServer(options, clock=clock, random=random, port=port)) as server:
        yield server
