"""The capture service as a process: uvicorn around ``app``."""

import gc
import os
import socket
from collections.abc import Callable

import uvicorn

from leads_pipeline.capture.app import create_app
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.errors import LeadsError

# After SIGTERM: how long requests under way may take. Longer than one commit with its patience for a reconnect.
SHUTDOWN_SECONDS = 15


def serve(
    settings: Settings,
    *,
    database_url: str,
    clock: Clock,
    host: str | None = None,
    port: int | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was accepted. Port 0 takes a free one.

    ``on_listening`` is given the address once connections are taken.

    Raises:
        LeadsError: the address cannot be listened on.
    """
    listening = listen(host or settings.capture.host, settings.capture.port if port is None else port)
    with listening:
        if on_listening is not None:
            address = listening.getsockname()
            on_listening(f"http://{address[0]}:{address[1]}")
        server = server_for(settings, database_url=database_url, clock=clock)
        # What was imported stays for good; walking it in every collection cost a quarter of the CPU time of a lead.
        gc.collect()
        gc.freeze()
        server.run(sockets=[listening])


def server_for(settings: Settings, *, database_url: str, clock: Clock) -> uvicorn.Server:
    """The server, not yet running."""
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings, database_url=database_url, clock=clock),
            lifespan="on",
            log_config=None,
            access_log=False,  # addresses of people; counts are in the database
            server_header=False,
            forwarded_allow_ips="127.0.0.1",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            timeout_keep_alive=30,
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """Listen before anything else is started: who is told the address may connect at once."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise LeadsError(
            f"capture cannot listen on {host}:{port}: {reason}; stop what listens there or name another --port"
        ) from error
