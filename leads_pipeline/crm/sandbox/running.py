"""A sandbox in this process: for tests, the demo and development.

with running_sandbox(SandboxOptions(requests=20)) as sandbox:
    deliver_to(sandbox.base_url)
    assert sandbox.report()["http_429"] == 0
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.crm.sandbox.app import create_app
from leads_pipeline.crm.sandbox.client import SandboxClient
from leads_pipeline.crm.sandbox.options import SandboxOptions
from leads_pipeline.crm.sandbox.serving import SandboxHttpServer, base_url, listen
from leads_pipeline.errors import LeadsError

START_SECONDS = 10.0


class SandboxServer(SandboxClient):
    """A sandbox on a thread of its own; what it saw is asked over HTTP, as anyone would."""

    def __init__(
        self,
        options: SandboxOptions | None = None,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Bind the port (0: a free one), so that ``base_url`` is known before ``start``."""
        app = create_app(options or SandboxOptions(), clock=clock or SystemClock(), random=random or Random())  # noqa: S311
        self._socket = listen(host, port)
        super().__init__(base_url(self._socket))
        self._started = threading.Event()
        self._server = SandboxHttpServer(app, on_started=self._started.set)
        self._thread = threading.Thread(target=self._serve, name="sandbox-crm", daemon=True)

    def start(self) -> None:
        """Return when it answers.

        Raises:
            LeadsError: it does not come up.
        """
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise LeadsError(f"the sandbox CRM did not start on {self.base_url} within {START_SECONDS:.0f} s")

    def stop(self) -> None:
        """End it, its connections and its thread. A second call does nothing."""
        self.close()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


@contextmanager
def running_sandbox(
    options: SandboxOptions | None = None,
    *,
    clock: Clock | None = None,
    random: Random | None = None,
    port: int = 0,
) -> Iterator[SandboxServer]:
    """A sandbox that answers inside the block and is gone after it."""
    server = SandboxServer(options, clock=clock, random=random, port=port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
