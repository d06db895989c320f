"""docs/sources.md does what it says: its blocks of leads.yaml are valid, and its examples are run as they stand."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import sqlalchemy as sa
import yaml

from leads_pipeline.clock import FrozenClock, SystemClock
from leads_pipeline.config import Settings, SourceKind, parse_settings
from leads_pipeline.sources.port import Quarantine
from leads_pipeline.sources.reading import PostReader
from leads_pipeline_tests.capture.running import make_key, running_service
from leads_pipeline_tests.sources.signing import SECRET, STANDARD_SECRET

PAGE = Path(__file__).resolve().parents[2] / "docs/sources.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"\$HOST/v1/in/acme/(\w+)")


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if kind == language]


@dataclass(frozen=True)
class Example:
    """A command of the page, and the blocks that follow it: the answer, what is stored, what it becomes."""

    source: str
    command: str
    told: list[str]


def examples() -> list[Example]:
    found: list[Example] = []
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "bash":
            [source] = ADDRESS.findall(text)
            found.append(Example(source, text, []))
        elif language in ("json", "text"):
            found[-1].told.append(text)
    return found


@pytest.fixture
def documented(tmp_path: Path) -> Settings:
    """All sources of the page, as those of one tenant."""
    sources: dict[str, Any] = {}
    for text in blocks("yaml"):
        sources |= yaml.safe_load(text)
    document = {"version": 1, "tenants": {"acme": {"sources": sources}}}
    return parse_settings(yaml.safe_dump(document), path=tmp_path / "leads.yaml")


@pytest.mark.parametrize("text", blocks("yaml"), ids=lambda text: text.partition(":")[0])
def test_each_block_of_leads_yaml_is_valid(text: str, tmp_path: Path) -> None:
    indented = "".join(f"      {line}\n" for line in text.splitlines())
    whole = f"version: 1\ntenants:\n  acme:\n    sources:\n{indented}"
    settings = parse_settings(whole, path=tmp_path / "leads.yaml")
    assert list(settings.tenants["acme"].sources) == list(yaml.safe_load(text))


def test_every_kind_has_its_section_and_its_example(documented: Settings) -> None:
    sources = documented.tenants["acme"].sources
    assert {sources[example.source].kind for example in examples()} == set(get_args(SourceKind))
    text = PAGE.read_text(encoding="utf-8")
    headings = [line.lstrip("# ").partition(":")[0] for line in text.splitlines() if line.startswith("##")]
    assert set(get_args(SourceKind)) <= set(headings)


def test_every_reason_to_set_a_lead_aside_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [reason for reason in Quarantine if f"`{reason}`" not in text] == []


def test_the_links_within_the_page_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = [line.lstrip("# ") for line in text.splitlines() if line.startswith("##")]
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert [target for target in re.findall(r"\]\(#([^)]+)\)", text) if target not in anchors] == []


@pytest.fixture
def door(documented: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running service with the page's sources, and the real time, which the examples sign."""
    for source in documented.tenants["acme"].sources.values():
        if source.secret is not None:
            monkeypatch.setenv(source.secret.env, secret_of(source.kind))
        if source.verify_token is not None:
            monkeypatch.setenv(source.verify_token.env, "made-up-token")
    with running_service(documented, database_url=database_url, clock=SystemClock()) as url:
        yield url


def secret_of(kind: str) -> str:
    return STANDARD_SECRET if kind == "standard_webhooks" else SECRET


def run(example: Example, *, host: str, key: str, secret: str) -> str:
    variables = {"HOST": host, "KEY": key, "SECRET": secret, "VERIFY_TOKEN": "made-up-token", "NO_PROXY": "127.0.0.1"}
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example.command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_examples_do_what_the_page_says(
    door: str, documented: Settings, engine: sa.Engine, clock: FrozenClock
) -> None:
    """Needs bash, curl, openssl and the usual tools, as the page does."""
    sources = documented.tenants["acme"].sources
    keys = {name: make_key(engine, clock, source=name) for name in sources}
    for example in examples():
        kind = sources[example.source].kind
        answer = run(example, host=door, key=keys[example.source], secret=secret_of(kind))
        told, *kept = example.told
        if "hub.challenge" in example.command:
            assert answer == told.strip()
            continue
        answered, promised = json.loads(answer), json.loads(told)
        assert {name: "…" if promised.get(name) == "…" else value for name, value in answered.items()} == promised
        payload = newest_payload(engine, example.source)
        assert payload == json.loads(kept[0]), example.source
        if len(kept) > 1:
            lead, _names = PostReader(sources[example.source]).read(payload)
            assert {name: value for name, value in lead.items() if not isinstance(value, dict)} == json.loads(kept[1])


def newest_payload(engine: sa.Engine, source: str) -> Any:
    statement = sa.text(
        "select payload from buffer where source = :source order by received_at desc, lead_id desc limit 1"
    )
    with engine.connect() as connection:
        return connection.execute(statement, {"source": source}).scalar_one()
