"""A DNS server on this machine, over UDP and TCP, that answers by rules: also with failures and lies.

with running_dns_sandbox({"acme.example": DnsRule(DomainKind.SERVFAIL)}) as dns:
    look_up(resolvers=(dns.address,))
    assert dns.report()["names"] == {"acme.example": 2}
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.errors import LeadsError
from leads_pipeline.verification.sandbox.dns_answers import answer_to, name_of, parsed
from leads_pipeline.verification.sandbox.domains import DnsRule, DomainKind, rule_for

START_SECONDS = 10.0
# The sandbox looks at its clock this often while an answer is held back: a test's clock moves without telling.
_LOOK_SECONDS = 0.005
_TCP_IDLE_SECONDS = 30.0


class DnsSandbox:
    """A DNS server on a thread of its own.

    ``rules`` by domain, ``*.domain`` or ``*``; without one, a domain's name decides (``domains.kind_of``).
    """

    def __init__(
        self,
        rules: Mapping[str, DnsRule] | None = None,
        *,
        clock: Clock | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Bind the port (0: a free one), so that ``address`` is known before ``start``.

        Raises:
            LeadsError: the port is taken, or the address is not this machine's.
        """
        self._rules = dict(rules or {})
        self._clock = clock or SystemClock()
        self._udp, self._tcp = _bind(host, port)
        self.host, self.port = host, int(self._udp.getsockname()[1])
        self._lock = threading.Lock()
        self._names: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._over_tcp = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), name="sandbox-dns", daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, as ``verification.mx.resolvers`` takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def set_rules(self, rules: Mapping[str, DnsRule]) -> None:
        """Replace the rules."""
        with self._lock:
            self._rules = dict(rules)

    def report(self) -> dict[str, Any]:
        """What was asked: ``queries``, ``over_tcp``, and counts by ``names``, ``types`` and ``answers``."""
        with self._lock:
            return {
                "vendor": "dns",
                "queries": self._names.total(),
                "over_tcp": self._over_tcp,
                "names": dict(sorted(self._names.items())),
                "types": dict(sorted(self._kinds.items())),
                "answers": dict(sorted(self._answers.items())),
            }

    def reset(self) -> None:
        """Forget what was asked. Rules stay."""
        with self._lock:
            for counts in (self._names, self._kinds, self._answers):
                counts.clear()
            self._over_tcp = 0

    def start(self) -> None:
        """Return when it answers.

        Raises:
            LeadsError: it does not come up.
        """
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise LeadsError(f"the DNS sandbox did not start on {self.address} within {START_SECONDS:.0f} s")

    def stop(self) -> None:
        """End it and its thread. A second call does nothing."""
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # it ended meanwhile
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._udp.close()
        self._tcp.close()

    async def serve(self, *, on_started: Callable[[], None] = lambda: None) -> None:
        """Answer until ``stop``, or until this task is cancelled."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        transport, _protocol = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=self._udp)
        server = await asyncio.start_server(self._converse, sock=self._tcp)
        self._started.set()
        on_started()
        try:
            await self._stop.wait()
        finally:
            server.close()
            transport.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, wire: bytes, reply: Callable[[bytes], None]) -> None:
        """Answer one datagram, now or when its rule says."""
        task = asyncio.get_running_loop().create_task(self._take(wire, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, wire: bytes, reply: Callable[[bytes], None]) -> None:
        answer = await self._answer(wire, over_tcp=False)
        if answer is not None:
            reply(answer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            while True:
                async with asyncio.timeout(_TCP_IDLE_SECONDS):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(length)
                answer = await self._answer(wire, over_tcp=True)
                if answer is not None:
                    writer.write(struct.pack("!H", len(answer)) + answer)
                    await writer.drain()
        writer.close()

    async def _answer(self, wire: bytes, *, over_tcp: bool) -> bytes | None:
        query = parsed(wire)
        if query is None:
            return None
        name = name_of(query)
        with self._lock:
            rule = rule_for(name, self._rules)
            said, answer = answer_to(query, rule, over_tcp=over_tcp)
            self._names[name or "."] += 1
            self._kinds[query.question[0].rdtype.name] += 1
            self._answers[said] += 1
            self._over_tcp += over_tcp
            due = self._clock.monotonic() + rule.seconds  # whoever sees it in the report may move the clock
        if rule.kind is DomainKind.SLOW:
            while self._clock.monotonic() < due:  # noqa: ASYNC110 - the clock may be one that a test moves
                await asyncio.sleep(_LOOK_SECONDS)
        return answer


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, sandbox: DnsSandbox) -> None:
        self._sandbox = sandbox
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        def reply(answer: bytes) -> None:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.sendto(answer, addr)

        self._sandbox.take(data, reply)


def _bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """One port for UDP and TCP. A free one may be taken for the other protocol: then another is tried."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for attempt in range(20):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.bind((host, port))
            tcp.bind((host, udp.getsockname()[1]))
        except OSError as error:
            udp.close()
            tcp.close()
            if port or attempt == 19:
                raise LeadsError(
                    f"the DNS sandbox cannot listen on {host}:{port}: {error.strerror}. "
                    "Choose another port with --port."
                ) from error
        else:
            udp.setblocking(False)
            return udp, tcp
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def running_dns_sandbox(
    rules: Mapping[str, DnsRule] | None = None, *, clock: Clock | None = None, port: int = 0
) -> Iterator[DnsSandbox]:
    """A DNS server that answers inside the block and is gone after it."""
    sandbox = DnsSandbox(rules, clock=clock, port=port)
    try:
        sandbox.start()
        yield sandbox
    finally:
        sandbox.stop()
