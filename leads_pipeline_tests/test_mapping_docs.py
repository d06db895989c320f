"""docs/mapping.md: its settings are valid, and its example prints what the page shows."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from leads_pipeline.cli import cli
from leads_pipeline.config import parse_settings
from leads_pipeline.domain.field_mapping import TRANSFORM_NAMES

PAGE = (Path(__file__).resolve().parent.parent / "docs/mapping.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_block_of_settings_is_valid(text: str, tmp_path: Path) -> None:
    settings = parse_settings(text, path=tmp_path / "leads.yaml")
    [source] = list(settings.tenants["acme"].sources.values())[:1]
    assert source.mapping or source.consent or source.lane_rules or source.access_token


def test_the_example_prints_what_the_page_shows(tmp_path: Path) -> None:
    (tmp_path / "leads.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    (tmp_path / "post.json").write_text(blocks("json")[0], encoding="utf-8")
    [shown] = blocks("console")
    command, _, output = shown.partition("\n")
    assert command == "$ leads sources test contact_form post.json"

    arguments = ["--config", str(tmp_path / "leads.yaml"), "sources", "test", "contact_form"]
    result = CliRunner().invoke(cli, [*arguments, str(tmp_path / "post.json")])

    assert result.exit_code == 0, result.output
    assert [line.rstrip() for line in result.output.splitlines()] == output.splitlines()


def test_every_transform_is_named() -> None:
    assert [name for name in TRANSFORM_NAMES if f"`{name}`" not in PAGE] == []
