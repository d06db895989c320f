"""Connections to Redis or Valkey, what is asked of a server before it is given a lead, and its errors in our words.

Needs the extra: ``pip install 'leads_pipeline[redis]'``.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from leads_pipeline.errors import ConfigError, DatabaseUnavailable, Unavailability

CONNECT_SECONDS = 3.0
# As for PostgreSQL: a server that is stopped must not hold a sender for minutes.
ANSWER_SECONDS = 10.0

# SET … NX GET, flags of scripts and the lag of a group came with 7.0.
OLDEST_VERSION = 7

SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")

# The word by which a server names a refusal, and why no lead can be stored.
_REFUSALS = {
    "OOM": (Unavailability.DISK_FULL, "its memory is full (maxmemory)"),
    "MISCONF": (Unavailability.DISK_FULL, "it cannot write to its disk"),
    "READONLY": (Unavailability.READ_ONLY, "it is a read-only replica"),
    "NOREPLICAS": (Unavailability.READ_ONLY, "it has too few replicas to take writes"),
    "LOADING": (Unavailability.UNREACHABLE, "it is still reading its files"),
    "MASTERDOWN": (Unavailability.UNREACHABLE, "it has lost its master"),
    "BUSY": (Unavailability.UNREACHABLE, "a script keeps it busy"),
    "UNKILLABLE": (Unavailability.UNREACHABLE, "a script keeps it busy"),
    "CLUSTERDOWN": (Unavailability.UNREACHABLE, "its cluster is down"),
    "NOAUTH": (Unavailability.UNREACHABLE, "it asks for a password"),
    "NOPERM": (Unavailability.UNREACHABLE, "this user may not do that"),
}
# redis-py takes the word away where it has a class for it.
_REFUSAL_CLASSES: tuple[tuple[type[redis.exceptions.RedisError], str], ...] = (
    (redis.exceptions.OutOfMemoryError, "OOM"),
    (redis.exceptions.ReadOnlyError, "READONLY"),
    (redis.exceptions.BusyLoadingError, "LOADING"),
    (redis.exceptions.AuthenticationError, "NOAUTH"),
    (redis.exceptions.NoPermissionError, "NOPERM"),
)


def connect(url: str, *, seconds: float | None = None) -> "redis.Redis":
    """A client for steps and commands. Nothing is sent yet. ``seconds``: how long it waits, if shorter than usual.

    Raises:
        ConfigError: it is no URL of a Redis. The message does not repeat it: it may hold a password.
    """
    allowed = ANSWER_SECONDS if seconds is None else max(0.001, seconds)  # 0 would be: do not wait at all
    with _readable_url():
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=min(allowed, CONNECT_SECONDS),
            socket_timeout=min(allowed, ANSWER_SECONDS),
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            client_name="leads_pipeline",
        )


def connect_async(url: str) -> "redis.asyncio.Redis":
    """A client for the capture service; as ``connect``. Trying again is the writer's business."""
    with _readable_url():
        return redis.asyncio.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_keepalive=True,
            retry=AsyncRetry(NoBackoff(), 0),
            client_name="leads_capture",
        )


@contextmanager
def _readable_url() -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise ConfigError(
            "the Redis URL cannot be read; it must look like redis://user:password@host:6379/0, "
            "or rediss:// for TLS, with @ : / ? # % in a password written as %40 %3A %2F %3F %23 %25"
        ) from None


@contextmanager
def translated_errors(doing: str) -> Iterator[None]:
    """Turn what says that Redis takes nothing for now into ``DatabaseUnavailable``; ``doing`` says what was tried."""
    try:
        yield
    except redis.exceptions.NoScriptError:
        raise
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        found = unavailable(error, doing)
        if found is None:
            raise
        raise found from error


def unavailable(error: BaseException, doing: str) -> DatabaseUnavailable | None:
    """The driver's error as ours, or ``None`` if it is about the command and not about the server."""
    word = next((name for kind, name in _REFUSAL_CLASSES if isinstance(error, kind)), None)
    if word is None and isinstance(error, redis.exceptions.ResponseError):
        text = str(error)  # a refused script's word stands in the middle of a sentence
        word = next((name for name in _REFUSALS if re.search(rf"\b{name}\b", text)), None)
    if word is not None:
        why, reason = _REFUSALS[word]
        return DatabaseUnavailable(f"{doing}: the Redis buffer takes nothing, {reason}; try again", why=why)
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError | OSError):
        return DatabaseUnavailable(f"{doing}: the buffer cannot be reached (Redis does not answer); try again")
    return None


def objections(
    info: Mapping[str, Any], settings: Mapping[str | None, str | None] | None, *, accept_losing_a_second: bool
) -> list[str]:
    """Why a server cannot be trusted with leads; empty if it can.

    ``info`` is what INFO says, ``settings`` what CONFIG GET says, ``None`` where that command is forbidden.
    """
    return [
        *_of_version(info),
        *_of_eviction(info, settings),
        *([] if accept_losing_a_second else _of_durability(info, settings)),
    ]


def _of_version(info: Mapping[str, Any]) -> list[str]:
    name, version = "Redis", str(info.get("redis_version", ""))
    if "valkey_version" in info:
        name, version = "Valkey", str(info["valkey_version"])
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) >= OLDEST_VERSION:
        return []
    return [f"it is {name} {version or 'of an unknown version'}; version {OLDEST_VERSION} or newer is needed"]


def _of_eviction(info: Mapping[str, Any], settings: Mapping[str | None, str | None] | None) -> list[str]:
    policy = (settings or {}).get("maxmemory-policy") or info.get("maxmemory_policy") or "unknown"
    if policy == "noeviction":
        return []
    return [f"maxmemory-policy is {policy}: when full it would throw leads away; set it to noeviction"]


def _of_durability(info: Mapping[str, Any], settings: Mapping[str | None, str | None] | None) -> list[str]:
    unless = "or accept with buffer.redis.accept_losing_a_second that a crash loses acknowledged leads"
    if settings is None:
        is_off = "appendonly is no" if str(info.get("aof_enabled")) == "0" else "its settings cannot be seen"
        hidden = f"{is_off}: CONFIG is forbidden to this user, as on most managed services, so nobody knows whether it "
        return [hidden + f"is 'appendfsync always'; allow the command CONFIG GET, {unless}"]
    wanted = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
    return [
        f"{name} is {settings.get(name, 'unknown')}: set it to {value}, {unless}"
        for name, value in wanted.items()
        if settings.get(name) != value
    ]


def refusal(found: list[str]) -> ConfigError:
    """What a service says that does not start on such a server."""
    return ConfigError("the Redis of buffer.redis cannot be trusted with leads", faults=tuple(found))
