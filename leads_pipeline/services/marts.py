"""Parses the dbt project before Dagster's processes load it, so that none of them has to wait for the others' parse."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from leads_pipeline.errors import LeadsError


@contextmanager
def marts_being_prepared(environment: Mapping[str, str]) -> Iterator[None]:
    """Do beside the block what the code location ``analytics`` would do when it is first loaded.

    Raises:
        LeadsError: dbt refuses the project, in its own words; raised when the block ends.
    """
    # dbt costs seconds and a hundred megabytes to import: it gets a process of its own.
    process = subprocess.Popen(
        [sys.executable, "-m", "leads_pipeline.analytics", "prepare"],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    try:
        yield
        said, _errors = process.communicate()
        if process.returncode != 0:
            raise LeadsError(f"the marts cannot be made ready:\n{said.strip()}")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
