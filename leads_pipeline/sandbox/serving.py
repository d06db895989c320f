"""uvicorn, bent to what a sandbox needs: a port known before it starts, connections that can be reset, quiet logs."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from leads_pipeline.errors import LeadsError
from leads_pipeline.sandbox.network import TRANSPORT


class _Protocol(H11Protocol):
    """Lets a request reach its connection, through the state that every request carries."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, TRANSPORT: transport}
        super().connection_made(transport)


class SandboxHttpServer(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, app: Starlette, *, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                loop="asyncio",
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                # Closing a connection that a client still keeps in its pool would look like a fault.
                timeout_keep_alive=120,
                # A request that a fault lets hang must not keep the server from ending.
                timeout_graceful_shutdown=1,
            )
        )
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one.

    Raises:
        LeadsError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it every answer takes 40 ms more.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise LeadsError(
            f"the sandbox cannot listen on {host}:{port}: {error.strerror}. Choose another port with --port."
        ) from error
    return bound


def base_url(bound: socket.socket) -> str:
    """Where a bound socket is reached."""
    address: tuple[Any, ...] = bound.getsockname()
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"


def serve_until_stopped(app: Starlette, bound: socket.socket, *, on_started: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, end in order, and raise the signal again, as uvicorn does."""
    SandboxHttpServer(app, on_started=on_started).run(sockets=[bound])
