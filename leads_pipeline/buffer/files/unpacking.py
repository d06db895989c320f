"""A path for libraries that want one: a gzip is unpacked into a file that has no name any more."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from leads_pipeline.buffer.files.content import Content
from leads_pipeline.errors import ImportFileError


class Spool:
    """A temporary file for what must be read more than once. Only its owner can read it, and it goes with its object.

    Where the system can reopen a file by its descriptor it has no name, so that not even a kill leaves leads behind.
    """

    def __init__(self) -> None:
        self.close: Callable[[], object]
        descriptor, name = tempfile.mkstemp(prefix="leads-import-")  # mode 600
        self.file: BinaryIO = os.fdopen(descriptor, "wb")
        by_descriptor = Path(f"/proc/self/fd/{descriptor}")
        if by_descriptor.exists():
            Path(name).unlink()
            self.path = by_descriptor
            self.close = weakref.finalize(self, self.file.close)
        else:
            self.path = Path(name)
            self.close = weakref.finalize(self, partial(_remove, self.file, self.path))


def _remove(file: BinaryIO, path: Path) -> None:
    file.close()
    path.unlink(missing_ok=True)


def unpacked(content: Content) -> tuple[Path, Spool | None]:
    """A path to the unpacked bytes, and what must be kept as long as it is used.

    Raises:
        ImportFileError: it cannot be unpacked, or the disk has no room for it.
    """
    if not content.packed:
        return content.path, None
    spool = Spool()
    with content.open() as opened:
        shutil.copyfileobj(opened.stream, spool.file, 1024 * 1024)
    try:
        spool.file.flush()
    except OSError as error:
        raise ImportFileError(
            f"{content.name} cannot be unpacked to {tempfile.gettempdir()}: {error.strerror}"
        ) from error
    return spool.path, spool
