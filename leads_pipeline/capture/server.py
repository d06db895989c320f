"""The capture service as a process: uvicorn around ``app``, alone or as one of several workers on one port."""

import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from leads_pipeline.capture.app import CaptureApp, create_app
from leads_pipeline.capture.counts import Counts, SharedCounts
from leads_pipeline.capture.metrics import refresh
from leads_pipeline.capture.protocol import CaptureProtocol, close_slow, tame_logs
from leads_pipeline.capture.systemd import Notifier, handed_sockets, notifier
from leads_pipeline.capture.workers import Workers
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings
from leads_pipeline.errors import LeadsError

# After SIGTERM: how long requests under way may take. Longer than one commit with its patience for a reconnect.
SHUTDOWN_SECONDS = 15
# What is cancelled then still closes its connections.
KILL_AFTER_SECONDS = SHUTDOWN_SECONDS + 5.0
_BACKLOG = 2048
# uvicorn ticks ten times a second; connections are looked over once a second.
_TICKS_BETWEEN_LOOKS = 10
# Connections are not all that a process opens.
_OTHER_FILES = 256


def serve(
    settings: Settings,
    *,
    database_url: str,
    clock: Clock,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    lookup_url: str | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was accepted, and return. Port 0 takes a free one.

    Sockets that systemd hands over are used instead of ``host`` and ``port``. ``lookup_url`` is the login with which
    contacts are read; without one the door's own takes the role for that. ``on_listening`` is given the address
    once every worker answers.

    Raises:
        LeadsError: the address cannot be listened on, or this system has no workers.
    """
    if workers is not None:
        settings = settings.model_copy(update={"capture": settings.capture.model_copy(update={"workers": workers})})
    count = settings.capture.workers
    if count > 1 and not hasattr(os, "fork"):
        raise LeadsError("several capture workers need a system that can fork; set capture.workers to 1")
    notify = notifier()
    host = host or settings.capture.host
    sockets = handed_sockets(notify.manager)
    handed = bool(sockets)
    if not handed:
        sockets = listen_for(count, host, settings.capture.port if port is None else port)
    tame_logs()
    _allow_files(settings.capture.max_connections)
    shared = SharedCounts(settings, slots=count)

    def announce() -> None:
        if on_listening is not None:
            on_listening(address_of(sockets[0]))
        notify.ready(f"listens on {address_of(sockets[0])}")

    def run(slot: int, on_ready: Callable[[], None], *, supervisor: int | None, told: Notifier | None) -> None:
        server = server_for(
            settings, database_url=database_url, clock=clock, counts=Counts(shared, slot=slot), lookup_url=lookup_url
        )
        server.on_ready, server.supervisor, server.notify = on_ready, supervisor, told
        own = sockets if handed or len(sockets) == 1 else [sockets[slot]]
        with stopped_by_signals(server):
            server.run(sockets=own)

    # What was imported stays for good; walking it in every collection cost a quarter of the CPU time of a lead.
    gc.collect()
    gc.freeze()
    with contextlib.ExitStack() as held:
        for listening in sockets:
            held.enter_context(listening)
        if count == 1:
            run(0, announce, supervisor=None, told=notify)
            return
        Workers(
            lambda slot, on_ready, supervisor: run(slot, on_ready, supervisor=supervisor, told=None),
            shared=shared,
            clock=clock,
            notify=notify,
            on_ready=announce,
            patience_seconds=KILL_AFTER_SECONDS,
        ).supervise()


class CaptureServer(uvicorn.Server):
    """uvicorn's server, which also says how it is: when it serves, ten times a second that it lives, when it ends."""

    def __init__(self, config: uvicorn.Config, app: CaptureApp) -> None:
        super().__init__(config)
        self._door = app.door
        self.on_ready: Callable[[], None] = lambda: None
        self.supervisor: int | None = None
        self.notify: Notifier | None = None
        self._next_beat = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and not self.should_exit:
            refresh(self._door)
            self.on_ready()

    async def on_tick(self, counter: int) -> bool:
        door, connections = self._door, self.server_state.connections
        refresh(door, connections=len(connections))
        self._beat(door.clock.monotonic())
        if counter % _TICKS_BETWEEN_LOOKS == 0:
            close_slow(connections, headers_seconds=door.settings.capture.headers_seconds, counts=door.counts)
        if self.supervisor is not None and os.getppid() != self.supervisor:
            return True  # nobody would stop us, or count what we do
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.notify is not None:
            self.notify.stopping()
        await super().shutdown(sockets=sockets)

    def _beat(self, now: float) -> None:
        every = None if self.notify is None else self.notify.beat_seconds
        if self.notify is not None and every is not None and now >= self._next_beat:
            self._next_beat = now + every
            self.notify.alive()


def server_for(
    settings: Settings,
    *,
    database_url: str,
    clock: Clock,
    counts: Counts | None = None,
    lookup_url: str | None = None,
) -> CaptureServer:
    """The server, not yet running."""
    app = create_app(settings, database_url=database_url, clock=clock, counts=counts, lookup_url=lookup_url)
    return CaptureServer(
        uvicorn.Config(
            app,
            lifespan="on",
            loop="asyncio" if sys.platform == "win32" else "uvloop",
            http=CaptureProtocol,
            ws="none",
            log_config=None,
            access_log=False,  # addresses of people; counts are in the database
            server_header=False,
            forwarded_allow_ips=list(settings.capture.trusted_proxies),
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            timeout_keep_alive=30,
        ),
        app,
    )


@contextlib.contextmanager
def stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM and SIGINT end the server and are then settled.

    uvicorn raises the signal once more when it has finished, for whoever handled it before: that would end the process
    by the signal, and a service manager would call an orderly end a failure.
    """

    def ask(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, disposition in before.items():
            signal.signal(number, disposition)


def listen(host: str, port: int, *, shared_port: bool = False) -> socket.socket:
    """Listen before anything else is started: who is told the address may connect at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared_port)
    except OSError as error:
        if error.errno is not None and error.errno < 0:  # of the resolver, which has numbers of its own
            raise LeadsError(f"capture cannot listen on {host}: no such host is known; name another --host") from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise LeadsError(
            f"capture cannot listen on {host}:{port}: {reason}; stop what listens there or name another --port"
        ) from error


def listen_for(workers: int, host: str, port: int) -> list[socket.socket]:
    """A socket for each worker, or one for all of them where the system does not spread connections.

    Measured with two workers and 256 connections that stay: a socket each got 135 and 121 of them, one socket for both
    71 and 185; with four workers and 64 connections 12 to 19 each, against 0 to 33.
    """
    first = listen(host, port)
    if workers == 1 or sys.platform != "linux":
        return [first]
    # The first one has found out that nobody else listens there, which sockets that share a port would not.
    port = first.getsockname()[1]
    first.close()
    return [listen(host, port, shared_port=True) for _ in range(workers)]


def address_of(listening: socket.socket) -> str:
    """The socket's address, for people."""
    address = listening.getsockname()
    if isinstance(address, str):
        return address
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"


def _allow_files(connections: int) -> None:
    """Let the process open as many files as its connections need, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
