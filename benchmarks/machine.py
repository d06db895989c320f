"""On what machine a benchmark ran, and its results as a file."""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil


def machine() -> dict[str, Any]:
    """What decides how fast a benchmark runs, and how busy the machine is with other things."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=True),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "load_1_min": round(os.getloadavg()[0], 1),
    }


def describe_machine() -> str:
    """One line for people."""
    found = machine()
    return (
        f"on {found['processor']}, {found['cores']} cores, {found['memory_gib']} GiB, "
        f"{found['system']} {found['release']}, Python {found['python']}, load {found['load_1_min']}"
    )


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write a benchmark's figures with the machine and the time beside them."""
    document = {"machine": machine(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "results": results}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    """The processor's name; Linux alone keeps it in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "an unnamed processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "an unnamed processor"
