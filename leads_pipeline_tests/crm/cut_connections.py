"""A man in the middle of connections to PostgreSQL, who lets a commit get lost on its way there, or on its way back."""

import socket
import threading
from contextlib import suppress

from leads_pipeline.sandbox.faults import FaultKind

BEFORE = (FaultKind.RESET_CONNECTION, FaultKind.TIMEOUT)
AFTER = (FaultKind.WRITTEN_THEN_RESET, FaultKind.WRITTEN_THEN_TIMEOUT)


class Middleman:
    """Passes everything on. Once it is armed, the next commit has the trouble, after ``spared`` others."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._armed: FaultKind | None = None
        self._spared = 0
        self._pairs: list[_Pair] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, kind: FaultKind | None, *, spared: int = 0) -> None:
        self._armed, self._spared = kind, spared

    def fires(self) -> FaultKind | None:
        """The trouble of this commit, if it has one."""
        if self._armed is None:
            return None
        if self._spared:
            self._spared -= 1
            return None
        kind, self._armed = self._armed, None
        return kind

    def close(self) -> None:
        _hang_up(self._listener)
        for pair in self._pairs:
            pair.hang_up()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._pairs.append(_Pair(self, client, socket.create_connection(self._target)))


class _Pair:
    """One connection, in both directions."""

    def __init__(self, middleman: Middleman, client: socket.socket, server: socket.socket) -> None:
        self._middleman = middleman
        self._client, self._server = client, server
        self._muted, self._answered = threading.Event(), threading.Event()
        for carry in (self._to_server, self._to_client):
            threading.Thread(target=self._until_it_ends, args=(carry,), daemon=True).start()

    def hang_up(self) -> None:
        _hang_up(self._client)
        _hang_up(self._server)

    def _until_it_ends(self, carry) -> None:  # type: ignore[no-untyped-def] - one of the two below
        with suppress(OSError):
            carry()
        self.hang_up()

    def _to_server(self) -> None:
        while content := self._client.recv(65_536):
            kind = self._middleman.fires() if b"COMMIT" in content else None
            if kind in AFTER:
                self._muted.set()
                self._server.sendall(content)
                self._answered.wait(10)
            elif kind is None:
                self._server.sendall(content)
            if kind in (FaultKind.TIMEOUT, FaultKind.WRITTEN_THEN_TIMEOUT):
                self._client.recv(1)  # comes back once the client has given up
            if kind is not None:
                return

    def _to_client(self) -> None:
        while content := self._server.recv(65_536):
            if self._muted.is_set():
                self._answered.set()
            else:
                self._client.sendall(content)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
