"""Files that commands write."""

from pathlib import Path
from typing import Any

import click


class OutputFile(click.Path):
    """A file to be written, checked before the work begins."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"the directory {str(path.parent)!r} does not exist", param, ctx)
        return path
