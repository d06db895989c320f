"""The marts for analysts, outside of Dagster's daemon: made ready to be loaded, and built once."""

import subprocess
import sys
from collections.abc import Mapping

from leads_pipeline.errors import LeadsError

_TAIL_LINES = 15


def prepare_marts(environment: Mapping[str, str]) -> None:
    """Parse the dbt project, so that the code location ``analytics`` loads without doing so.

    Raises:
        LeadsError: dbt refused; the message holds the end of what it said.
    """
    _run("prepare", environment)


def build_marts(environment: Mapping[str, str]) -> None:
    """Build and test every dbt model now. Raises as ``prepare_marts``."""
    _run("build", environment)


def _run(what: str, environment: Mapping[str, str]) -> None:
    # dbt costs seconds to import and keeps global state: it gets a process of its own.
    done = subprocess.run(
        [sys.executable, "-m", "leads_pipeline.analytics", what],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-_TAIL_LINES:])
        raise LeadsError(f"the marts could not be made ({what}); dbt's last lines:\n{tail}")
