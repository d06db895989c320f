"""Asking DNS servers: each at its own pace, the next one where one fails, and only those believed that tell the truth.

Knows questions and answers, not what they mean for mail; that is ``mx``. An answer that is none (SERVFAIL, REFUSED,
silence, garbage, a referral) is ``None``: a failure, never a statement about the name.
"""

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakKeyDictionary

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver

from leads_pipeline.clock import Clock
from leads_pipeline.config import MxSettings
from leads_pipeline.errors import ConfigError

Sleep = Callable[[float], Awaitable[None]]
Reserve = Callable[[float], float]

# A server that failed so often in a row is asked last for a while. Not left out: it may be the only one that is right.
FAILURES_IN_A_ROW = 3
REST_SECONDS = 5.0
# How long a test of a server's honesty holds: that it is honest, that it lies, and that the test itself failed.
HONEST_SECONDS = 60.0
LIES_SECONDS = 60.0
UNTESTED_SECONDS = 5.0
# So much of a server's time is taken at once where it is shared between processes.
SHARED_STRETCH_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server said of a name and a type: whether the name exists at all, and its records of the type."""

    exists: bool
    records: tuple[dns.rdata.Rdata, ...] = ()


class Pace:
    """Lets through so many a second, evenly spaced. Safe to share between threads, each with its own event loop.

    ``reserve`` is asked where other processes ask the same server: it takes a stretch of so many seconds and says in
    how many seconds that begins.
    """

    def __init__(self, per_second: float, *, clock: Clock, sleep: Sleep, reserve: Reserve | None = None) -> None:
        self._interval = 1 / per_second
        self._stretch = max(self._interval, SHARED_STRETCH_SECONDS)
        self._clock = clock
        self._sleep = sleep
        self._reserve = reserve
        self._lock = threading.Lock()
        self._next = 0.0
        self._ends = 0.0  # of the stretch that was reserved

    @property
    def wait_seconds(self) -> float:
        """How long whoever comes now would wait, as far as this process knows."""
        return max(0.0, self._next - self._clock.monotonic())

    async def turn(self) -> None:
        """Wait for one's turn. Whoever is cancelled meanwhile gives it back."""
        with self._lock:
            now = self._clock.monotonic()
            turn = max(now, self._next)
            if self._reserve is not None and turn > self._ends - self._interval * 0.99:
                turn = max(turn, now + self._reserve(self._stretch))
                self._ends = turn + self._stretch
            self._next = turn + self._interval
        if turn <= now:
            return
        try:
            await self._sleep(turn - now)
        except asyncio.CancelledError:
            with self._lock:
                self._next -= self._interval
            raise


@dataclass(eq=False, slots=True)
class Server:
    """One DNS server, and what this process has seen of it."""

    address: str
    port: int
    pace: Pace
    timeout_seconds: float
    clock: Clock
    failures: int = 0
    rests_until: float = 0.0
    has_found: bool = False  # since the last test it knew hosts of some domain: it does not deny everything
    _is_honest: bool = False
    _judged_until: float = 0.0
    _tests: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[bool]]" = field(
        default_factory=WeakKeyDictionary
    )

    @property
    def is_resting(self) -> bool:
        return self.rests_until > self.clock.monotonic()

    async def ask(self, name: str, record_type: dns.rdatatype.RdataType) -> Reply | None:
        """Ask once; ``None`` if there was no answer, or none that could be one."""
        await self.pace.turn()
        reply = await self._ask(name, record_type)
        if reply is not None:
            self.failures = 0
            self.has_found |= bool(reply.records) and record_type is dns.rdatatype.MX
        else:
            self.failures += 1
            if self.failures >= FAILURES_IN_A_ROW:
                self.rests_until = self.clock.monotonic() + REST_SECONDS
        return reply

    async def is_honest(self) -> bool:
        """Whether it knows what exists and denies what does not; asked of itself, now and then.

        A portal that wants to be paid answers every name with its own address, a broken one answers that none exists.
        """
        if self._judged_until > self.clock.monotonic():
            return self._is_honest
        loop = asyncio.get_running_loop()
        test = self._tests.get(loop)
        if test is None or test.done():
            test = self._tests[loop] = loop.create_task(self._test(), name="test of a DNS server")
        return await asyncio.shield(test)

    async def _test(self) -> bool:
        nobody = await self.ask(f"{secrets.token_hex(12)}.com", dns.rdatatype.A)
        root = None if self.has_found else await self.ask(".", dns.rdatatype.NS)
        knows = self.has_found or (root is not None and bool(root.records))
        self._is_honest = knows and nobody is not None and not nobody.exists
        if self._is_honest:
            holds = HONEST_SECONDS
        else:
            holds = UNTESTED_SECONDS if nobody is None or (root is None and not knows) else LIES_SECONDS
        self.has_found = False
        self._judged_until = self.clock.monotonic() + holds
        return self._is_honest

    async def _ask(self, name: str, record_type: dns.rdatatype.RdataType) -> Reply | None:
        try:
            # Whatever is not the answer to this question is passed over, as anybody can send it: it costs the time-out.
            response, _over_tcp = await dns.asyncquery.udp_with_fallback(
                dns.message.make_query(name, record_type, use_edns=0),
                self.address,
                port=self.port,
                timeout=self.timeout_seconds,
                ignore_unexpected=True,
                ignore_errors=True,
            )
            return _read(response)
        except Exception:  # noqa: BLE001 - a server can send anything, and the network can fail in any way
            return None


def _read(response: dns.message.Message) -> Reply | None:
    """What a response says.

    Raises:
        DNSException: it contradicts itself.
    """
    if not isinstance(response, dns.message.QueryMessage):
        return None
    code = response.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return None
    answer = response.resolve_chaining().answer
    if answer is not None:
        return Reply(exists=True, records=tuple(answer))
    if code == dns.rcode.NXDOMAIN:
        return Reply(exists=False)
    kinds = {rrset.rdtype for rrset in response.authority}
    if dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds:
        return None  # a referral: it does not know, and says who might
    return Reply(exists=True)


def servers_of(
    settings: MxSettings, *, clock: Clock, sleep: Sleep, reserve: Callable[[str, float], float] | None = None
) -> tuple[Server, ...]:
    """The configured servers, or the machine's own. ``reserve``: of a server (``address:port``), as for ``Pace``.

    Raises:
        ConfigError: there is none.
    """
    found = settings.addresses or _own_servers()
    return tuple(
        Server(
            address,
            port,
            Pace(
                settings.queries_per_second,
                clock=clock,
                sleep=sleep,
                reserve=None if reserve is None else partial(reserve, f"{address}:{port}"),
            ),
            settings.timeout_seconds,
            clock,
        )
        for address, port in dict.fromkeys(found)
    )


def in_order(servers: Sequence[Server]) -> list[Server]:
    """Whom to ask first: who answers, then who is free soonest."""
    return sorted(servers, key=lambda server: (server.is_resting, server.pace.wait_seconds))


def _own_servers() -> tuple[tuple[str, int], ...]:
    try:
        own = dns.resolver.Resolver(configure=True)
    except dns.resolver.NoResolverConfiguration:
        own = None
    found = tuple((str(server), own.port) for server in own.nameservers) if own is not None else ()
    if not found:
        raise ConfigError("this machine names no DNS server; name some under verification.mx.resolvers in leads.yaml")
    return found
