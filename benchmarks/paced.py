"""An open-loop sender: requests leave at a steady rate whether answers come or not, and a wait for a free connection
counts. A closed loop slows down with the server and so hides how long people wait.
"""

import asyncio
import gc
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

TICK_SECONDS = 0.001


@dataclass(frozen=True)
class PacedRun:
    """What came of one run. Delays count from the moment at which a request was due."""

    answered: int
    per_second: float
    p50_ms: float
    p99_ms: float


class _Connection(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self, sender: "_Sender") -> None:
        self._sender = sender
        self._received = b""
        self._due = 0.0
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)  # uvloop's are not of asyncio's class

    def post(self, request: bytes, due: float) -> None:
        assert self.transport is not None
        self._due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        self._received = b""
        self._sender.answered(self, head[9:12], time.perf_counter() - self._due)


class _Sender:
    def __init__(self, request: Callable[[int], bytes]) -> None:
        self._request = request
        self._due: deque[float] = deque()
        self._posted = 0
        self._total: int | None = None
        self._done = asyncio.Event()
        self.idle: list[_Connection] = []
        self.delays: list[float] = []

    def wants(self, due: float) -> None:
        self._due.append(due)
        self._post()

    def answered(self, connection: _Connection, status: bytes, delay: float) -> None:
        if status != b"202":
            raise SystemExit(f"a lead was answered with {status.decode()}")
        self.delays.append(delay)
        self.idle.append(connection)
        if len(self.delays) == self._total:
            self._done.set()
        self._post()

    async def finished(self, total: int) -> None:
        """Until so many are answered."""
        self._total = total
        if len(self.delays) < total:
            await self._done.wait()

    def _post(self) -> None:
        while self._due and self.idle:
            self._posted += 1
            self.idle.pop().post(self._request(self._posted), self._due.popleft())


async def send_paced(
    port: int, request: Callable[[int], bytes], *, per_second: float, seconds: float, connections: int
) -> PacedRun:
    """Post at ``per_second`` for so long; ``request`` makes the bytes of each."""
    gc.collect()  # a pause of the sender's own would count as the server's
    gc.freeze()
    loop = asyncio.get_running_loop()
    sender = _Sender(request)
    for _ in range(connections):
        _transport, connection = await loop.create_connection(lambda: _Connection(sender), "127.0.0.1", port)
        sender.idle.append(connection)
    began = time.perf_counter()
    wanted = 0
    total = int(per_second * seconds)
    while wanted < total:
        now = time.perf_counter()
        while wanted < total and began + wanted / per_second <= now:
            sender.wants(began + wanted / per_second)
            wanted += 1
        await asyncio.sleep(TICK_SECONDS)
    async with asyncio.timeout(30):
        await sender.finished(total)
    took = time.perf_counter() - began
    for connection in sender.idle:
        assert connection.transport is not None
        connection.transport.close()
    cuts = statistics.quantiles(sender.delays, n=100)
    return PacedRun(len(sender.delays), len(sender.delays) / took, cuts[49] * 1e3, cuts[98] * 1e3)
