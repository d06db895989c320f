"""TCP ports for processes that must be told theirs."""

import itertools
import random
import socket

# Below those that Linux gives to whoever asks for any: between this question and the use of the answer, and also while
# a test leaves its port closed on purpose, nobody comes by one of these by chance.
_LOWEST, _ABOVE = 20_000, 32_000
_candidates = itertools.cycle(random.SystemRandom().sample(range(_LOWEST, _ABOVE), _ABOVE - _LOWEST))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that this process is given once."""
    for port in _candidates:
        with socket.socket() as probe:
            # What is left of a connection that has ended is in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there are always more")
