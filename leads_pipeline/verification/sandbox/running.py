"""A provider sandbox in this process: for tests, the demo and development.

with running_provider_sandbox(ProviderOptions("zerobounce"), clock=clock) as sandbox:
    verify_at(sandbox.base_url)
    assert sandbox.report()["billed_twice"] == 0
"""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.sandbox.client import ControlClient
from leads_pipeline.sandbox.running import RunningSandbox, running
from leads_pipeline.verification.sandbox.app import create_app
from leads_pipeline.verification.sandbox.options import ProviderOptions


class ProviderSandboxClient(ControlClient):
    """Asks one provider sandbox. Every method raises ``LeadsError`` if it cannot be reached or refuses."""

    def lookups(self, *, at_least: int = 1) -> dict[str, dict[str, int]]:
        """How often each address or number was ``looked_up`` and ``billed``, those below ``at_least`` left out."""
        lookups: dict[str, dict[str, int]] = {}
        after: str | None = ""
        while after is not None:
            page = self._ask("GET", "/_sandbox/lookups", params={"after": after, "at_least": at_least})
            lookups |= page["lookups"]
            after = page["after"]
        return lookups


class ProviderSandbox(RunningSandbox, ProviderSandboxClient):
    """A provider sandbox on a thread of its own."""

    def __init__(
        self,
        options: ProviderOptions,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Bind the port (0: a free one), so that ``base_url`` is known before ``start``."""
        app = create_app(options, clock=clock or SystemClock(), random=random or Random())  # noqa: S311 - a play
        super().__init__(app, host=host, port=port)


@contextmanager
def running_provider_sandbox(
    options: ProviderOptions, *, clock: Clock | None = None, random: Random | None = None, port: int = 0
) -> Iterator[ProviderSandbox]:
    """A provider that answers inside the block and is gone after it."""
    with running(ProviderSandbox(options, clock=clock, random=random, port=port)) as sandbox:
        yield sandbox
