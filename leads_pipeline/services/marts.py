"""Parses the dbt project before Dagster's processes load it, so that none of them has to wait for the others' parse."""

import subprocess
import sys
from collections.abc import Mapping

from leads_pipeline.errors import LeadsError


def prepare_marts(environment: Mapping[str, str]) -> None:
    """Do what the code location ``analytics`` would do when it is first loaded.

    Raises:
        LeadsError: dbt refuses the project, in its own words.
    """
    # dbt costs seconds and a hundred megabytes to import: it gets a process of its own.
    done = subprocess.run(
        [sys.executable, "-m", "leads_pipeline.analytics", "prepare"],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        raise LeadsError(f"the marts cannot be made ready:\n{done.stdout.strip()}")
