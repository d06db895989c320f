"""A folder as its reader sees it, by the rules of docs/destinations.md, and what can befall those who write to it."""

import csv
import io
import json
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from leads_pipeline.config import FileSettings
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.port import Courier, CrmClient, CrmRecord, CrmRequest, CrmResponse, RecordVerdict
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.outbound.access_tokens import MemoryTokens
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.crm.contract import Held


def lines(folder: Path) -> list[dict[str, Any]]:
    """Every line of every file, files by the time at which they were written."""
    found = []
    for path in sorted(folder.glob("contacts-*"), key=lambda item: item.stat().st_mtime_ns):
        text = path.read_bytes().decode()
        if path.suffix == ".ndjson":
            assert text.endswith("\n")
            found += [json.loads(line) for line in text.split("\n")[:-1]]
        else:
            for row in csv.DictReader(io.StringIO(text, newline="")):
                own = {name: row.pop(name) for name in ("contact_id", "tenant", "version", "operation")}
                found.append(
                    {**own, "version": int(own["version"]), "properties": {k: v or None for k, v in row.items()}}
                )
    return found


def current(folder: Path) -> dict[str, dict[str, Any]]:
    """What a reader makes of it: the highest version of each contact; of equal ones the last. The erased are gone."""
    held: dict[str, dict[str, Any]] = {}
    found = sorted(lines(folder), key=lambda line: line["version"])
    erased = {line["contact_id"] for line in found if line["operation"] == "erased"}
    for line in found:
        key = line["contact_id"]
        if line["operation"] == "upserted":
            held[key] = {name: value for name, value in line["properties"].items() if value is not None}
        elif line["operation"] == "consent_withdrawn" and key in held:
            held[key] |= {name: value for name, value in line["properties"].items() if value is not None}
        else:
            held.pop(key, None)
    return {key: properties for key, properties in held.items() if key not in erased}


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class _Unlucky:
    """A client whose next request, after some, meets a full disk."""

    def __init__(self, client: CrmClient, played: "PlayedFolder") -> None:
        self._client, self._played = client, played
        self.traits = client.traits

    def send(self, request: CrmRequest) -> CrmResponse:
        if not self._played.disk_is_full_after(request):
            return self._client.send(request)
        with full_disk():
            return self._client.send(request)

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        return self._client.deliver(records, courier=courier)

    def describe(self, *, courier: Courier) -> DestinationSchema:
        return self._client.describe(courier=courier)

    def close(self) -> None:
        self._client.close()


class PlayedFolder:
    """A folder, as the contract sees a vendor."""

    names: Mapping[str, str] = {name: name for name in ("email", "first_name", "last_name", "company")}
    key = "contact_id"

    def __init__(self, path: Path, stack: ExitStack, *, format_: str) -> None:
        self.path = path
        self._stack = stack
        self._format = format_
        self._spared: int | None = None
        path.mkdir()

    def client(self, *, timeout_seconds: float = 5, base_url: str | None = None) -> CrmClient:
        settings = FileSettings(
            vendor="file", account="folder", directory=str(self.path), format=self._format, batch_size=50,
            timeout_seconds=timeout_seconds,
        )  # fmt: skip
        return self._stack.enter_context(closing(_Unlucky(BUILDERS["file"](settings, MemoryTokens()), self)))

    def held(self) -> dict[UUID, Held]:
        return {UUID(key): Held(None, properties) for key, properties in current(self.path).items()}

    def made_by_people(self, **fields: str) -> str:
        raise NotImplementedError("nobody else writes there")

    def count(self) -> int:
        return len(current(self.path)) if self.path.is_dir() else 0

    def limited(self, requests: int) -> None:
        raise NotImplementedError("a disk has no quota of requests")

    def disk_is_full_after(self, _request: CrmRequest) -> bool:
        if self._spared is None:
            return False
        self._spared -= 1
        if self._spared >= 0:
            return False
        self._spared = None
        return True

    def fail(self, *rules: Mapping[str, Any]) -> None:
        aside = self.path.with_name("aside")
        if aside.exists():
            if self.path.exists():
                self.path.unlink()
            aside.rename(self.path)
        self._spared = None
        spared = sum(rule.get("count", 0) for rule in rules if rule["kind"] is FaultKind.SLOW)
        for rule in rules:
            if rule["kind"] is FaultKind.HTTP_503:
                self._spared = spared
            elif rule["kind"] is FaultKind.AUTH:  # an unmounted disk
                self.path.rename(aside)
            elif rule["kind"] is FaultKind.FORBIDDEN_403:  # a file where the folder should be
                self.path.rename(aside)
                self.path.write_bytes(b"")
            else:
                assert rule["kind"] is FaultKind.SLOW, f"{rule['kind']} is no trouble of a disk"
