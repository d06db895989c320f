"""Faults that happen on the wire: slow answers, answers that never come, connections that break."""

import asyncio
import contextlib
import socket
import struct

from starlette.requests import Request

from leads_pipeline.sandbox.faults import FaultKind, FaultRule

# The key under which the server puts a request's connection into its state.
TRANSPORT = "sandbox_transport"
# A request that a fault lets hang is given up after this long; no client waits longer.
HANG_SECONDS = 600.0

_HANGING = (FaultKind.TIMEOUT, FaultKind.WRITTEN_THEN_TIMEOUT)
_BREAKING = (FaultKind.RESET_CONNECTION, FaultKind.WRITTEN_THEN_RESET, FaultKind.ANSWERED_THEN_LOST)


async def misbehave(rule: FaultRule, request: Request) -> None:
    """Wait as the rule says; a hanging or breaking one ends the connection."""
    if rule.latency_ms:
        await asyncio.sleep(rule.latency_ms / 1000)
    if rule.kind in _HANGING:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_client_gone(request), HANG_SECONDS)
        _break_connection(request)
    elif rule.kind in _BREAKING:
        _break_connection(request)


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _break_connection(request: Request) -> None:
    """Abort with a TCP reset, so that the client sees an error and not the end of an answer."""
    transport: asyncio.Transport | None = request.scope.get("state", {}).get(TRANSPORT)
    if transport is None:
        raise RuntimeError("a connection can only be broken under the sandbox's own server")
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
