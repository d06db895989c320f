"""Where a file comes from: a path, standard input, a web address, or any store that fsspec knows.

What is not a path is read once into a temporary file that only its owner can read and that goes with the command:
finding out the dialect, the hash and where to resume all need to go back. Only the named address is contacted, and
where it redirects to.
"""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from leads_pipeline.buffer.files.unpacking import Spool
from leads_pipeline.errors import ImportFileError

STANDARD_INPUT = "-"
_BLOCK_BYTES = 1024 * 1024
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(::|://)", re.IGNORECASE)
# A server that says nothing for so long is not going to.
_TIMEOUT_SECONDS = 30.0

FetchProgress = Callable[[int, int | None], None]  # bytes so far, and of how many if that is known


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that can be read. ``beside`` is the path that an error file lies beside."""

    path: Path
    name: str
    beside: Path


def is_address(location: str) -> bool:
    """Whether it is not a path of this machine."""
    return location == STANDARD_INPUT or _SCHEME.match(location) is not None


@contextmanager
def fetched(location: str, *, stdin: BinaryIO, on_progress: FetchProgress) -> Iterator[Fetched]:
    """Have the file at ``location`` as long as the context lasts.

    Raises:
        ImportFileError: it cannot be had; the message holds no password or query of an address.
    """
    path = Path(location)
    is_pipe = not is_address(location) and (path.is_fifo() or path.is_char_device())  # of a shell's <(command)
    if not is_address(location) and not is_pipe:
        yield Fetched(path, str(path), path)
        return
    spool = Spool()
    try:
        name = _shown(location)
        if is_pipe:
            with path.open("rb") as pipe:
                _write(spool, _blocks(pipe), name, on_progress)
        elif location == STANDARD_INPUT:
            _write(spool, _blocks(stdin), name, on_progress)
        elif location.lower().startswith(("http://", "https://")):
            _write(spool, _from_web(location, name), name, on_progress)
        else:
            _write(spool, _from_store(location, name), name, on_progress)
        yield Fetched(spool.path, name, Path(_last_part(location)))
    finally:
        spool.close()


def _write(spool: Spool, blocks: Iterator[tuple[bytes, int | None]], name: str, on_progress: FetchProgress) -> None:
    done = 0
    for block, total in blocks:
        try:
            spool.file.write(block)
        except OSError as error:
            raise ImportFileError(
                f"{name} does not fit into {tempfile.gettempdir()}: {error.strerror}; set TMPDIR to one with room"
            ) from error
        done += len(block)
        on_progress(done, total)
    spool.file.flush()


def _blocks(stream: BinaryIO) -> Iterator[tuple[bytes, int | None]]:
    while block := stream.read(_BLOCK_BYTES):
        yield block, None


def _from_web(address: str, name: str) -> Iterator[tuple[bytes, int | None]]:
    import httpx  # noqa: PLC0415 - for those who import from the web

    try:
        with (
            httpx.Client(follow_redirects=True, timeout=_TIMEOUT_SECONDS) as client,
            client.stream("GET", address) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ImportFileError(
                    f"{name} answered {response.status_code} {response.reason_phrase}; check the address, and whether "
                    "it wants a login"
                )
            length = response.headers.get("content-length", "")
            total = int(length) if length.isdigit() and "content-encoding" not in response.headers else None
            for block in response.iter_bytes(_BLOCK_BYTES):
                yield block, total
    except httpx.TimeoutException as error:
        raise ImportFileError(f"{name} did not answer within {_TIMEOUT_SECONDS:.0f} seconds; try again") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ImportFileError(f"{name} cannot be fetched: {type(error).__name__}; check the address") from error


def _from_store(address: str, name: str) -> Iterator[tuple[bytes, int | None]]:
    import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 - for those who import from a store

    scheme = re.split(r"::|://", address, maxsplit=1)[0]
    try:
        with fsspec.open(address, "rb") as file:
            size = getattr(file, "size", None)
            while block := file.read(_BLOCK_BYTES):
                yield block, size if isinstance(size, int) else None
    except ImportError as error:
        raise ImportFileError(f"{scheme}:// needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise ImportFileError(
            f"nothing here knows how to read {scheme}://; it takes https:// and what fsspec has a driver for"
        ) from error
    except FileNotFoundError as error:
        raise ImportFileError(f"there is no {name}") from error
    except ImportFileError:
        raise
    except Exception as error:  # every store has its own errors, which may quote the address with its secrets
        raise ImportFileError(
            f"{name} cannot be read: {type(error).__name__}; check the address and the login that {scheme}:// uses"
        ) from error


def _shown(location: str) -> str:
    """An address without what may be secret: user, password, query, fragment."""
    if location == STANDARD_INPUT:
        return "standard input"
    if not is_address(location):
        return location
    return "::".join(map(_shown_link, location.split("::")))


def _shown_link(link: str) -> str:
    """One link of a chain such as ``simplecache::https://…``, of which only the first may be a mere name."""
    if "://" not in link:
        return link
    parts = urlsplit(link)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _last_part(location: str) -> str:
    if location == STANDARD_INPUT:
        return "stdin"
    name = PurePosixPath(unquote(urlsplit(location).path)).name
    return re.sub(rf"[\x00-\x1f{re.escape(os.sep)}]", "_", name) or "download"
