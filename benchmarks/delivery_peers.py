"""Other tools against the same sandbox: drt, a sink of dlt's, HubSpot's own client in a loop; and ours, for as long.

Each in an environment of its own, with endless new contacts, against 190 requests / 10 s of the sandbox in another
process. ``records a minute`` are contacts that the sandbox has afterwards, ``refused`` its answers with 429. What
cannot be installed here is said and left out.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delivery_place import DESTINATION, TOKEN, TOKEN_VARIABLE, Deadline, destination, one_tenant, place_for, say
from delivery_rows import tenant_names, write_due

# tool: what it is called, and what pip is asked for.
TOOLS = {
    "drt": ("drt, its HubSpot destination", "drt-core==1.2.1"),
    "dlt": ("dlt, a sink of batches", "dlt==1.31.0"),
    "sdk": ("HubSpot's client in a loop", "hubspot-api-client==12.0.0"),
}
OURS = "leads deliver"
WINDOW = (190, 10)
_INSTALL_SECONDS = 600


@dataclass(frozen=True)
class Scale:
    """For how long each may send, and where the environments are kept."""

    seconds: float
    keep: Path | None = None


FULL = Scale(60.0)
QUICK = Scale(12.0)


def installed(tool: str, directory: Path) -> Path | None:
    """The Python of an environment that has the tool, or ``None`` if it cannot be installed here."""
    python = directory / tool / "bin" / "python"
    if python.exists():
        return python
    say(f"installing {TOOLS[tool][1]}")
    try:
        subprocess.run([sys.executable, "-m", "venv", str(directory / tool)], check=True, timeout=_INSTALL_SECONDS)
        command = [str(python), "-m", "pip", "install", "--quiet", TOOLS[tool][1]]
        subprocess.run(command, check=True, timeout=_INSTALL_SECONDS, capture_output=True)
    except (subprocess.SubprocessError, OSError) as error:
        say(f"{tool} cannot be installed ({type(error).__name__})")
        return None
    return python


def peers(scale: Scale) -> dict[str, Any]:
    """Ours first, then each of the others."""
    found: dict[str, Any] = {OURS: _ours(scale)}
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as temporary:
        directory = scale.keep or Path(temporary) / "environments"
        directory.mkdir(parents=True, exist_ok=True)
        for tool in TOOLS:
            python = installed(tool, directory)
            found[tool] = {"failed": "could not be installed"} if python is None else _theirs(tool, python, scale)
    return found


def _document() -> dict[str, Any]:
    return {
        "tenants": {name: one_tenant() for name in tenant_names(1)},
        "destinations": {DESTINATION: destination([WINDOW])},
    }


def _ours(scale: Scale) -> dict[str, Any]:
    say(f"{OURS} for {scale.seconds:.0f} s")
    with place_for(_document()) as place:
        place.start_sandbox()
        place.start_leads("deliver", "deliver", "--json")
        time.sleep(8.0)  # until it looks for work
        contacts = int((scale.seconds / WINDOW[1] + 2) * WINDOW[0] * 100)
        write_due(place.engine, first=1, count=contacts, destination=DESTINATION)
        began, deadline = time.monotonic(), Deadline(scale.seconds + 60)
        while time.monotonic() - began < scale.seconds:
            deadline.nap(0.1, waiting_for="the time to be over")
        return _counted(place.report(), time.monotonic() - began)


def _theirs(tool: str, python: Path, scale: Scale) -> dict[str, Any]:
    say(f"{TOOLS[tool][0]} for {scale.seconds:.0f} s")
    with place_for(_document()) as place:
        place.start_sandbox()
        script = Path(__file__).with_name("delivery_peers_tools.py")
        environment = {"PATH": place.environment["PATH"], "HOME": str(place.directory), TOKEN_VARIABLE: TOKEN}
        began = time.monotonic()
        command = [str(python), str(script), tool, place.base_url, str(scale.seconds), str(place.directory / tool)]
        try:
            done = subprocess.run(
                command, env=environment, timeout=scale.seconds + 120, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": "did not end in time", **_counted(place.report(), time.monotonic() - began)}
        said = done.stdout.strip().rpartition("\n")[2]
        if done.returncode or not said.startswith("{"):
            return {"failed": f"ended with {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2][:200]}"}
        own = json.loads(said)
        return {"version": own["version"], **_counted(place.report(), own["seconds"])}


def _counted(seen: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "records": seen["contacts"],
        "records_per_minute": seen["contacts"] / seconds * 60,
        "requests": seen["requests"],
        "http_429": seen["http_429"],
    }


def show(found: Mapping[str, Any]) -> None:
    """A table for people."""
    ours = found[OURS]["records_per_minute"]
    print(f"{'':<40}{'records a minute':>18}{'of ours':>9}{'requests':>10}{'refused (429)':>15}{'seconds':>9}")
    for tool, item in found.items():
        name = tool if tool == OURS else f"{TOOLS[tool][0]} {item.get('version', '')}"
        if "records" not in item:
            print(f"{name:<40}{item['failed']}")
            continue
        rate = item["records_per_minute"]
        print(
            f"{name:<40}{rate:>18,.0f}{rate / ours:>9.3f}{item['requests']:>10,}{item['http_429']:>15,}"
            f"{item['seconds']:>9.0f}  {item.get('failed', '')}"
        )
