"""A sandbox in this process: for tests, the demo and development."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from starlette.applications import Starlette

from leads_pipeline.errors import LeadsError
from leads_pipeline.sandbox.client import ControlClient
from leads_pipeline.sandbox.serving import SandboxHttpServer, base_url, listen

START_SECONDS = 10.0


class RunningSandbox(ControlClient):
    """An application on a thread of its own; what it saw is asked over HTTP, as anyone would."""

    def __init__(self, app: Starlette, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind the port (0: a free one), so that ``base_url`` is known before ``start``."""
        self._socket = listen(host, port)
        super().__init__(base_url(self._socket))
        self._started = threading.Event()
        self._server = SandboxHttpServer(app, on_started=self._started.set)
        self._thread = threading.Thread(target=self._serve, name="sandbox", daemon=True)

    def start(self) -> None:
        """Return when it answers.

        Raises:
            LeadsError: it does not come up.
        """
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise LeadsError(f"the sandbox did not start on {self.base_url} within {START_SECONDS:.0f} s")

    def stop(self) -> None:
        """End it, its connections and its thread. A second call does nothing."""
        self.close()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


AnySandbox = TypeVar("AnySandbox", bound=RunningSandbox)


@contextmanager
def running(sandbox: AnySandbox) -> Iterator[AnySandbox]:
    """It answers inside the block and is gone after it."""
    try:
        sandbox.start()
        yield sandbox
    finally:
        sandbox.stop()
